//! Writes GGUF files, version 3, little-endian, as the specification in the ggml repository lays out.
//!
//! Invariant: the bytes depend on the arguments only; entries keep the order in which they are given.
//! Absent: reading, other byte orders, tensor types beyond those listed.

use anyhow::{Result, ensure};
use candle_core::{
    Tensor,
    quantized::{GgmlDType, QTensor},
};
use std::io::Write;

const VERSION: u32 = 3;
/// Alignment of the data section and of each tensor, in bytes; the default of the format.
const ALIGNMENT_BYTES: usize = 32;
/// Values in a block of `Q8_0`; the length of a quantized row is a multiple of it.
const Q8_0_BLOCK: usize = 32;

/// A metadata value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
}

impl Value {
    /// A text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    fn write(&self, out: &mut Vec<u8>) {
        const TYPE_U32: u32 = 4;
        const TYPE_I32: u32 = 5;
        const TYPE_F32: u32 = 6;
        const TYPE_BOOL: u32 = 7;
        const TYPE_STRING: u32 = 8;
        const TYPE_ARRAY: u32 = 9;
        match self {
            Self::U32(value) => {
                put_u32(out, TYPE_U32);
                put_u32(out, *value);
            }
            Self::F32(value) => {
                put_u32(out, TYPE_F32);
                out.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                put_u32(out, TYPE_BOOL);
                out.push(u8::from(*value));
            }
            Self::String(value) => {
                put_u32(out, TYPE_STRING);
                put_text(out, value);
            }
            Self::Strings(values) => {
                put_u32(out, TYPE_ARRAY);
                put_u32(out, TYPE_STRING);
                put_len(out, values.len());
                values.iter().for_each(|value| put_text(out, value));
            }
            Self::I32s(values) => {
                put_u32(out, TYPE_ARRAY);
                put_u32(out, TYPE_I32);
                put_len(out, values.len());
                values
                    .iter()
                    .for_each(|value| out.extend(value.to_le_bytes()));
            }
        }
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend((len as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_len(out, text.len());
    out.extend(text.as_bytes());
}

/// Writes a model: its metadata, its matrices in `Q8_0` and its vectors in `F32`.
///
/// # Errors
/// When a row of a matrix does not fill whole blocks, or writing fails.
pub(crate) fn write(
    out: &mut impl Write,
    metadata: &[(&str, Value)],
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let mut head = b"GGUF".to_vec();
    put_u32(&mut head, VERSION);
    put_len(&mut head, tensors.len());
    put_len(&mut head, metadata.len());
    for (key, value) in metadata {
        put_text(&mut head, key);
        value.write(&mut head);
    }
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let (kind, bytes) = encode(name, tensor)?;
        put_text(&mut head, name);
        put_u32(&mut head, tensor.rank() as u32);
        // GGUF lists the fastest-running dimension first.
        tensor
            .dims()
            .iter()
            .rev()
            .for_each(|&dim| put_len(&mut head, dim));
        put_u32(&mut head, kind);
        put_len(&mut head, data.len());
        data.extend(bytes);
        data.resize(data.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT_BYTES), 0);
    out.write_all(&head)?;
    out.write_all(&data)?;
    Ok(())
}

/// The type number and the bytes of a tensor.
fn encode(name: &str, tensor: &Tensor) -> Result<(u32, Vec<u8>)> {
    const TYPE_F32: u32 = 0;
    const TYPE_Q8_0: u32 = 8;
    if tensor.rank() < 2 {
        let values: Vec<f32> = tensor.to_vec1()?;
        return Ok((
            TYPE_F32,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        ));
    }
    let row = tensor.dim(candle_core::D::Minus1)?;
    ensure!(
        row.is_multiple_of(Q8_0_BLOCK),
        "rows of {name} have {row} values, which is not a multiple of {Q8_0_BLOCK}"
    );
    let quantized = QTensor::quantize(tensor, GgmlDType::Q8_0)?;
    Ok((TYPE_Q8_0, quantized.data()?.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, quantized::gguf_file::Content};
    use std::io::Cursor;

    #[test]
    fn a_written_file_reads_back() -> Result<()> {
        let matrix = Tensor::arange(0_f32, 64.0, &Device::Cpu)?.reshape((2, 32))?;
        let vector = Tensor::arange(0_f32, 3.0, &Device::Cpu)?;
        let metadata = [
            ("general.architecture", Value::text("llama")),
            ("llama.block_count", Value::U32(4)),
            ("llama.eps", Value::F32(0.5)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            (
                "tokenizer.ggml.tokens",
                Value::Strings(vec!["a".into(), "Ġb".into()]),
            ),
            ("tokenizer.ggml.token_type", Value::I32s(vec![1, 3])),
        ];
        let mut file = Vec::new();
        write(
            &mut file,
            &metadata,
            &[("v".into(), vector.clone()), ("m".into(), matrix.clone())],
        )?;

        let mut reader = Cursor::new(file);
        let content = Content::read(&mut reader)?;
        assert_eq!(
            content.metadata["general.architecture"].to_string()?,
            "llama"
        );
        assert_eq!(content.metadata["llama.block_count"].to_u32()?, 4);
        assert_eq!(content.metadata["tokenizer.ggml.tokens"].to_vec()?.len(), 2);
        let read = |name, reader: &mut Cursor<Vec<u8>>| {
            content
                .tensor(reader, name, &Device::Cpu)?
                .dequantize(&Device::Cpu)
        };
        assert_eq!(
            read("v", &mut reader)?.to_vec1::<f32>()?,
            vector.to_vec1::<f32>()?
        );
        let apart = (read("m", &mut reader)? - matrix)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert!(apart < 0.5 * 63.0 / 127.0, "{apart}");
        Ok(())
    }

    #[test]
    fn a_row_that_fills_no_whole_block_is_refused() -> Result<()> {
        let matrix = Tensor::zeros((2, 33), candle_core::DType::F32, &Device::Cpu)?;
        let refused = write(&mut Vec::new(), &[], &[("m".into(), matrix)]);
        assert!(refused.is_err_and(|error| error.to_string().contains("33 values")));
        Ok(())
    }
}
