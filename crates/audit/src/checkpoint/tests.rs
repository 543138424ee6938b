//! With the vectors of Go's `note` package and of the specifications, and with another
//! implementation, the crate `signed_note`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use zeroize::Zeroizing;

use super::*;
use crate::key_file::KeyFileError;

/// Text, keys and signatures of `sumdb/note/note_test.go` of golang.org/x/mod.
const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                       then you don't know what your problem is.\n";
const GO_SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_SIGNATURE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const GO_OTHER_SIGNATURE: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

fn go_key() -> SigningKey {
    let seed = BASE64_STANDARD.decode(GO_SEED).unwrap();
    SigningKey::from_seed(name("PeterNeumann"), Zeroizing::new(seed))
}

fn some_key() -> SigningKey {
    SigningKey::generate(name("example.com/device-7")).unwrap()
}

fn some_checkpoint(key: &SigningKey) -> Checkpoint {
    Checkpoint {
        origin: key.name().clone(),
        size: 20_852_163,
        root: crate::merkle::leaf_hash(b"root"),
    }
}

#[test]
fn note_of_go_is_signed_and_verified() {
    let key = go_key();
    assert_eq!(key.verifier().to_string(), GO_KEY);
    assert_eq!(VerifierKey::parse(GO_KEY).unwrap(), *key.verifier());
    let note = format!("{GO_TEXT}\n{GO_SIGNATURE}");
    assert_eq!(key.sign_text(GO_TEXT), note);
    assert_eq!(key.verifier().verify(&note).unwrap(), GO_TEXT);
    for signatures in [
        [GO_OTHER_SIGNATURE, GO_SIGNATURE],
        [GO_SIGNATURE, GO_OTHER_SIGNATURE],
        [GO_SIGNATURE, GO_SIGNATURE],
    ] {
        let note = format!("{GO_TEXT}\n{}", signatures.concat());
        assert_eq!(key.verifier().verify(&note).unwrap(), GO_TEXT);
    }
}

/// The mangled keys of `TestNewVerifier` in Go's `note` package.
#[test]
fn mangled_verifier_keys_are_refused() {
    for begin in 0..GO_KEY.len() {
        for end in begin..=GO_KEY.len() {
            let part = &GO_KEY[begin..end];
            assert_eq!(VerifierKey::parse(part).is_ok(), part == GO_KEY, "{part}");
        }
    }
    for place in 0..GO_KEY.len() {
        let mut bytes = GO_KEY.as_bytes().to_vec();
        bytes[place] += 1;
        let mangled = String::from_utf8(bytes).unwrap();
        assert!(VerifierKey::parse(&mangled).is_err(), "{mangled}");
    }
    let cases = [
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "not base64",
        ),
        (
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "not of type 1",
        ),
        (
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "without spaces",
        ),
        (
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "the id is not that",
        ),
        ("PeterNeumann+c74f20a3+AQ==", "has not 32 bytes"),
    ];
    for (key, expected) in cases {
        let error = VerifierKey::parse(key).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
    }
}

/// The malformed messages of `TestOpen` in Go's `note` package, and more.
#[test]
fn malformed_notes_are_refused_with_their_place() {
    let signature = GO_SIGNATURE.trim_end();
    let base64 = signature.rsplit(' ').next().unwrap();
    let cases = [
        (String::new(), "no empty line"),
        (GO_TEXT.to_owned(), "no empty line"),
        (format!("{GO_TEXT}\n"), "does not end in a signature"),
        (
            format!("{GO_TEXT}\n{signature}"),
            "does not end in a signature",
        ),
        (
            format!("\u{1}{GO_TEXT}\n{GO_SIGNATURE}"),
            "line 1 of the note holds the control",
        ),
        (
            format!("{GO_TEXT}\n{signature}\r\n"),
            "line 4 of the note holds the control",
        ),
        (
            format!("{GO_TEXT}\n— Bad Name {base64}\n"),
            "line 4 of the note is not a signature",
        ),
        (
            format!("{GO_TEXT}\n{GO_SIGNATURE}Unexpected line.\n"),
            "line 5 of the note is not a signature",
        ),
        (
            format!("{GO_TEXT}\n{GO_SIGNATURE}\n"),
            "does not end in a signature",
        ),
        (format!("{GO_TEXT}\n-- PeterNeumann {base64}\n"), "em dash"),
        (
            format!("{GO_TEXT}\n— Peter+Neumann {base64}\n"),
            "has spaces or +",
        ),
        (format!("{GO_TEXT}\n—  {base64}\n"), "has spaces or +"),
        (format!("{GO_TEXT}\n— PeterNeumann\n"), "has no name"),
        (
            format!("{GO_TEXT}\n— PeterNeumann x08go/8=\n"),
            "does not fit the note",
        ),
        (format!("{GO_TEXT}\n— PeterNeumann x08gow==\n"), "too short"),
        (
            format!("{GO_TEXT}\n— PeterNeumann {base64}A\n"),
            "not base64",
        ),
        (
            format!("{GO_TEXT}\n{}", GO_SIGNATURE.repeat(101)),
            "more than 100 signatures",
        ),
        (
            format!("{}\n\n{GO_SIGNATURE}", "x".repeat(NOTE_BYTES_MAX)),
            "more than 131072",
        ),
        (
            format!("{GO_TEXT}\n{GO_OTHER_SIGNATURE}"),
            "not signed by PeterNeumann+c74f20a3+",
        ),
        (format!("x{GO_TEXT}\n{GO_SIGNATURE}"), "altered or forged"),
        (
            format!("x{GO_TEXT}\n{GO_OTHER_SIGNATURE}{GO_SIGNATURE}"),
            "altered or forged",
        ),
    ];
    let key = VerifierKey::parse(GO_KEY).unwrap();
    for (note, expected) in cases {
        let error = key.verify(&note).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
    }
}

