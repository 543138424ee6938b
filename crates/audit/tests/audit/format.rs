//! FORMAT.md holds: stored bytes are as described, and a second verifier, written from the
//! description in another language, agrees with ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use postern_audit::{AuditConfig, Entry, Refused, SigningKey, VerifierKey, read, verify};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, digest, ended, frame_offsets, open, plain, record_offsets, refused, refused_more,
    sample_with, sealed, segments, signing_key, small_segments,
};

#[test]
fn stored_bytes_are_as_documented() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &small_segments()).unwrap();
    log.append(&refused("r-1")).unwrap();
    drop(log);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let zeros = "0".repeat(64);
    let signer = own_signer();
    assert_eq!(&bytes[..8], b"PSTAUDIT");
    assert_eq!(bytes[8..12], 2_u32.to_be_bytes());
    let length = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[16..16 + length].to_vec()).unwrap();
    let (boot, rest) = header.split_at(r#"{"boot":""#.len() + 32);
    assert!(boot.starts_with(r#"{"boot":""#), "{header}");
    let expected = format!(
        concat!(
            r#"","first_index":0,"keys":null,"origin":"postern","previous_head":"{}","#,
            r#""segment":0,"signer":"{}","tree":{{"peaks":[],"size":0}}}}"#
        ),
        zeros, signer
    );
    assert_eq!(rest, expected);
    assert_eq!(bytes[16 + length..20 + length], [0; 4], "no key area");

    let frame = record_offsets(&bytes)[1];
    let content = concat!(
        r#"{"code":"template-unknown","#,
        r#""detail":"no such template: \u0007 \"é\" \\ 🦀","#,
        r#""identity":null,"request_id":"r-1","template":"unheard-of.v9","type":"refused"}"#,
    );
    let length = (42 + content.len()) as u32;
    assert_eq!(bytes[frame..frame + 4], length.to_be_bytes());
    assert_eq!(bytes[frame + 4..frame + 8], (!length).to_be_bytes());
    let clear = &bytes[frame + 8..frame + 50];
    assert_eq!(clear[..2], [1, 3], "a record, refused");
    assert_eq!(clear[2..10], 1_u64.to_be_bytes(), "its index");
    assert_eq!(clear[10..18], 3_000_000_i64.to_be_bytes(), "its wall time");
    assert_eq!(clear[26..34], [0xff; 8], "no subject");
    assert_eq!(clear[34..42], [0; 8], "not sealed");
    let end = frame + 50 + content.len();
    assert_eq!(&bytes[frame + 50..end], content.as_bytes());
    let rest: Vec<usize> = frame_offsets(&bytes)
        .into_iter()
        .filter(|&at| at >= end + 32)
        .collect();
    let [signature, checkpoint, last, file_end] = rest[..] else {
        panic!("{rest:?}")
    };
    assert_eq!(bytes[signature + 8], 4, "a signature ends each write");
    assert_eq!(bytes[checkpoint + 8], 2, "a closed log has a checkpoint");
    assert_eq!(bytes[last + 8], 4, "which is signed, too");
    assert_eq!(file_end - last, 105);
    let note = String::from_utf8(bytes[checkpoint + 25..last - 32].to_vec()).unwrap();
    let signer: VerifierKey = signer.parse().unwrap();
    let key = UnparsedPublicKey::new(&ED25519, public_key(&signer));
    let message = [
        &b"postern-audit/signature/v2\0"[..],
        &bytes[last - 32..last],
    ]
    .concat();
    key.verify(&message, &bytes[last + 9..last + 73]).unwrap();
    assert_eq!(signer.open(&note).unwrap().size, 2);
    assert_eq!(
        fs::read_to_string(dir.path().join("checkpoint")).unwrap(),
        note
    );
}

#[test]
fn the_text_of_an_output_is_left_out_where_it_is_not_kept() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    for (id, output) in [("hashed", None), ("kept", Some("One\n\"two\".".to_owned()))] {
        let admitted_index = log.append(&admitted(id, "")).unwrap().index;
        log.append(&ended(id, admitted_index, output)).unwrap();
    }
    drop(log);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let stored = String::from_utf8_lossy(&bytes);
    for (index, id, output) in [
        (1, "hashed", ""),
        (3, "kept", r#""output":"One\n\"two\".","#),
    ] {
        let expected = format!(
            concat!(
                r#"{{"admitted_index":{},"outcome":{{"code":"engine-stopped","kind":"failed"}},{}"#,
                r#""output_redactions":[],"output_sha256":"{}","request_id":"{}","#,
            ),
            index,
            output,
            digest('e'),
            id
        );
        assert!(stored.contains(&expected), "{expected} in {stored}");
    }
}

#[test]
fn counted_refusals_and_what_is_left_out_where_unknown_are_as_documented() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    let known = Entry::Refused(Refused {
        request_id: "r-1".to_owned(),
        identity: Some("kiosk".to_owned()),
        token_id: Some("t-1".to_owned()),
        certificate_sha256: digest('f'),
        template: None,
        subject: None,
        code: "token-expired".to_owned(),
        detail: String::new(),
        rules_sha256: String::new(),
    });
    log.append(&known).unwrap();
    log.append(&Entry::RefusedMore(refused_more(2).bounded()))
        .unwrap();
    drop(log);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let offsets = record_offsets(&bytes);
    let of_known = format!(
        concat!(
            r#"{{"certificate_sha256":"{}","code":"token-expired","detail":"","identity":"kiosk","#,
            r#""request_id":"r-1","template":null,"token_id":"t-1","type":"refused"}}"#
        ),
        digest('f')
    );
    let of_more = concat!(
        r#"{"counts":[{"code":"code-002","count":2},{"code":"code-001","count":1}],"#,
        r#""since_us":1000000,"type":"refused-more","until_us":1500000}"#
    );
    for (frame, code, content) in [(offsets[1], 3, &*of_known), (offsets[2], 8, of_more)] {
        assert_eq!(bytes[frame + 8..frame + 10], [1, code], "kind and type");
        assert_eq!(bytes[frame + 34..frame + 42], [0xff; 8], "no subject");
        let end = frame + 50 + content.len();
        assert_eq!(str::from_utf8(&bytes[frame + 50..end]), Ok(content));
    }
    let stored: Vec<_> = read(dir.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(stored[1].entry(), Some(&known), "it reads back");
    assert_eq!(
        stored[2].entry(),
        Some(&Entry::RefusedMore(refused_more(2).bounded()))
    );
    if let Some(said) = python_says(dir.path()) {
        assert!(said.unwrap().starts_with("3 "));
    }
}

/// The 32 bytes of a key in its text form.
fn public_key(signer: &VerifierKey) -> Vec<u8> {
    let text = signer.to_string();
    let typed = text.splitn(3, '+').nth(2).unwrap();
    BASE64_STANDARD.decode(typed).unwrap()[1..].to_vec()
}

fn own_signer() -> String {
    let key = SigningKey::load(&signing_key("signing.key"), "postern".parse().unwrap()).unwrap();
    key.verifier().to_string()
}

/// Runs the Python verifier; nothing where there is no Python.
pub(crate) fn python_says(dir: &Path) -> Option<Result<String, String>> {
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
    check_python(&small_segments());
    check_python(&AuditConfig {
        segment_bytes_max: 6000,
        ..sealed()
    });
}

fn check_python(config: &AuditConfig) {
    let dir = TempDir::new().unwrap();
    sample_with(dir.path(), config);
    let verified = verify(dir.path()).unwrap();
    let Some(said) = python_says(dir.path()) else {
        // No Python here: there is nothing to compare with.
        return;
    };
    assert_eq!(
        said,
        Ok(format!(
            "{} {} {}",
            verified.records, verified.head, verified.root
        ))
    );

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
