//! Why an answer ended.

use crate::json::Node;
use crate::name::name;

/// Why an answer ended.
///
/// ```
/// use aimlapi::{Completion, FinishReason};
///
/// fn is_cut_off(reply: &Completion) -> bool {
///     reply.finish_reason() == Some(&FinishReason::Length)
/// }
/// assert_eq!(FinishReason::ToolCalls.to_string(), "tool_calls");
/// assert_eq!(FinishReason::from("eos"), FinishReason::Other("eos".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// `stop`: the model was done, or came upon a stop sequence.
    Stop,
    /// `length`: the limit of tokens was reached; the answer is cut off.
    Length,
    /// `content_filter`: the provider took something out.
    ContentFilter,
    /// `tool_calls`: the model wants tools called.
    ToolCalls,
    /// Any other reason, such as `end_turn` or `eos`.
    Other(String),
}

impl FinishReason {
    /// The reason's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Other(name) => name,
        }
    }

    /// `None` for `""`, which says nothing.
    pub(crate) fn read(node: Node<'_>) -> Option<FinishReason> {
        let name = node.str().filter(|name| !name.is_empty())?;
        Some(FinishReason::from(&*name))
    }
}

name! { FinishReason {
    "stop" => Stop,
    "length" => Length,
    "content_filter" => ContentFilter,
    "tool_calls" => ToolCalls,
} }