#[test]
fn one_failing_signature_of_the_key_refuses_the_note() {
    let key = go_key();
    let other = key.sign_text("another text\n");
    let other = other.lines().last().unwrap();
    let note = format!("{GO_TEXT}\n{GO_SIGNATURE}{other}\n");
    let error = key.verifier().verify(&note).unwrap_err();
    assert!(matches!(error, NoteError::Forged { .. }));
}

#[test]
fn text_of_a_note_can_have_empty_lines() {
    let key = some_key();
    let text = "first\n\nsecond\n";
    assert_eq!(key.verifier().verify(&key.sign_text(text)).unwrap(), text);
}

#[test]
fn checkpoint_has_the_form_of_the_specification() {
    let key = some_key();
    let checkpoint = some_checkpoint(&key);
    let note = key.sign(&checkpoint);
    let lines: Vec<&str> = note.lines().collect();
    assert_eq!(lines[0], "example.com/device-7");
    assert_eq!(lines[1], "20852163");
    assert_eq!(lines[2], BASE64_STANDARD.encode(checkpoint.root));
    assert_eq!(lines[3], "");
    assert!(lines[4].starts_with("— example.com/device-7 "));
    assert_eq!(lines.len(), 5);
    assert_eq!(key.verifier().open(&note).unwrap(), checkpoint);
    let cosigned = format!("{note}{GO_OTHER_SIGNATURE}");
    assert_eq!(key.verifier().open(&cosigned).unwrap(), checkpoint);
}

#[test]
fn checkpoints_of_others_and_altered_ones_are_refused() {
    let key = some_key();
    let note = key.sign(&some_checkpoint(&key));
    let namesake = SigningKey::generate(key.name().clone()).unwrap();
    let error = namesake.verifier().open(&note).unwrap_err();
    assert!(matches!(error, NoteError::NotSigned { .. }), "{error}");
    let other = SigningKey::generate(name("example.com/other")).unwrap();
    let foreign = key.sign(&some_checkpoint(&other));
    assert_eq!(
        key.verifier().open(&foreign).unwrap_err().to_string(),
        "the checkpoint is that of the log example.com/other, but the key is that of example.com/device-7"
    );
    for place in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[place] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert!(key.verifier().open(&changed).is_err(), "byte {place}");
        }
    }
}

#[test]
fn signed_notes_that_are_no_checkpoints_are_refused() {
    let key = some_key();
    let root = BASE64_STANDARD.encode([7; 32]);
    let cases = [
        ("a b\n1\nroot\n".to_owned(), "line 1 of the checkpoint"),
        (
            "example.com/device-7\n".to_owned(),
            "line 2 of the checkpoint",
        ),
        (
            format!("example.com/device-7\n01\n{root}\n"),
            "line 2 of the checkpoint",
        ),
        (
            format!("example.com/device-7\n+1\n{root}\n"),
            "line 2 of the checkpoint",
        ),
        (
            format!("example.com/device-7\n18446744073709551616\n{root}\n"),
            "line 2 of the checkpoint",
        ),
        (
            "example.com/device-7\n1\nAAAA\n".to_owned(),
            "line 3 of the checkpoint",
        ),
        (
            format!("example.com/device-7\n1\n{root}\n\nmore\n"),
            "line 4 of the checkpoint",
        ),
    ];
    for (text, expected) in cases {
        let error = key
            .verifier()
            .open(&key.sign_text(&text))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
    }
    let extended = format!("example.com/device-7\n18446744073709551615\n{root}\nextension\n");
    let opened = key.verifier().open(&key.sign_text(&extended)).unwrap();
    assert_eq!((opened.size, opened.root), (u64::MAX, [7; 32]));
}

