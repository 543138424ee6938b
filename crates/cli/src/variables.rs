//! Values of a template's variables, from the command line, a file or standard input.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, stdin};

use anyhow::Context;

/// Bytes of one value at most: no server takes more in one request.
const VALUE_BYTES_MAX: u64 = 64 << 20;

/// The variables by name, with `@file` and `@-` read.
///
/// # Errors
/// A name comes twice, or a file cannot be read, is too large or is not UTF-8.
pub(crate) fn read(written: &[(String, String)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    let mut stdin_taken = false;
    for (name, value) in written {
        let value = match value.strip_prefix('@') {
            None => value.clone(),
            Some("-") => {
                anyhow::ensure!(!stdin_taken, "standard input can fill only one variable");
                stdin_taken = true;
                read_value(name, "standard input", stdin())?
            }
            Some(path) => {
                let file = File::open(path)
                    .with_context(|| format!("variable `{name}`: cannot open {path}"))?;
                read_value(name, path, file)?
            }
        };
        anyhow::ensure!(
            variables.insert(name.clone(), value).is_none(),
            "variable `{name}` is given twice; give it once"
        );
    }
    Ok(variables)
}

fn read_value(name: &str, place: &str, source: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    source
        .take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("variable `{name}`: cannot read {place}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= VALUE_BYTES_MAX,
        "variable `{name}`: {place} has more than {VALUE_BYTES_MAX} bytes"
    );
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        anyhow::anyhow!("variable `{name}`: {place} is not UTF-8 (at byte {offset})")
    })
}
