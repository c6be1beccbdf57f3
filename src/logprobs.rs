//! How likely the tokens of an answer were.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::json::{self, Node};

/// How likely the tokens of an answer were, as [`Choice::logprobs`](crate::Choice::logprobs) tells.
///
/// ```no_run
/// use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};
///
/// let request = ChatRequest::new(GEMMA_2_27B_IT, "Yes or no?").logprobs(true).top_logprobs(2);
/// let reply = Client::from_env()?.send(&request)?;
/// let logprobs = reply.choices().first().and_then(|choice| choice.logprobs());
/// for token in logprobs.into_iter().flat_map(|logprobs| &logprobs.content) {
///     println!("{:?}: {:.0} %", token.token, 100.0 * token.logprob.exp());
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Logprobs {
    /// The tokens of the text.
    pub content: Vec<TokenLogprob>,
    /// The tokens of a refusal.
    pub refusal: Vec<TokenLogprob>,
}

/// One token of an answer, and how likely it was. See [`Logprobs`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprob {
    /// The token as text.
    pub token: String,
    /// The natural logarithm of its probability; the API gives -9999 for very unlikely ones. Negative infinity where
    /// the server gives none, as JSON has no number for it.
    pub logprob: f64,
    /// Its UTF-8 bytes, where the server gives them: a token may be a part of a character.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place, as many as [`top_logprobs`](crate::ChatRequest::top_logprobs) asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

impl Serialize for Logprobs {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("content", &self.content)?;
        if !self.refusal.is_empty() {
            map.serialize_entry("refusal", &self.refusal)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Logprobs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Logprobs, D::Error> {
        json::deserialize(d, "logprobs", Logprobs::read)
    }
}

impl Logprobs {
    pub(crate) fn read(node: Node<'_>) -> Option<Logprobs> {
        let tokens = |name: &str| node.get(name).map(TokenLogprob::list).unwrap_or_default();
        node.is_object().then(|| Logprobs {
            content: tokens("content"),
            refusal: tokens("refusal"),
        })
    }
}

impl Serialize for TokenLogprob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("token", &self.token)?;
        map.serialize_entry("logprob", &self.logprob)?;
        map.serialize_entry("bytes", &self.bytes)?;
        map.serialize_entry("top_logprobs", &self.top_logprobs)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for TokenLogprob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<TokenLogprob, D::Error> {
        json::deserialize(d, "a token", TokenLogprob::read)
    }
}

impl TokenLogprob {
    fn list(node: Node<'_>) -> Vec<TokenLogprob> {
        node.items().filter_map(TokenLogprob::read).collect()
    }

    fn read(node: Node<'_>) -> Option<TokenLogprob> {
        let mut token = TokenLogprob {
            logprob: f64::NEG_INFINITY,
            ..TokenLogprob::default()
        };
        if !node.is_object() {
            return None;
        }
        for (name, value) in node.members() {
            match &*name {
                "token" => token.token = value.text().unwrap_or_default(),
                "logprob" => token.logprob = value.float().unwrap_or(f64::NEG_INFINITY),
                "bytes" if value.is_array() => {
                    token.bytes = value
                        .items()
                        .map(|byte| byte.count()?.try_into().ok())
                        .collect();
                }
                "top_logprobs" => token.top_logprobs = TokenLogprob::list(value),
                _ => {}
            }
        }
        Some(token)
    }
}
