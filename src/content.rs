//! What a message holds: text, or parts such as pictures, files and sound.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::json::{self, Node};
use crate::{Error, Result};

/// What a [`Message`](crate::Message) says: text, or a list of parts.
///
/// Made with [`From`] wherever a method takes `impl Into<Content>`: from a string, a [`ContentPart`], an array or a
/// `Vec` of them.
///
/// ```
/// use aimlapi::{Content, ContentPart};
///
/// assert_eq!(Content::from("hello").as_text(), Some("hello"));
/// let picture = ContentPart::image_url("https://example.com/a.png");
/// let parts = Content::from([ContentPart::text("What is this?"), picture]);
/// assert_eq!(parts.as_text(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// A list of parts, in the order in which the model reads them.
    Parts(Vec<ContentPart>),
}

impl Content {
    /// The text, where the content is plain text and not a list of parts.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Content::Text(text) => Some(text),
            Content::Parts(_) => None,
        }
    }

    /// As parts, whatever it was.
    pub(crate) fn into_parts(self) -> Vec<ContentPart> {
        match self {
            Content::Text(text) => vec![ContentPart::text(text)],
            Content::Parts(parts) => parts,
        }
    }

    /// The text of all parts; `None` where [`Content::as_text`] has it.
    pub(crate) fn joined_text(&self) -> Option<String> {
        match self {
            Content::Text(_) => None,
            Content::Parts(parts) => Some(parts.iter().filter_map(ContentPart::as_text).collect()),
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::Text(text.to_owned())
    }
}

impl From<&String> for Content {
    fn from(text: &String) -> Content {
        Content::Text(text.clone())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::Text(text)
    }
}

impl From<ContentPart> for Content {
    fn from(part: ContentPart) -> Content {
        Content::Parts(vec![part])
    }
}

impl<const N: usize> From<[ContentPart; N]> for Content {
    fn from(parts: [ContentPart; N]) -> Content {
        Content::Parts(parts.into())
    }
}

impl From<Vec<ContentPart>> for Content {
    fn from(parts: Vec<ContentPart>) -> Content {
        Content::Parts(parts)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Content::Text(text) => text.serialize(s),
            Content::Parts(parts) => parts.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Content, D::Error> {
        json::deserialize(d, "a string or a list of parts", Content::read)
    }
}

impl Content {
    /// `None` where it is neither text nor a list.
    pub(crate) fn read(node: Node<'_>) -> Option<Content> {
        if node.is_array() {
            let parts = node.items().filter_map(Node::value).map(ContentPart::raw);
            return Some(Content::Parts(parts.collect()));
        }
        node.str().map(|text| Content::Text(text.into_owned()))
    }
}

/// One part of a [`Content`]: text, a picture, a file, sound, a film.
///
/// Which kinds a model takes is the model's affair; the API refuses what it cannot use.
///
/// ```no_run
/// use aimlapi::{ContentPart, Message};
///
/// let picture = ContentPart::image_bytes(&std::fs::read("cat.jpg")?)?.detail("low");
/// let question = Message::user([ContentPart::text("What is this?"), picture]);
/// let reply = aimlapi::chat("google/gemini-2.5-flash", question)?;
/// println!("{}", reply.text());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContentPart(Map<String, Value>);

impl ContentPart {
    /// Text: `{"type": "text", "text": ..}`.
    pub fn text(text: impl Into<String>) -> ContentPart {
        ContentPart::of("text", text.into().into())
    }

    /// A picture at a URL, which the server fetches, or a `data:` URL: `{"type": "image_url", "image_url": {"url": ..}}`.
    pub fn image_url(url: impl Into<String>) -> ContentPart {
        ContentPart::of("image_url", json!({ "url": url.into() }))
    }

