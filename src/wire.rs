//! Lenient decoding. An answer is paid for: a field that is missing, null or of another type than documented costs
//! that field and never the answer.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// A string; a number or a boolean as its text; anything else is `None`.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) Option<String>);

/// A non-negative integer, also as a float or in a string; anything else is `None`.
#[derive(Debug, Default)]
pub(crate) struct Count(pub(crate) Option<u64>);

/// A finite number, also in a string; anything else is `None`.
#[derive(Debug, Default)]
pub(crate) struct Float(pub(crate) Option<f64>);

/// An object as `T`; anything else is `None`.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) Option<T>);

/// The objects of an array as `T`s; anything else is empty. More than `N` of them are refused.
#[derive(Debug)]
pub(crate) struct List<T, const N: usize = { usize::MAX }>(pub(crate) Vec<T>);

/// More choices or tool calls than this are an attack and no answer.
pub(crate) const MOST: usize = 1024;

/// Any value; `None` where it is null or nested too deeply to hold.
#[derive(Debug, Default)]
pub(crate) struct Any(pub(crate) Option<Value>);

/// The name of an object's member.
pub(crate) struct Key<'de>(Cow<'de, str>);

/// Decodes an object. What a strict reader refuses although it can be understood is repaired first: half of a
/// surrogate pair becomes U+FFFD, and of two members with one name the last one counts.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    // Not only once the whole is refused: a field that is read on its own would be lost without a word.
    parse(&replace_lone_surrogates(text, |out, _| {
        out.push_str("\\ufffd");
    }))
}

/// Like [`decode`], for text that holds no half of a surrogate pair.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    match serde_json::from_str(text) {
        Ok(Object(object)) => object.ok_or_else(no_object),
        Err(strict) => {
            let value: Option<Value> = serde_json::from_str(text).ok();
            value
                .and_then(|value| parse_value(value).ok())
                .ok_or(strict)
        }
    }
}

pub(crate) fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    let Object(object) = serde_json::from_value(value)?;
    object.ok_or_else(no_object)
}

fn no_object() -> serde_json::Error {
    serde::de::Error::custom("not an object")
}

/// Rewrites, in JSON text, the `\uD800` to `\uDFFF` escapes that are not part of a pair.
pub(crate) fn replace_lone_surrogates(
    text: &str,
    replace: impl Fn(&mut String, &str),
) -> Cow<'_, str> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(next) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += next;
        match (half(text, at), half(text, at + 6)) {
            (Some(High), Some(Low)) => at += 12,
            (Some(_), _) => {
                out.push_str(text.get(copied..at).unwrap_or_default());
                replace(&mut out, text.get(at + 2..at + 6).unwrap_or_default());
                at += 6;
                copied = at;
            }
            (None, _) => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

enum Half {
    High,
    Low,
}
use Half::{High, Low};

/// Which half of a surrogate pair the escape at this place is.
fn half(text: &str, at: usize) -> Option<Half> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16) {
        Ok(0xD800..=0xDBFF) => Some(High),
        Ok(0xDC00..=0xDFFF) => Some(Low),
        _ => None,
    }
}

/// JSON text that keeps its key order. Equal means the same text.
#[derive(Clone)]
pub(crate) struct Json(Box<RawValue>);

impl Json {
    /// The reason why a value has no JSON text, such as a map whose keys are no strings.
    pub(crate) fn new(value: &(impl Serialize + ?Sized)) -> Result<Json, String> {
        serde_json::value::to_raw_value(value)
            .map(Json)
            .map_err(|e| e.to_string())
    }

    pub(crate) fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.get() == other.get()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Json, D::Error> {
        Box::<RawValue>::deserialize(d).map(Json)
    }
}

/// Visitor methods that pass over a value of these types.
macro_rules! skip {
    ($other:expr; $($kind:ident)*) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }
        $(skip!(@$kind $other);)*
    };
    (@unit $other:expr) => { fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($other) } };
    (@bool $other:expr) => { fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> { Ok($other) } };
    (@number $other:expr) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> { Ok($other) }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> { Ok($other) }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> { Ok($other) }
    };
    (@str $other:expr) => { fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> { Ok($other) } };
    (@seq $other:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok($other)
        }
    };
    (@map $other:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            Ok($other)
        }
    };
}

