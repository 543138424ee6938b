//! What content there is, how old it is, and which of it has to go.
//!
//! Invariant: only content of finished segments expires, and none that a hold covers, however full
//! the bounds are. Memory is some hundred bytes a segment. Absent: destroying it, which is
//! `expiry`'s, and when that is asked for, which is the daemon's.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::{Hold, Keep, Retention};
use crate::entry::Expired;
use crate::history::ContentKey;
use crate::kind::{CLASSES, Class};

const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The content that is there, by segment and class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    segments: BTreeMap<u32, [Option<Share>; CLASSES]>,
}

/// The content of one class in one segment.
#[derive(Clone, Copy, Debug)]
struct Share {
    first_us: i64,
    last_us: i64,
    bytes: u64,
}

impl Inventory {
    /// Takes a record with content.
    pub(crate) fn add(&mut self, (segment, class): ContentKey, wall_us: i64, bytes: u64) {
        let shares = self.segments.entry(segment).or_default();
        let share = shares[class.place()].get_or_insert(Share {
            first_us: wall_us,
            last_us: wall_us,
            bytes: 0,
        });
        share.first_us = share.first_us.min(wall_us);
        share.last_us = share.last_us.max(wall_us);
        share.bytes += bytes;
    }

    /// Whether there is such content.
    pub(crate) fn has(&self, (segment, class): ContentKey) -> bool {
        let shares = self.segments.get(&segment);
        shares.is_some_and(|shares| shares[class.place()].is_some())
    }

    /// Forgets content that was destroyed.
    pub(crate) fn remove(&mut self, (segment, class): ContentKey) {
        let Some(shares) = self.segments.get_mut(&segment) else {
            return;
        };
        shares[class.place()] = None;
        if shares.iter().all(Option::is_none) {
            self.segments.remove(&segment);
        }
    }

    /// What has to go now, oldest first. `current` is the segment that is written.
    pub(crate) fn due(&self, retention: &Retention, current: u32, now: Timestamp) -> Vec<Expired> {
        let mut due = Vec::new();
        for class in Class::ALL {
            self.due_of(class, retention, (current, now), &mut due);
        }
        due.sort_by_key(|expired| expired.segment);
        due
    }

    /// What goes first if room is needed at once: the oldest content that nothing holds.
    pub(crate) fn oldest(&self, holds: &[Hold], current: u32) -> Option<Expired> {
        let mut oldest: Option<ContentKey> = None;
        for class in Class::ALL {
            let free = self.shares(class).find(|(segment, share)| {
                *segment < current && !holds.iter().any(|hold| covers(hold, share))
            });
            let key = free.map(|(segment, _)| (segment, class));
            oldest = oldest.into_iter().chain(key).min();
        }
        let (segment, class) = oldest?;
        Some(Expired {
            segment,
            class,
            reason: "disk-full".to_owned(),
        })
    }

    fn due_of(
        &self,
        class: Class,
        retention: &Retention,
        (current, now): (u32, Timestamp),
        due: &mut Vec<Expired>,
    ) {
        let Keep {
            days,
            bytes: bytes_max,
        } = retention.of(class);
        let oldest_us = now
            .as_microsecond()
            .saturating_sub(i64::from(days) * DAY_US);
        let mut bytes: u64 = self.shares(class).map(|(_, share)| share.bytes).sum();
        for (segment, share) in self.shares(class) {
            let reason = if days > 0 && share.last_us < oldest_us {
                "age"
            } else if bytes_max > 0 && bytes > bytes_max {
                "bytes"
            } else {
                continue;
            };
            if segment >= current || retention.holds.iter().any(|hold| covers(hold, &share)) {
                continue;
            }
            bytes -= share.bytes;
            due.push(Expired {
                segment,
                class,
                reason: reason.to_owned(),
            });
        }
    }

    fn shares(&self, class: Class) -> impl Iterator<Item = (u32, Share)> {
        let segments = self.segments.iter();
        segments.filter_map(move |(&segment, shares)| Some((segment, shares[class.place()]?)))
    }
}

fn covers(hold: &Hold, share: &Share) -> bool {
    hold.from.as_microsecond() <= share.last_us && share.first_us <= hold.until.as_microsecond()
}
