//! Arguments of `postern audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use jiff::Timestamp;
use postern_audit::{Criteria, Format, OutcomePattern, Receipt};

use super::parse_receipt;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that the records found are chained, signed and unaltered
    ///
    /// This needs no secret. Exit code 0 means that the records found are in order and without a gap,
    /// as the device wrote and signed them. Two things leave no trace in the files: that newest records
    /// were cut off the end, and that someone who has the device's signing key wrote the whole log
    /// anew. A receipt or a checkpoint kept elsewhere shows it: with one, exit code 0 also means that
    /// the log is whole up to it. And the signer is only what the log says, unless --pubkey names it.
    #[command(after_help = "\
Examples:
  postern audit verify state/audit
  postern audit verify state/audit --pubkey pi-5.pub --checkpoint yesterday.checkpoint
  postern audit verify state/audit --receipt 7:3f0c…e1
  postern audit verify state/audit --json && echo unaltered")]
    Verify(Box<VerifyArguments>),
    /// Print records and calls, verified as they are read
    ///
    /// A call comes as a whole, at the place of its end. Content that is sealed is read with the
    /// identity file of an auditor; without it, the part of a record that is never sealed is shown.
    /// A filter that sealed content could not answer leaves the record out.
    #[command(
        visible_alias = "query",
        after_help = "\
Examples:
  postern audit show state/audit --identity-file auditor.key
  postern audit query state/audit --identity-file auditor.key --identity kiosk --outcome held
  postern audit query state/audit --since 2026-11-01T00:00:00Z --outcome refused:token-expired
  postern audit show state/audit --request 01JD… --json"
    )]
    Show(Box<ShowArguments>),
    /// Write the records for another system
    ///
    /// With --cursor every record is delivered at least once: a run goes on after the last record that
    /// the receiver has confirmed, and repeats what it has not. A receiver tells repetitions by a
    /// record's id (see EXPORT.md). A file confirms when it is on the disk, an HTTP server with a
    /// status 2xx, a syslog receiver by closing the connection without an error.
    ///
    /// Lines hold what callers wrote: use tcp:// and http:// on the device or a network of your own only.
    #[command(after_help = "\
Examples:
  postern audit export state/audit --format jsonl --identity-file auditor.key
  postern audit export state/audit --format ocsf --identity-file auditor.key \\
      --output audit.ocsf.jsonl --cursor audit.cursor
  postern audit export state/audit --format ecs --identity-file auditor.key \\
      --to tcp://127.0.0.1:6514 --cursor syslog.cursor
  postern audit export state/audit --format ecs --identity-file auditor.key \\
      --to https://siem.example/ingest --ca siem-ca.pem --authorization-file siem.auth \\
      --cursor siem.cursor")]
    Export(Box<ExportArguments>),
    /// Prove that a record is in the log, or verify such a proof offline
    ///
    /// With a folder, a proof is printed as JSON; it rests on a checkpoint, by default the newest. With
    /// --proof, one is verified with nothing but the device's public key. Whoever has the receipt of an
    /// answer gives that, too: then the proof is known to be of that very record.
    #[command(
        override_usage = "postern audit prove <DIR> --index <N> [--checkpoint <FILE>]\n       \
                          postern audit prove --proof <FILE> --pubkey <KEY> [--checkpoint <FILE>] [--receipt <FILE>]",
        after_help = "\
Examples:
  postern audit prove state/audit --index 7 > proof.json
  postern audit prove --proof proof.json --pubkey pi-5.pub --receipt answer.json"
    )]
    Prove(Box<ProveArguments>),
    /// Print the newest checkpoint, or prove that the log goes on from an older one
    ///
    /// A checkpoint is a signed note (C2SP) of how many records the log has, and of the root of the
    /// tree over them. Keep some outside of the device: each shows later that nothing before it was
    /// altered or cut off.
    #[command(after_help = "\
Examples:
  postern audit checkpoint state/audit > today.checkpoint
  postern audit checkpoint state/audit --old yesterday.checkpoint > consistency.json")]
    Checkpoint(CheckpointArguments),
    /// Count calls, tokens, refusals, redactions, reviews and times
    #[command(after_help = "\
Examples:
  postern audit stats state/audit --identity-file auditor.key
  postern audit stats state/audit --identity-file auditor.key --since 2026-11-01T00:00:00Z --json
  postern audit stats state/audit --identity-file auditor.key --html report.html")]
    Stats(StatsArguments),
    Keygen(KeygenArguments),
}

