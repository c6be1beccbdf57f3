//! A recording that was changed by hand, or broke, is an answer or an error.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use aimlapi::{Cassette, ChatRequest, Client};
use libfuzzer_sys::fuzz_target;

#[path = "../server.rs"]
mod server;

struct Deck {
    client: Client,
    file: PathBuf,
}

static DECK: LazyLock<Deck> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("fuzz-cassette-{}", std::process::id()));
    let server = server::Server::start();
    let body = r#"{"choices":[{"message":{"content":"x"}}]}"#;
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    // The first answer tells the name of its file.
    let plain = server.answering(vec![[head, body].concat().into()]);
    drop(plain.send(&request()).unwrap());
    let url = format!("{plain:?}").split('"').nth(1).unwrap().to_owned();
    let builder = Client::builder().base_url(url);
    let recording = builder.clone().cassette(Cassette::record(&directory)).build().unwrap();
    server.answering(vec![[head, body].concat().into()]);
    recording.send(&request()).unwrap();
    let mut files = fs::read_dir(&directory).unwrap();
    let file = files.next().unwrap().unwrap().path();
    let client = builder.cassette(Cassette::replay(&directory)).build().unwrap();
    Deck { client, file }
});

fn request() -> ChatRequest {
    ChatRequest::new("m", "hello")
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(&DECK.file, bytes).unwrap();
    let whole = DECK.client.send(&request());
    let streamed = DECK.client.stream(&request()).and_then(aimlapi::ChatStream::finish);
    for result in [whole, streamed] {
        if let Err(error) = result {
            let _ = format!("{error} {error:#?}");
        }
    }
});
