//! The configuration file: what is wrong in it is named with file, line and what would be right.

use std::fs;

use postern_testkit::models::write_registry;

use crate::run::{home, postern};

/// `text` as the configuration must make `serve` fail with all of `expected`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let home = home();
    fs::write(home.path().join("postern.toml"), text).expect("a file");
    let ran = postern(home.path(), ["serve", "--config", "postern.toml"]).exits(1);
    for part in expected {
        assert!(ran.stderr.contains(part), "{part:?} is missing: {ran:#?}");
    }
    assert!(!home.path().join(".local").exists(), "nothing was begun");
}

#[test]
fn what_is_unknown_is_named_with_what_is_known() {
    check(
        "[engine]\nthreads = 2\n\n[sever]\nlisten = \"127.0.0.1:1\"\n",
        &[
            "postern.toml:4:2",
            "[sever]",
            "model, engine, governance, audit, service, server",
        ],
    );
    check(
        "port = 1\n",
        &["postern.toml:1:1", "unknown section [port]"],
    );
    check(
        "server = 3\n",
        &["postern.toml:1:1", "write [server] on a line of its own"],
    );
    check(
        "[server]\n  prot = 8443\n",
        &[
            "postern.toml:2:3",
            "unknown key `prot` in [server]",
            "listen",
            "body-bytes-max",
        ],
    );
    check(
        "[audit]\nsegment_bytes_max = 1\n",
        &[
            "postern.toml:2:1",
            "`segment_bytes_max`",
            "dir, witness, segment-bytes-max, record-bytes-max",
        ],
    );
    check(
        "[model]\nfile = \"a\"\n",
        &["postern.toml:2:1", "the keys are manifest"],
    );
    check(
        "[governance]\nprompt = \"a\"\n",
        &["the keys are prompts, policy"],
    );
    check(
        "[service]\nkey = \"a\"\n",
        &["token-key", "calls-max", "deadline-s"],
    );
    check(
        "[engine]\nthread = 1\n",
        &["threads", "prefill-chunk-tokens"],
    );
}

#[test]
fn an_empty_path_is_not_the_folder_of_the_file() {
    for (section, key) in [
        ("model", "manifest"),
        ("engine", "chat-template-file"),
        ("governance", "prompts"),
        ("governance", "policy"),
        ("audit", "dir"),
        ("service", "token-key"),
        ("server", "tls-cert"),
        ("server", "client-ca"),
    ] {
        let empty = format!("`{key}` in [{section}] is empty");
        let place = format!("postern.toml:2:{}", key.len() + 4);
        check(&format!("[{section}]\n{key} = \"\"\n"), &[&place, &empty]);
    }
}

#[test]
fn values_of_the_wrong_kind_or_size_are_named() {
    check(
        "[server]\nlisten = 8443\n",
        &["postern.toml:2:10", "section [server]"],
    );
    check("[server]\nlisten = \"localhost\"\n", &["postern.toml:2:10"]);
    check(
        "[server]\n\nbody-bytes-max = \"1 MB\"\n",
        &["postern.toml:3:18"],
    );
    check(
        "[audit]\ndir = 3\n",
        &["postern.toml:2:7", "`dir` must be a path in quotes"],
    );
    check("[service]\ndeadline-s = -1\n", &["postern.toml:2:14"]);
    check(
        "[service]\ndeadline-s = 0\n",
        &["postern.toml:2:1", "from 1 to 3600"],
    );
    check(
        "[server]\nconnections-max = 0\n",
        &["postern.toml:2:1", "from 1 to 4096"],
    );
    check(
        "[engine]\nqueue-max = 0\n",
        &["postern.toml:2:1", "queue-max"],
    );
    check(
        "[audit]\nrecord-bytes-max = 1\n",
        &["postern.toml:2:1", "record-bytes-max"],
    );
}

#[test]
fn what_is_no_toml_is_named_with_its_place() {
    check("[server\n", &["postern.toml:1:"]);
    check("[server]\nlisten = \n", &["postern.toml:2:"]);
    check(
        "[server]\nlinger-ms = 1\nlinger-ms = 2\n",
        &["postern.toml:3:1", "duplicate key"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = home();
    let ran = postern(home.path(), ["serve", "--config", "missing.toml"]).exits(1);
    assert!(ran.stderr.contains("missing.toml"), "{ran:#?}");
    fs::write(home.path().join("big.toml"), vec![b'#'; (1 << 20) + 1]).expect("a file");
    let ran = postern(home.path(), ["serve", "--config", "big.toml"]).exits(1);
    assert!(ran.stderr.contains("big.toml has more than"), "{ran:#?}");
}

#[test]
fn paths_in_the_file_are_relative_to_the_file() {
    let home = home();
    fs::create_dir(home.path().join("etc")).expect("a folder");
    let text = "[governance]\npolicy = \"my-policy.yaml\"\n";
    fs::write(home.path().join("etc/postern.toml"), text).expect("a file");
    postern(home.path(), ["certs", "dev"]).exits(0);
    let ran = postern(home.path(), ["serve", "--config", "etc/postern.toml"]).exits(1);
    assert!(ran.stderr.contains("etc/my-policy.yaml"), "{ran:#?}");
}

#[test]
fn a_model_without_its_pin_is_not_served() {
    let home = home();
    postern(home.path(), ["certs", "dev"]).exits(0);
    fs::copy(crate::run::coffee_model(), home.path().join("a.gguf")).expect("a copy");
    let unpinned = postern(home.path(), ["serve", "--model", "a.gguf"]).exits(1);
    assert!(
        unpinned.stderr.contains("postern model pin"),
        "{unpinned:#?}"
    );

    postern(home.path(), ["model", "pin", "a.gguf"]).exits(0);
    write_registry(&home.path().join("a.manifest.json"));
    let mut bytes = fs::read(home.path().join("a.gguf")).expect("the model");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(home.path().join("a.gguf"), &bytes).expect("the model");
    let serve = ["serve", "--model", "a.gguf", "--models", "models.yaml"];
    let changed = postern(home.path(), serve).exits(1);
    for part in ["a.gguf", "expected", "found", "nothing of it was used"] {
        assert!(changed.stderr.contains(part), "{part}: {changed:#?}");
    }
}
