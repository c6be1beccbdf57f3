//! The pieces of a streamed answer, put together into the [`Completion`] that the whole answer would have been.

use serde_json::Value;

use crate::call_pieces::CallPieces;
use crate::completion::{citations, index, is_error};
use crate::content::ContentPart;
use crate::json::{Json, Node};
use crate::message::{is_sent_back, reasoning_text};
use crate::surrogates::Halves;
use crate::{Choice, Completion, Content, FinishReason, Logprobs, Message, Role, Usage};

/// More choices or tool calls than this are an attack and no answer.
pub(crate) const MOST: usize = 1024;

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

/// More choices or calls than any answer has.
#[derive(Debug, PartialEq)]
pub(crate) struct TooMany;

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
mod tests {
    use std::fmt::Write;
    use std::time::{Duration, Instant};

    use super::*;
    use serde_json::json;

    #[track_caller]
    fn read(events: &[impl AsRef<str>]) -> Completion {
        let mut answer = Accumulator::new(true);
        for event in events {
            answer.add(&Json::read(event.as_ref()).unwrap()).unwrap();
        }
        answer.finish()
    }

    #[track_caller]
    fn send(answer: &str) -> Completion {
        let mut completion = Completion::decode(200, answer.to_owned()).unwrap();
        completion.raw = None;
        completion
    }

