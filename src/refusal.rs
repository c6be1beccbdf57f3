//! What a server said when it refused. Error bodies come in some thirty shapes: flat, nested under `error`, lists of
//! complaints, JSON printed into a string, HTML pages, nothing at all. This file finds the sentence in each.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::json::{Json, Node, value_of};

/// How deep a sentence may be hidden: JSON inside a string inside JSON has been seen.
const MAX_DEPTH: usize = 6;

/// Where a sentence is found, the most telling place first.
const PLACES: [&str; 9] = [
    "message",
    "msg",
    "detail",
    "details",
    "error_description",
    "description",
    "title",
    "errors",
    "reason",
];

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) message: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// Reads a body of any kind.
    pub(crate) fn read(body: &str) -> Refusal {
        match Json::read(body) {
            Ok(json) => Refusal::of(&json.root().value().unwrap_or_default()),
            Err(_) => Refusal {
                message: sentence(body, 0),
                ..Refusal::default()
            },
        }
    }

    /// Reads a body that is JSON.
    pub(crate) fn of(value: &Value) -> Refusal {
        // Gemini wraps the object into a list of one.
        let value = value
            .as_array()
            .and_then(|list| list.first())
            .unwrap_or(value);
        let value = failed_choice(value).unwrap_or(value);
        let error = value.get("error").unwrap_or(value);
        let find = |name: &str| {
            [error, value]
                .into_iter()
                .find_map(|place| scalar(place.get(name)?))
        };
        Refusal {
            message: message(value, 0),
            code: find("code").or_else(|| find("type").filter(|kind| kind != "error")),
            request_id: find("requestId").or_else(|| find("request_id")),
            retry_after: retry_delay(error),
        }
    }

    /// Whether waiting cannot help, since the quota or the credit is gone. A server that says when to come back
    /// speaks of a rate, whatever words it uses.
    pub(crate) fn is_final(&self, asked_to_wait: bool) -> bool {
        const CODES: [&str; 6] = [
            "insufficient_quota",
            "quota_exceeded",
            "billing_hard_limit_reached",
            "insufficient_balance",
            "insufficient_credits",
            "insufficient_funds",
        ];
        const WORDS: [&str; 8] = [
            "exceeded your current quota",
            "insufficient quota",
            "insufficient credit",
            "insufficient balance",
            "insufficient funds",
            "out of credit",
            "run out of credit",
            "billing hard limit",
        ];
        if asked_to_wait {
            return false;
        }
        let said = self
            .message
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let code = self
            .code
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        CODES.contains(&code.as_str()) || WORDS.iter().any(|words| said.contains(words))
    }
}

/// Whether a JSON object that came with a 2xx status, or inside a stream, is an error and not an answer.
pub(crate) fn is_error(body: Node<'_>) -> bool {
    let Some(Value::Object(object)) = body.value() else {
        return false;
    };
    match object.get("error") {
        Some(Value::Null | Value::Bool(false)) | None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::Object(inner)) if inner.is_empty() && object.contains_key("choices") => {}
        Some(_) => return true,
    }
    if object.contains_key("choices") {
        return false;
    }
    let says = |key: &str| object.get(key).is_some_and(|v| !v.is_null());
    let named = ["type", "object", "status"]
        .iter()
        .any(|key| object.get(*key).is_some_and(|v| v == "error"));
    named
        || says("detail")
        || (says("message")
            && ["statusCode", "status", "code", "type", "requestId", "error"]
                .iter()
                .any(|key| says(key)))
}

/// Where an answer is no error as a whole, the choice in it that failed.
fn failed_choice(answer: &Value) -> Option<&Value> {
    let failed = |value: &&Value| value.get("error").is_some_and(|error| !error.is_null());
    let choices = answer.get("choices")?.as_array()?;
    choices.iter().find(failed).filter(|_| !failed(&answer))
}

