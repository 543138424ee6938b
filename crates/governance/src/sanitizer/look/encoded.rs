//! Judges what stands inside base64 and percent-encoding.

use std::cell::Cell;

use super::{Found, Look, PERCENT_BYTES_MAX, Tail, Verdict, is_run_byte};
use crate::sanitizer::encoding;

impl Look<'_> {
    pub(super) fn judge_base64(&self, at: usize) -> Verdict {
        let stretch = self.stretch(at, encoding::BASE64_WINDOW_BYTES, encoding::is_base64_byte);
        let window = &self.text[at..stretch.end];
        if !encoding::may_be_text(window) {
            return Verdict::No;
        }
        if stretch.open {
            return Verdict::More { held_from: at };
        }
        let mut decoded = [0; encoding::BASE64_DECODED_BYTES_MAX];
        let Some(decoded) = encoding::decode_base64(window, &mut decoded) else {
            return Verdict::No;
        };
        let Some(found) = self.first_inside(decoded) else {
            return Verdict::No;
        };
        let end = self.end_of_run(stretch.end, encoding::is_base64_byte);
        Verdict::Found(Found {
            start: at + encoding::base64_offset(found.start),
            end,
            tail: Tail::Run,
            ..found
        })
    }

    pub(super) fn judge_percent(&self, at: usize) -> Verdict {
        let encoded = encoding::is_percent(&self.text[at..]);
        let undecided = !self.ended && encoding::may_become_percent(&self.text[at..]);
        if !encoded && !undecided {
            return Verdict::No;
        }
        let from = self.run_start_within(at, PERCENT_BYTES_MAX);
        let stretch = self.stretch(at, PERCENT_BYTES_MAX, is_run_byte);
        if stretch.open {
            return Verdict::More { held_from: from };
        }
        let window = &self.text[from..stretch.end];
        let mut decoded = [0; encoding::PERCENT_WINDOW_BYTES];
        let decoded = encoding::decode_percent(window, &mut decoded);
        let Some(found) = self.first_inside(decoded) else {
            return Verdict::No;
        };
        let written = |place| from + encoding::percent_offset(window, place);
        let (start, end) = (written(found.start), written(found.end));
        if end <= at {
            return Verdict::No;
        }
        let cut = end == stretch.end;
        Verdict::Found(Found {
            start,
            end: if cut {
                self.end_of_run(end, is_run_byte)
            } else {
                end
            },
            tail: if cut { Tail::Run } else { Tail::None },
            ..found
        })
    }

    /// The first secret in a text from inside an encoding.
    fn first_inside(&self, text: &[u8]) -> Option<Found> {
        let look = Look {
            text,
            clean_from: 0,
            ended: true,
            nested: true,
            near_context: false,
            numbers: &Cell::default(),
            in_context: &|_, _| false,
            ..*self
        };
        let triggers = self.rules.plain_triggers(text, 0, true, 0);
        triggers
            .iter()
            .find_map(|trigger| match look.judge(trigger) {
                Verdict::Found(found) => Some(found),
                _ => None,
            })
    }
}