    fn delta(delta: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)
    }

    /// The deltas of a message make the message that is sent whole.
    #[track_caller]
    fn makes(deltas: &[&str], message: &str) {
        let events: Vec<String> = deltas.iter().map(|pieces| delta(pieces)).collect();
        let whole = send(&format!(
            r#"{{"choices":[{{"index":0,"message":{message}}}]}}"#
        ));
        assert_eq!(read(&events), whole);
    }

    #[test]
    fn a_custom_tool_and_what_a_call_holds_besides_survive() {
        makes(
            &[
                r#"{"tool_calls":[{"index":0,"id":"a","type":"custom","custom":{"name":"sql","input":"select"}}]}"#,
                r#"{"tool_calls":[{"index":0,"custom":{"input":" 1"},"extra_content":{"google":{"thought_signature":"x"}}}]}"#,
            ],
            r#"{"tool_calls":[{"id":"a","type":"custom","custom":{"name":"sql","input":"select 1"},"extra_content":{"google":{"thought_signature":"x"}}}]}"#,
        );
    }

    #[test]
    fn a_role_that_is_absent_empty_or_unknown_is_no_trouble() {
        makes(
            &[
                r#"{"role":"assistant","content":"a"}"#,
                r#"{"role":"","content":"b"}"#,
                r#"{"role":null,"content":"c"}"#,
            ],
            r#"{"role":"assistant","content":"abc"}"#,
        );
        makes(
            &[r#"{"role":"critic","content":"a"}"#, r#"{"content":"b"}"#],
            r#"{"role":"critic","content":"ab"}"#,
        );
    }

    #[test]
    fn reasoning_is_joined_under_each_of_its_names() {
        for name in ["reasoning", "reasoning_content"] {
            let piece = |text| format!(r#"{{"{name}":"{text}","content":null}}"#);
            let (a, b) = (piece("Let me"), piece(" think."));
            makes(
                &[&a, &b],
                &format!(r#"{{"content":null,"{name}":"Let me think."}}"#),
            );
            assert_eq!(
                read(&[delta(&a), delta(&b)]).reasoning(),
                Some("Let me think.")
            );
        }
    }

    #[test]
    fn reasoning_details_are_merged_with_their_signatures() {
        makes(
            &[
                r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"id":null,"format":"x","text":"Let"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":" me"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":null,"signature":"s1"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.text","index":1,"text":"So"},{"type":"reasoning.text","index":1,"text":" be it"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","index":1,"data":"zz"}]}"#,
            ],
            r#"{"reasoning_details":[
                {"type":"reasoning.text","index":0,"id":null,"format":"x","text":"Let me","signature":"s1"},
                {"type":"reasoning.text","index":1,"text":"So be it"},
                {"type":"reasoning.encrypted","index":1,"data":"zz"}]}"#,
        );
    }

    #[test]
    fn details_with_ids_of_their_own_are_not_merged() {
        makes(
            &[
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"a","data":"xx"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"b","data":"yy"}]}"#,
                r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"b","data":"zz"}]}"#,
            ],
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"a","data":"xx"},{"type":"reasoning.encrypted","id":"b","data":"yyzz"}]}"#,
        );
    }

    #[test]
    fn thinking_parts_and_text_become_parts() {
        let think = |text| {
            format!(
                r#"{{"content":[{{"type":"thinking","thinking":[{{"type":"text","text":"{text}"}}]}}]}}"#
            )
        };
        let deltas = [
            r#"{"role":"assistant","content":""}"#,
            &think("Let me"),
            &think(" think."),
            r#"{"content":[{"type":"thinking","thinking":[],"signature":"s"}]}"#,
            r#"{"content":""}"#,
            r#"{"content":"4"}"#,
            r#"{"content":[{"type":"text","text":"2"}]}"#,
            r#"{"content":"."}"#,
        ];
        makes(
            &deltas,
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Let me think."}],"signature":"s"},{"type":"text","text":"42."}]}"#,
        );
        let answer = read(&deltas.map(delta));
        assert_eq!(
            (answer.text(), answer.reasoning()),
            ("42.", Some("Let me think."))
        );
    }

    #[test]
    fn text_before_parts_becomes_a_part() {
        makes(
            &[
                r#"{"content":"a"}"#,
                r#"{"content":[{"type":"image_url","image_url":{"url":"u"}}]}"#,
                r#"{"content":"b"}"#,
            ],
            r#"{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"b"}]}"#,
        );
    }

    #[test]
    fn refusals_are_joined() {
        makes(
            &[r#"{"refusal":"I can"}"#, r#"{"refusal":"not."}"#],
            r#"{"refusal":"I cannot."}"#,
        );
    }

    #[test]
    fn logprobs_are_joined() {
        let token = |token| {
            format!(r#"{{"token":"{token}","logprob":-0.5,"bytes":null,"top_logprobs":[]}}"#)
        };
        let event = |logprobs: &str| {
            format!(
                r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"logprobs":{logprobs}}}]}}"#
            )
        };
        let (a, b) = (token("a"), token("b"));
        let answer = read(&[
            event(&format!(r#"{{"content":[{a}]}}"#)),
            event("null"),
            event(&format!(r#"{{"content":[{b}],"refusal":null}}"#)),
            event(&format!(r#"{{"content":null,"refusal":[{b}]}}"#)),
        ]);
        let whole = format!(
            r#"{{"choices":[{{"message":{{"content":"xxxx"}},"logprobs":{{"content":[{a},{b}],"refusal":[{b}]}}}}]}}"#
        );
        assert_eq!(answer, send(&whole));
    }

    #[test]
    fn usage_counts_wherever_it_comes() {
        let real = r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#;
        let text = r#""choices":[{"index":0,"delta":{"content":"x"}}]"#;
        for events in [
            [
                format!("{{{text}}}"),
                format!(r#"{{"choices":[],"usage":{real}}}"#),
            ],
            [
                format!(r#"{{{text},"usage":{real}}}"#),
                r#"{"choices":[],"usage":null}"#.to_owned(),
            ],
            [
                format!(r#"{{{text},"usage":{real}}}"#),
                r#"{"choices":[],"usage":{}}"#.to_owned(),
            ],
            [
                format!(r#"{{{text},"usage":{{}}}}"#),
                format!(r#"{{"usage":{real}}}"#),
            ],
            [
                format!(r#"{{{text},"usage":{{"total_tokens":1}}}}"#),
                format!(r#"{{"choices":null,"usage":{real}}}"#),
            ],
        ] {
            let usage = Usage {
                prompt_tokens: 1,
                completion_tokens: 2,
                total_tokens: 3,
                ..Usage::default()
            };
            assert_eq!(read(&events).usage(), Some(&usage), "{events:?}");
        }
        assert_eq!(read(&[format!("{{{text}}}")]).usage(), None);
    }

    #[test]
    fn the_cost_may_come_in_the_last_chunk() {
        let text = r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
        let cost = r#"{"choices":[],"meta":{"usage":{"usd_spent":0.25}}}"#;
        assert_eq!(read(&[text, cost]).usd_spent(), Some(0.25));
        assert_eq!(
            read(&[text, r#"{"choices":[],"usage":{"cost":0.5}}"#]).usd_spent(),
            Some(0.5)
        );
        assert_eq!(read(&[text, cost, text]).usd_spent(), Some(0.25));
        assert_eq!(read(&[text]).usd_spent(), None);
    }

    #[test]
    fn choices_are_told_apart_by_their_index_and_sorted() {
        let piece = |index: u32, text: &str| {
            format!(r#"{{"index":{index},"delta":{{"content":"{text}"}}}}"#)
        };
        let answer = read(&[
            format!(r#"{{"choices":[{}]}}"#, piece(1, "b")),
            format!(
                r#"{{"choices":[{},{}]}}"#,
                piece(4_000_000_000, "c"),
                piece(0, "a")
            ),
            format!(r#"{{"choices":[{}]}}"#, piece(1, "B")),
            r#"{"choices":[{"delta":{"content":"A"}},{"index":null,"delta":{"content":"!"}}]}"#
                .to_owned(),
        ]);
        let texts = answer
            .choices()
            .iter()
            .map(|choice| (choice.index(), choice.text()));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [(0, "aA"), (1, "bB!"), (4_000_000_000, "c")]
        );
    }

    #[test]
    fn the_first_choice_speaks_or_choice_0_of_several() {
        let said = |several| {
            let mut answer = Accumulator::new(several);
            let mut said = |index| {
                let event = format!(
                    r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":"stop"}}]}}"#
                );
                let said = answer.add(&Json::read(&event).unwrap()).unwrap();
                (said.text.len(), said.finish_reason.is_some())
            };
            [said(1), said(0)]
        };
        assert_eq!(said(false), [(1, true), (0, false)]);
        assert_eq!(said(true), [(0, false), (1, true)]);
    }

    /// The same numbers in every run: a failure can be seen again.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            let (by, plus) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
            self.0 = self.0.wrapping_mul(by).wrapping_add(plus);
            usize::try_from(self.0 >> 33).unwrap() % limit
        }

        /// A text as the inside of JSON strings, cut between UTF-16 units, or between characters only.
        fn cut(&mut self, text: &str, characters: bool) -> Vec<String> {
            let mut pieces = vec![String::new()];
            for unit in text.encode_utf16() {
                let within = characters && (0xDC00..0xE000).contains(&unit);
                if !within && self.below(3) == 0 {
                    pieces.push(String::new());
                }
                write!(pieces.last_mut().unwrap(), "\\u{unit:04x}").unwrap();
            }
            pieces
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_the_whole_answer() {
        const TEXTS: [&str; 4] = ["", "a \"naïve\" 😀👩‍🚀\n", "\u{fdd0}d83d😀\\u{2028}", "𝔘𝔫𝔦"];
        const FIELDS: [(&str, &str); 3] = [
            (r#"{"reasoning":""#, r#""}"#),
            (r#"{"content":""#, r#""}"#),
            (
                r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""#,
                r#""}}]}"#,
            ),
        ];
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let texts: [&str; 6] = std::array::from_fn(|_| TEXTS[dice.below(TEXTS.len())]);
            let choice = |index: usize, texts: &[&str]| {
                let call = json!({"function": {"name": "f", "arguments": texts[2]}});
                json!({"index": index, "message": {
                    "reasoning": texts[0], "content": texts[1], "tool_calls": [call]}})
            };
            let choices = [choice(0, &texts[..3]), choice(1, &texts[3..])];
            let whole = send(&json!({ "choices": choices }).to_string());

            let mut queues = texts.map(|text| dice.cut(text, seed % 2 == 0).into_iter());
            let (mut answer, mut said) = (Accumulator::new(true), String::new());
            while queues.iter().any(|queue| queue.len() > 0) {
                let at = dice.below(queues.len());
                let Some(piece) = queues[at].next() else {
                    continue;
                };
                let (index, (before, after)) = (at / 3, FIELDS[at % 3]);
                let event = format!(
                    r#"{{"choices":[{{"index":{index},"delta":{before}{piece}{after}}}]}}"#
                );
                said += &answer.add(&Json::read(&event).unwrap()).unwrap().text;
            }
            assert_eq!(said, texts[1], "seed {seed}");
            assert_eq!(answer.finish(), whole, "seed {seed}");
        }
    }

    /// Adds these events one after the other until one is refused; says how many were taken.
    fn taken(events: impl Iterator<Item = String>) -> usize {
        let mut answer = Accumulator::new(true);
        let started = Instant::now();
        let taken = events
            .take_while(|event| Json::read(event).is_ok_and(|event| answer.add(&event).is_ok()));
        let taken = taken.count();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        let calls = answer
            .partial()
            .map_or(0, |answer| answer.tool_calls().len());
        assert!(answer.completion.choices.len() <= MOST && calls <= MOST);
        taken
    }

    #[test]
    fn choices_and_calls_without_end_are_refused() {
        let choice = |index| format!(r#"{{"choices":[{{"index":{index},"delta":{{}}}}]}}"#);
        assert_eq!(taken((0..1_000_000).map(choice)), MOST);
        let call = |index| delta(&format!(r#"{{"tool_calls":[{{"index":{index}}}]}}"#));
        assert_eq!(taken((0..1_000_000).map(call)), MOST);
        let call = |id| {
            delta(&format!(
                r#"{{"tool_calls":[{{"id":"{id}","function":{{"name":"f"}}}}]}}"#
            ))
        };
        assert_eq!(taken((0..1_000_000).map(call)), MOST);
        let many = vec!["{}"; 1_000_000].join(",");
        assert_eq!(
            taken(std::iter::once(format!(r#"{{"choices":[{many}]}}"#))),
            0
        );
        assert_eq!(
            taken(std::iter::once(delta(&format!(
                r#"{{"tool_calls":[{many}]}}"#
            )))),
            0
        );
    }

    #[test]
    fn an_index_may_be_any_number() {
        for index in [
            "4000000000",
            "4e9",
            "1e300",
            "-1",
            "18446744073709551615",
            "1.5",
            "\"7\"",
            "{}",
        ] {
            let choice =
                format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}}}}]}}"#);
            let call = delta(&format!(
                r#"{{"content":"","tool_calls":[{{"index":{index},"id":"a"}}]}}"#
            ));
            assert_eq!(read(&[&choice, &choice]).text(), "xx", "{index}");
            assert_eq!(read(&[&call, &call]).tool_calls().len(), 1, "{index}");
        }
    }
}
