//! FORMAT.md holds: stored bytes are as described, and a second verifier, written from the
//! description in another language, agrees with ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use postern_audit::verify;
use tempfile::TempDir;

use crate::fixtures::{frame_offsets, open, refused, sample, segments, small_segments};

#[test]
fn stored_bytes_are_as_documented() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &small_segments()).unwrap();
    log.append(&refused("r-1")).unwrap();
    drop(log);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let zeros = "0".repeat(64);
    let header = format!(r#"{{"first_index":0,"previous_head":"{zeros}","segment":0}}"#);
    assert_eq!(&bytes[..8], b"PSTAUDIT");
    assert_eq!(bytes[8..12], 1_u32.to_be_bytes());
    assert_eq!(bytes[12..16], (header.len() as u32).to_be_bytes());
    assert_eq!(&bytes[16..16 + header.len()], header.as_bytes());

    let frame = frame_offsets(&bytes)[1];
    let body = concat!(
        r#"{"entry":{"code":"template-unknown","#,
        r#""detail":"no such template: \u0007 \"é\" \\ 🦀","#,
        r#""identity":null,"request_id":"r-1","template":"unheard-of.v9","type":"refused"},"#,
        r#""index":1,"time":"1970-01-01T00:00:01.500000Z"}"#,
    );
    let length = body.len() as u32;
    assert_eq!(bytes[frame..frame + 4], length.to_be_bytes());
    assert_eq!(bytes[frame + 4..frame + 8], (!length).to_be_bytes());
    assert_eq!(&bytes[frame + 8..frame + 8 + body.len()], body.as_bytes());
    assert_eq!(bytes.len(), frame + 8 + body.len() + 32);
}

/// Runs the Python verifier; nothing where there is no Python.
fn python_says(dir: &Path) -> Option<Result<String, String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify.py");
    let output = Command::new("python3").arg(script).arg(dir).output().ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    Some(if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    })
}

#[test]
fn a_verifier_written_from_the_description_agrees() {
    let dir = TempDir::new().unwrap();
    sample(dir.path());
    let verified = verify(dir.path()).unwrap();
    let Some(said) = python_says(dir.path()) else {
        println!("no python3 here, nothing compared");
        return;
    };
    assert_eq!(said, Ok(format!("{} {}", verified.records, verified.head)));

    let path = &segments(dir.path())[1];
    let original = fs::read(path).unwrap();
    for at in (0..original.len()).step_by(original.len() / 12) {
        let mut bytes = original.clone();
        bytes[at] ^= 0x10;
        fs::write(path, bytes).unwrap();
        let said = python_says(dir.path()).expect("python3 ran before");
        let place = crate::fixtures::broken(verify(dir.path()));
        let expected = format!("00000001.seg byte {} record {}", place.offset, place.index);
        let said = said.expect_err("a flipped byte is found");
        assert!(said.starts_with(&expected), "{said}, not {expected}");
    }
}
