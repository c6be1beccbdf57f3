//! One recording as text: what a file of a cassette holds. `testing.rs` documents it. Knows no files and no modes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::value_of;
use crate::refusal::one_line;
use crate::transport::Head;
use crate::{ChatRequest, Error, Result};

const VERSION: u32 = 1;

/// No larger recording is written or read, so that a foreign file cannot fill the memory.
pub(crate) const MOST_BYTES: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Tape<'a> {
    version: u32,
    #[serde(borrow)]
    request: &'a RawValue,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_request_id: Option<String>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    usd_spent: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    events: Option<&'a RawValue>,
}

/// Read before the rest, which another version may not have.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// An answer as it was recorded.
pub(crate) struct Recording {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// An answer to be recorded.
pub(crate) enum Answer<'a> {
    Body(&'a str),
    Events(&'a Events),
}

/// The events of a stream so far, as the items of a JSON array.
#[derive(Default)]
pub(crate) struct Events(String);

impl Events {
    pub(crate) fn push(&mut self, event: &str) {
        // Of a stream without an end nothing is kept that could not be written.
        if self.0.len() <= MOST_BYTES {
            self.0.push_str(if self.0.is_empty() { "" } else { "," });
            self.0.push_str("\n    ");
            self.0.push_str(&verbatim(event));
        }
    }
}

/// The text of a recording, or why there can be none.
pub(crate) fn write(canonical: &str, head: &Head, answer: &Answer<'_>) -> Result<String, String> {
    let raw = |json: String| RawValue::from_string(json).map_err(|e| e.to_string());
    let request = raw(pretty(canonical))?;
    let usd_spent = head.usd_spent.map(|usd| raw(usd.to_string())).transpose()?;
    let (body, events) = match answer {
        Answer::Body(body) => (Some(raw(verbatim(body).into_owned())?), None),
        Answer::Events(Events(items)) => (None, Some(raw(format!("[{items}\n  ]"))?)),
    };
    let tape = Tape {
        version: VERSION,
        request: &request,
        status: head.status,
        request_id: head.id().map(str::to_owned),
        client_request_id: head.client_request_id.clone(),
        usd_spent: usd_spent.as_deref(),
        body: body.as_deref(),
        events: events.as_deref(),
    };
    let mut text = serde_json::to_string_pretty(&tape).map_err(|e| e.to_string())?;
    text.push('\n');
    if text.len() > MOST_BYTES {
        return Err(format!("it would be larger than {MOST_BYTES} bytes"));
    }
    Ok(text)
}

/// The answer in a recording of this request, or what is wrong with it.
pub(crate) fn read(text: &str, canonical: &str) -> Result<Recording, String> {
    let damage = |e: serde_json::Error| e.to_string();
    let Version { version } = serde_json::from_str(text).map_err(damage)?;
    if version != VERSION {
        return Err(format!("its version is {version}, not {VERSION}"));
    }
    let tape: Tape<'_> = serde_json::from_str(text).map_err(damage)?;
    let request = tape.request.get();
    // An escape takes six times the byte it stands for, and a float may have zeros to spare. A request that is longer
    // still is another one, and not worth the memory that its value takes.
    let length = request.bytes().filter(|b| !b.is_ascii_whitespace()).count();
    if length > canonical.len() * 6 + 1024 {
        return Err("it holds another request than its name says, and a longer one".to_owned());
    }
    let recorded = value_of(request).ok_or("its request cannot be read")?;
    if sorted(&recorded) != canonical {
        let asked = value(canonical);
        let difference = describe(&differences(&recorded, &asked));
        return Err(format!(
            "it holds another request than its name says: {difference}"
        ));
    }
    // By std, as serde_json's floats may be one place off.
    let usd_spent = tape.usd_spent.map(|usd| usd.get().parse()).transpose();
    let usd_spent = usd_spent.map_err(|_| "its usd_spent is no number")?;
    let head = Head::recorded(
        tape.status,
        tape.request_id,
        tape.client_request_id,
        usd_spent,
    );
    match (tape.body, tape.events) {
        (Some(body), None) => Ok(Recording {
            head,
            body: text_of(body).into_owned().into_bytes(),
        }),
        (None, Some(events)) => {
            let events: Vec<&RawValue> =
                serde_json::from_str(events.get()).map_err(|_| "its events are no list")?;
            Ok(Recording {
                head: head.of_stream(),
                body: stream(&events).into_bytes(),
            })
        }
        _ => Err("it has neither a body nor events, or both".to_owned()),
    }
}

/// Events as a server would send them.
fn stream(events: &[&RawValue]) -> String {
    let mut stream = String::new();
    for event in events {
        for line in text_of(event).split('\n') {
            stream.push_str("data: ");
            stream.push_str(line);
            stream.push('\n');
        }
        stream.push('\n');
    }
    stream.push_str("data: [DONE]\n\n");
    stream
}

/// The request in a recording, if it is one.
pub(crate) fn request_in(text: &str) -> Option<Value> {
    let tape: Tape<'_> = serde_json::from_str(text).ok()?;
    value_of(tape.request.get())
}

/// Text as JSON from which [`text_of`] has every byte back: as it is where it is JSON itself, else as a string.
fn verbatim(text: &str) -> Cow<'_, str> {
    match serde_json::from_str::<&RawValue>(text) {
        // White space around it is not in a RawValue; and what is a string already would lose its quotes.
        Ok(json) if json.get() == text && !text.starts_with('"') => Cow::Borrowed(text),
        _ => Cow::Owned(Value::from(text).to_string()),
    }
}

fn text_of(json: &RawValue) -> Cow<'_, str> {
    let text = json.get();
    match text.starts_with('"').then(|| serde_json::from_str(text)) {
        Some(Ok(string)) => Cow::Owned(string),
        _ => Cow::Borrowed(text),
    }
}

