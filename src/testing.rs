//! How to test a program that asks a model. Nothing here is code; this is a guide.
//!
//! A test should need no key, no network and no money, and should give the same result every time. There are three ways
//! to that, from the one that needs least to the one that shows most.
//!
//! # Make an answer
//!
//! What a program does with an answer is mostly a function of a [`Completion`](crate::Completion), and one is made from
//! JSON. Only `choices` with a message in it is needed:
//!
//! ```
//! use aimlapi::{Completion, FinishReason};
//!
//! fn verdict(reply: &Completion) -> &'static str {
//!     match reply.finish_reason() {
//!         Some(FinishReason::Length) => "cut off",
//!         _ if reply.text().contains("yes") => "positive",
//!         _ => "negative",
//!     }
//! }
//!
//! let json = r#"{"choices": [{"message": {"content": "yes, very"}}]}"#;
//! let reply: Completion = serde_json::from_str(json)?;
//! assert_eq!(verdict(&reply), "positive");
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Replay a recording
//!
//! A program that takes its [`Client`](crate::Client) as an argument can be given one with a
//! [`Cassette`](crate::Cassette). It asks a real server once, keeps the answers in a directory, and is answered from
//! there ever after:
//!
//! ```no_run
//! use aimlapi::{Cassette, Client};
//!
//! let cassette = Cassette::auto("tests/cassettes");
//! let client = Client::builder().cassette(cassette).build()?;
//! # drop(client);
//! # Ok::<(), aimlapi::Error>(())
//! ```
//!
//! 1. Run the tests once with `AIMLAPI_API_KEY` set. Each request makes one call, and one file.
//! 2. Read the files and commit them. They hold the request and the answer, and no key.
//! 3. Set `AIMLAPI_CASSETTE=replay` in the CI. A request that has no recording then fails, and the error says which file
//!    was expected and what the nearest recording has otherwise: mostly a prompt that was changed.
//! 4. To record anew, run once with `AIMLAPI_CASSETTE=record`.
//!
//! A stream is replayed as the events it came in, without the pauses between them. The list of models is not recorded.
//!
//! # Play the server
//!
//! Everything else, such as what a program does with an error, a slow answer or a stream that breaks off, is shown by a
//! server of the test's own. Any will do that listens on this machine, for
//! [`base_url`](crate::ClientBuilder::base_url) leads there and no key is needed:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpListener;
//!
//! use aimlapi::{Client, ErrorKind, RetryPolicy};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let base_url = format!("http://{}", listener.local_addr()?);
//! std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut socket, _) = listener.accept()?;
//!     let _ = socket.read(&mut [0; 4096])?;
//!     socket.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
//! });
//!
//! let client = Client::builder().base_url(base_url);
//! let client = client.retry(RetryPolicy::none()).build()?;
//! let error = client.chat("any", "hello").unwrap_err();
//! assert_eq!((error.kind(), error.status()), (ErrorKind::Api, Some(503)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The files of a cassette
//!
//! One file for each request, made to be read and reviewed:
//!
//! ```json
//! {
//!   "version": 1,
//!   "request": {
//!     "messages": [{ "content": "Why is the sky blue?", "role": "user" }],
//!     "model": "google/gemma-2-27b-it"
//!   },
//!   "status": 200,
//!   "request_id": "V1StGXR8Z5jdHi6BmyT8k",
//!   "usd_spent": 0.0012,
//!   "body": {"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"Rayleigh."}}]}
//! }
//! ```
//!
//! `version` is that of this format; a file of another one is refused. `request` is the body that was sent, its keys
//! sorted, without `stream` and `stream_options`. `status` is the response's. `body` is the answer's JSON, byte for
//! byte as it came; an answer that was streamed has `"events": [{..}, {..}]` in its place, the data of its events in
//! order, without the closing `[DONE]`. What is no JSON, such as the page that some errors are, is a string.
//! `request_id`, `client_request_id` and `usd_spent` are what the response's headers said, where they did. No other
//! header is kept, and none of the request's. Members with other names are passed over, so a reviewer may leave a
//! `"note"`.
//!
//! The file's name is made of the model, the first words of the last message, and the FNV-1a hash (64 bits) of
//! `request` in its canonical form: keys sorted, no white space, floats in plain decimals (`0.7`, `1` for `1.0`). The
//! server's address is no part of it. On a hit the whole request is compared, in the same form: white space and the
//! order of keys may be changed, anything else makes it another request.
