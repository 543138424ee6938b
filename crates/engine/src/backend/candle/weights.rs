//! From the verified bytes to candle's tensors.
//!
//! Tensors are copied in the order of the file, and the file's segments are given up behind
//! them, so the model is not held twice.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::gguf_file::TensorInfo as CandleTensorInfo;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Result as CandleResult, Shape, Tensor};

use super::failed;
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, Quantization, TensorInfo};
use crate::model_file::ModelReader;

/// Tensors of a model that have not been taken yet.
pub(super) struct Tensors {
    tensors: HashMap<String, QTensor>,
}

impl Tensors {
    pub(super) fn read(reader: &mut ModelReader<'_>, gguf: &Gguf) -> Result<Self> {
        let mut infos: Vec<&TensorInfo> = gguf.tensors().iter().collect();
        infos.sort_by_key(|info| info.offset);
        let mut tensors = HashMap::with_capacity(infos.len());
        for info in infos {
            let Some(dtype) = Quantization::from_id(info.type_id).and_then(|known| known.candle)
            else {
                continue;
            };
            let shape: Vec<usize> = info
                .shape
                .iter()
                .map(|&dimension| dimension as usize)
                .collect();
            let candle = CandleTensorInfo {
                ggml_dtype: dtype,
                shape: Shape::from(shape),
                offset: info.offset,
            };
            let tensor = candle
                .read(reader, gguf.data_offset(), &Device::Cpu)
                .map_err(|error| failed("reading the weights", &error))?;
            reader.release(gguf.data_offset() + info.offset + info.bytes);
            tensors.insert(info.name.clone(), tensor);
        }
        Ok(Self { tensors })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor that has not been taken yet.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape().dims())
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<QTensor> {
        let tensor = self
            .tensors
            .remove(name)
            .ok_or_else(|| EngineError::TensorMissing {
                name: name.to_owned(),
            })?;
        if tensor.shape().dims() != shape {
            return Err(EngineError::TensorShape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.shape().dims().to_vec(),
            });
        }
        Ok(tensor)
    }

    /// A matrix `[outputs, inputs]`.
    pub(super) fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<QMatMul> {
        let tensor = self.take(name, &[outputs, inputs])?;
        QMatMul::from_arc(Arc::new(tensor)).map_err(|error| failed("preparing the weights", &error))
    }

    /// A vector, as `f32`.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Tensor> {
        self.take(name, &[length])?
            .dequantize(&Device::Cpu)
            .map_err(|error| failed("preparing the weights", &error))
    }

    /// `{name}.weight`, and `{name}.bias` where the file has one.
    pub(super) fn linear(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<Linear> {
        let weight = self.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias_name = format!("{name}.bias");
        let bias = if self.has(&bias_name) {
            Some(self.vector(&bias_name, outputs)?)
        } else {
            None
        };
        Ok(Linear { weight, bias })
    }

    /// `{name}.weight` as the weights of an RMS normalization.
    pub(super) fn norm(&mut self, name: &str, length: usize, epsilon: f32) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: self.vector(&format!("{name}.weight"), length)?,
            epsilon,
        })
    }
}

/// A matrix product with an optional bias.
pub(super) struct Linear {
    weight: QMatMul,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[n_tokens, inputs]` to `[n_tokens, outputs]`.
    pub(super) fn forward(&self, xs: &Tensor) -> CandleResult<Tensor> {
        let product = self.weight.forward(xs)?;
        match &self.bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// Root-mean-square normalization (arXiv:1910.07467) over the last dimension.
pub(super) struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    pub(super) fn forward(&self, xs: &Tensor) -> CandleResult<Tensor> {
        candle_nn::ops::rms_norm(&xs.contiguous()?, &self.weight, self.epsilon)
    }
}
