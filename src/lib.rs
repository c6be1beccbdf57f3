//! A blocking client for chat completions, of [AI/ML API](https://aimlapi.com) and of every server that is compatible
//! with OpenAI's: it never loses a paid answer, never calls a broken answer complete, and never pays twice silently.
//!
//! ```no_run
//! fn main() -> aimlapi::Result<()> {
//!     let client = aimlapi::Client::from_env()?;
//!     let reply = client.chat(aimlapi::GEMMA_2_27B_IT, "Why is the sky blue?")?;
//!     println!("{}", reply.text());
//!     Ok(())
//! }
//! ```
//!
//! [`Client::from_env`] takes the key from `AIMLAPI_API_KEY`; keys are made at <https://aimlapi.com/app/keys>. Without
//! an account, ask a server on your own machine: `AIMLAPI_BASE_URL=http://localhost:11434` is Ollama, and needs no key.
//! In a clone of the repository, `cargo run --example hello` starts a stand-in server and asks that.
//!
//! # Where to look
//!
//! | to do this | use |
//! |---|---|
//! | ask one thing | [`chat`], or [`Client::chat`] |
//! | set parameters | [`ChatRequest`], with [`Client::send`] |
//! | go on with a conversation | [`Message`], [`Completion::into_message`] |
//! | see the answer as it arrives | [`Client::stream`], a [`ChatStream`] of [`Chunk`]s |
//! | show pictures, files, sound | [`ContentPart`] |
//! | get JSON into a struct | [`ResponseFormat`], [`Completion::json`] |
//! | let the model call functions | [`Tool`], [`ToolChoice`], [`ToolCall`] |
//! | have the model think, or search | [`Reasoning`], [`ReasoningEffort`], [`WebSearchOptions`] |
//! | list the models | [`Client::models`] |
//! | change the server, the limits, the proxy | [`Client::builder`], a [`ClientBuilder`] |
//! | know what failed | [`Error`], [`ErrorKind`] |
//! | have what failed repeated | [`RetryPolicy`] |
//! | know the cost | [`Completion::usage`], [`Completion::usd_spent`], [`Client::spent`] |
//! | limit the cost | [`Budget`] |
//! | ask once and read the answer ever after | [`Cassette`]; [`testing`] for tests |
//! | ask many things | [`Client::send_all`], a [`Batch`] |
//! | have a batch endpoint or an engine answer them | [`ChatRequest::batch_line`], [`BatchResults`] |
//!
//! # A request is a value
//!
//! Each parameter has a setter with its name on the wire; [`param`](ChatRequest::param) sets any other. What is not set
//! is not sent. Messages are text, a [`Message`], or a list of them:
//!
//! ```no_run
//! # use aimlapi::{ChatRequest, Client, Message};
//! # let client = Client::from_env()?;
//! let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
//! let request = ChatRequest::new("openai/gpt-4o-mini", messages)
//!     .max_tokens(100)
//!     .temperature(0.2);
//! let reply = client.send(&request)?;
//! println!("{} ({:?})", reply.text(), reply.finish_reason());
//! # Ok::<(), aimlapi::Error>(())
//! ```
//!
//! An answer is a [`Completion`]. What it has no method for is in [`raw`](Completion::raw), the JSON as it came.
//!
//! # Streams
//!
//! [`write_to`](ChatStream::write_to) prints an answer as it arrives and returns it whole; to handle the pieces,
//! iterate over the [`ChatStream`]. A stream that breaks off is an error, and never an answer:
//!
//! ```no_run
//! # use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};
//! # let client = Client::from_env()?;
//! # let request = ChatRequest::new(GEMMA_2_27B_IT, "Tell me a story.");
//! match client.stream(&request)?.write_to(std::io::stdout()) {
//!     Ok(reply) => println!("\n{:?}", reply.usage()),
//!     Err(error) => match error.partial() {
//!         Some(partial) => println!("\n{error}, after {} bytes", partial.text().len()),
//!         None => println!("{error}"),
//!     },
//! }
//! # Ok::<(), aimlapi::Error>(())
//! ```
//!
//! # Errors, retries and timeouts
//!
//! An [`Error`] says in one line what failed, what the server said, and what to do; its [`kind`](Error::kind) is for
//! the program. Nothing waits forever:
//!
//! | limit | default | covers |
//! |---|---|---|
//! | [`connect_timeout`](ClientBuilder::connect_timeout) | 10 s | finding the host, and connecting to it |
//! | [`timeout`](ClientBuilder::timeout) | 10 minutes | a whole call, with its retries and the waits between them; a stream until it begins |
//! | [`idle_timeout`](ClientBuilder::idle_timeout) | 5 minutes | a silence within a stream |
//! | [`max_response_bytes`](ClientBuilder::max_response_bytes) | 64 MiB | an answer, or one event of a stream |
//!
//! A failed request is repeated, by default twice, if it was never sent or if the server refused it for now. It is not
//! if the server may have answered, since that may have been billed. [`RetryPolicy`] has the whole table.
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `rustls` | yes | `https://` by rustls, with Mozilla's roots built in; needs a C compiler to build `ring` |
//! | `native-tls` | no | `https://` by the operating system's TLS: OpenSSL, SChannel or Secure Transport |
//! | `platform-verifier` | no | trusts what the operating system trusts, private authorities included; implies `rustls` |
//! | `socks-proxy` | no | proxies with a `socks4://`, `socks4a://`, `socks5://` or `socks5h://` URL; adds no crate |
//! | `schemars` | no | schemas from types: [`ResponseFormat::of`](ResponseFormat#method.of), [`Tool::of`](Tool#method.of); adds 14 crates |
//!
//! Without a TLS feature only `http://` works. With `rustls` 27 crates come along, without it 15: those of `ureq`,
//! `serde` and `serde_json`, and no other. If `rustls` and `native-tls` are both on, rustls is used.
//!
//! # Logs
//!
//! The crate logs through the crate `log`: each attempt at `debug` (host, path, status), each retry at `warn`, with its error.
//! No line holds the key, or what was asked and answered. But `ureq`, below, dumps all that goes over the wire at
//! `trace`, the key included: mind `RUST_LOG=trace`.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

