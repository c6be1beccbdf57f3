//! What the API documents for a request to its first model can be said, and what is said is as documented.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::{env, fs};

use aimlapi::{
    ChatRequest, ContentPart, GEMMA_2_27B_IT, Message, Reasoning, ReasoningEffort, ResponseFormat,
    Tool, ToolChoice, WebSearchOptions,
};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{DONE, HELLO, STREAM_HEAD, Seen, Server, event, json as response};

/// The names, types, values and bounds of the documents, as a JSON Schema.
static DOCUMENTS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../fixtures/chat_request.schema.json")).unwrap()
});

static VALIDATOR: LazyLock<Validator> =
    LazyLock::new(|| jsonschema::validator_for(&DOCUMENTS).unwrap());

fn complaints(body: &Value) -> Vec<String> {
    VALIDATOR
        .iter_errors(body)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[track_caller]
fn assert_as_documented(body: &Value) {
    assert_eq!(complaints(body), Vec::<String>::new(), "{body:#}");
}

fn hello() -> ChatRequest {
    ChatRequest::new(GEMMA_2_27B_IT, "hello")
}

/// The body that a streaming call puts on the wire.
fn streamed(request: &ChatRequest) -> Value {
    let server = Server::answering(format!("{STREAM_HEAD}{}{DONE}", event("hello")));
    server.client().stream(request).unwrap().finish().unwrap();
    server.requests().remove(0).json()
}

fn body(request: &ChatRequest) -> Value {
    serde_json::to_value(request).unwrap()
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": { "name": { "type": "string" } },
        "required": ["name"],
        "additionalProperties": false,
    })
}

