//! Instructions per multiply-accumulate, of our products and of llama.cpp's on the same bytes, counted by the emulator.
//!
//! Both sides multiply matrices of two heights. What the higher one costs more is what its further rows cost; what a
//! product costs once, such as the quantization of its activations, falls out.
//!
//! Invariant: both sides compute the same: their results' means are compared before a table is printed.
//! Absent: time. A count says how much work there is, not how long a processor takes for it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::tools::{CMAKE, CXX, LINKER, Tools, succeed};
use super::{Build, PROCESSOR};

/// llama.cpp's side, which is built against its sources.
const PEER_SOURCE: &str = include_str!("../../../../benches/peer/products.cpp");
/// How far apart both sides' results may be, as a share: 8-bit activations differ in the width of their blocks.
const MEAN_DIFFERENCE_MAX: f64 = 0.01;
/// What the emulator's line of an executed instruction begins with.
const EXECUTED: &[u8] = b"Trace ";

/// A product, as a program names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Product {
    format: String,
    tokens: u64,
    columns: u64,
    rows: u64,
}

/// What was seen of it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    instructions: u64,
    mean: f64,
}

type Counts = Vec<(Product, Seen)>;

/// Counts, and prints the table.
pub(super) fn report(build: &Build, peer: Option<&Path>) -> Result<()> {
    let ours = build.products()?;
    let peer = peer
        .map(|sources| build_peer(&build.folder, sources))
        .transpose()?;
    writeln!(
        stderr(),
        "counting ours; one instruction at a time takes a minute or more"
    )?;
    let ours = count(&build.tools, &ours)?;
    let theirs = match &peer {
        Some(peer) => {
            writeln!(stderr(), "counting llama.cpp's; this takes some minutes")?;
            Some(count(&build.tools, peer)?)
        }
        None => None,
    };
    if let Some(theirs) = &theirs {
        compare_results(&ours, theirs)?;
    }
    let table = table(&ours, theirs.as_ref())?;
    write!(stdout(), "{table}")?;
    if peer.is_none() {
        writeln!(
            stdout(),
            "\nllama.cpp is absent; give --llama-cpp or set POSTERN_LLAMA_CPP"
        )?;
    }
    Ok(())
}

/// Builds llama.cpp's kernels for the processor, and the program that calls them.
fn build_peer(folder: &Path, sources: &Path) -> Result<PathBuf> {
    ensure!(
        sources.join("ggml/include/ggml.h").is_file(),
        "{} is no folder of llama.cpp's sources; it has no ggml/include/ggml.h",
        sources.display()
    );
    let libraries = folder.join("llama.cpp");
    let flags = format!("-mcpu={PROCESSOR}");
    succeed(
        Command::new(CMAKE)
            .arg("-S")
            .arg(sources)
            .arg("-B")
            .arg(&libraries)
            .args(["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SYSTEM_NAME=Linux"])
            .arg("-DCMAKE_SYSTEM_PROCESSOR=aarch64")
            .arg(format!("-DCMAKE_C_COMPILER={LINKER}"))
            .arg(format!("-DCMAKE_CXX_COMPILER={CXX}"))
            .arg(format!("-DCMAKE_C_FLAGS={flags}"))
            .arg(format!("-DCMAKE_CXX_FLAGS={flags}"))
            .args(["-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=OFF"])
            .args(["-DGGML_OPENMP=OFF", "-DLLAMA_OPENSSL=OFF"])
            .args(["COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER"].map(part_off)),
    )?;
    succeed(Command::new(CMAKE).arg("--build").arg(&libraries).args([
        "--parallel",
        "--target",
        "ggml",
    ]))?;
    let source = folder.join("peer-products.cpp");
    std::fs::write(&source, PEER_SOURCE)
        .with_context(|| format!("{} cannot be written", source.display()))?;
    let program = folder.join("peer-products");
    succeed(
        Command::new(CXX)
            .args(["-std=c++17", "-O1", "-static", "-I"])
            .arg(sources.join("ggml/include"))
            .arg(&source)
            .arg("-L")
            .arg(libraries.join("ggml/src"))
            .args(["-lggml", "-lggml-cpu", "-lggml-base", "-lpthread", "-o"])
            .arg(&program),
    )?;
    Ok(program)
}

fn part_off(part: &str) -> String {
    format!("-DLLAMA_BUILD_{part}=OFF")
}

/// Runs a program instruction by instruction. The emulator's lines and the program's own are one stream, in order.
fn count(tools: &Tools, program: &Path) -> Result<Counts> {
    let mut emulator = tools
        .traced(program)?
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", tools.emulator.display()))?;
    let lines = emulator.stderr.take().context("standard error is piped")?;
    let counts = read(BufReader::new(lines));
    let status = emulator.wait()?;
    ensure!(
        status.success(),
        "{} ended with {status} under emulation",
        program.display()
    );
    counts.with_context(|| format!("{} was not counted", program.display()))
}

