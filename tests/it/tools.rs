//! Tools go out as they were said, and their calls go back as they came.

use std::fs;

use aimlapi::{ChatRequest, Completion, ErrorKind, FinishReason, Message, Tool, ToolChoice};
use serde_json::{Value, json};

use crate::support::MODEL;
use crate::vocabulary::{City, answering, city, completion, streamed};

/// An answer that calls the tool `weather`, with these arguments.
fn calling(arguments: Value) -> Completion {
    let function = json!({ "name": "weather", "arguments": arguments });
    answering(json!({ "tool_calls": [{ "id": "1", "type": "function", "function": function }] }))
}

#[track_caller]
fn assert_wire(tool: Tool, json: &str) {
    assert_eq!(serde_json::to_string(&tool).unwrap(), json);
}

#[test]
fn a_tool_goes_out_as_it_was_said() {
    assert_wire(
        Tool::function("now"),
        r#"{"type":"function","function":{"name":"now"}}"#,
    );
    assert_wire(
        Tool::function("now")
            .strict(false)
            .parameters(json!({}))
            .description("The time.")
            .cached(),
        r#"{"type":"function","function":{"name":"now","description":"The time.","parameters":{},"strict":false},"cache_control":{"type":"ephemeral"}}"#,
    );
    assert_wire(
        Tool::custom("sql").description("Runs it."),
        r#"{"type":"custom","custom":{"name":"sql","description":"Runs it.","format":{"type":"text"}}}"#,
    );
    assert_wire(
        Tool::raw(json!({ "type": "web_search" })),
        r#"{"type":"web_search"}"#,
    );
}

#[test]
fn a_custom_tool_has_a_grammar_and_a_cached_tool_a_time() {
    let tool = Tool::custom("day")
        .grammar("regex", "[0-9]+")
        .cache_ttl("1h");
    let custom = json!({
        "name": "day",
        "format": { "type": "grammar", "grammar": { "syntax": "regex", "definition": "[0-9]+" } },
    });
    assert_eq!(
        serde_json::to_value(tool).unwrap(),
        json!({ "type": "custom", "custom": custom, "cache_control": { "type": "ephemeral", "ttl": "1h" } })
    );
}

