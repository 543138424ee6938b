//! Who gets through the TLS handshake, and who has an identity afterwards.

use insta::assert_json_snapshot;
use postern_testkit::client::{Client, get};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::daemon::{Plan, refused};
use crate::shown::shown;

#[tokio::test]
async fn a_client_without_a_good_certificate_gets_no_answer() {
    let daemon = Plan::short().start().await;
    let pki = &daemon.pki;
    let cases = [
        ("no certificate", None),
        ("another authority", Some(pki.foreign_client("kiosk"))),
        ("expired", Some(pki.expired_client("kiosk"))),
        ("not for clients", Some(pki.server_only_client("kiosk"))),
        ("the server's own", Some(pki.server().clone())),
    ];
    for (name, credentials) in cases {
        let client = Client::new(daemon.address, pki.ca(), credentials.as_ref());
        for client in [client.over_http2(), client] {
            let answer = client.send(get("/healthz", None)).await;
            assert!(answer.is_err(), "{name}: {answer:?}");
        }
    }
    let reply = daemon.client("kiosk").send(get("/healthz", None)).await;
    assert_eq!(reply.unwrap().status, 200, "the good one still gets in");
    daemon.stop().await;
}

#[tokio::test]
async fn a_certificate_must_name_exactly_one_identity() {
    let daemon = Plan::short().start().await;
    let (kiosk, operator) = ("postern://identity/kiosk", "postern://identity/operator");
    let cases: [(&str, &[&str]); 8] = [
        ("none", &[]),
        ("foreign-scheme", &["spiffe://example/kiosk"]),
        ("two", &[kiosk, operator]),
        ("the-same-twice", &[kiosk, kiosk]),
        ("one-of-another-form", &[kiosk, "POSTERN:kiosk"]),
        ("upper-case", &["postern://identity/Kiosk"]),
        ("longer-path", &["postern://identity/kiosk/more"]),
        ("empty-name", &["postern://identity/"]),
    ];
    for (name, uris) in cases {
        let credentials = daemon.pki.client_with_uris(name, uris);
        let client = Client::new(daemon.address, daemon.pki.ca(), Some(&credentials));
        for path in ["/healthz", "/v1/models", "/nowhere"] {
            let token = daemon.token("kiosk", &["short.v1"]);
            let reply = client.send(get(path, Some(&token))).await.unwrap();
            assert_json_snapshot!("no-identity", shown(&reply));
        }
    }
    let also = daemon
        .pki
        .client_with_uris("also", &["spiffe://example/kiosk", kiosk]);
    let client = Client::new(daemon.address, daemon.pki.ca(), Some(&also));
    let reply = client.send(get("/healthz", None)).await.unwrap();
    assert_eq!(reply.status, 200, "URIs of other schemes do not matter");

    let recorded = refused(&daemon.stop().await);
    assert_eq!(recorded.len(), 3 * cases.len());
    for refused in recorded {
        assert_eq!(refused.code, "certificate-identity");
        assert_eq!(refused.identity, None);
    }
}

/// A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2): no `supported_versions` extension.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]); // random
    hello.push(0); // no session id
    hello.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    hello.extend([1, 0]); // no compression
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23], // supported_groups: secp256r1
        [0, 13, 0, 4, 0, 2, 4, 3],  // signature_algorithms: ecdsa_secp256r1_sha256
    ]
    .concat();
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((hello.len() as u16 + 4).to_be_bytes());
    record.push(1); // client_hello
    record.extend(&(hello.len() as u32).to_be_bytes()[1..]);
    record.extend(hello);
    record
}

#[tokio::test]
async fn tls_1_2_is_refused_with_its_alert() {
    let daemon = Plan::short().start().await;
    let mut tcp = TcpStream::connect(daemon.address).await.unwrap();
    tcp.write_all(&client_hello_of_tls_1_2()).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    // An alert record: fatal (2), protocol_version (70).
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert_eq!(answer.get(5..), Some(&[2, 70][..]), "{answer:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn plain_http_is_not_spoken() {
    let daemon = Plan::short().start().await;
    let mut tcp = TcpStream::connect(daemon.address).await.unwrap();
    tcp.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    assert_eq!(
        answer.first(),
        Some(&21),
        "an alert and nothing else: {answer:?}"
    );
    daemon.stop().await;
}
