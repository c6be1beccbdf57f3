//! One event of a stream, for the one who reads it.

use std::ops::Range;

use crate::accumulate::Said;
use crate::{FinishReason, Usage};

/// One event of a [`ChatStream`](crate::ChatStream): mostly a few words of the answer.
///
/// Some hold none, such as the last one, with the usage. [`ChatStream`](crate::ChatStream) shows how they are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub(crate) raw: String,
    /// Where the text is in `raw`, if it stands there as it is; else `said` has it.
    pub(crate) text: Option<Range<usize>>,
    pub(crate) said: Said,
}

impl Chunk {
    /// What this event adds to the text of choice 0; often `""`.
    pub fn text(&self) -> &str {
        match &self.text {
            Some(at) => self.raw.get(at.clone()).unwrap_or_default(),
            None => &self.said.text,
        }
    }

    /// What this event adds to the reasoning of choice 0; mostly `""`.
    pub fn reasoning(&self) -> &str {
        &self.said.reasoning
    }

    /// Why choice 0 ended, in the event that says so.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.said.finish_reason.as_ref()
    }

    /// What the answer took, in the event that says so: mostly the last one.
    pub fn usage(&self) -> Option<&Usage> {
        self.said.usage.as_ref()
    }

    /// The event's JSON exactly as it came; invalid UTF-8 is replaced.
    pub fn raw(&self) -> &str {
        &self.raw
    }
}
