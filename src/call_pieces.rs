//! Tool calls that arrive in pieces. Servers disagree on how a piece says which call it is of.

use serde_json::{Map, Value};

use crate::ToolCall;
use crate::json::{Json, Node};
use crate::message::MOST;

/// More choices or calls than any answer has.
#[derive(Debug, PartialEq)]
pub(crate) struct TooMany;

/// For each tool call of one choice, its `index` where the server counts them. It is not kept in the call: a whole
/// answer's have none.
#[derive(Debug, Default)]
pub(crate) struct CallPieces(Vec<Option<u64>>);

impl CallPieces {
    /// Adds the pieces in the `tool_calls` of one event.
    pub(crate) fn add(
        &mut self,
        calls: &mut Vec<ToolCall>,
        pieces: Node<'_>,
    ) -> Result<(), TooMany> {
        let last = calls.len().checked_sub(1);
        for node in pieces.items().take(MOST + 1) {
            let Some(piece) = ToolCall::read(node) else {
                continue;
            };
            let index = node.get("index").and_then(Node::count);
            let at = self.find(calls, last, index, &piece);
            match at.and_then(|at| calls.get_mut(at)) {
                Some(call) => lengthen(call, piece),
                None if self.0.len() >= MOST => return Err(TooMany),
                None => {
                    calls.push(piece);
                    self.0.push(index);
                }
            }
        }
        Ok(())
    }

    /// The call that a piece belongs to: that of its `index`, else of its id, else the last one before its event.
    fn find(
        &self,
        calls: &[ToolCall],
        last: Option<usize>,
        index: Option<u64>,
        piece: &ToolCall,
    ) -> Option<usize> {
        let has_no_id = |at: &usize| calls.get(*at).is_some_and(|call| call.id.is_empty());
        let at = match index {
            Some(_) => self.0.iter().rposition(|other| *other == index),
            None if piece.id.is_empty() => last,
            None => {
                let same = calls.iter().rposition(|call| call.id == piece.id);
                same.or(last.filter(has_no_id))
            }
        }?;
        let call = calls.get(at)?;
        let is_another = if piece.name.is_empty() {
            false
        } else if piece.id.is_empty() || call.id.is_empty() {
            // Calls that nothing tells apart come whole.
            let both_whole = || is_json(&piece.arguments) && is_json(&call.arguments);
            index.is_none() && !call.name.is_empty() && (call.name != piece.name || both_whole())
        } else {
            // A server that counts every call as 0 still gives each an id and a name of its own.
            call.id != piece.id
        };
        (!is_another).then_some(at)
    }
}

fn is_json(text: &str) -> bool {
    Json::read(text).is_ok()
}

fn lengthen(call: &mut ToolCall, piece: ToolCall) {
    let ToolCall {
        id,
        custom,
        name,
        arguments,
        extra,
        inner,
    } = piece;
    if call.id.is_empty() {
        call.id = id;
    }
    // Some servers repeat the name with every piece; none cuts it after the arguments have begun.
    if call.arguments.is_empty() && name != call.name {
        call.name.push_str(&name);
    }
    call.custom |= custom;
    call.arguments.push_str(&arguments);
    merge(&mut call.extra, extra);
    merge(&mut call.inner, inner);
}

fn merge(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (name, value) in new {
        match (old.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => drop(old.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text is the `tool_calls` of one delta, and each call is its id, its name and its arguments.
    #[track_caller]
    fn calls(pieces: &[&str], want: &[(&str, &str, &str)]) {
        let (mut all, mut known) = (Vec::new(), CallPieces::default());
        for piece in pieces {
            let pieces = Json::read(piece).unwrap();
            known.add(&mut all, pieces.root()).unwrap();
        }
        let shown = all
            .iter()
            .map(|call| (call.id(), call.name(), call.arguments()));
        assert_eq!(shown.collect::<Vec<_>>(), want);
        assert!(all.iter().all(|call| call.extra.is_empty()), "{all:?}");
    }

    #[test]
    fn calls_are_put_together_by_their_index() {
        calls(
            &[
                r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
                r#"[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{"}}]"#,
                r#"[{"index":0,"function":{"arguments":"[1,"}},{"index":1,"function":{"arguments":"}"}}]"#,
                r#"[{"index":0,"function":{"arguments":"2]"}}]"#,
            ],
            &[("a", "f", "[1,2]"), ("b", "g", "{}")],
        );
    }

    #[test]
    fn calls_without_an_index_are_put_together_by_their_id_or_in_order() {
        calls(
            &[
                r#"[{"id":"a","function":{"name":"f","arguments":"["}}]"#,
                r#"[{"function":{"arguments":"1"}}]"#,
                r#"[{"id":"b","function":{"name":"f","arguments":"{"}}]"#,
                r#"[{"id":"a","function":{"arguments":"]"}},{"id":"b","function":{"arguments":"}"}}]"#,
            ],
            &[("a", "f", "[1]"), ("b", "f", "{}")],
        );
    }

    #[test]
    fn ids_and_names_may_come_late_or_again() {
        calls(
            &[
                r#"[{"index":0,"function":{"arguments":""}}]"#,
                r#"[{"index":0,"id":"a","function":{"name":"f"}}]"#,
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#,
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]"#,
            ],
            &[("a", "f", "{}")],
        );
        calls(
            &[
                r#"[{"function":{"name":"f"}}]"#,
                r#"[{"id":"a","function":{"arguments":"{}"}}]"#,
            ],
            &[("a", "f", "{}")],
        );
        calls(
            &[
                r#"[{"index":0,"id":"a","function":{"name":"get_"}}]"#,
                r#"[{"index":0,"id":"","function":{"name":"weather","arguments":null}}]"#,
            ],
            &[("a", "get_weather", "")],
        );
    }

    #[test]
    fn calls_that_are_all_counted_as_0_are_told_apart_by_their_ids() {
        calls(
            &[
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"["}}]"#,
                r#"[{"index":0,"function":{"arguments":"]"}}]"#,
                r#"[{"index":0,"id":"b","function":{"name":"f","arguments":"{"}}]"#,
                r#"[{"index":0,"function":{"arguments":"}"}}]"#,
            ],
            &[("a", "f", "[]"), ("b", "f", "{}")],
        );
    }

    #[test]
    fn calls_that_nothing_tells_apart_come_whole() {
        let f = r#"{"function":{"name":"f","arguments":"{}"}}"#;
        let g = r#"{"function":{"name":"g"}}"#;
        let both = [("", "f", "{}"), ("", "g", "")];
        calls(&[&format!("[{f},{g}]")], &both);
        calls(&[&format!("[{f}]"), &format!("[{g}]")], &both);
        calls(&[&format!("[{f}]"), &format!("[{f}]")], &[both[0], both[0]]);
        calls(
            &[
                r#"[{"function":{"name":"f","arguments":"["}}]"#,
                r#"[{"function":{"name":"f","arguments":"]"}}]"#,
            ],
            &[("", "f", "[]")],
        );
    }

    #[test]
    fn arguments_may_be_absent_or_an_object() {
        calls(
            &[r#"[{"index":0,"id":"a","function":{"name":"f"}}]"#],
            &[("a", "f", "")],
        );
        calls(
            &[r#"[{"index":0,"id":"a","function":null},{"index":1}]"#],
            &[("a", "", ""), ("", "", "")],
        );
        calls(
            &[r#"[{"index":0,"id":"a","function":{"name":"f","arguments":{"x":1}}}]"#],
            &[("a", "f", r#"{"x":1}"#)],
        );
    }
}
