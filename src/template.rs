//! Most events of a stream differ from the one before in nothing but a few words of text. Such an event is known by
//! comparing bytes, and need not be read again.

use std::ops::Range;

use crate::FinishReason;
use crate::completion::index;
use crate::json::Node;
use crate::message::is_sent_back;

/// The last event, around its text, if it did nothing but add that text to one choice.
#[derive(Debug, Default)]
pub(crate) struct Template {
    /// Ends with the quote that opens the text. Empty: there is no template.
    before: String,
    /// Begins with the quote that closes the text.
    after: String,
    choice: u32,
}

impl Template {
    /// Takes the event that was read last.
    pub(crate) fn learn(&mut self, event: &str, root: Node<'_>) {
        self.before.clear();
        self.after.clear();
        let Some((choice, at)) = only_text(root) else {
            return;
        };
        if let (Some(before), Some(after)) = (event.get(..at.start), event.get(at.end..)) {
            self.before.push_str(before);
            self.after.push_str(after);
            self.choice = choice;
        }
    }

    /// Where the text is in an event that is like the last one, and the choice it is of. What stands in the place of the
    /// text holds neither a quote nor a backslash, so it is one string, and means what it says.
    pub(crate) fn find(&self, event: &str) -> Option<(u32, Range<usize>)> {
        if self.before.is_empty() {
            return None;
        }
        let rest = event.strip_prefix(self.before.as_str())?;
        let text = rest.strip_suffix(self.after.as_str())?.as_bytes();
        let is_plain = !text.contains(&b'"') && !text.contains(&b'\\');
        is_plain.then(|| {
            (
                self.choice,
                self.before.len()..self.before.len() + text.len(),
            )
        })
    }
}

/// Where an event's text is, and the choice it is of, if all else in the event changes nothing when it comes again.
fn only_text(root: Node<'_>) -> Option<(u32, Range<usize>)> {
    let mut choices = None;
    for (name, value) in root.members() {
        match &*name {
            "choices" if choices.is_none() => choices = Some(value),
            "choices" => return None,
            "usage" | "meta" | "citations" | "error" if !value.is_null() => return None,
            _ => {}
        }
    }
    let mut choices = choices?.items();
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
            "tool_calls" | "annotations" if !matches!(value.raw(), "null" | "[]") => return None,
            field if is_sent_back(field) && !matches!(value.raw(), "null" | "\"\"") => return None,
            _ => {}
        }
    }
    Some((number, text?))
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

    const EVENT: &str = r#"{"id":"a","choices":[{"index":1,"delta":{"role":"assistant","content":"one","reasoning":""},"finish_reason":null}],"usage":null}"#;

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
    fn an_event_that_differs_otherwise_is_not() {
        let template = template(EVENT);
        for (old, new) in [
            ("\"a\"", "\"b\""),
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
