//! Any bytes are a stream that ends, and it is the same one wherever the network cuts them.
#![no_main]

use std::sync::LazyLock;

use aimlapi::{ChatRequest, Completion, ErrorKind};
use libfuzzer_sys::fuzz_target;

#[path = "../server.rs"]
mod server;

static SERVER: LazyLock<server::Server> = LazyLock::new(server::Server::start);

type Read = (Vec<String>, Result<Completion, ErrorKind>);

fn read(pieces: Vec<Vec<u8>>) -> Read {
    let client = SERVER.answering(pieces);
    let mut chunks = Vec::new();
    let mut stream = match client.stream(&ChatRequest::new("m", "hello")) {
        Ok(stream) => stream,
        Err(error) => return (chunks, Err(error.kind())),
    };
    for chunk in &mut stream {
        match chunk {
            Ok(chunk) => chunks.push(chunk.text().to_owned()),
            Err(error) => {
                let _ = format!("{error} {error:#?}");
                return (chunks, Err(error.kind()));
            }
        }
    }
    (chunks, stream.finish().map_err(|error| error.kind()))
}

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, body) = input;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let (a, b) = body.split_at(usize::from(cut).min(body.len()));
    let whole = read(vec![[head, body].concat()]);
    let cut = read(vec![[&head[..], a].concat(), b.to_vec()]);
    assert_eq!(whole, cut);
});
