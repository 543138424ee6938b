//! End-to-end tests of Postern: the real binary, real sockets, real files.
//!
//! The tests stand beside this folder, one file a concern. There is nothing to import here.
