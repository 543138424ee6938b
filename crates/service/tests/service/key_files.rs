//! The token key's file: made once, for its owner alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use jiff::Timestamp;
use postern_service::{ServiceError, TokenKey, issue};
use tempfile::TempDir;

use crate::house::claims;

fn write(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_is_made_once_and_read_after_that() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("token.key");
    assert!(matches!(
        TokenKey::load(&path),
        Err(ServiceError::KeyFile { .. })
    ));
    TokenKey::load_or_create(&path).unwrap();
    let facts = fs::metadata(&path).unwrap();
    assert_eq!((facts.len(), facts.mode() & 0o7777), (32, 0o600));
    let bytes = fs::read(&path).unwrap();
    TokenKey::load_or_create(&path).unwrap();
    TokenKey::load(&path).unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "the second look changes nothing"
    );
}

#[test]
fn a_key_file_that_others_may_touch_is_refused() {
    let folder = TempDir::new().unwrap();
    for mode in [0o640, 0o604, 0o660, 0o620, 0o601, 0o666] {
        let path = folder.path().join(format!("{mode:o}.key"));
        write(&path, &[1; 32], mode);
        for loaded in [TokenKey::load(&path), TokenKey::load_or_create(&path)] {
            match loaded {
                Err(ServiceError::KeyExposed { mode: found, .. }) => assert_eq!(found, mode),
                other => panic!("{mode:o}: {other:?}"),
            }
        }
    }
    for mode in [0o600, 0o400] {
        let path = folder.path().join(format!("{mode:o}.key"));
        write(&path, &[1; 32], mode);
        TokenKey::load(&path).unwrap();
    }
}

#[test]
fn a_key_file_of_another_length_is_refused() {
    let folder = TempDir::new().unwrap();
    for length in [0, 31, 33, 4096] {
        let path = folder.path().join(format!("{length}.key"));
        write(&path, &vec![1; length], 0o600);
        match TokenKey::load_or_create(&path) {
            Err(ServiceError::KeyShape { found, .. }) => assert_eq!(found, length as u64),
            other => panic!("{length}: {other:?}"),
        }
    }
    let refused = TokenKey::load(folder.path());
    assert!(
        matches!(refused, Err(ServiceError::KeyShape { .. })),
        "a folder is no key"
    );
}

#[test]
fn keys_differ_and_do_not_show_themselves() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("token.key");
    write(&path, b"0123456789abcdef0123456789abcdef", 0o600);
    let key = TokenKey::load(&path).unwrap();
    assert_eq!(format!("{key:?}"), "TokenKey(hidden)");
    let made = [TokenKey::generate().unwrap(), TokenKey::generate().unwrap()];
    let claims = claims("kiosk", &["coffee.v1"], Timestamp::UNIX_EPOCH);
    assert_ne!(issue(&made[0], &claims), issue(&made[1], &claims));
}
