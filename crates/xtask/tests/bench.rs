//! `cargo xtask bench` as a program, on a model that is made and measured within seconds.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;

fn bench(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
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
    let arguments = ["--quantizations", "Q4_0", "--no-parity"];
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

#[test]
fn a_run_that_is_worse_than_an_earlier_one_fails_and_says_where() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let path = json.to_str().context("a path of text")?;
    let arguments = ["--quantizations", "Q8_0", "--no-parity"];
    assert!(
        bench(folder.path(), &[&arguments[..], &["--json", path]].concat())?
            .status
            .success()
    );

    // The earlier run is made out to have used next to no memory.
    let mut report = read(&json)?;
    let figures = report["files"][0]["figures"]
        .as_array_mut()
        .context("figures")?;
    for figure in figures {
        if figure["name"] == "peak memory" {
            figure["ratio"] = 1e-6.into();
        }
    }
    fs::write(&json, report.to_string())?;
    let output = bench(
        folder.path(),
        &[&arguments[..], &["--against", path]].concat(),
    )?;
    let errors = String::from_utf8(output.stderr)?;
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("tiny Q8_0 peak memory"), "{errors}");
    Ok(())
}

#[test]
fn an_unknown_model_is_refused_with_the_known_ones() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
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