/// Counts the emulator's lines between the program's `begin FORMAT COLUMNS ROWS TOKENS` and `end`; `mean` follows.
fn read(mut lines: impl BufRead) -> Result<Counts> {
    let mut counts = Vec::new();
    let mut begun: Option<Product> = None;
    let (mut instructions, mut at_end) = (0, 0);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if line.starts_with(EXECUTED) {
            instructions += 1;
        } else {
            let text = String::from_utf8_lossy(&line);
            let mut words = text.split_whitespace();
            match words.next() {
                Some("begin") => {
                    begun = Some(product(&mut words).with_context(|| text.trim().to_owned())?);
                    instructions = 0;
                }
                Some("end") => at_end = instructions,
                Some("mean") => {
                    let product = begun.take().context("a result came before its product")?;
                    let mean = words.next().and_then(|mean| mean.parse().ok());
                    let seen = Seen {
                        instructions: at_end,
                        mean: mean.context("a result is no number")?,
                    };
                    counts.push((product, seen));
                }
                _ => {}
            }
        }
        line.clear();
    }
    ensure!(!counts.is_empty(), "it named no product");
    Ok(counts)
}

fn product<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Product> {
    let format = words.next().context("there is no format")?.to_owned();
    let mut number = || -> Result<u64> {
        let word = words.next().context("there is a number too few")?;
        Ok(word.parse()?)
    };
    let (columns, rows, tokens) = (number()?, number()?, number()?);
    Ok(Product {
        format,
        tokens,
        columns,
        rows,
    })
}

fn compare_results(ours: &Counts, theirs: &Counts) -> Result<()> {
    let theirs: BTreeMap<_, _> = theirs
        .iter()
        .map(|(product, seen)| (product, seen))
        .collect();
    for (product, ours) in ours {
        let Some(theirs) = theirs.get(product) else {
            bail!("llama.cpp did not compute {product:?}");
        };
        let difference = (ours.mean - theirs.mean).abs();
        ensure!(
            difference <= MEAN_DIFFERENCE_MAX * theirs.mean.abs(),
            "both sides did not compute the same: {product:?} is {} on average, llama.cpp's {}",
            ours.mean,
            theirs.mean
        );
    }
    Ok(())
}

/// What a multiply-accumulate costs, for each format and number of tokens, in the program's order.
fn costs(counts: &Counts) -> Result<Vec<(String, u64, f64)>> {
    let mut costs = Vec::new();
    for (low, low_seen) in counts {
        let high = counts.iter().find(|(high, _)| {
            (&high.format, high.tokens, high.columns) == (&low.format, low.tokens, low.columns)
                && high.rows > low.rows
        });
        let Some((high, high_seen)) = high else {
            continue;
        };
        let instructions = high_seen.instructions as f64 - low_seen.instructions as f64;
        let products = (high.rows - low.rows) * low.columns * low.tokens;
        costs.push((
            low.format.clone(),
            low.tokens,
            instructions / products as f64,
        ));
    }
    ensure!(!costs.is_empty(), "no matrix has two heights");
    Ok(costs)
}

/// A table in Markdown.
fn table(ours: &Counts, theirs: Option<&Counts>) -> Result<String> {
    let theirs: BTreeMap<_, _> = theirs
        .map(costs)
        .transpose()?
        .unwrap_or_default()
        .into_iter()
        .map(|(format, tokens, cost)| ((format, tokens), cost))
        .collect();
    let mut table =
        "| format | tokens | ours | llama.cpp's | ratio |\n|---|---|---|---|---|\n".to_owned();
    for (format, tokens, ours) in costs(ours)? {
        let (their, ratio) = match theirs.get(&(format.clone(), tokens)) {
            Some(their) => (format!("{their:.3}"), format!("{:.2}", ours / their)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table += &format!("| {format} | {tokens} | {ours:.3} | {their} | {ratio} |\n");
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(products: &[(&str, u64, usize)]) -> Vec<u8> {
        let mut text = String::from("Trace 0: before\nsome other line\n");
        for (format, rows, instructions) in products {
            text += &format!("begin {format} 32 {rows} 2\n");
            text += &"Trace 0: executed\n".repeat(*instructions);
            text += "end\nTrace 0: after\nmean 1.5\n";
        }
        text.into_bytes()
    }

    #[test]
    fn a_row_costs_what_the_higher_matrix_costs_more() {
        let read = |products| read(stream(products).as_slice()).expect("products");
        let ours = read(&[("Q4_K", 16, 100), ("Q4_K", 32, 356)]);
        let theirs = read(&[("Q4_K", 16, 50), ("Q4_K", 32, 562)]);
        let table = table(&ours, Some(&theirs)).expect("two heights");
        assert!(
            table.ends_with("| Q4_K | 2 | 0.250 | 0.500 | 0.50 |\n"),
            "{table}"
        );
        compare_results(&ours, &theirs).expect("equal results");
    }

    #[test]
    fn what_is_not_a_count_is_refused() {
        for bad in [
            "",
            "mean 1\n",
            "begin Q4_K 32\n",
            "begin Q4_K a b c\n",
            "begin Q4_K 1 1 1\nend\nmean x\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sides_that_compute_different_things_are_refused() {
        let one = read(stream(&[("Q4_K", 16, 1)]).as_slice()).expect("a product");
        let mut other = one.clone();
        other[0].1.mean = 1.6;
        assert!(compare_results(&one, &other).is_err());
        other.clear();
        assert!(compare_results(&one, &other).is_err());
    }
}
