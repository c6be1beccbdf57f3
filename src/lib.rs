//! TODO

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

use std::sync::{Mutex, PoisonError};

mod accumulate;
mod batch;
mod batch_file;
mod budget;
mod cassette;
mod client;
mod completion;
mod content;
mod endpoint;
mod error;
mod format;
mod message;
mod model;
mod pace;
mod reasoning;
mod refusal;
mod request;
mod retry;
mod search;
mod sse;
mod stream;
mod tape;
pub mod testing;
mod tool;
mod transport;
mod wire;

pub use crate::batch::{Batch, Progress};
pub use crate::batch_file::BatchResults;
pub use crate::budget::{Budget, Spent};
pub use crate::cassette::Cassette;
pub use crate::client::{Client, ClientBuilder};
pub use crate::completion::{Choice, Completion, FinishReason, Logprobs, TokenLogprob, Usage};
pub use crate::content::{Content, ContentPart};
pub use crate::error::{Error, ErrorKind};
pub use crate::format::ResponseFormat;
pub use crate::message::{IntoMessages, Message, Role};
pub use crate::model::Model;
pub use crate::reasoning::{Reasoning, ReasoningEffort};
pub use crate::request::ChatRequest;
pub use crate::retry::RetryPolicy;
pub use crate::search::WebSearchOptions;
pub use crate::stream::{ChatStream, Chunk};
pub use crate::tool::{Tool, ToolCall, ToolChoice};

/// The name of Gemma 2 with 27 billion parameters, the first model of this crate.
pub const GEMMA_2_27B_IT: &str = "google/gemma-2-27b-it";

/// What this crate's calls return.
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
