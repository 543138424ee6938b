//! What is made of records that were read: queries, exports, deliveries, figures.
#![expect(
    clippy::unwrap_used,
    reason = "a step that fails unexpectedly fails its test"
)]

mod delivering;
mod ecs;
mod exporting;
mod figures;
mod filtering;
mod joining;
mod ocsf;
mod page;
mod records;
mod unread;
