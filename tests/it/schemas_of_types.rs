//! A schema made of a type fits strict mode, and its fields keep their order.

#![allow(dead_code, reason = "only the schemas of these types are made")]

use std::collections::{BTreeMap, BTreeSet};

use aimlapi::{ResponseFormat, Tool};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, JsonSchema)]
struct Place {
    /// In degrees.
    north: f64,
    east: f64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Size {
    Small,
    Large,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Beast {
    Bird {
        wings: u8,
    },
    /// One with legs.
    Walker(Legs),
    Unknown,
}

#[derive(Deserialize, JsonSchema)]
struct Legs {
    legs: u8,
}

/// What was seen.
#[derive(Deserialize, JsonSchema)]
struct Sighting {
    zebras: u32,
    /// Where it was.
    place: Place,
    before: Option<Place>,
    size: Size,
    other_size: Option<Size>,
    beasts: Vec<Beast>,
    tags: BTreeSet<String>,
    #[serde(default)]
    ants: Vec<String>,
    note: Option<String>,
    #[schemars(url)]
    link: String,
    #[schemars(email)]
    from: String,
}

#[derive(Deserialize, JsonSchema)]
struct Tree {
    name: String,
    /// What grows on it.
    branches: Vec<Tree>,
    root: Option<Box<Tree>>,
}

#[derive(Deserialize, JsonSchema)]
struct Formula {
    sum: Sum,
}

#[derive(Deserialize, JsonSchema)]
enum Sum {
    Number(f64),
    Both {
        /// What comes first.
        left: Box<Sum>,
        right: Box<Sum>,
    },
}

#[derive(Deserialize, JsonSchema)]
struct Wrapped(Place);

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "état: a name that is much too long for what the API permits it to be")]
struct Oddly {}

fn wire(format: &ResponseFormat) -> Value {
    serde_json::to_value(format).unwrap()
}

fn schema_of<T: JsonSchema>() -> Value {
    wire(&ResponseFormat::of::<T>())["json_schema"]["schema"].take()
}

#[test]
fn a_format_is_named_as_its_type_and_strict() {
    let named = |format: ResponseFormat| wire(&format)["json_schema"]["name"].take();
    assert_eq!(named(ResponseFormat::of::<Place>()), "Place");
    assert_eq!(
        wire(&ResponseFormat::of::<Place>())["json_schema"]["strict"],
        true
    );
    assert_eq!(
        named(ResponseFormat::of::<Oddly>()),
        "_tat__a_name_that_is_much_too_long_for_what_the_API_permits_it_t"
    );
}

#[test]
fn fields_keep_their_order_on_the_wire() {
    let text = serde_json::to_string(&ResponseFormat::of::<Place>()).unwrap();
    assert_eq!(
        text,
        r#"{"type":"json_schema","json_schema":{"name":"Place","schema":{"title":"Place","type":"object","properties":{"north":{"description":"In degrees.","type":"number"},"east":{"type":"number"}},"required":["north","east"],"additionalProperties":false},"strict":true}}"#
    );
}

#[test]
fn every_field_is_required_and_only_an_option_may_be_null() {
    let schema = schema_of::<Sighting>();
    let properties: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(json!(properties), schema["required"]);
    assert_eq!(
        json!(properties),
        json!([
            "zebras",
            "place",
            "before",
            "size",
            "other_size",
            "beasts",
            "tags",
            "ants",
            "note",
            "link",
            "from"
        ])
    );
    let of = |name: &str| schema["properties"][name].clone();
    assert_eq!(of("zebras"), json!({ "type": "integer", "minimum": 0 }));
    assert_eq!(of("note"), json!({ "type": ["string", "null"] }));
    assert_eq!(of("before")["type"], json!(["object", "null"]));
    assert_eq!(
        of("size"),
        json!({ "type": "string", "enum": ["small", "large"] })
    );
    assert_eq!(
        of("other_size"),
        json!({ "type": ["string", "null"], "enum": ["small", "large", null] })
    );
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    assert_eq!((of("tags"), of("ants")), (texts.clone(), texts));
    assert_eq!(of("link"), json!({ "type": "string" }));
    assert_eq!(of("from"), json!({ "type": "string", "format": "email" }));
}

