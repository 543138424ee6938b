//! Where keywords and words begin that rules are asked at: the one pass that sees every byte.
//!
//! Two small tables over neighbouring bytes mark the places where something may begin, without a
//! branch: nearly all places of a usual text fail them, and none of those is looked at again.
//! Only at a marked place the automaton says which keywords really begin there.

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use super::pattern::ByteSet;

/// How many places are marked at once.
const BLOCK_BYTES: usize = 256;
/// How many bytes behind a place its mark depends on.
const AHEAD_BYTES: usize = 2;

/// Classes of bytes in keywords: each letter, whatever its case, and those below. A set of classes
/// fits into 32 bits.
const CLASSES: usize = 32;
/// Digits, and what is not ASCII.
const CLASS_OTHER_IN_WORD: u8 = 26;
const CLASS_UNDERSCORE: u8 = 27;
const CLASS_DASH: u8 = 28;
const CLASS_SPACE: u8 = 29;
/// Signs that are keywords by themselves, and would let all others through.
const CLASS_LONE: u8 = 30;
const CLASS_SIGN: u8 = 31;

const CLASS_OF: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [CLASS_SIGN; 256];
    let mut byte = 0u8;
    loop {
        classes[byte as usize] = match byte {
            b'a'..=b'z' => byte - b'a',
            b'A'..=b'Z' => byte - b'A',
            b'0'..=b'9' | 0x80.. => CLASS_OTHER_IN_WORD,
            b'_' => CLASS_UNDERSCORE,
            b'-' => CLASS_DASH,
            b' ' | b'\t' | b'\n' | b'\r' => CLASS_SPACE,
            b'@' | b'%' => CLASS_LONE,
            _ => CLASS_SIGN,
        };
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

/// A place where something may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    pub(super) at: usize,
    /// Whether a keyword may.
    pub(super) keyword: bool,
    /// Whether a word does that some rule may be about.
    pub(super) word: bool,
}

/// All keywords, and the beginnings of words.
#[derive(Debug)]
pub(super) struct Keywords {
    automaton: NFA,
    start: StateID,
    bytes_max: usize,
    openings: Box<Openings>,
    words: Box<Pairs>,
}

impl Keywords {
    /// `words`: the first two bytes of words that rules are asked at.
    ///
    /// # Errors
    /// That they are too many.
    pub(super) fn new(keywords: &[&str], words: Box<Pairs>) -> Result<Self, String> {
        let automaton = NFA::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(keywords)
            .map_err(|error| error.to_string())?;
        let start = automaton.start_state(Anchored::Yes);
        Ok(Self {
            start: start.map_err(|error| error.to_string())?,
            automaton,
            bytes_max: keywords.iter().map(|word| word.len()).max().unwrap_or(0),
            openings: Openings::of(keywords),
            words,
        })
    }

    /// The length of the longest one.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether a word that some rule may be about begins at a place, if nothing stands before it.
    pub(super) fn begins_word(&self, text: &[u8], at: usize) -> bool {
        text.get(at)
            .is_some_and(|first| self.words.has_first(*first))
    }

    /// Every keyword that begins at a place, the shortest first: its number and length.
    pub(super) fn each_at(&self, text: &[u8], at: usize, mut each: impl FnMut(usize, usize)) {
        let mut state = self.start;
        for (before, byte) in text[at..].iter().enumerate() {
            state = self.automaton.next_state(Anchored::Yes, state, *byte);
            if !self.automaton.is_special(state) {
                continue;
            }
            if self.automaton.is_dead(state) {
                return;
            }
            for index in 0..self.automaton.match_len(state) {
                let keyword = self.automaton.match_pattern(state, index);
                // The automaton also names keywords that only end here.
                if self.automaton.pattern_len(keyword) == before + 1 {
                    each(keyword.as_usize(), before + 1);
                }
            }
        }
    }

    /// Whether what stands from a place on to the end of a text is the beginning of a keyword.
    pub(super) fn may_go_on(&self, text: &[u8], at: usize) -> bool {
        let mut state = self.start;
        text[at..].iter().all(|byte| {
            state = self.automaton.next_state(Anchored::Yes, state, *byte);
            !self.automaton.is_dead(state)
        })
    }

    /// Every place from `from` on where something may begin, in order. `inside`: whether what
    /// stands before `from` would go on in a word. The last `loosely` places are taken for the
    /// beginning of a word by their first byte alone.
    pub(super) fn each_beginning(
        &self,
        text: &[u8],
        from: usize,
        mut inside: bool,
        loosely: usize,
        mut each: impl FnMut(Beginning),
    ) {
        let mut marks = [0; BLOCK_BYTES];
        let mut at = from;
        let marked = text
            .len()
            .saturating_sub(loosely.saturating_sub(AHEAD_BYTES));
        while at + AHEAD_BYTES < marked {
            let end = marked.min(at + BLOCK_BYTES + AHEAD_BYTES);
            let count = self.mark(&text[at..end], inside, &mut marks);
            for mark in &marks[..count] {
                each(mark_at(at, *mark));
            }
            at = end - AHEAD_BYTES;
            inside = is_word_byte(text[at - 1]);
        }
        for at in at..text.len() {
            each(Beginning {
                at,
                keyword: true,
                word: !inside && self.begins_word(text, at),
            });
            inside = is_word_byte(text[at]);
        }
    }

