//! A bounded reader of GGUF files, versions 2 and 3, little-endian.
//!
//! The reader turns outside bytes into checked facts: every count and length is
//! compared with a named bound *and* with the bytes that are left in the file
//! before anything is allocated, every tensor lies inside the file, and no two
//! entries share a name. It never panics on any input.
//!
//! What is absent: tensor contents, big-endian files,
//! version 1, and nested arrays, which no supported model uses.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod metadata;
mod quantization;
mod reader;
mod texts;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub use metadata::{Array, Metadata, Value};
pub(crate) use quantization::Quantization;
use reader::Reader;
pub use texts::Texts;

use crate::error::{EngineError, Result};

/// Most metadata entries a file may declare; published models have about 50.
pub const METADATA_ENTRIES_MAX: u64 = 4096;
/// Most tensors a file may declare; the largest dense models have about 2000.
pub const TENSORS_MAX: u64 = 65_536;
/// Longest key, as the format states.
pub const KEY_BYTES_MAX: u64 = 65_535;
/// Longest tensor name, as the format states.
pub const TENSOR_NAME_BYTES_MAX: u64 = 64;
/// Longest string value; chat templates are the longest in practice, below 64 KiB.
pub const STRING_BYTES_MAX: u64 = 4 << 20;
/// Most elements of one array; vocabularies have up to about 300 000, merges about as many.
pub const ARRAY_ELEMENTS_MAX: u64 = 4 << 20;
/// Most dimensions of a tensor, as the format states.
pub const DIMENSIONS_MAX: u32 = 4;
/// Most bytes before the tensor data: a metadata block larger than this is not a model's.
pub const HEADER_BYTES_MAX: u64 = 256 << 20;
/// Alignment of the tensor data where the file names none.
pub const ALIGNMENT_DEFAULT: u64 = 32;
/// Largest alignment a file may ask for.
pub const ALIGNMENT_MAX: u64 = 64 << 10;

const READ_BUFFER_BYTES: usize = 256 << 10;
const MAGIC: [u8; 4] = *b"GGUF";
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;
/// Key length, value type, and at least one byte of value.
const ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;
/// Name length, dimension count, type and offset.
const TENSOR_INFO_BYTES_MIN: u64 = 8 + 4 + 4 + 8;

/// Everything a GGUF file says before its tensor data.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    data_offset: u64,
}

/// Where one tensor lies and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape, slowest dimension first: `[rows, columns]` for a matrix.
    pub shape: Vec<u64>,
    /// The storage type's number in the format.
    pub type_id: u32,
    /// Start in bytes from [`Gguf::data_offset`].
    pub offset: u64,
    /// Stored size in bytes.
    pub bytes: u64,
    /// Number of elements.
    pub elements: u64,
}

impl Gguf {
    /// Reads the head of a GGUF file; its tensors are not touched.
    ///
    /// # Errors
    /// [`EngineError::Read`], or those of [`Gguf::read`] in an [`EngineError::ModelUnusable`] that names
    /// the file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| EngineError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(std::io::Error::other("it is not a regular file")));
        }
        Self::read(
            BufReader::with_capacity(READ_BUFFER_BYTES, file),
            metadata.len(),
        )
        .map_err(|error| error.of_model(Some(path)))
    }

    /// Key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Format version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where tensor data starts, in bytes from the start of the file.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Reads the head of a GGUF file of `file_bytes` bytes from its first byte on.
    ///
    /// # Errors
    /// [`EngineError::GgufInvalid`] with the offset and what was wrong there, or
    /// [`EngineError::GgufBound`] when a count or length exceeds its bound.
    pub fn read(source: impl Read, file_bytes: u64) -> Result<Self> {
        let mut reader = Reader::new(source, file_bytes);
        let version = read_preamble(&mut reader)?;
        let tensor_count = reader.u64()?;
        let entry_count = reader.u64()?;
        reader.check_count("tensors", tensor_count, TENSORS_MAX, TENSOR_INFO_BYTES_MIN)?;
        reader.check_count(
            "metadata entries",
            entry_count,
            METADATA_ENTRIES_MAX,
            ENTRY_BYTES_MIN,
        )?;

        let metadata = Metadata::read(&mut reader, entry_count)?;
        let alignment = alignment(&metadata, &reader)?;
        let tensors = read_tensor_infos(&mut reader, tensor_count)?;
        let data_offset = reader.offset().next_multiple_of(alignment);
        for tensor in &tensors {
            check_tensor(tensor, data_offset, alignment, file_bytes)?;
        }
        Ok(Self {
            version,
            metadata,
            tensors,
            data_offset,
        })
    }
}

