//! Labels the rows of a file: `cargo run --example label_rows -- DIRECTORY <reviews.csv >labels.csv`
//!
//! Each row gets its label in the same line of the output; an error leaves the line empty. The answers are kept in the
//! directory: a run that was stopped, or killed, goes on where it was and pays for nothing twice.

mod stand_in;

use std::io::{self, Write};

use aimlapi::{Budget, Cassette, ChatRequest, Client, GEMMA_2_27B_IT};
use indicatif::{ProgressBar, ProgressStyle};

fn label(row: &String) -> ChatRequest {
    let question = format!("Is this review good or bad? Answer with one word.\n\n{row}");
    ChatRequest::new(GEMMA_2_27B_IT, question).max_tokens(5)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    // Where the server reports prices, there is also usd(5.0).
    let budget = Budget::new().requests(100_000).tokens(10_000_000);
    let mut client = Client::builder().budget(budget);
    if let Some(directory) = std::env::args_os().nth(1) {
        client = client.cassette(Cassette::auto(directory));
    }
    let rows = io::stdin().lines().collect::<io::Result<Vec<String>>>()?;
    let requests: Vec<ChatRequest> = rows.iter().map(label).collect();

    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}, {eta} left, {msg}")?;
    let bar = ProgressBar::new(rows.len().try_into()?).with_style(style);
    let shown = bar.clone();
    let replies = client.build()?.send_all(requests).on_progress(move |it| {
        shown.set_position(it.done);
        shown.set_message(format!("${:.4}", it.spent.usd));
    });
    for (number, reply) in (1..).zip(replies) {
        if let Err(error) = &reply {
            bar.suspend(|| eprintln!("row {number}: {error}"));
        }
        let text = reply.as_ref().map_or("", |reply| reply.text());
        let label = text.split_whitespace().next().unwrap_or_default();
        writeln!(io::stdout(), "{label}")?;
    }
    bar.finish();
    Ok(())
}
