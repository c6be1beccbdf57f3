//! Any base URL makes a client or an error; what is secret in it is not shown.
#![no_main]

use aimlapi::Client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|url: &str| {
    match Client::builder().base_url(url).build() {
        Ok(client) => assert!(!format!("{client:?}").contains('?'), "{url:?}"),
        Err(error) => assert!(!error.to_string().contains('\n'), "{url:?}: {error}"),
    }
});
