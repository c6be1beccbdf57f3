//! What goes wrong, and what a program does about it. Run it with `cargo run --example errors`.

mod stand_in;

use std::net::TcpListener;
use std::time::Duration;

use aimlapi::{ChatRequest, ChatStream, Client, Error, ErrorKind, RetryPolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let ask = |model: &str| client.chat(model, "Tell me about Rust.");
    let ask_at = |address: String| {
        let client = Client::builder().base_url(format!("http://{address}"));
        let client = client.timeout(Duration::from_millis(300));
        client.retry(RetryPolicy::none()).build()?.chat("any", "Hi")
    };
    let silent = TcpListener::bind("127.0.0.1:0")?; // it never answers
    let failures = [
        ask(""),
        ask_at("127.0.0.1:1".to_owned()), // nobody listens there
        ask_at(silent.local_addr()?.to_string()),
        ask("no-such-model"),
        ask("any").and_then(|reply| reply.json()), // prose is no JSON
        client
            .stream(&ChatRequest::new("breaks-off", "Tell me about Rust."))
            .and_then(ChatStream::finish),
    ];
    for error in failures.into_iter().filter_map(Result::err) {
        println!("{:?}: {error}", error.kind());
        println!("    {}\n", what_now(&error));
    }
    Ok(())
}

fn what_now(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Input => "Nothing was sent. Mend the program, or its settings.".to_owned(),
        // A client with its default RetryPolicy has tried that twice already.
        _ if error.is_retryable() => "Nothing was answered or billed. Ask again later.".to_owned(),
        ErrorKind::Connection => "Check the address, the proxy, the certificate.".to_owned(),
        ErrorKind::Timeout => "It may be billed. Allow more time, or stream.".to_owned(),
        ErrorKind::Api => "Read what the server says: the key, the model, the credit.".to_owned(),
        ErrorKind::Decode => "It came and is paid for: look into it with body().".to_owned(),
        ErrorKind::Interrupted => match error.partial() {
            Some(partial) => format!("Use what came until then: {:?}", partial.text()),
            None => "Not a word of the answer came.".to_owned(),
        },
        _ => "Tell the user.".to_owned(),
    }
}
