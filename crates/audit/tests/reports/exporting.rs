//! Every kind of record in every form.

use std::collections::BTreeMap;

use postern_audit::{AuditError, Entry, Exporter, Format, Outcome, Record};
use serde_json::Value;

use crate::records::{admitted, completed, every_kind, record};

/// The lines of all records, each with what its record shows.
pub(crate) fn lines(format: Format) -> Vec<(&'static str, Value)> {
    let kinds = every_kind();
    let records = kinds.iter().map(|(_, record)| record);
    let text = export(format, records);
    let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let shown = kinds.iter().map(|(shows, _)| *shows);
    shown.zip(values).collect()
}

fn export<'a>(format: Format, records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut exporter = Exporter::new(format, "pi-5", Vec::new());
    for record in records {
        exporter.write(record).unwrap();
    }
    String::from_utf8(exporter.finish().unwrap()).unwrap()
}

/// Admissions look alike, so one is enough to be looked at. The version changes with every release.
fn check_snapshot(format: Format) {
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let without_version = |line: Value| -> Value {
        let text = line
            .to_string()
            .replace(&version, "\"version\":\"[version]\"");
        serde_json::from_str(&text).unwrap()
    };
    let lines = lines(format).into_iter();
    let lines: BTreeMap<&str, Value> = lines
        .map(|(shows, line)| (shows, without_version(line)))
        .collect();
    insta::with_settings!({ sort_maps => true, omit_expression => true }, {
        insta::assert_json_snapshot!(format.as_str(), lines);
    });
}

#[test]
fn json_lines_are_as_they_were() {
    check_snapshot(Format::JsonLines);
}

#[test]
fn ocsf_lines_are_as_they_were() {
    check_snapshot(Format::Ocsf);
}

#[test]
fn ecs_lines_are_as_they_were() {
    check_snapshot(Format::Ecs);
}

#[test]
fn a_record_is_one_line_and_always_the_same() {
    for format in Format::ALL {
        let kinds = every_kind();
        let text = export(format, kinds.iter().map(|(_, record)| record));
        assert_eq!(text.lines().count(), kinds.len());
        assert!(text.ends_with("}\n"));
        let again = export(format, kinds.iter().map(|(_, record)| record));
        assert_eq!(text, again);
    }
}

#[test]
fn json_lines_hold_the_whole_entry() {
    for (shows, record) in every_kind() {
        let line: Value = serde_json::from_str(&export(Format::JsonLines, [&record])).unwrap();
        let entry: Entry = serde_json::from_value(line["entry"].clone()).unwrap();
        assert_eq!(entry, record.entry, "{shows}");
        assert_eq!(line["index"], record.index);
        let time: jiff::Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(time, record.time);
    }
}

#[test]
fn an_end_names_the_caller_of_an_admission_that_was_skipped() {
    let admission = record(1, Entry::Admitted(admitted("a", "kiosk", "coffee.v1")));
    let end = record(2, Entry::Completed(completed("a", 1, Outcome::Completed)));
    let mut exporter = Exporter::new(Format::Ecs, "pi-5", Vec::new());
    exporter.skip(&admission);
    exporter.write(&end).unwrap();
    let line: Value = serde_json::from_slice(&exporter.finish().unwrap()).unwrap();
    assert_eq!(line["user"]["name"], "kiosk");
    assert_eq!(line["gen_ai"]["response"]["model"], "coffee-1");
}

#[test]
fn numbers_that_a_receiver_cannot_hold_are_left_out() {
    let mut end = completed("a", 1, Outcome::Completed);
    end.usage.prompt_tokens = u64::MAX;
    end.usage.completion_tokens = 1 << 31;
    end.timings.total_us = u64::MAX;
    let end = Entry::Completed(end);
    let record = Record {
        index: u64::MAX,
        ..record(2, end)
    };
    for format in [Format::Ocsf, Format::Ecs] {
        let text = export(format, [&record]);
        let value: Value = serde_json::from_str(&text).unwrap();
        check_numbers(&value);
        for token_count in [
            "prompt_tokens",
            "completion_tokens",
            "input_tokens",
            "output_tokens",
        ] {
            assert!(!text.contains(token_count), "{text}");
        }
    }
}

fn check_numbers(value: &Value) {
    match value {
        Value::Number(number) => assert!(number.is_i64() || number.is_f64(), "{number}"),
        Value::Array(elements) => elements.iter().for_each(check_numbers),
        Value::Object(members) => members.values().for_each(check_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn a_writer_that_fails_is_heard() {
    let mut room = [0_u8; 64];
    let mut exporter = Exporter::new(Format::JsonLines, "pi-5", &mut room[..]);
    let (_, record) = &every_kind()[2];
    let error = exporter.write(record).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
}

#[test]
fn forms_read_back_and_others_are_refused() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
    }
    let error = "csv".parse::<Format>().unwrap_err();
    assert!(matches!(&error, AuditError::Format { found } if found == "csv"));
    assert_eq!(
        error.to_string(),
        "`csv` is no form of export; write jsonl, ocsf or ecs"
    );
}
