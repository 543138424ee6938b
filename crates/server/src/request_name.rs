//! Names for requests that never become a call, in the form of a call's id.
//!
//! Invariant: within one process no two are equal. They are names, not secrets: the bits that make
//! them differ between processes come from the standard library's hash keys.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use postern_service::RequestId;

/// Crockford's base 32 in lower case, as in the ids of calls.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of an id, five bits each; the first two bits of 130 are zero.
const CHARACTERS: u32 = 26;

/// Hands out names.
#[derive(Debug, Default)]
pub(crate) struct RequestNames {
    keys: RandomState,
    count: AtomicU64,
}

impl RequestNames {
    /// 48 bits of Unix milliseconds, 40 of a keyed hash of the count, 40 of the count itself.
    pub(crate) fn next(&self) -> RequestId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let milliseconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let low = |bits: u64| u128::from(bits & ((1 << 40) - 1));
        let name = (milliseconds & ((1 << 48) - 1)) << 80
            | low(self.keys.hash_one(count)) << 40
            | low(count);
        encoded(name)
            .parse()
            .expect("26 characters of the alphabet")
    }
}

fn encoded(name: u128) -> String {
    (0..CHARACTERS)
        .rev()
        .map(|place| char::from(ALPHABET[(name >> (5 * place) & 31) as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_have_the_form_of_a_call_id() {
        let names = RequestNames::default();
        let made: std::collections::BTreeSet<RequestId> = (0..1000).map(|_| names.next()).collect();
        assert_eq!(made.len(), 1000);
        assert_eq!(encoded(u128::MAX), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }
}
