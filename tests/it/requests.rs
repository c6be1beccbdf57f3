//! A request is a value, and goes over the wire as it reads.

use std::collections::{HashMap, HashSet};

use aimlapi::{
    ChatRequest, ContentPart, ErrorKind, IntoMessages, Message, Reasoning, ReasoningEffort,
    ResponseFormat, Tool, ToolChoice, WebSearchOptions,
};
use serde_json::{Value, json};

use crate::support::{DONE, HELLO, STREAM_HEAD, Server, event, finish, hello, json as answer};

const NAN: f64 = f64::NAN;

fn ask() -> ChatRequest {
    ChatRequest::new("m", "hi")
}

fn text(request: &ChatRequest) -> String {
    serde_json::to_string(request).unwrap()
}

/// A request whose one parameter has this wire form.
#[track_caller]
fn param(request: ChatRequest, want: &str) {
    let messages = r#"[{"role":"user","content":"hi"}]"#;
    assert_eq!(
        text(&request),
        format!(r#"{{"model":"m","messages":{messages},{want}}}"#)
    );
}

/// The same, whatever the order of the keys: with a feature of serde_json, `json!` keeps them in another one.
#[track_caller]
fn says(request: ChatRequest, want: &str) {
    let want = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],{want}}}"#);
    let want: Value = serde_json::from_str(&want).unwrap();
    assert_eq!(serde_json::to_value(&request).unwrap(), want);
}

#[track_caller]
fn messages(messages: impl IntoMessages, want: Value) {
    let request = serde_json::to_value(ChatRequest::new("m", messages)).unwrap();
    assert_eq!(request["messages"], want);
}

/// A request that is refused before anything is sent.
#[track_caller]
fn refused(request: ChatRequest, want: &str) {
    let server = Server::answering(answer(200, HELLO));
    let (client, stream) = (server.client(), server.client());
    for error in [
        client.send(&request).unwrap_err(),
        stream.stream(&request).unwrap_err(),
    ] {
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            (want, ErrorKind::Input)
        );
        assert_eq!(error.attempts(), 0);
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn what_is_sent_is_what_is_serialized() {
    let server = Server::answering(answer(200, HELLO));
    let request = ask()
        .temperature(0.7)
        .max_tokens(9)
        .client_request_id("mine")
        .fold_system();
    server.client().send(&request).unwrap();
    let body = String::from_utf8(server.requests()[0].body.clone()).unwrap();
    assert_eq!(body, text(&request));
    assert_eq!(
        body,
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"temperature":0.7}"#
    );
}

#[test]
fn what_is_not_set_is_not_sent() {
    assert_eq!(
        text(&ask()),
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#
    );
}

