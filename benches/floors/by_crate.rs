//! The same with the crate.

use std::hint::black_box;
use std::io::BufReader;

use aimlapi::{ChatRequest, Chunk, Client, Completion, Message, Usage};

use crate::events::Input;
use crate::sse::Events;
use crate::{ANSWER, MODEL, Outcome, QUESTION};

fn client(port: u16) -> aimlapi::Result<Client> {
    let url = format!("http://127.0.0.1:{port}/v1");
    Client::builder().base_url(url).api_key("key").build()
}

fn weight(text: &str, finished: bool, usage: Option<&Usage>) -> Outcome<usize> {
    let tokens = usize::try_from(usage.map_or(0, |usage| usage.total_tokens))?;
    Ok(text.len() + usize::from(finished) + tokens)
}

fn weight_of(reply: &Completion) -> Outcome<usize> {
    weight(reply.text(), reply.finish_reason().is_some(), reply.usage())
}

pub(crate) fn call(port: u16, calls: u32) -> Outcome<usize> {
    let client = client(port)?;
    let request = || ChatRequest::new(MODEL, QUESTION).max_tokens(100);
    let call = |_| weight_of(&client.send(&request())?);
    (0..calls).map(call).sum()
}

pub(crate) fn stream(model: &str, port: u16, chunks: u32) -> Outcome<usize> {
    let request = ChatRequest::new(model, QUESTION).max_tokens(chunks);
    let read = |chunk: aimlapi::Result<Chunk>| {
        let chunk = chunk?;
        weight(chunk.text(), chunk.finish_reason().is_some(), chunk.usage())
    };
    client(port)?.stream(&request)?.map(read).sum()
}

pub(crate) fn events(_: u16, events: u32) -> Outcome<usize> {
    let mut events = Events::new(BufReader::new(Input::of(events)?), 64 << 20);
    let mut weight = 0;
    while let Some(event) = events.next().map_err(|e| format!("{e:?}"))? {
        weight += black_box(event.data).len();
    }
    Ok(weight)
}

pub(crate) fn decode(_: u16, answers: u32) -> Outcome<usize> {
    let decode = |_| weight_of(&serde_json::from_str(black_box(ANSWER))?);
    (0..answers).map(decode).sum()
}

pub(crate) fn encode(_: u16, requests: u32) -> Outcome<usize> {
    let mut request = ChatRequest::new(MODEL, QUESTION).max_tokens(100);
    request
        .messages_mut()
        .extend([QUESTION; 9].map(Message::user));
    let encode = |_| Ok(serde_json::to_vec(black_box(&request))?.len());
    (0..requests).map(encode).sum()
}
