//! JSON that is on its way out, encoded once and kept as text.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// JSON text that keeps its key order. Equal means the same text.
#[derive(Clone)]
pub(crate) struct Encoded(Box<RawValue>);

impl Encoded {
    /// The reason why a value has no JSON text, such as a map whose keys are no strings.
    pub(crate) fn new(value: &(impl Serialize + ?Sized)) -> Result<Encoded, String> {
        serde_json::value::to_raw_value(value)
            .map(Encoded)
            .map_err(|e| e.to_string())
    }

    pub(crate) fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Encoded) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Encoded {}

impl Hash for Encoded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Encoded, D::Error> {
        Box::<RawValue>::deserialize(d).map(Encoded)
    }
}

/// Adds a member where there is a value for it.
pub(crate) fn optional<M: SerializeMap>(
    map: &mut M,
    name: &str,
    value: Option<&(impl Serialize + ?Sized)>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, value),
        None => Ok(()),
    }
}
