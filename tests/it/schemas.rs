//! Schemas go out in the order they were given in, and what strict mode refuses in them is told before a call.

use std::collections::BTreeMap;

use aimlapi::{ErrorKind, ResponseFormat, Tool};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{HELLO, Server, hello, json as response};

/// Zebra before ant, which a sorted map would turn round.
const SCHEMA: &str = r#"{"type":"object","properties":{"zebra":{"type":"string"},"ant":{"type":"integer"}},"required":["zebra","ant"],"additionalProperties":false}"#;

/// The same, as a value that is `Serialize`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    r#type: &'static str,
    properties: Properties,
    required: [&'static str; 2],
    additional_properties: bool,
}

#[derive(Serialize)]
struct Properties {
    zebra: Kind,
    ant: Kind,
}

#[derive(Serialize)]
struct Kind {
    r#type: &'static str,
}

fn schema() -> Schema {
    let kind = |r#type| Kind { r#type };
    Schema {
        r#type: "object",
        properties: Properties {
            zebra: kind("string"),
            ant: kind("integer"),
        },
        required: ["zebra", "ant"],
        additional_properties: false,
    }
}

#[test]
fn the_keys_of_a_schema_keep_their_order_on_the_wire() {
    let text: Box<RawValue> = serde_json::from_str(SCHEMA).unwrap();
    let server = Server::answering(response(200, HELLO));
    let request = hello()
        .response_format(ResponseFormat::json_schema("beasts", &text))
        .tools([Tool::function("beasts").parameters(schema())]);
    server.client().send(&request).unwrap();
    let body = String::from_utf8(server.requests().remove(0).body).unwrap();
    assert_eq!(
        body,
        format!(
            r#"{{"model":"test/model","messages":[{{"role":"user","content":"hello"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"beasts","schema":{SCHEMA}}}}},"tools":[{{"type":"function","function":{{"name":"beasts","parameters":{SCHEMA}}}}}]}}"#
        )
    );
}

#[test]
fn a_request_that_was_stored_keeps_the_order_too() {
    let request = hello().response_format(ResponseFormat::json_schema("beasts", schema()));
    let stored = serde_json::to_string(&request).unwrap();
    assert!(stored.contains(SCHEMA), "{stored}");
    let read: aimlapi::ChatRequest = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, request);
    assert_eq!(serde_json::to_string(&read).unwrap(), stored);
}

#[test]
fn a_schema_without_a_json_form_is_refused_before_sending() {
    let server = Server::answering(response(200, HELLO));
    let schema = BTreeMap::from([((1, 2), 3)]);
    let tools = hello().tools([Tool::function("f").parameters(&schema)]);
    let format = hello().response_format(ResponseFormat::json_schema("p", &schema));
    for (request, what) in [
        (
            tools,
            r#"the parameters of the tool "f" have no JSON form: key must be a string"#,
        ),
        (
            format,
            r#"the schema "p" has no JSON form: key must be a string"#,
        ),
    ] {
        let error = server.client().send(&request).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Input, what.to_owned())
        );
    }
    assert_eq!(server.connections(), 0);
}

#[track_caller]
fn assert_lint(schema: Value, faults: &[&str]) {
    let mut found = ResponseFormat::json_schema("s", schema).lint();
    // In the order of the schema's keys, which serde_json may or may not sort.
    found.sort();
    assert_eq!(found, faults);
}

#[test]
fn strict_mode_refuses_a_root_that_is_no_object() {
    let not_an_object = r#"$: the root is not of type "object""#;
    assert_lint(
        json!({ "type": "array", "items": { "type": "string" } }),
        &[not_an_object],
    );
    assert_lint(
        json!({ "type": ["object", "null"], "properties": {}, "additionalProperties": false }),
        &[not_an_object],
    );
    assert_lint(json!({ "anyOf": [{ "type": "string" }] }), &[not_an_object]);
    assert_lint(
        json!({ "type": "object", "additionalProperties": false, "anyOf": [{ "type": "object", "additionalProperties": false }] }),
        &[r#"$: the root is an "anyOf""#],
    );
    assert_lint(
        json!(true),
        &[not_an_object, "$: the schema is true and not an object"],
    );
}

#[test]
fn strict_mode_refuses_an_open_object_and_an_optional_property_wherever_it_is() {
    let open = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let nested = json!({
        "type": "object",
        "properties": {
            "one": open,
            "list": { "type": "array", "items": open },
            "either": { "anyOf": [open, { "type": "null" }] },
            "other": { "$ref": "#/$defs/Other" },
        },
        "required": ["one", "list", "either", "other"],
        "additionalProperties": false,
        "$defs": { "Other": open },
    });
    let faults: Vec<String> = [
        "$defs.Other",
        "properties.either.anyOf[0]",
        "properties.list.items",
        "properties.one",
    ]
    .iter()
    .flat_map(|place| {
        [
            format!(r#"$.{place}: "additionalProperties" is not false"#),
            format!(r#"$.{place}: the property "a" is not in "required""#),
        ]
    })
    .collect();
    assert_lint(
        nested,
        &faults.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn strict_mode_refuses_keywords_and_values_of_any_type() {
    let object = |property: Value| json!({ "type": "object", "properties": { "a": property }, "required": ["a"], "additionalProperties": false });
    let text = json!({ "type": "string" });
    for (property, fault) in [
        (json!({}), r#"there is no "type""#),
        (
            json!({ "description": "anything" }),
            r#"there is no "type""#,
        ),
        (json!(true), "the schema is true and not an object"),
        (
            json!({ "type": "string", "not": text }),
            r#"strict mode has no "not""#,
        ),
        (
            json!({ "type": "string", "oneOf": [text] }),
            r#"strict mode has no "oneOf""#,
        ),
        (
            json!({ "type": "string", "allOf": [text] }),
            r#"strict mode has no "allOf""#,
        ),
        (
            json!({ "type": "string", "if": text }),
            r#"strict mode has no "if""#,
        ),
        (
            json!({ "type": "array", "prefixItems": [text] }),
            r#"strict mode has no "prefixItems""#,
        ),
        (
            json!({ "$ref": "#", "description": "d" }),
            r#"the "$ref" does not stand alone"#,
        ),
        (
            json!({ "type": "object", "additionalProperties": text }),
            r#""additionalProperties" is not false"#,
        ),
    ] {
        assert_lint(object(property), &[&format!("$.properties.a: {fault}")]);
    }
    // A property may be called as a keyword is.
    let named = json!({ "type": "object", "properties": { "not": text }, "required": ["not"], "additionalProperties": false });
    assert_lint(named, &[]);
}

#[test]
fn only_schemas_are_linted() {
    assert!(ResponseFormat::text().lint().is_empty());
    assert!(ResponseFormat::json_object().lint().is_empty());
}
