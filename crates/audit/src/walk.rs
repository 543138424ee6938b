//! Reads all segments in order, as one chain.
//!
//! Invariant: what is walked is the log as it stood when the walk began, because the segments are
//! counted first and every one but the last is finished; so a log can be verified while a daemon
//! writes it. Memory is one frame and the open calls. Absent: any write.

use std::path::{Path, PathBuf};

use crate::calls::{CallStep, OpenCalls};
use crate::chain::Head;
use crate::entry::Cut;
use crate::error::{AuditError, Reason};
use crate::scan::{Frame, Joint, Record, SegmentScan};
use crate::segment::{count_segments, segment_path};

/// What stands next in the log.
#[derive(Debug)]
pub(crate) enum Step {
    Record(Box<Record>),
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
    joint: Joint,
    calls: OpenCalls,
}

impl Walk {
    pub(crate) fn open(dir: &Path) -> Result<Self, AuditError> {
        Ok(Self {
            dir: dir.to_owned(),
            segments: count_segments(dir)?,
            current: None,
            joint: Joint {
                segment: 0,
                index: 0,
                head: Head::GENESIS,
            },
            calls: OpenCalls::default(),
        })
    }

    pub(crate) fn next(&mut self) -> Result<Step, AuditError> {
        loop {
            let Some(scan) = &mut self.current else {
                if self.joint.segment == self.segments {
                    return Ok(Step::End);
                }
                self.open_segment()?;
                continue;
            };
            let frame = scan.next()?;
            self.joint = scan.joint();
            match frame {
                Frame::Record(record) => {
                    apply(&mut self.calls, scan, &record)?;
                    return Ok(Step::Record(record));
                }
                Frame::Torn(cut) => return Ok(Step::Torn(cut)),
                Frame::End if self.joint.segment == self.segments => return Ok(Step::End),
                Frame::End => self.open_segment()?,
            }
        }
    }

    /// How many segments there are.
    pub(crate) fn segments(&self) -> u32 {
        self.segments
    }

    /// Number of the segment in work, or of the last one after the end.
    pub(crate) fn segment(&self) -> u32 {
        self.joint.segment.saturating_sub(1)
    }

    /// Where a segment after the last would go on, once the walk is at its end.
    pub(crate) fn joint(&self) -> Joint {
        self.joint
    }

    /// The calls that are open here.
    pub(crate) fn calls(&self) -> &OpenCalls {
        &self.calls
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
        let (file, offset) = match &self.current {
            Some(scan) => (scan.path().to_owned(), scan.offset()),
            None => (segment_path(&self.dir, self.joint.segment), 0),
        };
        AuditError::Broken {
            file,
            offset,
            index: self.joint.index,
            reason,
        }
    }

    fn open_segment(&mut self) -> Result<(), AuditError> {
        let path = segment_path(&self.dir, self.joint.segment);
        let is_last = self.joint.segment + 1 == self.segments;
        let scan = SegmentScan::open(path, self.joint, is_last)?;
        self.joint = scan.joint();
        self.current = Some(scan);
        Ok(())
    }
}

/// Lets a verified record act on the open calls.
pub(crate) fn apply(
    calls: &mut OpenCalls,
    scan: &SegmentScan,
    record: &Record,
) -> Result<(), AuditError> {
    let step = CallStep::of(&record.entry);
    match calls.apply(&step, record.index) {
        Ok(_) => Ok(()),
        Err(problem) => {
            let request_id = step.request_id().to_owned();
            let reason = Reason::Call {
                request_id,
                problem,
            };
            Err(scan.broken_record(record, reason))
        }
    }
}
