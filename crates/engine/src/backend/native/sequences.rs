//! The sequences of the native backend: which pages of the KV cache each has, and which tokens lie in them.
//!
//! Room for the longest that a sequence may become is reserved when it is opened, so that a sequence that runs never
//! lacks a page. Full pages stay known after their sequence has ended, and serve those that begin alike.
//!
//! Invariants: pages that are free or can be evicted are at least as many as are reserved and not yet taken; a page is
//! written by one sequence only, before it is known to others.

use postern_kernels::{KvCache, KvShape, PAGE_TOKENS, PageId, Span};

use super::prefix_cache::{Key, Owner, PrefixCache};
use crate::backend::architecture::Architecture;
use crate::backend::{Cache, Opening, SequenceId};

/// The KV cache, and who has what of it.
pub(super) struct Sequences {
    cache: KvCache,
    prefixes: PrefixCache,
    slots: Vec<Option<Slot>>,
    /// Pages that open sequences may still take.
    reserved: usize,
}

struct Slot {
    pages: Vec<PageId>,
    /// What lies in the pages.
    tokens: Vec<u32>,
    /// Leading pages that are known to the prefix cache.
    known_pages: usize,
    /// Leading tokens that are a template's own.
    shared_tokens: usize,
    owner: Owner,
    /// Most pages.
    pages_max: usize,
}

impl Sequences {
    /// Room for `pages` pages and `count` sequences. The system backs it only as far as it is used.
    pub(super) fn new(shape: KvShape, pages: usize, count: usize) -> Self {
        Self {
            cache: KvCache::new(shape, pages),
            prefixes: PrefixCache::new(pages),
            slots: (0..count).map(|_| None).collect(),
            reserved: 0,
        }
    }

    /// Opens a sequence that may take all the pages it asks for; `None` where they cannot be had now. Also says how many of its
    /// tokens are there already: at least one never is, as something has to be computed.
    pub(super) fn open(&mut self, opening: &Opening<'_>) -> Option<(SequenceId, usize)> {
        let index = self.slots.iter().position(Option::is_none)?;
        let pages_max = opening.tokens_max.div_ceil(PAGE_TOKENS);
        let mut slot = Slot {
            pages: Vec::with_capacity(pages_max),
            tokens: Vec::with_capacity(opening.tokens_max),
            known_pages: 0,
            shared_tokens: opening.shared_tokens,
            owner: self.prefixes.owner(opening.tenant),
            pages_max,
        };
        self.take_known(&mut slot, opening.prompt);
        let wanted = pages_max - slot.pages.len();
        if self.cache.free_pages() + self.prefixes.evictable() < self.reserved + wanted {
            self.give_back(slot);
            return None;
        }
        self.reserved += wanted;
        let found = slot.tokens.len();
        self.slots[index] = Some(slot);
        Some((SequenceId(index), found))
    }

    /// Ends a sequence. Its full pages stay known.
    pub(super) fn close(&mut self, sequence: SequenceId) {
        self.make_known(sequence);
        if let Some(slot) = self.slots[sequence.0].take() {
            self.reserved -= slot.pages_max - slot.pages.len();
            self.give_back(slot);
        }
    }

    /// Appends tokens that are about to be computed, and gives their rows.
    ///
    /// # Panics
    /// If the sequence becomes longer than it said when it was opened.
    pub(super) fn append(&mut self, sequence: SequenceId, tokens: &[u32]) {
        self.make_known(sequence);
        let slot = open(&mut self.slots, sequence);
        slot.tokens.extend_from_slice(tokens);
        let pages = slot.tokens.len().div_ceil(PAGE_TOKENS);
        assert!(
            pages <= slot.pages_max,
            "a sequence has {pages} pages, of {} it reserved",
            slot.pages_max
        );
        while slot.pages.len() < pages {
            let page = match self.cache.allocate() {
                Some(page) => page,
                None => {
                    self.prefixes.evict(&mut self.cache);
                    self.cache.allocate().expect("a reserved page can be had")
                }
            };
            slot.pages.push(page);
            self.reserved -= 1;
        }
    }

