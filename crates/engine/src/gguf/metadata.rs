//! The key-value pairs of a GGUF file, and typed access to them.
//!
//! Getters come in pairs: `x(key)` reports a missing key as an error, `x_opt(key)`
//! returns `None`. A value of another type is an error in both, never a silent default.

use std::collections::BTreeMap;
use std::io::Read;

use super::reader::Reader;
use super::{ARRAY_ELEMENTS_MAX, KEY_BYTES_MAX, STRING_BYTES_MAX, Texts};
use crate::error::{EngineError, Result};

/// One metadata value. Integers of all widths are held as 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `u8`, `u16`, `u32` or `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32` or `i64`.
    Signed(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A byte of 0 or 1.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// A flat array.
    Array(Array),
}

/// A flat array of one element type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Integers of any width and sign.
    Integers(Vec<i64>),
    /// `f32` or `f64`, held as `f32`.
    Floats(Vec<f32>),
    /// Booleans.
    Bools(Vec<bool>),
    /// Strings.
    Strings(Texts),
}

/// The metadata of a GGUF file, by key.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

impl Metadata {
    /// Collects entries directly, for files made in memory. A later entry replaces an earlier one.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }

    pub(super) fn read<R: Read>(reader: &mut Reader<R>, count: u64) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = reader.string("metadata key", KEY_BYTES_MAX)?;
            let type_id = reader.u32()?;
            let value = read_value(reader, type_id)?;
            if let Some(_previous) = entries.insert(key.clone(), value) {
                return Err(reader.invalid(format!("metadata key {key:?} appears twice")));
            }
        }
        Ok(Self { entries })
    }

    /// The value at `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All entries, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// Text at `key`.
    ///
    /// # Errors
    /// [`EngineError::MetadataMissing`] or [`EngineError::MetadataType`].
    pub fn string(&self, key: &str) -> Result<&str> {
        self.string_opt(key)?.ok_or_else(|| missing(key))
    }

    /// Text at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn string_opt(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer at `key`.
    ///
    /// # Errors
    /// [`EngineError::MetadataMissing`] or [`EngineError::MetadataType`].
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.u64_opt(key)?.ok_or_else(|| missing(key))
    }

    /// A non-negative integer at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn u64_opt(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", |value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A token id or other 32-bit number at `key`.
    ///
    /// # Errors
    /// [`EngineError::MetadataMissing`] or [`EngineError::MetadataType`].
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.u32_opt(key)?.ok_or_else(|| missing(key))
    }

    /// A token id or other 32-bit number at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn u32_opt(&self, key: &str) -> Result<Option<u32>> {
        self.u64_opt(key)?
            .map(|number| {
                u32::try_from(number)
                    .map_err(|_| wrong_type(key, "a 32-bit number", "a larger one"))
            })
            .transpose()
    }

    /// A finite floating-point number at `key`.
    ///
    /// # Errors
    /// [`EngineError::MetadataMissing`] or [`EngineError::MetadataType`].
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.f64_opt(key)?.ok_or_else(|| missing(key))
    }

    /// A finite floating-point number at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn f64_opt(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", |value| match value {
            Value::Float(number) if number.is_finite() => Some(*number),
            _ => None,
        })
    }

    /// A boolean at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn bool_opt(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Strings at `key`.
    ///
    /// # Errors
    /// [`EngineError::MetadataMissing`] or [`EngineError::MetadataType`].
    pub fn strings(&self, key: &str) -> Result<&Texts> {
        self.strings_opt(key)?.ok_or_else(|| missing(key))
    }

    /// Strings at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn strings_opt(&self, key: &str) -> Result<Option<&Texts>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(texts)) => Some(texts),
            _ => None,
        })
    }

    /// Floats at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn floats_opt(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(Array::Floats(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// Integers at `key`, if there is such a key.
    ///
    /// # Errors
    /// [`EngineError::MetadataType`].
    pub fn integers_opt(&self, key: &str) -> Result<Option<&[i64]>> {
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(Array::Integers(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.entries.get(key) else {
            return Ok(None);
        };
        pick(value)
            .map(Some)
            .ok_or_else(|| wrong_type(key, expected, value.kind()))
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "an unsigned integer",
            Self::Signed(_) => "a signed integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Array(Array::Integers(_)) => "an array of integers",
            Self::Array(Array::Floats(_)) => "an array of floats",
            Self::Array(Array::Bools(_)) => "an array of booleans",
            Self::Array(Array::Strings(_)) => "an array of strings",
        }
    }
}

fn missing(key: &str) -> EngineError {
    EngineError::MetadataMissing {
        key: key.to_owned(),
    }
}

