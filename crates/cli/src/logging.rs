//! Where log lines go: to the journal with structured fields under systemd, else readable to
//! standard error.
//!
//! The one place that reads `RUST_LOG`. Log lines never hold a secret, a token or a prompt: that
//! is the duty of whoever writes them, and no code here could repair it.

use std::io::Write;

use env_logger::{Builder, Env, Logger};
use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Starts logging; `default` holds where `RUST_LOG` says nothing.
///
/// # Errors
/// The journal's socket cannot be opened, or logging was started before.
pub(crate) fn start(default: LevelFilter) -> anyhow::Result<()> {
    let filter = Builder::from_env(Env::default().default_filter_or(default.as_str()))
        .format(|out, record| {
            let level_style = out.default_level_style(record.level());
            let level = record.level();
            write!(
                out,
                "{} {level_style}{level:<5}{level_style:#} {}",
                out.timestamp_seconds(),
                record.args()
            )?;
            let mut fields = FieldsAsText(String::new());
            let _infallible = record.key_values().visit(&mut fields);
            writeln!(out, "{}", fields.0)
        })
        .build();
    log::set_max_level(filter.filter());
    if connected_to_journal() {
        let journal = JournalLog::new()?.with_syslog_identifier("postern".to_owned());
        log::set_boxed_logger(Box::new(FilteredJournal { filter, journal }))?;
    } else {
        log::set_boxed_logger(Box::new(filter))?;
    }
    Ok(())
}

/// The journal keeps levels itself but has no filter by module.
struct FilteredJournal {
    filter: Logger,
    journal: JournalLog,
}

impl Log for FilteredJournal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.filter.matches(record) {
            self.journal.log(record);
        }
    }

    fn flush(&self) {
        self.journal.flush();
    }
}

struct FieldsAsText(String);

impl<'kvs> VisitSource<'kvs> for FieldsAsText {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        use std::fmt::Write as _;
        let _infallible = write!(self.0, " {key}={value}");
        Ok(())
    }
}
