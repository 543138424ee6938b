//! What is taken out of a text, what is left alone, and that a stream gives the same as the whole.

mod fixtures;
mod hostile;
mod numbering;
mod personal;
mod properties;
mod rule_files;
mod secrets;
mod stays;
mod stream;
