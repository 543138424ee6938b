//! The GGUF reader on what is cut, absurd, contradictory or random: an error with a place, never a
//! panic, and never an allocation beyond what the file could hold.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_engine::gguf::Gguf;
use postern_engine::{EngineConfig, EngineError};
use postern_testkit::gguf::{Entry, GgufBuilder, Storage, TinyModel};
use proptest::prelude::*;

use super::{arbitrary_gguf, try_start};

/// Remembers the largest single allocation, so that a test can tell that none was absurd.
struct Watched;

static LARGEST_BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator is the only place that sees every allocation"
)]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST_BYTES.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// More than any test of this binary allocates at once on purpose (a 65 MiB file, its segment and buffers).
const ABSURD_BYTES: usize = 256 << 20;

fn read(bytes: &[u8]) -> Result<Gguf, EngineError> {
    Gguf::read(bytes, bytes.len() as u64)
}

/// The head of a file: magic, version, number of tensors, number of entries.
fn head(version: u32, tensors: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes
}

/// A head with one entry whose value is given as raw bytes after its type.
fn one_entry(type_id: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = head(3, 0, 1);
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b'k');
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(value);
    bytes.extend([0; 64]);
    bytes
}

/// A head with one tensor of the given dimensions, type and offset.
fn one_tensor(dimensions: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = head(3, 1, 0);
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b't');
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions
        .iter()
        .for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.extend([0; 256]);
    bytes
}

fn array(element: u32, count: u64) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes()[..]].concat()
}

#[test]
fn what_breaks_the_format_is_an_error_that_says_so() {
    let long = u64::MAX.to_le_bytes();
    let twice = {
        let entry = &one_entry(7, &[1])[24..24 + 14];
        [&head(3, 0, 2)[..], entry, entry, &[0; 64]].concat()
    };
    let cases: [(&str, Vec<u8>, &str); 26] = [
        ("empty", Vec::new(), "the file ends at 0"),
        ("cut in the magic", b"GG".to_vec(), "the file ends at 2"),
        (
            "garbage",
            b"\x89PNG\r\n\x1a\n rest of it".to_vec(),
            "not \"GGUF\"",
        ),
        ("version 1", head(1, 0, 0), "version 1 is not 2 or 3"),
        (
            "big-endian version",
            head(3_u32.swap_bytes(), 0, 0),
            "is not 2 or 3",
        ),
        (
            "absurd number of tensors",
            head(3, u64::MAX, 0),
            "18446744073709551615 tensors",
        ),
        (
            "absurd number of entries",
            head(3, 0, u64::MAX),
            "18446744073709551615 metadata entries",
        ),
        (
            "more tensors than fit",
            head(3, 1000, 0),
            "1000 tensors cannot fit",
        ),
        (
            "more entries than fit",
            head(3, 0, 1000),
            "1000 metadata entries cannot fit",
        ),
        (
            "absurd string",
            one_entry(8, &long),
            "18446744073709551615 string value",
        ),
        (
            "string beyond the end",
            one_entry(8, &1000_u64.to_le_bytes()),
            "1000 string value cannot fit",
        ),
        (
            "string that is not UTF-8",
            one_entry(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xFF]),
            "not UTF-8",
        ),
        (
            "unknown type",
            one_entry(13, &[]),
            "value type 13 is unknown",
        ),
        ("odd boolean", one_entry(7, &[2]), "a boolean is 2"),
        (
            "absurd array of bytes",
            one_entry(9, &array(0, u64::MAX)),
            "array elements",
        ),
        (
            "array of floats beyond the end",
            one_entry(9, &array(6, 1 << 20)),
            "array elements cannot fit",
        ),
        (
            "array of strings beyond the end",
            one_entry(9, &array(8, 1 << 20)),
            "array elements cannot fit",
        ),
        (
            "nested array",
            one_entry(9, &array(9, 1)),
            "arrays of value type 9",
        ),
        ("the same key twice", twice, "appears twice"),
        ("no dimensions", one_tensor(&[], 0, 0), "0 dimensions"),
        ("five dimensions", one_tensor(&[1; 5], 0, 0), "5 dimensions"),
        (
            "a dimension of 0",
            one_tensor(&[0, 4], 0, 0),
            "has the shape [4, 0]",
        ),
        (
            "elements beyond counting",
            one_tensor(&[u64::MAX, u64::MAX], 0, 0),
            "has the shape",
        ),
        (
            "rows that are not whole blocks",
            one_tensor(&[33], 8, 0),
            "not whole blocks of Q8_0",
        ),
        (
            "tensor beyond the end",
            one_tensor(&[1 << 40], 0, 0),
            "the file ends at",
        ),
        (
            "offset off the alignment",
            one_tensor(&[4], 0, 7),
            "not at a multiple of 32",
        ),
    ];
    for (name, bytes, expected) in cases {
        match read(&bytes) {
            Ok(_) => panic!("{name}: accepted"),
            Err(error) => assert!(error.to_string().contains(expected), "{name}: {error}"),
        }
    }
    let offset = one_tensor(&[4], 0, u64::MAX - 31);
    assert!(
        read(&offset)
            .unwrap_err()
            .to_string()
            .contains("the file ends at")
    );
    let unknown = one_tensor(&[4], 77, 0);
    assert!(
        read(&unknown)
            .unwrap_err()
            .to_string()
            .contains("unknown storage type 77")
    );
    let largest = LARGEST_BYTES.load(Ordering::Relaxed);
    assert!(
        largest < ABSURD_BYTES,
        "{largest} bytes were allocated at once"
    );
}

