//! Opening a log: verify it, repair what a crash may have left, begin a new segment.
//!
//! Invariant: nothing is cut before the record of the cut is durable. The new segment, with the
//! `Opened` record that tells the cut and the `Interrupted` records that close unfinished calls,
//! is written and synced under its staged name; then the torn tail is cut; then the segment gets
//! its name. A crash at any point between leaves either the torn tail, and all is done again, or
//! a whole staged segment that follows the log, and it is finished. Absent: any repair of damage
//! that is not a torn tail.

use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use crate::calls::{CallStep, OpenCalls};
use crate::config::AuditConfig;
use crate::encoding::{encode_body, encode_entry};
use crate::entry::{Cut, Entry};
use crate::error::AuditError;
use crate::log::Recovery;
use crate::presence::Identity;
use crate::scan::{Frame, Joint, SegmentScan};
use crate::segment::{
    Header, SEGMENTS_MAX, STAGED_NAME, count_segments, encode_frame, encode_header, open_to_read,
    publish, remove_staged, segment_path, stage, sync_directory, truncate,
};
use crate::walk::{Step, Walk, apply};
use crate::writer::{Clock, Writer};

/// The log as it was found.
struct Survey {
    joint: Joint,
    calls: OpenCalls,
    torn: Option<Cut>,
}

/// Recovers the log in `dir`, whose lock the caller holds, and goes on with it.
pub(crate) fn recover(
    dir: &Path,
    directory: Identity,
    config: &AuditConfig,
    clock: Clock,
) -> Result<(Writer, Recovery), AuditError> {
    settle(dir)?;
    let mut survey = survey(dir)?;
    let mut recovery = Recovery::default();
    finish_staged(dir, &mut survey, &mut recovery)?;
    recovery.records = survey.joint.index;
    let writer = begin((dir, directory), config, clock, survey, &mut recovery)?;
    Ok((writer, recovery))
}

/// Makes durable what an earlier process wrote and did not sync, and has it read from the disk
/// rather than from memory: after a failed sync the two may differ.
fn settle(dir: &Path) -> Result<(), AuditError> {
    sync_directory(dir).map_err(|error| AuditError::io("sync", dir, error))?;
    let Some(last) = count_segments(dir)?.checked_sub(1) else {
        return Ok(());
    };
    let path = segment_path(dir, last);
    // What is not a plain file is refused, with its place, by the survey.
    let Ok(file) = open_to_read(&path) else {
        return Ok(());
    };
    file.sync_all()
        .map_err(|error| AuditError::io("sync", &path, error))?;
    if let Err(error) = fadvise(&file, 0, None, Advice::DontNeed) {
        ::log::debug!("{} stays in the page cache: {error}", path.display());
    }
    Ok(())
}

fn survey(dir: &Path) -> Result<Survey, AuditError> {
    let mut walk = Walk::open(dir)?;
    let torn = loop {
        match walk.next()? {
            Step::Record(_) => {}
            Step::Torn(cut) => break Some(cut),
            Step::End => break None,
        }
    };
    Ok(Survey {
        joint: walk.joint(),
        calls: walk.calls().clone(),
        torn,
    })
}

/// Finishes what a crash interrupted between staging a segment and naming it, or removes what was
/// not wholly staged.
fn finish_staged(
    dir: &Path,
    survey: &mut Survey,
    recovery: &mut Recovery,
) -> Result<(), AuditError> {
    let path = dir.join(STAGED_NAME);
    if !path.exists() {
        return Ok(());
    }
    let mut calls = survey.calls.clone();
    let mut told = Recovery::default();
    match read_staged(&path, survey.joint, &mut calls, &mut told) {
        Ok(joint) => {
            cut_tail(dir, survey.torn.take())?;
            publish(dir, survey.joint.segment)
                .map_err(|error| AuditError::io("publish", &path, error))?;
            survey.joint = joint;
            survey.calls = calls;
            *recovery = told;
            Ok(())
        }
        Err(AuditError::Broken { reason, .. }) => {
            ::log::info!("removing the unfinished {}: {reason}", path.display());
            remove_staged(dir).map_err(|error| AuditError::io("remove", &path, error))
        }
        Err(error) => Err(error),
    }
}

fn read_staged(
    path: &Path,
    joint: Joint,
    calls: &mut OpenCalls,
    told: &mut Recovery,
) -> Result<Joint, AuditError> {
    let mut scan = SegmentScan::open(path.to_owned(), joint, false)?;
    while let Frame::Record(record) = scan.next()? {
        apply(calls, &scan, &record)?;
        match record.entry {
            Entry::Opened { cut: Some(cut), .. } => told.torn_bytes = cut.bytes,
            Entry::Interrupted { request_id, .. } => told.interrupted.push(request_id),
            _ => {}
        }
    }
    Ok(scan.joint())
}

fn cut_tail(dir: &Path, torn: Option<Cut>) -> Result<(), AuditError> {
    let Some(cut) = torn else { return Ok(()) };
    let path = segment_path(dir, cut.segment);
    ::log::warn!(
        "cutting a torn write of {} bytes at byte {} of {}",
        cut.bytes,
        cut.offset,
        path.display()
    );
    truncate(&path, cut.offset).map_err(|error| AuditError::io("cut", &path, error))
}

/// Begins the segment of this run, with the records that tell how it was found.
fn begin(
    (dir, directory): (&Path, Identity),
    config: &AuditConfig,
    clock: Clock,
    survey: Survey,
    recovery: &mut Recovery,
) -> Result<Writer, AuditError> {
    let Survey {
        mut joint,
        mut calls,
        torn,
    } = survey;
    let segment = joint.segment;
    let path = segment_path(dir, segment);
    let failed = |error| AuditError::io("begin segment", &path, error);
    if segment >= SEGMENTS_MAX {
        return Err(failed(io::Error::other("all segment numbers are used")));
    }
    let (mut bytes, head) = encode_header(&Header {
        first_index: joint.index,
        previous_head: joint.head.to_string(),
        segment,
    });
    let header_bytes = bytes.len() as u64;
    joint.segment = segment + 1;
    joint.head = head;
    for entry in opening_entries(&calls, torn.clone()) {
        let body = encode_body(&encode_entry(&entry), joint.index, clock());
        joint.head = encode_frame(&mut bytes, &joint.head, body.as_bytes());
        calls
            .apply(&CallStep::of(&entry), joint.index)
            .expect("only open calls are closed");
        joint.index += 1;
        if let Entry::Interrupted { request_id, .. } = entry {
            recovery.interrupted.push(request_id);
        }
    }
    let staged = stage(dir, &bytes).map_err(failed)?;
    recovery.torn_bytes += torn.as_ref().map_or(0, |cut| cut.bytes);
    cut_tail(dir, torn)?;
    publish(dir, segment).map_err(failed)?;
    let lengths = (header_bytes, bytes.len() as u64);
    Ok(Writer::new(
        (dir, directory),
        config.segment_bytes_max,
        staged,
        lengths,
        joint,
        calls,
        clock,
    ))
}

fn opening_entries(calls: &OpenCalls, cut: Option<Cut>) -> Vec<Entry> {
    let opened = Entry::Opened {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cut,
    };
    let interrupted = calls.list().into_iter().map(|call| Entry::Interrupted {
        request_id: call.request_id,
        admitted_index: call.admitted_index,
    });
    std::iter::once(opened).chain(interrupted).collect()
}
