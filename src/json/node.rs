//! A value in a text that was read, as leniently as its reader wants it.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

use super::unescape::unescape;
use super::{Json, Kind, Shape, Span, index};

/// As deep as a [`Value`] is made; making and dropping one is recursive.
const MAX_DEPTH: usize = 128;

/// A value in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(super) json: &'a Json<'a>,
    pub(super) at: usize,
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

    pub(super) fn to_value(self, depth: usize) -> Option<Value> {
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