    /// Takes back all tokens of a sequence but the first `tokens`.
    pub(super) fn truncate(&mut self, sequence: SequenceId, tokens: usize) {
        open(&mut self.slots, sequence).tokens.truncate(tokens);
    }

    /// The KV cache, and the last `rows` rows of each of some sequences.
    pub(super) fn parts(&mut self) -> (&mut KvCache, Rows<'_>) {
        (&mut self.cache, Rows(&self.slots))
    }

    /// What is free and what is taken.
    pub(super) fn usage(&self) -> Cache {
        Cache {
            pages: self.cache.pages(),
            pages_in_use: self.cache.pages() - self.cache.free_pages() - self.prefixes.evictable(),
            pages_kept: self.prefixes.evictable(),
        }
    }

    /// Gives an empty sequence the pages that begin as its prompt does.
    fn take_known(&mut self, slot: &mut Slot, prompt: &[u32]) {
        let (full, rest) = prompt.as_chunks::<PAGE_TOKENS>();
        let usable = full.len() - usize::from(rest.is_empty() && !full.is_empty());
        for tokens in &full[..usable] {
            let key = slot.key(slot.pages.len(), *tokens);
            let Some(page) = self.prefixes.find(&key) else {
                break;
            };
            self.prefixes.take(&mut self.cache, page);
            slot.pages.push(page);
            slot.tokens.extend_from_slice(tokens);
        }
        slot.known_pages = slot.pages.len();
    }

    /// Makes the full pages of a sequence known. Where another sequence was first with the same tokens, its page takes
    /// the place of this one's: they hold the same.
    fn make_known(&mut self, sequence: SequenceId) {
        let slot = open(&mut self.slots, sequence);
        let (full, _) = slot.tokens.as_chunks::<PAGE_TOKENS>();
        for (index, tokens) in full.iter().enumerate().skip(slot.known_pages) {
            let (page, key) = (slot.pages[index], slot.key(index, *tokens));
            match self.prefixes.find(&key) {
                None => self.prefixes.insert(&mut self.cache, page, key),
                Some(known) => {
                    self.prefixes.take(&mut self.cache, known);
                    self.cache.release(page);
                    slot.pages[index] = known;
                }
            }
            slot.known_pages = index + 1;
        }
    }

    fn give_back(&mut self, slot: Slot) {
        for page in slot.pages.into_iter().rev() {
            self.prefixes.give_back(&mut self.cache, page);
        }
    }
}

impl Slot {
    fn key(&self, index: usize, tokens: [u32; PAGE_TOKENS]) -> Key {
        Key {
            before: index.checked_sub(1).map(|before| self.pages[before]),
            tokens,
            owner: if (index + 1) * PAGE_TOKENS <= self.shared_tokens {
                Owner::Everybody
            } else {
                self.owner
            },
        }
    }
}

/// The rows that a pass computes.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a>(&'a [Option<Slot>]);

impl<'a> Rows<'a> {
    /// The last `tokens` of a sequence.
    pub(super) fn last(self, sequence: SequenceId, tokens: usize) -> Span<'a> {
        let slot = self.0[sequence.0].as_ref().expect(OPEN);
        Span {
            first_position: slot.tokens.len() - tokens,
            tokens,
            pages: &slot.pages,
        }
    }

    /// No rows.
    pub(super) fn none() -> Span<'a> {
        Span {
            first_position: 0,
            tokens: 0,
            pages: &[],
        }
    }
}

const OPEN: &str = "a sequence is used only between open and close";

fn open(slots: &mut [Option<Slot>], sequence: SequenceId) -> &mut Slot {
    slots[sequence.0].as_mut().expect(OPEN)
}

