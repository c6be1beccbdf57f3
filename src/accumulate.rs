//! The pieces of a streamed answer, put together into the [`Completion`] that the whole answer would have been.

use serde_json::Value;

use crate::call_pieces::{CallPieces, TooMany};
use crate::completion::{citations, index, is_error};
use crate::content::ContentPart;
use crate::json::{Json, Node};
use crate::message::{MOST, is_sent_back, reasoning_text};
use crate::surrogates::Halves;
use crate::{Choice, Completion, Content, FinishReason, Logprobs, Message, Role, Usage};

#[derive(Debug)]
pub(crate) struct Accumulator {
    completion: Completion,
    /// One for each choice, in the order of the completion's.
    calls: Vec<CallPieces>,
    halves: Halves,
    several: bool,
    /// The index of the choice that a chunk's text is of; `None` until the first one comes.
    spokesman: Option<u32>,
}

/// What one event says, for the one who reads the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) usage: Option<Usage>,
    pub(crate) has_choices: bool,
    /// An error is in the event, beside whatever else.
    pub(crate) failed: bool,
}

impl Accumulator {
    /// `several`: more than one choice was asked for, so that choice 0 speaks, whichever comes first; else the one that
    /// comes speaks, whatever its index.
    pub(crate) fn new(several: bool) -> Accumulator {
        Accumulator {
            completion: Completion::empty(),
            calls: Vec::new(),
            halves: Halves::default(),
            several,
            spokesman: several.then_some(0),
        }
    }

    pub(crate) fn completion_mut(&mut self) -> &mut Completion {
        &mut self.completion
    }

    /// What has come so far; `None` before the first choice.
    pub(crate) fn partial(&self) -> Option<&Completion> {
        (!self.completion.choices.is_empty()).then_some(&self.completion)
    }

    /// Whether the server has given a finish reason: for every choice seen, if several were asked for. One that
    /// sends more choices than it was asked for may leave the others without.
    pub(crate) fn is_finished(&self) -> bool {
        let mut finished = self
            .completion
            .choices
            .iter()
            .map(|choice| choice.finish_reason.is_some());
        if self.several {
            finished.len() > 0 && finished.all(|is| is)
        } else {
            finished.any(|is| is)
        }
    }

    /// The whole, once nothing more will come. It has a choice if there is a partial answer, and only then.
    pub(crate) fn finish(mut self) -> Completion {
        self.flush();
        self.completion
    }

    /// Nothing more will come, so that what waits for more is given up.
    pub(crate) fn flush(&mut self) {
        self.give_up("");
    }

    /// Puts U+FFFD where the other half of a surrogate pair never came.
    fn give_up(&mut self, below: &str) -> Said {
        let mut said = Said::default();
        for event in self.halves.give_up(below) {
            // It adds to what is there, so it is JSON, and there cannot be too many.
            let more = Json::read(&event)
                .ok()
                .and_then(|json| self.add_joined(json.root()).ok());
            let more = more.unwrap_or_default();
            said.text.push_str(&more.text);
            said.reasoning.push_str(&more.reasoning);
        }
        said
    }

    /// Adds one event.
    pub(crate) fn add(&mut self, event: &Json<'_>) -> Result<Said, TooMany> {
        match self.halves.join(event).as_deref().map(Json::read) {
            Some(Ok(joined)) => self.add_joined(joined.root()),
            _ => self.add_joined(event.root()),
        }
    }

    fn add_joined(&mut self, root: Node<'_>) -> Result<Said, TooMany> {
        let mut said = Said::default();
        for (name, value) in root.members() {
            match &*name {
                "choices" => {
                    for (place, choice) in (0..).zip(value.items().filter(|node| node.is_object()))
                    {
                        said.has_choices = true;
                        self.add_choice(place, choice, &mut said)?;
                    }
                }
                "error" => said.failed |= is_error(value),
                name => {
                    self.completion.read_member(name, value);
                    if name == "usage" {
                        said.usage = Usage::read(value);
                    }
                }
            }
        }
        Ok(said)
    }

