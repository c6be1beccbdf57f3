//! The crate from outside, over real sockets: a file per promise.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

mod batches;
mod budgets;
mod cassettes;
mod errors;
mod faults;
mod promises;
mod real_server;
mod requests;
mod retries;
mod settings;
mod streams;
mod tidy;
mod vocabulary;
mod whole_answers;
