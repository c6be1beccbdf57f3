//! How a reasoning model thinks.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::Result;
use crate::encoded::optional;
use crate::name::name;

/// How long a reasoning model thinks before it answers: the longer, the dearer.
///
/// ```
/// use aimlapi::{ChatRequest, ReasoningEffort};
///
/// let request = ChatRequest::new("m", "How many primes are below 100?")
///     .reasoning_effort(ReasoningEffort::Low);
/// # drop(request);
/// assert_eq!(ReasoningEffort::from("minimal"), ReasoningEffort::Other("minimal".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasoningEffort {
    /// `low`.
    Low,
    /// `medium`.
    Medium,
    /// `high`.
    High,
    /// Any other effort that a model knows, such as `none`, `minimal` or `xhigh`.
    Other(String),
}

impl ReasoningEffort {
    /// The effort's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            ReasoningEffort::Low => "low",
            ReasoningEffort::Medium => "medium",
            ReasoningEffort::High => "high",
            ReasoningEffort::Other(name) => name,
        }
    }
}

name! { ReasoningEffort {
    "low" => Low,
    "medium" => Medium,
    "high" => High,
} }

/// How a reasoning model thinks, in more detail than [`ReasoningEffort`].
///
/// ```
/// use aimlapi::{ChatRequest, Reasoning};
///
/// let request = ChatRequest::new("m", "How many primes are below 100?")
///     .reasoning(Reasoning::new().max_tokens(2000));
/// # drop(request);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct Reasoning {
    effort: Option<ReasoningEffort>,
    max_tokens: Option<u32>,
    exclude: Option<bool>,
}

impl Serialize for Reasoning {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        optional(&mut map, "effort", self.effort.as_ref())?;
        optional(&mut map, "max_tokens", self.max_tokens.as_ref())?;
        optional(&mut map, "exclude", self.exclude.as_ref())?;
        map.end()
    }
}

impl Reasoning {
    /// Nothing set: everything as the model has it.
    pub fn new() -> Reasoning {
        Reasoning::default()
    }

    /// `effort`: how long the model thinks. Set this or [`max_tokens`](Reasoning::max_tokens), not both.
    pub fn effort(mut self, effort: ReasoningEffort) -> Reasoning {
        self.effort = Some(effort);
        self
    }

    /// `max_tokens`: the most tokens to think with. At least 1.
    pub fn max_tokens(mut self, tokens: u32) -> Reasoning {
        self.max_tokens = Some(tokens);
        self
    }

    /// `exclude`: whether to leave the thoughts out of the answer; they are paid for all the same. Default: false.
    pub fn exclude(mut self, exclude: bool) -> Reasoning {
        self.exclude = Some(exclude);
        self
    }
}
