//! Batches that somebody else works through: the JSON lines that batch endpoints and `vllm run-batch` read, and the
//! lines that they answer with.

use std::borrow::Cow;
use std::io::BufRead;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::head::Head;
use crate::json::{Json, Node};
use crate::request::Form;
use crate::{ChatRequest, Completion, Error, Result};

impl ChatRequest {
    /// The request as one line of a batch file, without the line's end: the format of OpenAI's Batch API and of
    /// `vllm run-batch`. `custom_id` names the answer; it has to be another one for each line.
    ///
    /// ```
    /// use aimlapi::ChatRequest;
    ///
    /// let line = ChatRequest::new("m", "hello").max_tokens(5).batch_line("row-1")?;
    /// assert!(line.starts_with(
    ///     r#"{"custom_id":"row-1","method":"POST","url":"/v1/chat/completions","body":{"#
    /// ));
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input), as [`Client::send`](crate::Client::send) has it.
    pub fn batch_line(&self, custom_id: &str) -> Result<String> {
        let body = self.body(Form::Whole)?;
        let id = Value::from(custom_id);
        Ok(format!(
            r#"{{"custom_id":{id},"method":"POST","url":"/v1/chat/completions","body":{body}}}"#
        ))
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
    /// assert!(entry.starts_with(r#"{"custom_id":"row-1","params":{"model":"m","#));
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input), as [`Client::send`](crate::Client::send) has it.
    pub fn batch_entry(&self, custom_id: &str) -> Result<String> {
        let params = self.body(Form::Whole)?;
        let id = Value::from(custom_id);
        Ok(format!(r#"{{"custom_id":{id},"params":{params}}}"#))
    }
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
/// let file = r#"{"custom_id": "row-1", "response": {
///     "status_code": 200,
///     "body": {"choices": [{"message": {"content": "yes"}}]}
/// }}"#;
/// let mut results = BatchResults::read(file.as_bytes())?;
/// assert_eq!(results.take("row-1").unwrap()?.text(), "yes");
/// assert!(results.take("row-2").is_none());
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Debug)]
pub struct BatchResults {
    /// Sorted by their ids.
    answers: Vec<Row>,
}

/// An id, and the answer until it is taken.
type Row = (String, Option<Result<Completion>>);

impl BatchResults {
    /// Reads a result file to its end. A `&mut` of a reader is one too.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if it cannot be read, is not made of results, or has two of one
    /// `custom_id`: what was paid for must not be passed over. The error of a single request is no error of the file:
    /// [`take`](BatchResults::take) returns it.
    pub fn read(reader: impl BufRead) -> Result<BatchResults> {
        let mut answers = Vec::new();
        let values = serde_json::Deserializer::from_reader(reader);
        for value in values.into_iter::<Box<RawValue>>() {
            let value = value.map_err(|e| {
                Error::undecodable(&format!("the results cannot be read: {e}"), "").with_cause(e)
            })?;
            read_results(value.get(), &mut answers)?;
        }
        answers.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for pair in answers.windows(2) {
            if let [(one, _), (other, _)] = pair {
                if one == other {
                    let what = format!("two results of the batch are of {one:?}");
                    return Err(Error::undecodable(&what, ""));
                }
            }
        }
        Ok(BatchResults { answers })
    }

    /// Takes out the answer to the request with this id, or its error; `None` if the file has neither. To have the
    /// answers in the order of the requests, ask in that order.
    pub fn take(&mut self, custom_id: &str) -> Option<Result<Completion>> {
        let find = |(id, _): &(String, _)| id.as_str().cmp(custom_id);
        let at = self.answers.binary_search_by(find).ok()?;
        self.answers.get_mut(at)?.1.take()
    }

    /// The ids of the answers that have not been taken, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let left = self.answers.iter().filter(|(_, answer)| answer.is_some());
        left.map(|(id, _)| id.as_str())
    }
}

