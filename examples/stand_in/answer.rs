//! The answer: made up, honest about it, and in the form that the request asks for.

use std::slice;

use serde_json::{Value, json};

use super::sample::sample;

/// What to say about a question with this word in it.
const CANNED: [(&str, &str); 6] = [
    (
        "sky",
        "Air scatters sunlight, and it scatters blue far more than red because blue has the \
         shorter waves. So blue reaches your eyes from every direction, and the sky looks blue.",
    ),
    (
        "rust",
        "In Rust, the compiler knows who owns a value and who has only borrowed it. That makes \
         programs memory-safe without a garbage collector.",
    ),
    ("france", "The capital of France is Paris, on the Seine."),
    (
        "haiku",
        "A server at home\nanswers all that you ask it:\nno one is inside.",
    ),
    ("hello", "Hello! Ask me why the sky is blue."),
    ("review", "Good."),
];

const CHUNK: &str = "chat.completion.chunk";

pub(super) struct Answer<'a> {
    request: &'a Value,
    id: String,
    created: u64,
    text: String,
    call: Option<Call<'a>>,
    finish_reason: &'static str,
}

struct Call<'a> {
    name: &'a str,
    arguments: String,
}

impl<'a> Answer<'a> {
    pub(super) fn to(request: &'a Value) -> Self {
        let call = call(request);
        let whole = if call.is_some() {
            String::new()
        } else {
            content(request)
        };
        let limit = ["max_completion_tokens", "max_tokens"];
        let limit = limit.iter().find_map(|key| request[key].as_u64());
        let limit = limit.unwrap_or(u64::MAX);
        let text: String = words(&whole).zip(0..limit).map(|(word, _)| word).collect();
        let finish_reason = match &call {
            Some(_) => "tool_calls",
            None if text.len() < whole.len() => "length",
            None => "stop",
        };
        Self {
            request,
            id: format!("{:016x}", super::random()),
            created: super::now(),
            text,
            call,
            finish_reason,
        }
    }

    /// The answer as one body.
    pub(super) fn completion(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        if let Some(call) = &self.call {
            message["tool_calls"] = json!([self.tool_call(call.name, &call.arguments)]);
        }
        let choice = |index| {
            json!({
                "index": index,
                "message": message,
                "logprobs": self.logprobs(&self.text),
                "finish_reason": self.finish_reason,
            })
        };
        let choices: Vec<_> = (0..self.n()).map(choice).collect();
        self.priced(self.body("chat.completion", &choices))
    }

    /// The answer as a stream's events.
    pub(super) fn chunks(&self) -> Vec<Value> {
        let mut choices = vec![json!({"delta": {"role": "assistant", "content": ""}})];
        for word in words(&self.text) {
            choices.push(json!({"delta": {"content": word}, "logprobs": self.logprobs(word)}));
        }
        if let Some(call) = &self.call {
            let mut tool_call = self.tool_call(call.name, "");
            tool_call["index"] = json!(0);
            choices.push(json!({"delta": {"tool_calls": [tool_call]}}));
            let letters: Vec<char> = call.arguments.chars().collect();
            for fragment in letters.chunks(letters.len().div_ceil(3).max(1)) {
                let function = json!({"arguments": String::from_iter(fragment)});
                let tool_call = json!({"index": 0, "function": function});
                choices.push(json!({"delta": {"tool_calls": [tool_call]}}));
            }
        }
        choices.push(json!({"delta": {}, "finish_reason": self.finish_reason}));

        let mut chunks = Vec::new();
        for index in 0..self.n() {
            for choice in &mut choices {
                choice["index"] = json!(index);
                chunks.push(self.body(CHUNK, slice::from_ref(choice)));
            }
        }
        if self.request["stream_options"]["include_usage"] == true {
            chunks.push(self.priced(self.body(CHUNK, &[])));
        }
        chunks
    }

    /// The number of choices; bounded, because each takes memory.
    fn n(&self) -> u32 {
        let n = self.request["n"].as_u64().unwrap_or(1);
        u32::try_from(n.clamp(1, 16)).unwrap_or(1)
    }

    fn body(&self, object: &str, choices: &[Value]) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.id),
            "object": object,
            "created": self.created,
            "model": self.request["model"],
            "choices": choices,
        })
    }

    /// With a word counted as a token, at made-up credits of which 2,000,000 are a dollar.
    fn priced(&self, mut body: Value) -> Value {
        let arguments = self.call.as_ref().map_or("", |call| &call.arguments);
        let prompts = messages(self.request).iter().map(text);
        let prompt: u32 = prompts.map(|it| count(&it)).sum();
        let completion = self.n() * (count(&self.text) + count(arguments));
        let total = prompt + completion;
        body["usage"] = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
        });
        let (credits, usd) = (2 * total, f64::from(2 * total) / 2e6);
        body["meta"] = json!({"usage": {"credits_used": credits, "usd_spent": usd}});
        body
    }

    fn tool_call(&self, name: &str, arguments: &str) -> Value {
        json!({
            "id": format!("call_{}", self.id),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        })
    }

    fn logprobs(&self, text: &str) -> Value {
        if self.request["logprobs"] != true {
            return Value::Null;
        }
        let token = |word: &str| {
            // The longer a word, the less one could have guessed it.
            let logprob = word.bytes().map(|_| -0.0625).sum::<f64>();
            let token = json!({"token": word, "logprob": logprob, "bytes": word.as_bytes()});
            let mut chosen = token.clone();
            chosen["top_logprobs"] = json!([token]);
            chosen
        };
        json!({"content": words(text).map(token).collect::<Vec<_>>(), "refusal": null})
    }
}