#[test]
fn other_implementation_verifies_what_we_sign() {
    let key = some_key();
    let checkpoint = some_checkpoint(&key);
    let note = key.sign(&checkpoint);
    let verifier = StandardVerifier::new(&key.verifier().to_string()).unwrap();
    let parsed = Note::from_bytes(note.as_bytes()).unwrap();
    let (verified, unverified) = parsed
        .verify(&VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    assert_eq!(parsed.text(), checkpoint.to_text().as_bytes());
    assert_eq!(parsed.to_bytes(), note.as_bytes());
}

#[test]
fn we_verify_what_the_other_implementation_signs() {
    let ours = go_key();
    let checkpoint = some_checkpoint(&ours);
    let seed = BASE64_STANDARD.decode(GO_SEED).unwrap();
    let typed = BASE64_STANDARD.encode([&[1], seed.as_slice()].concat());
    let theirs =
        StandardSigner::new(&format!("PRIVATE+KEY+PeterNeumann+c74f20a3+{typed}")).unwrap();
    let mut note = Note::new(checkpoint.to_text().as_bytes(), &[]).unwrap();
    note.add_sigs(&[&theirs]).unwrap();
    let note = String::from_utf8(note.to_bytes()).unwrap();
    assert_eq!(ours.verifier().open(&note).unwrap(), checkpoint);
    assert_eq!(note, ours.sign(&checkpoint));
}

#[test]
fn key_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.key");
    let (first, is_new) = SigningKey::load_or_create(&path, name("a")).unwrap();
    assert!(is_new);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(metadata.len(), 32);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let (again, is_new) = SigningKey::load_or_create(&path, name("a")).unwrap();
    assert!(!is_new);
    assert_eq!(again.verifier(), first.verifier());
    let renamed = SigningKey::load(&path, name("b")).unwrap();
    assert_eq!(
        renamed.verifier().public_key(),
        first.verifier().public_key()
    );
    let error = some_key().store(&path).unwrap_err();
    assert!(
        matches!(error, KeyError::File(KeyFileError::Io { .. })),
        "{error}"
    );
    assert_eq!(
        SigningKey::load(&path, name("a")).unwrap().verifier(),
        first.verifier()
    );
}

#[test]
fn exposed_and_damaged_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    some_key().store(&path).unwrap();
    for mode in [0o644, 0o640, 0o660, 0o604, 0o601] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = SigningKey::load_or_create(&path, name("a")).unwrap_err();
        assert!(
            matches!(&error, KeyError::Exposed { mode: found, .. } if *found == mode),
            "{error}"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    SigningKey::load(&path, name("a")).unwrap();

    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for (content, expected) in [
        (vec![1; 31], "is too short"),
        (vec![], "is too short"),
        (vec![0; 32], "nothing but zeros"),
        (vec![1; 33], "more than 32 bytes"),
    ] {
        fs::write(&path, content).unwrap();
        let error = SigningKey::load_or_create(&path, name("a"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
    }
}

/// A link to nowhere is no reason to write a key at its other end, nor in its place.
#[test]
fn link_to_nowhere_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    SigningKey::load_or_create(&path, name("a")).unwrap_err();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn names_are_checked() {
    for bad in [
        "",
        "a b",
        "a+b",
        "a\nb",
        "a\u{a0}b",
        "a\u{7f}",
        "a\u{85}b",
        &"x".repeat(257),
    ] {
        assert_eq!(KeyName::new(bad), Err(NoteError::Name), "{bad:?}");
    }
    for good in ["example.com/device-7", "käse", &"x".repeat(256)] {
        assert_eq!(KeyName::new(good).unwrap().as_str(), good);
    }
}

#[test]
fn debug_output_keeps_the_seed() {
    let key = go_key();
    assert_eq!(format!("{key:?}"), format!("SigningKey({GO_KEY})"));
}

proptest! {
    #[test]
    fn checkpoints_of_any_size_come_back(size: u64, root: [u8; 32]) {
        let key = go_key();
        let checkpoint = Checkpoint { origin: key.name().clone(), size, root };
        prop_assert_eq!(key.verifier().open(&key.sign(&checkpoint)).unwrap(), checkpoint);
    }

    #[test]
    fn arbitrary_text_never_panics(text: String, tail: String) {
        let key = VerifierKey::parse(GO_KEY).unwrap();
        prop_assert!(key.open(&text).is_err());
        let signed = format!("{GO_TEXT}\n{GO_SIGNATURE}{tail}");
        prop_assert!(key.open(&signed).is_err());
        prop_assert!(VerifierKey::parse(&text).is_err());
        let _ = Checkpoint::from_text(&text);
    }
}