/// What the size of keys and values depends on.
pub(super) fn shape(architecture: &Architecture) -> KvShape {
    KvShape {
        layers: architecture.layers,
        kv_heads: architecture.kv_heads,
        head_width: architecture.head_width,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: KvShape = KvShape {
        layers: 1,
        kv_heads: 1,
        head_width: 16,
    };

    fn opening<'a>(prompt: &'a [u32], shared_tokens: usize, tenant: &'a str) -> Opening<'a> {
        Opening {
            prompt,
            shared_tokens,
            tenant,
            tokens_max: prompt.len() + PAGE_TOKENS,
        }
    }

    /// Opens a sequence and fills it with its prompt.
    fn fill(sequences: &mut Sequences, opening: &Opening<'_>) -> SequenceId {
        let (sequence, found) = sequences.open(opening).expect("there is room");
        sequences.append(sequence, &opening.prompt[found..]);
        sequence
    }

    fn pages(sequences: &Sequences, sequence: SequenceId) -> &[PageId] {
        &sequences.slots[sequence.0]
            .as_ref()
            .expect("it is open")
            .pages
    }

    #[test]
    fn tenants_share_a_page_only_where_all_of_it_is_the_templates() {
        let prompt: Vec<u32> = (0..200).collect();
        // How many leading pages two tenants share, by how many tokens are the template's.
        for (shared_tokens, pages_shared) in [(0, 0), (31, 0), (32, 1), (100, 3), (200, 6)] {
            let mut sequences = Sequences::new(SHAPE, 64, 4);
            let first = fill(&mut sequences, &opening(&prompt, shared_tokens, "a"));
            sequences.append(first, &[7]);
            let other = fill(&mut sequences, &opening(&prompt, shared_tokens, "b"));
            let same = fill(&mut sequences, &opening(&prompt, shared_tokens, "a"));
            let (first, other) = (pages(&sequences, first), pages(&sequences, other));
            let common = first.iter().filter(|page| other.contains(page)).count();
            assert_eq!(common, pages_shared, "{shared_tokens} of the template's");
            assert_eq!(pages(&sequences, same)[..6], first[..6]);
        }
    }

    #[test]
    fn what_follows_a_tenants_own_text_is_its_own() {
        let (mut mine, mut theirs): (Vec<u32>, Vec<u32>) = ((0..96).collect(), (0..96).collect());
        (mine[40], theirs[40]) = (1000, 2000);
        let mut sequences = Sequences::new(SHAPE, 64, 4);
        let first = fill(&mut sequences, &opening(&mine, 32, "a"));
        sequences.append(first, &[7]);
        let (_, found) = sequences
            .open(&opening(&theirs, 32, "b"))
            .expect("there is room");
        assert_eq!(found, 32);
        let (_, found) = sequences
            .open(&opening(&mine, 32, "a"))
            .expect("there is room");
        assert_eq!(found, 64, "one token has to be computed");
    }

    #[test]
    fn tokens_taken_back_are_not_known_to_anybody() {
        let prompt: Vec<u32> = (0..60).collect();
        let mut sequences = Sequences::new(SHAPE, 64, 4);
        let sequence = fill(&mut sequences, &opening(&prompt, 0, "a"));
        sequences.append(sequence, &[60, 61, 62, 63, 64]);
        sequences.truncate(sequence, 62);
        sequences.append(sequence, &[99, 98, 97]);
        sequences.close(sequence);
        let wrong: Vec<u32> = (0..70).collect();
        let (_, found) = sequences
            .open(&opening(&wrong, 0, "a"))
            .expect("there is room");
        assert_eq!(found, 32);
    }

    #[test]
    fn the_least_recently_used_pages_make_room() {
        let prompts: Vec<Vec<u32>> = (0..4).map(|first| vec![first; 64]).collect();
        let mut sequences = Sequences::new(SHAPE, 6, 1);
        for prompt in &prompts[..3] {
            let sequence = fill(&mut sequences, &opening(prompt, 0, ""));
            sequences.append(sequence, &[7]);
            sequences.close(sequence);
        }
        let mut found = |prompt: &[u32]| {
            let (sequence, found) = sequences
                .open(&opening(prompt, 0, ""))
                .expect("there is room");
            sequences.append(sequence, &prompt[found..]);
            sequences.close(sequence);
            found
        };
        assert_eq!(found(&prompts[0]), 32);
        assert_eq!(found(&prompts[3]), 0);
        assert_eq!([0, 3, 1].map(|prompt| found(&prompts[prompt])), [32, 32, 0]);
    }

    /// A step of a random history.
    #[derive(Debug, Clone)]
    enum Step {
        Open {
            family: u32,
            tokens: usize,
            room: usize,
            tenant: bool,
        },
        Append {
            at: usize,
            tokens: usize,
        },
        TakeBack {
            at: usize,
            tokens: usize,
        },
        Close {
            at: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..3, 1_usize..150, 1_usize..80, any::<bool>()).prop_map(
                |(family, tokens, room, tenant)| Step::Open {
                    family,
                    tokens,
                    room,
                    tenant
                }
            ),
            (any::<usize>(), 1_usize..40).prop_map(|(at, tokens)| Step::Append { at, tokens }),
            (any::<usize>(), 0_usize..4).prop_map(|(at, tokens)| Step::TakeBack { at, tokens }),
            any::<usize>().prop_map(|at| Step::Close { at }),
        ]
    }

    struct Open {
        sequence: SequenceId,
        tokens: usize,
        tokens_max: usize,
        last_append: usize,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// A hundred histories of a hundred steps.
        #[test]
        fn whatever_happens_no_sequence_lacks_a_page_and_all_come_back(
            steps in prop::collection::vec(step(), 100),
        ) {
            const PAGES: usize = 20;
            let mut sequences = Sequences::new(SHAPE, PAGES, 6);
            let mut all: Vec<Open> = Vec::new();
            for step in steps {
                match step {
                    Step::Open { family, tokens, room, tenant } => {
                        let prompt: Vec<u32> = (0..tokens as u32).map(|at| at / 40 * family).collect();
                        let opening = Opening {
                            prompt: &prompt,
                            shared_tokens: 40,
                            tenant: if tenant { "a" } else { "b" },
                            tokens_max: tokens + room,
                        };
                        let fits = opening.tokens_max.div_ceil(PAGE_TOKENS) <= PAGES;
                        match sequences.open(&opening) {
                            Some((sequence, found)) => {
                                prop_assert!(found < tokens);
                                sequences.append(sequence, &prompt[found..]);
                                all.push(Open { sequence, tokens, tokens_max: tokens + room, last_append: tokens - found });
                            }
                            None => prop_assert!(!all.is_empty() || !fits, "nothing runs, and it waits"),
                        }
                    }
                    Step::Append { at, tokens } if !all.is_empty() => {
                        let count = all.len();
                        let open = &mut all[at % count];
                        let tokens = tokens.min(open.tokens_max - open.tokens);
                        sequences.append(open.sequence, &vec![at as u32; tokens]);
                        open.tokens += tokens;
                        open.last_append = tokens;
                    }
                    Step::TakeBack { at, tokens } if !all.is_empty() => {
                        let count = all.len();
                        let open = &mut all[at % count];
                        let tokens = tokens.min(open.last_append.saturating_sub(1));
                        open.tokens -= tokens;
                        open.last_append -= tokens;
                        sequences.truncate(open.sequence, open.tokens);
                    }
                    Step::Close { at } if !all.is_empty() => {
                        let open = all.swap_remove(at % all.len());
                        sequences.close(open.sequence);
                    }
                    _ => {}
                }
                let usage = sequences.usage();
                prop_assert!(usage.pages_in_use + usage.pages_kept <= PAGES);
                prop_assert!(sequences.reserved <= PAGES - usage.pages_in_use);
            }
            for open in all {
                sequences.close(open.sequence);
            }
            prop_assert_eq!(sequences.usage().pages_in_use, 0);
            prop_assert_eq!(sequences.reserved, 0);
            while sequences.prefixes.evict(&mut sequences.cache) {}
            prop_assert_eq!(sequences.cache.free_pages(), PAGES);
        }
    }
}
