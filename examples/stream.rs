//! Prints an answer as it arrives, then what it took and cost. Run it with `cargo run --example stream`.

mod stand_in;

use std::io::{self, Write};

use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let request = ChatRequest::new(GEMMA_2_27B_IT, "Write a haiku about a server.");

    let mut stream = client.stream(&request)?;
    let mut out = io::stdout();
    for chunk in &mut stream {
        write!(out, "{}", chunk?.text())?;
        out.flush()?;
    }
    // All that the pieces said, as one answer: what `client.send(&request)` would have returned.
    let reply = stream.finish()?;

    writeln!(out, "\n")?;
    if let Some(usage) = reply.usage() {
        let (prompt, answer) = (usage.prompt_tokens, usage.completion_tokens);
        writeln!(out, "{prompt} tokens read, {answer} tokens written")?;
    }
    match reply.usd_spent() {
        Some(usd) => writeln!(out, "{usd:.6} US dollars")?,
        None => writeln!(out, "the server does not say what it cost")?,
    }
    Ok(())
}
