//! Every bound of the server, tried from outside.

use insta::assert_json_snapshot;
use postern_testkit::client::{Client, get, post};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::calls::body;
use crate::daemon::{Daemon, Plan, completed, refused};
use crate::shown::{shown, shown_body};

const HUGE_BODY_BYTES: usize = 100_000_000;

/// The head of a call with these headers on top, as HTTP/1.1 writes it.
fn raw_head(token: &str, headers: &str) -> String {
    format!(
        "POST /v1/generate HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{headers}\r\n"
    )
}

/// Reads up to the end of the connection, however it ends.
async fn read_rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return String::from_utf8(bytes).unwrap(),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Status line and JSON body of a raw answer.
fn check_raw(answer: &str, status: &str, code: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem = shown_body(body);
    assert_eq!(
        problem["type"],
        format!("urn:postern:problem:{code}"),
        "{answer}"
    );
}

async fn connect(daemon: &Daemon) -> (TlsStream<TcpStream>, String) {
    let stream = daemon.client("kiosk").connect_raw().await.unwrap();
    (stream, daemon.token("kiosk", &["short.v1"]))
}

#[tokio::test]
async fn a_body_of_100_megabytes_is_refused_and_the_answer_arrives() {
    let daemon = Plan::short().start().await;
    let token = daemon.token("kiosk", &["short.v1"]);
    let client = daemon.client("kiosk");
    for client in [client.clone(), client.over_http2()] {
        let request = post("/v1/generate", Some(&token), vec![b'a'; HUGE_BODY_BYTES]);
        let mut reply = client.send(request).await.unwrap();
        // HTTP/1.1 can only end the connection, HTTP/2 ends the stream.
        reply.headers.remove("connection");
        assert_json_snapshot!("body-too-large", shown(&reply));
    }
    let recorded = refused(&daemon.stop().await);
    assert!(
        recorded
            .iter()
            .all(|refused| refused.code == "body-too-large")
    );
    assert_eq!(recorded.len(), 2);
}

#[tokio::test]
async fn a_chunked_body_is_refused_at_the_bound() {
    let daemon = Plan::short().start().await;
    let (stream, token) = connect(&daemon).await;
    let (mut reading, mut writing) = tokio::io::split(stream);
    let sending = tokio::spawn(async move {
        let head = raw_head(&token, "transfer-encoding: chunked\r\n");
        writing.write_all(head.as_bytes()).await?;
        let mut chunk = b"10000\r\n".to_vec();
        chunk.resize(chunk.len() + 0x10000, b'a');
        chunk.extend(b"\r\n");
        for _ in 0..HUGE_BODY_BYTES / 0x10000 {
            writing.write_all(&chunk).await?;
        }
        writing.write_all(b"0\r\n\r\n").await
    });
    let answer = read_rest(&mut reading).await;
    check_raw(&answer, "413", "body-too-large");
    sending.abort();
    daemon.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_refused_in_time() {
    let plan = Plan::short().with(|config| config.body_read_timeout_ms = 200);
    let daemon = plan.start().await;
    let (mut stream, token) = connect(&daemon).await;
    let head = raw_head(&token, "content-length: 100\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"{\"template\"").await.unwrap();
    let answer = read_rest(&mut stream).await;
    check_raw(&answer, "408", "body-timeout");
    let recorded = refused(&daemon.stop().await);
    assert_eq!(recorded[0].code, "body-timeout");
}

#[tokio::test]
async fn slow_headers_end_the_connection() {
    let plan = Plan::short().with(|config| config.header_read_timeout_ms = 200);
    let daemon = plan.start().await;
    let (mut stream, _) = connect(&daemon).await;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ")
        .await
        .unwrap();
    let answer = read_rest(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_shake_hands_is_closed() {
    let plan = Plan::short().with(|config| config.handshake_timeout_ms = 200);
    let daemon = plan.start().await;
    let mut silent = TcpStream::connect(daemon.address).await.unwrap();
    assert_eq!(read_rest(&mut silent).await, "");
    daemon.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let plan = Plan::short().with(|config| config.idle_timeout_ms = 200);
    let daemon = plan.start().await;
    let (mut stream, _) = connect(&daemon).await;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = read_rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_old_connection_takes_no_more_requests() {
    let plan = Plan::endless().with(|config| config.connection_age_max_s = 1);
    let daemon = plan.start().await;
    let client = daemon.client("operator").over_http2();
    let token = daemon.token("operator", &["short.v1"]);
    let mut connection = client.connect().await.unwrap();
    let mut answered = 0;
    loop {
        let request = post("/v1/generate", Some(&token), body("short.v1", json!({})));
        match connection.send(request).await {
            Ok(reply) => assert_eq!(reply.status, 200),
            Err(_) => break,
        }
        answered += 1;
    }
    // No call that was begun is lost: each admission has its answer.
    let ends = completed(&daemon.stop().await);
    assert!(answered > 0);
    assert!(ends.len() >= answered);
}

#[tokio::test]
async fn large_or_many_headers_are_refused() {
    let daemon = Plan::short().start().await;
    let large = format!("x-large: {}\r\n", "a".repeat(20_000));
    let many = (0..100)
        .map(|n| format!("x-{n}: a\r\n"))
        .collect::<String>();
    for headers in [large, many] {
        let (mut stream, token) = connect(&daemon).await;
        let head = raw_head(&token, &headers);
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn large_headers_are_refused_over_http2() {
    let daemon = Plan::short().start().await;
    let client = daemon.client("kiosk").over_http2();
    let mut request = get("/healthz", None);
    let large = "a".repeat(20_000).parse().unwrap();
    request.headers_mut().insert("x-large", large);
    match client.send(request).await {
        Ok(reply) => assert_eq!(reply.status, 431),
        // A client that heeds the announced bound does not send it at all.
        Err(error) => drop(error),
    }
    daemon.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed_until_another_ends() {
    let plan = Plan::short().with(|config| config.connections_max = 2);
    let daemon = plan.start().await;
    let client = daemon.client("kiosk");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut connection = client.connect().await.unwrap();
        let reply = connection.send(get("/healthz", None)).await.unwrap();
        assert_eq!(reply.status, 200);
        open.push(connection);
    }
    assert!(is_shut_out(&client).await);
    open.pop();
    while is_shut_out(&client).await {
        tokio::task::yield_now().await;
    }
    daemon.stop().await;
}

async fn is_shut_out(client: &Client) -> bool {
    client.send(get("/healthz", None)).await.is_err()
}