/// The request as sent, without what says whether it is streamed, in one form for all that say the same.
pub(crate) fn canonical(request: &ChatRequest) -> Result<String> {
    let body = String::from_utf8_lossy(&request.body(false)?).into_owned();
    let Some(mut value) = value_of(&body) else {
        return Err(Error::input(
            "the request is nested too deeply to be recorded",
        ));
    };
    if let Some(object) = value.as_object_mut() {
        object.remove("stream_options");
    }
    Ok(sorted(&value))
}

/// The value of a canonical text.
pub(crate) fn value(canonical: &str) -> Value {
    value_of(canonical).unwrap_or_default()
}

/// JSON text with sorted keys, no white space, and floats as std writes them: serde_json's own order and floats differ
/// with its features and versions, and the name of a file must not.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let names: BTreeSet<&String> = object.keys().collect();
            let members: Vec<String> = names
                .into_iter()
                .filter_map(|name| {
                    let value = sorted(object.get(name)?);
                    Some(format!("{}:{value}", Value::from(name.as_str())))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(sorted).collect();
            format!("[{}]", items.join(","))
        }
        Value::Number(number) if number.is_f64() => number
            .as_f64()
            .map_or_else(|| number.to_string(), |float| float.to_string()),
        scalar => scalar.to_string(),
    }
}

/// Indented to stand inside of the file's own object.
fn pretty(canonical: &str) -> String {
    serde_json::to_string_pretty(&value(canonical))
        .unwrap_or_default()
        .replace('\n', "\n  ")
}

/// `gemma-2-27b-it_why-is-the-sky-blue_0123456789abcdef.json`
pub(crate) fn file_name(request: &ChatRequest, canonical: &str) -> String {
    let model = request.model().rsplit('/').next().unwrap_or_default();
    let words = request
        .messages()
        .last()
        .map_or("", |message| message.text());
    format!(
        "{}_{}_{:016x}.json",
        slug(model),
        slug(words),
        fnv1a(canonical.as_bytes())
    )
}

/// At most 40 lower-case letters, digits and hyphens.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(200).map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 40 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// FNV-1a with 64 bits: a few lines, and the same on every platform for ever, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A place where a recorded request and the one that is asked for are not the same.
pub(crate) struct Difference<'a> {
    place: String,
    recorded: Option<&'a Value>,
    asked: Option<&'a Value>,
}

pub(crate) fn differences<'a>(recorded: &'a Value, asked: &'a Value) -> Vec<Difference<'a>> {
    fn compare<'a>(
        place: String,
        recorded: Option<&'a Value>,
        asked: Option<&'a Value>,
        found: &mut Vec<Difference<'a>>,
    ) {
        let below = |name: &str| match place.as_str() {
            "" => name.to_owned(),
            place => format!("{place}.{name}"),
        };
        match (recorded, asked) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    compare(below(name), a.get(name), b.get(name), found);
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                for i in 0..a.len().max(b.len()) {
                    compare(below(&i.to_string()), a.get(i), b.get(i), found);
                }
            }
            (a, b) if a == b => {}
            _ => found.push(Difference {
                place,
                recorded,
                asked,
            }),
        }
    }
    let mut found = Vec::new();
    compare(String::new(), Some(recorded), Some(asked), &mut found);
    found
}

