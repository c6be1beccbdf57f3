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
mod documented;
mod errors;
mod faults;
#[cfg(target_os = "linux")]
mod load;
mod promises;
mod proxies;
mod public_api;
mod real_server;
mod requests;
mod retries;
mod schemas;
#[cfg(feature = "schemars")]
mod schemas_of_types;
mod settings;
mod streams;
mod tidy;
#[cfg(feature = "rustls")]
mod tls;
mod tools;
mod vocabulary;
mod whole_answers;
