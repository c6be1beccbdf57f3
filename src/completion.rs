//! A whole answer.

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use crate::encoded::optional;
use crate::head::Head;
use crate::json::{Broken, Json, Node};
use crate::message::MOST;
use crate::refusal;
use crate::{Choice, Error, FinishReason, Message, Result, ToolCall, Usage};

/// A model's answer, whole: at least one choice, in the order of their indices.
///
/// What no method tells is in [`raw`](Completion::raw). [`text()`](Completion::text) and the other methods that could
/// speak of several choices speak of the first of [`choices()`](Completion::choices); there is more than one only if
/// [`n`](crate::ChatRequest::n) asked for them.
///
/// It is [`Serialize`] and [`Deserialize`] in the wire's own form, so an answer can be stored, and a test can make one.
/// What came with the response's headers is not stored: both ids, and a price that only a header told.
///
/// ```
/// use aimlapi::{Completion, FinishReason};
///
/// let reply: Completion = serde_json::from_str(
///     r#"{"choices": [{"message": {"content": "Hello!"}, "finish_reason": "stop"}]}"#,
/// )?;
/// assert_eq!(reply.text(), "Hello!");
/// assert_eq!(reply.finish_reason(), Some(&FinishReason::Stop));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created: u64,
    /// Never empty outside this crate.
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Option<Usage>,
    /// What the provider that is paid reports.
    pub(crate) usd_spent: Option<f64>,
    /// The cost in the usage, which may be that of a provider behind it.
    cost: Option<f64>,
    /// Of the whole answer; a choice has its own besides.
    pub(crate) citations: Vec<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) client_request_id: Option<String>,
    pub(crate) raw: Option<String>,
    pub(crate) unrecorded: Option<String>,
}

impl Completion {
    /// The text of the answer; `""` where there is none, as in one that only calls tools. Text parts are joined.
    pub fn text(&self) -> &str {
        self.first().text()
    }

    /// What the model thought before it answered, where the server shows it. See [`Message::reasoning`].
    pub fn reasoning(&self) -> Option<&str> {
        self.first().reasoning()
    }