    /// Adds text to a choice that is there, as an event does that holds nothing else. Returns whether that choice
    /// speaks; `None` if half of a surrogate pair waits, so that the event has to be read.
    pub(crate) fn add_text(&mut self, choice: u32, text: &str) -> Option<bool> {
        let at = self
            .completion
            .choices
            .binary_search_by_key(&choice, |choice| choice.index)
            .ok()?;
        if !self.halves.is_empty() {
            return None;
        }
        add_text(&mut self.completion.choices.get_mut(at)?.message, text);
        Some(self.spokesman == Some(choice))
    }

    fn add_choice(&mut self, place: u32, node: Node<'_>, said: &mut Said) -> Result<(), TooMany> {
        let (mut number, mut delta, mut message) = (place, None, None);
        let (mut logprobs, mut finish) = (None, None);
        for (name, value) in node.members() {
            match &*name {
                "index" => number = index(value).unwrap_or(place),
                "delta" => delta = Some(value).filter(|node| node.is_object()),
                "message" => message = Some(value),
                "logprobs" => logprobs = Logprobs::read(value),
                "finish_reason" => finish = FinishReason::read(value),
                "error" => said.failed |= is_error(value),
                _ => {}
            }
        }
        let at = self.slot(number)?;
        let (Some(choice), Some(calls)) =
            (self.completion.choices.get_mut(at), self.calls.get_mut(at))
        else {
            return Ok(());
        };
        let speaks = *self.spokesman.get_or_insert(number) == number;
        // Some repeat the whole message beside the delta, or send it in its place.
        if let Some(delta) = delta.or(message) {
            if speaks {
                add_delta(choice, calls, delta, said)?;
            } else {
                add_delta(choice, calls, delta, &mut Said::default())?;
            }
        }
        if let Some(more) = logprobs {
            let logprobs = choice.logprobs.get_or_insert_default();
            logprobs.content.extend(more.content);
            logprobs.refusal.extend(more.refusal);
        }
        if let Some(reason) = finish {
            if speaks {
                said.finish_reason = Some(reason.clone());
            }
            choice.finish_reason = Some(reason);
            let lost = self.give_up(&format!("/choices/{number}/"));
            said.text.push_str(&lost.text);
            said.reasoning.push_str(&lost.reasoning);
        }
        Ok(())
    }

    /// Where the choice with this index is, made if it is not there yet.
    fn slot(&mut self, index: u32) -> Result<usize, TooMany> {
        let choices = &mut self.completion.choices;
        match choices.binary_search_by_key(&index, |choice| choice.index) {
            Ok(at) => Ok(at),
            Err(_) if choices.len() >= MOST => Err(TooMany),
            Err(at) => {
                let message = Message::empty(Role::Assistant);
                let citations = Vec::new();
                choices.insert(
                    at,
                    Choice {
                        index,
                        message,
                        finish_reason: None,
                        logprobs: None,
                        citations,
                    },
                );
                self.calls.insert(at, CallPieces::default());
                Ok(at)
            }
        }
    }
}

