//! Speed, parity and serving of the engine, side by side with llama.cpp on the same files.
//!
//! ```text
//! Shape x Quantization -> make() -> ModelFile -> rounds of (sha256sum, ours, llama.cpp) -> Report
//! ```
//!
//! Invariants: both engines read the same file and compute with the same number of threads, in turn and within one
//! run; each measurement of ours has a process to itself; a peer that is absent is named in the report.
//!
//! What is absent: trained weights (speed does not depend on them), and the command line, which is `cargo xtask bench`.

mod bare;
mod callers;
mod child;
mod divergence;
mod machine;
mod make;
mod parity;
mod peer;
mod recipe;
mod reference;
mod regression;
mod report;
mod rounds;
mod serving;
mod shape;
mod table;
mod vocabulary;

pub use bare::{Completion, bare_engine, complete};
pub use child::{CHILD_CHORE, serve};
pub use machine::{Machine, read_bytes_per_s};
pub use make::{ModelFile, make};
pub use parity::{Parity, compare};
pub use peer::Peer;
pub use recipe::Quantization;
pub use regression::regression;
pub use report::{Bound, Figure, FileReport, Report};
pub use rounds::{Plan, measure};
pub use serving::{is_served, serving};
pub use shape::{Shape, published, tiny};
pub use table::table;