    /// The text, parsed as JSON.
    ///
    /// A Markdown fence (three backticks, with or without `json`) is removed if it wraps the whole answer, and only
    /// then.
    ///
    /// ```
    /// # let reply = r#"{"choices": [{"message": {"content": "{\"name\": \"Ada\"}"}}]}"#;
    /// # let reply: aimlapi::Completion = serde_json::from_str(reply).unwrap();
    /// #[derive(serde::Deserialize)]
    /// struct Person {
    ///     name: String,
    /// }
    /// assert_eq!(reply.json::<Person>()?.name, "Ada");
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if the text is not the JSON that `T` needs. The error says where it breaks
    /// and shows the text; [`body()`](Error::body) holds it whole.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let text = unfenced(self.text());
        serde_json::from_str(text).map_err(|e| {
            let what = match self.finish_reason() {
                Some(FinishReason::Length) => {
                    "the answer was cut off at the token limit and is not the JSON asked for"
                }
                _ => "the answer is not the JSON asked for",
            };
            Error::unparsable(what, text, e)
        })
    }

    /// The tools that the model wants called; empty where it wants none.
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.first().tool_calls()
    }

    /// Why the answer ended; `None` where the server does not say.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.first().finish_reason()
    }

    /// The answer as a message.
    pub fn message(&self) -> &Message {
        self.first().message()
    }

    /// The answer as a message, to be put into the history of a conversation: see [`Message`].
    pub fn into_message(mut self) -> Message {
        self.choices.swap_remove(0).message
    }

    /// All choices, at least one.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// What the answer took, in tokens; `None` where the server does not say.
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// The addresses that the answer cites: those of the whole answer, then those of the first choice's annotations.
    pub fn citations(&self) -> Vec<&str> {
        let all = self.citations.iter().chain(&self.first().citations);
        all.map(String::as_str).collect()
    }

    /// What the answer cost in US dollars, where the server reports it: `meta.usage.usd_spent`, else the header
    /// `x-aimlapi-usd-spent`, else `usage.cost`. It is never computed from a list of prices.
    pub fn usd_spent(&self) -> Option<f64> {
        self.usd_spent.or(self.cost)
    }

    /// The server's id of the completion; `""` where it gave none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The model that answered, by the server's name for it; `""` where it gave none.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// When the answer was made, in seconds since 1970; 0 where the server does not say.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The id to quote to the provider's support: the header `x-inference-id`, else `x-request-id`.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The id given with [`client_request_id`](crate::ChatRequest::client_request_id), as the server echoed it.
    pub fn client_request_id(&self) -> Option<&str> {
        self.client_request_id.as_deref()
    }

    /// The JSON exactly as it came; `None` for a streamed answer.
    pub fn raw(&self) -> Option<&str> {
        self.raw.as_deref()
    }

    /// Why a [`Cassette`](crate::Cassette) could not record this answer, such as a full disk; `None` where it did, or
    /// where there is no cassette.
    pub fn unrecorded(&self) -> Option<&str> {
        self.unrecorded.as_deref()
    }

    // Made only with at least one choice; into_message() takes self, so it never loses it.
    #[allow(clippy::indexing_slicing)]
    fn first(&self) -> &Choice {
        &self.choices[0]
    }

    /// Takes what the response's head says and its body does not.
    pub(crate) fn take_head(&mut self, head: &Head) {
        self.request_id = head.id().map(str::to_owned);
        self.client_request_id.clone_from(&head.client_request_id);
        self.usd_spent = self.usd_spent.or(head.usd_spent);
    }

    /// Reads the body of a response with a 2xx status.
    pub(crate) fn decode(status: u16, body: String) -> Result<Completion> {
        let json = match Json::read(&body) {
            Ok(json) => json,
            Err(cause) => return Err(undecodable(status, body, cause)),
        };
        let root = json.root();
        let mut completion = Completion::empty();
        let mut flaws = Flaws::default();
        for (name, value) in root.members() {
            match &*name {
                "choices" => completion.read_choices(value, &mut flaws),
                "error" => flaws.failed |= is_error(value),
                name => completion.read_member(name, value),
            }
        }
        if flaws.too_much {
            let why = "more choices or tool calls than any answer has";
            return Err(Error::no_answer(status, body, why));
        }
        if completion.choices.is_empty() {
            return Err(if refusal::is_error(root) {
                Error::reported(status, &body)
            } else {
                Error::no_answer(status, body, "JSON that holds no answer")
            });
        }
        if flaws.failed {
            return Err(Error::reported(status, &body).with_partial(Some(completion)));
        }
        completion.raw = Some(body);
        Ok(completion)
    }

    pub(crate) fn empty() -> Completion {
        Completion {
            id: String::new(),
            model: String::new(),
            created: 0,
            choices: Vec::new(),
            usage: None,
            usd_spent: None,
            cost: None,
            citations: Vec::new(),
            request_id: None,
            client_request_id: None,
            raw: None,
            unrecorded: None,
        }
    }

    /// A member that is the same in a whole answer and in a chunk of a stream. What a later chunk leaves empty stays.
    pub(crate) fn read_member(&mut self, name: &str, value: Node<'_>) {
        match name {
            "id" if self.id.is_empty() => self.id = value.text().unwrap_or_default(),
            "model" if self.model.is_empty() => self.model = value.text().unwrap_or_default(),
            "created" if self.created == 0 => self.created = value.count().unwrap_or_default(),
            "usage" => {
                let usage = Usage::read_priced(value, &mut self.cost);
                // An empty usage does not undo a real one.
                if self.usage.is_none() || usage != Some(Usage::default()) {
                    self.usage = usage.or(self.usage);
                }
            }
            "meta" => {
                let spent = value
                    .get("usage")
                    .and_then(|usage| usage.get("usd_spent")?.float());
                self.usd_spent = spent.or(self.usd_spent);
            }
            // Perplexity's, beside the choices; every chunk repeats it. What it found came to replace the addresses.
            "citations" | "search_results" if value.is_array() => {
                let url =
                    |node: Node<'_>| Some(node.get("url").unwrap_or(node).str()?.into_owned());
                let urls: Vec<String> = value.items().filter_map(url).collect();
                if !urls.is_empty() && (name == "citations" || self.citations.is_empty()) {
                    self.citations = urls;
                }
            }
            _ => {}
        }
    }

    fn read_choices(&mut self, list: Node<'_>, flaws: &mut Flaws) {
        self.choices.clear();
        for (place, node) in (0..).zip(list.items().filter(|node| node.is_object())) {
            if self.choices.len() == MOST {
                flaws.too_much = true;
                return;
            }
            let choice = Choice::read(node, place, flaws);
            let at = self
                .choices
                .partition_point(|other| other.index <= choice.index);
            self.choices.insert(at, choice);
        }
    }
}

