//! JSON as servers write it. An answer is paid for, so nothing in it that can be understood is refused, and no member
//! of another type than documented costs more than itself.
//!
//! A text is read once, into a flat list of nodes that point into it. Beyond what strict readers take, it may hold
//! halves of surrogate pairs, control characters in strings, `NaN` and `Infinity`, a member twice (the last one
//! counts), and any depth.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

mod node;
mod reader;
mod unescape;

pub(crate) use node::Node;
pub(crate) use reader::string_length;

use reader::Reader;

/// A text that was read, with its nodes in the order of their beginnings.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    text: &'a str,
    nodes: Vec<Span>,
    has_escapes: bool,
}

/// Where a value is in the text: of a string, what is between its quotes.
#[derive(Clone, Copy, Debug)]
struct Span {
    kind: Kind,
    start: u32,
    end: u32,
    /// The number of the first node behind this one and all it holds.
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Null,
    Bool,
    Number,
    Text,
    /// A string with a backslash in it.
    Escaped,
    Array,
    Object,
}

/// What a value is, as far as it matters for writing it anew.
pub(crate) enum Shape {
    Text,
    Array,
    Object,
    Other,
}

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Broken {
    at: usize,
    /// The text ends too early; what there is of it is right.
    pub(crate) is_cut: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_cut {
            "the JSON ends too early"
        } else {
            "the JSON is broken"
        };
        write!(f, "{what}, at byte {}", self.at)
    }
}

impl std::error::Error for Broken {}

impl<'a> Json<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Json<'a>, Broken> {
        // So that every place in it fits into 32 bits.
        if u32::try_from(text.len()).is_err() {
            return Err(Broken {
                at: 0,
                is_cut: false,
            });
        }
        let mut reader = Reader::new(text);
        reader.read()?;
        Ok(Json {
            text,
            nodes: reader.nodes,
            has_escapes: reader.has_escapes,
        })
    }

    /// Whether a string may hold half of a surrogate pair.
    pub(crate) fn has_surrogates(&self) -> bool {
        self.has_escapes && (self.text.contains("\\ud") || self.text.contains("\\uD"))
    }

    /// Whether strict readers take it too.
    pub(crate) fn is_strict(&self) -> bool {
        self.nodes.iter().all(|span| {
            let text = self.slice(*span).as_bytes();
            match span.kind {
                Kind::Text | Kind::Escaped => text.iter().all(|byte| *byte >= b' '),
                Kind::Number => {
                    let digits = text.strip_prefix(b"-").unwrap_or(text);
                    let has_zeros = matches!(digits, [b'0', b'0'..=b'9', ..]);
                    digits.last().is_some_and(u8::is_ascii_digit) && !has_zeros
                }
                _ => true,
            }
        })
    }

    pub(crate) fn root(&self) -> Node<'_> {
        Node { json: self, at: 0 }
    }

    fn slice(&self, span: Span) -> &'a str {
        let place = index(span.start)..index(span.end);
        self.text.get(place).unwrap_or_default()
    }
}

