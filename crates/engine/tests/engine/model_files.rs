//! Loading by manifest: pins, sizes, swaps, progress.

use std::fs;
use std::path::PathBuf;

use postern_engine::{
    Engine, EngineConfig, EngineError, ModelManifest, Sha256Digest, VerifiedModel,
};
use postern_testkit::gguf::TinyModel;

use super::{job, run, write};

/// A tiny model on disk with its pin.
fn pinned() -> (tempfile::TempDir, PathBuf, ModelManifest) {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "tiny.gguf", &TinyModel::new("llama").build());
    let manifest = ModelManifest::pin(&file, "tiny").unwrap();
    (folder, file, manifest)
}

fn load(manifest: &ModelManifest) -> Result<VerifiedModel, EngineError> {
    VerifiedModel::load(manifest, &mut |_| {})
}

#[test]
fn a_wrong_pin_names_what_was_expected_and_what_was_found() {
    let (_folder, _file, manifest) = pinned();
    let expected: Sha256Digest = "0".repeat(64).parse().unwrap();
    let wrong = ModelManifest {
        sha256: expected,
        ..manifest.clone()
    };
    let error = load(&wrong).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, EngineError::DigestMismatch { .. }),
        "{error:?}"
    );
    for part in [
        "tiny.gguf".to_owned(),
        format!("expected the SHA-256 {expected}"),
        format!("found {}", manifest.sha256),
    ] {
        assert!(text.contains(&part), "no {part:?} in: {text}");
    }
}

#[test]
fn a_file_that_was_changed_is_refused() {
    let (_folder, file, manifest) = pinned();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(matches!(
        load(&manifest),
        Err(EngineError::DigestMismatch { .. })
    ));
}

#[test]
fn a_file_of_another_size_is_refused() {
    let (_folder, file, manifest) = pinned();
    let bytes = fs::read(&file).unwrap();
    let length = bytes.len() as u64;
    let longer = [&bytes[..], &[0]].concat();
    for (changed, found_bytes) in [
        (&bytes[..bytes.len() - 1], length - 1),
        (&[][..], 0),
        (&longer[..], length + 1),
    ] {
        fs::write(&file, changed).unwrap();
        match load(&manifest) {
            Err(EngineError::SizeMismatch {
                path,
                expected,
                found,
                ..
            }) => {
                assert_eq!(path, Some(file.clone()));
                assert_eq!((expected, found), (length, found_bytes));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_missing_file_and_a_folder_are_refused() {
    let (folder, file, manifest) = pinned();
    fs::remove_file(&file).unwrap();
    assert!(matches!(load(&manifest), Err(EngineError::Read { .. })));
    let of_folder = ModelManifest {
        path: folder.path().to_owned(),
        ..manifest
    };
    assert!(matches!(load(&of_folder), Err(EngineError::Read { .. })));
}

/// What was hashed is what runs: the file may change, or go, between the check and the use.
#[test]
fn what_happens_to_the_file_after_the_check_does_not_matter() {
    let (_folder, file, manifest) = pinned();
    let untouched = Engine::start(load(&manifest).unwrap(), &EngineConfig::default()).unwrap();
    let expected = run(&untouched, job("the tea", 12)).unwrap().ids;

    let swaps: [&dyn Fn(); 3] = [
        &|| {
            fs::write(
                &file,
                TinyModel {
                    seed: 99,
                    ..TinyModel::new("llama")
                }
                .build(),
            )
            .unwrap()
        },
        &|| fs::write(&file, b"").unwrap(),
        &|| fs::remove_file(&file).unwrap(),
    ];
    for swap in swaps {
        fs::write(&file, TinyModel::new("llama").build()).unwrap();
        let verified = load(&manifest).unwrap();
        swap();
        let engine = Engine::start(verified, &EngineConfig::default()).unwrap();
        assert_eq!(engine.info().sha256, manifest.sha256);
        assert_eq!(run(&engine, job("the tea", 12)).unwrap().ids, expected);
    }
}

#[test]
fn progress_rises_to_the_whole() {
    let (_folder, _file, manifest) = pinned();
    let mut seen = Vec::new();
    VerifiedModel::load(&manifest, &mut |progress| seen.push(progress)).unwrap();
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].bytes_done < pair[1].bytes_done)
    );
    assert!(
        seen.iter()
            .all(|progress| progress.bytes_total == manifest.bytes)
    );
    assert_eq!(seen.last().unwrap().bytes_done, manifest.bytes);
}

/// More than one segment of memory and many pieces: nothing is lost or mixed up.
#[test]
fn files_larger_than_a_segment_are_hashed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..(65_u32 << 20))
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let manifest = ModelManifest {
        id: "large".to_owned(),
        path: write(folder.path(), "large.gguf", &bytes),
        sha256: Sha256Digest::of(&bytes),
        bytes: bytes.len() as u64,
    };
    let verified = load(&manifest).unwrap();
    assert_eq!(
        (verified.sha256(), verified.bytes()),
        (manifest.sha256, manifest.bytes)
    );
}

