//! What is asked: a model, messages and parameters, as a plain value.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::encoded::Encoded;
use crate::{
    Content, Error, IntoMessages, Message, Reasoning, ReasoningEffort, ResponseFormat, Result,
    Tool, ToolChoice, WebSearchOptions,
};

mod body;

pub(crate) use body::Form;

/// A request for a chat completion: a model, messages, and whatever parameters are set.
///
/// A plain value: it can be stored, compared, cloned, kept in a set, and sent as often as one likes. It is
/// [`Serialize`], as the body that [`Client::send`](crate::Client::send) puts on the wire, and
/// [`Deserialize`](serde::Deserialize).
///
/// Every setter is named as on the wire. What is not set is not sent, so the server's own default holds. Ranges are
/// the API's and differ from model to model; they are told here and checked there. The methods themselves never
/// fail: what cannot be sent at all, such as a temperature that is no number, is refused by
/// [`send`](crate::Client::send), as
/// [`Input`](crate::ErrorKind::Input).
///
/// ```
/// use aimlapi::{ChatRequest, Message};
///
/// let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
/// let request = ChatRequest::new("openai/gpt-4o-mini", messages)
///     .max_tokens(200)
///     .temperature(0.7);
/// # drop(request);
/// ```
///
/// # Parameters without a setter
///
/// [`param`](ChatRequest::param) sends any other. Those that AI/ML API documents, and some of other servers:
///
/// | parameter | for example |
/// |---|---|
/// | **of searching models** | |
/// | `search_mode` | `.param("search_mode", "web")`, or `academic` |
/// | `search_domain_filter` | `.param("search_domain_filter", vec!["wikipedia.org", "-example.com"])`, at most 10 |
/// | `search_recency_filter` | `.param("search_recency_filter", "week")`: `day`, `week`, `month`, `year` |
/// | `search_after_date_filter`, `search_before_date_filter` | `.param("search_after_date_filter", "3/1/2025")` |
/// | `last_updated_after_filter`, `last_updated_before_filter` | `.param("last_updated_after_filter", "3/1/2025")` |
/// | `return_images`, `return_related_questions` | `.param("return_images", true)` |
/// | `ip` of Bagoodex | `.param("ip", "192.0.2.1")` |
/// | **of a stream** | |
/// | `stream_options` | `.param("stream_options", Value::Null)` sends none; see [`Client::stream`](crate::Client::stream) |
/// | **of OpenAI** | |
/// | `modalities`, `audio` | `.param("modalities", vec!["text", "audio"])`, `.param("audio", json!({ "format": "wav", "voice": "ash" }))` |
/// | `user`, `service_tier`, `store` | `.param("user", "ada")` |
/// | **of Claude** | |
/// | `thinking` | `.param("thinking", json!({ "type": "enabled", "budget_tokens": 2000 }))`, or `adaptive`, or `disabled` |
/// | `system`, `stop_sequences`, `metadata` | `.param("stop_sequences", vec!["END"])`; [`Message::system`] and [`stop`](ChatRequest::stop) do as well |
/// | **of Qwen and ERNIE** | |
/// | `enable_thinking`, `thinking_budget` | `.param("enable_thinking", false)` |
/// | `enable_search`, `search_options` | `.param("search_options", json!({ "forced_search": true }))` |
/// | **of MiniMax** | |
/// | `mask_sensitive_info` | `.param("mask_sensitive_info", true)` |
/// | **of vLLM** | |
/// | `guided_json`, `guided_choice`, `guided_regex`, `guided_grammar`, `guided_whitespace_pattern`, `guided_decoding_backend` | `.param("guided_choice", vec!["yes", "no"])` |
/// | `chat_template`, `chat_template_kwargs`, `documents`, `add_generation_prompt`, `add_special_tokens` | `.param("chat_template_kwargs", json!({ "enable_thinking": false }))` |
/// | `best_of`, `use_beam_search`, `length_penalty`, `early_stopping` | `.param("best_of", 3)` |
/// | `min_tokens`, `ignore_eos`, `stop_token_ids`, `include_stop_str_in_output` | `.param("stop_token_ids", vec![2])` |
/// | `skip_special_tokens`, `spaces_between_special_tokens` | `.param("skip_special_tokens", false)` |
/// | **of llama.cpp** | |
/// | `n_predict`, `grammar` | `.param("grammar", "root ::= \"yes\" \| \"no\"")` |
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    /// Sorted by name.
    params: Vec<(Cow<'static, str>, Encoded)>,
    fold_system: bool,
    client_request_id: Option<String>,
    /// The first thing said that cannot be sent.
    fault: Option<String>,
}

