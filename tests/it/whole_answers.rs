//! An answer is decoded whatever it holds, and what is none is an error that shows it.

use crate::support::{HELLO, MODEL, Server, json};

#[test]
fn chat_returns_the_answer() {
    let server = Server::answering(json(200, HELLO));
    let reply = server.client().chat(MODEL, "hello").unwrap();
    assert_eq!(reply.text(), "hello");
    assert_eq!(reply.raw(), Some(HELLO));
}
