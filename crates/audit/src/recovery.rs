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
use std::sync::{Arc, Mutex};

use rustix::fs::{Advice, fadvise};

use crate::calls::CallStep;
use crate::checkpoint::SigningKey;
use crate::clear::Subject;
use crate::clock::monotonic_us;
use crate::composer::{Composer, Opening};
use crate::config::AuditConfig;
use crate::content::{Content, Contents};
use crate::encoding::encode_entry;
use crate::entry::{Cut, Entry};
use crate::error::AuditError;
use crate::expiry;
use crate::group::End;
use crate::history::History;
use crate::leaves::LeafCache;
use crate::log::Recovery;
use crate::presence::Identity;
use crate::retention::Inventory;
use crate::scan::{Frame, Joint, Record, SegmentScan};
use crate::scribe::{Draft, Scribe};
use crate::segment::{
    SEGMENTS_MAX, STAGED_NAME, count_segments, open_to_read, publish, remove_staged, segment_path,
    stage, sync_directory, truncate,
};
use crate::walk::{Step, Walk, take_record};
use crate::writer::{SegmentFile, Writer};

/// The log as it was found.
struct Survey {
    joint: Joint,
    history: History,
    torn: Option<Cut>,
    leaves: LeafCache,
    inventory: Inventory,
}

/// The key that signs the log in `dir`. It is made with the log; a log that is there already is not
/// given another.
pub(crate) fn signing_key(dir: &Path, config: &AuditConfig) -> Result<SigningKey, AuditError> {
    let path = config.signing_key_path(dir);
    let name = config.key_name()?;
    let key = if count_segments(dir)? == 0 {
        SigningKey::load_or_create(&path, name).map(|(key, _)| key)
    } else {
        SigningKey::load(&path, name)
    };
    key.map_err(|error| AuditError::SigningKey {
        path,
        detail: error.to_string(),
    })
}

/// Recovers the log in `dir`, whose lock the caller holds, and goes on with it.
pub(crate) fn recover(
    dir: &Path,
    directory: Identity,
    config: &AuditConfig,
    scribe: Scribe,
) -> Result<(Composer, Writer, Recovery), AuditError> {
    settle(dir)?;
    expiry::finish(dir)?;
    let mut survey = survey(dir)?;
    check_signer(dir, &survey.history, &scribe)?;
    let mut recovery = Recovery {
        after_checkpoint: survey.history.after_checkpoint,
        ..Recovery::default()
    };
    finish_staged(dir, &mut survey, &mut recovery)?;
    finish_expiries(dir, &mut survey)?;
    recovery.records = survey.joint.tip.index();
    let (composer, writer) = begin((dir, directory), config, scribe, survey, &mut recovery)?;
    Ok((composer, writer, recovery))
}

/// Makes durable what an earlier process wrote and did not sync, and has it read from the disk
/// rather than from memory: after a failed sync the two may differ. That is the last segment, and
/// one that is staged and may get its name now.
fn settle(dir: &Path) -> Result<(), AuditError> {
    sync_directory(dir).map_err(|error| AuditError::io("sync", dir, error))?;
    if let Some(last) = count_segments(dir)?.checked_sub(1) {
        settle_file(&segment_path(dir, last))?;
    }
    settle_file(&dir.join(STAGED_NAME))
}

fn settle_file(path: &Path) -> Result<(), AuditError> {
    // What is not a plain file is refused, with its place, when it is read.
    let Ok(file) = open_to_read(path) else {
        return Ok(());
    };
    file.sync_all()
        .map_err(|error| AuditError::io("sync", path, error))?;
    if let Err(error) = fadvise(&file, 0, None, Advice::DontNeed) {
        ::log::debug!("{} stays in the page cache: {error}", path.display());
    }
    Ok(())
}

fn survey(dir: &Path) -> Result<Survey, AuditError> {
    let mut leaves = LeafCache::open(dir);
    let mut inventory = Inventory::default();
    let mut walk = Walk::open(dir, History::default(), None)?;
    let torn = loop {
        match walk.next()? {
            Step::Record(record, _) => {
                leaves.push(record.leaf);
                if record.has_content {
                    let key = (walk.segment(), record.clear.entry_type.class());
                    inventory.add(key, record.clear.wall_us, record.bytes);
                }
            }
            Step::Checkpoint => {}
            Step::Torn(cut) => break Some(cut),
            Step::End => break None,
        }
    };
    walk.check_unexplained()?;
    Ok(Survey {
        joint: walk.joint(),
        history: walk.into_history(),
        torn,
        leaves,
        inventory,
    })
}

/// Destroys content that was recorded as expired by a process that did not get to it.
fn finish_expiries(dir: &Path, survey: &mut Survey) -> Result<(), AuditError> {
    for key in std::mem::take(&mut survey.history.to_destroy) {
        // It may have been recorded twice, if the first try to destroy it failed.
        if !survey.inventory.has(key) {
            continue;
        }
        expiry::destroy(dir, key)?;
        survey.inventory.remove(key);
    }
    Ok(())
}