impl ChatRequest {
    /// Asks a model by its name. The messages may be one text, which is what the user says; see [`IntoMessages`].
    pub fn new(model: impl Into<String>, messages: impl IntoMessages) -> ChatRequest {
        ChatRequest {
            model: model.into(),
            messages: messages.into_messages(),
            params: Vec::new(),
            fold_system: false,
            client_request_id: None,
            fault: None,
        }
    }

    /// `max_tokens`: the most tokens that the answer may have; what is longer is cut off, with
    /// [`FinishReason::Length`](crate::FinishReason::Length). At least 1. Default: the model's own.
    pub fn max_tokens(self, tokens: u32) -> Self {
        self.set("max_tokens", tokens)
    }

    /// `max_completion_tokens`: the newer name of [`max_tokens`](Self::max_tokens), which counts the tokens of the
    /// reasoning too. At least 1. Default: the model's own.
    pub fn max_completion_tokens(self, tokens: u32) -> Self {
        self.set("max_completion_tokens", tokens)
    }

    /// `temperature`: how much chance is in the answer, from 0 to 2; 0.2 is sober, 0.8 is varied. Set this or
    /// [`top_p`](Self::top_p), not both. Default: the model's own, mostly 1.
    pub fn temperature(self, temperature: f64) -> Self {
        self.number("temperature", temperature)
    }

    /// `top_p`: only the likeliest tokens that together have this probability are chosen from. 0.01 to 1.
    /// Default: the model's own, mostly 1.
    pub fn top_p(self, probability: f64) -> Self {
        self.number("top_p", probability)
    }

    /// `top_k`: only this many of the likeliest tokens are chosen from. Default: all.
    pub fn top_k(self, tokens: u32) -> Self {
        self.set("top_k", tokens)
    }

    /// `top_a`: drops tokens that are much less likely than the likeliest. 0 to 1. Default: off.
    pub fn top_a(self, share: f64) -> Self {
        self.number("top_a", share)
    }

    /// `min_p`: only tokens at least this likely, relative to the likeliest, are chosen from; in place of
    /// [`top_p`](Self::top_p) and [`top_k`](Self::top_k). 0.001 to 0.999. Default: off.
    pub fn min_p(self, share: f64) -> Self {
        self.number("min_p", share)
    }

    /// `frequency_penalty`: the higher, the less a token is repeated that was used often. -2 to 2. Default: 0.
    pub fn frequency_penalty(self, penalty: f64) -> Self {
        self.number("frequency_penalty", penalty)
    }

    /// `presence_penalty`: the higher, the sooner the answer turns to something new. -2 to 2. Default: 0.
    pub fn presence_penalty(self, penalty: f64) -> Self {
        self.number("presence_penalty", penalty)
    }

    /// `repetition_penalty`: the higher, the less is repeated; 1 changes nothing. Default: the model's own.
    pub fn repetition_penalty(self, penalty: f64) -> Self {
        self.number("repetition_penalty", penalty)
    }

    /// `seed`: the same seed and parameters should give the same answer; servers do their best at it. At least 1.
    /// Default: another one each time.
    pub fn seed(self, seed: u64) -> Self {
        self.set("seed", seed)
    }

    /// `n`: how many answers to give; each is paid for. At least 1. Default: 1. Not documented for Gemma 2.
    pub fn n(self, answers: u32) -> Self {
        self.set("n", answers)
    }

    /// `stop`: the answer ends before the first of these texts, up to 4. Default: none.
    ///
    /// ```
    /// # use aimlapi::ChatRequest;
    /// let request = ChatRequest::new("m", "Count.").stop(["10", "ten"]);
    /// # drop(request);
    /// ```
    pub fn stop<T: Into<String>>(self, sequences: impl IntoIterator<Item = T>) -> Self {
        let sequences: Vec<String> = sequences.into_iter().map(Into::into).collect();
        self.set("stop", sequences)
    }

    /// `logprobs`: whether to tell how likely each token was; see [`Choice::logprobs`](crate::Choice::logprobs).
    /// Default: false.
    pub fn logprobs(self, logprobs: bool) -> Self {
        self.set("logprobs", logprobs)
    }

