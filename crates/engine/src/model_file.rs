//! A model file, read once and checked against its pin.
//!
//! Invariant: a [`VerifiedModel`] holds the very bytes whose SHA-256 equals the pin, in
//! memory that no file backs. The path is opened once and read once, front to back; what
//! happens to the file afterwards does not matter.
//!
//! The bytes lie in segments, so that a backend that copies them tensor by tensor can
//! hand back what it has passed, and no more than one segment is held twice.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use sha2::{Digest, Sha256};

use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};
use crate::manifest::ModelManifest;

/// Above the largest size that the allocator keeps for reuse (32 MiB in glibc), so that a
/// freed segment goes back to the system at once.
const SEGMENT_BYTES: u64 = 64 << 20;
/// What is read, then hashed, at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that reading may be ahead of hashing.
const PIECES_AHEAD_MAX: usize = 16;

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes of the whole file.
    pub bytes_total: u64,
}

/// A model whose bytes equal their pin.
#[derive(Debug)]
pub struct VerifiedModel {
    id: String,
    /// Where it was read, for messages alone; `None` where it is part of the program.
    path: Option<PathBuf>,
    sha256: Sha256Digest,
    bytes: ModelBytes,
}

impl VerifiedModel {
    /// Reads the manifest's file once into memory while another thread hashes it.
    ///
    /// # Errors
    /// [`EngineError::Read`], [`EngineError::SizeMismatch`] or [`EngineError::DigestMismatch`];
    /// nothing of the file is kept then.
    pub fn load(
        manifest: &ModelManifest,
        on_progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let mut file = open(manifest)?;
        let mut segments = allocate(manifest.bytes);
        let found = read_and_hash(&mut file, manifest, &mut segments, on_progress)?;
        refuse_more(&mut file, manifest)?;
        check_digest(manifest, Some(&manifest.path), found)?;
        Ok(Self {
            id: manifest.id.clone(),
            path: Some(manifest.path.clone()),
            sha256: found,
            bytes: ModelBytes::Read {
                segments,
                length: manifest.bytes,
            },
        })
    }

    /// Checks bytes that are part of the program against their pin.
    ///
    /// # Errors
    /// [`EngineError::SizeMismatch`] or [`EngineError::DigestMismatch`].
    pub fn from_embedded(bytes: &'static [u8], manifest: &ModelManifest) -> Result<Self> {
        let found = bytes.len() as u64;
        if found != manifest.bytes {
            return Err(size_mismatch(manifest, None, found));
        }
        let sha256 = Sha256Digest::of(bytes);
        check_digest(manifest, None, sha256)?;
        Ok(Self {
            id: manifest.id.clone(),
            path: None,
            sha256,
            bytes: ModelBytes::Embedded(bytes),
        })
    }

    /// Id from the manifest.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The file that was read, to name it in messages; it is never opened again.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Digest of the bytes.
    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.length()
    }

    /// Reads the verified bytes. Passed segments are given up only through [`ModelReader::release`].
    pub(crate) fn reader(&mut self) -> ModelReader<'_> {
        ModelReader {
            bytes: &mut self.bytes,
            position: 0,
        }
    }
}

fn open(manifest: &ModelManifest) -> Result<File> {
    let failed = |source| read_failed(&manifest.path, source);
    let file = File::open(&manifest.path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if metadata.len() != manifest.bytes {
        return Err(size_mismatch(
            manifest,
            Some(&manifest.path),
            metadata.len(),
        ));
    }
    Ok(file)
}

/// Zeroed segments; the system backs them with memory only as they are written.
fn allocate(length: u64) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    let mut left = length;
    while left > 0 {
        let bytes = left.min(SEGMENT_BYTES);
        segments.push(vec![0; bytes as usize]);
        left -= bytes;
    }
    segments
}

