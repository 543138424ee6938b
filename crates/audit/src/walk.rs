//! Reads all segments in order, as one chain.
//!
//! Invariant: what is walked is the log as it stood when the walk began, because the segments are
//! counted first and every one but the last is finished; so a log can be verified while a daemon
//! writes it. Memory is one frame and what `history` keeps. Absent: any write.

use std::path::{Path, PathBuf};

use crate::calls::CallStep;
use crate::content::{Content, Contents};
use crate::entry::Cut;
use crate::error::{AuditError, Reason};
use crate::header::Tip;
use crate::history::History;
use crate::kept::KeptCheckpoint;
use crate::scan::{Frame, Joint, Record, SegmentScan};
use crate::segment::{count_segments, segment_path};

/// What stands next in the log.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are the large one"
)]
pub(crate) enum Step {
    /// A record, and its content if contents are read.
    Record(Record, Option<Content>),
    /// A checkpoint, which is the newest of the history now.
    Checkpoint,
    Torn(Cut),
    End,
}

/// A log, read from its beginning.
#[derive(Debug)]
pub(crate) struct Walk {
    dir: PathBuf,
    segments: u32,
    /// The segment in work, or the last one after the end.
    current: Option<SegmentScan>,
    /// Number of the segment that comes after.
    next_segment: u32,
    /// The log before the first segment, until that is open.
    genesis: Tip,
    history: History,
    kept: KeptCheckpoint,
    /// `None` where contents are left alone.
    contents: Option<Contents>,
}

impl Walk {
    /// Begins with a history that may already know who has to sign.
    pub(crate) fn open(
        dir: &Path,
        history: History,
        contents: Option<Contents>,
    ) -> Result<Self, AuditError> {
        // Read first: what it covers is in the segments that are counted then.
        let kept = KeptCheckpoint::read(dir);
        Ok(Self {
            dir: dir.to_owned(),
            kept,
            segments: count_segments(dir)?,
            current: None,
            next_segment: 0,
            genesis: Tip::genesis(),
            history,
            contents,
        })
    }

    pub(crate) fn next(&mut self) -> Result<Step, AuditError> {
        loop {
            let Some(scan) = &mut self.current else {
                if self.segments == 0 {
                    return Ok(Step::End);
                }
                self.open_segment()?;
                continue;
            };
            match scan.next()? {
                Frame::Record(record) => {
                    let content =
                        take_record(&mut self.history, self.contents.as_mut(), scan, &record)?;
                    let kept = self.kept.see(&scan.tip().tree);
                    kept.map_err(|reason| scan.broken_record(&record, reason))?;
                    return Ok(Step::Record(record, content));
                }
                Frame::Checkpoint(note) => {
                    self.history.checkpoint(scan, note)?;
                    return Ok(Step::Checkpoint);
                }
                Frame::Signature(signature) => self.history.signature(signature),
                Frame::Torn(cut) => {
                    self.history.end_segment(scan)?;
                    self.kept.end().map_err(|reason| scan.broken(reason))?;
                    return Ok(Step::Torn(cut));
                }
                Frame::End => {
                    self.history.end_segment(scan)?;
                    if self.next_segment == self.segments {
                        self.kept.end().map_err(|reason| scan.broken(reason))?;
                        self.check_unexplained()?;
                        return Ok(Step::End);
                    }
                    self.open_segment()?;
                }
            }
        }
    }

    /// How many segments there are.
    pub(crate) fn segments(&self) -> u32 {
        self.segments
    }

    /// Number of the segment in work, or of the last one after the end.
    pub(crate) fn segment(&self) -> u32 {
        self.next_segment.saturating_sub(1)
    }

    /// The log up to here.
    pub(crate) fn tip(&self) -> &Tip {
        self.current
            .as_ref()
            .map_or(&self.genesis, SegmentScan::tip)
    }

    /// Where a segment after the last would go on, once the walk is at its end.
    pub(crate) fn joint(&self) -> Joint {
        Joint {
            segment: self.next_segment,
            tip: self.tip().clone(),
        }
    }

    /// What is known of the log up to here.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The same, when the walk is over.
    pub(crate) fn into_history(self) -> History {
        self.history
    }

    /// An error about a record that was just handed out.
    pub(crate) fn broken_record(&self, record: &Record, reason: Reason) -> AuditError {
        match &self.current {
            Some(scan) => scan.broken_record(record, reason),
            None => self.broken(reason),
        }
    }

    /// An error about what stands next.
    pub(crate) fn broken(&self, reason: Reason) -> AuditError {
        match &self.current {
            Some(scan) => scan.broken(reason),
            None => AuditError::Broken {
                file: segment_path(&self.dir, self.next_segment),
                offset: 0,
                index: self.tip().index(),
                reason,
            },
        }
    }

    fn open_segment(&mut self) -> Result<(), AuditError> {
        let joint = self.joint();
        let path = segment_path(&self.dir, joint.segment);
        let is_last = joint.segment + 1 == self.segments;
        let scan = SegmentScan::open(path, joint, is_last)?;
        self.history.begin_segment(&scan)?;
        self.kept.signed_by(&scan.header().signer);
        self.next_segment += 1;
        self.current = Some(scan);
        Ok(())
    }

    /// Whether all content that is gone was said to be.
    pub(crate) fn check_unexplained(&self) -> Result<(), AuditError> {
        let Some(((segment, class), place)) = self.history.unexplained() else {
            return Ok(());
        };
        Err(AuditError::Broken {
            file: segment_path(&self.dir, segment),
            offset: place.offset,
            index: place.index,
            reason: Reason::ExpiredUnrecorded { segment, class },
        })
    }
}

/// Reads a verified record's content, if that is wanted, and lets the record act on the history.
pub(crate) fn take_record(
    history: &mut History,
    contents: Option<&mut Contents>,
    scan: &mut SegmentScan,
    record: &Record,
) -> Result<Option<Content>, AuditError> {
    let content = match contents {
        Some(contents) => Some(contents.read(scan, record, &history.calls)?),
        None => None,
    };
    let step = match content.as_ref().and_then(Content::entry) {
        Some(entry) => CallStep::of(entry),
        None => CallStep::of_clear(&record.clear),
    };
    history.record(scan, record, &step)?;
    Ok(content)
}