    /// A picture by its bytes, sent as a base64 `data:` URL. Its type is told from its first bytes.
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if it is none of PNG, JPEG, GIF and WEBP, the formats that the API documents.
    pub fn image_bytes(bytes: &[u8]) -> Result<ContentPart> {
        let kind = match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
            [0xff, 0xd8, 0xff, ..] => "image/jpeg",
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => "image/webp",
            _ => {
                return Err(Error::input(
                    "the bytes are no PNG, JPEG, GIF or WEBP picture",
                ));
            }
        };
        Ok(ContentPart::image_url(data_url(kind, bytes)))
    }

    /// How closely a picture is looked at: `low`, `high` or `auto`. Of no effect on other parts.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> ContentPart {
        if let Some(image) = self.0.get_mut("image_url").and_then(Value::as_object_mut) {
            image.insert("detail".to_owned(), detail.into().into());
        }
        self
    }

    /// A file by its bytes, sent as a base64 `data:` URL. The API documents PDF; any other file is sent as
    /// `text/plain` if it is UTF-8, else as `application/octet-stream`.
    pub fn file_data(filename: impl Into<String>, bytes: &[u8]) -> ContentPart {
        let kind = match bytes {
            [b'%', b'P', b'D', b'F', b'-', ..] => "application/pdf",
            _ if std::str::from_utf8(bytes).is_ok() => "text/plain",
            _ => "application/octet-stream",
        };
        ContentPart::of(
            "file",
            json!({ "filename": filename.into(), "file_data": data_url(kind, bytes) }),
        )
    }

    /// A file that was uploaded before, by its id.
    pub fn file_id(id: impl Into<String>) -> ContentPart {
        ContentPart::of("file", json!({ "file_id": id.into() }))
    }

    /// Sound by its bytes. The API documents the formats `wav` and `mp3`.
    pub fn input_audio(bytes: &[u8], format: impl Into<String>) -> ContentPart {
        ContentPart::of(
            "input_audio",
            json!({ "data": STANDARD.encode(bytes), "format": format.into() }),
        )
    }

    /// A film at a URL, which the server fetches, or a `data:` URL.
    pub fn video_url(url: impl Into<String>) -> ContentPart {
        ContentPart::of("video_url", json!({ "url": url.into() }))
    }

    /// Lets the provider cache the prompt up to and including this part: `"cache_control": {"type": "ephemeral"}`,
    /// which the API keeps for 5 minutes unless [`cache_ttl`](ContentPart::cache_ttl) says otherwise.
    #[must_use]
    pub fn cached(mut self) -> ContentPart {
        self.0
            .insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
        self
    }

    /// Like [`cached`](ContentPart::cached), for a time that the API documents as `5m` or `1h`.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: impl Into<String>) -> ContentPart {
        self.0.insert(
            "cache_control".to_owned(),
            json!({ "type": "ephemeral", "ttl": ttl.into() }),
        );
        self
    }

    /// Any other part, as it is on the wire. What is no JSON object is sent as a text part that holds it.
    pub fn raw(part: Value) -> ContentPart {
        match part {
            Value::Object(part) => ContentPart(part),
            Value::String(text) => ContentPart::text(text),
            other => ContentPart::text(other.to_string()),
        }
    }

    fn of(kind: &str, value: Value) -> ContentPart {
        let mut part = Map::new();
        part.insert("type".to_owned(), kind.into());
        part.insert(kind.to_owned(), value);
        ContentPart(part)
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        // Absent in a few servers' answers: a part that has text is one.
        match self.0.get("type").and_then(Value::as_str) {
            None | Some("text" | "output_text") => self.0.get("text")?.as_str(),
            Some(_) => None,
        }
    }

    /// The text of a part of type `thinking`: a string, or a list of text parts.
    pub(crate) fn thinking(&self) -> Option<String> {
        match self.0.get("thinking")? {
            Value::String(text) => Some(text.clone()),
            Value::Array(parts) => Some(
                parts
                    .iter()
                    .filter_map(|part| part.get("text")?.as_str())
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Lengthens this part by the next piece of a stream, if both are text or both are thinking.
    pub(crate) fn append(&mut self, next: &ContentPart) -> bool {
        let both_text = self.as_text().is_some() && next.as_text().is_some();
        let both_have = |name| self.0.contains_key(name) && next.0.contains_key(name);
        if !both_text && !both_have("thinking") {
            return false;
        }
        for (name, more) in &next.0 {
            match self.0.get_mut(name) {
                Some(old) if name == "text" || name == "thinking" => lengthen(old, more),
                // Such as the signature, which comes last.
                _ => drop(self.0.insert(name.clone(), more.clone())),
            }
        }
        true
    }
}

fn lengthen(old: &mut Value, more: &Value) {
    match (old, more) {
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (Value::Array(parts), Value::Array(more)) => {
            for piece in more {
                let last = parts.last_mut().and_then(|part| part.get_mut("text"));
                match (last, piece.get("text")) {
                    (Some(text), Some(more)) => lengthen(text, more),
                    _ => parts.push(piece.clone()),
                }
            }
        }
        _ => {}
    }
}

fn data_url(kind: &str, bytes: &[u8]) -> String {
    let mut url = format!("data:{kind};base64,");
    STANDARD.encode_string(bytes, &mut url);
    url
}

impl Serialize for ContentPart {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for ContentPart {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ContentPart, D::Error> {
        let part =
            |node: Node<'_>| (node.is_object() || node.str().is_some()).then(|| node.value());
        json::deserialize(d, "an object or a string", |node| {
            part(node).flatten().map(ContentPart::raw)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_first_bytes() {
        let url = |bytes: &[u8]| match ContentPart::image_bytes(bytes) {
            Ok(part) => part.0["image_url"]["url"].as_str().unwrap().to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            url(b"\x89PNG\r\n\x1a\n"),
            "data:image/png;base64,iVBORw0KGgo="
        );
        assert_eq!(url(b"\xff\xd8\xff\xe0"), "data:image/jpeg;base64,/9j/4A==");
        assert_eq!(url(b"GIF89a"), "data:image/gif;base64,R0lGODlh");
        assert_eq!(
            url(b"RIFF\0\0\0\0WEBPVP8 "),
            "data:image/webp;base64,UklGRgAAAABXRUJQVlA4IA=="
        );
        for other in [&b"<svg/>"[..], b"", b"RIFF\0\0\0\0WAVE", b"BM"] {
            assert_eq!(
                url(other),
                "the bytes are no PNG, JPEG, GIF or WEBP picture"
            );
        }
    }

    // Not as text: a feature of serde_json decides on the order of the keys.
    #[track_caller]
    fn assert_wire(part: ContentPart, json: &str) {
        let part = serde_json::to_value(part).unwrap();
        assert_eq!(part, serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn every_part_has_its_wire_form() {
        assert_wire(ContentPart::text("a"), r#"{"text":"a","type":"text"}"#);
        assert_wire(
            ContentPart::image_url("u").detail("low"),
            r#"{"image_url":{"detail":"low","url":"u"},"type":"image_url"}"#,
        );
        assert_wire(
            ContentPart::file_data("a.pdf", b"%PDF-"),
            r#"{"file":{"file_data":"data:application/pdf;base64,JVBERi0=","filename":"a.pdf"},"type":"file"}"#,
        );
        assert_wire(
            ContentPart::file_id("f"),
            r#"{"file":{"file_id":"f"},"type":"file"}"#,
        );
        assert_wire(
            ContentPart::input_audio(b"abc", "wav"),
            r#"{"input_audio":{"data":"YWJj","format":"wav"},"type":"input_audio"}"#,
        );
        assert_wire(
            ContentPart::video_url("u"),
            r#"{"type":"video_url","video_url":{"url":"u"}}"#,
        );
        assert_wire(
            ContentPart::text("a").cached(),
            r#"{"cache_control":{"type":"ephemeral"},"text":"a","type":"text"}"#,
        );
        assert_wire(
            ContentPart::text("a").cache_ttl("1h"),
            r#"{"cache_control":{"ttl":"1h","type":"ephemeral"},"text":"a","type":"text"}"#,
        );
        assert_wire(ContentPart::raw(json!({"type":"x"})), r#"{"type":"x"}"#);
    }
}
