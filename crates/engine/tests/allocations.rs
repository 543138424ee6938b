//! What a token allocates: in the native backend nothing, in the engine around it no more than the event that tells of it.
//!
//! There is one test here, in a binary of its own, because what is counted is the whole process.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation of a test is a panic"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use postern_engine::gguf::{Gguf, TensorInfo};
use postern_engine::{
    BackendChoice, Engine, EngineConfig, Event, FinishReason, ForcedTokens, Job, ModelManifest,
    Next, OutputFormat, Prompt, Sampling, Sha256Digest, VerifiedModel, forced_logits,
};
use postern_testkit::gguf::TinyModel;

/// Counts what all threads ask for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator is the only place that sees every allocation"
)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];
/// The storage types that candle can write, with their numbers in a file.
const STORAGE: [(GgmlDType, u32); 13] = [
    (GgmlDType::F32, 0),
    (GgmlDType::F16, 1),
    (GgmlDType::BF16, 30),
    (GgmlDType::Q4_0, 2),
    (GgmlDType::Q4_1, 3),
    (GgmlDType::Q5_0, 6),
    (GgmlDType::Q5_1, 7),
    (GgmlDType::Q8_0, 8),
    (GgmlDType::Q2K, 10),
    (GgmlDType::Q3K, 11),
    (GgmlDType::Q4K, 12),
    (GgmlDType::Q5K, 13),
    (GgmlDType::Q6K, 14),
];
const PROMPT: [u32; 5] = [65, 12, 200, 7, 99];
/// Enough to reach new pages of the KV cache and new angles of the rotation more than once.
const NEXT_TOKENS: usize = 150;
/// Tokens after which everything was used once.
const WARM_UP_TOKENS: usize = 1;
/// What the engine may allocate for a token, on average: its text, and its share in the queue of events and in the list
/// of tokens, which grow by many at a time.
const EVENT_ALLOCATIONS_MAX: usize = 2;
/// Longer than anything here takes on a busy machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_token_allocates_nothing_in_the_backend_and_an_event_in_the_engine() {
    let mut broken = Vec::new();
    for architecture in ARCHITECTURES {
        let plain = TinyModel {
            width: 256,
            heads: 4,
            kv_heads: 2,
            head_width: 64,
            feed_forward: 512,
            ..TinyModel::new(architecture)
        };
        for (dtype, type_id) in STORAGE {
            let file = stored_as(&plain, dtype, type_id);
            for (sequences, threads) in [(1, 1), (1, 2), (4, 1), (4, 2)] {
                let count = || allocations_of_decoding(file, sequences, threads);
                // The test harness allocates, too: when it says, once, that this has been running for a minute.
                let found = match count() {
                    0 => 0,
                    found => found.min(count()),
                };
                if found > 0 {
                    broken.push(format!(
                        "{architecture} in {dtype:?}, {sequences} sequences, {threads} threads: {found}"
                    ));
                }
            }
        }
        let file = stored_as(&plain, GgmlDType::Q8_0, 8);
        let found = allocations_of_generating(file);
        if found > NEXT_TOKENS * EVENT_ALLOCATIONS_MAX {
            broken.push(format!("events of {architecture}: {found}"));
        }
    }
    assert!(
        broken.is_empty(),
        "allocations in {NEXT_TOKENS} tokens: {broken:#?}"
    );
}

/// How often `NEXT_TOKENS` passes of the backend allocate, once warm.
fn allocations_of_decoding(file: &'static [u8], sequences: usize, threads: usize) -> usize {
    let next: Vec<u32> = (0..(WARM_UP_TOKENS + NEXT_TOKENS) as u32).collect();
    let tokens = ForcedTokens {
        prompt: &PROMPT,
        next: &next,
    };
    let mut counts = Vec::with_capacity(next.len() + 1);
    let backend = forced_logits(
        verified(file),
        &config(threads),
        &vec![tokens; sequences],
        &mut |sequence, _| {
            if sequence == sequences - 1 {
                if counts.len() == WARM_UP_TOKENS {
                    wait_for_sleepers(threads - 1);
                }
                counts.push(ALLOCATIONS.load(Ordering::Relaxed));
            }
        },
    );
    assert_eq!(backend.unwrap(), "native");
    assert_eq!(counts.len(), next.len() + 1);
    counts[next.len()] - counts[WARM_UP_TOKENS]
}

/// Waits until as many of the pool's threads sleep: on a busy machine they may begin, which allocates, only after some
/// tokens.
fn wait_for_sleepers(count: usize) {
    let start = Instant::now();
    let is_asleep = |task: &Path| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.contains("(compute-") && stat.contains(") S ")
    };
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let asleep = tasks.filter(|task| is_asleep(&task.as_ref().unwrap().path()));
        if asleep.count() == count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the pool's threads do not rest");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How often `NEXT_TOKENS` more tokens of a generation allocate, from the job to the last event.
fn allocations_of_generating(file: &'static [u8]) -> usize {
    let engine = Engine::start(verified(file), &config(2)).unwrap();
    let of = |max_tokens| {
        let job = Job {
            prompt: Prompt::Tokens(PROMPT.to_vec()),
            sampling: Sampling::greedy(),
            max_tokens,
            stop: Vec::new(),
            tenant: String::new(),
            output: OutputFormat::Text,
        };
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let generation = engine.submit(job).unwrap();
        loop {
            match generation.next(Duration::from_secs(1)) {
                Next::Event(Event::Done(finished)) => {
                    assert_eq!(finished.finish_reason, FinishReason::Length);
                    return ALLOCATIONS.load(Ordering::Relaxed) - before;
                }
                Next::Event(Event::Failed(error)) => panic!("{error}"),
                Next::Event(_) | Next::Nothing => {}
                Next::Ended => panic!("the last event says that it is the last"),
            }
        }
    };
    let warm_up = WARM_UP_TOKENS + 1;
    of(warm_up);
    let few = of(warm_up);
    of(warm_up + NEXT_TOKENS) - few
}

fn config(threads: usize) -> EngineConfig {
    EngineConfig {
        backend: BackendChoice::Native,
        threads: Some(threads),
        ..EngineConfig::default()
    }
}

fn verified(file: &'static [u8]) -> VerifiedModel {
    let manifest = ModelManifest {
        id: "tiny".to_owned(),
        path: "tiny.gguf".into(),
        sha256: Sha256Digest::of(file),
        bytes: file.len() as u64,
    };
    VerifiedModel::from_embedded(file, &manifest).unwrap()
}

/// The model with its matrices in another storage type.
fn stored_as(model: &TinyModel, dtype: GgmlDType, type_id: u32) -> &'static [u8] {
    let plain = model.build();
    let gguf = Gguf::read(&plain[..], plain.len() as u64).unwrap();
    let mut file = model.builder();
    for tensor in gguf.tensors() {
        if let [rows, columns] = tensor.shape[..] {
            let shape = [rows as usize, columns as usize];
            let values = floats(&plain, gguf.data_offset(), tensor);
            let values = Tensor::from_vec(values, &shape, &Device::Cpu).unwrap();
            let stored = QTensor::quantize(&values, dtype).unwrap();
            let bytes = stored.data().unwrap().into_owned();
            file.raw_tensor(&tensor.name, &shape, type_id, bytes);
        }
    }
    Box::leak(file.build().into_boxed_slice())
}

fn floats(file: &[u8], data_offset: u64, tensor: &TensorInfo) -> Vec<f32> {
    let from = (data_offset + tensor.offset) as usize;
    let bytes = &file[from..from + tensor.bytes as usize];
    let (floats, _) = bytes.as_chunks::<4>();
    floats
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
