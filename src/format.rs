//! What form an answer has.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::encoded::{Encoded, optional};
use crate::json::value_of;
use crate::{Result, schema};

/// What form the answer has: text, JSON, or JSON of a given schema.
///
/// [`Completion::json`](crate::Completion::json) reads the answer.
///
/// ```
/// use aimlapi::{ChatRequest, ResponseFormat};
/// use serde_json::json;
///
/// let format = ResponseFormat::json_schema("person", json!({
///     "type": "object",
///     "properties": { "name": { "type": "string" }, "born": { "type": "integer" } },
///     "required": ["name", "born"],
///     "additionalProperties": false,
/// }))
/// .strict(true);
/// let request = ChatRequest::new("gpt-4o", "Who wrote the first program?")
///     .response_format(format);
/// # drop(request);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct ResponseFormat(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Text,
    JsonObject,
    JsonSchema {
        name: String,
        schema: Result<Encoded, String>,
        strict: Option<bool>,
        description: Option<String>,
    },
}

impl ResponseFormat {
    /// Text, which is the default of the API.
    pub fn text() -> ResponseFormat {
        ResponseFormat(Form::Text)
    }

    /// Any JSON object. Say in a message that JSON is wanted, and which: some models write none without it.
    pub fn json_object() -> ResponseFormat {
        ResponseFormat(Form::JsonObject)
    }

    /// JSON that follows a JSON Schema, under a name for the model to go by.
    ///
    /// The order of the schema's keys is kept, and models write their answer in that order. `serde_json::json!` sorts
    /// its keys, unless its feature `preserve_order` is on; a struct that is `Serialize`, or JSON text read as
    /// `serde_json::value::RawValue`, keeps them.
    pub fn json_schema(name: impl Into<String>, schema: impl Serialize) -> ResponseFormat {
        let schema = Encoded::new(&schema);
        ResponseFormat(Form::JsonSchema {
            name: name.into(),
            schema,
            strict: None,
            description: None,
        })
    }

    /// JSON that is a `T`, in strict mode: the type's own schema under the type's own name.
    ///
    /// The schema is made to fit strict mode. Every object is closed and requires all of its properties, in the order
    /// of the struct's fields, in which the model writes them; a field that is an `Option` may be `null`, and one with
    /// `#[serde(default)]` is always given. A doc comment becomes a description. What schemars says and strict mode
    /// does not permit is left out: default values, formats other than those of strings that OpenAI knows, and that
    /// the elements of a set are unique.
    ///
    /// `T` has to be a struct, and what strict mode cannot express stays as it is, to be named by
    /// [`lint`](ResponseFormat::lint) and refused by the server: maps, `serde_json::Value`, tuples, flattened enums.
    ///
    /// The feature `schemars` makes serde_json keep the order of keys everywhere, in `json!` too: it turns on its
    /// feature `preserve_order`.
    ///
    /// ```
    /// use aimlapi::ResponseFormat;
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Person {
    ///     name: String,
    ///     /// The year of birth.
    ///     born: Option<i32>,
    /// }
    ///
    /// let format = ResponseFormat::of::<Person>();
    /// assert!(format.lint().is_empty());
    /// ```
    #[cfg(feature = "schemars")]
    pub fn of<T: schemars::JsonSchema>() -> ResponseFormat {
        ResponseFormat::json_schema(schema::name::<T>(), schema::of::<T>()).strict(true)
    }

    /// Whether the answer must follow the schema exactly. The schema then has to follow the rules of strict mode; see
    /// [`lint`](ResponseFormat::lint). Of no effect without a schema. Default: absent, the API's own.
    pub fn strict(mut self, value: bool) -> ResponseFormat {
        if let Form::JsonSchema { strict, .. } = &mut self.0 {
            *strict = Some(value);
        }
        self
    }

    /// What the answer is for, for the model to go by. Of no effect without a schema.
    pub fn description(mut self, text: impl Into<String>) -> ResponseFormat {
        if let Form::JsonSchema { description, .. } = &mut self.0 {
            *description = Some(text.into());
        }
        self
    }

    /// What strict mode would refuse in the schema, one sentence for each place; empty if there is nothing. The check
    /// is made here, without a call.
    ///
    /// In strict mode the root is an object and no `anyOf`. Every object is closed (`"additionalProperties": false`)
    /// and requires each of its properties; an optional one is required and nullable. Everything has a type. There are
    /// `anyOf`, `$defs` and `$ref`, which stands alone; `allOf`, `oneOf`, `not`, conditions, tuples and patterns of
    /// names there are not. Limits of size, and keywords that only some models do without, are not checked.
    ///
    /// ```
    /// use aimlapi::ResponseFormat;
    /// use serde_json::json;
    ///
    /// let format = ResponseFormat::json_schema("person", json!({
    ///     "type": "object",
    ///     "properties": { "name": { "type": "string" } },
    ///     "additionalProperties": false,
    /// }));
    /// assert_eq!(format.lint(), ["$: the property \"name\" is not in \"required\""]);
    /// ```
    pub fn lint(&self) -> Vec<String> {
        let Form::JsonSchema { schema, .. } = &self.0 else {
            return Vec::new();
        };
        match schema.as_ref().map(|schema| value_of(schema.get())) {
            Ok(Some(schema)) => schema::lint(&schema),
            Ok(None) => vec!["$: the schema is null, or nested too deeply".to_owned()],
            Err(reason) => vec![format!("$: {reason}")],
        }
    }

    /// Why the format cannot be sent.
    pub(crate) fn fault(&self) -> Option<String> {
        let Form::JsonSchema {
            name,
            schema: Err(reason),
            ..
        } = &self.0
        else {
            return None;
        };
        Some(format!("the schema {name:?} has no JSON form: {reason}"))
    }
}

impl Serialize for ResponseFormat {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        match &self.0 {
            Form::Text => map.serialize_entry("type", "text")?,
            Form::JsonObject => map.serialize_entry("type", "json_object")?,
            Form::JsonSchema {
                name,
                schema,
                strict,
                description,
            } => {
                map.serialize_entry("type", "json_schema")?;
                let schema = schema.as_ref().ok();
                map.serialize_entry(
                    "json_schema",
                    &JsonSchema {
                        name,
                        description,
                        schema,
                        strict,
                    },
                )?;
            }
        }
        map.end()
    }
}

struct JsonSchema<'a> {
    name: &'a str,
    description: &'a Option<String>,
    schema: Option<&'a Encoded>,
    strict: &'a Option<bool>,
}

impl Serialize for JsonSchema<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        optional(&mut map, "description", self.description.as_ref())?;
        optional(&mut map, "schema", self.schema)?;
        optional(&mut map, "strict", self.strict.as_ref())?;
        map.end()
    }
}