fn read_and_hash(
    file: &mut File,
    manifest: &ModelManifest,
    segments: &mut [Vec<u8>],
    on_progress: &mut dyn FnMut(LoadProgress),
) -> Result<Sha256Digest> {
    thread::scope(|scope| {
        let (pieces, received) = mpsc::sync_channel::<&[u8]>(PIECES_AHEAD_MAX);
        let hashing = thread::Builder::new()
            .name("model-hash".to_owned())
            .spawn_scoped(scope, move || {
                let mut hasher = Sha256::new();
                received.iter().for_each(|piece| hasher.update(piece));
                Sha256Digest::from_hasher(hasher)
            })
            .map_err(|source| EngineError::Thread {
                name: "model-hash",
                source,
            })?;
        let mut bytes_done = 0;
        for piece in segments
            .iter_mut()
            .flat_map(|segment| segment.chunks_mut(PIECE_BYTES))
        {
            fill(file, piece).map_err(|(found, source)| match source {
                Some(source) => read_failed(&manifest.path, source),
                None => size_mismatch(manifest, Some(&manifest.path), bytes_done + found as u64),
            })?;
            bytes_done += piece.len() as u64;
            pieces
                .send(&*piece)
                .expect("the hashing thread receives until the sender is dropped");
            on_progress(LoadProgress {
                bytes_done,
                bytes_total: manifest.bytes,
            });
        }
        drop(pieces);
        Ok(hashing.join().expect("hashing does not panic"))
    })
}

/// Fills `piece`, or reports how much was there before the end or an error.
fn fill(file: &mut File, piece: &mut [u8]) -> Result<(), (usize, Option<io::Error>)> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => return Err((filled, None)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((filled, Some(error))),
        }
    }
    Ok(())
}

/// A file that grew while it was read is not the pinned one.
fn refuse_more(file: &mut File, manifest: &ModelManifest) -> Result<()> {
    match fill(file, &mut [0]) {
        Ok(()) => Err(size_mismatch(
            manifest,
            Some(&manifest.path),
            manifest.bytes + 1,
        )),
        Err((_, None)) => Ok(()),
        Err((_, Some(source))) => Err(read_failed(&manifest.path, source)),
    }
}

fn check_digest(manifest: &ModelManifest, file: Option<&Path>, found: Sha256Digest) -> Result<()> {
    if found == manifest.sha256 {
        return Ok(());
    }
    Err(EngineError::DigestMismatch {
        model: manifest.id.clone(),
        path: file.map(Path::to_owned),
        expected: manifest.sha256,
        found,
    })
}

fn size_mismatch(manifest: &ModelManifest, file: Option<&Path>, found: u64) -> EngineError {
    EngineError::SizeMismatch {
        model: manifest.id.clone(),
        path: file.map(Path::to_owned),
        expected: manifest.bytes,
        found,
    }
}

fn read_failed(path: &Path, source: io::Error) -> EngineError {
    EngineError::Read {
        path: path.to_owned(),
        source,
    }
}

enum ModelBytes {
    Embedded(&'static [u8]),
    /// Every segment but the last has [`SEGMENT_BYTES`]; a released one is empty.
    Read {
        segments: Vec<Vec<u8>>,
        length: u64,
    },
}

impl ModelBytes {
    fn length(&self) -> u64 {
        match self {
            Self::Embedded(bytes) => bytes.len() as u64,
            Self::Read { length, .. } => *length,
        }
    }

    /// Contiguous bytes from `position` on: empty at the end, an error where they were released.
    fn from(&self, position: u64) -> io::Result<&[u8]> {
        if position >= self.length() {
            return Ok(&[]);
        }
        match self {
            Self::Embedded(bytes) => Ok(&bytes[position as usize..]),
            Self::Read { segments, .. } => segments[(position / SEGMENT_BYTES) as usize]
                .get((position % SEGMENT_BYTES) as usize..)
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(|| io::Error::other("these bytes of the model were released already")),
        }
    }
}

impl std::fmt::Debug for ModelBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.length())
    }
}

/// Reads verified bytes in any order.
pub(crate) struct ModelReader<'a> {
    bytes: &'a mut ModelBytes,
    position: u64,
}

impl ModelReader<'_> {
    /// Gives up every segment that lies wholly before `offset`. Reading them afterwards is an error.
    pub(crate) fn release(&mut self, offset: u64) {
        if let ModelBytes::Read { segments, .. } = self.bytes {
            let passed = (offset / SEGMENT_BYTES) as usize;
            segments
                .iter_mut()
                .take(passed)
                .for_each(|segment| *segment = Vec::new());
        }
    }
}

impl Read for ModelReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.bytes.from(self.position)?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for ModelReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.bytes.length().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
