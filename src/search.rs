//! How a searching model searches.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::encoded::optional;

/// How a model that searches the web searches it.
///
/// ```
/// use aimlapi::{ChatRequest, WebSearchOptions};
///
/// let options = WebSearchOptions::new().search_context_size("low").country("FR").city("Lyon");
/// let request = ChatRequest::new("gpt-4o-search-preview", "What is on tonight?")
///     .web_search_options(options);
/// # drop(request);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct WebSearchOptions {
    size: Option<String>,
    location: Map<String, Value>,
}

impl WebSearchOptions {
    /// Nothing set: everything as the model has it.
    pub fn new() -> WebSearchOptions {
        WebSearchOptions::default()
    }

    /// `search_context_size`: how much of what is found the model reads: `low`, `medium` or `high`. Default: `medium`.
    pub fn search_context_size(mut self, size: impl Into<String>) -> WebSearchOptions {
        self.size = Some(size.into());
        self
    }

    /// `user_location`: the user's country, by its two-letter ISO code such as `US`.
    pub fn country(self, country: impl Into<String>) -> WebSearchOptions {
        self.at("country", country.into())
    }

    /// `user_location`: the user's region, in free words.
    pub fn region(self, region: impl Into<String>) -> WebSearchOptions {
        self.at("region", region.into())
    }

    /// `user_location`: the user's city, in free words.
    pub fn city(self, city: impl Into<String>) -> WebSearchOptions {
        self.at("city", city.into())
    }

    /// `user_location`: the user's time zone, by its IANA name such as `America/Los_Angeles`.
    pub fn timezone(self, timezone: impl Into<String>) -> WebSearchOptions {
        self.at("timezone", timezone.into())
    }

    fn at(mut self, name: &str, value: String) -> WebSearchOptions {
        self.location.insert(name.to_owned(), Value::String(value));
        self
    }
}

impl Serialize for WebSearchOptions {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        optional(&mut map, "search_context_size", self.size.as_ref())?;
        if !self.location.is_empty() {
            map.serialize_entry(
                "user_location",
                &json!({ "type": "approximate", "approximate": self.location }),
            )?;
        }
        map.end()
    }
}
