//! A whole answer.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::message::Answered;
use crate::refusal;
use crate::transport::Head;
use crate::wire::{self, Any, Count, Float, List, MOST, Object, Text};
use crate::{Error, Message, Result, Role, ToolCall};

/// A model's answer, whole: at least one choice, in the order of their indices.
///
/// What a field does not name is in [`raw`](Completion::raw). `text()` and the other methods that could speak of
/// several choices speak of the first, `choices()[0]`; there is more than one only if
/// [`n`](crate::ChatRequest::n) asked for them.
///
/// It is `Serialize` and `Deserialize` in the wire's own form, so an answer can be stored, and a test can make one:
///
/// ```
/// use aimlapi::{Completion, FinishReason};
///
/// let reply: Completion = serde_json::from_str(
///     r#"{"model": "m", "choices": [{"message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}]}"#,
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
    pub(crate) usd_spent: Option<f64>,
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
    /// A Markdown fence (three backticks, with or without `json`) is removed if it wraps the whole answer, and only then.
    ///
    /// ```
    /// # let reply: aimlapi::Completion =
    /// #     serde_json::from_str(r#"{"choices": [{"message": {"content": "{\"name\": \"Ada\"}"}}]}"#).unwrap();
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

    /// The tools that the model wants called.
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

    /// The answer as a message, to be put into the history of a conversation.
    pub fn into_message(mut self) -> Message {
        self.choices.swap_remove(0).message
    }

    /// All choices, at least one.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// What the answer took; `None` where the server does not say.
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// The addresses that the answer cites: those of the whole answer, then those of the first choice's annotations.
    pub fn citations(&self) -> Vec<&str> {
        let all = self.citations.iter().chain(&self.first().citations);
        all.map(String::as_str).collect()
    }

    /// What the answer cost in US dollars, where the server reports it: `meta.usage.usd_spent`, the header
    /// `x-aimlapi-usd-spent`, or `usage.cost`. It is never computed from a list of prices.
    pub fn usd_spent(&self) -> Option<f64> {
        self.usd_spent
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

    /// Reads a 2xx response's body.
    pub(crate) fn decode(status: u16, body: String) -> Result<Completion> {
        let answer: Answer = match wire::decode(&body) {
            Ok(answer) => answer,
            Err(e) => return Err(undecodable(status, body, e)),
        };
        if answer.choices.0.is_empty() {
            let value = serde_json::from_str(&body).unwrap_or(Value::Null);
            if refusal::is_error(&value) {
                return Err(Error::reported(status, &body));
            }
            return Err(Error::no_answer(status, body, "JSON that holds no answer"));
        }
        if answer.failed() {
            return Err(
                Error::reported(status, &body).with_partial(Some(answer.into_completion(None)))
            );
        }
        Ok(answer.into_completion(Some(body)))
    }
}

fn undecodable(status: u16, body: String, cause: serde_json::Error) -> Error {
    let why = match body.trim_start().as_bytes() {
        [] => "no body, so with no answer",
        [b'<', ..] => "a page and not JSON",
        [b'{', ..] if cause.is_eof() => "JSON that breaks off before its end",
        _ if cause.is_data() => "JSON that holds no answer",
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

/// One of the answers to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub(crate) index: u32,
    pub(crate) message: Message,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) citations: Vec<String>,
}

impl Choice {
    /// Its place among the answers, counted from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The answer as a message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The text of the answer. See [`Message::text`].
    pub fn text(&self) -> &str {
        self.message.text()
    }

    /// What the model thought before it answered. See [`Message::reasoning`].
    pub fn reasoning(&self) -> Option<&str> {
        self.message.reasoning()
    }

    /// The tools that the model wants called.
    pub fn tool_calls(&self) -> &[ToolCall] {
        self.message.tool_calls()
    }

    /// Why the answer ended; `None` where the server does not say.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish_reason.as_ref()
    }

    /// Why the model refused. See [`Message::refusal`].
    pub fn refusal(&self) -> Option<&str> {
        self.message.refusal()
    }

    /// How likely each token was, if [`logprobs`](crate::ChatRequest::logprobs) asked for it and the server says so.
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.logprobs.as_ref()
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// `stop`: the model was done, or came upon a stop sequence.
    Stop,
    /// `length`: the limit of tokens was reached; the answer is cut off.
    Length,
    /// `content_filter`: the provider took something out.
    ContentFilter,
    /// `tool_calls`: the model wants tools called.
    ToolCalls,
    /// Any other reason, such as `end_turn` or `eos`.
    Other(String),
}