    /// Marks the places of a block where something may begin; the last [`AHEAD_BYTES`] are only
    /// looked at. A mark is an offset, and one bit each for keyword and word.
    fn mark(&self, block: &[u8], inside: bool, marks: &mut [u16; BLOCK_BYTES]) -> usize {
        let classes = &CLASS_OF;
        let mut before_is_free = u32::from(!inside);
        let (mut first, mut second) = (classes[block[0] as usize], classes[block[1] as usize]);
        let mut count = 0;
        let places = block.iter().zip(&block[1..]).zip(&block[AHEAD_BYTES..]);
        for (offset, ((byte, next), behind)) in places.enumerate() {
            let third = classes[usize::from(*behind)];
            let keyword = self.openings.has(first, second, third);
            let word = self.words.has(*byte, *next) & before_is_free;
            marks[count] = (offset as u16) << 2 | (keyword << 1 | word) as u16;
            count += (keyword | word) as usize;
            before_is_free = u32::from(IS_WORD_CLASS >> first & 1 == 0);
            (first, second) = (second, third);
        }
        count
    }
}

fn mark_at(from: usize, mark: u16) -> Beginning {
    Beginning {
        at: from + usize::from(mark >> 2),
        keyword: mark & 0b10 != 0,
        word: mark & 0b01 != 0,
    }
}

/// The classes of [`is_word_byte`].
const IS_WORD_CLASS: u32 = (1 << (CLASS_UNDERSCORE + 1)) - 1;

/// Letters, digits, `_` and everything that is not ASCII: what continues a word.
pub(super) fn is_word_byte(byte: u8) -> bool {
    IS_WORD_CLASS >> CLASS_OF[usize::from(byte)] & 1 == 1
}

/// The first three bytes of keywords, by class.
#[derive(Debug)]
struct Openings {
    /// For the classes of the first two bytes, the classes of the third.
    thirds: [u32; CLASSES * CLASSES],
}

impl Openings {
    fn of(keywords: &[&str]) -> Box<Self> {
        let mut openings = Box::new(Self {
            thirds: [0; CLASSES * CLASSES],
        });
        for keyword in keywords {
            let class = |place: usize| {
                let byte = keyword.as_bytes().get(place);
                byte.map(|byte| CLASS_OF[usize::from(*byte)])
            };
            openings.allow(class(0), class(1), class(2));
        }
        openings
    }

    /// Allows classes; `None` is any class, behind a keyword that is shorter.
    fn allow(&mut self, first: Option<u8>, second: Option<u8>, third: Option<u8>) {
        let thirds = third.map_or(u32::MAX, |third| 1 << third);
        for (pair, allowed) in self.thirds.iter_mut().enumerate() {
            let is =
                |class: Option<u8>, given| class.is_none_or(|class| usize::from(class) == given);
            if is(first, pair / CLASSES) && is(second, pair % CLASSES) {
                *allowed |= thirds;
            }
        }
    }

    /// 1 if a keyword may begin with these classes.
    fn has(&self, first: u8, second: u8, third: u8) -> u32 {
        let pair = usize::from(first) * CLASSES + usize::from(second);
        self.thirds[pair % (CLASSES * CLASSES)] >> third & 1
    }
}

/// A set of pairs of bytes.
#[derive(Debug)]
pub(super) struct Pairs {
    /// For each first byte, a bit for each second.
    seconds: [[u32; 8]; 256],
}

impl Pairs {
    pub(super) fn of(is_in: impl Fn(u8, u8) -> bool, firsts: &ByteSet) -> Box<Self> {
        let mut pairs = Box::new(Self {
            seconds: [[0; 8]; 256],
        });
        for first in (0..=u8::MAX).filter(|first| firsts.contains(*first)) {
            for second in (0..=u8::MAX).filter(|second| is_in(first, *second)) {
                pairs.seconds[usize::from(first)][usize::from(second >> 5)] |= 1 << (second & 31);
            }
        }
        pairs
    }

    /// 1 if a pair is in the set.
    fn has(&self, first: u8, second: u8) -> u32 {
        self.seconds[usize::from(first)][usize::from(second >> 5)] >> (second & 31) & 1
    }

    fn has_first(&self, first: u8) -> bool {
        self.seconds[usize::from(first)] != [0; 8]
    }
}
