//! Hands questions, one a line, to an engine that works through a file, and reads what it made of them:
//!
//! ```sh
//! cargo run --example batch_file <questions.txt >batch.jsonl
//! vllm run-batch -i batch.jsonl -o results.jsonl --model google/gemma-2-27b-it
//! cargo run --example batch_file -- results.jsonl <questions.txt
//! ```
//!
//! `--answer <batch.jsonl >results.jsonl` plays the engine, to try it without one.

mod stand_in;

use std::{env, error::Error, fs::File, io, io::BufReader};

use aimlapi::{BatchResults, ChatRequest, Client, GEMMA_2_27B_IT};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Line {
    custom_id: String,
    body: ChatRequest,
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1);
    if file.as_deref() == Some("--answer") {
        stand_in::unless_configured();
        return answer(&Client::from_env()?);
    }
    let results = file.map(File::open).transpose()?.map(BufReader::new);
    let mut results = results.map(BatchResults::read).transpose()?;
    for (number, question) in (1..).zip(io::stdin().lines()) {
        let (id, question) = (format!("question-{number}"), question?);
        match results.as_mut().map(|results| results.take(&id)) {
            None => println!(
                "{}",
                ChatRequest::new(GEMMA_2_27B_IT, question).batch_line(&id)?
            ),
            Some(Some(Ok(reply))) => println!("{question} {}", reply.text()),
            Some(Some(Err(error))) => println!("{question} {error}"),
            Some(None) => println!("{question} no answer"),
        }
    }
    Ok(())
}

fn answer(client: &Client) -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lines() {
        let Line { custom_id, body } = serde_json::from_str(&line?)?;
        let reply = client.send(&body)?;
        println!(
            "{}",
            json!({ "custom_id": custom_id, "response": { "body": reply } })
        );
    }
    Ok(())
}