#[test]
fn what_is_of_another_kind_of_tool_is_left_out() {
    assert_eq!(
        Tool::custom("c").parameters(json!({})).strict(true),
        Tool::custom("c")
    );
    assert_eq!(
        Tool::function("f").grammar("regex", "a"),
        Tool::function("f")
    );
    let raw = Tool::raw(json!({ "type": "x" }))
        .parameters(json!({}))
        .description("d")
        .cached();
    assert_wire(raw, r#"{"type":"x"}"#);
}

#[test]
fn a_choice_is_a_word_or_an_object() {
    let wire = |choice: ToolChoice| serde_json::to_value(choice).unwrap();
    let function = json!({ "type": "function", "function": { "name": "f" } });
    assert_eq!(wire(ToolChoice::Auto), "auto");
    assert_eq!(wire(ToolChoice::None), "none");
    assert_eq!(wire(ToolChoice::Required), "required");
    assert_eq!(wire(ToolChoice::Function("f".to_owned())), function);
    assert_eq!(
        wire(ToolChoice::allowed(["f"], false)),
        json!({ "type": "allowed_tools", "allowed_tools": { "mode": "auto", "tools": [function] } })
    );
    assert_eq!(
        wire(ToolChoice::Raw(json!({ "type": "custom" }))),
        json!({ "type": "custom" })
    );
}

#[test]
fn arguments_are_read_whatever_form_they_came_in() {
    for (arguments, expected) in [
        (json!(r#"{"city": "Paris"}"#), "Paris"),
        (json!({ "city": "Paris" }), "Paris"),
        (json!(""), ""),
        (json!(" \n"), ""),
        (json!("{}"), ""),
        (json!(null), ""),
    ] {
        let reply = calling(arguments);
        assert_eq!(
            reply.tool_calls()[0].parse_arguments::<City>().unwrap(),
            city(expected)
        );
    }
}

#[test]
fn arguments_that_do_not_fit_are_shown() {
    for (arguments, message) in [
        (
            r#"{"city": "Par"#,
            r#"the arguments for the tool "weather" do not fit, EOF while parsing a string at line 1 column 13, in: {"city": "Par"#,
        ),
        (
            r#"{"city": 75}"#,
            r#"the arguments for the tool "weather" do not fit, invalid type: integer `75`, expected a string at line 1 column 11, in: {"city": 75}"#,
        ),
        (
            "Paris",
            r#"the arguments for the tool "weather" do not fit, expected value at line 1 column 1, in: Paris"#,
        ),
    ] {
        let error = calling(json!(arguments)).tool_calls()[0]
            .parse_arguments::<City>()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.body(), Some(arguments));
    }
}

#[test]
fn a_call_goes_back_as_it_came() {
    let calls = json!([
        {
            "id": "call_1",
            "type": "function",
            "function": { "name": "weather", "arguments": "{\"city\":\"Paris\"}", "thought": [1, { "b": 1, "a": 2 }] },
            "extra_content": { "google": { "thought_signature": "c2ln" } },
            "cache": true,
        },
        { "id": "call_2", "type": "custom", "custom": { "name": "sql", "input": "select 1" } },
        { "id": "call_3", "type": "builtin_function", "function": { "name": "$web_search", "arguments": "{}" } },
    ]);
    let reply = answering(json!({ "role": "assistant", "content": null, "tool_calls": calls }));
    let sent = ChatRequest::new(MODEL, reply.into_message());
    assert_eq!(
        serde_json::to_value(&sent).unwrap()["messages"][0]["tool_calls"],
        calls
    );
}

#[test]
fn what_a_streamed_call_holds_goes_back_too() {
    let delta =
        |call: Value| json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] });
    let reply = streamed(&[
        delta(json!({
            "index": 0, "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": "" },
            "extra_content": { "google": { "thought_signature": "c2ln" } },
        })),
        delta(json!({ "index": 0, "function": { "arguments": "{\"city\":" } })),
        delta(json!({ "index": 0, "function": { "arguments": "\"Paris\"}" } })),
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
    ]);
    assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls));
    assert_eq!(
        reply.tool_calls()[0].parse_arguments::<City>().unwrap(),
        city("Paris")
    );
    let sent = serde_json::to_value(reply.message()).unwrap();
    let call = json!({
        "id": "call_1",
        "type": "function",
        "function": { "name": "weather", "arguments": "{\"city\":\"Paris\"}" },
        "extra_content": { "google": { "thought_signature": "c2ln" } },
    });
    // Without the `index`, which belongs to the stream and which some servers refuse.
    assert_eq!(sent["tool_calls"], json!([call]));
}

#[test]
fn a_custom_call_has_text_in_place_of_arguments() {
    let custom = json!({ "name": "sql", "input": "select 1" });
    let reply =
        answering(json!({ "tool_calls": [{ "id": "1", "type": "custom", "custom": custom }] }));
    let call = &reply.tool_calls()[0];
    assert_eq!(
        (call.id(), call.name(), call.arguments()),
        ("1", "sql", "select 1")
    );
}

#[test]
fn a_call_cut_off_by_the_limit_of_tokens_can_be_told() {
    let mut answer: Value = serde_json::to_value(calling(json!("{\"city\": \"Par"))).unwrap();
    answer["choices"][0]["finish_reason"] = json!("length");
    let reply = completion(answer);
    assert_eq!(reply.finish_reason(), Some(&FinishReason::Length));
    assert!(reply.tool_calls()[0].parse_arguments::<City>().is_err());
}

#[test]
fn a_history_with_calls_survives_a_file() {
    let mut history = vec![
        Message::system("Be brief."),
        Message::user("How is Paris?").named("ada"),
    ];
    let mut answer = serde_json::to_value(calling(json!("{\"city\":\"Paris\"}"))).unwrap();
    answer["choices"][0]["message"]["tool_calls"][0]["extra_content"] =
        json!({ "signature": "c2ln" });
    answer["choices"][0]["message"]["reasoning_content"] = json!("Paris is a city.");
    history.push(completion(answer).into_message());
    history.push(Message::tool("1", "18 °C"));

    let name = format!("aimlapi-{}-history.json", std::process::id());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, serde_json::to_vec(&history).unwrap()).unwrap();
    let read: Vec<Message> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    fs::remove_file(&file).unwrap();

    assert_eq!(read, history);
    let wire = |messages| serde_json::to_string(&ChatRequest::new(MODEL, messages)).unwrap();
    assert_eq!(wire(read.clone()), wire(history));
    assert_eq!(read[2].reasoning(), Some("Paris is a city."));
    assert_eq!(read[3].tool_call_id(), Some("1"));
}
