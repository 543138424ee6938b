//! The storage types of tensors: their names, their block sizes, and whether a backend computes with them.
//!
//! Source: `ggml_type` and the block structs in `ggml/src/ggml-common.h` of ggml.

use candle_core::quantized::GgmlDType;

/// One storage type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantization {
    /// The number in the file.
    pub(crate) id: u32,
    /// The name that tools print.
    pub(crate) name: &'static str,
    /// Elements of one block; rows are whole blocks.
    pub(crate) block_elements: u64,
    /// Stored bytes of one block.
    pub(crate) block_bytes: u64,
    /// What candle calls it, where candle computes with it.
    pub(crate) candle: Option<GgmlDType>,
}

impl Quantization {
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().find(|entry| entry.id == id).copied()
    }
}

const fn known(
    id: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
    candle: GgmlDType,
) -> Quantization {
    Quantization {
        candle: Some(candle),
        ..foreign(id, name, block_elements, block_bytes)
    }
}

const fn foreign(
    id: u32,
    name: &'static str,
    block_elements: u64,
    block_bytes: u64,
) -> Quantization {
    Quantization {
        id,
        name,
        block_elements,
        block_bytes,
        candle: None,
    }
}

const TABLE: &[Quantization] = &[
    known(0, "F32", 1, 4, GgmlDType::F32),
    known(1, "F16", 1, 2, GgmlDType::F16),
    known(2, "Q4_0", 32, 18, GgmlDType::Q4_0),
    known(3, "Q4_1", 32, 20, GgmlDType::Q4_1),
    known(6, "Q5_0", 32, 22, GgmlDType::Q5_0),
    known(7, "Q5_1", 32, 24, GgmlDType::Q5_1),
    known(8, "Q8_0", 32, 34, GgmlDType::Q8_0),
    known(9, "Q8_1", 32, 36, GgmlDType::Q8_1),
    known(10, "Q2_K", 256, 84, GgmlDType::Q2K),
    known(11, "Q3_K", 256, 110, GgmlDType::Q3K),
    known(12, "Q4_K", 256, 144, GgmlDType::Q4K),
    known(13, "Q5_K", 256, 176, GgmlDType::Q5K),
    known(14, "Q6_K", 256, 210, GgmlDType::Q6K),
    known(15, "Q8_K", 256, 292, GgmlDType::Q8K),
    foreign(16, "IQ2_XXS", 256, 66),
    foreign(17, "IQ2_XS", 256, 74),
    foreign(18, "IQ3_XXS", 256, 98),
    foreign(19, "IQ1_S", 256, 50),
    foreign(20, "IQ4_NL", 32, 18),
    foreign(21, "IQ3_S", 256, 110),
    foreign(22, "IQ2_S", 256, 82),
    foreign(23, "IQ4_XS", 256, 136),
    foreign(24, "I8", 1, 1),
    foreign(25, "I16", 1, 2),
    foreign(26, "I32", 1, 4),
    foreign(27, "I64", 1, 8),
    foreign(28, "F64", 1, 8),
    foreign(29, "IQ1_M", 256, 56),
    known(30, "BF16", 1, 2, GgmlDType::BF16),
    foreign(34, "TQ1_0", 256, 54),
    foreign(35, "TQ2_0", 256, 66),
    foreign(39, "MXFP4", 32, 17),
];

#[cfg(test)]
mod tests {
    use super::*;
    use postern_kernels::Format;

    #[test]
    fn the_kernels_know_the_same_blocks() {
        for format in Format::ALL {
            let known = Quantization::from_id(format.id()).expect("every format of the kernels");
            assert_eq!(known.name, format!("{format:?}"));
            assert_eq!(known.block_elements, format.block_elements() as u64);
            assert_eq!(known.block_bytes, format.block_bytes() as u64);
        }
    }
}
