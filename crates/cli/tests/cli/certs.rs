//! `certs dev`: what is made, who may read it, and what is never overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::run::{home, postern};

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .permissions()
        .mode()
        & 0o777
}

/// Every file below `dir` with what it holds.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            found.insert(path, content);
        }
    }
    found
}

/// Calls `look` with the parsed certificate.
fn with_certificate<T>(path: &Path, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let pem = fs::read(path).expect("a certificate file");
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    look(&block.parse_x509().expect("X.509"))
}

fn alternative_names(path: &Path) -> Vec<String> {
    with_certificate(path, |certificate| {
        let names = certificate
            .subject_alternative_name()
            .expect("well-formed")
            .expect("present");
        names
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(name) => (*name).to_owned(),
                GeneralName::URI(uri) => (*uri).to_owned(),
                GeneralName::IPAddress(octets) => format!("{octets:?}"),
                other => panic!("unexpected name {other:?}"),
            })
            .collect()
    })
}

#[test]
fn a_whole_set_is_made_and_keys_stay_private() {
    let home = home();
    let arguments = [
        "certs", "dev", "--dir", "state", "--host", "pi.local", "--host", "10.0.0.7",
    ];
    postern(home.path(), arguments).exits(0);
    let state = home.path().join("state");

    assert_eq!(mode(&state), 0o700);
    let mut private = vec!["ca.key".to_owned(), "server.key".into(), "token.key".into()];
    for identity in ["kiosk", "ci-runner", "operator"] {
        private.push(format!("clients/{identity}.key"));
        let certificate = state.join(format!("clients/{identity}.pem"));
        assert_eq!(
            alternative_names(&certificate),
            [format!("postern://identity/{identity}")]
        );
    }
    for name in private {
        assert_eq!(mode(&state.join(&name)), 0o600, "{name}");
    }
    assert_eq!(
        alternative_names(&state.join("server.pem")),
        [
            "localhost",
            "[127, 0, 0, 1]",
            "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]",
            "pi.local",
            "[10, 0, 0, 7]"
        ]
    );
}

