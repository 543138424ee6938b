//! From the verified bytes to packed weights.
//!
//! Tensors are packed in the order of the file, and given up behind it, so that hardly anything is
//! held twice.

use std::collections::HashMap;

use postern_kernels::{Arena, Format, PackedMatrix, Pool, dequantize};

use crate::backend::NATIVE;
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::model_file::ModelReader;

/// Stored bytes that are packed at a time.
const PART_BYTES: usize = 4 << 20;

/// Tensors of a model that have not been taken yet.
pub(super) struct Tensors {
    matrices: HashMap<String, PackedMatrix>,
    vectors: HashMap<String, Vec<f32>>,
}

/// A product with an optional bias.
pub(super) struct Linear {
    pub(super) matrix: PackedMatrix,
    pub(super) bias: Option<Vec<f32>>,
}

impl Tensors {
    pub(super) fn read(pool: &mut Pool, reader: &mut ModelReader<'_>, gguf: &Gguf) -> Result<Self> {
        let mut infos: Vec<&TensorInfo> = gguf.tensors().iter().collect();
        infos.sort_by_key(|info| info.offset);
        let mut tensors = Self {
            matrices: HashMap::new(),
            vectors: HashMap::new(),
        };
        let mut arena = Arena::new(packed_bytes(&infos)?);
        for info in infos {
            tensors.take_in(
                pool,
                &mut arena,
                reader,
                gguf.data_offset() + info.offset,
                info,
            )?;
            reader.release(gguf.data_offset() + info.offset + info.bytes);
        }
        Ok(tensors)
    }

    fn take_in(
        &mut self,
        pool: &mut Pool,
        arena: &mut Arena,
        reader: &mut ModelReader<'_>,
        offset: u64,
        info: &TensorInfo,
    ) -> Result<()> {
        let Some(format) = Format::from_id(info.type_id) else {
            return Ok(());
        };
        let name = info.name.clone();
        match info.shape[..] {
            [rows, columns] => {
                let matrix = PackedMatrix::zeros(arena, format, rows as usize, columns as usize)
                    .map_err(|error| failed("packing the weights", error))?;
                self.matrices
                    .insert(name, pack(pool, reader, offset, matrix)?);
            }
            [length] => {
                let mut vector = vec![0.0; length as usize];
                let stored = stored(reader, offset, info.bytes)?;
                dequantize(format, stored, &mut vector);
                self.vectors.insert(name, vector);
            }
            // No architecture of this backend has others; one that is asked for is reported as missing.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn has_vector(&self, name: &str) -> bool {
        self.vectors.contains_key(name)
    }

    pub(super) fn has_matrix(&self, name: &str) -> bool {
        self.matrices.contains_key(name)
    }

    /// The rows of a matrix that has not been taken yet.
    pub(super) fn rows(&self, name: &str) -> Option<usize> {
        self.matrices.get(name).map(PackedMatrix::rows)
    }

    /// A matrix `[outputs, inputs]`.
    pub(super) fn matrix(
        &mut self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<PackedMatrix> {
        let matrix = self.matrices.remove(name).ok_or_else(|| missing(name))?;
        check_shape(name, &[outputs, inputs], &[matrix.rows(), matrix.columns()])?;
        Ok(matrix)
    }

    /// A vector.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        let vector = self.vectors.remove(name).ok_or_else(|| missing(name))?;
        check_shape(name, &[length], &[vector.len()])?;
        Ok(vector)
    }

    /// `{name}.weight`, and `{name}.bias` where the file has one.
    pub(super) fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let matrix = self.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias_name = format!("{name}.bias");
        let bias = if self.has_vector(&bias_name) {
            Some(self.vector(&bias_name, outputs)?)
        } else {
            None
        };
        Ok(Linear { matrix, bias })
    }
}

/// Bytes that all matrices take.
fn packed_bytes(infos: &[&TensorInfo]) -> Result<usize> {
    let mut bytes = 0_usize;
    for info in infos {
        if let (Some(format), &[rows, columns]) = (Format::from_id(info.type_id), &info.shape[..]) {
            let more = PackedMatrix::packed_bytes(format, rows as usize, columns as usize)
                .map_err(|error| failed("packing the weights", error))?;
            bytes = bytes.saturating_add(more);
        }
    }
    Ok(bytes)
}

/// Packs a matrix some rows at a time, and gives up what is packed.
fn pack(
    pool: &mut Pool,
    reader: &mut ModelReader<'_>,
    offset: u64,
    mut matrix: PackedMatrix,
) -> Result<PackedMatrix> {
    let row_bytes = matrix.row_bytes();
    let step = PART_BYTES / row_bytes.max(1) / PackedMatrix::ROWS_STEP * PackedMatrix::ROWS_STEP;
    let step = step.max(PackedMatrix::ROWS_STEP);
    for first in (0..matrix.rows()).step_by(step) {
        let rows = first..matrix.rows().min(first + step);
        let from = offset + (first * row_bytes) as u64;
        let bytes = (rows.len() * row_bytes) as u64;
        matrix
            .pack_rows(pool, rows, stored(reader, from, bytes)?)
            .map_err(|error| failed("packing the weights", error))?;
        reader.release(from + bytes);
    }
    Ok(matrix)
}

fn stored<'a>(reader: &'a ModelReader<'_>, offset: u64, bytes: u64) -> Result<&'a [u8]> {
    reader
        .slice(offset, bytes)
        .map_err(|error| failed("reading the weights", error))
}

fn missing(name: &str) -> EngineError {
    EngineError::TensorMissing {
        name: name.to_owned(),
    }
}

fn check_shape(name: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(EngineError::TensorShape {
        name: name.to_owned(),
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}

fn failed(doing: &'static str, error: impl std::fmt::Display) -> EngineError {
    EngineError::Backend {
        backend: NATIVE,
        doing,
        reason: error.to_string(),
    }
}
