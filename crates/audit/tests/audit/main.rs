//! The audit log through its public interface: real files, real processes, real damage.
#![expect(
    clippy::unwrap_used,
    reason = "a step that fails unexpectedly fails its test"
)]

mod appending;
mod attack_folders;
mod attacks;
mod bad_input;
mod crash;
mod damage;
mod directory;
mod disk_full;
mod displaced;
mod documents;
mod fixtures;
mod format;
mod lossy;
mod proofs;
mod recovery;
mod retention;
mod sealing;
mod victim;
