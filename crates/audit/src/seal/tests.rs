//! With the age library, the stock `age` program, and the vector of RFC 8439.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use proptest::prelude::*;

use super::*;

#[test]
fn sealed_content_opens_with_the_unwrapped_key_only_where_it_was_sealed() {
    let auditor = Identities::generate();
    let key = DataKey::generate().unwrap();
    let wrapped = key.wrap(&auditor.recipients()).unwrap();
    let mut frame = b"clear part, content".to_vec();
    key.seal_from(7, b"place", &mut frame, 12).unwrap();
    assert_eq!(frame.len(), 19 + SEAL_TAG_BYTES);
    assert_eq!(&frame[..12], b"clear part, ");
    assert_ne!(&frame[12..19], b"content");

    let key = DataKey::unwrap(&wrapped, &auditor).unwrap();
    let opened = |counter, aad: &[u8], sealed: &[u8]| {
        let mut sealed = sealed.to_vec();
        key.open(counter, aad, &mut sealed)
            .map(|content| content.to_vec())
    };
    assert_eq!(opened(7, b"place", &frame[12..]).unwrap(), b"content");
    assert!(matches!(
        opened(8, b"place", &frame[12..]),
        Err(SealError::Forged)
    ));
    assert!(matches!(
        opened(7, b"other", &frame[12..]),
        Err(SealError::Forged)
    ));
    assert!(matches!(
        opened(7, b"place", &frame[13..]),
        Err(SealError::Forged)
    ));
    for short in 0..SEAL_TAG_BYTES {
        assert!(matches!(
            opened(7, b"place", &frame[12..12 + short]),
            Err(SealError::Forged)
        ));
    }
    let other = DataKey::generate().unwrap();
    assert!(matches!(
        other.open(7, b"place", &mut frame[12..]),
        Err(SealError::Forged)
    ));
}

#[test]
fn sealing_uses_the_room_there_is() {
    let key = DataKey::generate().unwrap();
    let mut content = Vec::with_capacity(100 + SEAL_TAG_BYTES);
    content.resize(100, b'x');
    let (place, room) = (content.as_ptr(), content.capacity());
    key.seal(0, b"", &mut content).unwrap();
    assert_eq!((content.as_ptr(), content.capacity()), (place, room));
}

/// The nonce is four zero bytes and the counter in big-endian, and the cipher that of RFC 8439:
/// computed anew with the cipher alone.
#[test]
fn nonce_is_the_counter_in_big_endian() {
    let auditor = Identities::generate();
    let key = DataKey::generate().unwrap();
    let bytes = age_decrypt(&key.wrap(&auditor.recipients()).unwrap(), &auditor);
    let mut sealed = b"content".to_vec();
    key.seal(0x0102_0304_0506_0708, b"aad", &mut sealed)
        .unwrap();

    let nonce = [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = cipher.open_in_place(nonce, Aad::from(b"aad"), &mut sealed);
    assert_eq!(opened.unwrap(), b"content");
}

#[test]
fn key_opens_for_each_recipient_and_nobody_else() {
    let [first, second, stranger] = [(); 3].map(|()| Identities::generate());
    let public: Vec<String> = first
        .recipients()
        .keys()
        .chain(second.recipients().keys())
        .collect();
    let recipients = Recipients::parse(&public.join("\n")).unwrap();
    assert_eq!(recipients.keys().collect::<Vec<_>>(), public);
    let wrapped = DataKey::generate().unwrap().wrap(&recipients).unwrap();
    for auditor in [&first, &second] {
        DataKey::unwrap(&wrapped, auditor).unwrap();
    }
    let error = DataKey::unwrap(&wrapped, &stranger).unwrap_err();
    assert!(matches!(error, SealError::NoIdentity { identities: 1 }));
}

#[test]
fn wrapped_key_is_bounded_and_every_changed_byte_is_refused() {
    let auditor = Identities::generate();
    let public: Vec<String> = auditor.recipients().keys().collect();
    let many = Recipients::parse(&vec![public[0].clone(); RECIPIENTS_MAX].join("\n")).unwrap();
    let wrapped = DataKey::generate().unwrap().wrap(&many).unwrap();
    assert!(
        wrapped.len() <= WRAPPED_KEY_BYTES_MAX / 2,
        "{}",
        wrapped.len()
    );

    let wrapped = DataKey::generate()
        .unwrap()
        .wrap(&auditor.recipients())
        .unwrap();
    for place in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[place] ^= 1;
        assert!(DataKey::unwrap(&changed, &auditor).is_err(), "byte {place}");
        assert!(DataKey::unwrap(&wrapped[..place], &auditor).is_err());
    }
    let error = DataKey::unwrap(&vec![0; WRAPPED_KEY_BYTES_MAX + 1], &auditor).unwrap_err();
    assert!(matches!(error, SealError::WrappedLength { .. }));
}

