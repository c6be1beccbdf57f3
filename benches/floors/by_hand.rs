//! The floors: ureq and serde_json, used as a careful script does.

use std::hint::black_box;
use std::io::{BufRead, BufReader};

use serde::{Deserialize, Serialize};

use crate::events::Input;
use crate::{ANSWER, MODEL, Outcome, QUESTION};

#[derive(Serialize)]
struct Asking<'a> {
    model: &'a str,
    messages: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    max_tokens: u32,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'a str,
    content: &'a str,
}

/// As much as a careful program looks at: the text, whether it is whole, and what it took.
#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Text,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Text {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    total_tokens: usize,
}

impl Answer {
    fn weight(&self) -> usize {
        let tokens = self.usage.as_ref().map_or(0, |usage| usage.total_tokens);
        self.choices.first().map_or(tokens, |choice| {
            let text = choice.message.content.as_deref().unwrap_or_default();
            text.len() + usize::from(choice.finish_reason.is_some()) + tokens
        })
    }
}

fn asking(model: &str, stream: bool, max_tokens: u32) -> Asking<'_> {
    let (role, content) = ("user", QUESTION);
    let messages = vec![Said { role, content }];
    Asking {
        model,
        messages,
        stream,
        max_tokens,
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::config::Config::builder();
    config
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into()
}

fn post(agent: &ureq::Agent, port: u16, asking: &Asking) -> Outcome<ureq::Body> {
    let response = agent
        .post(format!("http://127.0.0.1:{port}/v1/chat/completions"))
        .header("authorization", "Bearer key")
        .header("content-type", "application/json")
        .send(serde_json::to_vec(asking)?)?;
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(format!("status {status}").into()),
    }
}

pub(crate) fn call(port: u16, calls: u32) -> Outcome<usize> {
    let agent = agent();
    let call = |_| {
        let body = post(&agent, port, &asking(MODEL, false, 100))?.read_to_vec()?;
        Ok(serde_json::from_slice::<Answer>(&body)?.weight())
    };
    (0..calls).map(call).sum()
}

pub(crate) fn stream(model: &str, port: u16, chunks: u32) -> Outcome<usize> {
    let mut body = post(&agent(), port, &asking(model, true, chunks))?;
    let mut lines = BufReader::new(body.as_reader());
    let (mut line, mut weight) = (String::new(), 0);
    while lines.read_line(&mut line)? > 0 {
        match line.trim_end().strip_prefix("data: ") {
            Some("[DONE]") => return Ok(weight),
            Some(event) => weight += serde_json::from_str::<Answer>(event)?.weight(),
            None => {}
        }
        line.clear();
    }
    Err("the stream was cut".into())
}

pub(crate) fn events(_: u16, events: u32) -> Outcome<usize> {
    let mut lines = BufReader::new(Input::of(events)?);
    let (mut line, mut weight) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(event) = line.trim_ascii_end().strip_prefix(b"data: ") {
            weight += black_box(event).len();
        }
        line.clear();
    }
    Ok(weight)
}

pub(crate) fn decode(_: u16, answers: u32) -> Outcome<usize> {
    let decode = |_| Ok(serde_json::from_str::<Answer>(black_box(ANSWER))?.weight());
    (0..answers).map(decode).sum()
}

pub(crate) fn encode(_: u16, requests: u32) -> Outcome<usize> {
    let mut asking = asking(MODEL, false, 100);
    for content in [QUESTION; 9] {
        let role = "user";
        asking.messages.push(Said { role, content });
    }
    let encode = |_| Ok(serde_json::to_vec(black_box(&asking))?.len());
    (0..requests).map(encode).sum()
}
