//! Characters cut in two. A server that splits text by UTF-16 unit, as some Node servers do, ends one event with the
//! first half of a surrogate pair, `\ud83d`, and begins the next with the second, `\ude00`.

use serde_json::{Value, json};

use crate::json::{Json, Node, Shape};
use crate::message::MOST;

/// Deeper than any answer; what is deeper still is left as it is.
const MAX_DEPTH: usize = 128;

/// The first halves that wait for the second, sorted by the place they are in, such as `/choices/0/delta/content`.
#[derive(Debug, Default)]
pub(crate) struct Halves(Vec<(String, u16)>);

impl Halves {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The event with its texts joined with the halves that earlier ones left; `None` if there is nothing to join.
    pub(crate) fn join(&mut self, event: &Json<'_>) -> Option<String> {
        if self.is_empty() && !event.has_surrogates() {
            return None;
        }
        let mut out = String::new();
        self.write(event.root(), &mut String::new(), false, 0, &mut out);
        Some(out)
    }

    /// The halves below this place, whose others will not come: for each an event that adds U+FFFD there.
    pub(crate) fn give_up(&mut self, below: &str) -> Vec<String> {
        let mut lost = Vec::new();
        self.0.retain(|(path, _)| {
            let stays = !path.starts_with(below);
            if !stays {
                lost.push(event(path).to_string());
            }
            stays
        });
        lost
    }

    /// Writes a value anew. Only what a delta holds is `pieced` together.
    fn write(
        &mut self,
        node: Node<'_>,
        path: &mut String,
        pieced: bool,
        depth: usize,
        out: &mut String,
    ) {
        let length = path.len();
        match node.shape() {
            Shape::Text => {
                let found = self.0.binary_search_by(|(other, _)| other.cmp(path));
                let (mut half, mut text) =
                    (found.ok().map(|at| self.0.remove(at).1), String::new());
                node.append_to(&mut half, &mut text);
                // More of them, or longer places, are an attack and no answer.
                let waits = pieced && self.0.len() < MOST && path.len() < MOST;
                let (Ok(at) | Err(at)) = found;
                match half {
                    Some(half) if waits => self.0.insert(at, (path.clone(), half)),
                    half => text.extend(half.map(|_| char::REPLACEMENT_CHARACTER)),
                }
                out.push_str(&Value::String(text).to_string());
            }
            Shape::Array if depth < MAX_DEPTH => {
                out.push('[');
                for (place, item) in node.items().enumerate() {
                    // What belongs together has the same `index`, wherever it stands.
                    let index = item.get("index").and_then(Node::count);
                    let step = match index {
                        Some(index) => format!("/{index}"),
                        None if path == "/choices" => format!("/{place}"),
                        None => format!("/#{place}"),
                    };
                    out.push_str(if place == 0 { "" } else { "," });
                    path.push_str(&step);
                    self.write(item, path, pieced, depth + 1, out);
                    path.truncate(length);
                }
                out.push(']');
            }
            Shape::Object if depth < MAX_DEPTH => {
                out.push('{');
                for (place, (name, item)) in node.members().enumerate() {
                    out.push_str(if place == 0 { "" } else { "," });
                    out.push_str(&Value::from(&*name).to_string());
                    out.push(':');
                    path.push('/');
                    path.push_str(&name);
                    let pieced = pieced || name == "delta" || name == "message";
                    self.write(item, path, pieced, depth + 1, out);
                    path.truncate(length);
                }
                out.push('}');
            }
            _ => out.push_str(node.raw()),
        }
    }
}