#[test]
fn every_setter_has_the_name_and_the_form_of_the_wire() {
    says(ask().max_tokens(7), r#""max_tokens":7"#);
    says(
        ask().max_completion_tokens(7),
        r#""max_completion_tokens":7"#,
    );
    says(ask().temperature(0.2), r#""temperature":0.2"#);
    says(ask().top_p(0.9), r#""top_p":0.9"#);
    says(ask().top_k(40), r#""top_k":40"#);
    says(ask().top_a(0.5), r#""top_a":0.5"#);
    says(ask().min_p(0.001), r#""min_p":0.001"#);
    says(ask().frequency_penalty(-2.0), r#""frequency_penalty":-2.0"#);
    says(ask().presence_penalty(1.5), r#""presence_penalty":1.5"#);
    says(ask().repetition_penalty(1.1), r#""repetition_penalty":1.1"#);
    says(ask().seed(u64::MAX), r#""seed":18446744073709551615"#);
    says(ask().n(2), r#""n":2"#);
    says(ask().stop(["a", "b"]), r#""stop":["a","b"]"#);
    says(ask().logprobs(true), r#""logprobs":true"#);
    says(ask().top_logprobs(3), r#""top_logprobs":3"#);
    says(
        ask().logit_bias([(50256, -100.0), (1, 0.5)]),
        r#""logit_bias":{"1":0.5,"50256":-100.0}"#,
    );
    says(ask().echo(false), r#""echo":false"#);
    says(
        ask().prediction("fn a() {}"),
        r#""prediction":{"content":"fn a() {}","type":"content"}"#,
    );
    says(
        ask().tools([Tool::function("f")]),
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
    );
    says(
        ask().tool_choice(ToolChoice::Required),
        r#""tool_choice":"required""#,
    );
    says(
        ask().parallel_tool_calls(false),
        r#""parallel_tool_calls":false"#,
    );
    says(
        ask().normalize_tool_schemas(true),
        r#""normalize_tool_schemas":true"#,
    );
    says(
        ask().response_format(ResponseFormat::json_object()),
        r#""response_format":{"type":"json_object"}"#,
    );
    says(
        ask().reasoning_effort(ReasoningEffort::Low),
        r#""reasoning_effort":"low""#,
    );
    says(
        ask().reasoning(Reasoning::new().max_tokens(9)),
        r#""reasoning":{"max_tokens":9}"#,
    );
    says(ask().provider("openai"), r#""provider":"openai""#);
    says(
        ask().web_search_options(WebSearchOptions::new()),
        r#""web_search_options":{}"#,
    );
    says(ask().param("top_q", vec![1, 2]), r#""top_q":[1,2]"#);
}

#[test]
fn parameters_are_sent_in_one_order_whatever_order_they_were_set_in() {
    let one = ask().top_p(0.5).max_tokens(1).seed(2);
    assert_eq!(one, ask().seed(2).top_p(0.5).max_tokens(1));
    param(one, r#""max_tokens":1,"seed":2,"top_p":0.5"#);
}

#[test]
fn a_number_is_sent_as_it_was_written() {
    param(ask().temperature(0.7), r#""temperature":0.7"#);
    param(
        ask().temperature(0.1 + 0.2),
        r#""temperature":0.30000000000000004"#,
    );
    param(ask().top_p(1e-7), r#""top_p":1e-7"#);
    param(ask().temperature(0.0), r#""temperature":0.0"#);
    param(ask().param("temperature", 1), r#""temperature":1"#);
}

#[test]
fn the_last_value_of_a_parameter_counts_and_is_sent_once() {
    param(
        ask().temperature(0.1).param("temperature", 0.5),
        r#""temperature":0.5"#,
    );
    param(
        ask().param("temperature", 0.5).temperature(0.1),
        r#""temperature":0.1"#,
    );
    param(ask().stop(["a"]).stop(["b"]), r#""stop":["b"]"#);
}

#[test]
fn null_is_sent_where_it_is_asked_for() {
    param(ask().param("stop", Value::Null), r#""stop":null"#);
}

#[test]
fn a_number_that_is_none_is_refused() {
    refused(
        ask().temperature(NAN),
        "temperature is not a finite number: NaN",
    );
    refused(
        ask().top_p(f64::INFINITY),
        "top_p is not a finite number: inf",
    );
    refused(
        ask().top_a(f64::NEG_INFINITY),
        "top_a is not a finite number: -inf",
    );
    refused(ask().min_p(NAN), "min_p is not a finite number: NaN");
    refused(
        ask().frequency_penalty(NAN),
        "frequency_penalty is not a finite number: NaN",
    );
    refused(
        ask().presence_penalty(NAN),
        "presence_penalty is not a finite number: NaN",
    );
    refused(
        ask().repetition_penalty(NAN),
        "repetition_penalty is not a finite number: NaN",
    );
    refused(
        ask().logit_bias([(1, 0.0), (2, NAN)]),
        "logit_bias is not a finite number",
    );
}

#[test]
fn the_first_fault_is_told_even_if_what_was_wrong_is_set_again() {
    refused(
        ask().top_p(NAN).temperature(NAN).top_p(0.5),
        "top_p is not a finite number: NaN",
    );
}

#[test]
fn what_new_and_stream_say_is_no_parameter() {
    for name in ["model", "messages", "stream"] {
        let want = format!(
            "\"{name}\" is not a parameter: it is said by ChatRequest::new or Client::stream"
        );
        refused(ask().param(name, true), &want);
    }
}

#[test]
fn what_has_no_json_form_is_refused() {
    let odd = HashMap::from([((1, 2), 3)]);
    refused(
        ask().tools([Tool::function("f").parameters(&odd)]),
        "the parameters of the tool \"f\" have no JSON form: key must be a string",
    );
    refused(
        ask().response_format(ResponseFormat::json_schema("s", &odd)),
        "the schema \"s\" has no JSON form: key must be a string",
    );
}

#[test]
fn no_model_and_no_messages_are_refused() {
    refused(ChatRequest::new("", "hi"), "the model's name is empty");
    refused(ChatRequest::new(" \n", "hi"), "the model's name is empty");
    refused(ChatRequest::new("m", Vec::new()), "there are no messages");
    let none: [Message; 0] = [];
    refused(ChatRequest::new("m", none), "there are no messages");
}

#[test]
fn a_faulty_request_has_no_wire_form() {
    let error = serde_json::to_string(&ask().temperature(NAN)).unwrap_err();
    assert_eq!(error.to_string(), "temperature is not a finite number: NaN");
}

#[test]
fn an_id_of_one_s_own_travels_as_a_header() {
    let server = Server::answering(answer(200, HELLO));
    for id in ["a", "A-Z.a_z:0-9", &"x".repeat(128)] {
        server
            .client()
            .send(&hello().client_request_id(id))
            .unwrap();
        let seen = server.requests().pop().unwrap();
        assert_eq!(seen.headers["x-client-request-id"], id);
        assert_eq!(seen.body, text(&hello()).as_bytes());
    }
}

#[test]
fn an_id_that_the_server_would_drop_is_refused() {
    for id in ["", "a b", "a/b", "\u{e9}", "a\r\nb: c", &"x".repeat(129)] {
        let want = "client_request_id is not 1 to 128 of A-Z a-z 0-9 . _ : -";
        refused(ask().client_request_id(id), want);
    }
}

#[test]
fn messages_are_made_of_whatever_is_at_hand() {
    let (text, user) = ("hi".to_owned(), Message::user("hi"));
    let (array, list) = ([user.clone()], vec![user.clone()]);
    let want = || json!([{"role": "user", "content": "hi"}]);
    messages("hi", want());
    messages(&text, want());
    messages(text, want());
    messages(&user, want());
    messages(user, want());
    messages(&array, want());
    messages(array.as_slice(), want());
    messages(array, want());
    messages(&list, want());
    messages(list, want());
}

#[test]
fn every_role_has_its_wire_form() {
    messages(
        [
            Message::system("a"),
            Message::developer("b"),
            Message::user("c").named("ada"),
            Message::assistant("d"),
            Message::tool("call-1", "e"),
            Message::user([
                ContentPart::text("f"),
                ContentPart::image_url("https://x/y.png"),
            ]),
        ],
        json!([
            {"role": "system", "content": "a"},
            {"role": "developer", "content": "b"},
            {"role": "user", "content": "c", "name": "ada"},
            {"role": "assistant", "content": "d"},
            {"role": "tool", "content": "e", "tool_call_id": "call-1"},
            {"role": "user", "content": [
                {"type": "text", "text": "f"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ]},
        ]),
    );
}

/// What the messages are when system text is folded.
#[track_caller]
fn folded<const N: usize>(messages: [Message; N], want: Value) {
    let request = ChatRequest::new("m", messages.clone()).fold_system();
    assert_eq!(serde_json::to_value(&request).unwrap()["messages"], want);
    assert_eq!(
        request.messages(),
        messages,
        "the request itself keeps what was said"
    );
}

#[test]
fn system_text_is_folded_into_the_first_thing_that_the_user_says() {
    let (system, user) = (|| Message::system("Be brief."), || Message::user("Why?"));
    let alone = json!([{"role": "user", "content": "Be brief.\n\nWhy?"}]);
    folded([system(), user()], alone.clone());
    folded([user(), system()], alone);
    folded([user()], json!([{"role": "user", "content": "Why?"}]));
    folded(
        [system()],
        json!([{"role": "user", "content": "Be brief."}]),
    );
    folded(
        [
            system(),
            Message::developer("Be kind."),
            Message::assistant("Yes?"),
            user(),
            user(),
        ],
        json!([
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Be brief.\n\nBe kind.\n\nWhy?"},
            {"role": "user", "content": "Why?"},
        ]),
    );
    folded(
        [system(), Message::user([ContentPart::image_url("u")])],
        json!([{"role": "user", "content": [
            {"type": "text", "text": "Be brief.\n\n"},
            {"type": "image_url", "image_url": {"url": "u"}},
        ]}]),
    );
}

#[test]
fn without_fold_system_nothing_is_moved() {
    let both = [Message::system("Be brief."), Message::user("Why?")];
    messages(
        &both,
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]),
    );
}

#[test]
fn a_request_can_be_stored_and_read_again() {
    let request = ask()
        .temperature(0.1 + 0.2)
        .seed(u64::MAX)
        .stop(["a"])
        .param("stop_token_ids", vec![1])
        .param("none", Value::Null)
        .response_format(ResponseFormat::json_object());
    let again: ChatRequest = serde_json::from_str(&text(&request)).unwrap();
    assert_eq!(again, request);
    assert_eq!(again.model(), "m");
    assert_eq!(again.messages(), [Message::user("hi")]);
}

#[test]
fn a_stored_request_keeps_the_order_of_a_schema_s_keys() {
    let stored = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"guided_json":{"z":1,"a":{"y":2,"b":3}}}"#;
    let request: ChatRequest = serde_json::from_str(stored).unwrap();
    assert_eq!(text(&request), stored);
}

#[test]
fn a_stored_request_says_nothing_of_streams() {
    let stored = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let error = serde_json::from_str::<ChatRequest>(stored).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`stream` is not stored: Client::stream says it"),
        "{error}"
    );
}

#[test]
fn a_request_that_is_asked_twice_is_found_in_a_set() {
    let part = || ContentPart::raw(json!({ "type": "a", "b": 1.5, "c": [null, true] }));
    let seen = |cold: f64| {
        let tool = Tool::function("f").parameters(json!({ "type": "object" }));
        let request = ChatRequest::new("m", Message::user([part()])).tools([tool]);
        request.temperature(cold)
    };
    assert_eq!(HashSet::from([seen(0.0), seen(0.0), seen(1.0)]).len(), 2);
}

#[test]
fn the_same_request_can_be_continued() {
    let server = Server::answering(answer(200, HELLO));
    let mut request = hello();
    let reply = server.client().send(&request).unwrap();
    request.messages_mut().push(reply.into_message());
    request.messages_mut().push(Message::user("bye"));
    server.client().send(&request).unwrap();
    assert_eq!(
        server.requests()[1].json()["messages"],
        json!([
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "bye"},
        ])
    );
}

#[test]
fn a_stream_asks_for_its_usage_unless_told_otherwise() {
    let server = Server::answering([STREAM_HEAD, &event("hello"), &finish("stop"), DONE].concat());
    let asked = |request: ChatRequest| {
        drop(server.client().stream(&request).unwrap());
        let body = server.requests().pop().unwrap().json();
        assert_eq!(body["stream"], true);
        body.get("stream_options").cloned()
    };
    assert_eq!(asked(ask()), Some(json!({"include_usage": true})));
    let own = json!({"include_usage": false});
    assert_eq!(asked(ask().param("stream_options", own.clone())), Some(own));
    assert_eq!(asked(ask().param("stream_options", Value::Null)), None);
}
