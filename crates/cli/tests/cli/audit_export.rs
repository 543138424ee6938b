//! `audit export`: every record at least once, to a file, a syslog receiver and an HTTP server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::audit_log::{AUDITOR, LOG, WISH, append, plain, sealed};
use crate::run::{Ran, home, postern};

fn export(home: &Path, more: &[&str]) -> Ran {
    postern(home, ["audit", "export", LOG].iter().chain(more))
}

fn values(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn indices(text: &str) -> Vec<u64> {
    let values = values(text);
    let indices = values.iter().map(|line| line["index"].as_u64());
    indices.map(|index| index.expect("an index")).collect()
}

/// Lines are added to a file, which a cursor goes on with.
const TO_FILE: [&str; 6] = [
    "--format",
    "jsonl",
    "--output",
    "out.jsonl",
    "--cursor",
    "cursor",
];

#[test]
fn each_form_goes_to_standard_output() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    for (form, id) in [
        ("jsonl", "/index"),
        ("ocsf", "/metadata/uid"),
        ("ecs", "/event/id"),
    ] {
        let ran = export(home, &["--format", form, "--identity-file", AUDITOR]).exits(0);
        let lines = values(&ran.stdout);
        assert_eq!(lines.len(), 4, "{ran:#?}");
        assert!(
            lines.iter().all(|line| line.pointer(id).is_some()),
            "{ran:#?}"
        );
        assert!(ran.stdout.contains(WISH));
        assert!(ran.stderr.contains("exported 4 records"), "{ran:#?}");
    }
    let ecs = export(home, &["--format", "ecs", "--identity-file", AUDITOR]).exits(0);
    let ecs = values(&ecs.stdout);
    assert_eq!(
        (&ecs[2]["host"]["name"], &ecs[2]["user"]["name"]),
        (&json!("pi-5"), &json!("kiosk"))
    );
}

#[test]
fn a_sealed_log_is_not_passed_over_for_want_of_a_key() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    let without = ["--format", "jsonl", "--cursor", "cursor"];
    let ran = export(home, &without).exits(1);
    assert!(ran.stderr.contains("--identity-file"), "{ran:#?}");
    assert!(!home.join("cursor").exists());

    // Another auditor's key: the records have no lines for them, and the delivery goes on.
    fs::rename(home.join(AUDITOR), home.join("first.key")).expect("a file");
    fs::create_dir(home.join("elsewhere")).expect("a folder");
    sealed(&home.join("elsewhere"));
    let foreign = format!("elsewhere/{AUDITOR}");
    let foreign = [&without[..], &["--identity-file", &foreign]].concat();
    let ran = export(home, &foreign).exits(0);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("4 that are sealed to others"),
        "{ran:#?}"
    );
}

#[test]
fn a_file_grows_from_where_it_was() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    export(home, &TO_FILE).exits(0);
    let text = || fs::read_to_string(home.join("out.jsonl")).expect("the file");
    assert_eq!(indices(&text()), [0, 1, 2, 3]);
    append(home, &plain(), "b");
    // A crash may have left half a line.
    fs::write(home.join("out.jsonl"), text() + "{\"half").expect("the file");
    export(home, &TO_FILE).exits(0);
    let all = text();
    let (half, rest) = all.split_once("{\"half\n").expect("the half line, ended");
    assert_eq!(
        (indices(half), indices(rest)),
        (vec![0, 1, 2, 3], vec![4, 5, 6, 7])
    );
    let again = export(home, &TO_FILE).exits(0);
    assert!(again.stderr.contains("exported 0 records"), "{again:#?}");

    let without_cursor = export(home, &TO_FILE[..4]).exits(1);
    assert!(
        without_cursor.stderr.contains("exists and is kept"),
        "{without_cursor:#?}"
    );
}

#[test]
fn another_log_is_not_continued() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    export(home, &TO_FILE).exits(0);
    fs::remove_dir_all(home.join(LOG)).expect("the log");
    append(home, &plain(), "z");
    let ran = export(home, &TO_FILE).exits(4);
    assert!(ran.stderr.contains("when it was delivered"), "{ran:#?}");
}

