//! A file of results is read or refused, whatever its lines are.
#![no_main]

use aimlapi::BatchResults;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut results) = BatchResults::read(bytes) else { return };
    let ids: Vec<String> = results.ids().map(str::to_owned).collect();
    for id in ids {
        match results.take(&id) {
            Some(Ok(completion)) => drop(completion.text().to_owned()),
            Some(Err(error)) => drop(format!("{error} {error:#?}")),
            None => {}
        }
    }
});