fn check_signer(dir: &Path, history: &History, scribe: &Scribe) -> Result<(), AuditError> {
    let Some(signer) = history.signer() else {
        return Ok(());
    };
    let (expected, found) = (signer.to_string(), scribe.signer());
    if expected == found {
        return Ok(());
    }
    Err(AuditError::OtherSigner {
        dir: dir.to_owned(),
        expected,
        found,
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
    match Staged::read(&path, survey) {
        Ok(staged) => {
            recovery.torn_bytes = survey
                .torn
                .as_ref()
                .map_or(staged.cut_bytes, |cut| cut.bytes);
            recovery.interrupted = staged.interrupted;
            cut_tail(dir, survey.torn.take())?;
            publish(dir, survey.joint.segment)
                .map_err(|error| AuditError::io("publish", &path, error))?;
            for record in staged.records {
                survey.leaves.push(record.leaf);
                let key = (survey.joint.segment, record.clear.entry_type.class());
                survey
                    .inventory
                    .add(key, record.clear.wall_us, record.bytes);
            }
            survey.joint = staged.joint;
            survey.history = staged.history;
            Ok(())
        }
        Err(AuditError::Broken { reason, .. }) => {
            ::log::info!("removing the unfinished {}: {reason}", path.display());
            remove_staged(dir).map_err(|error| AuditError::io("remove", &path, error))
        }
        Err(error) => Err(error),
    }
}

/// A whole segment that follows the log and has no name yet.
struct Staged {
    joint: Joint,
    history: History,
    records: Vec<Record>,
    interrupted: Vec<u64>,
    /// What it says was cut, where that can be read.
    cut_bytes: u64,
}

impl Staged {
    fn read(path: &Path, survey: &Survey) -> Result<Self, AuditError> {
        let mut scan = SegmentScan::open(path.to_owned(), survey.joint.clone(), false)?;
        let mut contents = Contents::new(None);
        let mut staged = Self {
            joint: survey.joint.clone(),
            history: survey.history.clone(),
            records: Vec::new(),
            interrupted: Vec::new(),
            cut_bytes: 0,
        };
        staged.history.begin_segment(&scan)?;
        loop {
            match scan.next()? {
                Frame::Record(record) => {
                    let history = &mut staged.history;
                    let content = take_record(history, Some(&mut contents), &mut scan, &record)?;
                    staged.records.push(record);
                    if let Subject::Call(admitted_index) = record.clear.subject {
                        staged.interrupted.push(admitted_index);
                    }
                    if let Some(Content::Entry(Entry::Opened { cut: Some(cut), .. })) = content {
                        staged.cut_bytes = cut.bytes;
                    }
                }
                Frame::Checkpoint(note) => staged.history.checkpoint(&scan, note)?,
                Frame::Signature(signature) => staged.history.signature(signature),
                Frame::Torn(_) | Frame::End => break,
            }
        }
        staged.history.end_segment(&scan)?;
        staged.joint = Joint {
            segment: survey.joint.segment + 1,
            tip: scan.tip().clone(),
        };
        Ok(staged)
    }
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

/// Begins the segment of this run, with the records that tell how it was found, and a checkpoint.
fn begin(
    (dir, directory): (&Path, Identity),
    config: &AuditConfig,
    scribe: Scribe,
    survey: Survey,
    recovery: &mut Recovery,
) -> Result<(Composer, Writer), AuditError> {
    let Survey {
        joint: Joint { segment, mut tip },
        mut history,
        torn,
        mut leaves,
        mut inventory,
    } = survey;
    let path = segment_path(dir, segment);
    let failed = |error| AuditError::io("begin segment", &path, error);
    if segment >= SEGMENTS_MAX {
        return Err(failed(io::Error::other("all segment numbers are used")));
    }
    let (mut bytes, mut sealer) = scribe.begin_segment(segment, &mut tip)?;
    let header_bytes = bytes.len() as u64;
    for entry in opening_entries(&history, torn.clone()) {
        let step = CallStep::of(&entry);
        let applied = history.calls.apply(&step, tip.index());
        applied.expect("only open calls are closed");
        let written = scribe.record(&mut sealer, &mut tip, &draft(&entry), &mut bytes)?;
        leaves.push(written.leaf);
        inventory.add((segment, written.class), written.wall_us, written.bytes);
        if let Entry::Interrupted { admitted_index, .. } = entry {
            recovery.interrupted.push(admitted_index);
        }
    }
    let note = scribe.checkpoint(&mut tip, &mut bytes);
    scribe.sign(&mut tip, &mut bytes);
    let (file, identity) = stage(dir, &bytes).map_err(failed)?;
    recovery.torn_bytes += torn.as_ref().map_or(0, |cut| cut.bytes);
    cut_tail(dir, torn)?;
    publish(dir, segment).map_err(failed)?;
    let end = End {
        tip,
        segment_bytes: bytes.len() as u64,
        records_after_checkpoint: 0,
        checkpoint_us: monotonic_us(),
    };
    let opening = Opening {
        scribe,
        sealer,
        header_bytes,
        calls: history.calls,
        end: end.clone(),
    };
    let segment = SegmentFile {
        number: segment,
        file,
        identity,
        path,
    };
    let writer = Writer {
        dir: dir.to_owned(),
        directory,
        segment,
        end,
        note: note.into(),
        leaves: Arc::new(Mutex::new(leaves)),
        inventory,
    };
    writer.save_checkpoint();
    Ok((Composer::new(config, opening), writer))
}

fn opening_entries(history: &History, cut: Option<Cut>) -> Vec<Entry> {
    let opened = Entry::Opened {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cut,
    };
    let interrupted = history.calls.list().into_iter();
    let interrupted = interrupted.map(|call| Entry::Interrupted {
        request_id: String::new(),
        admitted_index: call.admitted_index,
    });
    std::iter::once(opened).chain(interrupted).collect()
}

fn draft(entry: &Entry) -> Draft {
    Draft {
        entry_type: entry.entry_type(),
        subject: Subject::of(entry),
        json: encode_entry(entry),
    }
}