fn add_delta(
    choice: &mut Choice,
    calls: &mut CallPieces,
    delta: Node<'_>,
    said: &mut Said,
) -> Result<(), TooMany> {
    let message = &mut choice.message;
    // Of the names that reasoning has, the first one that says something counts.
    let mut told = [const { String::new() }; 3];
    let [content, plain, details] = &mut told;
    for (name, value) in delta.members() {
        match (&*name, value.str()) {
            ("role", Some(role)) if !role.is_empty() => message.role = Role::from(&*role),
            ("role", _) => {}
            ("content", Some(text)) => {
                said.text.push_str(&text);
                add_text(message, &text);
            }
            ("content", None) => {
                if let Some(parts) = Content::read(value) {
                    add_parts(message, parts, said);
                }
            }
            ("tool_calls", _) => calls.add(&mut message.tool_calls, value)?,
            ("annotations", _) => choice.citations.extend(citations(value)),
            (field, _) if !is_sent_back(field) => {}
            (field, Some(more)) => {
                match field {
                    "reasoning_content" => content.push_str(&more),
                    "reasoning" => plain.push_str(&more),
                    _ => {}
                }
                match message.fields.get_mut(field) {
                    Some(Value::String(text)) => text.push_str(&more),
                    _ => drop(
                        message
                            .fields
                            .insert(field.to_owned(), Value::String(more.into_owned())),
                    ),
                }
            }
            (field, None) => {
                let Some(value) = value.value() else { continue };
                if let ("reasoning_details", Value::Array(list)) = (field, &value) {
                    details.extend(list.iter().filter_map(reasoning_text));
                }
                add_field(message, field, value);
            }
        }
    }
    message.joined_reasoning.push_str(details);
    said.reasoning
        .extend(told.into_iter().find(|text| !text.is_empty()));
    Ok(())
}

fn add_field(message: &mut Message, name: &str, value: Value) {
    let is_details = name == "reasoning_details";
    if is_details && !message.fields.contains_key(name) {
        message
            .fields
            .insert(name.to_owned(), Value::Array(Vec::new()));
    }
    match (message.fields.get_mut(name), value) {
        (Some(Value::Array(list)), Value::Array(more)) if is_details => {
            for detail in more {
                add_detail(list, detail);
            }
        }
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, value) => drop(message.fields.insert(name.to_owned(), value)),
    }
}

fn add_text(message: &mut Message, more: &str) {
    match &mut message.content {
        Some(Content::Text(text)) => text.push_str(more),
        None => message.content = Some(Content::from(more)),
        Some(Content::Parts(_)) => add_parts(message, Content::from(more), &mut Said::default()),
    }
}

/// Adds parts, as Mistral streams them. What came as text becomes a part too.
fn add_parts(message: &mut Message, more: Content, said: &mut Said) {
    let mut parts = match message.content.take() {
        Some(Content::Text(text)) if text.is_empty() => Vec::new(),
        Some(Content::Text(text)) => {
            message.joined_text.push_str(&text);
            vec![ContentPart::text(text)]
        }
        Some(Content::Parts(parts)) => parts,
        None => Vec::new(),
    };
    for part in more.into_parts() {
        let (text, thought) = (
            part.as_text().unwrap_or_default(),
            part.thinking().unwrap_or_default(),
        );
        message.joined_text.push_str(text);
        message.joined_reasoning.push_str(&thought);
        said.text.push_str(text);
        said.reasoning.push_str(&thought);
        if part.as_text() != Some("") && !parts.last_mut().is_some_and(|last| last.append(&part)) {
            parts.push(part);
        }
    }
    message.content = Some(Content::Parts(parts));
}

/// Pieces of one detail follow one another and have the same `type`, `index` and `id`; the later ones may lack the id.
fn add_detail(list: &mut Vec<Value>, detail: Value) {
    let same = |last: &Value| {
        let (old, new) = (last.get("id"), detail.get("id"));
        ["type", "index"]
            .iter()
            .all(|name| last.get(name) == detail.get(name))
            && (old == new || [old, new].iter().any(|id| id.is_none_or(Value::is_null)))
    };
    let (Some(Value::Object(whole)), Value::Object(more)) =
        (list.last_mut().filter(|last| same(last)), &detail)
    else {
        list.push(detail);
        return;
    };
    for (name, value) in more {
        match (whole.get_mut(name), value) {
            (Some(Value::String(text)), Value::String(more))
                if ["text", "summary", "data"].contains(&name.as_str()) =>
            {
                text.push_str(more);
            }
            (_, Value::Null) => {}
            _ => drop(whole.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