/// One result, or an array of them. What they quote stays the text that came, so that `raw()` has every byte.
fn read_results(text: &str, answers: &mut Vec<(String, Option<Result<Completion>>)>) -> Result<()> {
    let broken = |why: &str, number: usize, text: &str| {
        let what = format!("result {number} of the batch is none: {why}");
        Error::undecodable(&what, text)
    };
    let json = Json::read(text).map_err(|e| broken(&e.to_string(), answers.len() + 1, text))?;
    let root = json.root();
    let one = Some(root).filter(|root| !root.is_array());
    for result in one.into_iter().chain(root.items()) {
        let Some(id) = result.get("custom_id").and_then(Node::str) else {
            return Err(broken(
                "it has no custom_id",
                answers.len() + 1,
                result.raw(),
            ));
        };
        answers.push((id.into_owned(), Some(answer(result))));
    }
    Ok(())
}

fn answer(line: Node<'_>) -> Result<Completion> {
    let error = line.get("error");
    if let Some(response) = line.get("response") {
        return answer_in(response, error);
    }
    let result = line.get("result").unwrap_or(line);
    match result.get("message") {
        Some(message) => of_message(message),
        // An error, or a request that was cancelled or has expired.
        None => Err(Error::unanswered(
            &result.get("type").and_then(Node::str).unwrap_or_default(),
            error.unwrap_or(result).raw(),
        )),
    }
}

/// The answer in a response. `error` is what stands beside it.
fn answer_in(response: Node<'_>, error: Option<Node<'_>>) -> Result<Completion> {
    let status = response.get("status_code").and_then(Node::count);
    let status = status.and_then(|code| code.try_into().ok()).unwrap_or(200);
    let id = response.get("request_id").and_then(Node::str);
    let head = Head::recorded(status, id.map(Cow::into_owned), None, None);
    let body = response.get("body");
    // vllm run-batch puts an error beside the response, and did put the answer in its place.
    let text = body.or(error).unwrap_or(response).raw();
    if !(200..300).contains(&status) || (body.is_none() && error.is_some()) {
        return Err(Error::reported(status, text).with_request_id(&head));
    }
    let mut answer =
        Completion::decode(status, text.to_owned()).map_err(|e| e.with_request_id(&head))?;
    answer.take_head(&head);
    Ok(answer)
}

/// An answer: a chat completion, or an Anthropic message.
fn of_message(message: Node<'_>) -> Result<Completion> {
    let completion = match message.get("content").filter(|content| content.is_array()) {
        Some(content) => of_anthropic(message, content),
        None => message.raw().to_owned(),
    };
    Completion::decode(200, completion)
}

/// The JSON of the chat completion that says the same, put together from the message's own text.
fn of_anthropic(message: Node<'_>, content: Node<'_>) -> String {
    let text = |of: Node<'_>, name: &str| of.get(name).map_or("null", Node::raw).to_owned();
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    for block in content.items() {
        if block.get("type").and_then(Node::str).as_deref() == Some("tool_use") {
            calls.push(format!(
                r#"{{"id":{},"type":"function","function":{{"name":{},"arguments":{}}}}}"#,
                text(block, "id"),
                text(block, "name"),
                Value::from(block.get("input").map_or("", Node::raw)),
            ));
        } else {
            parts.push(block.raw());
        }
    }
    let finish_reason = text(message, "stop_reason");
    let finish_reason = match finish_reason.as_str() {
        r#""end_turn""# | r#""stop_sequence""# => r#""stop""#,
        r#""max_tokens""# => r#""length""#,
        r#""tool_use""# => r#""tool_calls""#,
        other => other,
    };
    format!(
        r#"{{"id":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":[{}],"tool_calls":[{}]}},"finish_reason":{finish_reason}}}],"usage":{}}}"#,
        text(message, "id"),
        text(message, "model"),
        parts.join(","),
        calls.join(","),
        text(message, "usage"),
    )
}
