//! Asks for the program's messages in other languages, and is answered from the recordings that lie beside it: the
//! build needs neither network nor key, and gives the same result everywhere.

use std::error::Error;
use std::fmt::Write;
use std::{env, fs};

use aimlapi::{Cassette, ChatRequest, Client, GEMMA_2_27B_IT};

const MESSAGES: [&str; 2] = ["File not found.", "The disk is full."];
const LANGUAGES: [&str; 2] = ["French", "German"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cassettes");
    println!("cargo::rerun-if-env-changed=AIMLAPI_CASSETTE");
    // Nobody's build makes a call, unless AIMLAPI_CASSETTE says so. Cargo runs this in the package's directory.
    let client = Client::builder()
        .cassette(Cassette::replay("cassettes"))
        .build()?;
    let mut table = String::new();
    for message in MESSAGES {
        for language in LANGUAGES {
            let question = format!("Say in {language}, and say nothing else: {message}");
            let reply = client.send(&ChatRequest::new(GEMMA_2_27B_IT, question))?;
            let text = reply.text().trim();
            writeln!(table, "    ({language:?}, {message:?}, {text:?}),")?;
        }
    }
    let code = format!("const TRANSLATIONS: &[(&str, &str, &str)] = &[\n{table}];\n");
    fs::write(format!("{}/translations.rs", env::var("OUT_DIR")?), code)?;
    Ok(())
}
