//! Logs that the tests of `postern audit` are about, made without a daemon.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use postern_audit::{
    Admitted, AuditConfig, AuditLog, Completed, Entry, Identities, ModelRef, Outcome, Parameters,
    Receipt, Refused, TemplateRef, Timings, Usage,
};

/// Name of the device whose log it is.
pub(crate) const DEVICE: &str = "pi-5";

/// Folder of the log, and file of the auditor's identity, in the test's folder.
pub(crate) const LOG: &str = "log";
pub(crate) const AUDITOR: &str = "auditor.key";

/// What a caller wrote in each call.
pub(crate) const WISH: &str = "a quiet place";

/// A log whose content lies open.
pub(crate) fn plain() -> AuditConfig {
    AuditConfig {
        origin: DEVICE.to_owned(),
        plaintext: true,
        ..AuditConfig::default()
    }
}

/// A log that is sealed to an auditor, whose identity is written to [`AUDITOR`].
pub(crate) fn sealed(home: &Path) -> AuditConfig {
    let auditor = Identities::generate();
    fs::write(home.join(AUDITOR), auditor.to_text().as_bytes()).expect("an identity file");
    AuditConfig {
        plaintext: false,
        recipients: auditor.recipients().keys().collect(),
        ..plain()
    }
}

/// Appends one answered call and one refusal, and gives the receipts of admission, end and refusal.
/// Each opening of the log also has a record of its own.
pub(crate) fn append(home: &Path, config: &AuditConfig, name: &str) -> [Receipt; 3] {
    let (log, _) = AuditLog::open(&home.join(LOG), config).expect("the log opens");
    let append = |entry| log.append(&entry).expect("the entry is recorded");
    let admission = append(admitted(name));
    let end = append(completed(name, admission.index));
    let refusal = append(refused(&format!("{name}-refused")));
    [admission, end, refusal]
}

pub(crate) fn digest(letter: char) -> String {
    letter.to_string().repeat(64)
}

pub(crate) fn admitted(request_id: &str) -> Entry {
    Entry::Admitted(Admitted {
        request_id: request_id.to_owned(),
        identity: "kiosk".to_owned(),
        token_id: None,
        certificate_sha256: String::new(),
        model: ModelRef {
            id: "coffee".to_owned(),
            sha256: digest('a'),
            tokenizer_sha256: digest('b'),
            chat_template_sha256: None,
        },
        template: TemplateRef {
            id: "coffee.v1".to_owned(),
            sha256: digest('c'),
        },
        policy_sha256: digest('d'),
        rules_sha256: digest('e'),
        rules: vec!["kiosk-coffee".to_owned()],
        variables: BTreeMap::from([("wishes".to_owned(), WISH.to_owned())]),
        redactions: Vec::new(),
        injection_score: Some(0),
        parameters: Parameters {
            max_tokens: 96,
            temperature: 0.0,
            seed: 7,
            stream: false,
        },
        budgets: Vec::new(),
    })
}

fn completed(request_id: &str, admitted_index: u64) -> Entry {
    answered(request_id, admitted_index, None, digest('e'))
}

/// The end of a call, with the text of its output where that is kept.
pub(crate) fn answered(
    request_id: &str,
    admitted_index: u64,
    output: Option<&str>,
    output_sha256: String,
) -> Entry {
    Entry::Completed(Completed {
        request_id: request_id.to_owned(),
        admitted_index,
        outcome: Outcome::Completed,
        output_sha256,
        output: output.map(str::to_owned),
        usage: Usage {
            prompt_tokens: 12,
            completion_tokens: 34,
        },
        output_redactions: Vec::new(),
        schema_valid: None,
        mean_probability: None,
        timings: Timings {
            queued_us: 1,
            first_token_us: Some(2),
            total_us: 3,
        },
    })
}

fn refused(request_id: &str) -> Entry {
    Entry::Refused(Refused {
        request_id: request_id.to_owned(),
        identity: None,
        token_id: None,
        certificate_sha256: String::new(),
        template: None,
        subject: None,
        code: "token-missing".to_owned(),
        detail: "no token".to_owned(),
        rules_sha256: String::new(),
    })
}