#[test]
fn age_file_with_something_else_inside_is_no_key() {
    let auditor = Identities::generate();
    let recipient = auditor.recipients().keys().next().unwrap();
    let recipient: age::x25519::Recipient = recipient.parse().unwrap();
    for length in [0, 31, 33, 100_000] {
        let wrapped = age::encrypt(&recipient, &vec![7; length]).unwrap();
        let error = DataKey::unwrap(&wrapped, &auditor).unwrap_err();
        assert!(
            matches!(
                error,
                SealError::KeyLength | SealError::WrappedLength { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn recipients_that_are_none_are_told_by_their_line() {
    let identity = Identities::generate().to_text();
    let secret = identity.lines().nth(1).unwrap();
    let public = Identities::generate().recipients().keys().next().unwrap();
    let low_order = bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").unwrap(), &[0; 32]);
    let many = vec![public.as_str(); RECIPIENTS_MAX + 1].join("\n");
    let cases = [
        ("", "hold no key"),
        ("# nobody\n\n", "hold no key"),
        (&format!("{public}\n{}x", public), "line 2 "),
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
            "ssh keys and plugins",
        ),
        (secret, "it is a secret key"),
        (&secret.to_lowercase(), "it is a secret key"),
        (&low_order.unwrap(), "low order"),
        (&many, "more than 64 keys"),
    ];
    for (text, expected) in cases {
        let error = Recipients::parse(text).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
        assert!(!error.contains("AGE-SECRET-KEY"), "{error}");
    }
    Recipients::parse(&format!("# ours\r\n\r\n  {public} \r\n")).unwrap();
}

#[test]
fn identities_that_are_none_are_told_without_their_text() {
    let auditor = Identities::generate();
    let text = auditor.to_text();
    let again = Identities::parse(&text).unwrap();
    assert_eq!(again.recipients(), auditor.recipients());
    assert_eq!(format!("{again:?}"), "Identities(1 secret)");
    let public = auditor.recipients().keys().next().unwrap();
    let secret = text.lines().nth(1).unwrap();
    let (kept, last) = secret.split_at(secret.len() - 1);
    let damaged = format!("{kept}{}", if last == "A" { "Q" } else { "A" });
    for (text, expected) in [
        ("# none", "hold no key"),
        (public.as_str(), "it is a public key"),
        (damaged.as_str(), "has a checksum"),
    ] {
        let error = Identities::parse(text).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "{error:?} says nothing of {expected:?}"
        );
        assert!(!error.contains(&secret[20..40]), "{error}");
    }
}

#[test]
fn files_of_keys_are_bounded_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let missing = Recipients::read(&path).unwrap_err().to_string();
    assert!(
        missing.contains("cannot open") && missing.contains("keys"),
        "{missing}"
    );
    fs::write(&path, vec![b'#'; 128 * 1024 + 1]).unwrap();
    assert!(
        Recipients::read(&path)
            .unwrap_err()
            .to_string()
            .contains("more than 131072 bytes")
    );
    fs::write(&path, [0xff; 9]).unwrap();
    assert!(
        Identities::read(&path)
            .unwrap_err()
            .to_string()
            .contains("not text")
    );
    let auditor = Identities::generate();
    fs::write(&path, auditor.to_text()).unwrap();
    assert_eq!(
        Identities::read(&path).unwrap().recipients(),
        auditor.recipients()
    );
}

/// The program that auditors have: it opens what we wrap, and we open what it encrypts to a key
/// that its own `age-keygen` made.
#[test]
fn stock_age_opens_wrapped_keys() {
    let Some(age) = ["age", "rage"].into_iter().find(|name| is_installed(name)) else {
        println!("skipped: neither age nor rage is installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [identity, wrapped] = ["identity", "wrapped"].map(|name| folder.path().join(name));
    run(Command::new(format!("{age}-keygen"))
        .arg("-o")
        .arg(&identity));
    let auditor = Identities::read(&identity).unwrap();
    let key = DataKey::generate().unwrap();
    fs::write(&wrapped, key.wrap(&auditor.recipients()).unwrap()).unwrap();
    let bytes = run(Command::new(age)
        .arg("-d")
        .arg("-i")
        .arg(&identity)
        .arg(&wrapped));
    assert_eq!(bytes, age_decrypt(&fs::read(&wrapped).unwrap(), &auditor));

    let plain = folder.path().join("plain");
    fs::write(&plain, &bytes).unwrap();
    let recipient = auditor.recipients().keys().next().unwrap();
    let theirs = run(Command::new(age).arg("-r").arg(recipient).arg(&plain));
    let theirs = DataKey::unwrap(&theirs, &auditor).unwrap();
    let mut content = b"content".to_vec();
    key.seal(1, b"", &mut content).unwrap();
    assert_eq!(theirs.open(1, b"", &mut content).unwrap(), b"content");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(text: String, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Recipients::parse(&text);
        let _ = Identities::parse(&text);
        let auditor = Identities::generate();
        prop_assert!(DataKey::unwrap(&bytes, &auditor).is_err());
        let mut headed = b"age-encryption.org/v1\n-> X25519 ".to_vec();
        headed.extend_from_slice(&bytes);
        prop_assert!(DataKey::unwrap(&headed, &auditor).is_err());
    }
}

fn age_decrypt(wrapped: &[u8], auditor: &Identities) -> Vec<u8> {
    let secret = auditor.to_text();
    let identity: age::x25519::Identity = secret.lines().nth(1).unwrap().parse().unwrap();
    age::decrypt(&identity, wrapped).unwrap()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::is_file(&folder.join(program)))
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