impl FinishReason {
    /// The reason's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ContentFilter => "content_filter",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Other(name) => name,
        }
    }

    /// `None` for `""`, which says nothing.
    pub(crate) fn read(name: &str) -> Option<FinishReason> {
        Some(match name {
            "" => return None,
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            "tool_calls" => FinishReason::ToolCalls,
            other => FinishReason::Other(other.to_owned()),
        })
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an answer took, in tokens, as the server counts them. The counts of some providers do not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the request.
    pub prompt_tokens: u64,
    /// Tokens of the answer, those of its reasoning included.
    pub completion_tokens: u64,
    /// Both, as reported; their sum where the server does not say.
    pub total_tokens: u64,
    /// Tokens of the reasoning, where reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Tokens of the request that came from the provider's cache, where reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Usage, D::Error> {
        UsageWire::deserialize(d).map(|wire| wire.usage())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UsageWire {
    prompt_tokens: Count,
    input_tokens: Count,
    completion_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    completion_tokens_details: Object<UsageDetails>,
    prompt_tokens_details: Object<UsageDetails>,
    reasoning_tokens: Count,
    cached_tokens: Count,
    num_cached_tokens: Count,
    prompt_cache_hit_tokens: Count,
    cache_read_input_tokens: Count,
    cost: Any,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UsageDetails {
    reasoning_tokens: Count,
    cached_tokens: Count,
}

impl UsageWire {
    pub(crate) fn usage(&self) -> Usage {
        let prompt_tokens = self.prompt_tokens.0.or(self.input_tokens.0).unwrap_or(0);
        let completion_tokens = self
            .completion_tokens
            .0
            .or(self.output_tokens.0)
            .unwrap_or(0);
        let completion = self.completion_tokens_details.0.as_ref();
        let prompt = self.prompt_tokens_details.0.as_ref();
        Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: self
                .total_tokens
                .0
                .unwrap_or_else(|| prompt_tokens.saturating_add(completion_tokens)),
            reasoning_tokens: completion
                .and_then(|details| details.reasoning_tokens.0)
                .or(self.reasoning_tokens.0),
            cached_tokens: prompt
                .and_then(|details| details.cached_tokens.0)
                .or(self.cached_tokens.0)
                .or(self.num_cached_tokens.0)
                .or(self.prompt_cache_hit_tokens.0)
                .or(self.cache_read_input_tokens.0),
        }
    }

    /// OpenRouter sends a number, Perplexity an object.
    pub(crate) fn cost(&self) -> Option<f64> {
        let cost = self.cost.0.as_ref()?;
        cost.as_f64().or_else(|| cost.get("total_cost")?.as_f64())
    }
}

/// How likely the tokens of an answer were. [`Choice::logprobs`] gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Logprobs {
    /// The tokens of the text.
    #[serde(deserialize_with = "tokens")]
    pub content: Vec<TokenLogprob>,
    /// The tokens of a refusal.
    #[serde(deserialize_with = "tokens", skip_serializing_if = "Vec::is_empty")]
    pub refusal: Vec<TokenLogprob>,
}

/// One token of an answer, and how likely it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenLogprob {
    /// The token as text.
    pub token: String,
    /// The natural logarithm of its probability; the API gives -9999 for very unlikely ones.
    pub logprob: f64,
    /// Its UTF-8 bytes, where the server gives them: a token may be a part of a character.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place, as many as [`top_logprobs`](crate::ChatRequest::top_logprobs) asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

fn tokens<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<TokenLogprob>, D::Error> {
    List::<TokenLogprob>::deserialize(d).map(|list| list.0)
}

impl<'de> Deserialize<'de> for TokenLogprob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<TokenLogprob, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        #[allow(clippy::struct_field_names)]
        struct Token {
            token: Text,
            logprob: Float,
            bytes: Any,
            top_logprobs: List<TokenLogprob>,
        }
        let Token {
            token,
            logprob,
            bytes,
            top_logprobs,
        } = Token::deserialize(d)?;
        Ok(TokenLogprob {
            token: token.0.unwrap_or_default(),
            logprob: logprob.0.unwrap_or_default(),
            bytes: bytes.0.and_then(|bytes| serde_json::from_value(bytes).ok()),
            top_logprobs: top_logprobs.0,
        })
    }
}

