//! What is said in a conversation: one type for what is sent and what is answered.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::json::{self, Node};
use crate::name::name;
use crate::{Content, ContentPart, ToolCall};

/// More choices or tool calls than this are an attack and no answer.
pub(crate) const MOST: usize = 1024;

/// Who says a [`Message`].
///
/// ```
/// use aimlapi::{Message, Role};
///
/// assert_eq!(Message::user("hello").role(), &Role::User);
/// assert_eq!(Role::Assistant.to_string(), "assistant");
/// assert_eq!(Role::from("critic"), Role::Other("critic".to_owned()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// `system`: instructions for the whole conversation. Some models have no such role, Gemma 2 among them; see
    /// [`ChatRequest::fold_system`](crate::ChatRequest::fold_system).
    System,
    /// `developer`: what newer models call `system`.
    Developer,
    /// `user`: the one who asks.
    User,
    /// `assistant`: the model.
    Assistant,
    /// `tool`: the result of a tool call.
    Tool,
    /// Any other role.
    Other(String),
}

impl Role {
    /// The role's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Other(name) => name,
        }
    }
}

name! { Role {
    "system" => System,
    "developer" => Developer,
    "user" => User,
    "assistant" => Assistant,
    "tool" => Tool,
} }

/// One message of a conversation.
///
/// The same type is sent and answered, so a reply can be put back into the history as it is
/// ([`Completion::into_message`](crate::Completion::into_message)): with its tool calls, their signatures, and the
/// reasoning that some models need to see again. It is [`Serialize`] and [`Deserialize`], in the wire's form, so that a
/// history can be stored.
///
/// ```
/// use aimlapi::Message;
///
/// let mut history = vec![Message::system("Be brief."), Message::user("Why is the sky blue?")];
/// history.push(Message::assistant("Rayleigh scattering."));
/// history.push(Message::user("Who was Rayleigh?").named("ada"));
///
/// let stored = serde_json::to_string(&history)?;
/// assert_eq!(serde_json::from_str::<Vec<Message>>(&stored)?, history);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    pub(crate) role: Role,
    pub(crate) content: Option<Content>,
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Every other field that goes over the wire, by its name there.
    pub(crate) fields: Map<String, Value>,
    /// The text of a content that is a list of parts.
    pub(crate) joined_text: String,
    /// The text of `reasoning_details` and of thinking parts.
    pub(crate) joined_reasoning: String,
}

impl Message {
    /// Instructions for the whole conversation.
    pub fn system(content: impl Into<Content>) -> Message {
        Message::new(Role::System, content)
    }

    /// Instructions, by the name that newer models have for `system`.
    pub fn developer(content: impl Into<Content>) -> Message {
        Message::new(Role::Developer, content)
    }

    /// What the user says: text, or parts such as pictures.
    pub fn user(content: impl Into<Content>) -> Message {
        Message::new(Role::User, content)
    }

    /// What the model said. To continue a conversation, put its reply itself into the history rather than its text:
    /// [`Completion::into_message`](crate::Completion::into_message) keeps what the model needs to see again.
    pub fn assistant(content: impl Into<Content>) -> Message {
        Message::new(Role::Assistant, content)
    }

    /// The result of the tool call with this id.
    pub fn tool(call_id: impl Into<String>, output: impl Into<Content>) -> Message {
        Message::new(Role::Tool, output).with("tool_call_id", call_id.into())
    }

    /// Names the speaker, so that the model can tell several of the same role apart.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Message {
        self.with("name", name.into())
    }

    fn new(role: Role, content: impl Into<Content>) -> Message {
        let mut message = Message {
            content: Some(content.into()),
            ..Message::empty(role)
        };
        message.join();
        message
    }

    pub(crate) fn empty(role: Role) -> Message {
        Message {
            role,
            content: None,
            tool_calls: Vec::new(),
            fields: Map::new(),
            joined_text: String::new(),
            joined_reasoning: String::new(),
        }
    }

    fn with(mut self, field: &str, value: String) -> Message {
        self.fields.insert(field.to_owned(), Value::String(value));
        self
    }

    /// Who says it.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// What is said; `None` for a message that only calls tools.
    pub fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// The text of the content, its text parts joined; `""` where there is none.
    pub fn text(&self) -> &str {
        match &self.content {
            Some(Content::Text(text)) => text,
            _ => &self.joined_text,
        }
    }

    /// The tools that the model wants called.
    pub fn tool_calls(&self) -> &[ToolCall] {
        &self.tool_calls
    }

    /// Why the model refused to answer, where it says so in the field for it.
    pub fn refusal(&self) -> Option<&str> {
        self.field("refusal")
    }

    /// What the model thought before it answered, where the server shows it: `reasoning_content`, else `reasoning`,
    /// else the text of `reasoning_details` or of the content's thinking parts.
    pub fn reasoning(&self) -> Option<&str> {
        let field = self
            .field("reasoning_content")
            .or_else(|| self.field("reasoning"));
        field
            .or(Some(self.joined_reasoning.as_str()))
            .filter(|text| !text.is_empty())
    }

    /// The call that a tool's message answers.
    pub fn tool_call_id(&self) -> Option<&str> {
        self.field("tool_call_id")
    }

    /// Puts a text in front of the content.
    pub(crate) fn prepend(&mut self, text: &str) {
        self.content = Some(match self.content.take() {
            Some(Content::Text(said)) => Content::Text(format!("{text}\n\n{said}")),
            Some(parts @ Content::Parts(_)) => {
                let mut parts = parts.into_parts();
                parts.insert(0, ContentPart::text(format!("{text}\n\n")));
                Content::Parts(parts)
            }
            None => Content::Text(text.to_owned()),
        });
        self.join();
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .get(name)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// Brings the joined texts in line with the content and the fields.
    pub(crate) fn join(&mut self) {
        self.joined_text = self
            .content
            .as_ref()
            .and_then(Content::joined_text)
            .unwrap_or_default();
        self.joined_reasoning = match (self.fields.get("reasoning_details"), &self.content) {
            (Some(Value::Array(details)), _) => details.iter().filter_map(reasoning_text).collect(),
            (_, Some(Content::Parts(parts))) => {
                parts.iter().filter_map(ContentPart::thinking).collect()
            }
            _ => String::new(),
        };
    }
}

