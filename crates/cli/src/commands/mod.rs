//! One module a command; each is a straight line from its arguments to its output.

pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod certs;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod generate;
pub(crate) mod model;
pub(crate) mod policy;
pub(crate) mod prompt;
pub(crate) mod reload;
pub(crate) mod review;
pub(crate) mod sanitize;
pub(crate) mod serve;
pub(crate) mod token;