/// Make a key for an auditor, who can read what the daemon records
///
/// The secret key goes to a file that only its owner can read, in the form of `age`; the public key is printed. Keep the
/// secret key away from the device: whoever has it and the log's files can read what was asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postern audit keygen --out auditor.key --state-dir state
  postern serve --state-dir state --auditor $(postern audit keygen --out auditor.key)")]
pub(crate) struct KeygenArguments {
    /// File for the secret key; one that exists is kept
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Add the public key to the auditors of this state folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Public key that must have signed the log: as `name+hash+key`, or a file with it
    #[arg(long, value_name = "KEY")]
    pub(crate) pubkey: Option<String>,
    /// Checkpoint that the log must go on from; may be given several times
    #[arg(long = "checkpoint", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Receipt whose record the log must hold: INDEX:HEAD, or a file with it or a whole answer as
    /// JSON; may be given several times
    #[arg(long = "receipt", value_name = "RECEIPT", value_parser = ReceiptArgument::parse)]
    pub(crate) receipts: Vec<ReceiptArgument>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) auditor: AuditorArguments,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
}

/// What opens sealed content.
#[derive(Debug, Args)]
pub(crate) struct AuditorArguments {
    /// Identity file of an auditor, as `age-keygen` writes it
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub(crate) identity_file: Option<PathBuf>,
}

/// What is looked for; what is not given allows everything.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArguments {
    /// From this time on, e.g. 2026-11-27T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Who called, or administered
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Which template
    #[arg(long, value_name = "ID")]
    pub(crate) template: Option<String>,
    /// Which model, by its id or the SHA-256 of its file
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Which request
    #[arg(long, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// What became of it, e.g. refused or failed:engine-stopped; may be given several times
    #[arg(long = "outcome", value_name = "OUTCOME")]
    pub(crate) outcomes: Vec<OutcomePattern>,
    /// Text in a variable, in an output that is kept, or in what a refusal or an administrative action says
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
}

/// A time that ends before it begins holds nothing, which nobody means to ask for.
pub(crate) fn check_times(
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> anyhow::Result<()> {
    match (since, until) {
        (Some(since), Some(until)) if since >= until => {
            anyhow::bail!("--since {since} is not before --until {until}; exchange them")
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Form of the lines
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: FormatArgument,
    #[command(flatten)]
    pub(crate) auditor: AuditorArguments,
    /// Write to this file instead of standard output; with --cursor, add to it
    #[arg(long, value_name = "FILE", conflicts_with = "to", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Push to a syslog receiver, tcp://HOST:PORT, or by HTTP, https://HOST:PORT/PATH
    #[arg(long, value_name = "URL", value_parser = Destination::parse, value_hint = ValueHint::Url)]
    pub(crate) to: Option<Destination>,
    /// Remember in this file what was delivered, and go on there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) cursor: Option<PathBuf>,
    /// CA that signed the certificate of an https:// receiver, PEM
    #[arg(long, value_name = "FILE", requires = "to", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// File with the value of the header Authorization, e.g. `Bearer …`
    #[arg(long, value_name = "FILE", requires = "to", value_hint = ValueHint::FilePath)]
    pub(crate) authorization_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProveArguments {
    /// Folder of the log
    #[arg(required_unless_present = "proof", conflicts_with = "proof", requires = "index", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
    /// Index of the record, as its receipt has it
    #[arg(long, value_name = "N", requires = "dir")]
    pub(crate) index: Option<u64>,
    /// Proof to verify
    #[arg(long, value_name = "FILE", requires = "pubkey", value_hint = ValueHint::FilePath)]
    pub(crate) proof: Option<PathBuf>,
    /// Checkpoint that was kept, instead of the newest, or of that in the proof
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Public key of the device: as `name+hash+key`, or a file with it
    #[arg(long, value_name = "KEY")]
    pub(crate) pubkey: Option<String>,
    /// Receipt of the record that the proof must be of: a file with it or a whole answer as JSON
    #[arg(long, value_name = "FILE", requires = "proof", value_hint = ValueHint::FilePath)]
    pub(crate) receipt: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Prove as JSON that the log goes on from this older checkpoint
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) old: Option<PathBuf>,
    /// Public key that must have signed it: as `name+hash+key`, or a file with it
    #[arg(long, value_name = "KEY")]
    pub(crate) pubkey: Option<String>,
    /// Print size, root, time and note as JSON
    #[arg(long, conflicts_with = "old")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// Folder of the log
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) auditor: AuditorArguments,
    /// Count from this time on, e.g. 2026-11-27T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Count what was before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page with charts, which stands by itself, to this file
    #[arg(long, value_name = "FILE", conflicts_with = "json", value_hint = ValueHint::FilePath)]
    pub(crate) html: Option<PathBuf>,
}

/// A form of exported lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FormatArgument {
    /// Our own: the whole record, nothing added
    Jsonl,
    /// Open Cybersecurity Schema Framework 1.8, API Activity with the profile AI Operation
    Ocsf,
    /// Elastic Common Schema 9.4
    Ecs,
}

impl From<FormatArgument> for Format {
    fn from(format: FormatArgument) -> Self {
        match format {
            FormatArgument::Jsonl => Self::JsonLines,
            FormatArgument::Ocsf => Self::Ocsf,
            FormatArgument::Ecs => Self::Ecs,
        }
    }
}

/// A receipt, or the file that has it.
#[derive(Clone, Debug)]
pub(crate) enum ReceiptArgument {
    Written(Receipt),
    File(PathBuf),
}

impl ReceiptArgument {
    fn parse(written: &str) -> Result<Self, String> {
        if written.contains(':') && !written.contains('/') {
            return parse_receipt(written).map(Self::Written);
        }
        Ok(Self::File(written.into()))
    }
}

/// Where lines are pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Host and port of a syslog receiver.
    Syslog(String),
    /// URL of an HTTP server.
    Http(String),
}