/// The first place with both values, cut, and how many more there are.
pub(crate) fn describe(differences: &[Difference<'_>]) -> String {
    let Some(first) = differences.first() else {
        return "nothing but its form".to_owned();
    };
    let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    let (recorded, asked) = (text(first.recorded), text(first.asked));
    let alike = recorded
        .chars()
        .zip(asked.chars())
        .take_while(|(a, b)| a == b)
        .count();
    // Long prompts begin alike.
    let skipped = if alike > 40 { alike - 20 } else { 0 };
    let cut = |text: &str| {
        let rest: String = text.chars().skip(skipped).collect();
        let mark = if skipped > 0 { "…" } else { "" };
        format!("{mark}{}", one_line(&rest, 60))
    };
    let more = match differences.len() - 1 {
        0 => String::new(),
        1 => ", and in 1 more place".to_owned(),
        more => format!(", and in {more} more places"),
    };
    format!(
        "{}: recorded {}, asked {}{more}",
        first.place,
        cut(&recorded),
        cut(&asked)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn differ(recorded: Value, asked: Value, want: &str) {
        assert_eq!(describe(&differences(&recorded, &asked)), want);
    }

    #[test]
    fn a_difference_is_told_by_its_place_and_both_values() {
        differ(
            json!({"a": [1, {"b": 2}]}),
            json!({"a": [1, {"b": 3}]}),
            "a.1.b: recorded 2, asked 3",
        );
        differ(
            json!({}),
            json!({"a": null}),
            "a: recorded nothing, asked null",
        );
        differ(
            json!({"a": 1, "b": [1], "c": 1}),
            json!({"a": 2, "b": [1, 2], "c": 2}),
            "a: recorded 1, asked 2, and in 2 more places",
        );
        differ(
            json!({"a": 1, "b": 1}),
            json!({"a": "x\ny", "b": 2}),
            r#"a: recorded 1, asked "x\ny", and in 1 more place"#,
        );
        differ(json!({}), json!({}), "nothing but its form");
    }

    #[test]
    fn long_texts_are_cut_around_the_first_difference() {
        let (start, end) = ("0123456789".repeat(9), "z".repeat(90));
        differ(
            json!(format!("{start}old{end}")),
            json!(format!("{start}new")),
            &format!(
                ": recorded …01234567890123456789old{}…, asked …01234567890123456789new\"",
                "z".repeat(37)
            ),
        );
    }

    #[test]
    fn every_byte_of_an_answer_comes_back() {
        for text in [
            "{}",
            " {} ",
            "{\n \"a\" : 1.0e0 }",
            r#"{"half":"\ud83d"}"#,
            "\"a string\"",
            "no JSON",
            "",
            "null",
            "{} {}",
        ] {
            let raw = RawValue::from_string(verbatim(text).into_owned()).unwrap();
            assert_eq!(text_of(&raw), text);
        }
    }

    #[test]
    fn the_canonical_form_depends_on_nothing_but_the_request() {
        let text = |json: &str| sorted(&serde_json::from_str(json).unwrap());
        assert_eq!(
            text(r#"{ "b": [1, 1.0, 1e20], "a": {"d": "é\u00e9\n", "c": null} }"#),
            r#"{"a":{"c":null,"d":"éé\n"},"b":[1,1,100000000000000000000]}"#
        );
        // One of the floats that serde_json reads wrong in the last place unless told otherwise.
        assert_eq!(text("0.9073038322028689"), "0.9073038322028689");
    }

    #[test]
    fn names_are_short_and_plain() {
        let name = |model: &str, words: &str| file_name(&ChatRequest::new(model, words), "{}");
        assert_eq!(
            name("google/Gemma-2", "  Why is the\nsky blue?"),
            "gemma-2_why-is-the-sky-blue_08f44b07b5901a25.json"
        );
        assert_eq!(name("m", "天気"), "m__08f44b07b5901a25.json");
        assert_eq!(
            name("../..", "/etc/passwd"),
            "_etc-passwd_08f44b07b5901a25.json"
        );
        assert!(name(&"m".repeat(999), &"w ".repeat(999)).len() < 110);
    }
}
