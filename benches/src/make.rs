//! Makes model files with random weights and keeps them in a folder.
//!
//! Invariants: a file appears whole or not at all; its name carries the digest of its recipe, so a file that is there
//! is the file that is asked for; the same recipe gives the same weights on every machine.
//! Absent: any attempt at sense. The weights only keep activations in the range that trained ones have, so that
//! quantizing them costs what it costs and the logits differ from one another.

use std::collections::HashMap;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::{Device, Tensor};
use postern_engine::{ModelManifest, Sha256Digest};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::recipe::Quantization;
use crate::shape::{Part, Shape, TensorShape};
use crate::vocabulary::Source;

/// Counts changes of what a recipe means; a new number makes new files.
const RECIPE_VERSION: u32 = 1;
/// Standard deviation of the logits, about: as far apart as those of a trained model.
const LOGITS_SPREAD: f64 = 3.0;
/// Standard deviation of norm weights around 1, and of biases around 0.
const VECTOR_SPREAD: f64 = 0.1;
/// Threads that make tensors; each holds one in 32-bit floats.
const THREADS: usize = 2;

/// A made model.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What it looks like.
    pub shape: Shape,
    /// How it is stored.
    pub quantization: Quantization,
    /// The manifest that pins it.
    pub manifest_path: PathBuf,
    /// What the manifest says.
    pub manifest: ModelManifest,
}

/// The model file of this shape and mix in `folder`, made now unless it is there. A vocabulary is taken from
/// `vocabularies`, a folder of GGUF files, where it holds the shape's own, and made otherwise.
///
/// # Errors
/// When the folder cannot be written, or a vocabulary is unusable.
pub fn make(
    folder: &Path,
    shape: &Shape,
    quantization: Quantization,
    vocabularies: Option<&Path>,
) -> Result<ModelFile> {
    let source = Source::find(vocabularies, shape);
    let recipe = format!(
        "{RECIPE_VERSION} {quantization:?} {shape:?} {}",
        source.name()
    );
    let digest = Sha256Digest::of(recipe.as_bytes()).to_string();
    let stem = format!("{}-{}-{}", shape.name, quantization.as_str(), &digest[..12]);
    let path = folder.join(&stem).with_added_extension("gguf");
    let manifest_path = folder.join(&stem).with_added_extension("json");
    if !path.is_file() {
        fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        write(&path, shape, quantization, &source)
            .with_context(|| format!("the model {} cannot be made", path.display()))?;
        fs::remove_file(&manifest_path).ok();
    }
    let manifest = match ModelManifest::read(&manifest_path) {
        Ok(manifest) => manifest,
        Err(_) => {
            let id = format!("{}-{}", shape.name, quantization.as_str());
            let manifest = ModelManifest::pin(&path, &id)?;
            manifest.write(&manifest_path)?;
            manifest
        }
    };
    Ok(ModelFile {
        shape: shape.clone(),
        quantization,
        manifest_path,
        manifest,
    })
}

impl ModelFile {
    /// The model file itself.
    pub fn path(&self) -> &Path {
        &self.manifest.path
    }

    /// Bytes of weights that one token reads: all of them, because the embeddings are the output matrix too.
    pub fn weight_bytes(&self) -> Result<u64> {
        let gguf = postern_engine::gguf::Gguf::open(self.path())?;
        Ok(self.manifest.bytes - gguf.data_offset())
    }
}