#[test]
fn descriptions_are_kept_beside_types_of_their_own() {
    let schema = schema_of::<Sighting>();
    assert_eq!(schema["description"], "What was seen.");
    let place = &schema["properties"]["place"];
    assert_eq!(place["description"], "Where it was.");
    assert_eq!(place["properties"]["north"]["description"], "In degrees.");
    let walker = &schema["properties"]["beasts"]["items"]["anyOf"][1];
    assert_eq!(walker["description"], "One with legs.");
    assert_eq!(walker["required"], json!(["kind", "legs"]));
    assert_eq!(
        schema_of::<Tree>()["properties"]["branches"]["description"],
        "What grows on it."
    );
}

#[test]
fn a_type_that_holds_itself_is_a_reference_that_stands_alone() {
    let schema = schema_of::<Formula>();
    let reference = json!({ "$ref": "#/$defs/Sum" });
    let both = &schema["$defs"]["Sum"]["anyOf"][1]["properties"]["Both"]["properties"];
    assert_eq!(both["right"], reference);
    assert_eq!(
        both["left"],
        json!({ "description": "What comes first.", "anyOf": [reference] })
    );

    let sum =
        json!({ "sum": { "Both": { "left": { "Number": 1.0 }, "right": { "Number": 2.0 } } } });
    assert!(jsonschema::is_valid(&schema, &sum));
    serde_json::from_value::<Formula>(sum).unwrap();
}

#[test]
fn a_type_that_fits_strict_mode_has_nothing_to_complain_of() {
    for format in [
        ResponseFormat::of::<Place>(),
        ResponseFormat::of::<Sighting>(),
        ResponseFormat::of::<Tree>(),
        ResponseFormat::of::<Formula>(),
        ResponseFormat::of::<Wrapped>(),
        ResponseFormat::of::<Nothing>(),
    ] {
        assert_eq!(format.lint(), Vec::<String>::new(), "{:#}", wire(&format));
    }
}

#[test]
fn what_strict_mode_cannot_express_is_named() {
    #[derive(JsonSchema)]
    struct Odd {
        map: BTreeMap<String, u8>,
        value: Value,
        pair: (u8, u8),
        #[serde(flatten)]
        beast: Beast,
    }
    let mut faults = ResponseFormat::of::<Odd>().lint();
    faults.sort();
    assert_eq!(
        faults,
        [
            r#"$.properties.map: "additionalProperties" is not false"#,
            r#"$.properties.pair: strict mode has no "prefixItems""#,
            "$.properties.value: the schema is true and not an object",
            r#"$: "additionalProperties" is not false"#,
            r#"$: the root is an "anyOf""#,
        ]
    );
    assert_eq!(
        ResponseFormat::of::<Vec<Place>>().lint(),
        [r#"$: the root is not of type "object""#]
    );
    assert_eq!(
        ResponseFormat::of::<Size>().lint(),
        [r#"$: the root is not of type "object""#]
    );
}

#[test]
fn a_tool_takes_its_arguments_from_a_type() {
    let tool = Tool::of::<Place>("look").description("Looks there.");
    assert_eq!(
        serde_json::to_string(&tool).unwrap(),
        r#"{"type":"function","function":{"name":"look","description":"Looks there.","parameters":{"title":"Place","type":"object","properties":{"north":{"description":"In degrees.","type":"number"},"east":{"type":"number"}},"required":["north","east"],"additionalProperties":false},"strict":true}}"#
    );
    let nothing = serde_json::to_value(Tool::of::<Nothing>("wait")).unwrap();
    let parameters = json!({ "title": "Nothing", "type": "object", "properties": {}, "required": [], "additionalProperties": false });
    assert_eq!(nothing["function"]["parameters"], parameters);
}

#[test]
fn what_a_model_writes_by_the_schema_is_what_the_type_reads() {
    let schema = schema_of::<Sighting>();
    let sample = json!({
        "zebras": 1,
        "place": { "north": 1.5, "east": 2.5 },
        "before": null,
        "size": "small",
        "other_size": null,
        "beasts": [{ "kind": "Bird", "wings": 2 }, { "kind": "Walker", "legs": 4 }, { "kind": "Unknown" }],
        "tags": ["a"],
        "ants": [],
        "note": null,
        "link": "https://example.com/",
        "from": "ada@example.com",
    });
    assert!(jsonschema::is_valid(&schema, &sample));
    serde_json::from_value::<Sighting>(sample.clone()).unwrap();
    for name in sample.as_object().unwrap().keys() {
        let mut less = sample.clone();
        less.as_object_mut().unwrap().remove(name);
        assert!(!jsonschema::is_valid(&schema, &less), "{name}");
    }
}
