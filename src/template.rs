//! Most events of a stream differ from the one before in a few words of text, and perhaps in a stamp that says nothing,
//! such as OpenAI's `obfuscation`. Such an event is known by comparing bytes, and need not be read again.

use std::mem;
use std::ops::Range;

use crate::FinishReason;
use crate::bytes::find_either;
use crate::completion::index;
use crate::json::{Node, string_length};
use crate::message::is_sent_back;

/// The last event, with the gaps in which the next one may differ, if it did nothing but add text to one choice.
#[derive(Debug, Default)]
pub(crate) struct Template {
    event: String,
    /// In their order; one of them is the text. None: there is no template.
    gaps: Vec<Gap>,
    choice: u32,
}

#[derive(Debug)]
struct Gap {
    kind: Kind,
    place: Range<usize>,
    /// The event before had something else there, and the next one may.
    is_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// What is added to the choice.
    Text,
    /// Between two quotes.
    Words,
    Digits,
}

/// What an event that is like the last one adds to a choice.
#[derive(Debug, PartialEq)]
pub(crate) struct Addition {
    pub(crate) choice: u32,
    /// Where the text is in the event.
    pub(crate) text: Range<usize>,
    /// It has no escapes, so that it is the text as it stands.
    pub(crate) is_plain: bool,
}

impl Template {
    /// Takes the event that was read last.
    pub(crate) fn learn(&mut self, event: &str, root: Node<'_>) {
        let (before, gaps) = (mem::take(&mut self.event), mem::take(&mut self.gaps));
        let Some(choice) = self.find_gaps(root) else {
            self.gaps.clear();
            return;
        };
        self.choice = choice;
        self.event.push_str(event);
        for (gap, old) in self.gaps.iter_mut().zip(gaps) {
            gap.is_open |= event.get(gap.place.clone()) != before.get(old.place);
        }
    }

    /// What an event adds that is like the last one. What stands in a gap is one string, or digits and no more, so that
    /// all else means what it meant.
    pub(crate) fn find(&self, event: &str) -> Option<Addition> {
        let (mut addition, mut known, mut at) = (None, 0, 0);
        for gap in self.gaps.iter().filter(|gap| gap.is_open) {
            let between = self.event.get(known..gap.place.start)?;
            let rest = event.get(at..)?.strip_prefix(between)?.as_bytes();
            at += between.len();
            let length = match gap.kind {
                Kind::Text => {
                    let (length, is_plain) = string_length(rest)?;
                    addition = Some(Addition {
                        choice: self.choice,
                        text: at..at + length,
                        is_plain,
                    });
                    length
                }
                Kind::Words => find_either(rest, b'"', b'\\')?,
                Kind::Digits => {
                    let digits = rest.iter().position(|byte| !byte.is_ascii_digit());
                    digits.filter(|digits| *digits > 0)?
                }
            };
            at += length;
            known = gap.place.end;
        }
        let is_alike = event.get(at..)? == self.event.get(known..)?;
        addition.filter(|_| is_alike)
    }

    /// Finds the gaps of an event and its choice, if all else in it changes nothing when it comes again.
    fn find_gaps(&mut self, root: Node<'_>) -> Option<u32> {
        let mut choice = None;
        for (name, value) in root.members() {
            match &*name {
                "choices" if choice.is_none() => choice = Some(self.find_text(value)?),
                "choices" => return None,
                "usage" | "meta" | "citations" | "search_results" | "error" if !value.is_null() => {
                    return None;
                }
                // Of these the first that says something counts.
                "created" if value.count().unwrap_or(0) == 0 => {}
                "id" | "model" if value.raw() == "\"\"" => {}
                _ => {
                    let words = value.plain_string().map(|place| (Kind::Words, place));
                    let gap = words.or_else(|| Some((Kind::Digits, value.digits()?)));
                    if let Some((kind, place)) = gap {
                        self.add(kind, place);
                    }
                }
            }
        }
        choice
    }

    fn find_text(&mut self, choices: Node<'_>) -> Option<u32> {
        let mut choices = choices.items();
        let choice = choices.next().filter(|_| choices.next().is_none())?;
        let (mut number, mut delta) = (0, None);
        for (name, value) in choice.members() {
            match &*name {
                "index" => number = index(value).unwrap_or(0),
                "delta" if delta.is_none() => delta = Some(value),
                "delta" => return None,
                "finish_reason" if FinishReason::read(value).is_some() => return None,
                "logprobs" | "error" if !value.is_null() => return None,
                _ => {}
            }
        }
        let mut text = None;
        for (name, value) in delta?.members() {
            match &*name {
                "content" if text.is_none() => text = Some(value.plain_string()?),
                "content" => return None,
                "tool_calls" | "annotations" if !matches!(value.raw(), "null" | "[]") => {
                    return None;
                }
                field if is_sent_back(field) && !matches!(value.raw(), "null" | "\"\"") => {
                    return None;
                }
                _ => {}
            }
        }
        self.add(Kind::Text, text?);
        Some(number)
    }