#[test]
fn embedded_models_are_checked_as_well() {
    let bytes: &'static [u8] = Box::leak(TinyModel::new("llama").build().into_boxed_slice());
    let right = ModelManifest {
        id: "embedded".to_owned(),
        path: "embedded.gguf".into(),
        sha256: Sha256Digest::of(bytes),
        bytes: bytes.len() as u64,
    };
    let engine = Engine::start(
        VerifiedModel::from_embedded(bytes, &right).unwrap(),
        &EngineConfig::default(),
    );
    assert_eq!(engine.unwrap().info().id, "embedded");
    let wrong_size = ModelManifest {
        bytes: right.bytes + 1,
        ..right.clone()
    };
    let wrong_digest = ModelManifest {
        sha256: Sha256Digest::of(b""),
        ..right
    };
    for wrong in [wrong_size, wrong_digest] {
        let error = VerifiedModel::from_embedded(bytes, &wrong).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the embedded model "), "{text}");
        assert!(
            matches!(
                error,
                EngineError::SizeMismatch { path: None, .. }
                    | EngineError::DigestMismatch { path: None, .. }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn manifests_come_back_as_they_were_written() {
    let (folder, file, pinned) = pinned();
    let manifest = folder.path().join("manifest.json");
    pinned.write(&manifest).unwrap();
    let text = fs::read_to_string(&manifest).unwrap();
    assert!(text.contains("\"path\": \"tiny.gguf\""), "{text}");
    let read = ModelManifest::read(&manifest).unwrap();
    assert_eq!(
        (&read.id, read.sha256, read.bytes),
        (&pinned.id, pinned.sha256, pinned.bytes)
    );
    assert_eq!(
        fs::canonicalize(&read.path).unwrap(),
        fs::canonicalize(&file).unwrap()
    );
    load(&read).unwrap();
}

#[test]
fn manifests_that_are_not_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let digest = "a".repeat(64);
    let of = |id: &str, digest: &str, bytes: &str| {
        format!(r#"{{"id": "{id}", "path": "x.gguf", "sha256": "{digest}", "bytes": {bytes}}}"#)
    };
    let cases = [
        ("empty", String::new()),
        ("unknown field", of("x", &digest, r#"1, "extra": 1"#)),
        ("upper-case digest", of("x", &"A".repeat(64), "1")),
        ("short digest", of("x", &"a".repeat(63), "1")),
        ("negative size", of("x", &digest, "-1")),
        ("size 0", of("x", &digest, "0")),
        ("absurd size", of("x", &digest, "18446744073709551615")),
        ("id with a slash", of("../x", &digest, "1")),
        ("no id", of("", &digest, "1")),
        ("larger than a manifest", " ".repeat(100_000)),
    ];
    for (name, text) in cases {
        let path = write(folder.path(), "manifest.json", text.as_bytes());
        assert!(ModelManifest::read(&path).is_err(), "{name}");
    }
}
