//! The registry of models: what its file must say, and which model may answer which template.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use postern_governance::{
    CARD_BYTES_MAX, CallRequest, Decision, DenialClass, ModelRef, ModelRegistry, Policy, Risk,
    RuleSet, Source, TemplateSet, UseCase, decide,
};

const REGISTRY: &str = r#"
version: 1
approved_risk: medium
models:
  - id: small-1
    version: "1"
    provider: somebody
    sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    intended_uses: [triage, test-generation]
    limitations:
      - Knows little.
    data_provenance: a test
    licence: Apache-2.0
    risk: low
    card: small-1.md
  - id: Large_2.5
    version: "2.5"
    provider: somebody else
    sha256: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    intended_uses: [any]
    limitations: [Slow.]
    data_provenance: unknown
    licence: other
    risk: high
    card: cards/large.md
"#;

const CARDS: [(&str, &str); 2] = [
    ("small-1.md", "# small-1\n"),
    ("cards/large.md", "# large\n"),
];

const TRIAGE: &str = "\
id: triage.v1
description: d
author: a
intent: i
use_case: triage
risk: low
max_tokens: 8
user: hello
";

const POLICY: &str = "\
version: 1
identities:
  kiosk: {templates: {triage.v1: {}, other.v1: {}, plain.v1: {}}}
";

fn load(text: &str) -> Result<ModelRegistry, String> {
    ModelRegistry::from_sources("models.yaml", text, CARDS).map_err(|error| error.to_string())
}

fn registry() -> ModelRegistry {
    load(REGISTRY).expect("a registry")
}

fn model(id: &str, digit: &str) -> ModelRef {
    ModelRef {
        id: id.to_owned(),
        sha256: digit.repeat(64),
    }
}

/// Three templates: for triage, for another use, and for none that it names.
fn templates() -> TemplateSet {
    let other = TRIAGE
        .replace("triage.v1", "other.v1")
        .replace("use_case: triage", "use_case: translation");
    let plain = TRIAGE
        .replace("triage.v1", "plain.v1")
        .replace("use_case: triage\n", "");
    let sources = [
        ("other.v1.yaml", other.as_str()),
        ("plain.v1.yaml", &plain),
        ("triage.v1.yaml", TRIAGE),
    ];
    TemplateSet::from_sources(sources).expect("templates")
}

fn rules() -> RuleSet {
    let policy = Policy::from_source("policy.yaml", POLICY).expect("a policy");
    RuleSet::new(templates(), policy).expect("a rule set")
}

/// The code of the denial, or that there was none.
fn decided(rules: &RuleSet, model: ModelRef, template: &str) -> &'static str {
    let request = CallRequest {
        identity: "kiosk".parse().expect("an identity"),
        scopes: vec![template.to_owned()],
        template: template.to_owned(),
        variables: BTreeMap::new(),
        max_tokens: None,
        temperature: None,
        seed: None,
        model,
        source: Source::Network,
        time_unix_s: 1_800_000_000,
    };
    match decide(rules, &request) {
        Decision::Allow(_) => "allowed",
        Decision::Deny(denial) => {
            assert_eq!(denial.class(), DenialClass::Forbidden, "{denial}");
            denial.code()
        }
    }
}

#[test]
fn an_entry_says_what_the_file_says() {
    let registry = registry();
    assert_eq!(registry.approved_risk(), Risk::Medium);
    let ids: Vec<&str> = registry.iter().map(|entry| entry.id()).collect();
    assert_eq!(ids, ["Large_2.5", "small-1"]);
    let small = registry.find(&model("small-1", "a")).expect("an entry");
    let uses: Vec<&str> = small.intended_uses().iter().map(UseCase::as_str).collect();
    assert_eq!(uses, ["test-generation", "triage"]);
    assert_eq!((small.version(), small.provider()), ("1", "somebody"));
    assert_eq!(small.limitations(), ["Knows little."]);
    assert_eq!(small.data_provenance(), "a test");
    assert_eq!((small.licence(), small.risk()), ("Apache-2.0", Risk::Low));
    assert_eq!(small.card(), "small-1.md");
    // `printf '# small-1\n' | sha256sum`
    assert_eq!(
        small.card_sha256(),
        "163ca3c1a050c0c8282dbcf8e2b360bc591eb1111f149860117cba96132fdbac"
    );
    assert!(registry.approves(small));
    let large = registry.find(&model("Large_2.5", "b")).expect("an entry");
    assert!(!registry.approves(large));
    assert!(registry.find(&model("small-1", "b")).is_none());
}