/// Each documented parameter by its name on the wire, a body in which it is said, and what is expected there.
#[rustfmt::skip]
fn parameters() -> Vec<(&'static str, Value, Value)> {
    let said = |request: ChatRequest| body(&request);
    let function = json!({ "type": "function", "function": { "name": "f" } });
    let reasoning = Reasoning::new().effort(ReasoningEffort::High).exclude(true);
    let place = WebSearchOptions::new().search_context_size("low")
        .country("FR").region("Rhône").city("Lyon").timezone("Europe/Paris");
    vec![
        ("model", said(hello()), json!(GEMMA_2_27B_IT)),
        ("messages", said(hello()), json!([{ "role": "user", "content": "hello" }])),
        ("stream", streamed(&hello()), json!(true)),
        ("stream_options", streamed(&hello()), json!({ "include_usage": true })),
        ("max_tokens", said(hello().max_tokens(100)), json!(100)),
        ("max_completion_tokens", said(hello().max_completion_tokens(100)), json!(100)),
        ("temperature", said(hello().temperature(0.7)), json!(0.7)),
        ("top_p", said(hello().top_p(0.9)), json!(0.9)),
        ("top_k", said(hello().top_k(40)), json!(40)),
        ("top_a", said(hello().top_a(0.1)), json!(0.1)),
        ("min_p", said(hello().min_p(0.05)), json!(0.05)),
        ("frequency_penalty", said(hello().frequency_penalty(-0.5)), json!(-0.5)),
        ("presence_penalty", said(hello().presence_penalty(2.0)), json!(2.0)),
        ("repetition_penalty", said(hello().repetition_penalty(1.1)), json!(1.1)),
        ("seed", said(hello().seed(7)), json!(7)),
        ("stop", said(hello().stop(["10", "ten"])), json!(["10", "ten"])),
        ("logprobs", said(hello().logprobs(true)), json!(true)),
        ("top_logprobs", said(hello().top_logprobs(5)), json!(5)),
        ("logit_bias", said(hello().logit_bias([(50256, -100.0)])), json!({ "50256": -100.0 })),
        ("echo", said(hello().echo(true)), json!(true)),
        ("prediction", said(hello().prediction("a")), json!({ "type": "content", "content": "a" })),
        ("prediction", said(hello().prediction([ContentPart::text("a")])),
            json!({ "type": "content", "content": [{ "type": "text", "text": "a" }] })),
        ("tools", said(hello().tools([Tool::function("f")])), json!([function])),
        ("tool_choice", said(hello().tool_choice(ToolChoice::Auto)), json!("auto")),
        ("tool_choice", said(hello().tool_choice(ToolChoice::None)), json!("none")),
        ("tool_choice", said(hello().tool_choice(ToolChoice::Required)), json!("required")),
        ("tool_choice", said(hello().tool_choice(ToolChoice::Function("f".to_owned()))), function.clone()),
        ("tool_choice", said(hello().tool_choice(ToolChoice::allowed(["f"], true))),
            json!({ "type": "allowed_tools", "allowed_tools": { "mode": "required", "tools": [function] } })),
        ("parallel_tool_calls", said(hello().parallel_tool_calls(false)), json!(false)),
        ("normalize_tool_schemas", said(hello().normalize_tool_schemas(true)), json!(true)),
        ("response_format", said(hello().response_format(ResponseFormat::text())), json!({ "type": "text" })),
        ("response_format", said(hello().response_format(ResponseFormat::json_object())), json!({ "type": "json_object" })),
        ("response_format", said(hello().response_format(ResponseFormat::json_schema("p", person()).strict(true).description("d"))),
            json!({ "type": "json_schema", "json_schema": { "name": "p", "description": "d", "schema": person(), "strict": true } })),
        ("reasoning_effort", said(hello().reasoning_effort(ReasoningEffort::Low)), json!("low")),
        ("reasoning_effort", said(hello().reasoning_effort(ReasoningEffort::Medium)), json!("medium")),
        ("reasoning", said(hello().reasoning(reasoning)), json!({ "effort": "high", "exclude": true })),
        ("reasoning", said(hello().reasoning(Reasoning::new().max_tokens(2000))), json!({ "max_tokens": 2000 })),
        ("provider", said(hello().provider("openrouter")), json!("openrouter")),
        ("web_search_options", said(hello().web_search_options(WebSearchOptions::new())), json!({})),
        ("web_search_options", said(hello().web_search_options(place)), json!({
            "search_context_size": "low",
            "user_location": { "type": "approximate", "approximate":
                { "country": "FR", "region": "Rhône", "city": "Lyon", "timezone": "Europe/Paris" } },
        })),
        ("search_mode", said(hello().param("search_mode", "web")), json!("web")),
        ("search_domain_filter", said(hello().param("search_domain_filter", vec!["wikipedia.org", "-example.com"])),
            json!(["wikipedia.org", "-example.com"])),
        ("search_recency_filter", said(hello().param("search_recency_filter", "week")), json!("week")),
        ("search_after_date_filter", said(hello().param("search_after_date_filter", "3/1/2025")), json!("3/1/2025")),
        ("search_before_date_filter", said(hello().param("search_before_date_filter", "12/31/2025")), json!("12/31/2025")),
        ("last_updated_after_filter", said(hello().param("last_updated_after_filter", "3/1/2025")), json!("3/1/2025")),
        ("last_updated_before_filter", said(hello().param("last_updated_before_filter", "3/1/2025")), json!("3/1/2025")),
        ("return_images", said(hello().param("return_images", true)), json!(true)),
        ("return_related_questions", said(hello().param("return_related_questions", true)), json!(true)),
    ]
}

#[test]
fn every_documented_parameter_can_be_said() {
    let mut reached = BTreeSet::new();
    for (name, body, expected) in parameters() {
        assert_eq!(body[name], expected, "{name}");
        assert_as_documented(&body);
        reached.insert(name);
    }
    let documented = DOCUMENTS["properties"].as_object().unwrap();
    assert_eq!(reached, documented.keys().map(String::as_str).collect());
    assert_eq!(documented.len(), 39);
}

#[test]
fn a_setter_says_its_own_parameter_and_no_other() {
    for (name, body, _) in parameters() {
        let said: BTreeSet<&str> = body
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let streams = ["stream", "stream_options"].contains(&name);
        let expected = ["model", "messages", name].into_iter();
        let expected = expected
            .chain(streams.then_some("stream"))
            .chain(streams.then_some("stream_options"));
        assert_eq!(said, expected.collect(), "{name}");
    }
}

/// What the API documents for other models than the first.
#[rustfmt::skip]
const OTHER_MODELS: [&str; 35] = [
    "add_generation_prompt", "add_special_tokens", "audio", "best_of", "chat_template",
    "chat_template_kwargs", "documents", "early_stopping", "enable_search", "enable_thinking",
    "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json", "guided_regex",
    "guided_whitespace_pattern", "ignore_eos", "include_stop_str_in_output", "ip",
    "length_penalty", "mask_sensitive_info", "metadata", "min_tokens", "modalities", "n",
    "search_options", "skip_special_tokens", "spaces_between_special_tokens", "stop_sequences",
    "stop_token_ids", "system", "thinking", "thinking_budget", "use_beam_search", "user",
];

