//! The models that a server offers.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::refusal;
use crate::wire::{self, Any, Text};
use crate::{Error, Result};

/// A model that a server offers, as [`Client::models`](crate::Client::models) lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    id: String,
    aliases: Vec<String>,
    raw: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Item {
    id: Text,
    name: Text,
    model: Text,
    aliases: Any,
}

impl Model {
    /// The name to ask for.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Other names of the same model. AI/ML API gives them; most servers do not.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().map(String::as_str)
    }

    /// The list's item as JSON: what else a server tells, such as `info.contextLength` and `tags`, is in it.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    fn read(raw: &RawValue) -> Option<Model> {
        let item: Item = wire::decode(raw.get()).ok()?;
        let names = item.aliases.0.as_ref().and_then(Value::as_array);
        Some(Model {
            id: item.id.0.or(item.model.0).or(item.name.0)?,
            aliases: names
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            raw: raw.get().to_owned(),
        })
    }

    /// Reads `{"data": [..]}`, which OpenAI and AI/ML API send with different items, `{"models": [..]}` or a bare list.
    /// llama.cpp sends both members: the first in OpenAI's form, the second in Ollama's.
    pub(crate) fn decode(status: u16, body: String) -> Result<Vec<Model>> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            data: Option<Vec<&'a RawValue>>,
            #[serde(borrow)]
            models: Option<Vec<&'a RawValue>>,
        }
        let page = serde_json::from_str::<Page<'_>>(&body).ok();
        let items = match page.and_then(|page| page.data.or(page.models)) {
            Some(items) => Ok(items),
            None => serde_json::from_str::<Vec<&RawValue>>(&body),
        };
        match items {
            Ok(items) => Ok(items.into_iter().filter_map(Model::read).collect()),
            Err(cause) => {
                let value = serde_json::from_str(&body).unwrap_or(Value::Null);
                Err(if refusal::is_error(&value) {
                    Error::reported(status, &body)
                } else {
                    Error::no_answer(status, body, "what is no list of models").with_cause(cause)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_under_every_name() {
        for body in [
            r#"{"data": [{"id": "m"}]}"#,
            r#"{"models": [{"name": "m"}]}"#,
            r#"{"models": [{"name": "other"}], "object": "list", "data": [{"id": "m"}]}"#,
            r#"{"models": [{"name": "m"}], "data": null}"#,
            r#"[{"id": "m"}]"#,
        ] {
            let models = Model::decode(200, body.to_owned()).unwrap();
            assert_eq!(
                models.iter().map(Model::id).collect::<Vec<_>>(),
                ["m"],
                "{body}"
            );
        }
        assert!(Model::decode(200, "{}".to_owned()).is_err());
    }
}
