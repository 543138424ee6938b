//! A model file, read once and checked against its pin.
//!
//! Invariant: a [`VerifiedModel`] holds the very bytes whose SHA-256 equals the pin, in
//! memory that no file backs. The path is opened once and read once, front to back; what
//! happens to the file afterwards does not matter.
//!
//! A backend that takes the bytes over tensor by tensor gives back what it has passed, so that hardly anything is held
//! twice.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use postern_kernels::ReleasableBytes;
use sha2::{Digest, Sha256};

use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};
use crate::manifest::ModelManifest;

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
        let mut bytes = ReleasableBytes::zeroed(length(manifest)?);
        let found = read_and_hash(&mut file, manifest, bytes.whole_mut(), on_progress)?;
        refuse_more(&mut file, manifest)?;
        check_digest(manifest, Some(&manifest.path), found)?;
        Ok(Self {
            id: manifest.id.clone(),
            path: Some(manifest.path.clone()),
            sha256: found,
            bytes: ModelBytes::Read(bytes),
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

    /// Reads the verified bytes. They are given up only through [`ModelReader::release`].
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

/// A file that does not fit the address space cannot be the pinned one.
fn length(manifest: &ModelManifest) -> Result<usize> {
    usize::try_from(manifest.bytes).map_err(|_| {
        read_failed(
            &manifest.path,
            io::Error::other("it is larger than this machine's address space"),
        )
    })
}

fn read_and_hash(
    file: &mut File,
    manifest: &ModelManifest,
    bytes: &mut [u8],
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
        for piece in bytes.chunks_mut(PIECE_BYTES) {
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
    Read(ReleasableBytes),
}

impl ModelBytes {
    fn length(&self) -> u64 {
        match self {
            Self::Embedded(bytes) => bytes.len() as u64,
            Self::Read(bytes) => bytes.length() as u64,
        }
    }

    /// The bytes from `position` on: empty at the end, an error where they were released.
    fn from(&self, position: u64) -> io::Result<&[u8]> {
        if position >= self.length() {
            return Ok(&[]);
        }
        match self {
            Self::Embedded(bytes) => Ok(&bytes[position as usize..]),
            Self::Read(bytes) => bytes
                .from(position as usize)
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
    /// `length` bytes from `offset` on, as they lie in memory.
    ///
    /// # Errors
    /// Where there are fewer, or they were released.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let bytes = self.bytes.from(offset)?;
        bytes
            .get(..length)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Gives up everything before `offset`. Reading it afterwards is an error.
    pub(crate) fn release(&mut self, offset: u64) {
        if let ModelBytes::Read(bytes) = self.bytes {
            bytes.release(usize::try_from(offset).unwrap_or(usize::MAX));
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
