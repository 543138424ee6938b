//! The leaf hashes of all records, kept so that proofs need not read the log.
//!
//! Invariant: what is read from the file `leaves` is never trusted. The roots of its chunks of 4096
//! leaves are in memory, computed from the log itself, and a chunk with another root is refused.
//! So the file is a cache: opening the log writes it anew where it differs, and losing it loses
//! nothing. Memory is 8 KiB for a million records, and the leaves of the last chunk. Absent: which
//! hashes a proof needs, which is `merkle`'s.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::chain::HASH_BYTES;
use crate::merkle::{Hash, Nodes};

/// Name of the cache.
pub(crate) const LEAVES_NAME: &str = "leaves";

/// Level of a chunk's root.
const CHUNK_LEVEL: u32 = 12;
const CHUNK_LEAVES: usize = 1 << CHUNK_LEVEL;
const CHUNK_BYTES: usize = CHUNK_LEAVES * HASH_BYTES;
const FILE_MODE: u32 = 0o600;

/// Which chunk holds a leaf.
pub(crate) fn chunk_of(leaf: u64) -> u64 {
    leaf >> CHUNK_LEVEL
}

/// A tree's leaves, of which only the newest are there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunks {
    roots: Vec<Hash>,
    tail: Vec<Hash>,
}

impl Chunks {
    /// Adds a leaf; gives the number and the leaves of the chunk that it completes, if any.
    pub(crate) fn push(&mut self, leaf: Hash) -> Option<(u64, Vec<Hash>)> {
        self.tail.push(leaf);
        if self.tail.len() < CHUNK_LEAVES {
            return None;
        }
        let number = self.roots.len() as u64;
        self.roots.push(root_of(&self.tail));
        Some((number, std::mem::take(&mut self.tail)))
    }

    /// How many leaves were added.
    pub(crate) fn size(&self) -> u64 {
        (self.roots.len() * CHUNK_LEAVES + self.tail.len()) as u64
    }
}

fn root_of(chunk: &[Hash]) -> Hash {
    chunk.node(CHUNK_LEVEL, 0).expect("a chunk is complete")
}

/// The nodes of a tree, whose older chunks come from elsewhere.
pub(crate) struct TreeView<L> {
    chunks: Chunks,
    load: L,
    /// The chunk that was loaded last: a proof asks for several nodes of one.
    loaded: RefCell<Option<(u64, Vec<Hash>)>>,
}

impl<L: Fn(u64) -> io::Result<Vec<Hash>>> TreeView<L> {
    pub(crate) fn new(chunks: Chunks, load: L) -> Self {
        Self {
            chunks,
            load,
            loaded: RefCell::default(),
        }
    }

    fn load_checked(&self, number: u64) -> io::Result<Vec<Hash>> {
        let chunk = (self.load)(number)?;
        let root = usize::try_from(number).ok();
        let root = root.and_then(|number| self.chunks.roots.get(number));
        if chunk.len() != CHUNK_LEAVES || root != Some(&root_of(&chunk)) {
            return Err(io::Error::other(format!(
                "chunk {number} of the file `{LEAVES_NAME}` is not that of the log; it is made anew when the log is opened for writing"
            )));
        }
        Ok(chunk)
    }
}

impl<L: Fn(u64) -> io::Result<Vec<Hash>>> Nodes for TreeView<L> {
    fn node(&self, level: u32, index: u64) -> io::Result<Hash> {
        if level >= CHUNK_LEVEL {
            return self.chunks.roots.node(level - CHUNK_LEVEL, index);
        }
        let in_chunk = CHUNK_LEVEL - level;
        let (number, index) = (index >> in_chunk, index & ((1 << in_chunk) - 1));
        if number == self.chunks.roots.len() as u64 {
            return self.chunks.tail.node(level, index);
        }
        let mut loaded = self.loaded.borrow_mut();
        let chunk = match loaded.take() {
            Some(same) if same.0 == number => same,
            _ => (number, self.load_checked(number)?),
        };
        loaded.insert(chunk).1.node(level, index)
    }
}

/// The leaves of an open log, with their cache.
#[derive(Debug)]
pub(crate) struct LeafCache {
    chunks: Chunks,
    path: PathBuf,
    /// `None` once the cache could not be written.
    file: Option<Arc<File>>,
}

impl LeafCache {
    /// Opens the cache of a log whose records are about to be added one by one.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(LEAVES_NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path);
        let mut cache = Self {
            chunks: Chunks::default(),
            path,
            file: None,
        };
        match file {
            Ok(file) => cache.file = Some(Arc::new(file)),
            Err(error) => cache.give_up(&error),
        }
        cache
    }

    /// Adds the next record's leaf, and mends the cache where it differs.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let Some((number, chunk)) = self.chunks.push(leaf) else {
            return;
        };
        let Some(file) = &self.file else { return };
        if read_chunk(file, number).is_ok_and(|stored| stored == chunk) {
            return;
        }
        let written = file.write_all_at(chunk.as_flattened(), number * CHUNK_BYTES as u64);
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    /// How many leaves there are.
    pub(crate) fn size(&self) -> u64 {
        self.chunks.size()
    }

    /// The tree as it is now, to be asked for proofs without holding up the log.
    pub(crate) fn view(&self) -> TreeView<impl Fn(u64) -> io::Result<Vec<Hash>> + use<>> {
        let file = self.file.clone();
        TreeView::new(self.chunks.clone(), move |number| match &file {
            Some(file) => read_chunk(file, number),
            None => Err(io::Error::other(format!(
                "the file `{LEAVES_NAME}` could not be written"
            ))),
        })
    }

    /// The log goes on without: proofs are less than records.
    fn give_up(&mut self, error: &io::Error) {
        ::log::warn!(
            "cannot keep the leaf hashes in {}: {error}; no proofs of older records until the log is opened again",
            self.path.display()
        );
        self.file = None;
    }
}

fn read_chunk(file: &File, number: u64) -> io::Result<Vec<Hash>> {
    let mut chunk = vec![[0; HASH_BYTES]; CHUNK_LEAVES];
    file.read_exact_at(chunk.as_flattened_mut(), number * CHUNK_BYTES as u64)?;
    Ok(chunk)
}
