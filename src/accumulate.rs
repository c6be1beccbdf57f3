//! The pieces of a streamed answer, put together into the [`Completion`] that the whole answer would have been.

use serde_json::{Map, Value};

use crate::completion::{Answer, AnswerChoice, UsageWire, take_citations};
use crate::content::ContentPart;
use crate::message::{Answered, reasoning_text};
use crate::surrogates::Halves;
use crate::wire::MOST;
use crate::{Choice, Completion, Content, FinishReason, Message, Role, ToolCall, Usage};

#[derive(Debug)]
pub(crate) struct Accumulator {
    completion: Completion,
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
}

/// More choices or calls than any answer has.
#[derive(Debug, PartialEq)]
pub(crate) struct TooMany;

impl Accumulator {
    /// `several`: more than one choice was asked for, so that choice 0 speaks, whichever comes first; else the one that
    /// comes speaks, whatever its index.
    pub(crate) fn new(several: bool) -> Accumulator {
        Accumulator {
            completion: Completion {
                id: String::new(),
                model: String::new(),
                created: 0,
                choices: Vec::new(),
                usage: None,
                usd_spent: None,
                citations: Vec::new(),
                request_id: None,
                client_request_id: None,
                raw: None,
                unrecorded: None,
            },
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

    /// The whole, once nothing more will come; `None` if there was no choice.
    pub(crate) fn finish(mut self) -> Option<Completion> {
        self.flush();
        (!self.completion.choices.is_empty()).then_some(self.completion)
    }

    /// Nothing more will come, so that what waits for more is given up.
    pub(crate) fn flush(&mut self) {
        self.give_up("");
    }

    /// Puts U+FFFD where the other half of a surrogate pair never came.
    fn give_up(&mut self, below: &str) -> Said {
        let mut said = Said::default();
        for event in self.halves.give_up(below) {
            // Adds to what is there, so there cannot be too many.
            let more = self.add(event).unwrap_or_default();
            said.text.push_str(&more.text);
            said.reasoning.push_str(&more.reasoning);
        }
        said
    }

    /// Reads one event, to be added then.
    pub(crate) fn decode(&mut self, text: &str) -> Result<Answer, serde_json::Error> {
        self.halves.decode(text)
    }

    /// Adds one event.
    pub(crate) fn add(&mut self, answer: Answer) -> Result<Said, TooMany> {
        let (usd_spent, citations) = (answer.usd_spent(), answer.citations());
        let Answer {
            id,
            model,
            created,
            choices,
            usage,
            ..
        } = answer;
        let whole = &mut self.completion;
        keep_first(&mut whole.id, id.0);
        keep_first(&mut whole.model, model.0);
        if whole.created == 0 {
            whole.created = created.0.unwrap_or_default();
        }
        whole.usd_spent = usd_spent.or(whole.usd_spent);
        if !citations.is_empty() {
            whole.citations = citations;
        }
        let mut said = Said {
            usage: usage.0.as_ref().map(UsageWire::usage),
            ..Said::default()
        };
        // An empty usage does not undo a real one.
        if said
            .usage
            .is_some_and(|usage| whole.usage.is_none() || usage != Usage::default())
        {
            whole.usage = said.usage;
        }
        for (place, choice) in (0..).zip(choices.0) {
            self.add_choice(place, choice, &mut said)?;
        }
        Ok(said)
    }

    fn add_choice(
        &mut self,
        place: u32,
        choice: AnswerChoice,
        said: &mut Said,
    ) -> Result<(), TooMany> {
        let index = choice
            .index
            .0
            .and_then(|index| index.try_into().ok())
            .unwrap_or(place);
        let at = self.slot(index)?;
        let Some(slot) = self.completion.choices.get_mut(at) else {
            return Ok(());
        };
        let speaks = *self.spokesman.get_or_insert(index) == index;
        if let Some(Answered(mut delta)) = choice.delta.0.or(choice.message.0) {
            if speaks {
                said.text.push_str(delta.text());
                said.reasoning
                    .push_str(delta.reasoning().unwrap_or_default());
            }
            slot.citations.extend(take_citations(&mut delta));
            add_message(&mut slot.message, delta)?;
        }
        if let Some(more) = choice.logprobs.0 {
            let logprobs = slot.logprobs.get_or_insert_with(Default::default);
            logprobs.content.extend(more.content);
            logprobs.refusal.extend(more.refusal);
        }
        let finish = choice
            .finish_reason
            .0
            .as_deref()
            .and_then(FinishReason::read);
        if let Some(reason) = finish {
            if speaks {
                said.finish_reason = Some(reason.clone());
            }
            slot.finish_reason = Some(reason);
            let lost = self.give_up(&format!("/choices/{index}/"));
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
                Ok(at)
            }
        }
    }
}

fn keep_first(kept: &mut String, new: Option<String>) {
    if kept.is_empty() {
        *kept = new.unwrap_or_default();
    }
}

fn add_message(whole: &mut Message, delta: Message) -> Result<(), TooMany> {
    if delta.role != Role::Assistant {
        whole.role = delta.role;
    }
    if let Some(content) = delta.content {
        add_content(whole, content);
    }
    for call in delta.tool_calls {
        add_call(&mut whole.tool_calls, call)?;
    }
    for (name, value) in delta.fields {
        match (whole.fields.get_mut(&name), value) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (Some(Value::Array(list)), Value::Array(more)) if name == "reasoning_details" => {
                for detail in more {
                    whole
                        .joined_reasoning
                        .push_str(reasoning_text(&detail).unwrap_or_default());
                    add_detail(list, detail);
                }
            }
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => {
                if let ("reasoning_details", Value::Array(list)) = (name.as_str(), &value) {
                    whole
                        .joined_reasoning
                        .extend(list.iter().filter_map(reasoning_text));
                }
                whole.fields.insert(name, value);
            }
        }
    }
    Ok(())
}

fn add_content(whole: &mut Message, more: Content) {
    match (&mut whole.content, more) {
        (Some(Content::Text(text)), Content::Text(more)) => text.push_str(&more),
        (none @ None, Content::Text(more)) => *none = Some(Content::Text(more)),
        (content, more) => {
            // Parts, as Mistral streams them: what came as text becomes a part too.
            let mut parts = match content.take() {
                Some(Content::Text(text)) if text.is_empty() => Vec::new(),
                Some(Content::Text(text)) => {
                    whole.joined_text.push_str(&text);
                    vec![ContentPart::text(text)]
                }
                Some(parts) => parts.into_parts(),
                None => Vec::new(),
            };
            for part in more.into_parts() {
                whole
                    .joined_text
                    .push_str(part.as_text().unwrap_or_default());
                whole
                    .joined_reasoning
                    .push_str(&part.thinking().unwrap_or_default());
                if part.as_text() != Some("")
                    && !parts.last_mut().is_some_and(|last| last.append(&part))
                {
                    parts.push(part);
                }
            }
            *content = Some(Content::Parts(parts));
        }
    }
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
