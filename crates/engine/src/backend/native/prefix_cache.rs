//! Full pages of the KV cache that may serve again: a sequence that begins with the same tokens need not compute them.
//!
//! A page is known by the page before it, its own tokens, and whose it is. Pages of a template's own text are
//! everybody's; all others belong to one tenant, so that no tenant can learn from the time of an answer what another
//! has asked.
//!
//! Invariants: the cache holds one reference to each page it knows; a page that only the cache holds can be evicted,
//! the least recently used first, and never before the pages that follow it. After it was made it allocates nothing.
//!
//! Absent: pages that are not full, and anything about what a page holds.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use postern_kernels::{KvCache, PAGE_TOKENS, PageId};

/// Whose a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A template's own text.
    Everybody,
    /// Whoever has this number, which is a hash of a name under a key of this process.
    Tenant(u64),
}

/// What a page is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The page before it; `None` at the start of a sequence.
    pub(super) before: Option<PageId>,
    pub(super) tokens: [u32; PAGE_TOKENS],
    pub(super) owner: Owner,
}

/// The pages it knows.
pub(super) struct PrefixCache {
    known: HashTable<PageId>,
    hasher: RandomState,
    /// By page.
    entries: Vec<Option<Entry>>,
    /// Of the pages that only the cache holds.
    oldest: Option<PageId>,
    newest: Option<PageId>,
    evictable: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    /// Neighbours in the order of eviction, while only the cache holds the page.
    older: Option<PageId>,
    newer: Option<PageId>,
}

impl PrefixCache {
    /// For a KV cache of `pages` pages.
    pub(super) fn new(pages: usize) -> Self {
        Self {
            known: HashTable::with_capacity(pages),
            hasher: RandomState::new(),
            entries: vec![None; pages],
            oldest: None,
            newest: None,
            evictable: 0,
        }
    }

    /// A number for a tenant's name.
    pub(super) fn owner(&self, tenant: &str) -> Owner {
        Owner::Tenant(self.hasher.hash_one(tenant))
    }

    /// Pages that can be evicted.
    pub(super) fn evictable(&self) -> usize {
        self.evictable
    }

    /// The page with this key, if it is known.
    pub(super) fn find(&self, key: &Key) -> Option<PageId> {
        let same = |page: &PageId| self.entry(*page).is_some_and(|entry| entry.key == *key);
        self.known.find(self.hasher.hash_one(key), same).copied()
    }

    /// Takes a further reference to a known page.
    pub(super) fn take(&mut self, cache: &mut KvCache, page: PageId) {
        if cache.references(page) == 1 {
            self.unlink(page);
        }
        cache.share(page);
    }

    /// Makes a page known that somebody holds and nobody else knows by this key.
    pub(super) fn insert(&mut self, cache: &mut KvCache, page: PageId, key: Key) {
        cache.share(page);
        self.entries[page.index()] = Some(Entry {
            key,
            older: None,
            newer: None,
        });
        let Self {
            known,
            hasher,
            entries,
            ..
        } = self;
        let hash_of = |page: &PageId| {
            let entry = entries[page.index()].as_ref();
            hasher.hash_one(entry.expect("a known page has an entry").key)
        };
        known.insert_unique(hasher.hash_one(key), page, hash_of);
    }

    /// Gives back a reference that somebody had. Pages of a sequence are given back last page first.
    pub(super) fn give_back(&mut self, cache: &mut KvCache, page: PageId) {
        cache.release(page);
        if cache.references(page) == 1 && self.entry(page).is_some() {
            self.link_as_newest(page);
        }
    }

    /// Forgets the page that was not used for the longest time, and so frees it.
    pub(super) fn evict(&mut self, cache: &mut KvCache) -> bool {
        let Some(page) = self.oldest else {
            return false;
        };
        self.unlink(page);
        let entry = self.entries[page.index()].take();
        let hash = self
            .hasher
            .hash_one(entry.expect("a linked page is known").key);
        if let Ok(found) = self.known.find_entry(hash, |known| *known == page) {
            found.remove();
        }
        cache.release(page);
        true
    }

    fn entry(&self, page: PageId) -> Option<&Entry> {
        self.entries[page.index()].as_ref()
    }

    fn entry_mut(&mut self, page: PageId) -> &mut Entry {
        self.entries[page.index()]
            .as_mut()
            .expect("only known pages are linked")
    }

    fn link_as_newest(&mut self, page: PageId) {
        let older = self.newest.replace(page);
        self.entry_mut(page).older = older;
        match older {
            Some(older) => self.entry_mut(older).newer = Some(page),
            None => self.oldest = Some(page),
        }
        self.evictable += 1;
    }

    fn unlink(&mut self, page: PageId) {
        let entry = self.entry_mut(page);
        let (older, newer) = (entry.older.take(), entry.newer.take());
        match older {
            Some(older) => self.entry_mut(older).newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.entry_mut(newer).older = older,
            None => self.newest = older,
        }
        self.evictable -= 1;
    }
}
