//! A stand-in for the API. An example starts it when nobody configured a server, and so runs
//! without a key, a network or a bill.
//!
//! It has the provider's dialect: the headers, the flat errors, `meta.usage`. It has no model:
//! [`Answer`] makes up something that fits the request, and says so.

#![allow(
    clippy::indexing_slicing,
    reason = "a `Value` without the key indexed reads as null, which is what is meant here"
)]

mod answer;
mod http;
mod sample;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{self, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use std::{env, thread};

use serde_json::{Value, json};

use answer::Answer;
use http::{Reply, Request};

/// Returns at once if `AIMLAPI_API_KEY` or `AIMLAPI_BASE_URL` says whom to ask. Otherwise runs this
/// program again, against the stand-in, and exits with its code.
pub(crate) fn unless_configured() {
    let configured = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if configured("AIMLAPI_API_KEY") || configured("AIMLAPI_BASE_URL") {
        return;
    }
    match run_again() {
        Ok(status) => process::exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("cannot run against a stand-in server: {error}");
            process::exit(1);
        }
    }
}

/// Another process can be given the server's address in its environment; to set a variable in this
/// one, `env::set_var`, would be unsafe.
fn run_again() -> io::Result<ExitStatus> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    eprintln!(
        "No AIMLAPI_API_KEY is set, so a stand-in server on {address} answers; \
         set AIMLAPI_API_KEY to ask the real one."
    );
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // It fails when the client goes away, and then nobody is left to tell.
            thread::spawn(move || serve(&stream));
        }
    });
    Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env("AIMLAPI_BASE_URL", format!("http://{address}/v1"))
        .env("NO_PROXY", Ipv4Addr::LOCALHOST.to_string())
        .status()
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    loop {
        let (reply, keep_alive) = match Request::read(&mut input) {
            Ok(Some(request)) => (route(&request), request.keep_alive),
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                (refusal(400, &error.to_string(), ""), false)
            }
            Err(error) => return Err(error),
        };
        let keep_alive = keep_alive && !reply.is_cut();
        reply.write(keep_alive, stream)?;
        if !keep_alive {
            return Ok(());
        }
    }
}

fn route(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/v1/chat/completions") => chat(request),
        ("GET", "/v1/models") => Reply::json(200, &models()),
        (method, path) => refusal(404, &format!("Cannot {method} {path}"), path),
    }
}

fn chat(request: &Request) -> Reply {
    let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let reply = if let Some((status, message)) = objection(request, &body) {
        refusal(status, message, &request.path)
    } else if body["stream"] == true {
        let reply = Reply::events(&Answer::to(&body).chunks());
        match body["model"].as_str() {
            Some("breaks-off") => reply.cut(),
            _ => reply,
        }
    } else {
        let completion = Answer::to(&body).completion();
        let spent = &completion["meta"]["usage"];
        let usd = spent["usd_spent"].as_f64().unwrap_or(0.0);
        Reply::json(200, &completion)
            .header("x-aimlapi-credits-used", &spent["credits_used"].to_string())
            .header("x-aimlapi-usd-spent", &format!("{usd:.9}"))
    };
    let reply = reply.header("x-inference-id", &format!("{:016x}", random()));
    match request.header("x-client-request-id") {
        Some(id) if is_request_id(id) => reply.header("x-client-request-id", id),
        _ => reply,
    }
}

/// The provider drops an id of any other form without a word.
fn is_request_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed)
}

/// Why the API would not answer: status and message.
fn objection(request: &Request, body: &Value) -> Option<(u16, &'static str)> {
    static BUSY: AtomicBool = AtomicBool::new(true);

    if request.header("authorization") == Some("Bearer wrong") {
        let message = "This request requires a valid API key. You can create a new API key on the \
                       Billing page: https://aimlapi.com/app/keys";
        return Some((401, message));
    }
    let (Some(model), Some(messages)) = (body["model"].as_str(), body["messages"].as_array())
    else {
        return Some((400, "Body validation error!"));
    };
    let temperature = body["temperature"].as_f64().unwrap_or(1.0);
    if messages.is_empty() || temperature > 2.0 {
        Some((400, "Body validation error!"))
    } else if model.starts_with("no-such") {
        Some((404, "Model not found"))
    } else if model.starts_with("no-system") && messages.iter().any(|m| m["role"] == "system") {
        Some((400, "System role not supported"))
    } else if model == "busy-once" && BUSY.swap(false, Ordering::Relaxed) {
        Some((429, "Too Many Requests"))
    } else {
        None
    }
}

/// An error in the provider's flat shape; `timestamp` is a number, for std has no calendar.
fn refusal(status: u16, message: &str, path: &str) -> Reply {
    let (start, end) = (random() >> 32, random() >> 16);
    let error = json!({
        "message": message,
        "path": path,
        "requestId": format!("{start:08x}-0000-4000-8000-{end:012x}"),
        "statusCode": status,
        "timestamp": now(),
    });
    let reply = Reply::json(status, &error);
    if status == 429 {
        reply.header("retry-after", "1")
    } else {
        reply
    }
}

fn models() -> Value {
    let model = |id, alias, name, developer, context_length| {
        json!({
            "id": id,
            "aliases": [alias],
            "type": "openai/chat-completions",
            "info": {"name": name, "developer": developer, "contextLength": context_length},
            "tags": ["stand-in"],
        })
    };
    json!({
        "object": "list",
        "data": [
            model("google/gemma-2-27b-it", "gemma-2-27b-it", "Gemma 2 (27B)", "Google", 8_192),
            model("openai/gpt-4o-mini", "gpt-4o-mini", "GPT-4o mini", "OpenAI", 128_000),
            model("deepseek/deepseek-chat", "deepseek-chat", "DeepSeek V3", "DeepSeek", 128_000),
        ],
    })
}

/// Bits for an id. A hasher's keys are the only randomness in std.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_secs())
}
