//! Batches that somebody else works through: the JSON lines that batch endpoints and `vllm run-batch` read, and the
//! lines that they answer with.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::transport::Head;
use crate::{ChatRequest, Completion, Error, Result};

impl ChatRequest {
    /// The request as one line of a batch file, without the line's end: the format of OpenAI's Batch API and of
    /// `vllm run-batch`. `custom_id` names the answer; it has to be another one for each line.
    ///
    /// ```
    /// use aimlapi::ChatRequest;
    ///
    /// let line = ChatRequest::new("m", "hello").max_tokens(5).batch_line("row-1")?;
    /// assert_eq!(
    ///     line,
    ///     r#"{"custom_id":"row-1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":5}}"#,
    /// );
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input), as [`Client::send`](crate::Client::send) has it.
    pub fn batch_line(&self, custom_id: &str) -> Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            custom_id: &'a str,
            method: &'a str,
            url: &'a str,
            body: &'a ChatRequest,
        }
        self.check()?;
        to_line(&Line {
            custom_id,
            method: "POST",
            url: "/v1/chat/completions",
            body: self,
        })
    }

    /// The request as one of the `requests` that AI/ML API's own batch endpoint (`POST /v1/batches`) takes:
    /// `{"custom_id": .., "params": {..}}`. Put them into `{"requests": [..]}`.
    ///
    /// That endpoint is for Claude models and has Anthropic's rules: [`max_tokens`](ChatRequest::max_tokens) has to be
    /// set, and what the system says is a parameter, `param("system", "Be brief.")`, and no message.
    ///
    /// ```
    /// use aimlapi::ChatRequest;
    ///
    /// let entry = ChatRequest::new("m", "hello").max_tokens(5).batch_entry("row-1")?;
    /// assert_eq!(
    ///     entry,
    ///     r#"{"custom_id":"row-1","params":{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":5}}"#,
    /// );
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input), as [`Client::send`](crate::Client::send) has it.
    pub fn batch_entry(&self, custom_id: &str) -> Result<String> {
        #[derive(Serialize)]
        struct Entry<'a> {
            custom_id: &'a str,
            params: &'a ChatRequest,
        }
        self.check()?;
        to_line(&Entry {
            custom_id,
            params: self,
        })
    }
}

fn to_line(line: &impl Serialize) -> Result<String> {
    serde_json::to_string(line)
        .map_err(|e| Error::input(format!("the request has no JSON form: {e}")))
}

/// The answers in a batch's result file, by their `custom_id`.
///
/// It reads one JSON object after the other, in any order: those of OpenAI's Batch API and `vllm run-batch`
/// (`{"custom_id", "response": {"status_code", "body"}, "error"}`), and those of AI/ML API's batch endpoint
/// (`{"custom_id", "result": {"type", "message"}}`, an Anthropic message), also as one JSON array. They are all held in
/// memory.
///
/// ```
/// use aimlapi::BatchResults;
///
/// let file = r#"{"custom_id": "row-1", "response": {"status_code": 200, "body": {"choices": [{"message": {"content": "yes"}}]}}}"#;
/// let mut results = BatchResults::read(file.as_bytes())?;
/// assert_eq!(results.take("row-1").unwrap()?.text(), "yes");
/// assert!(results.take("row-2").is_none());
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Debug)]
pub struct BatchResults {
    answers: BTreeMap<String, Result<Completion>>,
}

impl BatchResults {
    /// Reads a result file to its end.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if it cannot be read, is not made of results, or has two of one
    /// `custom_id`: what was paid for must not be passed over. The error of a single request is no error of the file:
    /// [`take`](BatchResults::take) returns it.
    pub fn read(reader: impl BufRead) -> Result<BatchResults> {
        let mut answers = BTreeMap::new();
        let values = serde_json::Deserializer::from_reader(reader);
        for value in values.into_iter::<Box<RawValue>>() {
            let value = value.map_err(|e| {
                Error::undecodable(&format!("the results cannot be read: {e}"), "").with_cause(e)
            })?;
            let list: Vec<&RawValue> = match serde_json::from_str(value.get()) {
                Ok(list) => list,
                Err(_) => vec![&value],
            };
            for result in list {
                let number = answers.len() + 1;
                let line: Line<'_> = serde_json::from_str(result.get()).map_err(|e| {
                    let what = format!("result {number} of the batch is none: {e}");
                    Error::undecodable(&what, result.get())
                })?;
                let answer = line.answer(result.get());
                if answers.insert(line.custom_id.clone(), answer).is_some() {
                    let what = format!("two results of the batch are of {:?}", line.custom_id);
                    return Err(Error::undecodable(&what, result.get()));
                }
            }
        }
        Ok(BatchResults { answers })
    }

    /// Takes out the answer to the request with this id, or its error; `None` if the file has neither. To have the
    /// answers in the order of the requests, ask in that order.
    pub fn take(&mut self, custom_id: &str) -> Option<Result<Completion>> {
        self.answers.remove(custom_id)
    }

    /// The ids of the answers that have not been taken, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.answers.keys().map(String::as_str)
    }
}

