//! `cargo xtask bench`: speed and parity of the engine, side by side with llama.cpp on the same files.
//!
//! Invariant: what is measured is an optimized build, unless a test asks for another.
//! Absent: the measuring itself, which is the package `benches`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use postern_benches::{
    FileReport, ModelFile, Peer, Plan, Quantization, Report, Shape, compare, is_served, make,
    measure, published, read_bytes_per_s, regression, serving, table, tiny,
};

use crate::baseline::Baseline;

/// What `--quick` measures: one small model, in less than three minutes.
const QUICK_MODEL: &str = "qwen2.5-0.5b";
const QUICK_QUANTIZATION: Quantization = Quantization::Q4KM;
const QUICK_ROUNDS: usize = 8;
const QUICK_PREFILL_TOKENS: [usize; 2] = [64, 256];
const QUICK_DECODE_TOKENS: usize = 32;

/// Measure the engine side by side with llama.cpp: same files, same threads, in turn.
#[derive(Args)]
pub(crate) struct Bench {
    /// Models to measure, separated by commas; all published shapes when absent, or `tiny`
    #[arg(long, value_delimiter = ',', value_parser = shape)]
    models: Vec<Shape>,
    /// Storage mixes to measure, separated by commas: Q4_0, Q4_K_M, Q8_0; all when absent
    #[arg(long, value_delimiter = ',', value_parser = quantization)]
    quantizations: Vec<Quantization>,
    /// How often everything is measured; the figures are medians [default: 3, with --quick 8]
    #[arg(long)]
    rounds: Option<usize>,
    /// Threads of both engines
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Lengths of the prompts in tokens, separated by commas [default: 64,256,1024]
    #[arg(long, value_delimiter = ',')]
    prefill: Vec<usize>,
    /// Tokens to decode [default: 128]
    #[arg(long)]
    decode: Option<usize>,
    /// Prompt tokens that the engine takes in one pass; its own default when absent
    #[arg(long)]
    prefill_chunk: Option<usize>,
    /// One small model, no llama.cpp: hold this build against the baseline that benches/baseline.json names, and fail if
    /// it is more than a tenth worse. Takes less than three minutes once the baseline is built
    #[arg(long)]
    quick: bool,
    /// What to measure, separated by commas; all when absent, but `serving` only of Qwen2.5 in Q4_0 and Q4_K_M
    #[arg(long, value_delimiter = ',', conflicts_with = "quick")]
    parts: Vec<Part>,
    /// The llama-bench of a llama.cpp build [default: what POSTERN_LLAMA_BENCH says]; without one, the table says
    /// that it is absent
    #[arg(long, value_name = "PATH")]
    llama_bench: Option<PathBuf>,
    /// A folder of GGUF vocabularies of published models [default: what POSTERN_VOCAB_DIR says]; without it,
    /// vocabularies are made
    #[arg(long, value_name = "FOLDER")]
    vocabularies: Option<PathBuf>,
    /// Where the made models are kept
    #[arg(long, default_value = "target/bench-models", value_name = "FOLDER")]
    folder: PathBuf,
    /// Write the report to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The postern-lab of another build, for --quick to hold this one against
    #[arg(long, value_name = "PROGRAM", requires = "quick")]
    baseline: Option<PathBuf>,
    /// Where --quick keeps the build of the stored baseline
    #[arg(long, default_value = "target/bench-baseline", value_name = "FOLDER")]
    baseline_folder: PathBuf,
    /// Measure this very build, even if it is not optimized
    #[arg(long)]
    this_build: bool,
}

/// A part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Prefill, decoding, loading and memory, one caller
    Speed,
    /// Logits against those of 32-bit floats
    Parity,
    /// Several callers at a time, first tokens, prompt lookup, JSON Schema
    Serving,
}

/// Serve one measurement of `bench`, as a process of its own.
#[derive(Args)]
pub(crate) struct BenchChild {
    /// What to measure, as JSON
    request: String,
}

impl BenchChild {
    pub(crate) fn run(self) -> Result<()> {
        postern_benches::serve(&self.request, &mut std::io::stdout().lock())
    }
}

impl Bench {
    pub(crate) fn run(mut self) -> Result<()> {
        if cfg!(debug_assertions) && !self.this_build {
            bail!("this build is not optimized; use `cargo xtask bench`, or --this-build");
        }
        self.fill_in();
        let peer = match &self.llama_bench {
            Some(path) if !self.quick => Some(Peer::at(path)?),
            _ => None,
        };
        let plan = Plan {
            program: std::env::current_exe().context("this program's own path is unknown")?,
            peer,
            threads: self.threads,
            rounds: self.rounds.unwrap_or(3),
            prefill_tokens: self.prefill.clone(),
            decode_tokens: self.decode.unwrap_or(128),
            prefill_chunk_tokens: self.prefill_chunk,
        };
        ensure!(
            plan.rounds > 0,
            "nothing is measured in 0 rounds; give 1 or more"
        );
        match self.quick {
            true => self.against_baseline(&plan),
            false => self.against_peer(&plan),
        }
    }

