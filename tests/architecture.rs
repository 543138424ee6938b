//! The import rules of `crates/README.md`, checked against what cargo says the workspace is.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{
    DependencyKind, Metadata, MetadataCommand, Package,
    camino::{Utf8Path, Utf8PathBuf},
};

/// For each crate, the crates of this workspace that its product code may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("postern-audit", &[]),
    ("postern-engine", &["postern-kernels"]),
    ("postern-governance", &[]),
    ("postern-kernels", &[]),
    (
        "postern-service",
        &["postern-audit", "postern-engine", "postern-governance"],
    ),
    ("postern-server", &["postern-service"]),
    (
        "postern-cli",
        &[
            "postern-audit",
            "postern-engine",
            "postern-governance",
            "postern-server",
            "postern-service",
        ],
    ),
];

/// Crates that never reach a device: they may import any other.
const DEVELOPMENT_ONLY: &[&str] = &[
    "postern-benches",
    "postern-testkit",
    "postern-tests",
    "postern-lab",
    "xtask",
];

/// The only names that the top level of the repository may hold, dotfiles aside.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "crates",
    "cross",
    "deploy",
    "models",
    "systemd",
    "target",
    "tests",
];

#[test]
fn every_crate_has_its_import_rule() {
    let ruled: BTreeSet<&str> = MAY_IMPORT
        .iter()
        .map(|(name, _)| *name)
        .chain(DEVELOPMENT_ONLY.iter().copied())
        .collect();
    let metadata = workspace();
    let existing: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(
        existing, ruled,
        "crates/README.md and this table must name every crate"
    );
}

#[test]
fn crates_import_only_what_the_rules_allow() {
    let metadata = workspace();
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let ours = names(&metadata);
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(allowed) = rules.get(package.name.as_str()) else {
            continue;
        };
        for import in product_imports(package) {
            if ours.contains(import) && !allowed.contains(&import) {
                broken.push(format!("{} imports {import}", package.name));
            }
        }
    }
    assert!(broken.is_empty(), "against the import rules: {broken:?}");
}

#[test]
fn development_crates_stay_out_of_the_product() {
    let metadata = workspace();
    let mut broken = Vec::new();
    for package in metadata.workspace_packages() {
        if DEVELOPMENT_ONLY.contains(&package.name.as_str()) {
            continue;
        }
        for import in product_imports(package) {
            if DEVELOPMENT_ONLY.contains(&import) {
                broken.push(format!("{} imports {import}", package.name));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "development crates in the product: {broken:?}"
    );
}

#[test]
fn the_engine_holds_no_async_and_no_http() {
    let metadata = workspace();
    let engine = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == "postern-engine")
        .expect("the engine is a crate of the workspace");
    for import in product_imports(engine) {
        assert!(
            !["axum", "hyper", "tokio", "tower"].contains(&import),
            "postern-engine imports {import}"
        );
    }
}

/// The compiler lets `cli` and `server` see the engine; this holds them to starting generations through `service`.
#[test]
fn only_the_service_starts_a_generation() {
    let root = workspace().workspace_root;
    let mut broken = Vec::new();
    for crate_name in ["cli", "server"] {
        for file in rust_files(&root.join("crates").join(crate_name).join("src")) {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            for forbidden in [".submit(", "Job {", "postern_engine::Job", "forced_"] {
                if text.contains(forbidden) {
                    broken.push(format!("{file} holds `{forbidden}`"));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "a generation started outside the service: {broken:?}"
    );
}

#[test]
fn the_top_level_holds_nothing_unexpected() {
    let root = workspace().workspace_root;
    let unexpected: Vec<String> = root
        .read_dir_utf8()
        .expect("the workspace root can be listed")
        .map(|entry| entry.expect("an entry can be read").file_name().to_owned())
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert!(unexpected.is_empty(), "at the top level: {unexpected:?}");
}

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata describes the workspace")
}

fn rust_files(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut files = Vec::new();
    for entry in folder
        .read_dir_utf8()
        .expect("a source folder can be listed")
    {
        let path = entry.expect("an entry can be read").into_path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension() == Some("rs") {
            files.push(path);
        }
    }
    files
}

fn names(metadata: &Metadata) -> BTreeSet<&str> {
    metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect()
}

/// Dependencies that reach the product: normal and build ones, not those of tests.
fn product_imports(package: &Package) -> impl Iterator<Item = &str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
}
