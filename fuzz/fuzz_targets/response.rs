//! Any bytes in place of an HTTP response are an answer or an error, for each kind of call.
#![no_main]

use std::sync::LazyLock;

use aimlapi::{ChatRequest, ChatStream, Error};
use libfuzzer_sys::fuzz_target;

#[path = "../server.rs"]
mod server;

static SERVER: LazyLock<server::Server> = LazyLock::new(server::Server::start);

fn shown(error: &Error) {
    let text = format!("{error} {error:?} {error:#?}");
    assert!(!text.is_empty() && !error.to_string().contains('\n'), "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    let request = ChatRequest::new("m", "hello");
    let answer = || SERVER.answering(vec![bytes.to_vec()]);
    if let Err(error) = answer().send(&request) {
        shown(&error);
    }
    if let Err(error) = answer().stream(&request).and_then(ChatStream::finish) {
        shown(&error);
    }
    if let Err(error) = answer().models() {
        shown(&error);
    }
});