/// Writes beside the place and moves into it.
fn write(path: &Path, shape: &Shape, quantization: Quantization, source: &Source) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut entries = entries(shape, quantization);
    entries.extend(source.entries(shape)?);
    let tensors = tensors(shape, quantization)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    gguf_file::write(
        &mut BufWriter::new(file.as_file_mut()),
        &entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect::<Vec<_>>(),
        &tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect::<Vec<_>>(),
    )?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn entries(shape: &Shape, quantization: Quantization) -> Vec<(String, Value)> {
    const QUANTIZATION_VERSION: u32 = 2;
    let architecture = shape.architecture;
    let own = |key: &str| format!("{architecture}.{key}");
    let size = |size: usize| Value::U32(size as u32);
    vec![
        (
            "general.architecture".to_owned(),
            Value::String(architecture.to_owned()),
        ),
        (
            "general.name".to_owned(),
            Value::String(format!("{} with random weights", shape.name)),
        ),
        (
            "general.file_type".to_owned(),
            Value::U32(quantization.file_type()),
        ),
        (
            "general.quantization_version".to_owned(),
            Value::U32(QUANTIZATION_VERSION),
        ),
        (own("block_count"), size(shape.layers)),
        (own("context_length"), Value::U32(shape.context_tokens)),
        (own("embedding_length"), size(shape.width)),
        (own("feed_forward_length"), size(shape.feed_forward)),
        (own("attention.head_count"), size(shape.heads)),
        (own("attention.head_count_kv"), size(shape.kv_heads)),
        (own("attention.key_length"), size(shape.head_width)),
        (own("attention.value_length"), size(shape.head_width)),
        (
            own("attention.layer_norm_rms_epsilon"),
            Value::F32(shape.rms_epsilon),
        ),
        (own("rope.freq_base"), Value::F32(shape.rope_base)),
        (own("rope.dimension_count"), size(shape.head_width)),
        (own("vocab_size"), size(shape.vocabulary)),
    ]
}

/// All tensors in the order of the file, made by a few threads.
fn tensors(shape: &Shape, quantization: Quantization) -> Result<Vec<(String, QTensor)>> {
    let shapes = shape.tensors();
    let next = AtomicUsize::new(0);
    let made = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(tensor) = shapes.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let values = Tensor::from_vec(
                            values(shape, tensor),
                            tensor.dims.as_slice(),
                            &Device::Cpu,
                        )?;
                        let stored =
                            QTensor::quantize(&values, quantization.storage(tensor, shape.layers))?;
                        made.lock()
                            .expect("nothing panics while the lock is held")
                            .insert(tensor.name.clone(), stored);
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("making a tensor does not panic"))
    })?;
    let mut made = made
        .into_inner()
        .expect("nothing panics while the lock is held");
    Ok(shapes
        .into_iter()
        .filter_map(|tensor| made.remove_entry(&tensor.name))
        .collect())
}

/// The values of one tensor. The seed is its name, so that it does not depend on the others.
fn values(shape: &Shape, tensor: &TensorShape) -> Vec<f32> {
    let count = tensor.dims.iter().product();
    let seed = *Sha256Digest::of(format!("{} {}", shape.name, tensor.name).as_bytes()).as_bytes();
    let random = &mut ChaCha8Rng::from_seed(seed);
    let fan_in = tensor.dims.last().copied().unwrap_or(1) as f64;
    match tensor.part {
        Part::Embedding => normal(random, count, 0.0, LOGITS_SPREAD / fan_in.sqrt()),
        Part::AttentionValue | Part::FeedForwardDown | Part::Matrix => {
            normal(random, count, 0.0, 1.0 / fan_in.sqrt())
        }
        Part::Norm => normal(random, count, 1.0, VECTOR_SPREAD),
        Part::Bias => normal(random, count, 0.0, VECTOR_SPREAD),
        Part::RopeFactors => rope_factors(shape, count),
    }
}

/// Numbers of a normal distribution, in pairs by the transform of Box and Muller.
fn normal(random: &mut ChaCha8Rng, count: usize, mean: f64, deviation: f64) -> Vec<f32> {
    let (mean, deviation) = (mean as f32, deviation as f32);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // From (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - random.random::<f32>()).ln()).sqrt() * deviation;
        let (sine, cosine) = (std::f32::consts::TAU * random.random::<f32>()).sin_cos();
        values.extend([mean + radius * cosine, mean + radius * sine]);
    }
    values.truncate(count);
    values
}

/// The divisors of Llama 3.2 for its longer context: none for short waves, all for long ones, a ramp between.
fn rope_factors(shape: &Shape, pairs: usize) -> Vec<f32> {
    const FACTOR: f64 = 32.0;
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL_CONTEXT_TOKENS: f64 = 8192.0;
    (0..pairs)
        .map(|pair| {
            let exponent = pair as f64 / pairs as f64;
            let wave = std::f64::consts::TAU * f64::from(shape.rope_base).powf(exponent);
            let turns = ORIGINAL_CONTEXT_TOKENS / wave;
            let kept = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
            (1.0 / (kept + (1.0 - kept) / FACTOR)) as f32
        })
        .collect()
}
