//! What strict mode wants of a JSON Schema: told of any, and done to that of a type.

use serde_json::{Map, Value};

/// Keywords that strict mode does not know.
const UNKNOWN: [&str; 15] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "prefixItems",
    "contains",
    "unevaluatedItems",
    "uniqueItems",
];

/// Keywords of which every schema has one.
const KINDS: [&str; 5] = ["type", "anyOf", "$ref", "enum", "const"];

/// What strict mode would refuse, one sentence for each place.
pub(crate) fn lint(schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if schema.get("type").is_none_or(|kind| kind != "object") {
        faults.push("$: the root is not of type \"object\"".to_owned());
    } else if schema.get("anyOf").is_some() {
        faults.push("$: the root is an \"anyOf\"".to_owned());
    }
    lint_at("$", schema, &mut faults);
    faults
}

// As deep as serde_json lets a value be, so the recursion is bounded.
fn lint_at(path: &str, schema: &Value, faults: &mut Vec<String>) {
    let Some(object) = schema.as_object() else {
        faults.push(format!("{path}: the schema is {schema} and not an object"));
        return;
    };
    if !KINDS.iter().any(|kind| object.contains_key(*kind)) {
        faults.push(format!("{path}: there is no \"type\""));
    }
    if object.contains_key("$ref") && object.len() > 1 {
        faults.push(format!("{path}: the \"$ref\" does not stand alone"));
    }
    let unknown = UNKNOWN
        .iter()
        .filter(|keyword| object.contains_key(**keyword));
    faults.extend(unknown.map(|keyword| format!("{path}: strict mode has no {keyword:?}")));
    let properties = object.get("properties").and_then(Value::as_object);
    if is_object(object) || properties.is_some() {
        if object.get("additionalProperties") != Some(&Value::Bool(false)) {
            faults.push(format!("{path}: \"additionalProperties\" is not false"));
        }
        let required = object.get("required").and_then(Value::as_array);
        for name in properties.into_iter().flat_map(Map::keys) {
            if !required.is_some_and(|required| required.iter().any(|other| other == name)) {
                faults.push(format!(
                    "{path}: the property {name:?} is not in \"required\""
                ));
            }
        }
    }
    for (keyword, inner) in object {
        match (keyword.as_str(), inner) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    lint_at(&format!("{path}.{keyword}.{name}"), schema, faults);
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                for (place, schema) in schemas.iter().enumerate() {
                    lint_at(&format!("{path}.{keyword}[{place}]"), schema, faults);
                }
            }
            ("items", schema) => lint_at(&format!("{path}.items"), schema, faults),
            ("additionalProperties", Value::Object(_)) => {
                lint_at(&format!("{path}.{keyword}"), inner, faults);
            }
            _ => {}
        }
    }
}

fn is_object(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    })
}

#[cfg(feature = "schemars")]
pub(crate) use of_type::{name, of};

#[cfg(feature = "schemars")]
mod of_type {
    use schemars::generate::SchemaSettings;
    use schemars::transform::RecursiveTransform;
    use schemars::{JsonSchema, Schema};
    use serde_json::{Map, Value, json};

    use super::is_object;

    /// The formats of strings that OpenAI documents for strict mode. It refuses all others, and those of numbers.
    const FORMATS: [&str; 9] = [
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
    ];

    /// The type's name, as the API permits it: at most 64 letters, digits, `_` and `-`.
    pub(crate) fn name<T: JsonSchema>() -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = T::schema_name();
        let chars = name.chars().map(|c| if fits(c) { c } else { '_' });
        chars.take(64).collect()
    }

    /// The type's schema.
    pub(crate) fn of<T: JsonSchema>() -> Schema {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.meta_schema = None;
            // Strict mode permits no description beside a `$ref`, and many servers know no `$ref` at all. Only a
            // type that holds itself still has one.
            settings.inline_subschemas = true;
        });
        settings
            .with_transform(RecursiveTransform(fit))
            .into_generator()
            .into_root_schema_for::<T>()
    }

    /// Fits one schema, without those inside of it.
    fn fit(schema: &mut Schema) {
        let Some(schema) = schema.as_object_mut() else {
            return;
        };
        schema.remove("default");
        schema.remove("uniqueItems");
        let format = schema.get("format").and_then(Value::as_str);
        if format.is_some_and(|format| !FORMATS.contains(&format)) {
            schema.remove("format");
        }
        // The variants of an enum differ, so that any of them is one of them.
        if let Some(variants) = schema.remove("oneOf") {
            schema.insert("anyOf".to_owned(), variants);
        }
        if schema.len() > 1 {
            if let Some(reference) = schema.remove("$ref") {
                schema.insert("anyOf".to_owned(), json!([{ "$ref": reference }]));
            }
        }
        if is_struct(schema) {
            close(schema);
        }
    }

    /// Neither a map, nor a struct with an enum flattened into it, whose variants would be shut out.
    fn is_struct(schema: &Map<String, Value>) -> bool {
        let is_map = schema
            .get("additionalProperties")
            .is_some_and(|more| *more != Value::Bool(false));
        is_object(schema) && !is_map && !schema.contains_key("anyOf")
    }

    fn close(schema: &mut Map<String, Value>) {
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        let names: Vec<&String> = properties
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .collect();
        let required = json!(names);
        schema.insert("required".to_owned(), required);
        schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}
