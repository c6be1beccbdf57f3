//! What an answer took.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::encoded::optional;
use crate::json::{self, Node};

/// What an answer took, in tokens, as the server counts them.
///
/// [`Completion::usage`](crate::Completion::usage) and [`Chunk::usage`](crate::Chunk::usage) tell it. The counts of
/// some providers do not add up.
///
/// ```
/// # let reply: aimlapi::Completion = serde_json::from_str(
/// #     r#"{"choices": [{}], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}"#)?;
/// if let Some(usage) = reply.usage() {
///     println!("{} + {} tokens", usage.prompt_tokens, usage.completion_tokens);
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the request.
    pub prompt_tokens: u64,
    /// Tokens of the answer, those of its reasoning included.
    pub completion_tokens: u64,
    /// Both, as reported; their sum where the server does not say.
    pub total_tokens: u64,
    /// Tokens of the reasoning, where reported.
    pub reasoning_tokens: Option<u64>,
    /// Tokens of the request that came from the provider's cache, where reported.
    pub cached_tokens: Option<u64>,
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        self.add_to(&mut map)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Usage, D::Error> {
        json::deserialize(d, "a usage", Usage::read)
    }
}

impl Usage {
    pub(crate) fn add_to<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("prompt_tokens", &self.prompt_tokens)?;
        map.serialize_entry("completion_tokens", &self.completion_tokens)?;
        map.serialize_entry("total_tokens", &self.total_tokens)?;
        optional(map, "reasoning_tokens", self.reasoning_tokens.as_ref())?;
        optional(map, "cached_tokens", self.cached_tokens.as_ref())
    }

    pub(crate) fn read(node: Node<'_>) -> Option<Usage> {
        Usage::read_priced(node, &mut None)
    }

    /// Reads the names of OpenAI, and those that other servers have for the same; and what some say the answer cost.
    pub(crate) fn read_priced(node: Node<'_>, price: &mut Option<f64>) -> Option<Usage> {
        if !node.is_object() {
            return None;
        }
        let mut usage = Usage::default();
        let (mut total, mut cached) = (None, None);
        for (name, value) in node.members() {
            let detail = |name: &str| value.get(name)?.count();
            match &*name {
                "prompt_tokens" | "input_tokens" => {
                    usage.prompt_tokens = value.count().unwrap_or(usage.prompt_tokens);
                }
                "completion_tokens" | "output_tokens" => {
                    usage.completion_tokens = value.count().unwrap_or(usage.completion_tokens);
                }
                "total_tokens" => total = value.count(),
                "completion_tokens_details" => {
                    usage.reasoning_tokens = detail("reasoning_tokens").or(usage.reasoning_tokens);
                }
                "prompt_tokens_details" => usage.cached_tokens = detail("cached_tokens"),
                "reasoning_tokens" => {
                    usage.reasoning_tokens = usage.reasoning_tokens.or(value.count());
                }
                "cached_tokens"
                | "num_cached_tokens"
                | "prompt_cache_hit_tokens"
                | "cache_read_input_tokens" => {
                    cached = cached.or(value.count());
                }
                // OpenRouter sends a number, Perplexity an object.
                "cost" => {
                    let total = || value.get("total_cost")?.float();
                    *price = value.float().or_else(total).or(*price);
                }
                _ => {}
            }
        }
        usage.total_tokens =
            total.unwrap_or_else(|| usage.prompt_tokens.saturating_add(usage.completion_tokens));
        usage.cached_tokens = usage.cached_tokens.or(cached);
        Some(usage)
    }
}
