//! Most events of a stream differ from the one before in a few words of text, and perhaps in a stamp that says nothing,
//! such as OpenAI's `obfuscation`. Such an event is known by comparing bytes, and need not be read again.

use std::ops::Range;

use crate::FinishReason;
use crate::bytes::find_either;
use crate::completion::index;
use crate::json::Node;
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
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// What is added to the choice.
    Text,
    /// Between two quotes.
    Words,
    Digits,
}

impl Template {
    /// Takes the event that was read last.
    pub(crate) fn learn(&mut self, event: &str, root: Node<'_>) {
        self.event.clear();
        self.gaps.clear();
        match self.find_gaps(root) {
            Some(choice) => {
                self.choice = choice;
                self.event.push_str(event);
            }
            None => self.gaps.clear(),
        }
    }

    /// Where the text is in an event that is like the last one, and the choice it is of. What stands in a gap holds
    /// neither a quote nor a backslash, so it is one string, and means what it says; or it is digits and no more.
    pub(crate) fn find(&self, event: &str) -> Option<(u32, Range<usize>)> {
        let (mut text, mut known, mut at) = (None, 0, 0);
        for Gap { kind, place } in &self.gaps {
            let between = self.event.get(known..place.start)?;
            let rest = event.get(at..)?.strip_prefix(between)?.as_bytes();
            at += between.len();
            let length = match kind {
                Kind::Digits => rest.iter().position(|byte| !byte.is_ascii_digit())?,
                Kind::Text | Kind::Words => find_either(rest, b'"', b'\\')?,
            };
            match kind {
                Kind::Text => text = Some((self.choice, at..at + length)),
                Kind::Digits if length == 0 => return None,
                Kind::Digits | Kind::Words => {}
            }
            at += length;
            known = place.end;
        }
        (event.get(at..)? == self.event.get(known..)?)
            .then_some(text)
            .flatten()
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
                    self.gaps
                        .extend(gap.map(|(kind, place)| Gap { kind, place }));
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
        let place = text?;
        let kind = Kind::Text;
        self.gaps.push(Gap { kind, place });
        Some(number)
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

    const EVENT: &str = r#"{"id":"a","created":17,"x":null,"obfuscation":"abc","choices":[{"index":1,"delta":{"role":"assistant","content":"one","reasoning":""},"finish_reason":null}],"usage":null}"#;

    #[test]
    fn an_event_that_differs_in_its_text_only_is_known() {
        let template = template(EVENT);
        for text in ["", "x", "two words", "ünïcödé 😀"] {
            let event = EVENT.replace("one", text);
            let (choice, at) = template.find(&event).unwrap();
            assert_eq!((choice, &event[at]), (1, text));
        }
    }

    #[test]
    fn an_event_that_differs_in_what_says_nothing_is_known() {
        let template = template(EVENT);
        for (old, new) in [
            ("\"a\"", "\"another\""),
            ("17", "18000"),
            ("abc", ""),
            ("abc", "tokens, {and} more"),
        ] {
            let event = EVENT.replace(old, new);
            let (choice, at) = template.find(&event).unwrap();
            assert_eq!((choice, &event[at]), (1, "one"), "{new}");
        }
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
        let template = template(EVENT);
        for (old, new) in [
            ("\"a\"", "7"),
            ("\"a\"", "\"b\\n\""),
            ("17", ""),
            ("17", "1.7"),
            ("17", "\"17\""),
            ("null,", "1,"),
            ("abc", "\",\"usage\":{},\"y\":\""),
            ("one", "a\\n"),
            ("one", "\\ud83d"),
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
