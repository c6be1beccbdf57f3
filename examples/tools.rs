//! Lets the model call a function of this program. Run it with `cargo run --example tools`.

mod stand_in;

use aimlapi::{ChatRequest, Client, FinishReason, Message, Tool, ToolCall};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    stand_in::unless_configured();
    let client = Client::from_env()?;
    let weather = Tool::function("weather")
        .description("The weather in a city, now.")
        .parameters(json!({
            "type": "object",
            "properties": { "city": { "type": "string" } },
            "required": ["city"],
        }));
    let question = "Do I need a coat in Lyon?";
    let mut request = ChatRequest::new("openai/gpt-4o-mini", question).tools([weather]);
    for _ in 0..5 {
        let reply = client.send(&request)?;
        if reply.finish_reason() == Some(&FinishReason::Length) {
            // A call in it may be cut short and look whole all the same.
            return Err("the answer was cut off at the token limit, so no tool was run".into());
        }
        if reply.tool_calls().is_empty() {
            println!("{}", reply.text());
            return Ok(());
        }
        let results: Vec<Message> = reply.tool_calls().iter().map(run).collect();
        request.messages_mut().push(reply.into_message());
        request.messages_mut().extend(results);
    }
    Err("the model asked for tools five times and did not answer".into())
}

/// What the tool says, or what is wrong with the call: the model reads it and can do better.
fn run(call: &ToolCall) -> Message {
    #[derive(serde::Deserialize)]
    struct Weather {
        city: String,
    }
    let output = match (call.name(), call.parse_arguments()) {
        ("weather", Ok(Weather { city })) => format!("{city}: 9 °C, rain"),
        ("weather", Err(error)) => format!("error: {error}"),
        (other, _) => format!("error: there is no tool {other:?}"),
    };
    println!("{}({}) -> {output}", call.name(), call.arguments());
    Message::tool(call.id(), output)
}
