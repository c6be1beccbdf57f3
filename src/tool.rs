//! Tools that a model may call, and the calls it makes.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::encoded::{Encoded, optional};
use crate::json::{self, Node, keep};
#[cfg(feature = "schemars")]
use crate::schema;
use crate::{Error, Result};

/// A tool that a model may call: its name, what it does, and the arguments it takes.
///
/// ```
/// use aimlapi::Tool;
/// use serde_json::json;
///
/// let weather = Tool::function("weather")
///     .description("The weather in a city, now.")
///     .parameters(json!({
///         "type": "object",
///         "properties": { "city": { "type": "string" } },
///         "required": ["city"],
///     }));
/// # drop(weather);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Tool {
    kind: Kind,
    name: String,
    description: Option<String>,
    cache_control: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Function {
        /// The reason if they have no JSON text.
        parameters: Option<Result<Encoded, String>>,
        strict: Option<bool>,
    },
    Custom {
        format: Value,
    },
    Raw(Value),
}

impl Tool {
    fn new(kind: Kind, name: impl Into<String>) -> Tool {
        Tool {
            kind,
            name: name.into(),
            description: None,
            cache_control: None,
        }
    }

    /// A function with this name, which the API wants to be of at most 64 letters, digits, `_` and `-`.
    pub fn function(name: impl Into<String>) -> Tool {
        let kind = Kind::Function {
            parameters: None,
            strict: None,
        };
        Tool::new(kind, name)
    }

    /// A function that takes an `Args` as its arguments, in strict mode:
    /// [`parse_arguments`](ToolCall::parse_arguments) reads them. The schema is made as that of
    /// [`ResponseFormat::of`](crate::ResponseFormat::of), which tells what holds for it.
    ///
    /// ```
    /// use aimlapi::Tool;
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Weather {
    ///     city: String,
    ///     /// For how many days from today.
    ///     days: Option<u8>,
    /// }
    ///
    /// let weather = Tool::of::<Weather>("weather").description("The weather in a city.");
    /// # drop(weather);
    /// ```
    #[cfg(feature = "schemars")]
    pub fn of<Args: schemars::JsonSchema>(name: impl Into<String>) -> Tool {
        Tool::function(name)
            .parameters(schema::of::<Args>())
            .strict(true)
    }

    /// A tool that takes free text in place of arguments; [`grammar`](Tool::grammar) says which text.
    pub fn custom(name: impl Into<String>) -> Tool {
        // The API documents the format as required, also where it permits everything.
        let format = json!({ "type": "text" });
        Tool::new(Kind::Custom { format }, name)
    }

    /// Any other tool, as it is on the wire, such as one of the provider's own. No other method changes it.
    pub fn raw(tool: Value) -> Tool {
        Tool::new(Kind::Raw(tool), "")
    }

    /// What the tool does: by this the model decides when to call it.
    pub fn description(mut self, description: impl Into<String>) -> Tool {
        self.description = Some(description.into());
        self
    }

    /// The arguments of a function as a JSON Schema, of type `object`. Default: absent, no arguments.
    ///
    /// The order of the schema's keys is kept, and models write their arguments in that order. `serde_json::json!`
    /// sorts its keys, unless its feature `preserve_order` is on; a struct that is `Serialize`, or JSON text read as
    /// `serde_json::value::RawValue`, keeps them.
    pub fn parameters(mut self, schema: impl Serialize) -> Tool {
        if let Kind::Function { parameters, .. } = &mut self.kind {
            *parameters = Some(Encoded::new(&schema));
        }
        self
    }

    /// Whether the arguments of a function must fit the schema exactly. The schema then has to follow the rules of
    /// strict mode, which [`ResponseFormat::lint`](crate::ResponseFormat::lint) explains. Default: absent, the API's
    /// own.
    pub fn strict(mut self, value: bool) -> Tool {
        if let Kind::Function { strict, .. } = &mut self.kind {
            *strict = Some(value);
        }
        self
    }

    /// The grammar of a custom tool's text. The API documents the syntaxes `lark` and `regex`. Default: any text.
    pub fn grammar(mut self, syntax: impl Into<String>, definition: impl Into<String>) -> Tool {
        if let Kind::Custom { format } = &mut self.kind {
            let grammar = json!({ "syntax": syntax.into(), "definition": definition.into() });
            *format = json!({ "type": "grammar", "grammar": grammar });
        }
        self
    }

    /// Lets the provider cache the prompt up to and including this tool, as [`ContentPart::cached`] does for a part.
    ///
    /// [`ContentPart::cached`]: crate::ContentPart::cached
    pub fn cached(mut self) -> Tool {
        self.cache_control = Some(json!({ "type": "ephemeral" }));
        self
    }

    /// Like [`cached`](Tool::cached), for a time that the API documents as `5m` or `1h`.
    pub fn cache_ttl(mut self, ttl: impl Into<String>) -> Tool {
        self.cache_control = Some(json!({ "type": "ephemeral", "ttl": ttl.into() }));
        self
    }

    /// Why the tool cannot be sent.
    pub(crate) fn fault(&self) -> Option<String> {
        let Kind::Function {
            parameters: Some(Err(reason)),
            ..
        } = &self.kind
        else {
            return None;
        };
        Some(format!(
            "the parameters of the tool {:?} have no JSON form: {reason}",
            self.name
        ))
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut inner = Inner {
            name: &self.name,
            description: self.description.as_deref(),
            parameters: None,
            strict: None,
            format: None,
        };
        let kind = match &self.kind {
            Kind::Function { parameters, strict } => {
                inner.parameters = parameters.as_ref().and_then(|json| json.as_ref().ok());
                inner.strict = *strict;
                "function"
            }
            Kind::Custom { format } => {
                inner.format = Some(format);
                "custom"
            }
            Kind::Raw(tool) => return tool.serialize(s),
        };
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("type", kind)?;
        map.serialize_entry(kind, &inner)?;
        optional(&mut map, "cache_control", self.cache_control.as_ref())?;
        map.end()
    }
}

struct Inner<'a> {
    name: &'a str,
    description: Option<&'a str>,
    parameters: Option<&'a Encoded>,
    strict: Option<bool>,
    format: Option<&'a Value>,
}

