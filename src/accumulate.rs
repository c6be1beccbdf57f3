//! The pieces of a streamed answer, put together into the [`Completion`] that the whole answer would have been.

use serde_json::{Map, Value};

use crate::completion::{citations, index, is_error};
use crate::content::ContentPart;
use crate::json::Node;
use crate::message::{is_sent_back, reasoning_text};
use crate::{Choice, Completion, Content, FinishReason, Logprobs, Message, Role, ToolCall, Usage};

/// More choices or tool calls than this are an attack and no answer.
const MOST: usize = 1024;

#[derive(Debug)]
pub(crate) struct Accumulator {
    completion: Completion,
    /// For each choice, in the order of the completion's: the halves of surrogate pairs that wait for the other half,
    /// with the field they are in.
    halves: Vec<Vec<(String, u16)>>,
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

/// More choices or calls than any answer has.
#[derive(Debug, PartialEq)]
pub(crate) struct TooMany;

impl Accumulator {
    /// `several`: more than one choice was asked for, so that choice 0 speaks, whichever comes first; else the one that
    /// comes speaks, whatever its index.
    pub(crate) fn new(several: bool) -> Accumulator {
        Accumulator {
            completion: Completion::empty(),
            halves: Vec::new(),
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

    /// The whole, once nothing more will come; `None` if there was no choice.
    pub(crate) fn finish(mut self) -> Option<Completion> {
        self.flush_all();
        (!self.completion.choices.is_empty()).then_some(self.completion)
    }

    /// Halves whose other half never came.
    pub(crate) fn flush_all(&mut self) {
        for place in 0..self.completion.choices.len() {
            self.flush(place);
        }
    }

    /// Adds one event.
    pub(crate) fn add(&mut self, root: Node<'_>) -> Result<Said, TooMany> {
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
        if !self.halves.get(at)?.is_empty() {
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
        let (Some(choice), Some(halves)) =
            (self.completion.choices.get_mut(at), self.halves.get_mut(at))
        else {
            return Ok(());
        };
        let speaks = *self.spokesman.get_or_insert(number) == number;
        // Some repeat the whole message beside the delta, or send it in its place.
        if let Some(delta) = delta.or(message) {
            if speaks {
                add_delta(choice, halves, delta, said)?;
            } else {
                add_delta(choice, halves, delta, &mut Said::default())?;
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
            let lost = self.flush(at);
            if speaks {
                said.text.push_str(&lost);
            }
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
                self.halves.insert(at, Vec::new());
                Ok(at)
            }
        }
    }

    /// Puts U+FFFD where the other half of a pair never came; returns what that adds to the text.
    fn flush(&mut self, place: usize) -> String {
        let mut lost = String::new();
        let (Some(choice), Some(halves)) = (
            self.completion.choices.get_mut(place),
            self.halves.get_mut(place),
        ) else {
            return lost;
        };
        for (field, _) in halves.drain(..) {
            if field == "content" {
                lost.push(char::REPLACEMENT_CHARACTER);
                add_text(
                    &mut choice.message,
                    &char::REPLACEMENT_CHARACTER.to_string(),
                );
            } else if let Some(Value::String(text)) = choice.message.fields.get_mut(&field) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        lost
    }
}

fn add_delta(
    choice: &mut Choice,
    halves: &mut Vec<(String, u16)>,
    delta: Node<'_>,
    said: &mut Said,
) -> Result<(), TooMany> {
    let message = &mut choice.message;
    let (mut reasoning, mut reasoning_content, mut details) =
        (String::new(), String::new(), String::new());
    for (name, value) in delta.members() {
        match &*name {
            "role" => {
                if let Some(role) = value.str().filter(|role| !role.is_empty()) {
                    message.role = Role::from(&*role);
                }
            }
            "content" if value.is_array() => {
                if let Some(parts @ Content::Parts(_)) = Content::read(value) {
                    add_parts(message, parts, said);
                }
            }
            "content" if value.str().is_some() => {
                let before = said.text.len();
                append("content", value, halves, &mut said.text);
                add_text(message, said.text.get(before..).unwrap_or_default());
            }
            "tool_calls" => {
                for call in value.items().filter_map(ToolCall::read) {
                    add_call(&mut message.tool_calls, call)?;
                }
            }
            "annotations" => choice.citations.extend(citations(value)),
            field if !is_sent_back(field) => {}
            field if value.str().is_some() => {
                let mut more = String::new();
                append(field, value, halves, &mut more);
                match message.fields.get_mut(field) {
                    Some(Value::String(text)) => text.push_str(&more),
                    _ => drop(
                        message
                            .fields
                            .insert(field.to_owned(), Value::String(more.clone())),
                    ),
                }
                match field {
                    "reasoning" => reasoning = more,
                    "reasoning_content" => reasoning_content = more,
                    _ => {}
                }
            }
            field => {
                let Some(value) = value.value() else { continue };
                if let ("reasoning_details", Value::Array(list)) = (field, &value) {
                    details.extend(list.iter().filter_map(reasoning_text));
                }
                add_field(message, field, value);
            }
        }
    }
    message.joined_reasoning.push_str(&details);
    let told = [reasoning_content, reasoning, details]
        .into_iter()
        .find(|text| !text.is_empty());
    said.reasoning.push_str(&told.unwrap_or_default());
    Ok(())
}

/// Appends a string, joined with the half of a surrogate pair that an earlier one of the same field left.
fn append(field: &str, value: Node<'_>, halves: &mut Vec<(String, u16)>, out: &mut String) {
    let waiting = halves.iter().position(|(name, _)| name == field);
    let mut half = waiting.map(|at| halves.swap_remove(at).1);
    value.append_to(&mut half, out);
    halves.extend(half.map(|half| (field.to_owned(), half)));
}

fn add_field(message: &mut Message, name: &str, value: Value) {
    match (message.fields.get_mut(name), value) {
        (Some(Value::Array(list)), Value::Array(more)) => {
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

/// Pieces of one detail have the same `index` and `type`.
fn add_detail(list: &mut Vec<Value>, detail: Value) {
    let same =
        |a: &Value, b: &Value| a.get("type") == b.get("type") && a.get("index") == b.get("index");
    let (Some(Value::Object(whole)), Value::Object(more)) =
        (list.last_mut().filter(|last| same(last, &detail)), &detail)
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

/// A piece of a tool call belongs to the call of its `index`, else of its id, else to the last one.
fn add_call(calls: &mut Vec<ToolCall>, mut piece: ToolCall) -> Result<(), TooMany> {
    let index = piece.extra.remove("index").filter(Value::is_number);
    let at = match &index {
        Some(index) => calls
            .iter()
            .rposition(|call| call.extra.get("index") == Some(index)),
        None if !piece.id.is_empty() => calls.iter().rposition(|call| call.id == piece.id),
        None => calls.len().checked_sub(1),
    };
    // A server that counts every call as 0 still gives each an id and a name of its own.
    let is_another = |call: &ToolCall| {
        !piece.id.is_empty() && !call.id.is_empty() && piece.id != call.id && !piece.name.is_empty()
    };
    let at = at.filter(|at| calls.get(*at).is_some_and(|call| !is_another(call)));
    let length = calls.len();
    match at.and_then(|at| calls.get_mut(at)) {
        Some(call) => add_piece(call, piece),
        None if length >= MOST => return Err(TooMany),
        None => {
            // Kept until the end, to know later pieces by.
            piece
                .extra
                .extend(index.map(|index| ("index".to_owned(), index)));
            calls.push(piece);
        }
    }
    Ok(())
}

fn add_piece(call: &mut ToolCall, piece: ToolCall) {
    let ToolCall {
        id,
        custom,
        name,
        arguments,
        extra,
        inner,
    } = piece;
    if call.id.is_empty() {
        call.id = id;
    }
    // Some servers repeat the name with every piece; none cuts it after the arguments have begun.
    if call.arguments.is_empty() && name != call.name {
        call.name.push_str(&name);
    }
    call.custom |= custom;
    call.arguments.push_str(&arguments);
    merge(&mut call.extra, extra);
    merge(&mut call.inner, inner);
}

fn merge(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (name, value) in new {
        match (old.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => drop(old.insert(name, value)),
        }
    }
}
