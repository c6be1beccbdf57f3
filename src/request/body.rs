//! A request as JSON: the body to send, the form to record, and what is read back.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::{ChatRequest, Error, Message, Result, Role};

/// What a request's body is for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Whole,
    /// Asks for the usage too, unless `stream_options` says otherwise.
    Stream,
    /// Says the same whether the answer is streamed or not.
    Recording,
}

impl ChatRequest {
    /// The body to send, or to record.
    pub(crate) fn body(&self, form: Form) -> Result<String> {
        self.check()?;
        serde_json::to_string(&Body {
            request: self,
            form,
        })
        .map_err(|e| Error::input(format!("the request has no JSON form: {e}")))
    }

    /// System text in front of the first user message.
    fn folded(&self) -> Vec<Message> {
        let is_system =
            |message: &&Message| matches!(message.role(), Role::System | Role::Developer);
        let texts: Vec<&str> = self
            .messages
            .iter()
            .filter(is_system)
            .map(Message::text)
            .collect();
        let system = texts.join("\n\n");
        let mut rest: Vec<Message> = self
            .messages
            .iter()
            .filter(|message| !is_system(message))
            .cloned()
            .collect();
        if system.is_empty() {
            return rest;
        }
        match rest
            .iter_mut()
            .find(|message| *message.role() == Role::User)
        {
            Some(first) => first.prepend(&system),
            None => rest.insert(0, Message::user(system)),
        }
        rest
    }
}

struct Body<'a> {
    request: &'a ChatRequest,
    form: Form,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let ChatRequest {
            model,
            messages,
            params,
            fold_system,
            ..
        } = self.request;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("model", model)?;
        if *fold_system {
            map.serialize_entry("messages", &self.request.folded())?;
        } else {
            map.serialize_entry("messages", messages)?;
        }
        if self.form == Form::Stream {
            map.serialize_entry("stream", &true)?;
            if self.request.find("stream_options").is_none() {
                map.serialize_entry("stream_options", &json!({ "include_usage": true }))?;
            }
        }
        for (name, value) in params {
            let is_left_out = match self.form {
                Form::Whole => false,
                // Null says: no options at all.
                Form::Stream => name == "stream_options" && value.get() == "null",
                Form::Recording => name == "stream_options",
            };
            if !is_left_out {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

impl Serialize for ChatRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if let Some(fault) = &self.fault {
            return Err(S::Error::custom(fault));
        }
        Body {
            request: self,
            form: Form::Whole,
        }
        .serialize(s)
    }
}

impl<'de> Deserialize<'de> for ChatRequest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ChatRequest, D::Error> {
        d.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = ChatRequest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request with a model and messages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ChatRequest, A::Error> {
        let mut request = ChatRequest::new("", Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "model" => request.model = map.next_value()?,
                "messages" => request.messages = map.next_value()?,
                "stream" => {
                    return Err(A::Error::custom(
                        "`stream` is not stored: Client::stream says it",
                    ));
                }
                _ => request = request.put(name.into(), Ok(map.next_value()?)),
            }
        }
        Ok(request)
    }
}
