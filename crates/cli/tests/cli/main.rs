//! The real binary, run as a user runs it.

mod audit;
mod audit_attacks;
mod audit_export;
mod audit_log;
mod audit_proofs;
mod audit_reports;
mod auditors;
mod budget;
mod certs;
mod configuration;
mod demo;
mod file_rights;
mod generate;
mod help;
mod model;
mod policy;
mod prompt;
mod registry;
mod run;
mod sanitize;
mod serve;
mod signals;
mod token;
