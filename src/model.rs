//! The models that a server offers.

use crate::json::{Json, Node};
use crate::refusal;
use crate::{Error, Result};

/// A model that a server offers, as [`Client::models`](crate::Client::models) lists it.
///
/// ```no_run
/// for model in aimlapi::Client::from_env()?.models()? {
///     let aliases: Vec<&str> = model.aliases().collect();
///     println!("{} {aliases:?}", model.id());
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    id: String,
    aliases: Vec<String>,
    raw: String,
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

    fn read(node: Node<'_>) -> Option<Model> {
        let text = |name: &str| node.get(name)?.text();
        let aliases = node.get("aliases").into_iter().flat_map(Node::items);
        Some(Model {
            id: text("id")
                .or_else(|| text("model"))
                .or_else(|| text("name"))?,
            aliases: aliases.filter_map(Node::text).collect(),
            raw: node.raw().to_owned(),
        })
    }

    /// Reads `{"data": [..]}`, which OpenAI and AI/ML API send with different items, `{"models": [..]}` or a bare list.
    pub(crate) fn decode(status: u16, body: String) -> Result<Vec<Model>> {
        let what = "what is no list of models";
        let json = match Json::read(&body) {
            Ok(json) => json,
            Err(cause) => return Err(Error::no_answer(status, body, what).with_cause(cause)),
        };
        let root = json.root();
        let list = root
            .get("data")
            .or_else(|| root.get("models"))
            .unwrap_or(root);
        if list.is_array() {
            return Ok(list.items().filter_map(Model::read).collect());
        }
        Err(if refusal::is_error(root) {
            Error::reported(status, &body)
        } else {
            Error::no_answer(status, body, what)
        })
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
