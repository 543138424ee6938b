//! Which keys a configuration section knows, asked of the section's own type.
//!
//! The crates own their sections, so the list in an error message comes from them too and cannot
//! fall behind.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

/// The field names of `T` as they stand in a file; none if `T` is not a struct.
pub(crate) fn known_keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // Deserializing only serves to be asked for the fields; it always ends in an error.
    let _always_an_error = T::deserialize(AskForFields(&mut keys));
    keys
}

struct AskForFields<'a>(&'a mut &'static [&'static str]);

#[derive(Debug)]
struct Asked;

impl<'de> Deserializer<'de> for AskForFields<'_> {
    type Error = Asked;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Asked> {
        *self.0 = fields;
        Err(Asked)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl Error for Asked {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self
    }
}

impl std::error::Error for Asked {}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("asked for fields only")
    }
}
