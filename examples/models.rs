//! Lists the models that the server offers. Run it with `cargo run --example models`.

mod stand_in;

use std::io::{self, Write};

use aimlapi::Client;
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    let mut out = io::stdout();
    for model in Client::from_env()?.models()? {
        // Servers tell different things about a model. All of it is in `raw()`.
        let raw: Value = serde_json::from_str(model.raw())?;
        let context = raw.pointer("/info/contextLength").and_then(Value::as_u64);
        let context = context.map_or(String::new(), |tokens| format!("{tokens} tokens"));
        let aliases: Vec<&str> = model.aliases().collect();
        writeln!(
            out,
            "{:32}{context:>15}   {}",
            model.id(),
            aliases.join(", ")
        )?;
    }
    Ok(())
}
