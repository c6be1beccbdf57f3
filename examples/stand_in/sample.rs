//! JSON made up to fit a schema.
//!
//! It is text and not a `Value`, which would sort the keys: a model writes them in the order of the
//! schema, and that is still known from `required`.

use serde_json::{Map, Value};

/// JSON that fits a schema, with `text` for every string and `number` for every integer.
pub(super) fn sample(schema: &Value, text: &str, number: u32) -> String {
    let root = schema;
    Sample { root, text, number }.of(schema, &[])
}

struct Sample<'a> {
    /// What a reference in a schema starts from.
    root: &'a Value,
    text: &'a str,
    number: u32,
}

impl Sample<'_> {
    /// For a part of the schema, reached by way of the references `refs`.
    fn of(&self, schema: &Value, refs: &[&str]) -> String {
        if let Some(value) = schema.get("const").or(schema["enum"].get(0)) {
            return value.to_string();
        }
        if let Some(path) = schema["$ref"].as_str() {
            // A type that holds itself ends here.
            if refs.contains(&path) {
                return "null".to_owned();
            }
            let target = path
                .strip_prefix('#')
                .and_then(|path| self.root.pointer(path));
            return self.of(target.unwrap_or(&Value::Null), &[refs, &[path]].concat());
        }
        let mut alternatives = ["anyOf", "oneOf", "allOf"].iter();
        if let Some(first) = alternatives.find_map(|key| schema[key].get(0)) {
            return self.of(first, refs);
        }
        // Of several types, the first: the others are mostly "null".
        match schema["type"].as_str().or(schema["type"][0].as_str()) {
            Some("string") => Value::from(self.text).to_string(),
            Some("integer") => self.number.to_string(),
            Some("number") => "1.5".to_owned(),
            Some("boolean") => "true".to_owned(),
            Some("null") => "null".to_owned(),
            Some("array") => match self.of(&schema["items"], refs).as_str() {
                "null" => "[]".to_owned(),
                item => format!("[{item}]"),
            },
            _ => self.object(schema, refs),
        }
    }

    fn object(&self, schema: &Value, refs: &[&str]) -> String {
        let required = schema["required"].as_array().into_iter().flatten();
        let mut names: Vec<_> = required.filter_map(Value::as_str).collect();
        for name in schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
        {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let member = |name| {
            let value = self.of(&schema["properties"][name], refs);
            format!("{}: {value}", Value::from(name))
        };
        format!(
            "{{{}}}",
            names.into_iter().map(member).collect::<Vec<_>>().join(", ")
        )
    }
}