#[test]
fn odd_alignments_are_refused() {
    for alignment in [0, 1, 7, 24, 1 << 20] {
        let file = GgufBuilder::new()
            .entry("general.alignment", Entry::U32(alignment))
            .build();
        assert!(
            read(&file)
                .unwrap_err()
                .to_string()
                .contains("general.alignment"),
            "{alignment}"
        );
    }
}

/// The head of a model, which is all that matters to the reader, cut anywhere.
#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = TinyModel::new("llama").build();
    for length in (0..file.len()).step_by(97) {
        assert!(
            read(&file[..length]).is_err(),
            "{length} of {} bytes",
            file.len()
        );
    }
}

/// Bad files reach the engine as errors too, not only the reader.
#[test]
fn the_engine_refuses_files_that_are_no_models() {
    let tiny = TinyModel::new("llama").build();
    let cases = [
        ("garbage", vec![0x5A; 4096]),
        ("truncated", tiny[..tiny.len() / 2].to_vec()),
        ("absurd", head(3, u64::MAX, u64::MAX)),
        ("head only", head(3, 0, 0)),
    ];
    for (name, bytes) in cases {
        let error = try_start(&bytes, &EngineConfig::default()).unwrap_err();
        assert!(error.to_string().contains("tiny.gguf: "), "{name}: {error}");
    }
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    let file = TinyModel::new("llama")
        .builder()
        .entry("general.architecture", Entry::Text("mamba".to_owned()))
        .build();
    let text = try_start(&file, &EngineConfig::default())
        .unwrap_err()
        .to_string();
    for expected in [
        "mamba", "llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn values_of_every_type_are_read() {
    let file = GgufBuilder::new()
        .entry("number", Entry::U32(7))
        .entry("large", Entry::U64(1 << 40))
        .entry("share", Entry::F32(0.5))
        .entry("flag", Entry::Bool(true))
        .entry("text", Entry::Text("für".to_owned()))
        .entry("texts", Entry::Texts(vec!["a".to_owned(), String::new()]))
        .entry("integers", Entry::Integers(vec![-1, 2]))
        .entry("floats", Entry::Floats(vec![0.25]))
        .tensor("t", &[2, 32], &[1.0; 64], Storage::Q8_0)
        .build();
    let gguf = read(&file).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.u32("number").unwrap(), 7);
    assert_eq!(metadata.u64("large").unwrap(), 1 << 40);
    assert!(metadata.u32("large").is_err());
    assert_eq!(metadata.f64("share").unwrap(), 0.5);
    assert_eq!(metadata.bool_opt("flag").unwrap(), Some(true));
    assert_eq!(metadata.string("text").unwrap(), "für");
    assert!(metadata.strings("texts").unwrap().iter().eq(["a", ""]));
    assert_eq!(
        metadata.integers_opt("integers").unwrap(),
        Some(&[-1, 2][..])
    );
    assert_eq!(metadata.floats_opt("floats").unwrap(), Some(&[0.25][..]));
    assert!(matches!(
        metadata.string("number"),
        Err(EngineError::MetadataType { .. })
    ));
    assert!(matches!(
        metadata.string("absent"),
        Err(EngineError::MetadataMissing { .. })
    ));
    let tensor = &gguf.tensors()[0];
    assert_eq!(
        (&tensor.shape[..], tensor.elements, tensor.bytes),
        (&[2, 32][..], 64, 68)
    );
}

/// What the fuzz target starts from: named after what it attacks.
#[test]
fn the_corpus_of_the_fuzz_target_is_refused_or_sound() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/gguf");
    let mut cases = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| arbitrary_gguf::check(&bytes));
        assert!(outcome.is_ok(), "{}", path.display());
        cases += 1;
    }
    assert!(cases > 0, "{corpus} is empty");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_models_are_refused_or_sound(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        // Most of the head's bytes are vocabulary; the structure is at its front and its end.
        let mut file = TinyModel::new("qwen2").build();
        let head = usize::try_from(read(&file).unwrap().data_offset()).unwrap();
        for (index, byte) in changes {
            let place = index.index(head);
            file[place] = byte;
        }
        arbitrary_gguf::check(&file);
    }

    #[test]
    fn random_bytes_are_refused_or_sound(mut bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let preamble = head(3, 1, 1);
        let length = preamble.len().min(bytes.len());
        bytes[..length].copy_from_slice(&preamble[..length]);
        arbitrary_gguf::check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Past the reader, too: whatever it lets through is loaded or refused.
    #[test]
    fn mutated_models_never_crash_the_engine(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut file = TinyModel { layers: 1, ..TinyModel::new("llama") }.build();
        let head = usize::try_from(read(&file).unwrap().data_offset()).unwrap();
        for (index, byte) in changes {
            let place = index.index(head);
            file[place] = byte;
        }
        match try_start(&file, &EngineConfig::default()) {
            Ok(engine) => {
                let _outcome = super::run(&engine, super::job("the tea", 2));
            }
            Err(error) => prop_assert!(!matches!(error, EngineError::Stopped), "the worker panicked"),
        }
    }
}
