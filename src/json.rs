//! JSON as servers write it. An answer is paid for, so nothing in it that can be understood is refused, and no member
//! of another type than documented costs more than itself.
//!
//! A text is read once, into a flat list of nodes that point into it. Beyond what strict readers take, it may hold
//! halves of surrogate pairs, control characters in strings, `NaN` and `Infinity`, a member twice (the last one
//! counts), and any depth.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

mod reader;

pub(crate) use reader::string_length;

use reader::Reader;

/// As deep as a [`Value`] is made; making and dropping one is recursive.
const MAX_DEPTH: usize = 128;

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

/// A value in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    json: &'a Json<'a>,
    at: usize,
}

impl<'a> Node<'a> {
    fn span(self) -> Span {
        const NOTHING: Span = Span {
            kind: Kind::Null,
            start: 0,
            end: 0,
            next: u32::MAX,
        };
        self.json.nodes.get(self.at).copied().unwrap_or(NOTHING)
    }

    fn slice(self, span: Span) -> &'a str {
        self.json.slice(span)
    }

    pub(crate) fn shape(self) -> Shape {
        match self.span().kind {
            Kind::Text | Kind::Escaped => Shape::Text,
            Kind::Array => Shape::Array,
            Kind::Object => Shape::Object,
            Kind::Null | Kind::Bool | Kind::Number => Shape::Other,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        self.span().kind == Kind::Null
    }

    pub(crate) fn is_object(self) -> bool {
        self.span().kind == Kind::Object
    }

    pub(crate) fn is_array(self) -> bool {
        self.span().kind == Kind::Array
    }

    /// The JSON text of the value, as it came.
    pub(crate) fn raw(self) -> &'a str {
        let span = self.span();
        let quote = u32::from(matches!(span.kind, Kind::Text | Kind::Escaped));
        self.slice(Span {
            start: span.start - quote,
            end: span.end + quote,
            ..span
        })
    }

    /// A string. Half of a surrogate pair is U+FFFD.
    pub(crate) fn str(self) -> Option<Cow<'a, str>> {
        let span = self.span();
        match span.kind {
            Kind::Text => Some(Cow::Borrowed(self.slice(span))),
            Kind::Escaped => {
                let (mut out, mut half) = (String::new(), None);
                unescape(self.slice(span), &mut half, &mut out);
                out.extend(half.map(|_| char::REPLACEMENT_CHARACTER));
                Some(Cow::Owned(out))
            }
            _ => None,
        }
    }

    /// Where a string without escapes is in the text, between its quotes.
    pub(crate) fn plain_string(self) -> Option<Range<usize>> {
        let span = self.span();
        (span.kind == Kind::Text).then(|| index(span.start)..index(span.end))
    }

    /// Where a number that is nothing but digits is in the text.
    pub(crate) fn digits(self) -> Option<Range<usize>> {
        let is_digits = self.raw().bytes().all(|byte| byte.is_ascii_digit());
        let span = self.span();
        (span.kind == Kind::Number && is_digits).then(|| index(span.start)..index(span.end))
    }

    /// Appends a string to `out`. Half of a surrogate pair waits in `half` for the rest, which another string brings.
    pub(crate) fn append_to(self, half: &mut Option<u16>, out: &mut String) {
        let span = self.span();
        match span.kind {
            Kind::Text => {
                let text = self.slice(span);
                if !text.is_empty() {
                    out.extend(half.take().map(|_| char::REPLACEMENT_CHARACTER));
                    out.push_str(text);
                }
            }
            Kind::Escaped => unescape(self.slice(span), half, out),
            _ => {}
        }
    }

    /// A string; a number or a boolean as its text.
    pub(crate) fn text(self) -> Option<String> {
        let span = self.span();
        match span.kind {
            Kind::Number | Kind::Bool => Some(self.slice(span).to_owned()),
            _ => self.str().map(Cow::into_owned),
        }
    }

    /// A non-negative integer, also as a float or in a string.
    // Up to 2^53 every integer has its own f64, so the cast is exact.
    #[allow(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub(crate) fn count(self) -> Option<u64> {
        let text = self.number_text()?;
        let exact = || {
            self.float()
                .filter(|float| (0.0..9_007_199_254_740_992.0).contains(float))
        };
        text.trim()
            .parse()
            .ok()
            .or_else(|| exact().map(|float| float as u64))
    }

    /// A finite number, also in a string.
    pub(crate) fn float(self) -> Option<f64> {
        self.number_text()?
            .trim()
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
    }

    fn number_text(self) -> Option<&'a str> {
        let span = self.span();
        matches!(span.kind, Kind::Number | Kind::Text).then(|| self.slice(span))
    }

    /// The elements of an array; none of anything else.
    pub(crate) fn items(self) -> impl Iterator<Item = Node<'a>> + Clone {
        self.children(Kind::Array)
    }

    /// The members of an object; none of anything else.
    pub(crate) fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Node<'a>)> {
        let mut nodes = self.children(Kind::Object);
        std::iter::from_fn(move || {
            let name = nodes.next()?.str()?;
            Some((name, nodes.next()?))
        })
    }

    /// The last member of this name that is not null.
    pub(crate) fn get(self, name: &str) -> Option<Node<'a>> {
        self.members()
            .filter(|(other, node)| other == name && !node.is_null())
            .last()
            .map(|(_, node)| node)
    }

    fn children(self, kind: Kind) -> Children<'a> {
        let span = self.span();
        let end = if span.kind == kind {
            index(span.next)
        } else {
            0
        };
        Children {
            json: self.json,
            at: self.at + 1,
            end,
        }
    }

    /// The value as serde_json has it; `None` where it is null, or nested too deeply to hold.
    pub(crate) fn value(self) -> Option<Value> {
        self.to_value(0).filter(|value| !value.is_null())
    }

    fn to_value(self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let span = self.span();
        Some(match span.kind {
            Kind::Null => Value::Null,
            Kind::Bool => Value::Bool(self.slice(span) == "true"),
            Kind::Number => {
                let text = self.slice(span);
                let whole = text.parse::<u64>().map(Value::from);
                let whole = whole.or_else(|_| text.parse::<i64>().map(Value::from));
                match whole {
                    // Negative zero is a float.
                    Ok(whole) if text != "-0" => whole,
                    _ => self.float().map_or(Value::Null, Value::from),
                }
            }
            Kind::Text | Kind::Escaped => Value::String(self.str()?.into_owned()),
            Kind::Array => {
                let mut list = Vec::new();
                for item in self.items() {
                    list.push(item.to_value(depth + 1)?);
                }
                Value::Array(list)
            }
            Kind::Object => {
                let mut object = Map::new();
                for (name, node) in self.members() {
                    object.insert(name.into_owned(), node.to_value(depth + 1)?);
                }
                Value::Object(object)
            }
        })
    }
}

