//! `cargo xtask bench` as a program, on a model that is made and measured within seconds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;

fn bench(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_postern-lab"))
        .args(["bench", "--this-build", "--models", "tiny", "--rounds", "1"])
        .args(["--prefill", "8,24", "--decode", "4", "--folder"])
        .arg(folder)
        .args(arguments)
        .env_remove("POSTERN_LLAMA_BENCH")
        .env_remove("POSTERN_VOCAB_DIR")
        .output()?;
    Ok(output)
}

fn read(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[test]
fn a_run_without_a_peer_measures_ours_and_says_what_is_missing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let path = json.to_str().context("a path of text")?;
    let output = bench(folder.path(), &["--json", path])?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");

    let table = String::from_utf8(output.stdout)?;
    for part in [
        "llama.cpp: absent",
        "not optimized",
        "prefill 24",
        "absent llama.cpp",
    ] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
    assert!(errors.contains("no logits of llama.cpp"), "{errors}");

    let report = read(&json)?;
    let files = report["files"].as_array().context("files")?;
    let mixes: Vec<&str> = files
        .iter()
        .filter_map(|file| file["quantization"].as_str())
        .collect();
    assert_eq!(mixes, ["Q4_0", "Q4_K_M", "Q8_0"]);
    for file in files {
        for figure in file["figures"].as_array().context("figures")? {
            assert!(
                figure["value"].as_f64().is_some_and(|value| value > 0.0),
                "{figure}"
            );
            if figure["against"] == "llama.cpp" {
                assert!(
                    figure["against_value"].is_null() && figure["ratio"].is_null(),
                    "{figure}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_model_that_is_there_is_used_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arguments = ["--quantizations", "Q4_0", "--parts", "speed"];
    let listing = || -> Result<Vec<_>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.path())? {
            let entry = entry?;
            found.push((entry.file_name(), entry.metadata()?.modified()?));
        }
        found.sort();
        Ok(found)
    };
    assert!(bench(folder.path(), &arguments)?.status.success());
    let before = listing()?;
    assert_eq!(before.len(), 2, "a model and its manifest: {before:?}");
    assert!(bench(folder.path(), &arguments)?.status.success());
    assert_eq!(listing()?, before);
    Ok(())
}

/// A program that answers as an earlier build would that was `times` as good as any real one is bad.
fn earlier_build(folder: &Path, times: f64) -> Result<PathBuf> {
    let answer = serde_json::json!({
        "backend": "native",
        "load_s": 1.0 / times,
        "prefill_tokens_per_s": [times, times],
        "decode_tokens_per_s": times,
        "peak_bytes": (1e9 / times) as u64,
    });
    let program = folder.join("earlier");
    fs::write(&program, format!("#!/bin/sh\necho '{answer}'\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

#[test]
fn a_build_that_is_worse_than_an_earlier_one_fails_and_says_where() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (times, holds) in [(1e6, false), (1e-6, true)] {
        let program = earlier_build(folder.path(), times)?;
        let program = program.to_str().context("a path of text")?;
        let arguments = ["--quick", "--quantizations", "Q8_0", "--baseline", program];
        let output = bench(folder.path(), &arguments)?;
        let errors = String::from_utf8(output.stderr)?;
        let table = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.success(), holds, "{errors}{table}");
        for figure in [
            "prefill 8",
            "prefill 24",
            "decode 4",
            "verified load",
            "peak memory",
        ] {
            let line = table.lines().find(|line| line.contains(figure));
            let line = line.with_context(|| format!("no {figure} in\n{table}"))?;
            assert!(line.contains("baseline"), "{line}");
            assert_eq!(line.ends_with("missed"), !holds, "{line}");
        }
    }
    Ok(())
}

#[test]
fn an_unknown_model_is_refused_with_the_known_ones() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_postern-lab"))
        .args(["bench", "--this-build", "--models", "gpt-5"])
        .output()?;
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr)?;
    assert!(
        errors.contains("qwen2.5-0.5b, qwen2.5-1.5b, llama-3.2-1b, qwen3-0.6b, tiny"),
        "{errors}"
    );
    Ok(())
}