fn read_preamble<R: Read>(reader: &mut Reader<R>) -> Result<u32> {
    let magic = reader.array::<4>()?;
    if magic != MAGIC {
        return Err(reader.invalid(format!(
            "the first four bytes are {magic:02x?}, not \"GGUF\""
        )));
    }
    let version = reader.u32()?;
    if !VERSIONS.contains(&version) {
        return Err(reader.invalid(format!("version {version} is not 2 or 3")));
    }
    Ok(version)
}

fn alignment<R: Read>(metadata: &Metadata, reader: &Reader<R>) -> Result<u64> {
    let alignment = metadata
        .u64_opt("general.alignment")?
        .unwrap_or(ALIGNMENT_DEFAULT);
    if !(8..=ALIGNMENT_MAX).contains(&alignment) || !alignment.is_power_of_two() {
        return Err(reader.invalid(format!(
            "general.alignment is {alignment}, not a power of two from 8 to {ALIGNMENT_MAX}"
        )));
    }
    Ok(alignment)
}

fn read_tensor_infos<R: Read>(reader: &mut Reader<R>, count: u64) -> Result<Vec<TensorInfo>> {
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let tensor = read_tensor_info(reader)?;
        if !names.insert(tensor.name.clone()) {
            return Err(reader.invalid(format!("tensor {:?} appears twice", tensor.name)));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

fn read_tensor_info<R: Read>(reader: &mut Reader<R>) -> Result<TensorInfo> {
    let name = reader.string("tensor name", TENSOR_NAME_BYTES_MAX)?;
    let dimensions = reader.u32()?;
    if dimensions == 0 || dimensions > DIMENSIONS_MAX {
        return Err(reader.invalid(format!(
            "tensor {name:?} has {dimensions} dimensions, not 1 to {DIMENSIONS_MAX}"
        )));
    }
    let mut shape = Vec::with_capacity(DIMENSIONS_MAX as usize);
    for _ in 0..dimensions {
        shape.push(reader.u64()?);
    }
    shape.reverse();
    let type_id = reader.u32()?;
    let offset = reader.u64()?;
    let elements = shape
        .iter()
        .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
        .filter(|&elements| elements > 0)
        .ok_or_else(|| reader.invalid(format!("tensor {name:?} has the shape {shape:?}")))?;
    let quantization = Quantization::from_id(type_id).ok_or_else(|| {
        reader.invalid(format!(
            "tensor {name:?} has the unknown storage type {type_id}"
        ))
    })?;
    let bytes = stored_bytes(&shape, elements, quantization).ok_or_else(|| {
        reader.invalid(format!(
            "tensor {name:?} of shape {shape:?} is not whole blocks of {}",
            quantization.name
        ))
    })?;
    Ok(TensorInfo {
        name,
        shape,
        type_id,
        offset,
        bytes,
        elements,
    })
}

/// Bytes of a tensor, or `None` where its rows are not whole blocks.
fn stored_bytes(shape: &[u64], elements: u64, quantization: Quantization) -> Option<u64> {
    let columns = *shape.last()?;
    if !columns.is_multiple_of(quantization.block_elements) {
        return None;
    }
    (elements / quantization.block_elements).checked_mul(quantization.block_bytes)
}

fn check_tensor(
    tensor: &TensorInfo,
    data_offset: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<()> {
    let invalid = |reason: String| EngineError::GgufInvalid {
        offset: data_offset,
        reason,
    };
    if !tensor.offset.is_multiple_of(alignment) {
        return Err(invalid(format!(
            "tensor {:?} starts at {}, not at a multiple of {alignment}",
            tensor.name, tensor.offset
        )));
    }
    let end = data_offset
        .checked_add(tensor.offset)
        .and_then(|start| start.checked_add(tensor.bytes));
    match end {
        Some(end) if end <= file_bytes => Ok(()),
        _ => Err(invalid(format!(
            "tensor {:?} needs {} bytes from {} on, but the file ends at {file_bytes}; \
             it is cut short or damaged, fetch it again",
            tensor.name,
            tensor.bytes,
            data_offset.saturating_add(tensor.offset)
        ))),
    }
}