#[test]
fn what_has_no_setter_is_told_in_the_docs_of_param() {
    let source = include_str!("../../src/request.rs");
    let rows: Vec<&str> = source
        .lines()
        .filter(|line| line.starts_with("/// | "))
        .collect();
    let documented = DOCUMENTS["properties"].as_object().unwrap().keys();
    let names = documented.map(String::as_str).chain(OTHER_MODELS);
    let has_setter = |name: &str| {
        ["(", "<"]
            .iter()
            .any(|next| source.contains(&format!("pub fn {name}{next}")))
    };
    for name in names.filter(|name| *name != "stream" && !has_setter(name)) {
        assert!(
            rows.iter().any(|row| row.contains(&format!("`{name}`"))),
            "{name}"
        );
    }
}

/// A conversation with every kind of message and part that the first model documents.
fn conversation() -> Vec<Message> {
    let reply: aimlapi::Completion = serde_json::from_value(json!({ "choices": [{ "message": {
        "role": "assistant",
        "content": null,
        "tool_calls": [
            { "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" }, "extra_content": { "a": 1 } },
            { "id": "2", "type": "custom", "custom": { "name": "c", "input": "x" } },
        ],
        "reasoning_content": "hm",
        "annotations": [],
    } }] }))
    .unwrap();
    vec![
        Message::system("s"),
        Message::developer([ContentPart::text("d").cached()]),
        Message::user([
            ContentPart::text("u").cache_ttl("1h"),
            ContentPart::image_url("https://example.com/a.png").detail("low"),
            ContentPart::image_bytes(b"GIF89a").unwrap().cached(),
            ContentPart::file_data("a.pdf", b"%PDF-1.7"),
            ContentPart::file_id("file-1"),
        ])
        .named("ada"),
        reply.into_message(),
        Message::tool("1", "done"),
        Message::tool("2", [ContentPart::text("done")]),
        Message::assistant("a"),
    ]
}

#[test]
fn every_documented_message_and_tool_can_be_said() {
    let request = ChatRequest::new(GEMMA_2_27B_IT, conversation()).tools([
        Tool::function("f")
            .description("d")
            .parameters(person())
            .strict(true)
            .cached(),
        Tool::custom("c").description("d").cache_ttl("5m"),
        Tool::custom("g").grammar("lark", "start: \"a\""),
        Tool::raw(json!({ "type": "builtin_function", "function": { "name": "$web_search" } })),
    ]);
    assert_as_documented(&body(&request));
    assert_as_documented(&body(&request.fold_system()));
}