/// A result. What it quotes stays the text that came, so that `raw()` has every byte.
#[derive(Deserialize)]
struct Line<'a> {
    custom_id: String,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    status_code: Value,
    request_id: Value,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome<'a> {
    #[serde(rename = "type")]
    kind: Value,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

impl Line<'_> {
    fn answer(&self, line: &str) -> Result<Completion> {
        if let Some(response) = self.response {
            return self.answer_in(response.get());
        }
        let result = self.result.map_or(line, RawValue::get);
        let outcome: Outcome<'_> = serde_json::from_str(result).unwrap_or_default();
        match outcome.message {
            Some(message) => of_message(message.get()),
            // An error, or a request that was cancelled or has expired.
            None => Err(Error::unanswered(
                outcome.kind.as_str().unwrap_or_default(),
                self.error.map_or(result, RawValue::get),
            )),
        }
    }

    fn answer_in(&self, response: &str) -> Result<Completion> {
        let Response {
            status_code,
            request_id,
            body,
        } = serde_json::from_str(response).unwrap_or_default();
        let status = status_code.as_u64().and_then(|code| code.try_into().ok());
        let status: u16 = status.unwrap_or(200);
        let id = request_id.as_str().map(str::to_owned);
        let head = Head::recorded(status, id, None, None);
        // vllm run-batch puts an error beside the response, and did put the answer in its place.
        let text = body.or(self.error).map_or(response, RawValue::get);
        if !(200..300).contains(&status) || (body.is_none() && self.error.is_some()) {
            return Err(Error::reported(status, text).with_request_id(&head));
        }
        let mut answer =
            Completion::decode(status, text.to_owned()).map_err(|e| e.with_request_id(&head))?;
        answer.take_head(&head);
        Ok(answer)
    }
}

/// An answer: a chat completion, or an Anthropic message.
fn of_message(text: &str) -> Result<Completion> {
    let completion = match serde_json::from_str::<AnthropicMessage<'_>>(text) {
        Ok(message) => message.into_completion(),
        Err(_) => text.to_owned(),
    };
    Completion::decode(200, completion)
}

#[derive(Deserialize)]
struct AnthropicMessage<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
    #[serde(default)]
    stop_reason: Value,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl AnthropicMessage<'_> {
    /// The JSON of the chat completion that says the same, put together from the message's own text.
    fn into_completion(self) -> String {
        let text = |json: Option<&'_ RawValue>| json.map_or("null", RawValue::get).to_owned();
        let (mut content, mut calls) = (Vec::new(), Vec::new());
        for block in self.content {
            match serde_json::from_str::<Block<'_>>(block.get()) {
                Ok(call) if call.kind == "tool_use" => calls.push(format!(
                    r#"{{"id":{},"type":"function","function":{{"name":{},"arguments":{}}}}}"#,
                    text(call.id),
                    text(call.name),
                    Value::from(call.input.map_or("", RawValue::get)),
                )),
                _ => content.push(block.get()),
            }
        }
        let finish_reason = match self.stop_reason.as_str() {
            Some("end_turn" | "stop_sequence") => "stop".into(),
            Some("max_tokens") => "length".into(),
            Some("tool_use") => "tool_calls".into(),
            _ => self.stop_reason,
        };
        format!(
            r#"{{"id":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":[{}],"tool_calls":[{}]}},"finish_reason":{finish_reason}}}],"usage":{}}}"#,
            text(self.id),
            text(self.model),
            content.join(","),
            calls.join(","),
            text(self.usage),
        )
    }
}
