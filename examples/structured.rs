//! Asks for JSON of a given schema and reads it into a struct. Run it with `cargo run --example structured`.

mod stand_in;

use aimlapi::{ChatRequest, Client, ResponseFormat};
use serde_json::json;

#[derive(serde::Deserialize)]
struct Birth {
    city: String,
    year: u16,
}

fn main() -> aimlapi::Result<()> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string" }, "year": { "type": "integer" } },
        "required": ["city", "year"],
        "additionalProperties": false,
    });
    let format = ResponseFormat::json_schema("birth", schema).strict(true);
    // Strict mode has rules of its own. This tells, without a call, what it would refuse.
    for fault in format.lint() {
        eprintln!("{fault}");
    }

    let text = "When and where? Ada Lovelace was born in London in 1815.";
    let reply =
        client.send(&ChatRequest::new("openai/gpt-4o-mini", text).response_format(format))?;
    println!("{}", reply.text());
    // What is not a `Birth` is an error that shows the text and where it breaks.
    let birth: Birth = reply.json()?;
    println!("the city is {}, the year {}", birth.city, birth.year);
    Ok(())
}
