//! Why an answer ended.

use std::fmt;

use crate::json::Node;

/// Why an answer ended.
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
        Some(match &*node.str()? {
            "" => return None,
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            "tool_calls" => FinishReason::ToolCalls,
            other => FinishReason::Other(other.to_owned()),
        })
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