fn index(number: u32) -> usize {
    // Every platform that has sockets has 32 bits.
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Keeps a member as it is, unless it is null.
pub(crate) fn keep(object: &mut Map<String, Value>, name: Cow<'_, str>, value: Node<'_>) {
    if let Some(value) = value.value() {
        object.insert(name.into_owned(), value);
    }
}

/// What a text holds that is JSON and not null.
pub(crate) fn value_of(text: &str) -> Option<Value> {
    Json::read(text).ok()?.root().value()
}

/// Deserializes by the way over JSON text, so that what is stored is read as leniently as what is received.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T>(
    d: D,
    what: &str,
    read: impl Fn(Node<'_>) -> Option<T>,
) -> Result<T, D::Error> {
    let text = Value::deserialize(d)?.to_string();
    let json = Json::read(&text).map_err(D::Error::custom)?;
    read(json.root()).ok_or_else(|| D::Error::custom(format!("expected {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same_as_serde(text: &str) {
        let strict: Option<Value> = serde_json::from_str(text).ok();
        let read = Json::read(text)
            .ok()
            .and_then(|json| json.root().to_value(0));
        assert_eq!(read, strict, "{text}");
    }

    #[test]
    fn it_reads_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.5e3",
            "1E-2",
            "18446744073709551615",
            "-9223372036854775808",
            "\"\"",
            "[]",
            "{}",
            " [ 1 , [ ] , { } ] ",
            r#"{"a":1,"b":[true,null,"c"],"":{"d":{}}}"#,
            r#""\"\\\/\b\f\n\r\tA\ud83d\ude00é""#,
            r#"{"a\nb":"\u00e9"}"#,
            r#"{"a":1,"a":2}"#,
            "\u{feff}1",
            "",
            " ",
            "[",
            "]",
            "{",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1,}",
            "[1}",
            "{]",
            "[}",
            "1 2",
            "01x",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "nul",
            "nulll",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "{1:2}",
            "{\"a\" 1}",
            "[1 2]",
            ",",
            ":",
            "tru",
            "[\"a\":1]",
            "{\"a\":1 \"b\":2}",
            "{\"a\",1}",
        ] {
            same_as_serde(text);
        }
    }

    #[test]
    fn every_text_cut_short_is_known_as_such() {
        let text = r#"{"a": [1, -2.5e3, "b\u00e9\n", {"c": null}], "d": true}"#;
        for end in 0..text.len() {
            let Some(cut) = text.get(..end) else { continue };
            let number = matches!(text.as_bytes().get(end - end.min(1)), Some(b'.' | b'e'));
            assert!(Json::read(cut).unwrap_err().is_cut || number, "{cut}");
        }
        assert!(!Json::read("{\"a\" 1}").unwrap_err().is_cut);
        assert_eq!(
            Json::read("[1,}").unwrap_err().to_string(),
            "the JSON is broken, at byte 3"
        );
    }

    #[test]
    fn it_reads_what_others_refuse() {
        let value = |text: &str| Json::read(text).unwrap().root().to_value(0).unwrap();
        assert_eq!(value(r#""a\ud83d""#), "a\u{fffd}");
        assert_eq!(
            value(r#""\ude00b\ud83d\ud83d\ude00""#),
            "\u{fffd}b\u{fffd}😀"
        );
        assert_eq!(value("\"a\nb\""), "a\nb");
        assert_eq!(
            value("[NaN, -Infinity, 1e999]"),
            serde_json::json!([null, null, null])
        );
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Json::read(&deep).unwrap().root().value(), None);
        assert!(Json::read(&"[".repeat(100_000)).unwrap_err().is_cut);
    }

    #[test]
    fn numbers_are_read_in_every_form() {
        let read = |text: &str| {
            let json = Json::read(text).unwrap();
            (json.root().count(), json.root().float())
        };
        assert_eq!(read("7"), (Some(7), Some(7.0)));
        assert_eq!(read("7.0"), (Some(7), Some(7.0)));
        assert_eq!(read("\" 7 \""), (Some(7), Some(7.0)));
        assert_eq!(read("7.9"), (Some(7), Some(7.9)));
        assert_eq!(read("-1"), (None, Some(-1.0)));
        assert_eq!(read("1e300"), (None, Some(1e300)));
        for odd in ["null", "true", "\"x\"", "[1]", "{}", "NaN", "\"inf\""] {
            assert_eq!(read(odd), (None, None), "{odd}");
        }
    }

    #[test]
    fn halves_of_a_pair_are_joined_across_strings() {
        let (mut half, mut out) = (None, String::new());
        for text in [
            r#""a\ud83d""#,
            r#""""#,
            r#""\ude00b""#,
            r#""\ud83d""#,
            r#""c""#,
            r#""\ude00""#,
        ] {
            Json::read(text)
                .unwrap()
                .root()
                .append_to(&mut half, &mut out);
        }
        assert_eq!((out.as_str(), half), ("a😀b\u{fffd}c\u{fffd}", None));
    }

    #[test]
    fn members_are_found_by_name_and_the_last_one_counts() {
        let json = Json::read(r#"{"a":1,"b":[1,2,3],"\u0061":2,"a":null}"#).unwrap();
        let root = json.root();
        assert_eq!(root.get("a").and_then(Node::count), Some(2));
        assert_eq!(
            root.get("b").map(|b| (b.raw(), b.items().count())),
            Some(("[1,2,3]", 3))
        );
        assert!(root.get("c").is_none() && root.items().next().is_none());
        assert_eq!(root.members().count(), 4);
    }
}
