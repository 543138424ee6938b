//! The command line of `postern model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use postern_governance::TemplateId;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Write the manifest that pins a model file to its SHA-256
    ///
    /// A model is only ever used through its manifest: the file must have exactly the pinned size
    /// and digest, or nothing of it is used. A file that is no GGUF file, is cut short or holds no
    /// weights is refused; one that this version cannot serve is pinned with a warning.
    #[command(after_help = "\
Examples:
  postern model pin qwen2.5-0.5b-instruct-q8_0.gguf
  postern model pin model.gguf --id qwen2.5-0.5b --out models/qwen.manifest.json")]
    Pin {
        /// Model file, GGUF
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Name under which answers and audit records mention the model [default: the file's stem]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// Where to write the manifest [default: FILE with .manifest.json for its extension]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Replace a manifest that exists
        #[arg(long)]
        force: bool,
    },
    /// Print a registry with an entry for a model, to be filled in
    ///
    /// Only registered models are served. What manifest and model file say is in the entry; what a
    /// person has to judge is empty, and the registry is refused while anything in it is.
    #[command(after_help = "\
Examples:
  postern model register qwen.manifest.json > models.yaml          a registry with this model
  postern model register phi.manifest.json --entry >> models.yaml  one more entry in it
  postern model check models.yaml --model qwen.manifest.json       once it is filled in")]
    Register {
        /// Model manifest, or a pinned GGUF file
        #[arg(value_hint = ValueHint::FilePath)]
        manifest: PathBuf,
        /// Print the entry alone, to be appended to a registry
        #[arg(long)]
        entry: bool,
    },
    Check(ModelCheckArguments),
    /// Show what a model file holds, and whether it can be served
    #[command(after_help = "\
Examples:
  postern model inspect model.gguf
  postern model inspect model.gguf --json | jq .by_quantization")]
    Inspect {
        /// Model file, GGUF
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how a model's own vocabulary splits a text
    #[command(after_help = "\
Examples:
  postern model tokenize model.gguf 'a flat white, please'
  postern model tokenize model.gguf --json - < notes.txt")]
    Tokenize {
        /// Model file, GGUF
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Text, or - for standard input
        #[arg(default_value = "-")]
        text: String,
        /// Print one JSON object with the arrays `ids` and `pieces`
        #[arg(long)]
        json: bool,
        /// Add BOS and EOS where the model asks for them, and read special tokens in the text as such
        #[arg(long)]
        special: bool,
    },
}

/// Check a registry of models, and which model covers which template
///
/// Exit code 1 if the registry or a card cannot be used: a field is missing or empty, there is no
/// card. Exit code 6 if a model's risk is above the approved one, or a template is covered by no
/// model, so that every call to it would be refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern model check models.yaml --prompts prompts
  postern model check models.yaml --prompts prompts --model qwen.manifest.json
  postern model check --template coffee.v1       the embedded registry and templates
  postern model check models.yaml --json | jq '.templates[] | select(.models == [])'")]
pub(crate) struct ModelCheckArguments {
    /// Registry, YAML (see deploy/policy/models.md) [default: the embedded one]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) registry: Option<PathBuf>,
    /// Folder of prompt templates [default: the embedded ones]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Only this template; may be given several times
    #[arg(long = "template", value_name = "ID")]
    pub(crate) templates: Vec<TemplateId>,
    /// Only the model of this manifest, or pinned GGUF file: whether it may serve, and which templates
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl ModelCommand {
    /// Whether a failure is printed as JSON on standard output.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Inspect { json, .. } | Self::Tokenize { json, .. } => *json,
            Self::Check(check) => check.json,
            Self::Pin { .. } | Self::Register { .. } => false,
        }
    }
}