impl Serialize for Inner<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        optional(&mut map, "description", self.description)?;
        optional(&mut map, "parameters", self.parameters)?;
        optional(&mut map, "strict", self.strict.as_ref())?;
        optional(&mut map, "format", self.format)?;
        map.end()
    }
}

/// Which tools the model may or must call.
///
/// ```
/// use aimlapi::{ChatRequest, Tool, ToolChoice};
///
/// let request = ChatRequest::new("m", "Do I need a coat?")
///     .tools([Tool::function("weather")])
///     .tool_choice(ToolChoice::Required);
/// # drop(request);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolChoice {
    /// `auto`: the model decides. The API's default where there are tools.
    Auto,
    /// `none`: no tool.
    None,
    /// `required`: at least one.
    Required,
    /// The function with this name.
    Function(String),
    /// Any other choice, as it is on the wire, such as the one that [`allowed`](ToolChoice::allowed) makes.
    Raw(Value),
}

impl ToolChoice {
    /// One of these functions only; `required`: one must be called, else one may be.
    ///
    /// ```
    /// let choice = aimlapi::ToolChoice::allowed(["weather", "time"], false);
    /// # drop(choice);
    /// ```
    pub fn allowed<T: Into<String>>(
        names: impl IntoIterator<Item = T>,
        required: bool,
    ) -> ToolChoice {
        let tools: Vec<Value> = names
            .into_iter()
            .map(|name| json!({ "type": "function", "function": { "name": name.into() } }))
            .collect();
        let mode = if required { "required" } else { "auto" };
        ToolChoice::Raw(
            json!({ "type": "allowed_tools", "allowed_tools": { "mode": mode, "tools": tools } }),
        )
    }
}

impl Serialize for ToolChoice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            ToolChoice::Auto => "auto".serialize(s),
            ToolChoice::None => "none".serialize(s),
            ToolChoice::Required => "required".serialize(s),
            ToolChoice::Function(name) => {
                json!({ "type": "function", "function": { "name": name } }).serialize(s)
            }
            ToolChoice::Raw(choice) => choice.serialize(s),
        }
    }
}