#[test]
fn what_is_wrong_is_named_with_line_and_field() {
    let with = |from: &str, to: &str| {
        assert!(REGISTRY.contains(from), "{from}");
        REGISTRY.replacen(from, to, 1)
    };
    let without = |line: &str| with(&format!("    {line}\n"), "");
    let sha = "a".repeat(64);
    let long = "x".repeat(1025);
    let cases: Vec<(String, &str)> = vec![
        (
            without("card: small-1.md"),
            "models.yaml:5: field `models.small-1.card` is missing; write the model's card into a file beside the registry and name it here",
        ),
        (
            with("card: small-1.md", "card: \"\""),
            "models.yaml:15: field `models.small-1.card` is empty",
        ),
        (
            with("card: small-1.md", "card: small-2.md"),
            "models.yaml:15: field `models.small-1.card` names `small-2.md`: there is no such file",
        ),
        (
            with("small-1.md", "../small-1.md"),
            "must be a file beside the registry",
        ),
        (
            with("small-1.md", "/etc/passwd"),
            "must be a file beside the registry",
        ),
        (
            with("small-1.md", "./small-1.md"),
            "must be a file beside the registry",
        ),
        (
            with("  - id: small-1", "  - version: \"0\""),
            "models.yaml:6:",
        ),
        (
            with("id: small-1\n    version: \"1\"", "version: \"1\""),
            "models.yaml:5: field `models[1].id` is missing",
        ),
        (
            with("id: small-1", "id: small 1"),
            "models.yaml:5: field `models[1].id` must be 1 to 64 of A-Z a-z 0-9 . _ -",
        ),
        (
            with(&sha, &"A".repeat(64)),
            "models.yaml:8: field `models.small-1.sha256` must be 64 lower-case",
        ),
        (with(&sha, "aa"), "must be 64 lower-case"),
        (
            without("version: \"1\""),
            "field `models.small-1.version` is missing",
        ),
        (
            without("provider: somebody"),
            "field `models.small-1.provider` is missing",
        ),
        (
            with("provider: somebody", "provider: \" \""),
            "models.yaml:7: field `models.small-1.provider` is empty; write who made the model",
        ),
        (
            without("data_provenance: a test"),
            "field `models.small-1.data_provenance` is missing",
        ),
        (
            without("licence: Apache-2.0"),
            "field `models.small-1.licence` is missing",
        ),
        (
            without("risk: low"),
            "field `models.small-1.risk` is missing",
        ),
        (
            with("risk: low", "risk: tiny"),
            "models.yaml:14: field `models.small-1.risk` must be low, medium or high",
        ),
        (
            with("risk: low", "risk: \"\""),
            "field `models.small-1.risk` is empty; write low, medium or high",
        ),
        (
            with("[triage, test-generation]", "[]"),
            "models.yaml:9: field `models.small-1.intended_uses` is empty",
        ),
        (
            with("[triage, test-generation]", "[triage, triage]"),
            "holds `triage` twice",
        ),
        (
            with("[triage, test-generation]", "[Triage]"),
            "models.yaml:9: field `models.small-1.intended_uses` holds `Triage`, not a use case: it holds a character that is not allowed",
        ),
        (
            with("[triage, test-generation]", "[test--generation]"),
            "does not stand between two words",
        ),
        (
            with("\n      - Knows little.", " []"),
            "field `models.small-1.limitations` is empty; write what the model cannot do",
        ),
        (
            with("Knows little.", "\"\""),
            "models.yaml:11: field `models.small-1.limitations` is empty",
        ),
        (
            with("a test", &long),
            "field `models.small-1.data_provenance` is longer than 1024 bytes",
        ),
        (
            with("a test", "\"a\\tb\""),
            "field `models.small-1.data_provenance` holds a control character",
        ),
        (
            with("licence:", "license:"),
            "models.yaml:13:5: unknown field `license`",
        ),
        (
            with("version: 1\n", "version: 2\n"),
            "models.yaml:2: field `version` must be 1",
        ),
        (
            with("approved_risk: medium", "approved_risk: none"),
            "models.yaml:3: field `approved_risk` must be low, medium or high",
        ),
        (with("approved_risk: medium\n", ""), "approved_risk"),
        (
            with("Large_2.5", "small-1").replace(&"b".repeat(64), &sha),
            "models.yaml:16: field `models.small-1.sha256` is that of the entry in line 5; keep one of the two",
        ),
        (with("id: small-1", "id: &x small-1"), "anchors"),
        ("models: [".to_owned(), "models.yaml:"),
        (String::new(), "models.yaml:"),
        (
            format!("{}{}", with("models:\n", "models: [\n"), "{}, ".repeat(300)),
            "models.yaml:",
        ),
    ];
    let mut failures = Vec::new();
    for (text, expected) in cases {
        let message = load(&text).err();
        let message = message.unwrap_or_else(|| "it was accepted".to_owned());
        if !message.contains(expected) {
            failures.push(format!("expected {expected:?}, got {message:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let many = format!(
        "version: 1\napproved_risk: low\nmodels: [{}]\n",
        "{}, ".repeat(257)
    );
    let error = load(&many).expect_err("too many");
    assert!(
        error.contains("models.yaml:3: field `models` holds more than 256"),
        "{error}"
    );
}

#[test]
fn an_empty_card_is_none() {
    let empty = [("small-1.md", " \n"), ("cards/large.md", "# large\n")];
    let error = ModelRegistry::from_sources("models.yaml", REGISTRY, empty);
    let error = error.expect_err("no card").to_string();
    assert!(
        error.contains(
            "models.yaml:15: field `models.small-1.card` names `small-1.md`, which is empty"
        ),
        "{error}"
    );
}

/// A folder with the registry and its cards.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("cards")).expect("a folder");
    fs::write(folder.path().join("models.yaml"), REGISTRY).expect("a file");
    for (card, text) in CARDS {
        fs::write(folder.path().join(card), text).expect("a file");
    }
    folder
}

#[test]
fn cards_are_read_from_the_folder_of_the_registry_and_from_nowhere_else() {
    let load = |folder: &Path| ModelRegistry::load(&folder.join("models.yaml"));
    let whole = folder();
    let loaded = load(whole.path()).expect("a registry");
    assert_eq!(loaded.checksum(), registry().checksum());

    #[track_caller]
    fn check(change: impl Fn(&Path), expected: &str) {
        let folder = folder();
        change(folder.path());
        let error = ModelRegistry::load(&folder.path().join("models.yaml"));
        let error = error.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("models.yaml:"), "{error}");
    }
    let small = |folder: &Path| folder.join("small-1.md");
    check(
        |folder| fs::remove_file(small(folder)).expect("removed"),
        "cannot be read",
    );
    check(
        |folder| {
            fs::rename(small(folder), folder.join("real.md")).expect("moved");
            symlink("real.md", small(folder)).expect("a link");
        },
        "is not a regular file",
    );
    check(
        |folder| {
            fs::remove_file(small(folder)).expect("removed");
            fs::create_dir(small(folder)).expect("a folder");
        },
        "is not a regular file",
    );
    check(
        |folder| {
            fs::rename(folder.join("cards"), folder.join("elsewhere")).expect("moved");
            symlink("elsewhere", folder.join("cards")).expect("a link");
        },
        "is a link",
    );
    check(
        |folder| fs::write(small(folder), "x".repeat(CARD_BYTES_MAX + 1)).expect("a file"),
        "is larger than",
    );
    check(
        |folder| fs::write(small(folder), [0xff]).expect("a file"),
        "not valid UTF-8",
    );
}

#[test]
fn every_call_asks_the_registry() {
    let without = rules();
    let anything = model("anything", "0");
    assert_eq!(decided(&without, anything, "other.v1"), "allowed");

    let asking = rules().with_registry(registry());
    let small = || model("small-1", "a");
    for (model, template, expected) in [
        (small(), "triage.v1", "allowed"),
        (small(), "other.v1", "model-use"),
        (small(), "plain.v1", "model-use"),
        (model("small-1", "c"), "triage.v1", "model-mismatch"),
        (model("small-2", "a"), "triage.v1", "model-unregistered"),
        (model("Large_2.5", "b"), "triage.v1", "model-risk"),
    ] {
        let shown = format!("{model:?} {template}");
        assert_eq!(decided(&asking, model, template), expected, "{shown}");
    }

    let raised = REGISTRY.replace("approved_risk: medium", "approved_risk: high");
    let raised = rules().with_registry(load(&raised).expect("a registry"));
    for template in ["triage.v1", "other.v1", "plain.v1"] {
        let large = model("Large_2.5", "b");
        assert_eq!(decided(&raised, large, template), "allowed", "{template}");
    }
}

#[test]
fn a_start_is_told_what_to_do() {
    let rules = rules().with_registry(registry());
    rules.require_model(&model("small-1", "a")).expect("it may");
    for (model, expected) in [
        (
            model("small-2", "a"),
            "models.yaml: the model `small-2` is not in the registry of models; `postern model register MANIFEST` prints its entry, and `[governance] models` or `--models` names the registry that holds it",
        ),
        (
            model("small-1", "c"),
            "models.yaml:5: the model `small-1` is in the registry of models with another SHA-256 (registered aaaaaaaaaaaa, given cccccccccccc); use the registered file, or register this one",
        ),
        (
            model("Large_2.5", "b"),
            "models.yaml:16: the model `Large_2.5` has the risk high, and only risks up to medium are approved; serve another model, or raise `approved_risk` on purpose",
        ),
    ] {
        let error = rules.require_model(&model).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    let elsewhere = REGISTRY.replace("[triage, test-generation]", "[poetry]");
    let elsewhere = load(&elsewhere).expect("a registry");
    let error = elsewhere.require(&model("small-1", "a"), &templates());
    let error = error.expect_err("nothing is covered").to_string();
    assert_eq!(
        error,
        "models.yaml:5: the model `small-1` is meant for poetry, and no template is: there are \
         other.v1 (translation), plain.v1 (any), triage.v1 (triage); serve another model, or extend \
         `intended_uses` if the model was judged for that"
    );
}

#[test]
fn the_checksum_follows_the_content_and_not_the_layout() {
    let registry = registry();
    let same = [
        format!("# a comment\n{REGISTRY}"),
        REGISTRY.replace("[triage, test-generation]", "[test-generation, triage]"),
    ];
    for text in same {
        let other = load(&text).expect("a registry");
        assert_eq!(other.checksum(), registry.checksum());
    }
    for (from, to) in [
        ("approved_risk: medium", "approved_risk: low"),
        ("somebody", "nobody"),
        ("Knows little.", "Knows nothing."),
        ("risk: low", "risk: medium"),
        ("test-generation", "summary"),
    ] {
        let other = load(&REGISTRY.replacen(from, to, 1)).expect("a registry");
        assert_ne!(other.checksum(), registry.checksum(), "{from}");
    }
    let cards = [
        ("small-1.md", "# another\n"),
        ("cards/large.md", "# large\n"),
    ];
    let recarded = ModelRegistry::from_sources("models.yaml", REGISTRY, cards);
    let recarded = recarded.expect("a registry");
    assert_ne!(recarded.checksum(), registry.checksum());

    let rules = rules();
    let without = rules.checksum().to_owned();
    let with = rules.clone().with_registry(registry);
    assert_ne!(with.checksum(), without);
    let other = rules.with_registry(recarded);
    assert_ne!(other.checksum(), with.checksum());
}

#[test]
fn a_use_case_is_part_of_a_template_in_every_format() {
    let with = |text: &str, file: &str| {
        let set = TemplateSet::from_sources([(file, text)]).expect("a template");
        let template = set.iter().next().cloned();
        template.expect("one template")
    };
    let yaml = with(TRIAGE, "triage.v1.yaml");
    assert_eq!(yaml.use_case, Some("triage".parse().expect("a use case")));
    let json = r#"{"id": "triage.v1", "description": "d", "author": "a", "intent": "i", "model": "m",
        "use_case": "triage", "risk": "low", "max_tokens": 8, "content": "hello"}"#;
    let markdown = "---\nmodel: m\nconfig: {maxOutputTokens: 8}\nmetadata:\n  id: triage.v1\n  \
        description: d\n  author: a\n  intent: i\n  use_case: triage\n  risk: low\n---\nhello";
    let json = with(json, "triage.v1.json");
    let markdown = with(markdown, "triage.v1.md");
    assert_eq!(json.checksum, markdown.checksum);
    assert_eq!(json.use_case, yaml.use_case);

    // Without one, the checksum is what it was before there were any.
    let plain = TRIAGE.replace("use_case: triage\n", "");
    let plain = with(&plain, "triage.v1.yaml");
    assert_ne!(plain.checksum, yaml.checksum);
    assert_eq!(
        plain.checksum,
        "029b942105cb71856137b019b0959236c00d0858e25619efc587cc993596121e"
    );
    for (bad, expected) in [
        ("any", "triage.v1.yaml:5: field `use_case` cannot be `any`"),
        ("Triage", "triage.v1.yaml:5:11: not a use case"),
        ("a-", "does not stand between two words"),
        ("\"\"", "it is empty"),
    ] {
        let text = TRIAGE.replace("use_case: triage", &format!("use_case: {bad}"));
        let error = TemplateSet::from_sources([("triage.v1.yaml", text.as_str())]);
        let error = error.expect_err(bad).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_shipped_registry_holds_the_shipped_model_for_its_template() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = fs::read(repository.join("models/coffee/manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let text = |field: &str| manifest[field].as_str().expect("a text").to_owned();
    let coffee = ModelRef {
        id: text("id"),
        sha256: text("sha256"),
    };
    let registry = ModelRegistry::load(&repository.join("deploy/policy/models.yaml"));
    let registry = registry.expect("the registry loads");
    let templates = TemplateSet::load(&repository.join("deploy/prompts")).expect("templates");
    registry.require(&coffee, &templates).expect("it may serve");
    let covered: Vec<&str> = templates
        .iter()
        .filter(|template| registry.permit(&coffee, template).is_ok())
        .map(|template| template.id.as_str())
        .collect();
    assert_eq!(covered, ["coffee.v1"]);
}
