//! What can be set, once on the client and on each request. Run it with `cargo run --example options`.

mod stand_in;

use std::time::Duration;

use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT, Message, RetryPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();

    // For every call. The key and the address come from the environment, as they are not set here.
    let client = Client::builder()
        .timeout(Duration::from_secs(60))
        .retry(RetryPolicy::default().max_retries(4))
        .build()?;

    // For one request, which is a plain value: it can be kept, printed and sent again.
    let messages = [
        Message::system("You answer in one sentence."),
        Message::user("Why is the sky blue?"),
    ];
    let request = ChatRequest::new(GEMMA_2_27B_IT, messages)
        .max_tokens(20)
        .temperature(0.2)
        .fold_system() // Gemma 2 has no system role: the text goes in front of the question
        .param("user", "ada"); // what has no method of its own
    println!("{}\n", serde_json::to_string_pretty(&request)?);

    let reply = client.send(&request)?;
    println!("{}\n", reply.text());
    println!("finish reason: {:?}", reply.finish_reason()); // 20 tokens were too few
    println!("usage: {:?}", reply.usage());
    Ok(())
}
