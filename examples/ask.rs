//! Asks a model from a shell: `git diff | cargo run --example ask -- "Write a commit message."`
//!
//! The answer goes to standard output as it arrives, tokens and cost to standard error. The exit status is 0 for a
//! whole answer, 2 for wrong usage, input or output, 3 for no connection or no answer in time, 4 if the API refused,
//! 5 if the answer was cut off, broke off or is not JSON. A reader that leaves early, as `| head -1`, is no failure.

mod stand_in;

use std::io::{self, IsTerminal, Write};
use std::{env, fs, process};

use aimlapi::{ChatRequest, Client, Error, ErrorKind, FinishReason, Message, ResponseFormat};
use serde_json::value::RawValue;

const USAGE: &str = "usage: ask [-m MODEL] [-s SYSTEM] [--json SCHEMA.json] [PROMPT...] [<INPUT]";

fn main() {
    stand_in::unless_configured();
    process::exit(ask().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "ask: {error}");
        match error.downcast_ref().map(Error::kind) {
            Some(ErrorKind::Connection | ErrorKind::Timeout) => 3,
            Some(ErrorKind::Api) => 4,
            Some(ErrorKind::Decode | ErrorKind::Interrupted) => 5,
            _ => 2,
        }
    }));
}

fn ask() -> Result<i32, Box<dyn std::error::Error>> {
    let (mut model, mut prompt) = (aimlapi::GEMMA_2_27B_IT.to_owned(), String::new());
    let (mut messages, mut schema) = (Vec::new(), None);
    let mut args = env::args_os().skip(1);
    let mut next = || args.next().map(|arg| arg.to_string_lossy().into_owned());
    while let Some(arg) = next() {
        match arg.as_str() {
            "-m" => model = next().ok_or(USAGE)?,
            "-s" => messages.push(Message::system(next().ok_or(USAGE)?)),
            "--json" => schema = Some(next().ok_or(USAGE)?),
            option if option.starts_with('-') => return Err(USAGE.into()),
            word => prompt = prompt + word + " ",
        }
    }
    if !io::stdin().is_terminal() {
        prompt = prompt + "\n\n" + &io::read_to_string(io::stdin())?;
    }
    if prompt.trim().is_empty() {
        return Err(USAGE.into());
    }
    messages.push(Message::user(prompt.trim()));
    let (client, request) = (Client::from_env()?, ChatRequest::new(model, messages));
    let reply = if let Some(path) = schema {
        let json = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let json = RawValue::from_string(json).map_err(|e| format!("{path}: {e}"))?;
        let format = ResponseFormat::json_schema("answer", json);
        let reply = client.send(&request.response_format(format))?;
        end_line(reply.json::<Box<RawValue>>()?.get())?;
        reply
    } else {
        let reply = client.stream(&request)?.write_to(io::stdout());
        end_line("")?;
        reply?
    };
    if let Some(usage) = reply.usage() {
        eprintln!("{} tokens", usage.total_tokens);
    }
    if let Some(usd) = reply.usd_spent() {
        eprintln!("${usd:.6}");
    }
    let cut = reply.finish_reason() == Some(&FinishReason::Length);
    Ok(if cut { 5 } else { 0 })
}

fn end_line(rest: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{rest}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