/// What is wrong with an answer that can be read.
#[derive(Default)]
pub(crate) struct Flaws {
    /// The server says, beside whatever else it says, that it failed.
    pub(crate) failed: bool,
    /// There are more choices or tool calls than any answer has: a list of `{}` would take a hundred times its size.
    pub(crate) too_much: bool,
}

/// Whether a member named `error`, of an answer or of a choice, says that it failed.
pub(crate) fn is_error(error: Node<'_>) -> bool {
    !matches!(error.raw(), "null" | "false" | "\"\"" | "{}")
}

fn undecodable(status: u16, body: String, cause: Broken) -> Error {
    let why = match body.trim_start().as_bytes() {
        [] => "no body, so with no answer",
        [b'<', ..] => "a page and not JSON",
        // The start of gzip.
        [0x1f, ..] => "compressed data, which was not asked for",
        _ if cause.is_cut => "JSON that breaks off before its end",
        _ => "what is not JSON",
    };
    Error::no_answer(status, body, why).with_cause(cause)
}

/// The text inside a fence that wraps the whole of it, else the text itself.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"));
    let Some((info, inner)) = inner.and_then(|inner| inner.split_once('\n')) else {
        return text;
    };
    let bare = info.trim().is_empty() || info.trim().eq_ignore_ascii_case("json");
    // A fence inside would mean that the first and the last are not a pair.
    if bare && !inner.contains("```") {
        inner.trim()
    } else {
        text
    }
}

/// The number of a choice.
pub(crate) fn index(node: Node<'_>) -> Option<u32> {
    node.count()?.try_into().ok()
}

/// The addresses in a message's annotations.
pub(crate) fn citations(annotations: Node<'_>) -> Vec<String> {
    let url = |node: Node<'_>| Some(node.get("url_citation")?.get("url")?.str()?.into_owned());
    annotations.items().filter_map(url).collect()
}

impl Serialize for Completion {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Some servers write what is no JSON, such as NaN: then without what no field names.
        let raw = self.raw.as_deref().map(serde_json::from_str::<&RawValue>);
        if let Some(Ok(raw)) = raw {
            return raw.serialize(s);
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("object", "chat.completion")?;
        map.serialize_entry("created", &self.created)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("choices", &self.choices)?;
        if let Some(usage) = &self.usage {
            let cost = self.cost;
            map.serialize_entry("usage", &Priced { usage, cost })?;
        }
        if let Some(usd) = self.usd_spent {
            map.serialize_entry("meta", &json!({ "usage": { "usd_spent": usd } }))?;
        }
        if !self.citations.is_empty() {
            map.serialize_entry("citations", &self.citations)?;
        }
        map.end()
    }
}

struct Priced<'a> {
    usage: &'a Usage,
    cost: Option<f64>,
}

impl Serialize for Priced<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        self.usage.add_to(&mut map)?;
        optional(&mut map, "cost", self.cost.as_ref())?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Completion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Completion, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        Completion::decode(200, Box::<str>::from(raw).into_string()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_removed_only_where_it_wraps_the_whole() {
        for (text, want) in [
            ("{}", "{}"),
            ("```json\n{}\n```", "{}"),
            (" ```\n{}\n``` \n", "{}"),
            ("```JSON\n{}```", "{}"),
            ("Sure: ```json\n{}\n```", "Sure: ```json\n{}\n```"),
            ("```python\n{}\n```", "```python\n{}\n```"),
            (
                "```json\n{}\n``` and ```json\n{}\n```",
                "```json\n{}\n``` and ```json\n{}\n```",
            ),
            ("```", "```"),
            ("``````", "``````"),
        ] {
            assert_eq!(unfenced(text), want, "{text}");
        }
    }
}
