//! End-to-end tests: the `postern` binary on both ends of real sockets, real files, real signals.
//!
//! What can be asked of one crate through its public interface is tested in that crate; here stands what only
//! whole processes show: crashes, signals, exit codes, a full disk, and the way from the command line to the log.

mod calls;
mod crashes;
mod governance;
mod harness;
mod kills;
mod models;
