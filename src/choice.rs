//! One of the answers to a request.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::completion::{Flaws, citations, index, is_error};
use crate::json::Node;
use crate::message::is_sent_back;
use crate::{FinishReason, Logprobs, Message, Role, ToolCall};

/// One of the answers to a request.
///
/// ```no_run
/// use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};
///
/// let request = ChatRequest::new(GEMMA_2_27B_IT, "A name for a cat.").n(3);
/// let reply = Client::from_env()?.send(&request)?;
/// for choice in reply.choices() {
///     println!("{}: {}", choice.index(), choice.text());
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub(crate) index: u32,
    pub(crate) message: Message,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) citations: Vec<String>,
}

impl Choice {
    /// Its place among the answers, counted from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The answer as a message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The text of the answer. See [`Message::text`].
    pub fn text(&self) -> &str {
        self.message.text()
    }

    /// What the model thought before it answered. See [`Message::reasoning`].
    pub fn reasoning(&self) -> Option<&str> {
        self.message.reasoning()
    }

    /// The tools that the model wants called.
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.message.tool_calls()
    }

    /// Why the answer ended; `None` where the server does not say.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish_reason.as_ref()
    }

    /// Why the model refused. See [`Message::refusal`].
    pub fn refusal(&self) -> Option<&str> {
        self.message.refusal()
    }

    /// How likely each token was, if [`logprobs`](crate::ChatRequest::logprobs) asked for it and the server says so.
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.logprobs.as_ref()
    }
}

impl Choice {
    pub(crate) fn read(node: Node<'_>, place: u32, flaws: &mut Flaws) -> Choice {
        let (mut message, mut delta) = (None, None);
        let mut choice = Choice {
            index: place,
            message: Message::empty(Role::Assistant),
            finish_reason: None,
            logprobs: None,
            citations: Vec::new(),
        };
        for (name, value) in node.members() {
            match &*name {
                "index" => choice.index = index(value).unwrap_or(place),
                "message" => message = Some(value),
                "delta" => delta = Some(value),
                "finish_reason" => choice.finish_reason = FinishReason::read(value),
                "logprobs" => choice.logprobs = Logprobs::read(value),
                "error" => flaws.failed |= is_error(value),
                _ => {}
            }
        }
        let said = message.filter(|node| node.is_object()).or(delta);
        match said
            .filter(|node| node.is_object())
            .map(|node| Message::read(node, is_sent_back))
        {
            Some(Some(message)) => choice.message = message,
            Some(None) => flaws.too_much = true,
            None => {}
        }
        if let Some(annotations) = said.and_then(|node| node.get("annotations")) {
            choice.citations = citations(annotations);
        }
        choice
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut message = self.message.clone();
        if !self.citations.is_empty() {
            let annotation =
                |url| json!({ "type": "url_citation", "url_citation": { "url": url } });
            message.fields.insert(
                "annotations".to_owned(),
                self.citations.iter().map(annotation).collect(),
            );
        }
        let mut map = s.serialize_map(Some(4))?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("message", &message)?;
        map.serialize_entry(
            "finish_reason",
            &self.finish_reason.as_ref().map(FinishReason::as_str),
        )?;
        map.serialize_entry("logprobs", &self.logprobs)?;
        map.end()
    }
}
