//! One recording as text: what a file of a cassette holds. `testing.rs` documents it. Knows no files and no modes.

use std::borrow::Cow;

use serde_json::Value;

use crate::head::Head;
use crate::json::{Json, Node, value_of};
use crate::refusal::one_line;
use crate::request::Form;
use crate::{ChatRequest, Error, Result};

const VERSION: u64 = 1;

/// No larger recording is written or read, so that a foreign file cannot fill the memory.
pub(crate) const MOST_BYTES: usize = 64 << 20;

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
    let mut text = format!("{{\n  \"version\": {VERSION}");
    let mut add = |name: &str, json: &str| {
        for piece in [",\n  \"", name, "\": ", json] {
            text.push_str(piece);
        }
    };
    // Indented to stand inside of the file's own object.
    let request = format!("{:#}", value(canonical));
    add("request", &request.replace('\n', "\n  "));
    add("status", &head.status.to_string());
    let ids = [
        ("request_id", head.id()),
        ("client_request_id", head.client_request_id.as_deref()),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            add(name, &Value::from(id).to_string());
        }
    }
    if let Some(usd) = head.usd_spent {
        add("usd_spent", &usd.to_string());
    }
    match answer {
        Answer::Body(body) => add("body", &verbatim(body)),
        Answer::Events(Events(items)) => {
            add("events", "[");
            text.push_str(items);
            text.push_str("\n  ]");
        }
    }
    text.push_str("\n}\n");
    if text.len() > MOST_BYTES {
        return Err(format!("it would be larger than {MOST_BYTES} bytes"));
    }
    Ok(text)
}

/// The answer in a recording of this request, or what is wrong with it.
pub(crate) fn read(text: &str, canonical: &str) -> Result<Recording, String> {
    let json = Json::read(text).map_err(|e| e.to_string())?;
    let tape = json.root();
    // Before the rest, which another version may not have.
    let version = tape.get("version").ok_or("it has no version")?;
    if version.count() != Some(VERSION) {
        return Err(format!("its version is {}, not {VERSION}", version.raw()));
    }
    let request = tape.get("request").ok_or("it has no request")?;
    // An escape takes six times the byte it stands for, and a float may have zeros to spare. A request that is longer
    // still is another one, and not worth the memory that its value takes.
    let bytes = request.raw().bytes();
    if bytes.filter(|b| !b.is_ascii_whitespace()).count() > canonical.len() * 6 + 1024 {
        return Err("it holds another request than its name says, and a longer one".to_owned());
    }
    let mut recorded = request.value().ok_or("its request cannot be read")?;
    if sorted(&mut recorded) != canonical {
        let asked = value(canonical);
        let difference = describe(&differences(&recorded, &asked));
        return Err(format!(
            "it holds another request than its name says: {difference}"
        ));
    }
    let status = tape.get("status").and_then(Node::count);
    let status = status.and_then(|status| status.try_into().ok());
    let id = |name: &str| match tape.get(name).map(Node::str) {
        Some(None) => Err(format!("its {name} is no text")),
        id => Ok(id.flatten().map(Cow::into_owned)),
    };
    let usd_spent = match tape.get("usd_spent").map(Node::float) {
        Some(None) => return Err("its usd_spent is no number".to_owned()),
        usd => usd.flatten(),
    };
    let head = Head::recorded(
        status.ok_or("its status is no HTTP status")?,
        id("request_id")?,
        id("client_request_id")?,
        usd_spent,
    );
    match (tape.get("body"), tape.get("events")) {
        (Some(body), None) => Ok(Recording {
            head,
            body: text_of(body).into_owned().into_bytes(),
        }),
        (None, Some(events)) if events.is_array() => Ok(Recording {
            head: head.of_stream(),
            body: stream(events).into_bytes(),
        }),
        (None, Some(_)) => Err("its events are no list".to_owned()),
        _ => Err("it has neither a body nor events, or both".to_owned()),
    }
}

/// Events as a server would send them.
fn stream(events: Node<'_>) -> String {
    let mut stream = String::new();
    for event in events.items() {
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
    Json::read(text).ok()?.root().get("request")?.value()
}

/// Text as JSON from which [`text_of`] has every byte back: as it is where it is JSON itself, else as a string.
fn verbatim(text: &str) -> Cow<'_, str> {
    match Json::read(text) {
        // What is a string already would lose its quotes, and white space around a value is none of it.
        Ok(json) if json.is_strict() && json.root().raw() == text && !text.starts_with('"') => {
            Cow::Borrowed(text)
        }
        _ => Cow::Owned(Value::from(text).to_string()),
    }
}

fn text_of(json: Node<'_>) -> Cow<'_, str> {
    json.str().unwrap_or(Cow::Borrowed(json.raw()))
}

/// The request as sent, without what says whether it is streamed, in one form for all that say the same.
pub(crate) fn canonical(request: &ChatRequest) -> Result<String> {
    match value_of(&request.body(Form::Recording)?) {
        Some(mut value) => Ok(sorted(&mut value)),
        None => Err(Error::input(
            "the request is nested too deeply to be recorded",
        )),
    }
}

/// The value of a canonical text.
pub(crate) fn value(canonical: &str) -> Value {
    value_of(canonical).unwrap_or_default()
}

/// JSON text with sorted keys, no white space, and floats as std writes them: serde_json's own order and floats differ
/// with its features and versions, and the name of a file must not.
fn sorted(value: &mut Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(object) => {
                out.push('{');
                for (place, (name, value)) in object.iter().enumerate() {
                    out.push_str(if place == 0 { "" } else { "," });
                    out.push_str(&Value::from(name.as_str()).to_string());
                    out.push(':');
                    write(value, out);
                }
                out.push('}');
            }
            Value::Array(list) => {
                out.push('[');
                for (place, value) in list.iter().enumerate() {
                    out.push_str(if place == 0 { "" } else { "," });
                    write(value, out);
                }
                out.push(']');
            }
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => out.push_str(&float.to_string()),
                None => out.push_str(&number.to_string()),
            },
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    value.sort_all_objects();
    let mut out = String::new();
    write(value, &mut out);
    out
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
                for (name, recorded) in a {
                    compare(below(name), Some(recorded), b.get(name), found);
                }
                for (name, asked) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                    compare(below(name), None, Some(asked), found);
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
            "[NaN]",
            "[\"\u{1}\"]",
            "",
            "null",
            "{} {}",
        ] {
            let json = verbatim(text);
            let strict = serde_json::from_str::<&serde_json::value::RawValue>(&json);
            assert!(strict.is_ok(), "{json}");
            assert_eq!(text_of(Json::read(&json).unwrap().root()), text);
        }
    }

    #[test]
    fn the_canonical_form_depends_on_nothing_but_the_request() {
        let text = |json: &str| sorted(&mut serde_json::from_str(json).unwrap());
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