    /// `top_logprobs`: how many of the likeliest tokens to tell for each place, 0 to 20. Needs
    /// [`logprobs(true)`](Self::logprobs). Default: 0.
    pub fn top_logprobs(self, tokens: u32) -> Self {
        self.set("top_logprobs", tokens)
    }

    /// `logit_bias`: makes tokens, by their ids in the model's tokenizer, likelier (up to 100: chosen always) or less
    /// likely (down to -100: never). Default: none.
    pub fn logit_bias<T: ToString>(self, bias: impl IntoIterator<Item = (T, f64)>) -> Self {
        let (mut map, mut finite) = (Map::new(), true);
        for (token, bias) in bias {
            finite &= bias.is_finite();
            map.insert(token.to_string(), bias.into());
        }
        let request = self.set("logit_bias", map);
        if finite {
            request
        } else {
            request.refuse("logit_bias is not a finite number".to_owned())
        }
    }

    /// `echo`: whether the answer repeats the prompt. Default: false.
    pub fn echo(self, echo: bool) -> Self {
        self.set("echo", echo)
    }

    /// `prediction`: what the answer will mostly be, such as a file that is to be changed in one place: it then comes
    /// faster. Default: none.
    pub fn prediction(self, content: impl Into<Content>) -> Self {
        self.encode(
            "prediction",
            &json!({ "type": "content", "content": content.into() }),
        )
    }

    /// `tools`: what the model may call. Default: none. See [`Tool`].
    pub fn tools(self, tools: impl IntoIterator<Item = Tool>) -> Self {
        let tools: Vec<Tool> = tools.into_iter().collect();
        match tools.iter().find_map(Tool::fault) {
            Some(fault) => self.refuse(fault),
            None => self.encode("tools", &tools),
        }
    }

    /// `tool_choice`: which tools the model may or must call. Default: the server's own, [`ToolChoice::Auto`] where
    /// there are tools.
    pub fn tool_choice(self, choice: ToolChoice) -> Self {
        self.encode("tool_choice", &choice)
    }

    /// `parallel_tool_calls`: whether the model may call several tools at once. Default: the server's own, mostly true.
    pub fn parallel_tool_calls(self, parallel: bool) -> Self {
        self.set("parallel_tool_calls", parallel)
    }

    /// `normalize_tool_schemas`: whether AI/ML API adapts the tools' schemas to what the provider behind it takes.
    /// Default: the API's own.
    pub fn normalize_tool_schemas(self, normalize: bool) -> Self {
        self.set("normalize_tool_schemas", normalize)
    }

    /// `response_format`: text, JSON, or JSON of a given schema. Default: text. See [`ResponseFormat`].
    pub fn response_format(self, format: ResponseFormat) -> Self {
        match format.fault() {
            Some(fault) => self.refuse(fault),
            None => self.encode("response_format", &format),
        }
    }

    /// `reasoning_effort`: how long a reasoning model thinks. Default: the model's own, mostly
    /// [`Medium`](ReasoningEffort::Medium).
    pub fn reasoning_effort(self, effort: ReasoningEffort) -> Self {
        self.encode("reasoning_effort", &effort)
    }

    /// `reasoning`: how a reasoning model thinks, in more detail. Default: the model's own.
    pub fn reasoning(self, reasoning: Reasoning) -> Self {
        self.encode("reasoning", &reasoning)
    }

    /// `provider`: the source that AI/ML API takes the model from, without falling back to another, such as `openai`,
    /// `openrouter` or `google`. Default: `auto`.
    pub fn provider(self, provider: impl Into<String>) -> Self {
        self.set("provider", provider.into())
    }

    /// `web_search_options`: how a searching model searches. Default: the model's own.
    pub fn web_search_options(self, options: WebSearchOptions) -> Self {
        self.encode("web_search_options", &options)
    }

