//! From the verified bytes to packed weights.
//!
//! Tensors are packed in the order of the file, and the file's segments are given up behind them, so the model is
//! not held twice.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use postern_kernels::{Format, PackedMatrix, Pool, dequantize};

use crate::backend::NATIVE;
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::model_file::ModelReader;

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
        let mut stored = Vec::new();
        for info in infos {
            let offset = gguf.data_offset() + info.offset;
            stored.resize(info.bytes as usize, 0);
            reader
                .seek(SeekFrom::Start(offset))
                .and_then(|_| reader.read_exact(&mut stored))
                .map_err(|error| failed("reading the weights", error))?;
            reader.release(offset + info.bytes);
            tensors.take_in(pool, info, &stored)?;
        }
        Ok(tensors)
    }

    fn take_in(&mut self, pool: &mut Pool, info: &TensorInfo, stored: &[u8]) -> Result<()> {
        let Some(format) = Format::from_id(info.type_id) else {
            return Ok(());
        };
        let name = info.name.clone();
        match info.shape[..] {
            [rows, columns] => {
                let matrix =
                    PackedMatrix::pack(pool, format, rows as usize, columns as usize, stored)
                        .map_err(|error| failed("packing the weights", error))?;
                self.matrices.insert(name, matrix);
            }
            [length] => {
                let mut vector = vec![0.0; length as usize];
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
