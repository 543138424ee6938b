//! Any bytes at all are a GGUF file whose facts hold, or are refused with a reason.
//!
//! Shared by the fuzz target and by the tests of the reader.

use std::collections::HashSet;

use postern_engine::EngineError;
use postern_engine::gguf::{Gguf, METADATA_ENTRIES_MAX, TENSORS_MAX};

/// Reads the bytes and checks all that holds of what was read.
///
/// # Panics
/// Where something does not hold.
pub(crate) fn check(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let gguf = match Gguf::read(bytes, length) {
        Ok(gguf) => gguf,
        Err(
            EngineError::GgufInvalid { .. }
            | EngineError::GgufBound { .. }
            | EngineError::MetadataType { .. },
        ) => return,
        Err(error) => panic!("an error of another kind: {error:?}"),
    };
    assert!(matches!(gguf.version(), 2 | 3));
    assert!(gguf.tensors().len() as u64 <= TENSORS_MAX);
    assert!(gguf.metadata().iter().count() as u64 <= METADATA_ENTRIES_MAX);
    let mut names = HashSet::new();
    for tensor in gguf.tensors() {
        let end = gguf.data_offset() + tensor.offset + tensor.bytes;
        assert!(end <= length, "{tensor:?} ends at {end} of {length}");
        assert_eq!(
            tensor.shape.iter().product::<u64>(),
            tensor.elements,
            "{tensor:?}"
        );
        assert!(names.insert(&tensor.name), "{tensor:?} is there twice");
    }
}