pub(crate) use skip;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Text, D::Error> {
        d.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;
    fn visit_str<E>(self, v: &str) -> Result<Text, E> {
        Ok(Text(Some(v.to_owned())))
    }
    fn visit_string<E>(self, v: String) -> Result<Text, E> {
        Ok(Text(Some(v)))
    }
    fn visit_bool<E>(self, v: bool) -> Result<Text, E> {
        Ok(Text(Some(v.to_string())))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Text, E> {
        Ok(Text(Some(v.to_string())))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Text, E> {
        Ok(Text(Some(v.to_string())))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Text, E> {
        Ok(Text(Some(v.to_string())))
    }
    skip!(Text(None); unit seq map);
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Count, D::Error> {
        d.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

// Up to 2^53 every integer has its own f64, so the cast is exact.
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn whole(v: f64) -> Option<u64> {
    (0.0..9_007_199_254_740_992.0)
        .contains(&v)
        .then_some(v as u64)
}

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;
    fn visit_u64<E>(self, v: u64) -> Result<Count, E> {
        Ok(Count(Some(v)))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(v).ok()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Count, E> {
        Ok(Count(whole(v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Count, E> {
        let v = v.trim();
        Ok(Count(v.parse().ok().or_else(|| whole(v.parse().ok()?))))
    }
    skip!(Count(None); unit bool seq map);
}

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Float, D::Error> {
        d.deserialize_any(FloatVisitor)
    }
}

struct FloatVisitor;

impl<'de> Visitor<'de> for FloatVisitor {
    type Value = Float;
    fn visit_f64<E>(self, v: f64) -> Result<Float, E> {
        Ok(Float(Some(v)))
    }
    #[allow(clippy::as_conversions, clippy::cast_precision_loss)]
    fn visit_u64<E>(self, v: u64) -> Result<Float, E> {
        Ok(Float(Some(v as f64)))
    }
    #[allow(clippy::as_conversions, clippy::cast_precision_loss)]
    fn visit_i64<E>(self, v: i64) -> Result<Float, E> {
        Ok(Float(Some(v as f64)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Float, E> {
        Ok(Float(
            v.trim()
                .parse()
                .ok()
                .filter(|float: &f64| float.is_finite()),
        ))
    }
    skip!(Float(None); unit bool seq map);
}

// Derived, it would ask for T: Default.
impl<T> Default for Object<T> {
    fn default() -> Object<T> {
        Object(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Object<T>, D::Error> {
        d.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(object)))
    }
    skip!(Object(None); unit bool number str seq);
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for ListVisitor<T, N> {
    type Value = List<T, N>;
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Object(one)) = seq.next_element()? {
            if all.len() == N {
                return Err(serde::de::Error::invalid_length(N + 1, &"fewer objects"));
            }
            all.extend(one);
        }
        Ok(List(all))
    }
    skip!(List(Vec::new()); unit bool number str map);
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Any, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        Ok(Any(serde_json::from_str(raw.get())
            .ok()
            .filter(|v: &Value| !v.is_null())))
    }
}

impl Key<'_> {
    pub(crate) fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl std::ops::Deref for Key<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Key<'de>, D::Error> {
        d.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(v.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repaired(text: &str) -> Cow<'_, str> {
        replace_lone_surrogates(text, |out, _| out.push('?'))
    }

    #[test]
    fn only_lone_surrogate_escapes_are_replaced() {
        for (text, want) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""a\ud83d""#, r#""a?""#),
            (r#""\ude00b""#, r#""?b""#),
            (r#""\ud83d\ud83d\ude00""#, r#""?\ud83d\ude00""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\u00e9 é \n""#, r#""\u00e9 é \n""#),
            ("\\ud8", "\\ud8"),
            ("\\", "\\"),
        ] {
            assert_eq!(repaired(text), want, "{text}");
        }
    }

    #[test]
    fn a_field_of_another_type_costs_only_that_field() {
        #[derive(serde::Deserialize, Debug, Default)]
        #[serde(default)]
        struct Sample {
            text: Text,
            count: Count,
            float: Float,
            object: Object<Box<Sample>>,
            list: List<Sample>,
            value: Any,
        }
        for odd in [
            "null",
            "{}",
            "[]",
            "true",
            "-1",
            "-1.5",
            "\"x\"",
            "[[],{},1]",
            "{\"a\":{}}",
        ] {
            let json = format!(
                r#"{{"text":{odd},"count":{odd},"float":{odd},"object":{odd},"list":{odd},"value":{odd},"other":{odd}}}"#
            );
            decode::<Sample>(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
        }
        let json =
            r#"{"text":7,"count":2.0,"float":"0.5","object":{},"list":[1,{},null],"value":null}"#;
        let sample: Sample = decode(json).unwrap();
        assert_eq!(sample.text.0.as_deref(), Some("7"));
        assert_eq!((sample.count.0, sample.float.0), (Some(2), Some(0.5)));
        assert_eq!(
            (
                sample.object.0.is_some(),
                sample.list.0.len(),
                sample.value.0
            ),
            (true, 1, None)
        );
        let twice = r#"{"text":"a","text":"b\ud83d"}"#;
        assert_eq!(
            decode::<Sample>(twice).unwrap().text.0.as_deref(),
            Some("b\u{fffd}")
        );
        let half = r#"{"value":{"text":"b\ud83d"}}"#;
        assert_eq!(
            decode::<Sample>(half).unwrap().value.0,
            Some(serde_json::json!({"text": "b\u{fffd}"}))
        );
        let deep = format!(
            r#"{{"text":"a","value":{}{}}}"#,
            "[".repeat(1000),
            "]".repeat(1000)
        );
        assert_eq!(
            decode::<Sample>(&deep).unwrap().text.0.as_deref(),
            Some("a")
        );
    }
}