/// Each with the white space after it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

fn count(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

fn messages(request: &Value) -> &[Value] {
    request["messages"].as_array().map_or(&[], Vec::as_slice)
}

/// The user's last message.
fn question(request: &Value) -> &Value {
    let user = messages(request).iter().rfind(|it| it["role"] == "user");
    user.unwrap_or(&Value::Null)
}

/// What a tool said, if it spoke last.
fn tool_output(request: &Value) -> Option<String> {
    let last = messages(request).last()?;
    (last["role"] == "tool").then(|| text(last))
}

fn text(message: &Value) -> String {
    match &message["content"] {
        Value::Array(parts) => join(parts.iter().filter_map(|part| part["text"].as_str())),
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// A call of the tool that `tool_choice` names, or of the first; none when a tool just answered.
fn call(request: &Value) -> Option<Call<'_>> {
    let choice = &request["tool_choice"];
    if choice == "none" || tool_output(request).is_some() {
        return None;
    }
    let chosen = choice["function"]["name"].as_str();
    request["tools"].as_array()?.iter().find_map(|tool| {
        let function = &tool["function"];
        let name = function["name"].as_str()?;
        (chosen.unwrap_or(name) == name).then(|| Call {
            name,
            arguments: fill(&function["parameters"], request),
        })
    })
}

fn content(request: &Value) -> String {
    let format = &request["response_format"];
    let said = said(request);
    match (format["type"].as_str(), messages(request).len()) {
        (Some("json_schema"), _) => fill(&format["json_schema"]["schema"], request),
        (Some("json_object"), _) => json!({"answer": said, "stand_in": true}).to_string(),
        (_, 1) => format!("{said} (I am a stand-in and no model.)"),
        (_, n) => format!("{said} (I am a stand-in and no model; you sent {n} messages.)"),
    }
}

fn said(request: &Value) -> String {
    if let Some(output) = tool_output(request) {
        return format!("The tool said {}.", quote(&output));
    }
    let question = question(request);
    let parts = question["content"].as_array().into_iter().flatten();
    let attachments: Vec<_> = parts.filter_map(attachment).collect();
    if !attachments.is_empty() {
        let attachments = attachments.join(" and ");
        return format!("You sent {attachments}. I cannot look at attachments.");
    }
    let question = text(question);
    let asked = |key: &str| {
        let mut words = question.split(|it: char| !it.is_alphanumeric());
        words.any(|word| word.eq_ignore_ascii_case(key))
    };
    match CANNED.iter().find(|(key, _)| asked(key)) {
        Some((_, said)) => (*said).to_owned(),
        None => format!("You said {}. I have no answer to that.", quote(&question)),
    }
}

/// An image, a file or a video: its media type and size, or else its address.
fn attachment(part: &Value) -> Option<String> {
    let paths = ["/image_url/url", "/file/file_data", "/video_url/url"];
    let url = paths.iter().find_map(|path| part.pointer(path)?.as_str())?;
    let data = url.strip_prefix("data:");
    Some(match data.and_then(|it| it.split_once(";base64,")) {
        Some((media_type, base64)) => {
            let size = base64.trim_end_matches('=').len() * 3 / 4;
            format!("{media_type} ({size} bytes)")
        }
        None => quote(url),
    })
}

/// The start of a text, on one line.
fn quote(text: &str) -> String {
    let line = join(text.split_whitespace());
    let start: String = line.chars().take(120).collect();
    let more = if start.len() < line.len() { "…" } else { "" };
    format!("“{start}{more}”")
}

/// JSON for a schema, with a name and a number from the question in it.
fn fill(schema: &Value, request: &Value) -> String {
    let question = text(question(request));
    sample(schema, &name(&question), number(&question))
}

/// The first whole number, such as a year; otherwise 1.
fn number(question: &str) -> u32 {
    let mut words = question.split(|it: char| !it.is_alphanumeric());
    words.find_map(|word| word.parse().ok()).unwrap_or(1)
}

/// The capitalised words after an "in", such as a city's name; otherwise Paris.
fn name(question: &str) -> String {
    let clauses = question.split(['.', ',', ';', ':', '?', '!', '\n']);
    let rests = clauses.flat_map(|clause| clause.split(" in ").skip(1));
    let capitalised = |word: &&str| word.starts_with(char::is_uppercase);
    rests
        .map(|rest| join(rest.split_whitespace().take_while(capitalised)))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "Paris".to_owned())
}
