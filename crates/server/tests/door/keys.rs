//! What keeps a server from starting.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use postern_server::{Server, ServerConfig, ServerError};

use crate::daemon::{Daemon, Plan, with_keys};

/// Tries to bind with a changed configuration beside a running daemon.
async fn bind(daemon: &Daemon, change: impl FnOnce(&mut ServerConfig)) -> Result<(), ServerError> {
    let mut config = with_keys(ServerConfig::default(), &daemon.pki);
    change(&mut config);
    let service = Arc::clone(&daemon.service);
    Server::bind(&config, service).await.map(drop)
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let daemon = Plan::short().start().await;
    let cases = [
        (0o600, true),
        (0o400, true),
        (0o640, true),
        (0o660, false),
        (0o644, false),
        (0o604, false),
        (0o601, false),
    ];
    for (mode, taken) in cases {
        let bound = bind(&daemon, |config| {
            fs::set_permissions(&config.tls_key, Permissions::from_mode(mode)).unwrap();
        });
        match bound.await {
            Ok(()) => assert!(taken, "{mode:o}"),
            Err(ServerError::KeyExposed { mode: found, .. }) => {
                assert!(!taken, "{mode:o}");
                assert_eq!(found, mode);
            }
            Err(other) => panic!("{mode:o}: {other}"),
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn files_that_do_not_serve_are_named() {
    let daemon = Plan::short().start().await;
    let server = daemon.pki.server().clone();
    let client = daemon.pki.client("kiosk");
    let missing = daemon.pki.dir().join("missing.pem");
    let huge = daemon.pki.dir().join("huge.pem");
    fs::write(&huge, vec![b'a'; 2 << 20]).unwrap();
    let garbage = daemon.pki.dir().join("garbage.pem");
    fs::write(&garbage, "no PEM at all").unwrap();
    fs::set_permissions(&garbage, Permissions::from_mode(0o600)).unwrap();

    type Set = fn(&mut ServerConfig, PathBuf);
    let (cert, key, ca): (Set, Set, Set) = (
        |config, path| config.tls_cert = path,
        |config, path| config.tls_key = path,
        |config, path| config.client_ca = path,
    );
    let cases = [
        (cert, &missing, "tls-cert file"),
        (key, &missing, "tls-key file"),
        (ca, &missing, "client-ca file"),
        (cert, &huge, "more than the 1048576 allowed"),
        (cert, &garbage, "holds no usable certificate"),
        (key, &garbage, "holds no usable private key"),
        (ca, &garbage, "holds no usable certificate"),
        (cert, &server.key, "holds no usable certificate"),
        (key, &client.key, "the key belongs to the certificate"),
    ];
    for (set, path, told) in cases {
        let error = bind(&daemon, |config| set(config, path.clone())).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains(told), "{told}: {text}");
    }
    let taken = bind(&daemon, |config| config.listen = daemon.address).await;
    assert!(
        matches!(taken, Err(ServerError::Listen { .. })),
        "{taken:?}"
    );
    daemon.stop().await;
}

#[test]
fn every_bound_has_a_range() {
    type Set = fn(&mut ServerConfig);
    let cases: [(&str, Set); 8] = [
        ("connections-max", |config| config.connections_max = 0),
        ("handshake-timeout-ms", |config| {
            config.handshake_timeout_ms = 0
        }),
        ("header-bytes-max", |config| config.header_bytes_max = 8_191),
        ("headers-max", |config| config.headers_max = 1_025),
        ("body-bytes-max", |config| {
            config.body_bytes_max = usize::MAX
        }),
        ("body-read-timeout-ms", |config| {
            config.body_read_timeout_ms = u64::MAX
        }),
        ("http2-streams-max", |config| config.http2_streams_max = 0),
        ("linger-ms", |config| config.linger_ms = 30_001),
    ];
    ServerConfig::default().check().unwrap();
    for (named, change) in cases {
        let mut config = ServerConfig::default();
        change(&mut config);
        match config.check() {
            Err(ServerError::ConfigOutOfRange { field, .. }) => assert_eq!(field, named),
            other => panic!("{named}: {other:?}"),
        }
    }
}

#[test]
fn the_configuration_is_closed_and_has_defaults() {
    let parse = |text: &str| serde_json::from_str::<ServerConfig>(text);
    assert_eq!(parse("{}").unwrap(), ServerConfig::default());
    let listen = parse("{\"listen\": \"0.0.0.0:9\", \"tls-cert\": \"a.pem\"}").unwrap();
    assert_eq!(listen.listen.port(), 9);
    assert!(parse("{\"plain-http\": true}").is_err());
}