fn message(value: &Value, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value {
        Value::String(text) => sentence(text, depth),
        Value::Array(list) => {
            let all: Vec<String> = list
                .iter()
                .take(3)
                .filter_map(|item| message(item, depth + 1))
                .collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(object) => of_object(object, depth),
        _ => None,
    }
}

fn of_object(object: &Map<String, Value>, depth: usize) -> Option<String> {
    let place = || {
        PLACES
            .iter()
            .find_map(|name| message(object.get(*name)?, depth + 1))
    };
    match object.get("error") {
        // {"error": "Bad Request", "message": "..."}: the name and the sentence.
        Some(Value::String(name)) => match place() {
            Some(said) if said != *name => Some(format!("{name}: {said}")),
            _ => sentence(name, depth),
        },
        Some(inner @ (Value::Object(_) | Value::Array(_))) => {
            message(inner, depth + 1).or_else(place)
        }
        _ => {
            let said = place()?;
            let said = match located(object) {
                Some(location) => format!("{location}: {said}"),
                None => said,
            };
            // OpenRouter: "Provider returned error", and what the provider said beside it.
            match object
                .get("metadata")
                .and_then(|m| message(m.get("raw")?, depth + 1))
            {
                Some(raw) if !said.contains(&raw) => Some(format!("{said}: {raw}")),
                _ => Some(said),
            }
        }
    }
}

/// The place that a validator complains about: `["body", "messages", 0]` is `body.messages.0`.
fn located(object: &Map<String, Value>) -> Option<String> {
    let path: Vec<String> = object
        .get("loc")?
        .as_array()?
        .iter()
        .filter_map(scalar)
        .collect();
    (!path.is_empty()).then(|| path.join("."))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The sentence in a text: what JSON printed into it says, the title of a page, or the text itself.
fn sentence(text: &str, depth: usize) -> Option<String> {
    let text = text.trim();
    let json = text.find(['{', '[']).and_then(|at| text.get(at..));
    let value = json.and_then(value_of);
    if let Some(inner) = value.and_then(|value| message(&value, depth + 1)) {
        return Some(inner);
    }
    let said = if text.starts_with('<') {
        page_title(text)
    } else {
        one_line(text, 1000)
    };
    (!said.is_empty()).then_some(said)
}

/// A page of HTML or XML reduced to its title, else to the text between its tags.
fn page_title(page: &str) -> String {
    // ASCII, so that offsets in the lower-case copy hold in the page.
    let lower = page.to_ascii_lowercase();
    for tag in ["title", "h1"] {
        let inner = lower.find(&format!("<{tag}")).and_then(|at| {
            let start = at + lower.get(at..)?.find('>')? + 1;
            let end = start + lower.get(start..)?.find("</")?;
            page.get(start..end)
        });
        if let Some(title) = inner
            .map(|inner| one_line(inner, 300))
            .filter(|title| !title.is_empty())
        {
            return title;
        }
    }
    let mut text = String::new();
    for piece in page.split('<').take(200) {
        text.push_str(piece.split_once('>').map_or("", |(_, text)| text));
        text.push(' ');
    }
    one_line(&text, 300)
}

/// White space folded, control characters dropped, cut after `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        for c in word.chars() {
            if left == 0 {
                out.push('…');
                return out;
            }
            out.push(c);
            left -= 1;
        }
    }
    out
}