/// An event that holds U+FFFD at this place, and nothing else.
fn event(path: &str) -> Value {
    let lost = Value::from(char::REPLACEMENT_CHARACTER.to_string());
    let steps = path.rsplit('/').filter(|step| !step.is_empty());
    steps.fold(lost, |inner, step| {
        let index = step.parse::<u64>().ok();
        match (index, inner) {
            (Some(index), Value::Object(mut item)) => {
                item.insert("index".to_owned(), index.into());
                json!([item])
            }
            (None, item) if step.starts_with('#') => json!([item]),
            (_, inner) => json!({ step: inner }),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::accumulate::Accumulator;
    use crate::{Completion, ToolCall};

    /// What each event adds to the text, and the answer of all.
    fn read(events: &[String]) -> (Vec<String>, Completion) {
        let mut answer = Accumulator::new(true);
        let texts = events
            .iter()
            .map(|event| answer.add(&Json::read(event).unwrap()).unwrap().text);
        let texts = texts.collect();
        (texts, answer.finish())
    }

    fn delta(delta: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)
    }

    /// `"` ends a piece and begins the next one.
    #[track_caller]
    fn joins(pieces: &str, want: &[&str]) {
        let content = |piece| delta(&format!(r#"{{"content":"{piece}"}}"#));
        let events: Vec<String> = pieces.split('"').map(content).collect();
        let (texts, answer) = read(&events);
        assert_eq!(texts, want, "{pieces}");
        assert_eq!(answer.text(), want.concat(), "{pieces}");
    }

    #[test]
    fn a_pair_cut_in_two_is_one_character() {
        joins(r#"a\ud83d"\ude00b"#, &["a", "😀b"]);
        joins(r#"\uD83D"\uDE00\ud83d"\ude01"#, &["", "😀", "😁"]);
        joins(r#"\ud83d""\ude00"#, &["", "", "😀"]);
        joins(r#"é\ud83d"\ude00\ud83d\ude01€"#, &["é", "😀😁€"]);
    }

    #[test]
    fn a_half_without_the_other_is_replaced_where_it_was() {
        joins(r#"a\ud83d"b"#, &["a", "\u{fffd}b"]);
        joins(r#"\ude00a"b"#, &["\u{fffd}a", "b"]);
        joins(
            r#"\ude00\ud83d"\ud83d"\ude00"#,
            &["\u{fffd}", "\u{fffd}", "😀"],
        );
        joins(r"a\ud83db\ude00c", &["a\u{fffd}b\u{fffd}c"]);
        joins(r#"\ud83d"\ud83d\ude00"#, &["", "\u{fffd}😀"]);
        joins(r#"\ud83d"\\ude00"#, &["", "\u{fffd}\\ude00"]);
    }

    #[test]
    fn a_half_that_still_waits_at_the_end_is_replaced_there() {
        let half = delta(r#"{"content":"a\ud83d"}"#);
        let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
        let (texts, answer) = read(&[half.clone(), end.to_owned()]);
        assert_eq!(
            (texts.concat(), answer.text()),
            ("a\u{fffd}".to_owned(), "a\u{fffd}")
        );
        let (texts, answer) = read(&[half]);
        assert_eq!(
            (texts.concat(), answer.text()),
            ("a".to_owned(), "a\u{fffd}")
        );
    }

    #[test]
    fn every_field_of_every_choice_has_halves_of_its_own() {
        let high = r#"{"content":"\ud83d","reasoning":"\ud83c","refusal":"\ud83d","tool_calls":[
            {"index":0,"id":"a","function":{"name":"f","arguments":"\ud83e"}},
            {"index":1,"id":"b","function":{"name":"g","arguments":"\ud83d"}}]}"#;
        let low = r#"{"content":"\ude00","reasoning":"\udf55","refusal":"\ude22","tool_calls":[
            {"index":1,"function":{"arguments":"\ude80"}},{"index":0,"function":{"arguments":"\udd80"}}]}"#;
        let other = r#"{"choices":[{"index":1,"delta":{"content":"\ud83d"}}]}"#;
        let event = format!(
            r#"{{"choices":[{{"index":1,"delta":{{"content":"\ude31"}}}},{{"index":0,"delta":{low}}}]}}"#
        );
        let usage = r#"{"choices":[],"usage":{"total_tokens":1}}"#;
        let (_, answer) = read(&[delta(high), other.to_owned(), usage.to_owned(), event]);
        let [first, second] = answer.choices() else {
            panic!("{answer:?}")
        };
        assert_eq!(first.text(), "😀");
        assert_eq!(first.reasoning(), Some("🍕"));
        assert_eq!(first.refusal(), Some("😢"));
        let arguments = first.tool_calls().iter().map(ToolCall::arguments);
        assert_eq!(arguments.collect::<Vec<_>>(), ["🦀", "🚀"]);
        assert_eq!(second.text(), "😱");
    }

    #[test]
    fn parts_and_details_are_joined_too() {
        let (_, answer) = read(&[
            delta(r#"{"content":[{"type":"text","text":"a\ud83d"}]}"#),
            delta(r#"{"content":[{"type":"text","text":"\ude00b"}]}"#),
        ]);
        assert_eq!(answer.text(), "a😀b");
        let detail = |text: &str| {
            let detail = format!(r#"{{"type":"reasoning.text","text":"{text}","index":3}}"#);
            delta(&format!(r#"{{"reasoning_details":[{detail}]}}"#))
        };
        let (_, answer) = read(&[detail(r"a\ud83d"), detail(r"\ude00b")]);
        assert_eq!(answer.reasoning(), Some("a😀b"));
    }

    #[test]
    fn a_half_that_waits_in_a_call_or_a_detail_is_replaced_there() {
        let call = r#"{"tool_calls":[{"index":7,"id":"a","function":{"name":"f","arguments":"x\ud83d"}}]}"#;
        let (_, answer) = read(&[delta(call)]);
        let [call] = answer.tool_calls() else {
            panic!("{answer:?}")
        };
        assert_eq!((call.name(), call.arguments()), ("f", "x\u{fffd}"));
        let (_, answer) = read(&[delta(r#"{"content":[{"type":"text","text":"x\ud83d"}]}"#)]);
        assert_eq!(answer.text(), "x\u{fffd}");
        let (_, answer) = read(&[delta(r#"{"reasoning_content":"x\ud83d"}"#)]);
        assert_eq!(answer.reasoning(), Some("x\u{fffd}"));
    }

    #[test]
    fn what_is_not_pieced_together_waits_for_nothing() {
        let event = r#"{"id":"a\ud83d","choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"token":"x\ud83d"}]}}]}"#;
        let (_, answer) = read(&[event.to_owned(), event.to_owned()]);
        assert_eq!((answer.id(), answer.text()), ("a\u{fffd}", "xx"));
        let tokens = &answer.choices()[0].logprobs().unwrap().content;
        assert!(
            tokens.iter().all(|token| token.token == "x\u{fffd}"),
            "{tokens:?}"
        );
    }

    #[test]
    fn a_text_may_hold_what_stands_for_a_half() {
        for held in ["\u{fdd0}", r"\ufdd0", r"\uFDD0", "\u{fdd1}\u{fdd0}"] {
            let text = held
                .replace(r"\ufdd0", "\u{fdd0}")
                .replace(r"\uFDD0", "\u{fdd0}");
            joins(&format!("{held}d83d"), &[&format!("{text}d83d")]);
            let cut = format!(r#"{held}d83d\ud83d"\ude00{held}""#);
            joins(&cut, &[&format!("{text}d83d"), &format!("😀{text}"), ""]);
        }
    }

    #[test]
    fn halves_without_end_are_no_danger() {
        let started = Instant::now();
        let halves = vec![r#""\ud83d""#; 20_000].join(",");
        let (_, answer) = read(&[delta(&format!(r#"{{"content":[{halves}]}}"#))]);
        assert_eq!(answer.text(), "\u{fffd}".repeat(20_000));
        let name = "x".repeat(10_000);
        read(&[delta(&format!(r#"{{"{name}":[{halves}]}}"#))]);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn nesting_and_numbers_that_cannot_be_held_cost_only_themselves() {
        let deep = format!(
            r#"{{"x":{}{},"choices":[{{"delta":{{"content":"a\ud83d"}}}}]}}"#,
            "[".repeat(1000),
            "]".repeat(1000)
        );
        let (_, answer) = read(&[deep]);
        assert_eq!(answer.text(), "a\u{fffd}");
    }
}