#[test]
fn each_certificate_serves_one_purpose_and_chains_to_the_authority() {
    let home = home();
    postern(
        home.path(),
        [
            "certs", "dev", "--dir", ".", "--client", "kiosk", "--days", "3",
        ],
    )
    .exits(0);
    let authority = fs::read(home.path().join("ca.pem")).expect("ca.pem");
    let (_, authority) = x509_parser::pem::parse_x509_pem(&authority).expect("PEM");
    let authority = authority.parse_x509().expect("X.509");
    assert!(authority.is_ca());
    for (file, server) in [("server.pem", true), ("clients/kiosk.pem", false)] {
        with_certificate(&home.path().join(file), |leaf| {
            leaf.verify_signature(Some(authority.public_key()))
                .expect("signed by the CA");
            assert!(!leaf.is_ca(), "{file}");
            let usage = leaf
                .extended_key_usage()
                .expect("well-formed")
                .expect("present")
                .value;
            assert_eq!(
                (usage.server_auth, usage.client_auth),
                (server, !server),
                "{file}"
            );
            let validity = leaf.validity();
            let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
            // One day back for slow clocks, and the last day is whole.
            assert_eq!(days, 3 + 2, "{file}");
        });
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let home = home();
    let dir = home.path().join("state");
    postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(0);
    let read = |name: &str| fs::read(dir.join(name)).expect("a file");
    let (authority, key) = (read("ca.pem"), read("token.key"));

    let refused = postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(1);
    assert!(refused.stderr.contains("ca.pem exists"), "{refused:#?}");
    assert!(refused.stderr.contains("--force"), "{refused:#?}");
    assert_eq!(read("ca.pem"), authority);

    // One file of the set is enough to stop before anything is written.
    fs::remove_file(dir.join("ca.pem")).expect("removable");
    let refused = postern(home.path(), ["certs", "dev", "--dir", "state"]).exits(1);
    assert!(refused.stderr.contains("ca.key exists"), "{refused:#?}");
    assert!(!dir.join("ca.pem").exists());

    postern(home.path(), ["certs", "dev", "--dir", "state", "--force"]).exits(0);
    assert_ne!(read("ca.pem"), authority);
    assert_eq!(read("token.key"), key, "issued tokens stay valid");
    assert_eq!(mode(&dir.join("ca.key")), 0o600);
}

#[test]
fn a_client_is_added_to_the_authority_that_is_there() {
    let home = home();
    let dir = home.path().join("state");
    let dev = |more: &[&str]| {
        let fixed = ["certs", "dev", "--dir", "state"];
        postern(home.path(), fixed.iter().chain(more))
    };
    dev(&["--client", "kiosk", "--days", "3"]).exits(0);
    let before = contents(&dir);
    let added = dev(&["--client", "barista", "--client", "kitchen"]).exits(0);
    assert!(added.stdout.contains("barista"), "{added:#?}");
    for (path, content) in &before {
        assert_eq!(&fs::read(path).expect("a file"), content, "{path:?} stays");
    }
    assert_eq!(mode(&dir.join("clients/barista.key")), 0o600);
    with_certificate(&dir.join("ca.pem"), |authority| {
        for name in ["barista", "kitchen"] {
            with_certificate(&dir.join(format!("clients/{name}.pem")), |client| {
                client
                    .verify_signature(Some(authority.public_key()))
                    .expect("signed by the CA");
                assert_eq!(client.issuer(), authority.subject());
                assert_eq!(
                    client.validity().not_after,
                    authority.validity().not_after,
                    "30 days were asked for, but no certificate outlives its CA"
                );
            });
        }
    });

    // One that exists stops the whole addition.
    let refused = dev(&["--client", "new", "--client", "barista"]).exits(1);
    assert!(
        refused.stderr.contains("barista.pem exists"),
        "{refused:#?}"
    );
    assert!(!dir.join("clients/new.pem").exists());
}

#[test]
fn no_client_is_added_without_the_whole_authority() {
    #[track_caller]
    fn check(more: &[&str], spoil: impl FnOnce(&Path), expected: &str) {
        let home = home();
        let dir = home.path().join("state");
        let first = ["certs", "dev", "--dir", "state", "--client", "kiosk"];
        postern(home.path(), first).exits(0);
        spoil(&dir);
        let before = contents(&dir);
        let addition = ["certs", "dev", "--dir", "state", "--client", "new"];
        let ran = postern(home.path(), addition.iter().chain(more)).exits(1);
        assert!(ran.stderr.contains(expected), "{ran:#?}");
        assert_eq!(contents(&dir), before, "nothing is written");
    }
    let remove =
        |name: &'static str| move |dir: &Path| fs::remove_file(dir.join(name)).expect("removable");
    check(&[], remove("ca.key"), "its key state/ca.key does not");
    check(&[], remove("ca.pem"), "ca.key exists");
    check(
        &[],
        |dir| {
            fs::copy(dir.join("server.key"), dir.join("ca.key")).expect("a copy");
        },
        "state/ca.key is not the key of state/ca.pem",
    );
    check(
        &[],
        |dir| fs::write(dir.join("ca.key"), "no key").expect("a file"),
        "state/ca.key holds no private key",
    );
    check(
        &[],
        |dir| {
            for kind in ["pem", "key"] {
                let of = |name: &str| dir.join(format!("{name}.{kind}"));
                fs::copy(of("server"), of("ca")).expect("a copy");
            }
        },
        "state/ca.pem is not the certificate of a CA",
    );
    check(
        &[],
        |dir| {
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(dir.join("ca.pem"), open).expect("own file");
        },
        "state/ca.pem is not used, since every user",
    );
    check(&["--host", "pi.local"], |_| {}, "--host is for the server");
}

#[test]
fn names_that_mean_nothing_are_refused() {
    #[track_caller]
    fn check(arguments: &[&str], code: i32, expected: &str) {
        let home = home();
        let all = ["certs", "dev", "--dir", "state"].iter().chain(arguments);
        let ran = postern(home.path(), all).exits(code);
        assert!(ran.stderr.contains(expected), "{ran:#?}");
        assert!(!home.path().join("state").exists(), "nothing is written");
    }
    check(
        &["--host", "no such host"],
        1,
        "`no such host` is neither a DNS name nor an IP address",
    );
    check(&["--host", ""], 1, "neither a DNS name nor an IP address");
    check(&["--client", "Kiosk"], 2, "Kiosk");
    check(&["--client", "../kiosk"], 2, "../kiosk");
    check(&["--client", ""], 2, "--client");
}
