//! Batches that somebody else works through: the JSON lines that batch endpoints and `vllm run-batch` read, and the
//! lines that they answer with.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Serialize;
use serde_json::{Value, json};

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
/// It reads one JSON object a line, in any order: those of OpenAI's Batch API and `vllm run-batch`
/// (`{"custom_id", "response": {"status_code", "body"}, "error"}`), and those of AI/ML API's batch endpoint
/// (`{"custom_id", "result": {"type", "message"}}`, an Anthropic message), also as one JSON array.
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
    /// [`Decode`](crate::ErrorKind::Decode) if a line is no result, with its number, or cannot be read. The error of a
    /// single request is no error of the file: [`take`](BatchResults::take) returns it.
    pub fn read(mut reader: impl BufRead) -> Result<BatchResults> {
        let mut answers = BTreeMap::new();
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let failed = |e: &dyn std::error::Error| {
                Error::undecodable(&format!("line {number} of the results: {e}"), "")
            };
            if reader
                .read_until(b'\n', &mut line)
                .map_err(|e| failed(&e))?
                == 0
            {
                break;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_slice(&line).map_err(|e| failed(&e))?;
            let results = match value {
                Value::Array(results) => results,
                result => vec![result],
            };
            for result in results {
                let Some(id) = result.get("custom_id").and_then(Value::as_str) else {
                    let text = String::from_utf8_lossy(&line);
                    return Err(Error::undecodable(
                        &format!("line {number} of the results has no custom_id"),
                        &text,
                    ));
                };
                answers.insert(id.to_owned(), answer(&result));
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

fn answer(line: &Value) -> Result<Completion> {
    if let Some(response) = line.get("response").filter(|response| response.is_object()) {
        let status = response
            .get("status_code")
            .and_then(Value::as_u64)
            .and_then(|status| status.try_into().ok());
        let status: u16 = status.unwrap_or(200);
        let body = response.get("body").unwrap_or(&Value::Null).to_string();
        if !(200..300).contains(&status) {
            return Err(Error::reported(status, &body));
        }
        return Completion::decode(status, body);
    }
    let result = line.get("result").unwrap_or(&Value::Null);
    match result.get("message") {
        Some(message) if message.get("choices").is_some() => {
            Completion::decode(200, message.to_string())
        }
        Some(message) if message.get("content").is_some() => {
            Completion::decode(200, of_anthropic(message).to_string())
        }
        // An error, or a request that was cancelled or has expired.
        _ => Err(Error::reported(200, &line.to_string())),
    }
}

/// An Anthropic message as a chat completion.
fn of_anthropic(message: &Value) -> Value {
    let finish = match message.get("stop_reason").and_then(Value::as_str) {
        Some("max_tokens") => "length",
        Some("tool_use") => "tool_calls",
        Some("stop_sequence") => "stop",
        Some(other) => other,
        None => "",
    };
    let blocks = message
        .get("content")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let calls: Vec<Value> = blocks
        .clone()
        .filter(|block| block["type"] == "tool_use")
        .map(call)
        .collect();
    let content: Vec<&Value> = blocks.filter(|block| block["type"] != "tool_use").collect();
    json!({
        "id": message.get("id"),
        "model": message.get("model"),
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content, "tool_calls": calls },
            "finish_reason": finish,
        }],
        "usage": message.get("usage"),
    })
}

fn call(block: &Value) -> Value {
    let arguments = block.get("input").map(Value::to_string);
    json!({ "id": block["id"], "type": "function", "function": { "name": block["name"], "arguments": arguments } })
}