    fn add(&mut self, kind: Kind, place: Range<usize>) {
        let is_open = kind == Kind::Text;
        self.gaps.push(Gap {
            kind,
            place,
            is_open,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn template(event: &str) -> Template {
        let mut template = Template::default();
        template.learn(event, Json::read(event).unwrap().root());
        template
    }

    /// A template of an event whose stamps are others than those of the event before.
    fn stamped(event: &str) -> Template {
        let mut template = template(
            &event
                .replace("17", "16")
                .replace("abc", "")
                .replace("\"a\"", "\"z\""),
        );
        template.learn(event, Json::read(event).unwrap().root());
        template
    }

    /// The choice and the text that an event adds, as it stands.
    fn found<'a>(template: &Template, event: &'a str) -> Option<(u32, &'a str)> {
        let addition = template.find(event)?;
        Some((addition.choice, &event[addition.text]))
    }

    const EVENT: &str = r#"{"id":"a","created":17,"x":null,"obfuscation":"abc","choices":[{"index":1,"delta":{"role":"assistant","content":"one","reasoning":""},"finish_reason":null}],"usage":null}"#;

    #[test]
    fn an_event_that_differs_in_its_text_only_is_known() {
        let template = template(EVENT);
        for text in ["", "x", "two words", "ünïcödé 😀"] {
            let event = EVENT.replace("one", text);
            assert_eq!(found(&template, &event), Some((1, text)));
        }
    }

    #[test]
    fn an_event_that_differs_in_what_differed_before_and_says_nothing_is_known() {
        for (old, new) in [
            ("\"a\"", "\"another\""),
            ("17", "18000"),
            ("abc", ""),
            ("abc", "tokens, {and} more"),
        ] {
            let event = EVENT.replace(old, new);
            assert_eq!(found(&stamped(EVENT), &event), Some((1, "one")), "{new}");
            assert_eq!(template(EVENT).find(&event), None, "{new}");
        }
    }

    #[test]
    fn a_text_with_escapes_is_known_and_marked() {
        let template = template(EVENT);
        for (text, is_plain) in [
            ("one", true),
            (r"a\n", false),
            (r#"\"\\"#, false),
            (r"\ud83d", false),
        ] {
            let event = EVENT.replace("one", text);
            assert_eq!(found(&template, &event), Some((1, text)));
            assert_eq!(template.find(&event).unwrap().is_plain, is_plain, "{text}");
        }
        assert_eq!(template.find(&EVENT.replace("one", r"\x")), None);
    }

    #[test]
    fn what_has_not_been_said_yet_is_not_passed_over() {
        for (old, new) in [("\"a\"", "\"\""), ("17", "0"), ("17", "null")] {
            assert_eq!(
                template(&EVENT.replace(old, new)).find(EVENT),
                None,
                "{new}"
            );
        }
    }

    #[test]
    fn an_event_that_differs_otherwise_is_not() {
        let template = stamped(EVENT);
        for (old, new) in [
            ("\"a\"", "7"),
            ("\"a\"", "\"b\\n\""),
            ("17", ""),
            ("17", "1.7"),
            ("17", "\"17\""),
            ("null,", "1,"),
            ("abc", "\",\"usage\":{},\"y\":\""),
            ("one", "\",\"refusal\":\"no"),
            ("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
            ("\"usage\":null", "\"usage\":{}"),
        ] {
            assert_eq!(template.find(&EVENT.replace(old, new)), None, "{new}");
        }
        // Shorter than its own beginning and end.
        assert_eq!(template.find(&EVENT[..20]), None);
        assert_eq!(template.find(&EVENT.replace("\"one\"", "\"")), None);
    }

    #[test]
    fn an_event_that_does_more_is_no_template() {
        for (old, new) in [
            ("\"usage\":null", "\"usage\":{}"),
            ("\"usage\":null", "\"citations\":[]"),
            ("\"usage\":null", "\"choices\":[]"),
            ("\"finish_reason\":null", "\"finish_reason\":\"stop\""),
            ("\"finish_reason\":null", "\"logprobs\":{}"),
            ("\"reasoning\":\"\"", "\"reasoning\":\"why\""),
            ("\"reasoning\":\"\"", "\"tool_calls\":[{}]"),
            ("\"reasoning\":\"\"", "\"content\":\"two\""),
            ("\"one\"", "\"a\\n\""),
            ("\"one\"", "null"),
            ("\"one\"", "[]"),
            ("[{", "[{},{"),
        ] {
            let event = EVENT.replace(old, new);
            assert_eq!(template(&event).find(&event), None, "{new}");
        }
    }
}