/// Takes one connection to its end and gives the messages that came, cut by their lengths.
fn syslog_receiver() -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let receiving = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut stream = BufReader::new(stream);
        let mut messages = Vec::new();
        loop {
            let mut length = Vec::new();
            stream.read_until(b' ', &mut length).expect("a length");
            if length.is_empty() {
                return messages;
            }
            let length = String::from_utf8(length).expect("a number");
            let mut message = vec![0; length.trim_end().parse().expect("a number")];
            stream.read_exact(&mut message).expect("a message");
            messages.push(String::from_utf8(message).expect("UTF-8"));
        }
    });
    (address, receiving)
}

#[test]
fn a_syslog_receiver_gets_each_record_as_a_message() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    let push = |address: &str| {
        let to = format!("tcp://{address}");
        export(
            home,
            &["--format", "jsonl", "--to", &to, "--cursor", "cursor"],
        )
    };
    // Nobody is there yet: nothing counts as delivered.
    push("127.0.0.1:1").exits(5);
    let (address, receiving) = syslog_receiver();
    push(&address).exits(0);
    let messages = receiving.join().expect("a receiver");
    let bodies: Vec<&str> = messages
        .iter()
        .map(|message| {
            let (header, body) = message.split_once(" - {").expect("header and body");
            assert!(
                header.starts_with("<110>1 2") && header.contains(" pi-5 postern - "),
                "{header}"
            );
            body
        })
        .collect();
    assert_eq!(bodies.len(), 4);
    assert!(bodies[1].contains(WISH));
    // All of it was delivered, so nobody is needed.
    push("127.0.0.1:1").exits(0);
}

/// Answers requests one after another with these statuses, and gives their heads and bodies.
fn http_receiver(statuses: &'static [&'static str]) -> (String, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let receiving = thread::spawn(move || {
        let requests = statuses.iter().map(|status| {
            let (stream, _) = listener.accept().expect("a connection");
            let request = read_request(&stream);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nsorry");
            (&stream).write_all(answer.as_bytes()).expect("an answer");
            request
        });
        requests.collect()
    });
    (address, receiving)
}

fn read_request(stream: &TcpStream) -> (String, String) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut head).expect("a line");
        assert!(read > 0, "{head}");
    }
    let head = head.to_lowercase();
    let (_, length) = head.split_once("content-length: ").expect("a length");
    let (length, _) = length.split_once("\r\n").expect("a line");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("the body");
    (head, String::from_utf8(body).expect("UTF-8"))
}

#[test]
fn an_http_server_gets_the_records_until_it_has_them() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    fs::write(home.join("siem.auth"), "Bearer s3cret\n").expect("a file");
    let (address, receiving) = http_receiver(&["503 Busy", "200 OK"]);
    let to = format!("http://{address}/ingest?source=pi");
    let push = || {
        let to = ["--format", "ocsf", "--to", &to, "--cursor", "cursor"];
        let with = ["--authorization-file", "siem.auth"];
        export(home, &[&to[..], &with].concat())
    };
    let busy = push().exits(1);
    assert!(
        busy.stderr.contains("503") && busy.stderr.contains("sorry"),
        "{busy:#?}"
    );
    push().exits(0);
    let requests = receiving.join().expect("a receiver");
    for (head, body) in &requests {
        assert!(
            head.starts_with("post /ingest?source=pi http/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/x-ndjson\r\n"),
            "{head}"
        );
        assert_eq!(values(body).len(), 4);
    }
    assert_eq!(requests[0].1, requests[1].1);
    // The rest is nothing, so the server is not asked.
    push().exits(0);
}

#[test]
fn a_secret_is_not_sent_in_the_clear() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    fs::write(home.join("siem.auth"), "Bearer s3cret").expect("a file");
    let to = ["--format", "ecs", "--to", "http://siem.example/in"];
    let ran = export(
        home,
        &[&to[..], &["--authorization-file", "siem.auth"]].concat(),
    )
    .exits(1);
    assert!(ran.stderr.contains("in the clear"), "{ran:#?}");
    let ran = export(
        home,
        &["--format", "ecs", "--to", "https://siem.example/in"],
    )
    .exits(1);
    assert!(ran.stderr.contains("--ca"), "{ran:#?}");
}