/// Google puts the wait into the body: `details: [{"@type": "...RetryInfo", "retryDelay": "3s"}]`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail.get("retryDelay")?.as_str())?;
    Duration::try_from_secs_f64(delay.strip_suffix('s')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(body: &str, want: &str) {
        assert_eq!(Refusal::read(body).message.as_deref(), Some(want), "{body}");
    }

    #[test]
    fn the_sentence_is_found_in_every_shape() {
        says(
            r#"{"message":"no key","path":"/v1","requestId":"r","statusCode":401}"#,
            "no key",
        );
        says(
            r#"{"error":{"message":"no key","type":"auth","param":null,"code":null}}"#,
            "no key",
        );
        says(r#"{"error":"no key"}"#, "no key");
        says(r#"{"detail":"no key"}"#, "no key");
        says(
            r#"{"error":"Bad Request","message":"no key","statusCode":400}"#,
            "Bad Request: no key",
        );
        says(
            r#"{"detail":[{"loc":["body","n"],"msg":"too big"},{"msg":"bad"}]}"#,
            "body.n: too big; bad",
        );
        says(
            r#"[{"error":{"code":400,"message":"no key","status":"X"}}]"#,
            "no key",
        );
        says(r#"{"message":{"detail":[{"msg":"too big"}]}}"#, "too big");
        says(
            r#"{"message":"400 {\"type\":\"error\",\"error\":{\"message\":\"no key\"}}"}"#,
            "no key",
        );
        says(
            r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\"message\":\"too long\"}"}}}"#,
            "Provider returned error: too long",
        );
        says(
            r#"{"error":null,"choices":[{"index":0},{"error":{"message":"no key"},"message":{"content":"x"}}]}"#,
            "no key",
        );
        says("upstream\n connect error", "upstream connect error");
        says(
            "<html><head><TITLE>502 Bad\n Gateway</TITLE></head><body>x</body></html>",
            "502 Bad Gateway",
        );
        says("<html><body><h1></h1><p>gone</p></body></html>", "gone");
        says("{broken", "{broken");
    }

    #[test]
    fn a_body_that_says_nothing_has_no_sentence() {
        for body in [
            "",
            "   ",
            "{}",
            "null",
            "[]",
            r#"{"error":{}}"#,
            r#"{"error":null}"#,
            "<",
        ] {
            assert_eq!(Refusal::read(body).message, None, "{body}");
        }
    }

    #[test]
    fn nesting_without_end_is_no_danger() {
        let mut text = "\"x\"".to_owned();
        for _ in 0..10 {
            text = format!("{{\"message\":{}}}", Value::String(text));
        }
        assert!(Refusal::read(&text).message.is_some());
        assert!(Refusal::read(&"[".repeat(100_000)).message.is_some());
    }

    #[test]
    fn codes_are_text_also_when_they_came_as_numbers() {
        let code = |body| Refusal::read(body).code;
        assert_eq!(code(r#"{"error":{"code":429}}"#).as_deref(), Some("429"));
        assert_eq!(
            code(r#"{"error":{"code":null,"type":"auth"}}"#).as_deref(),
            Some("auth")
        );
        assert_eq!(code(r#"{"type":"error","error":{}}"#), None);
    }

    #[test]
    fn a_quota_that_is_gone_is_final_and_a_rate_is_not() {
        let gone = Refusal::read(r#"{"error":{"message":"x","code":"insufficient_quota"}}"#);
        assert!(gone.is_final(false));
        assert!(!gone.is_final(true));
        assert!(!Refusal::read(r#"{"message":"Too Many Requests"}"#).is_final(false));
        let google = r#"{"error":{"details":[{"retryDelay":"3s"}]}}"#;
        assert_eq!(
            Refusal::read(google).retry_after,
            Some(Duration::from_secs(3))
        );
    }

    #[test]
    fn an_answer_is_told_from_an_error() {
        let is = |text: &str| is_error(Json::read(text).unwrap().root());
        for error in [
            r#"{"error":{"message":"x"},"choices":[]}"#,
            r#"{"error":"x"}"#,
            r#"{"error":{}}"#,
            r#"{"message":"x","statusCode":"403"}"#,
            r#"{"object":"error","message":"x"}"#,
            r#"{"detail":"x"}"#,
        ] {
            assert!(is(error), "{error}");
        }
        for no_error in [
            r#"{"choices":[],"error":null}"#,
            r#"{"choices":[],"error":{},"message":"x","code":1}"#,
            r#"{"type":"ping"}"#,
            r#"{"message":"x"}"#,
            "[]",
        ] {
            assert!(!is(no_error), "{no_error}");
        }
    }
}