fn wrong_type(key: &str, expected: &'static str, found: &'static str) -> EngineError {
    EngineError::MetadataType {
        key: key.to_owned(),
        expected,
        found,
    }
}

/// Type numbers of the format.
mod type_id {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

fn read_value<R: Read>(reader: &mut Reader<R>, type_id: u32) -> Result<Value> {
    Ok(match type_id {
        type_id::U8 => Value::Unsigned(u64::from(reader.array::<1>()?[0])),
        type_id::U16 => Value::Unsigned(u64::from(u16::from_le_bytes(reader.array()?))),
        type_id::U32 => Value::Unsigned(u64::from(reader.u32()?)),
        type_id::U64 => Value::Unsigned(reader.u64()?),
        type_id::I8 => Value::Signed(i64::from(i8::from_le_bytes(reader.array()?))),
        type_id::I16 => Value::Signed(i64::from(i16::from_le_bytes(reader.array()?))),
        type_id::I32 => Value::Signed(i64::from(i32::from_le_bytes(reader.array()?))),
        type_id::I64 => Value::Signed(i64::from_le_bytes(reader.array()?)),
        type_id::F32 => Value::Float(f64::from(f32::from_le_bytes(reader.array()?))),
        type_id::F64 => Value::Float(f64::from_le_bytes(reader.array()?)),
        type_id::BOOL => Value::Bool(read_bool(reader)?),
        type_id::STRING => Value::String(reader.string("string value", STRING_BYTES_MAX)?),
        type_id::ARRAY => Value::Array(read_array(reader)?),
        unknown => return Err(reader.invalid(format!("value type {unknown} is unknown"))),
    })
}

fn read_bool<R: Read>(reader: &mut Reader<R>) -> Result<bool> {
    match reader.array::<1>()?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(reader.invalid(format!("a boolean is {other}, not 0 or 1"))),
    }
}

fn read_array<R: Read>(reader: &mut Reader<R>) -> Result<Array> {
    let element = reader.u32()?;
    let count = reader.u64()?;
    if element == type_id::STRING {
        reader.check_count("array elements", count, ARRAY_ELEMENTS_MAX, 8)?;
        let mut texts = Texts::default();
        let mut text = Vec::new();
        for _ in 0..count {
            texts.push(reader.string_into("string element", STRING_BYTES_MAX, &mut text)?);
        }
        texts.shrink_to_fit();
        return Ok(Array::Strings(texts));
    }
    let width = match element {
        type_id::U8 | type_id::I8 | type_id::BOOL => 1,
        type_id::U16 | type_id::I16 => 2,
        type_id::U32 | type_id::I32 | type_id::F32 => 4,
        type_id::U64 | type_id::I64 | type_id::F64 => 8,
        other => {
            return Err(reader.invalid(format!("arrays of value type {other} are not supported")));
        }
    };
    reader.check_count("array elements", count, ARRAY_ELEMENTS_MAX, width)?;
    let bytes = reader.bytes(count * width)?;
    decode_array(element, &bytes).ok_or_else(|| {
        reader.invalid("an array holds values outside of its type's range".to_owned())
    })
}

/// Decodes fixed-width elements; `None` for a boolean that is neither 0 nor 1 or an integer above `i64::MAX`.
fn decode_array(element: u32, bytes: &[u8]) -> Option<Array> {
    Some(match element {
        type_id::U8 => Array::Integers(bytes.iter().map(|&byte| i64::from(byte)).collect()),
        type_id::I8 => Array::Integers(chunks(bytes, |b| i64::from(i8::from_le_bytes(b)))),
        type_id::U16 => Array::Integers(chunks(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        type_id::I16 => Array::Integers(chunks(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        type_id::U32 => Array::Integers(chunks(bytes, |b| i64::from(u32::from_le_bytes(b)))),
        type_id::I32 => Array::Integers(chunks(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        type_id::I64 => Array::Integers(chunks(bytes, i64::from_le_bytes)),
        type_id::U64 => Array::Integers(
            chunks(bytes, |b| i64::try_from(u64::from_le_bytes(b)).ok())
                .into_iter()
                .collect::<Option<_>>()?,
        ),
        type_id::F32 => Array::Floats(chunks(bytes, f32::from_le_bytes)),
        type_id::F64 => Array::Floats(chunks(bytes, |b| f64::from_le_bytes(b) as f32)),
        _ => Array::Bools(
            bytes
                .iter()
                .map(|&byte| match byte {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
    })
}

fn chunks<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _rest) = bytes.as_chunks::<N>();
    elements.iter().map(|&element| decode(element)).collect()
}
