//! What holds for every input, by inputs that are made up.

use std::io::BufReader;
use std::time::{Duration, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::accumulate::Accumulator;
use crate::endpoint::Endpoint;
use crate::json::Json;
use crate::refusal::Refusal;
use crate::retry::retry_after;
use crate::sse::Events;
use crate::template::Template;
use crate::{BatchResults, Completion, Message};

/// Names that mean something somewhere.
const NAMES: [&str; 32] = [
    "choices",
    "message",
    "delta",
    "content",
    "text",
    "index",
    "finish_reason",
    "role",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "type",
    "usage",
    "prompt_tokens",
    "total_tokens",
    "cost",
    "meta",
    "citations",
    "logprobs",
    "error",
    "code",
    "detail",
    "details",
    "retryDelay",
    "statusCode",
    "custom_id",
];

/// JSON that looks like an answer, and mostly is none.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(
            &[
                "",
                "a",
                "stop",
                "assistant",
                "{\"message\":\"x\"}",
                "3s",
                "text"
            ][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let name =
            prop_oneof![9 => select(&NAMES[..]).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name, inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A response that is an answer in most, with anything in the places that matter.
fn answer() -> impl Strategy<Value = Value> {
    (vec((json(), json(), json()), 1..3), json(), json()).prop_map(|(choices, usage, other)| {
        let choice = |(content, tool_calls, finish_reason): (Value, Value, Value)| {
            serde_json::json!({
                "message": { "content": content, "tool_calls": tool_calls },
                "finish_reason": finish_reason,
            })
        };
        let choices: Vec<Value> = choices.into_iter().map(choice).collect();
        serde_json::json!({ "choices": choices, "usage": usage, "citations": other })
    })
}

/// A text, cut, with one of its characters exchanged: JSON that broke on the way.
fn broken(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (
        text,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<char>(),
    )
        .prop_map(|(text, at, end, by)| {
            let mut chars: Vec<char> = text.chars().collect();
            if !chars.is_empty() {
                let at = at.index(chars.len());
                chars[at] = by;
                chars.truncate(end.index(chars.len()) + 1);
            }
            chars.into_iter().collect()
        })
}

/// Lines such as streams have.
fn events() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(
            &[
                "data:",
                "data: ",
                "event: error",
                ":",
                "id: 1",
                "\n",
                "\r",
                "\r\n",
                "\n\n",
                "\u{feff}",
                "[DONE]",
                "{}"
            ][..]
        )
        .prop_map(|piece| piece.as_bytes().to_vec()),
        vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// The name, the data and the wholeness of each event, read in pieces of so many bytes.
fn read_events(bytes: &[u8], piece: usize) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let mut events = Events::new(BufReader::with_capacity(piece, bytes), 1 << 20);
    let mut all = Vec::new();
    while let Some(event) = events.next().unwrap() {
        all.push((event.name.to_vec(), event.data.to_vec(), event.whole));
    }
    all
}

/// The texts of events of one choice, with what else may be in them; put together, and the answer of all.
fn accumulated(events: &[String], by_template: bool) -> (String, Completion) {
    let (mut answer, mut template) = (Accumulator::new(false), Template::default());
    let mut said = String::new();
    for event in events {
        let known = template.find(event).filter(|_| by_template);
        if let Some(addition) = known.as_ref().filter(|addition| addition.is_plain) {
            let text = &event[addition.text.clone()];
            if let Some(speaks) = answer.add_text(addition.choice, text) {
                said.push_str(if speaks { text } else { "" });
                continue;
            }
        }
        let json = Json::read(event).unwrap();
        let Ok(added) = answer.add(&json) else { break };
        said.push_str(&added.text);
        if known.is_none() {
            template.learn(event, json.root());
        }
    }
    (said, answer.finish())
}

fn event() -> impl Strategy<Value = String> {
    let text = prop_oneof![4 => "[a-z ]{0,6}", 1 => select(&["\\n", "\\ud83d", "\\ude00", "\\\"", "é"][..]).prop_map(str::to_owned)];
    let beside = select(
        &[
            "",
            ",\"role\":\"assistant\"",
            ",\"refusal\":null",
            ",\"reasoning\":\"r\"",
            ",\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}]",
        ][..],
    );
    let end = select(
        &[
            "",
            ",\"finish_reason\":null",
            ",\"finish_reason\":\"stop\"",
            ",\"logprobs\":{\"content\":[]}",
        ][..],
    );
    let stamps = (
        select(&["\"\"", "\"c\"", "\"d\"", "null", "7", "\"\\n\""][..]),
        select(
            &[
                "0",
                "17",
                "18000",
                "null",
                "1.5",
                "-1",
                "\"9\"",
                "99999999999999999999999",
            ][..],
        ),
        "[a-z{} ]{0,6}",
    );
    (stamps, 0_u8..2, text, prop_oneof![4 => Just(""), 1 => beside], prop_oneof![4 => Just(""), 1 => end]).prop_map(|((id, created, pad), index, text, beside, end)| {
        format!(r#"{{"id":{id},"created":{created},"pad":"{pad}","choices":[{{"index":{index},"delta":{{"content":"{text}"{beside}}}{end}}}]}}"#)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_has_the_same_events_wherever_it_is_cut(bytes in events(), piece in 1_usize..20) {
        prop_assert_eq!(read_events(&bytes, piece), read_events(&bytes, 8192));
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(value in json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let strict: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Json::read(&text).unwrap().root().value().unwrap_or_default(), strict);
        }
    }

    #[test]
    fn what_serde_json_reads_is_json(text in prop_oneof![broken(json().prop_map(|json| json.to_string())), any::<String>()]) {
        let read = Json::read(&text).ok().map(|json| json.root().value().unwrap_or_default());
        if let Ok(strict) = serde_json::from_str::<Value>(&text) {
            prop_assert_eq!(read, Some(strict));
        }
    }

    #[test]
    fn what_is_strict_is_read_by_serde_json_too(text in prop_oneof![
        broken(json().prop_map(|json| json.to_string())),
        r#"[\[ "\\{},:0-9a.eEINftnul+\x01-]{0,8}"#,
        r"-?[0-9]{1,3}(\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
        select(&["NaN", "[Infinity]", "-Infinity", "[\"\t\"]", "{\"\\u0000\":\"\\ud83d\"}"][..]).prop_map(str::to_owned),
    ]) {
        if Json::read(&text).is_ok_and(|json| json.is_strict()) {
            prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_answer_survives_being_stored(text in prop_oneof![answer(), json()]) {
        if let Ok(completion) = Completion::decode(200, text.to_string()) {
            let written = serde_json::to_string(&completion).unwrap();
            let again: Completion = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(again.text(), completion.text());
            prop_assert_eq!(again.tool_calls(), completion.tool_calls());
            prop_assert_eq!(again.usage(), completion.usage());
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), written);
            let message = serde_json::to_string(completion.message()).unwrap();
            let again: Message = serde_json::from_str(&message).unwrap();
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), message);
        }
    }

    #[test]
    fn an_answer_that_broke_is_an_error(text in broken(answer().prop_map(|json| json.to_string()))) {
        if let Err(error) = Completion::decode(200, text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn an_error_has_a_sentence_or_none(text in prop_oneof![json().prop_map(|json| json.to_string()), broken(json().prop_map(|json| json.to_string())), any::<String>(), "<[ -~]{0,60}"]) {
        let refusal = Refusal::read(&text);
        prop_assert_ne!(refusal.message.as_deref(), Some(""));
    }

    #[test]
    fn results_of_a_batch_are_read_or_refused(lines in vec(prop_oneof![json().prop_map(|json| json.to_string()), any::<String>()], 0..4)) {
        let _ = BatchResults::read(lines.join("\n").as_bytes());
    }

    #[test]
    fn a_base_url_put_right_stays_as_it_is(url in prop_oneof![any::<String>(), "https?://[a-zA-Z0-9.:\\[\\]@-]{1,20}(/[a-z0-9/?#%]{0,20})?(/v1|/chat/completions|/){0,3}"]) {
        if let Ok(endpoint) = Endpoint::parse(&url) {
            let asked = endpoint.chat_url();
            prop_assert_eq!(Endpoint::parse(&asked).unwrap().chat_url(), asked);
            prop_assert!(!endpoint.shown("").contains('?'));
        }
    }

    #[test]
    fn a_wait_is_never_more_than_was_asked_for(seconds in 0.0..1e12_f64, now in 0_u64..1 << 34) {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let asked = retry_after(None, Some(&seconds.to_string()), now).unwrap();
        prop_assert!((asked.as_secs_f64() - seconds).abs() < 1e-3, "{asked:?}");
        let asked = retry_after(Some(&seconds.to_string()), None, now).unwrap();
        prop_assert!((asked.as_secs_f64() - seconds / 1000.0).abs() < 1e-3, "{asked:?}");
    }

    #[test]
    fn a_wait_that_is_none_is_none(text in prop_oneof![any::<String>(), "[A-Z][a-z]{2},? [0-9]{1,20}[ -][A-Z][a-z]{2}[ -][0-9]{1,20} [0-9:]{1,20} GMT"], now in any::<u32>()) {
        let _ = retry_after(Some(&text), Some(&text), UNIX_EPOCH + Duration::from_secs(now.into()));
    }

    #[test]
    fn a_template_changes_nothing(mut events in vec(event(), 0..12), again in vec(any::<prop::sample::Index>(), 0..12)) {
        // Events that come again, with the same stamps or others, have templates.
        for index in again {
            if !events.is_empty() {
                events.insert(0, events[index.index(events.len())].clone());
            }
        }
        prop_assert_eq!(accumulated(&events, true), accumulated(&events, false));
    }
}
