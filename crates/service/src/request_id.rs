//! Names of calls: unique, sortable by time, safe in a log line or a header.
//!
//! An id has the shape of a ULID (<https://github.com/ulid/spec>) in lower
//! case: 48 bits of Unix milliseconds and 80 random bits, written as 26
//! characters of Crockford's base 32. Ids are names, not secrets.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Clock, ServiceError};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHARACTERS: usize = 26;
const RANDOM_BITS: u32 = 80;
const RANDOM_MASK: u128 = (1 << RANDOM_BITS) - 1;

/// The name of one call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u128);

/// A text that is not a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a request id has 26 characters of 0-9 and a-z without i, l, o and u, the first from 0 to 7"
)]
pub struct RequestIdInvalid;

impl RequestId {
    /// A fresh id of the instant `at`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Random`] if the operating system has no random bytes.
    pub(crate) fn random(at: Timestamp) -> Result<Self, ServiceError> {
        let random = random_bits().map_err(|error| ServiceError::Random {
            reason: error.to_string(),
        })?;
        Ok(Self(milliseconds(at) << RANDOM_BITS | random))
    }
}

impl RequestId {
    /// The id as a number, for keys of tables.
    pub(crate) fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; CHARACTERS];
        let mut rest = self.0;
        for character in text.iter_mut().rev() {
            *character = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = RequestIdInvalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Twenty-six characters hold 130 bits, so the first carries only three.
        if text.len() != CHARACTERS || text.as_bytes()[0] > b'7' {
            return Err(RequestIdInvalid);
        }
        text.bytes()
            .try_fold(0_u128, |value, byte| {
                let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
                Some(value << 5 | digit as u128)
            })
            .map(Self)
            .ok_or(RequestIdInvalid)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Makes ids that only ever grow within one process.
pub(crate) struct RequestIds {
    clock: Clock,
    last: Mutex<RequestId>,
}

impl RequestIds {
    /// Starts from fresh random bits.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Random`] if the operating system has none.
    pub(crate) fn new(clock: Clock) -> Result<Self, ServiceError> {
        let last = Mutex::new(RequestId::random(clock.now())?);
        Ok(Self { clock, last })
    }

    /// The next id, later than all before it: where the clock went back or no
    /// random bits came, it counts on from the last.
    pub(crate) fn next(&self) -> RequestId {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = RequestId(last.0.saturating_add(1));
        *last = RequestId::random(self.clock.now()).map_or(next, |fresh| fresh.max(next));
        *last
    }
}

fn milliseconds(at: Timestamp) -> u128 {
    let since_epoch = at.as_millisecond().max(0).cast_unsigned();
    u128::from(since_epoch) & ((1 << 48) - 1)
}

fn random_bits() -> Result<u128, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes) & RANDOM_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_stands_still() {
        let clock = Clock::from_fn(|| jiff::Timestamp::from_second(1_700_000_000).unwrap());
        let ids = RequestIds::new(clock).unwrap();
        let made: Vec<RequestId> = (0..1000).map(|_| ids.next()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        let texts: Vec<String> = made.iter().map(RequestId::to_string).collect();
        assert!(texts.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