impl Destination {
    fn parse(written: &str) -> Result<Self, String> {
        const FORM: &str = "expected tcp://HOST:PORT, http://HOST[:PORT]/PATH or https://…";
        match written.split_once("://") {
            Some(("tcp", authority)) => {
                let port = authority.rsplit_once(':').map(|(_, port)| port);
                let port = port.and_then(|port| port.parse::<u16>().ok());
                port.map(|_| Self::Syslog(authority.to_owned()))
                    .ok_or_else(|| FORM.into())
            }
            Some(("http" | "https", rest)) if !rest.is_empty() => {
                Ok(Self::Http(written.to_owned()))
            }
            _ => Err(FORM.into()),
        }
    }
}

impl FilterArguments {
    /// The same, as the log's reports ask for it.
    pub(crate) fn criteria(&self) -> Criteria {
        Criteria {
            since: self.since,
            until: self.until,
            identity: self.identity.clone(),
            template: self.template.clone(),
            model: self.model.clone(),
            request_id: self.request.clone(),
            outcomes: self.outcomes.clone(),
            text: self.text.clone(),
        }
    }
}

impl AuditCommand {
    /// Whether a failure is printed as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Verify(verify) => verify.json,
            Self::Show(show) => show.json,
            Self::Keygen(_) => false,
            Self::Prove(prove) => prove.json,
            Self::Checkpoint(checkpoint) => checkpoint.json,
            Self::Stats(stats) => stats.json,
            // Its lines are for another system, which takes no error for a record.
            Self::Export(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_known_by_their_scheme() {
        #[track_caller]
        fn check(written: &str, expected: Option<Destination>) {
            assert_eq!(Destination::parse(written).ok(), expected, "{written}");
        }
        let syslog = |authority: &str| Some(Destination::Syslog(authority.to_owned()));
        let http = |url: &str| Some(Destination::Http(url.to_owned()));
        check("tcp://127.0.0.1:6514", syslog("127.0.0.1:6514"));
        check("tcp://[::1]:6514", syslog("[::1]:6514"));
        check("https://siem.example/in", http("https://siem.example/in"));
        check("http://localhost:8088", http("http://localhost:8088"));
        check("tcp://siem.example", None);
        check("udp://127.0.0.1:514", None);
        check("https://", None);
        check("siem.example:6514", None);
    }

    #[test]
    fn a_receipt_is_written_out_or_in_a_file() {
        let written = format!("7:{}", "0".repeat(64));
        assert!(matches!(
            ReceiptArgument::parse(&written),
            Ok(ReceiptArgument::Written(receipt)) if receipt.index == 7
        ));
        assert!(ReceiptArgument::parse("7:abc").is_err());
        assert!(matches!(
            ReceiptArgument::parse("answers/a:b.json"),
            Ok(ReceiptArgument::File(_))
        ));
    }
}
