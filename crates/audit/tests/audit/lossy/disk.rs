//! A disk under the files of one folder: what processes see, and what would be left after a power loss.
//!
//! Invariant: what was synced stays. Of what was not, a file keeps what the luck says: nothing, or its first writes, the next
//! one up to a border of a sector. Names are on the disk when the folder was synced; of later changes to them, the first
//! ones may be there, too. Neither says anything about the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::layer::Step;

const SECTOR_BYTES: usize = 512;

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Luck {
    /// All of it is lost.
    Bad,
    /// Some of it is there, drawn from a seed for each file.
    Drawn(u64),
}

/// Files and their names, in memory and on the disk.
#[derive(Clone, Default)]
pub(super) struct Disk {
    files: Vec<Contents>,
    /// As processes see them.
    names: Names,
    durable_names: Names,
    unsynced_names: Vec<NameChange>,
    open: BTreeMap<i32, Opened>,
}

/// Names, and the place of the file that each leads to.
type Names = BTreeMap<String, usize>;

#[derive(Clone, Copy)]
enum Opened {
    Folder,
    File(usize),
}

#[derive(Clone)]
enum NameChange {
    Put(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct Contents {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Disk {
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Begin => self.open.clear(),
            Step::Open {
                descriptor,
                name,
                is_cut,
            } => self.take_open(*descriptor, name, *is_cut),
            Step::Write {
                descriptor,
                offset,
                bytes,
            } => self.change(*descriptor, Change::Write(*offset, bytes.clone())),
            Step::Cut { descriptor, bytes } => self.change(*descriptor, Change::Cut(*bytes)),
            Step::Sync { descriptor } => self.sync(*descriptor),
            Step::Close { descriptor } => {
                self.open.remove(descriptor);
            }
            Step::Rename { from, to } => {
                self.change_name(NameChange::Rename(from.clone(), to.clone()));
            }
            Step::Link { from, to } => {
                self.change_name(NameChange::Put(to.clone(), self.names[from]));
            }
            Step::Remove { name } => self.change_name(NameChange::Remove(name.clone())),
            Step::Tell(_) => {}
        }
    }

    /// Name of the file that a step is about, as far as it has one.
    pub(super) fn name_of<'a>(&'a self, step: &'a Step) -> &'a str {
        match step {
            Step::Open { name, .. } | Step::Remove { name } => name,
            Step::Rename { from, .. } | Step::Link { from, .. } => from,
            Step::Write { descriptor, .. }
            | Step::Cut { descriptor, .. }
            | Step::Sync { descriptor }
            | Step::Close { descriptor } => self.open_name(*descriptor),
            Step::Begin | Step::Tell(_) => "",
        }
    }

    /// The disk after the power was gone and came back: nothing is open, and all that is there is on the disk.
    pub(super) fn after_power_loss(&self, luck: Luck) -> Self {
        let mut draw = Draw::of(luck);
        let mut names = self.durable_names.clone();
        let kept = draw.kept_of(self.unsynced_names.len());
        for change in &self.unsynced_names[..kept] {
            change.make(&mut names);
        }
        let files = self.files.iter().map(|file| file.left(&mut draw));
        Self {
            files: files.collect(),
            durable_names: names.clone(),
            names,
            ..Self::default()
        }
    }

    /// Writes the files, as processes see them, into an empty folder.
    pub(super) fn write_to(&self, folder: &Path) {
        let mut first_names: BTreeMap<usize, &str> = BTreeMap::new();
        for (name, &file) in &self.names {
            let path = folder.join(name);
            match first_names.get(&file) {
                // The number of its names says how far an expiry came.
                Some(first) => fs::hard_link(folder.join(first), path).unwrap(),
                None => fs::write(path, self.files[file].seen()).unwrap(),
            }
            first_names.entry(file).or_insert(name);
        }
    }

    /// Requires that a folder holds just what processes see here, so that no step is missing.
    pub(super) fn check_folder(&self, folder: &Path) {
        let items = fs::read_dir(folder).unwrap();
        let found = items.map(|item| item.unwrap().file_name().into_string().unwrap());
        let found: BTreeSet<String> = found.collect();
        let expected: BTreeSet<String> = self.names.keys().cloned().collect();
        assert_eq!(found, expected);
        for (name, &file) in &self.names {
            let bytes = fs::read(folder.join(name)).unwrap();
            assert!(bytes == self.files[file].seen(), "{name} differs");
        }
    }

    fn take_open(&mut self, descriptor: i32, name: &str, is_cut: bool) {
        if name.is_empty() {
            self.open.insert(descriptor, Opened::Folder);
            return;
        }
        if !self.names.contains_key(name) {
            self.files.push(Contents::default());
            let put = NameChange::Put(name.to_owned(), self.files.len() - 1);
            self.change_name(put);
        }
        let file = self.names[name];
        self.open.insert(descriptor, Opened::File(file));
        if is_cut {
            self.files[file].unsynced.push(Change::Cut(0));
        }
    }

    fn change(&mut self, descriptor: i32, change: Change) {
        let Opened::File(file) = self.open[&descriptor] else {
            panic!("a folder is written");
        };
        self.files[file].unsynced.push(change);
    }

    fn sync(&mut self, descriptor: i32) {
        match self.open[&descriptor] {
            Opened::Folder => {
                self.durable_names.clone_from(&self.names);
                self.unsynced_names.clear();
            }
            Opened::File(file) => {
                let file = &mut self.files[file];
                file.durable = file.seen();
                file.unsynced.clear();
            }
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.make(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn open_name(&self, descriptor: i32) -> &str {
        let Some(Opened::File(open)) = self.open.get(&descriptor) else {
            return "folder";
        };
        let mut names = self.names.iter();
        let name = names.find(|(_, file)| *file == open);
        name.map_or("removed", |(name, _)| name)
    }
}

impl NameChange {
    fn make(&self, names: &mut Names) {
        match self {
            Self::Put(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to) => {
                let file = names.remove(from).unwrap();
                names.insert(to.clone(), file);
            }
            Self::Remove(name) => {
                names.remove(name).unwrap();
            }
        }
    }
}

impl Contents {
    fn seen(&self) -> Vec<u8> {
        self.with(&self.unsynced)
    }

    fn with(&self, changes: &[Change]) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in changes {
            change.make(&mut bytes);
        }
        bytes
    }

    fn left(&self, draw: &mut Draw) -> Self {
        let kept = draw.kept_of(self.unsynced.len());
        let mut durable = self.with(&self.unsynced[..kept]);
        if let Some(Change::Write(offset, bytes)) = self.unsynced.get(kept) {
            let end = draw.sector_border(*offset, offset + bytes.len());
            if end > *offset {
                Change::Write(*offset, bytes[..end - offset].to_vec()).make(&mut durable);
            }
        }
        Self {
            durable,
            unsynced: Vec::new(),
        }
    }
}

impl Change {
    fn make(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut(bytes) => file.resize(*bytes, 0),
        }
    }
}

/// Decides what is left, the same for the same luck.
struct Draw {
    luck: Luck,
    state: u64,
}

impl Draw {
    fn of(luck: Luck) -> Self {
        let state = match luck {
            Luck::Bad => 0,
            Luck::Drawn(seed) => seed,
        };
        Self { luck, state }
    }

    /// How many of the first changes are kept.
    fn kept_of(&mut self, changes: usize) -> usize {
        match self.luck {
            Luck::Bad => 0,
            Luck::Drawn(_) => self.below(changes + 1),
        }
    }

    /// Where a write from `start` to `end` that was not wholly kept was broken off: at its start, or at the border of a
    /// sector within it.
    fn sector_border(&mut self, start: usize, end: usize) -> usize {
        if let Luck::Bad = self.luck {
            return start;
        }
        let (first, last) = (start / SECTOR_BYTES, end / SECTOR_BYTES);
        let border = (first + self.below(last - first + 1)) * SECTOR_BYTES;
        border.max(start)
    }

    /// A number from 0 to `bound - 1`: the generator SplitMix64 of Steele, Lea and Flood.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (mixed ^ (mixed >> 31)) % bound as u64;
        usize::try_from(drawn).unwrap()
    }
}
