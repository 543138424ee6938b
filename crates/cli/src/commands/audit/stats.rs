//! `postern audit stats`: figures about a log, as text, JSON or a page.

use postern_audit::{Collector, Criteria, Filter, Record, Stats};

use super::{classified, inputs};
use crate::arguments::audit::{StatsArguments, check_times};
use crate::state_folder::{Existing, write_private};
use crate::terminal::Screen;

pub(super) fn run(arguments: &StatsArguments) -> anyhow::Result<()> {
    let stats = collect(arguments)?;
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&stats);
    }
    let Some(path) = &arguments.html else {
        return Ok(screen.write(&stats.to_text())?);
    };
    let dir = &arguments.dir;
    let signer = postern_audit::signer(dir).map_err(|error| classified(dir, error))?;
    let page = stats.to_html(signer.name().as_str());
    write_private(path, page.as_bytes(), Existing::Replace)?;
    Ok(screen.line(format_args!("wrote {}", path.display()))?)
}

fn collect(arguments: &StatsArguments) -> anyhow::Result<Stats> {
    let dir = &arguments.dir;
    check_times(arguments.since, arguments.until)?;
    let filter = Filter::new(Criteria {
        since: arguments.since,
        until: arguments.until,
        ..Criteria::default()
    });
    let mut collector = Collector::new();
    for stored in inputs::records(dir, arguments.auditor.identity_file.as_deref())? {
        let stored = stored.map_err(|error| classified(dir, error))?;
        match Record::of(&stored) {
            Some(record) if filter.passes_record(&record) => collector.add(&record),
            Some(record) => collector.skip(&record),
            None if filter.passes_unread(&stored) => collector.add_unread(&stored),
            None => collector.skip_unread(&stored),
        }
    }
    Ok(collector.stats())
}
