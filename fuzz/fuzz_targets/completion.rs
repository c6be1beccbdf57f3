//! Any text is a completion or an error, and what was read is read again from what it was written as.
#![no_main]

use aimlapi::Completion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(completion) = serde_json::from_str::<Completion>(text) else { return };
    assert!(!completion.choices().is_empty());
    let _ = (completion.text(), completion.reasoning(), completion.usage(), completion.usd_spent());
    let _ = (completion.citations(), completion.json::<serde_json::Value>());
    for choice in completion.choices() {
        let _ = (choice.text(), choice.refusal(), choice.logprobs());
        for call in choice.tool_calls() {
            let _ = call.parse_arguments::<serde_json::Value>();
        }
    }
    let written = serde_json::to_string(&completion).unwrap();
    let again: Completion = serde_json::from_str(&written).unwrap();
    assert_eq!(again.text(), completion.text());
    assert_eq!(again.tool_calls(), completion.tool_calls());
    assert_eq!(again.usage(), completion.usage());
    // Written once, it is as it will stay.
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
});
