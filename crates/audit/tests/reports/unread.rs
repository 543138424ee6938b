//! Records whose content cannot be read are counted, never guessed.

use std::path::Path;

use postern_audit::{
    AuditConfig, AuditLog, Collector, Content, Criteria, Cursor, Delivery, Entry, Exporter, Filter,
    Format, Identities, Outcome, Record, Stored, Unread, read, read_with,
};
use tempfile::TempDir;

use crate::records::{admitted, completed, refused, time};

/// A log of one call and one refusal, sealed to these auditors.
fn sealed_log(dir: &Path, auditor: &Identities) {
    let config = AuditConfig {
        recipients: auditor.recipients().keys().collect(),
        ..AuditConfig::default()
    };
    let (log, _) = AuditLog::open(dir, &config).unwrap();
    let admission = Entry::Admitted(admitted("a", "kiosk", "coffee.v1"));
    let receipt = log.append(&admission).unwrap();
    let end = completed("a", receipt.index, Outcome::Completed);
    log.append(&Entry::Completed(end)).unwrap();
    log.append(&Entry::Refused(refused("r", None, "token-missing")))
        .unwrap();
}

fn with_log(check: impl FnOnce(&Path, &Path, Identities)) {
    let dir = TempDir::new().unwrap();
    let auditor = Identities::generate();
    let log = dir.path().join("log");
    sealed_log(&log, &auditor);
    check(&log, dir.path(), auditor);
}

fn all(records: impl Iterator<Item = Result<Stored, postern_audit::AuditError>>) -> Vec<Stored> {
    records.map(|stored| stored.unwrap()).collect()
}

#[test]
fn sealed_records_are_none_without_a_key_and_whole_with_it() {
    with_log(|log, _, auditor| {
        let sealed = all(read(log).unwrap());
        assert_eq!(sealed.len(), 4);
        assert!(sealed.iter().all(|stored| Record::of(stored).is_none()));
        let ends: Vec<_> = sealed.iter().map(|stored| stored.ended_call).collect();
        assert_eq!(ends, [None, None, Some(1), None]);
        let opened = all(read_with(log, auditor).unwrap());
        assert!(opened.iter().all(|stored| Record::of(stored).is_some()));
    });
}

#[test]
fn figures_say_how_much_they_do_not_know() {
    with_log(|log, _, auditor| {
        let mut collector = Collector::new();
        let mut sealed = all(read(log).unwrap());
        sealed[3].content = Content::Expired;
        for stored in &sealed {
            collector.add_unread(stored);
        }
        let stats = collector.stats();
        let unread = Unread {
            sealed: 3,
            expired: 1,
        };
        assert_eq!((stats.records, stats.unread), (0, unread));
        let told = "3 sealed and 1 expired, not counted";
        assert!(stats.to_text().contains(told), "{}", stats.to_text());
        assert!(stats.to_html("pi-5").contains(told));

        // A call whose end cannot be read is open no longer.
        let opened = all(read_with(log, auditor).unwrap());
        let mut collector = Collector::new();
        collector.add(&Record::of(&opened[1]).unwrap());
        assert_eq!(collector.stats().totals.open_calls, 1);
        collector.add_unread(&sealed[2]);
        assert_eq!(collector.stats().totals.open_calls, 0);
    });
}

#[test]
fn a_delivery_goes_on_past_what_cannot_be_read() {
    with_log(|log, dir, _| {
        let path = dir.join("siem.cursor");
        let mut cursor = Cursor::open(&path).unwrap();
        let mut exporter = Exporter::new(Format::Ocsf, "pi-5", Vec::new());
        for stored in all(read(log).unwrap()) {
            let Delivery::Due(mark) = cursor.judge(stored.index, &stored.head).unwrap() else {
                panic!("nothing was delivered yet");
            };
            exporter.skip_unread(&stored);
            cursor.note_delivered(mark).unwrap();
        }
        cursor.judge_end().unwrap();
        assert_eq!(cursor.next_index(), 4);
        assert!(exporter.finish().unwrap().is_empty());
    });
}

#[test]
fn only_its_time_chooses_what_cannot_be_read() {
    with_log(|log, _, _| {
        let stored = Stored {
            time: time(5),
            ..all(read(log).unwrap()).remove(0)
        };
        let passes = |criteria| Filter::new(criteria).passes_unread(&stored);
        assert!(passes(Criteria::default()));
        let since = |seconds| Criteria {
            since: Some(time(seconds)),
            ..Criteria::default()
        };
        assert!(passes(since(5)) && !passes(since(6)));
        assert!(!passes(Criteria {
            identity: Some("kiosk".to_owned()),
            ..since(5)
        }));
    });
}
