//! Published vocabularies against the token ids of their own tokenizers.
//!
//! `POSTERN_VOCAB_DIR` names a folder of vocabulary-only GGUF files `X.gguf` with texts `X.gguf.inp`
//! and reference ids `X.gguf.out`. Without it these tests say that they skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use postern_engine::{TEXT_BYTES_MAX, Tokenizer};
use postern_testkit::vocabularies::{VOCABULARIES, file, folder};

/// The line between the texts of an `.inp` file.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// A published tokenizer, loaded once for all tests.
fn load(folder: &Path, name: &'static str) -> Tokenizer {
    static LOADED: Mutex<BTreeMap<&str, Tokenizer>> = Mutex::new(BTreeMap::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded
        .entry(name)
        .or_insert_with(|| load_anew(folder, name))
        .clone()
}

fn load_anew(folder: &Path, name: &str) -> Tokenizer {
    Tokenizer::from_gguf_file(&file(folder, name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn beside(gguf: &Path, extension: &str) -> String {
    let path = PathBuf::from(format!("{}.{extension}", gguf.display()));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of a vocabulary with their reference ids.
fn cases(gguf: &Path) -> Vec<(String, Vec<u32>)> {
    let texts = beside(gguf, "inp");
    let ids = beside(gguf, "out");
    let texts: Vec<&str> = texts.split(SEPARATOR).collect();
    let ids: Vec<&str> = ids.lines().collect();
    // The file ends with a separator after the last text.
    let texts = &texts[..ids.len().min(texts.len())];
    assert_eq!(texts.len(), ids.len(), "{}", gguf.display());
    texts
        .iter()
        .zip(ids)
        .map(|(text, line)| {
            let ids = line
                .split_whitespace()
                .map(|id| id.parse().expect("an id"))
                .collect();
            ((*text).to_owned(), ids)
        })
        .collect()
}

#[test]
fn every_line_is_as_the_reference_and_decodes_to_itself() {
    let Some(folder) = folder() else { return };
    let mut failures = Vec::new();
    let mut checked = 0;
    for name in VOCABULARIES {
        let tokenizer = load(&folder, name);
        for (text, expected) in cases(&file(&folder, name)) {
            checked += 1;
            let found = tokenizer.encode(&text, false).expect("encodes");
            if found != expected {
                failures.push(format!(
                    "{name}: {text:?}\n  found    {found:?}\n  expected {expected:?}"
                ));
            }
            assert_eq!(
                tokenizer.encode(&text, true).expect("encodes"),
                found,
                "{name}: {text:?}"
            );
            let back = tokenizer.decode(&found).expect("decodes");
            if back != text {
                failures.push(format!("{name}: {text:?} came back as {back:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(checked > 5 * 40, "only {checked} lines were checked");
}

#[test]
fn a_stream_gives_the_text_in_whole_characters() {
    let Some(folder) = folder() else { return };
    for name in VOCABULARIES {
        let tokenizer = load(&folder, name);
        for (text, ids) in cases(&file(&folder, name)) {
            let mut stream = tokenizer.stream(None).expect("starts");
            let mut streamed = String::new();
            for id in ids {
                let part = stream.push(id).expect("known");
                assert!(
                    !part.contains(char::REPLACEMENT_CHARACTER),
                    "{name}: {text:?}"
                );
                streamed.push_str(&part);
            }
            streamed.push_str(&stream.finish());
            assert_eq!(streamed, text, "{name}");
        }
    }
}

#[test]
fn special_tokens_are_known_by_role() {
    let Some(folder) = folder() else { return };
    let check = |name: &'static str, bos: Option<&str>, eos: &str, end: &[&str], add_bos: bool| {
        let tokenizer = load(&folder, name);
        let special = tokenizer.special();
        assert_eq!(
            special.bos.and_then(|id| tokenizer.piece(id)),
            bos,
            "{name}"
        );
        assert_eq!(
            special.eos.and_then(|id| tokenizer.piece(id)),
            Some(eos),
            "{name}"
        );
        assert_eq!(special.add_bos, add_bos, "{name}");
        for text in end {
            let id = tokenizer.id(text).expect("in the vocabulary");
            assert!(
                special.end_of_generation.contains(&id) && tokenizer.is_control(id),
                "{name}: {text}"
            );
        }
    };
    check(
        "gpt-2",
        Some("<|endoftext|>"),
        "<|endoftext|>",
        &["<|endoftext|>"],
        false,
    );
    check(
        "llama-bpe",
        Some("<|begin_of_text|>"),
        "<|end_of_text|>",
        &["<|eot_id|>"],
        true,
    );
    check("llama-spm", Some("<s>"), "</s>", &["</s>"], true);
    check(
        "phi-3",
        Some("<s>"),
        "<|endoftext|>",
        &["<|end|>", "<|endoftext|>"],
        true,
    );
    check(
        "qwen2",
        Some("<|endoftext|>"),
        "<|endoftext|>",
        &["<|im_end|>", "<|endoftext|>"],
        false,
    );
}

#[test]
fn control_tokens_come_from_text_only_on_request() {
    let Some(folder) = folder() else { return };
    let check = |name: &'static str, special: &str| {
        let tokenizer = load(&folder, name);
        let id = tokenizer.id(special).expect("in the vocabulary");
        let text = format!("a{special} b{special}{special}");
        let plain = tokenizer.encode(&text, false).expect("encodes");
        assert!(
            plain.iter().all(|id| !tokenizer.is_control(*id)),
            "{name}: {plain:?}"
        );
        assert_eq!(tokenizer.decode(&plain).expect("decodes"), text, "{name}");
        let parsed = tokenizer.encode(&text, true).expect("encodes");
        assert_eq!(
            parsed.iter().filter(|found| **found == id).count(),
            3,
            "{name}: {parsed:?}"
        );
    };
    check("gpt-2", "<|endoftext|>");
    check("llama-bpe", "<|eot_id|>");
    check("llama-spm", "</s>");
    check("phi-3", "<|end|>");
    check("qwen2", "<|im_start|>");
}

#[test]
fn the_added_tokens_of_phi_3_swallow_white_space() {
    let Some(folder) = folder() else { return };
    let phi = load(&folder, "phi-3");
    let ids = |text| phi.encode(text, true).expect("encodes");
    assert_eq!(ids("<|user|>\n Hi<|end|>\n"), ids("<|user|>Hi<|end|>"));
    assert_ne!(ids("<s> Hi"), ids("<s>Hi"));
    let llama = load(&folder, "llama-spm");
    assert_ne!(
        llama.encode("</s>\nHi", true).expect("encodes"),
        llama.encode("</s>Hi", true).expect("encodes")
    );
}

#[test]
fn hostile_texts_end_in_tokens_or_in_an_error() {
    let Some(folder) = folder() else { return };
    for name in VOCABULARIES {
        let tokenizer = load(&folder, name);
        for unit in [
            "a",
            " ",
            "A",
            "\n",
            "1",
            "<",
            "<|",
            "\u{1F999}",
            "か",
            " \n",
            "a ",
            "'s",
            "\u{301}",
        ] {
            let bytes = if unit == "a" || unit == " " {
                1_000_000
            } else {
                100_000
            };
            let text = unit.repeat(bytes / unit.len());
            let ids = tokenizer
                .encode(&text, false)
                .unwrap_or_else(|error| panic!("{name}: {unit:?}: {error}"));
            assert!(
                tokenizer.decode(&ids).expect("decodes") == text,
                "{name}: {unit:?}"
            );
        }
        let error = tokenizer
            .encode(&"a".repeat(TEXT_BYTES_MAX + 1), false)
            .expect_err("too long")
            .to_string();
        assert!(
            error.contains("1048577") && error.contains("1048576"),
            "{error}"
        );
    }
}

#[test]
fn identities_differ_and_repeat() {
    let Some(folder) = folder() else { return };
    let mut identities: Vec<_> = VOCABULARIES
        .iter()
        .map(|name| load(&folder, name).sha256().to_string())
        .collect();
    assert_eq!(
        identities[0],
        load_anew(&folder, VOCABULARIES[0]).sha256().to_string()
    );
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), VOCABULARIES.len());
}
