//! What an enum whose values are names on the wire has besides `as_str`.

/// It is read from any text, as all have an `Other`, and printed and stored as the name. A macro, since of three lists
/// of the same traits one would soon lack one.
macro_rules! name {
    ($type:ident { $($name:literal => $variant:ident,)* }) => {
        impl From<&str> for $type {
            fn from(name: &str) -> $type {
                match name {
                    $($name => $type::$variant,)*
                    other => $type::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                <String as serde::Deserialize>::deserialize(d).map(|name| name.as_str().into())
            }
        }
    };
}

pub(crate) use name;