    /// Any other parameter, under its name on the wire. Of several values for one name the last one set counts.
    ///
    /// `model`, `messages` and `stream` are not parameters: they are refused by [`send`](crate::Client::send), as
    /// [`Input`](crate::ErrorKind::Input). [`Value::Null`] is sent as `null`, and serde_json makes a float that is not
    /// finite into it.
    ///
    /// ```
    /// # use aimlapi::ChatRequest;
    /// let request = ChatRequest::new("qwen3", "hello").param("enable_thinking", false);
    /// # drop(request);
    /// ```
    pub fn param(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let name = name.into();
        if matches!(name.as_str(), "model" | "messages" | "stream") {
            return self.refuse(format!(
                "{name:?} is not a parameter: it is said by ChatRequest::new or Client::stream"
            ));
        }
        self.set(name, value)
    }

    /// An id of your own for this request, which AI/ML API echoes and shows in its logs:
    /// [`Completion::client_request_id`](crate::Completion::client_request_id). 1 to 128 of `A-Z a-z 0-9 . _ : -`; the
    /// server would drop any other without a word, so [`send`](crate::Client::send) refuses it, as
    /// [`Input`](crate::ErrorKind::Input).
    /// It travels as a header, `X-Client-Request-Id`.
    pub fn client_request_id(mut self, id: impl Into<String>) -> Self {
        self.client_request_id = Some(id.into());
        self
    }

    /// Puts what system and developer messages say in front of the first user message, and leaves them out: for
    /// models that have no system role, as Gemma 2, where it is not the server that does it.
    ///
    /// ```
    /// # use aimlapi::{ChatRequest, GEMMA_2_27B_IT, Message};
    /// let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
    /// let request = ChatRequest::new(GEMMA_2_27B_IT, messages).fold_system();
    /// let body = serde_json::to_value(&request)?;
    /// assert_eq!(body["messages"][0]["content"], "Be brief.\n\nWhy is the sky blue?");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn fold_system(mut self) -> Self {
        self.fold_system = true;
        self
    }

    /// The model asked.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The conversation so far, oldest first.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The conversation, to be continued: the same request can be sent again with more messages.
    ///
    /// ```no_run
    /// # use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT, Message};
    /// # let client = Client::from_env()?;
    /// let mut request = ChatRequest::new(GEMMA_2_27B_IT, "Why is the sky blue?");
    /// let reply = client.send(&request)?;
    /// request.messages_mut().push(reply.into_message());
    /// request.messages_mut().push(Message::user("And at dusk?"));
    /// println!("{}", client.send(&request)?.text());
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    fn number(self, name: &'static str, value: f64) -> Self {
        if value.is_finite() {
            self.set(name, value)
        } else {
            self.refuse(format!("{name} is not a finite number: {value}"))
        }
    }

    fn set(self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.encode(name, &value.into())
    }

    fn encode(self, name: impl Into<Cow<'static, str>>, value: &impl Serialize) -> Self {
        self.put(name.into(), Encoded::new(value))
    }

    fn put(mut self, name: Cow<'static, str>, json: Result<Encoded, String>) -> Self {
        let json = match json {
            Ok(json) => json,
            Err(reason) => return self.refuse(format!("{name} has no JSON form: {reason}")),
        };
        let found = self.params.binary_search_by(|(other, _)| other.cmp(&name));
        if let Ok(at) = found {
            self.params.remove(at);
        }
        let (Ok(at) | Err(at)) = found;
        self.params.insert(at, (name, json));
        self
    }

    fn refuse(mut self, fault: String) -> Self {
        self.fault.get_or_insert(fault);
        self
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        self.client_request_id.as_deref()
    }

    /// Whether more than one answer is asked for.
    pub(crate) fn asks_for_several(&self) -> bool {
        self.find("n")
            .is_some_and(|n| !matches!(n.get(), "1" | "null"))
    }

    fn find(&self, name: &str) -> Option<&Encoded> {
        let at = self
            .params
            .binary_search_by(|(other, _)| other.as_ref().cmp(name))
            .ok()?;
        self.params.get(at).map(|(_, json)| json)
    }

    /// Refuses what can never be right, or what the server would drop without a word.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(Error::input(fault.as_str()));
        }
        if self.model.trim().is_empty() {
            return Err(Error::input("the model's name is empty"));
        }
        if self.messages.is_empty() {
            return Err(Error::input("there are no messages"));
        }
        if let Some(id) = &self.client_request_id {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
            if id.is_empty() || id.len() > 128 || !id.bytes().all(fits) {
                return Err(Error::input(
                    "client_request_id is not 1 to 128 of A-Z a-z 0-9 . _ : -",
                ));
            }
        }
        Ok(())
    }
}