/// Whatever an example needs to go on.
fn answer(request: &Seen) -> String {
    if request.line.starts_with("GET") {
        return response(200, r#"{"data":[{"id":"a"}]}"#);
    }
    let body = request.json();
    if body["stream"] == true {
        return format!("{STREAM_HEAD}{}{DONE}", event("hello"));
    }
    let messages = body["messages"].as_array().unwrap();
    if body["tools"].is_null() || messages.iter().any(|message| message["role"] == "tool") {
        return response(200, HELLO);
    }
    let function = json!({ "name": body["tools"][0]["function"]["name"], "arguments": "{}" });
    let call = json!({ "id": "1", "type": "function", "function": function });
    let reply = json!({ "choices": [{ "message": { "tool_calls": [call] } }] });
    response(200, &reply.to_string())
}

#[test]
#[ignore = "runs the examples, which `cargo build --examples` builds"]
fn the_examples_send_what_is_documented() {
    let tests = env::current_exe().unwrap();
    let examples = tests.parent().unwrap().with_file_name("examples");
    let mut checked = 0;
    for source in fs::read_dir("examples").unwrap() {
        let source = source.unwrap().path();
        // The one of errors shows, among others, what is refused.
        if source.is_dir() || source.ends_with("errors.rs") {
            continue;
        }
        let server = Server::start(|_, connection| {
            loop {
                let request = connection.request()?;
                let answer = answer(&request);
                connection.send(&answer)?;
                if answer.starts_with(STREAM_HEAD) {
                    return connection.close();
                }
            }
        });
        let mut example = Command::new(examples.join(source.file_stem().unwrap()));
        example
            .arg("Hello.")
            .stdin(Stdio::null())
            .current_dir(env::temp_dir());
        example
            .env("AIMLAPI_BASE_URL", server.base_url())
            .env_remove("AIMLAPI_API_KEY");
        example
            .output()
            .unwrap_or_else(|error| panic!("{source:?}: {error}"));
        for request in server
            .requests()
            .iter()
            .filter(|request| !request.body.is_empty())
        {
            let mut body = request.json();
            // What the other models document is no less, but for the name.
            body["model"] = json!(GEMMA_2_27B_IT);
            assert_as_documented(&body);
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
#[rustfmt::skip]
fn what_is_not_as_documented_is_noticed() {
    let with = |name: &str, value: Value| {
        let mut body = body(&hello());
        body[name] = value;
        body
    };
    let message = |message: Value| with("messages", json!([message]));
    let tool = |tool: Value| with("tools", json!([tool]));
    for broken in [
        json!([]),
        json!({ "model": GEMMA_2_27B_IT }),
        with("model", json!("gemma")),
        with("messages", json!("hello")),
        with("messages", json!(["hello"])),
        message(json!({ "content": "hello" })),
        message(json!({ "role": "user" })),
        message(json!({ "role": "user", "content": null })),
        message(json!({ "role": "judge", "content": "hello" })),
        message(json!({ "role": "tool", "content": "done" })),
        message(json!({ "role": "user", "content": [{ "type": "text" }] })),
        message(json!({ "role": "user", "content": [{ "type": "image_url", "image_url": "https://example.com" }] })),
        message(json!({ "role": "system", "content": [{ "type": "image_url", "image_url": { "url": "u" } }] })),
        message(json!({ "role": "user", "content": [{ "type": "text", "text": "t", "cache_control": true }] })),
        message(json!({ "role": "assistant", "tool_calls": [{ "id": "1", "type": "function" }] })),
        message(json!({ "role": "assistant", "tool_calls": [{ "type": "function", "function": { "name": "f", "arguments": "{}" } }] })),
        message(json!({ "role": "assistant", "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "f", "arguments": {} } }] })),
        tool(json!({ "function": { "name": "f" } })),
        tool(json!({ "type": "function", "name": "f" })),
        tool(json!({ "type": "function", "function": { "name": "f", "parameters": "{}" } })),
        tool(json!({ "type": "custom", "custom": { "name": "c" } })),
        with("tools", json!({})),
        with("tool_choice", json!("any")),
        with("tool_choice", json!({ "type": "function", "function": "f" })),
        with("temperature", json!(2.5)),
        with("temperature", json!("0.7")),
        with("temperature", json!(null)),
        with("frequency_penalty", json!("0")),
        with("presence_penalty", json!(-3)),
        with("repetition_penalty", json!([])),
        with("top_p", json!(0)),
        with("seed", json!(0)),
        with("seed", json!(1.5)),
        with("stop", json!(10)),
        with("stop", json!([10])),
        with("logprobs", json!("true")),
        with("top_logprobs", json!(21)),
        with("logit_bias", json!({ "1": "-100" })),
        with("logit_bias", json!([1])),
        with("stream", json!(null)),
        with("stream_options", json!({})),
        with("prediction", json!("a")),
        with("response_format", json!("json")),
        with("response_format", json!({ "type": "json_schema" })),
        with("response_format", json!({ "type": "json_schema", "json_schema": { "schema": {} } })),
        with("response_format", json!({ "type": "json_schema", "json_schema": { "name": "p", "schema": {}, "strickt": true } })),
        with("reasoning_effort", json!("most")),
        with("reasoning", json!({ "max_tokens": 0 })),
        with("web_search_options", json!({ "user_location": { "approximate": {} } })),
        with("web_search_options", json!({ "user_location": { "type": "approximate", "approximate": { "country": "France" } } })),
        with("search_after_date_filter", json!("2025-03-01")),
        with("return_images", json!("yes")),
    ] {
        assert_ne!(complaints(&broken), Vec::<String>::new(), "{broken}");
    }
}