    /// Measures beside llama.cpp, and compares logits.
    fn against_peer(&self, plan: &Plan) -> Result<()> {
        let peer = match (&plan.peer, &self.llama_bench) {
            (Some(peer), Some(path)) => format!("{}, {}", peer.build, path.display()),
            _ => "absent; give --llama-bench or set POSTERN_LLAMA_BENCH".to_owned(),
        };
        let mut report = Report::new(plan, peer);
        for shape in &self.models {
            for &quantization in &self.quantizations {
                self.measure(plan, shape, quantization, &mut report)?;
                // A run takes long, and one that is cut off keeps what it found.
                self.keep(&report)?;
            }
        }
        Ok(write!(std::io::stdout().lock(), "{}", table(&report))?)
    }

    /// Measures beside the baseline, and fails where this build is worse.
    fn against_baseline(&self, plan: &Plan) -> Result<()> {
        let program = match &self.baseline {
            Some(program) => program.clone(),
            None => {
                let baseline = Baseline::stored()?;
                say(&format!(
                    "building the baseline of {}, commit {}, unless it is there",
                    baseline.date, baseline.commit
                ))?;
                baseline.program(&self.baseline_folder)?
            }
        };
        let mut report = Report::new(plan, "not measured with --quick".to_owned());
        report.read_bytes_per_s = Some(read_bytes_per_s(plan.threads));
        for shape in &self.models {
            for &quantization in &self.quantizations {
                let model = self.model(shape, quantization)?;
                say(&format!("measuring, {} rounds", plan.rounds))?;
                report.files.push(regression(plan, &program, &model)?);
            }
        }
        self.keep(&report)?;
        write!(std::io::stdout().lock(), "{}", table(&report))?;
        ensure!(
            report.holds(),
            "this build is worse than the baseline: see what the table says was missed"
        );
        Ok(())
    }

    /// Puts defaults where nothing was given.
    fn fill_in(&mut self) {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        self.llama_bench = self
            .llama_bench
            .take()
            .or_else(|| variable("POSTERN_LLAMA_BENCH"));
        self.vocabularies = self
            .vocabularies
            .take()
            .or_else(|| variable("POSTERN_VOCAB_DIR"));
        if self.quick {
            self.rounds.get_or_insert(QUICK_ROUNDS);
            self.decode.get_or_insert(QUICK_DECODE_TOKENS);
        }
        if self.models.is_empty() {
            self.models = published().into();
            self.models
                .retain(|shape| !self.quick || shape.name == QUICK_MODEL);
        }
        if self.quantizations.is_empty() {
            self.quantizations = Quantization::ALL.into();
            self.quantizations
                .retain(|&quantization| !self.quick || quantization == QUICK_QUANTIZATION);
        }
        if self.prefill.is_empty() {
            self.prefill = match self.quick {
                true => QUICK_PREFILL_TOKENS.into(),
                false => vec![64, 256, 1024],
            };
        }
    }

    fn measure(
        &self,
        plan: &Plan,
        shape: &Shape,
        quantization: Quantization,
        report: &mut Report,
    ) -> Result<()> {
        let name = format!("{} {}", shape.name, quantization.as_str());
        let model = self.model(shape, quantization)?;
        let mut file = FileReport::new(&model);
        if self.measures(Part::Speed) {
            say(&format!("{name}: measuring, {} rounds", plan.rounds))?;
            let read_bytes_per_s = measure(plan, &model, &mut file)
                .with_context(|| format!("{name} was not measured"))?;
            let best = report.read_bytes_per_s.unwrap_or(0.0);
            report.read_bytes_per_s = Some(read_bytes_per_s.max(best));
        }
        if self.measures(Part::Parity) {
            say(&format!("{name}: comparing logits"))?;
            let parity =
                compare(plan, &model).with_context(|| format!("{name} was not compared"))?;
            if let Some(reason) = parity.peer_absent {
                say(&format!("{name}: no logits of llama.cpp: {reason}"))?;
            }
            file.figures.extend(parity.figures);
        }
        let serves = self.parts.contains(&Part::Serving) || is_served(shape, quantization);
        if self.measures(Part::Serving) && serves {
            say(&format!("{name}: serving, {} rounds", plan.rounds))?;
            serving(plan, &model, &mut file).with_context(|| format!("{name} was not served"))?;
        }
        report.files.push(file);
        Ok(())
    }

    fn measures(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    fn model(&self, shape: &Shape, quantization: Quantization) -> Result<ModelFile> {
        say(&format!(
            "{} {}: making the model, unless it is there",
            shape.name,
            quantization.as_str()
        ))?;
        make(
            &self.folder,
            shape,
            quantization,
            self.vocabularies.as_deref(),
        )
    }

    /// Writes what was found so far, where that is asked for.
    fn keep(&self, report: &Report) -> Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(report)? + "\n";
        fs::write(path, text)
            .with_context(|| format!("the report {} cannot be written", path.display()))
    }
}

/// Progress, apart from the table.
fn say(what: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{what}")?)
}

fn shape(name: &str) -> Result<Shape, String> {
    let mut known: Vec<Shape> = published().into();
    known.push(tiny());
    let names: Vec<&str> = known.iter().map(|shape| shape.name).collect();
    let names = names.join(", ");
    known
        .into_iter()
        .find(|shape| shape.name == name)
        .ok_or(format!("it is one of {names}"))
}

fn quantization(name: &str) -> Result<Quantization, String> {
    Quantization::ALL
        .into_iter()
        .find(|quantization| quantization.as_str() == name)
        .ok_or("it is one of Q4_0, Q4_K_M, Q8_0".to_owned())
}