/// The text of one of `reasoning_details`: its `text`, else its `summary`.
pub(crate) fn reasoning_text(detail: &Value) -> Option<&str> {
    detail
        .get("text")
        .or_else(|| detail.get("summary"))?
        .as_str()
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("role", self.role.as_str())?;
        map.serialize_entry("content", &self.content)?;
        if !self.tool_calls.is_empty() {
            map.serialize_entry("tool_calls", &self.tool_calls)?;
        }
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Message, D::Error> {
        json::deserialize(d, "a message", |node| Message::read(node, |_| true))
    }
}

/// Whether a field of an answer may be sent back. Of those that are not the crate's own, that is what the request
/// schema admits, and what some models need to see again.
pub(crate) fn is_sent_back(field: &str) -> bool {
    matches!(
        field,
        "refusal"
            | "reasoning"
            | "reasoning_content"
            | "reasoning_details"
            | "extra_content"
            | "encrypted_content"
    )
}

impl Message {
    /// Reads a message, and of the fields that are not the crate's own those that `keeps` wants. `None` for what is no
    /// object, or has more tool calls than any message.
    pub(crate) fn read(node: Node<'_>, keeps: impl Fn(&str) -> bool) -> Option<Message> {
        if !node.is_object() {
            return None;
        }
        let mut message = Message::empty(Role::Assistant);
        for (name, value) in node.members() {
            match &*name {
                "role" => {
                    // Some servers send "" with every piece of a stream.
                    if let Some(role) = value.str().filter(|role| !role.is_empty()) {
                        message.role = Role::from(&*role);
                    }
                }
                "content" => message.content = Content::read(value),
                "tool_calls" => {
                    let calls = value.items().filter_map(ToolCall::read);
                    message.tool_calls = calls.take(MOST + 1).collect();
                    if message.tool_calls.len() > MOST {
                        return None;
                    }
                }
                other if keeps(other) => json::keep(&mut message.fields, name, value),
                _ => {}
            }
        }
        message.join();
        Some(message)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// What a conversation can be made of: one text (what the user says), a [`Message`], or several messages in an array,
/// a slice or a `Vec`. Not implementable outside this crate.
///
/// ```
/// use aimlapi::{ChatRequest, Message};
///
/// assert_eq!(
///     ChatRequest::new("m", "hello").messages(),
///     ChatRequest::new("m", [Message::user("hello")]).messages(),
/// );
/// ```
pub trait IntoMessages: sealed::Sealed {
    /// The messages, oldest first.
    fn into_messages(self) -> Vec<Message>;
}

macro_rules! into_messages {
    ($([$($generics:tt)*] $type:ty: $self:ident => $messages:expr;)*) => {$(
        impl<$($generics)*> sealed::Sealed for $type {}
        impl<$($generics)*> IntoMessages for $type {
            fn into_messages($self) -> Vec<Message> {
                $messages
            }
        }
    )*};
}

into_messages! {
    [] &str: self => vec![Message::user(self)];
    [] &String: self => vec![Message::user(self)];
    [] String: self => vec![Message::user(self)];
    [] Message: self => vec![self];
    [] &Message: self => vec![self.clone()];
    [const N: usize] [Message; N]: self => self.into();
    [const N: usize] &[Message; N]: self => self.to_vec();
    [] &[Message]: self => self.to_vec();
    [] Vec<Message>: self => self;
    [] &Vec<Message>: self => self.clone();
}
