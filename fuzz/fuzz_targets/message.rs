//! A stored history is read or refused, and goes out as it was stored.
#![no_main]

use aimlapi::{ChatRequest, Content, ContentPart, Message, ToolCall};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(message) = serde_json::from_str::<Message>(text) {
        let _ = (message.text(), message.reasoning(), message.refusal(), message.tool_calls());
        let written = serde_json::to_string(&message).unwrap();
        let again: Message = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
        let _ = serde_json::to_string(&ChatRequest::new("m", [message]).fold_system());
    }
    if let Ok(call) = serde_json::from_str::<ToolCall>(text) {
        let _ = (call.id(), call.name(), call.parse_arguments::<serde_json::Value>());
        let written = serde_json::to_string(&call).unwrap();
        let again: ToolCall = serde_json::from_str(&written).unwrap();
        assert_eq!(again, call);
    }
    let _ = serde_json::from_str::<Content>(text);
    let _ = serde_json::from_str::<ContentPart>(text);
});
