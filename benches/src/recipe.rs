//! Which storage type each tensor of a file gets, as llama.cpp's quantizer chooses it.
//!
//! Invariant: a tensor's type suits its row length, because what does not fit falls back as the quantizer does it.
//! Absent: importance matrices, mixtures of experts, and types that no file of ours holds.

use candle_core::quantized::GgmlDType;
use serde::{Deserialize, Serialize};

use crate::shape::{Part, TensorShape};

/// Weights in a super-block of the K types; a row of them is a multiple of it.
const SUPER_BLOCK: usize = 256;

/// A mix of storage types, under the name that the makers of model files use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quantization {
    /// Four bits, blocks of 32 with a scale.
    #[serde(rename = "Q4_0")]
    Q4_0,
    /// Four bits in super-blocks, and six where it helps most.
    #[serde(rename = "Q4_K_M")]
    Q4KM,
    /// Eight bits, blocks of 32 with a scale.
    #[serde(rename = "Q8_0")]
    Q8_0,
}

impl Quantization {
    /// Every mix that is measured.
    pub const ALL: [Self; 3] = [Self::Q4_0, Self::Q4KM, Self::Q8_0];

    /// The name in tables, file names and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4KM => "Q4_K_M",
            Self::Q8_0 => "Q8_0",
        }
    }

    /// The value of `general.file_type`.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
        }
    }

    /// How a tensor of a model with `layers` blocks is stored.
    pub(crate) fn storage(self, tensor: &TensorShape, layers: usize) -> GgmlDType {
        let wanted = match (tensor.part, self) {
            (Part::Norm | Part::Bias | Part::RopeFactors, _) => return GgmlDType::F32,
            (_, Self::Q8_0) => GgmlDType::Q8_0,
            (Part::Embedding, _) => GgmlDType::Q6K,
            (_, Self::Q4_0) => GgmlDType::Q4_0,
            (Part::AttentionValue | Part::FeedForwardDown, Self::Q4KM)
                if has_more_bits(tensor.layer, layers) =>
            {
                GgmlDType::Q6K
            }
            (_, Self::Q4KM) => GgmlDType::Q4K,
        };
        let columns = tensor.dims.last().copied().unwrap_or_default();
        match wanted {
            GgmlDType::Q4K if !columns.is_multiple_of(SUPER_BLOCK) => GgmlDType::Q5_0,
            GgmlDType::Q6K if !columns.is_multiple_of(SUPER_BLOCK) => GgmlDType::Q8_0,
            fits => fits,
        }
    }
}

/// The first eighth of the blocks, the last eighth, and every third between them.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let first = layers / 8;
    layer < first || layer >= 7 * layers / 8 || (layer - first) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::published;

    /// How often each type occurs in a file, vectors aside.
    fn check(shape: &str, quantization: Quantization, expected: &[(GgmlDType, usize)]) {
        let shapes = published();
        let shape = shapes
            .iter()
            .find(|published| published.name == shape)
            .expect("a published shape");
        let tensors = shape.tensors();
        let found: Vec<GgmlDType> = tensors
            .iter()
            .filter(|tensor| tensor.dims.len() == 2)
            .map(|tensor| quantization.storage(tensor, shape.layers))
            .collect();
        let counted: usize = expected.iter().map(|(_, count)| count).sum();
        assert_eq!(found.len(), counted, "{} {quantization:?}", shape.name);
        for (kind, count) in expected {
            assert_eq!(
                found.iter().filter(|found| *found == kind).count(),
                *count,
                "{} {quantization:?} {kind:?}",
                shape.name
            );
        }
    }

    #[test]
    fn a_width_of_896_leaves_only_the_way_down_to_the_k_types() {
        // 24 blocks: 3 + 3 + 6 of them have more bits, the embedding has 8 bits.
        check(
            "qwen2.5-0.5b",
            Quantization::Q4KM,
            &[
                (GgmlDType::Q4K, 12),
                (GgmlDType::Q6K, 12),
                (GgmlDType::Q5_0, 24 * 5 + 12),
                (GgmlDType::Q8_0, 12 + 1),
            ],
        );
    }

    #[test]
    fn a_width_of_2048_is_all_k_types() {
        // 16 blocks: 2 + 2 + 4 of them have more bits.
        check(
            "llama-3.2-1b",
            Quantization::Q4KM,
            &[
                (GgmlDType::Q6K, 2 * 8 + 1),
                (GgmlDType::Q4K, 16 * 5 + 2 * 8),
            ],
        );
    }

    #[test]
    fn the_plain_mixes_differ_only_in_the_embedding() {
        let q4_0 = Quantization::Q4_0;
        check(
            "qwen3-0.6b",
            q4_0,
            &[(GgmlDType::Q6K, 1), (GgmlDType::Q4_0, 28 * 7)],
        );
        check(
            "qwen2.5-0.5b",
            q4_0,
            &[(GgmlDType::Q8_0, 1), (GgmlDType::Q4_0, 24 * 7)],
        );
        check(
            "qwen2.5-1.5b",
            Quantization::Q8_0,
            &[(GgmlDType::Q8_0, 28 * 7 + 1)],
        );
    }
}