/// A call of a tool that a model wants made.
///
/// Answer it with [`Message::tool`](crate::Message::tool), after the reply's own message. A call whose answer ended
/// with [`FinishReason::Length`](crate::FinishReason::Length) may be cut short: do not run it.
///
/// ```
/// use aimlapi::Completion;
///
/// #[derive(serde::Deserialize)]
/// struct Weather {
///     city: String,
/// }
///
/// let reply: Completion = serde_json::from_str(r#"{"choices": [{"message": {"tool_calls": [
///     {"id": "call_1", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}}
/// ]}}]}"#)?;
/// let call = &reply.tool_calls()[0];
/// assert_eq!((call.id(), call.name()), ("call_1", "weather"));
/// assert_eq!(call.parse_arguments::<Weather>()?.city, "Paris");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToolCall {
    pub(crate) id: String,
    pub(crate) custom: bool,
    pub(crate) name: String,
    pub(crate) arguments: String,
    /// What else the call holds, such as `extra_content`; it goes back unchanged.
    pub(crate) extra: Map<String, Value>,
    /// What else its `function` or `custom` holds.
    pub(crate) inner: Map<String, Value>,
}

impl ToolCall {
    /// The id to answer with; `""` where the server gave none.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of the tool.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments as the model wrote them: JSON text, though not always valid. A custom tool's input.
    pub fn arguments(&self) -> &str {
        &self.arguments
    }

    /// The arguments as a `T`. No text at all counts as `{}`.
    ///
    /// # Errors
    ///
    /// [`Decode`](crate::ErrorKind::Decode) if the model wrote something else; the error shows the text, and
    /// [`body()`](Error::body) holds it. Tell the model so in the tool's message, and it will often mend it.
    pub fn parse_arguments<T: DeserializeOwned>(&self) -> Result<T> {
        let text = match self.arguments.trim() {
            "" => "{}",
            text => text,
        };
        serde_json::from_str(text).map_err(|e| {
            Error::unparsable(
                &format!("the arguments for the tool {:?} do not fit", self.name),
                text,
                e,
            )
        })
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (kind, text) = if self.custom {
            ("custom", "input")
        } else {
            ("function", "arguments")
        };
        let mut inner = self.inner.clone();
        inner.insert("name".to_owned(), self.name.as_str().into());
        inner.insert(text.to_owned(), self.arguments.as_str().into());
        let mut map = s.serialize_map(None)?;
        // A server that gave no id is sent none.
        if !self.id.is_empty() {
            map.serialize_entry("id", &self.id)?;
        }
        if !self.extra.contains_key("type") {
            map.serialize_entry("type", kind)?;
        }
        map.serialize_entry(kind, &inner)?;
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ToolCall, D::Error> {
        json::deserialize(d, "a tool call", ToolCall::read)
    }
}

impl ToolCall {
    /// Reads a call, or a piece of one that a stream brings.
    pub(crate) fn read(node: Node<'_>) -> Option<ToolCall> {
        let mut call = ToolCall {
            id: String::new(),
            custom: false,
            name: String::new(),
            arguments: String::new(),
            extra: Map::new(),
            inner: Map::new(),
        };
        if !node.is_object() {
            return None;
        }
        for (name, value) in node.members() {
            match &*name {
                "id" => call.id = value.text().unwrap_or_default(),
                // Told by the member of that name, but for types such as `builtin_function`, whose member is `function`.
                "type"
                    if matches!(
                        value.str().as_deref(),
                        None | Some("" | "function" | "custom")
                    ) => {}
                "function" => call.read_inner(value),
                "custom" => {
                    call.custom = true;
                    call.read_inner(value);
                }
                // Its place says the same.
                "index" => {}
                _ => keep(&mut call.extra, name, value),
            }
        }
        Some(call)
    }

    fn read_inner(&mut self, node: Node<'_>) {
        for (name, value) in node.members() {
            match &*name {
                "name" => self.name = value.text().unwrap_or_default(),
                "arguments" | "input" if !value.is_null() => {
                    // A few servers send the arguments as JSON and not as text that holds JSON.
                    self.arguments = value
                        .str()
                        .map_or_else(|| value.raw().to_owned(), Cow::into_owned);
                }
                _ => keep(&mut self.inner, name, value),
            }
        }
    }
}