/// What a server sends, whole or as one chunk of a stream, as far as this crate has names for it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) id: Text,
    pub(crate) model: Text,
    pub(crate) created: Count,
    pub(crate) choices: List<AnswerChoice, MOST>,
    pub(crate) usage: Object<UsageWire>,
    meta: Object<Meta>,
    citations: Any,
    pub(crate) error: Any,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct AnswerChoice {
    pub(crate) index: Count,
    pub(crate) message: Object<Answered>,
    pub(crate) delta: Object<Answered>,
    pub(crate) finish_reason: Text,
    pub(crate) logprobs: Object<Logprobs>,
    pub(crate) error: Any,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    usage: Object<MetaUsage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MetaUsage {
    usd_spent: Float,
}

impl Answer {
    /// Whether the server says, beside whatever else it says, that it failed.
    pub(crate) fn failed(&self) -> bool {
        let real = |error: &Any| match &error.0 {
            None | Some(Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Object(object)) => !object.is_empty(),
            Some(_) => true,
        };
        real(&self.error) || self.choices.0.iter().any(|choice| real(&choice.error))
    }

    pub(crate) fn usd_spent(&self) -> Option<f64> {
        let reported = self
            .meta
            .0
            .as_ref()
            .and_then(|meta| meta.usage.0.as_ref()?.usd_spent.0);
        reported.or_else(|| self.usage.0.as_ref()?.cost())
    }

    /// Perplexity's list of addresses beside the choices.
    pub(crate) fn citations(&self) -> Vec<String> {
        let list = self.citations.0.as_ref().and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|url| url.as_str().map(str::to_owned))
            .collect()
    }

    fn into_completion(self, raw: Option<String>) -> Completion {
        let (usd_spent, citations) = (self.usd_spent(), self.citations());
        let mut choices: Vec<Choice> = (0..)
            .zip(self.choices.0)
            .map(|(place, choice)| choice.into_choice(place))
            .collect();
        choices.sort_by_key(|choice| choice.index);
        Completion {
            id: self.id.0.unwrap_or_default(),
            model: self.model.0.unwrap_or_default(),
            created: self.created.0.unwrap_or_default(),
            choices,
            usage: self.usage.0.map(|usage| usage.usage()),
            usd_spent,
            citations,
            request_id: None,
            client_request_id: None,
            raw,
            unrecorded: None,
        }
    }
}

impl AnswerChoice {
    fn into_choice(self, place: u32) -> Choice {
        let said = self.message.0.or(self.delta.0);
        let mut message = said.map_or_else(
            || Message::empty(Role::Assistant),
            |Answered(message)| message,
        );
        for call in &mut message.tool_calls {
            // Its place says the same.
            call.extra.remove("index");
        }
        Choice {
            index: self
                .index
                .0
                .and_then(|index| index.try_into().ok())
                .unwrap_or(place),
            citations: take_citations(&mut message),
            message,
            finish_reason: self.finish_reason.0.as_deref().and_then(FinishReason::read),
            logprobs: self.logprobs.0,
        }
    }
}

/// The addresses in a message's annotations, which are not sent back.
pub(crate) fn take_citations(message: &mut Message) -> Vec<String> {
    let Some(Value::Array(annotations)) = message.fields.remove("annotations") else {
        return Vec::new();
    };
    let url = |annotation: &Value| {
        Some(
            annotation
                .pointer("/url_citation/url")?
                .as_str()?
                .to_owned(),
        )
    };
    annotations.iter().filter_map(url).collect()
}

impl Serialize for Completion {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if let Some(raw) = &self.raw {
            return serde_json::from_str::<&RawValue>(raw)
                .map_err(S::Error::custom)?
                .serialize(s);
        }
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("object", "chat.completion")?;
        map.serialize_entry("created", &self.created)?;
        map.serialize_entry("model", &self.model)?;
        map.serialize_entry("choices", &self.choices)?;
        if let Some(usage) = &self.usage {
            map.serialize_entry("usage", usage)?;
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

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut message = self.message.clone();
        if !self.citations.is_empty() {
            let annotation =
                |url| json!({ "type": "url_citation", "url_citation": { "url": url } });
            message.fields.insert(
                "annotations".to_owned(),
                self.citations.iter().map(annotation).collect(),
            );
        }
        let mut map = s.serialize_map(Some(4))?;
        map.serialize_entry("index", &self.index)?;
        map.serialize_entry("message", &message)?;
        map.serialize_entry(
            "finish_reason",
            &self.finish_reason.as_ref().map(FinishReason::as_str),
        )?;
        map.serialize_entry("logprobs", &self.logprobs)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Completion {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Completion, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        Completion::decode(200, raw.get().to_owned()).map_err(D::Error::custom)
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