#[derive(Clone)]
struct Children<'a> {
    json: &'a Json<'a>,
    at: usize,
    end: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        if self.at >= self.end {
            return None;
        }
        let node = Node {
            json: self.json,
            at: self.at,
        };
        self.at = index(node.span().next);
        Some(node)
    }
}

/// Undoes the escapes of a string that was read. `half` is the first half of a surrogate pair that came before, and the
/// one that is left at the end.
fn unescape(text: &str, half: &mut Option<u16>, out: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.find('\\').unwrap_or(rest.len());
        let (before, escape) = rest.split_at(plain);
        if !before.is_empty() {
            out.extend(half.take().map(|_| char::REPLACEMENT_CHARACTER));
            out.push_str(before);
        }
        let mut chars = escape.chars();
        let c = match (chars.next(), chars.next()) {
            (Some(_), Some('u')) => {
                let unit = escape
                    .get(2..6)
                    .and_then(|digits| u16::from_str_radix(digits, 16).ok());
                rest = escape.get(6..).unwrap_or_default();
                push_unit(unit.unwrap_or_default(), half, out);
                continue;
            }
            (Some(_), Some('b')) => '\u{8}',
            (Some(_), Some('f')) => '\u{c}',
            (Some(_), Some('n')) => '\n',
            (Some(_), Some('r')) => '\r',
            (Some(_), Some('t')) => '\t',
            (Some(_), Some(other)) => other,
            _ => return,
        };
        out.extend(half.take().map(|_| char::REPLACEMENT_CHARACTER));
        out.push(c);
        rest = chars.as_str();
    }
}

/// Appends a UTF-16 unit, joined with the half that waits.
fn push_unit(unit: u16, half: &mut Option<u16>, out: &mut String) {
    if let Some(high) = half.take() {
        if let Some(Ok(joined)) = char::decode_utf16([high, unit]).next() {
            out.push(joined);
            return;
        }
        out.push(char::REPLACEMENT_CHARACTER);
    }
    match unit {
        0xD800..=0xDBFF => *half = Some(unit),
        _ => out.push(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
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