use std::sync::{Mutex, PoisonError};

mod accumulate;
mod batch;
mod budget;
mod bytes;
mod call_pieces;
mod cassette;
mod choice;
mod chunk;
mod client;
mod client_builder;
mod completion;
mod content;
mod encoded;
mod endpoint;
mod error;
mod finish_reason;
mod format;
mod head;
mod json;
mod logprobs;
mod message;
mod model;
mod name;
mod pace;
mod reasoning;
mod refusal;
mod request;
mod retry;
mod schema;
mod search;
mod sse;
mod stream;
mod surrogates;
mod tape;
mod template;
pub mod testing;
mod tool;
mod transport;
mod usage;

// Last, as rustdoc shows a type's methods in the order of the modules: those of ChatRequest begin with `new`.
mod batch_file;

pub use crate::batch::{Batch, Progress};
pub use crate::batch_file::BatchResults;
pub use crate::budget::{Budget, Spent};
pub use crate::cassette::Cassette;
pub use crate::choice::Choice;
pub use crate::chunk::Chunk;
pub use crate::client::Client;
pub use crate::client_builder::ClientBuilder;
pub use crate::completion::Completion;
pub use crate::content::{Content, ContentPart};
pub use crate::error::{Error, ErrorKind};
pub use crate::finish_reason::FinishReason;
pub use crate::format::ResponseFormat;
pub use crate::logprobs::{Logprobs, TokenLogprob};
pub use crate::message::{IntoMessages, Message, Role};
pub use crate::model::Model;
pub use crate::reasoning::{Reasoning, ReasoningEffort};
pub use crate::request::ChatRequest;
pub use crate::retry::RetryPolicy;
pub use crate::search::WebSearchOptions;
pub use crate::stream::ChatStream;
pub use crate::tool::{Tool, ToolCall, ToolChoice};
pub use crate::usage::Usage;

/// The name of Gemma 2 with 27 billion parameters, the first model of this crate.
pub const GEMMA_2_27B_IT: &str = "google/gemma-2-27b-it";

/// What this crate's calls return: std's `Result` with the crate's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Asks a model and waits for its whole answer, by one client for the whole process, made from the environment at the
/// first call: see [`Client::from_env`].
///
/// ```no_run
/// let reply = aimlapi::chat(aimlapi::GEMMA_2_27B_IT, "Why is the sky blue?")?;
/// println!("{}", reply.text());
/// # Ok::<(), aimlapi::Error>(())
/// ```
///
/// # Errors
///
/// As [`Client::from_env`], which is tried again at the next call, and as [`Client::send`].
pub fn chat(model: &str, messages: impl IntoMessages) -> Result<Completion> {
    static CLIENT: Mutex<Option<Client>> = Mutex::new(None);
    // A OnceLock would need get_or_try_init, which is not stable.
    let mut shared = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    let client = match &*shared {
        Some(client) => client.clone(),
        None => shared.insert(Client::from_env()?).clone(),
    };
    drop(shared);
    client.chat(model, messages)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod properties;
