//! A conversation that remembers what was said, until Ctrl-D. Run it with `cargo run --example conversation`.

mod stand_in;

use std::io::{self, Write};

use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let mut conversation = ChatRequest::new(GEMMA_2_27B_IT, Vec::new());
    let mut out = io::stdout();
    loop {
        write!(out, "you: ")?;
        out.flush()?;
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        conversation.messages_mut().push(Message::user(line.trim()));

        write!(out, "model: ")?;
        let stream = client.stream(&conversation);
        match stream.and_then(|stream| stream.write_to(&mut out)) {
            // The message itself and not only its text: some models need the rest of it again.
            Ok(reply) => conversation.messages_mut().push(reply.into_message()),
            Err(error) => {
                write!(out, "[{error}]")?;
                // A question without an answer would confuse the next one.
                conversation.messages_mut().pop();
            }
        }
        writeln!(out)?;
    }
}
