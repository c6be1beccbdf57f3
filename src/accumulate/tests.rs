use std::fmt::Write;
use std::time::{Duration, Instant};

use super::*;
use serde_json::json;

#[track_caller]
fn read(events: &[impl AsRef<str>]) -> Completion {
    let mut answer = Accumulator::new(true);
    for event in events {
        answer.add(&Json::read(event.as_ref()).unwrap()).unwrap();
    }
    answer.finish()
}

#[track_caller]
fn send(answer: &str) -> Completion {
    let mut completion = Completion::decode(200, answer.to_owned()).unwrap();
    completion.raw = None;
    completion
}

fn delta(delta: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)
}

/// The deltas of a message make the message that is sent whole.
#[track_caller]
fn makes(deltas: &[&str], message: &str) {
    let events: Vec<String> = deltas.iter().map(|pieces| delta(pieces)).collect();
    let whole = send(&format!(
        r#"{{"choices":[{{"index":0,"message":{message}}}]}}"#
    ));
    assert_eq!(read(&events), whole);
}

#[test]
fn a_custom_tool_and_what_a_call_holds_besides_survive() {
    makes(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","type":"custom","custom":{"name":"sql","input":"select"}}]}"#,
            r#"{"tool_calls":[{"index":0,"custom":{"input":" 1"},"extra_content":{"google":{"thought_signature":"x"}}}]}"#,
        ],
        r#"{"tool_calls":[{"id":"a","type":"custom","custom":{"name":"sql","input":"select 1"},"extra_content":{"google":{"thought_signature":"x"}}}]}"#,
    );
}

#[test]
fn a_role_that_is_absent_empty_or_unknown_is_no_trouble() {
    makes(
        &[
            r#"{"role":"assistant","content":"a"}"#,
            r#"{"role":"","content":"b"}"#,
            r#"{"role":null,"content":"c"}"#,
        ],
        r#"{"role":"assistant","content":"abc"}"#,
    );
    makes(
        &[r#"{"role":"critic","content":"a"}"#, r#"{"content":"b"}"#],
        r#"{"role":"critic","content":"ab"}"#,
    );
}

#[test]
fn reasoning_is_joined_under_each_of_its_names() {
    for name in ["reasoning", "reasoning_content"] {
        let piece = |text| format!(r#"{{"{name}":"{text}","content":null}}"#);
        let (a, b) = (piece("Let me"), piece(" think."));
        makes(
            &[&a, &b],
            &format!(r#"{{"content":null,"{name}":"Let me think."}}"#),
        );
        assert_eq!(
            read(&[delta(&a), delta(&b)]).reasoning(),
            Some("Let me think.")
        );
    }
}

#[test]
fn reasoning_details_are_merged_with_their_signatures() {
    makes(
        &[
            r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"id":null,"format":"x","text":"Let"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":" me"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":null,"signature":"s1"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.text","index":1,"text":"So"},{"type":"reasoning.text","index":1,"text":" be it"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","index":1,"data":"zz"}]}"#,
        ],
        r#"{"reasoning_details":[
            {"type":"reasoning.text","index":0,"id":null,"format":"x","text":"Let me","signature":"s1"},
            {"type":"reasoning.text","index":1,"text":"So be it"},
            {"type":"reasoning.encrypted","index":1,"data":"zz"}]}"#,
    );
}

#[test]
fn details_with_ids_of_their_own_are_not_merged() {
    makes(
        &[
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"a","data":"xx"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"b","data":"yy"}]}"#,
            r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"b","data":"zz"}]}"#,
        ],
        r#"{"reasoning_details":[{"type":"reasoning.encrypted","id":"a","data":"xx"},{"type":"reasoning.encrypted","id":"b","data":"yyzz"}]}"#,
    );
}

#[test]
fn thinking_parts_and_text_become_parts() {
    let think = |text| {
        format!(
            r#"{{"content":[{{"type":"thinking","thinking":[{{"type":"text","text":"{text}"}}]}}]}}"#
        )
    };
    let deltas = [
        r#"{"role":"assistant","content":""}"#,
        &think("Let me"),
        &think(" think."),
        r#"{"content":[{"type":"thinking","thinking":[],"signature":"s"}]}"#,
        r#"{"content":""}"#,
        r#"{"content":"4"}"#,
        r#"{"content":[{"type":"text","text":"2"}]}"#,
        r#"{"content":"."}"#,
    ];
    makes(
        &deltas,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Let me think."}],"signature":"s"},{"type":"text","text":"42."}]}"#,
    );
    let answer = read(&deltas.map(delta));
    assert_eq!(
        (answer.text(), answer.reasoning()),
        ("42.", Some("Let me think."))
    );
}

#[test]
fn text_before_parts_becomes_a_part() {
    makes(
        &[
            r#"{"content":"a"}"#,
            r#"{"content":[{"type":"image_url","image_url":{"url":"u"}}]}"#,
            r#"{"content":"b"}"#,
        ],
        r#"{"content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}},{"type":"text","text":"b"}]}"#,
    );
}

#[test]
fn refusals_are_joined() {
    makes(
        &[r#"{"refusal":"I can"}"#, r#"{"refusal":"not."}"#],
        r#"{"refusal":"I cannot."}"#,
    );
}

#[test]
fn logprobs_are_joined() {
    let token =
        |token| format!(r#"{{"token":"{token}","logprob":-0.5,"bytes":null,"top_logprobs":[]}}"#);
    let event = |logprobs: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"logprobs":{logprobs}}}]}}"#)
    };
    let (a, b) = (token("a"), token("b"));
    let answer = read(&[
        event(&format!(r#"{{"content":[{a}]}}"#)),
        event("null"),
        event(&format!(r#"{{"content":[{b}],"refusal":null}}"#)),
        event(&format!(r#"{{"content":null,"refusal":[{b}]}}"#)),
    ]);
    let whole = format!(
        r#"{{"choices":[{{"message":{{"content":"xxxx"}},"logprobs":{{"content":[{a},{b}],"refusal":[{b}]}}}}]}}"#
    );
    assert_eq!(answer, send(&whole));
}

#[test]
fn usage_counts_wherever_it_comes() {
    let real = r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}"#;
    let text = r#""choices":[{"index":0,"delta":{"content":"x"}}]"#;
    for events in [
        [
            format!("{{{text}}}"),
            format!(r#"{{"choices":[],"usage":{real}}}"#),
        ],
        [
            format!(r#"{{{text},"usage":{real}}}"#),
            r#"{"choices":[],"usage":null}"#.to_owned(),
        ],
        [
            format!(r#"{{{text},"usage":{real}}}"#),
            r#"{"choices":[],"usage":{}}"#.to_owned(),
        ],
        [
            format!(r#"{{{text},"usage":{{}}}}"#),
            format!(r#"{{"usage":{real}}}"#),
        ],
        [
            format!(r#"{{{text},"usage":{{"total_tokens":1}}}}"#),
            format!(r#"{{"choices":null,"usage":{real}}}"#),
        ],
    ] {
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 2,
            total_tokens: 3,
            ..Usage::default()
        };
        assert_eq!(read(&events).usage(), Some(&usage), "{events:?}");
    }
    assert_eq!(read(&[format!("{{{text}}}")]).usage(), None);
}

#[test]
fn the_cost_may_come_in_the_last_chunk() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    let cost = r#"{"choices":[],"meta":{"usage":{"usd_spent":0.25}}}"#;
    assert_eq!(read(&[text, cost]).usd_spent(), Some(0.25));
    assert_eq!(
        read(&[text, r#"{"choices":[],"usage":{"cost":0.5}}"#]).usd_spent(),
        Some(0.5)
    );
    assert_eq!(read(&[text, cost, text]).usd_spent(), Some(0.25));
    assert_eq!(read(&[text]).usd_spent(), None);
}

#[test]
fn choices_are_told_apart_by_their_index_and_sorted() {
    let piece =
        |index: u32, text: &str| format!(r#"{{"index":{index},"delta":{{"content":"{text}"}}}}"#);
    let answer = read(&[
        format!(r#"{{"choices":[{}]}}"#, piece(1, "b")),
        format!(
            r#"{{"choices":[{},{}]}}"#,
            piece(4_000_000_000, "c"),
            piece(0, "a")
        ),
        format!(r#"{{"choices":[{}]}}"#, piece(1, "B")),
        r#"{"choices":[{"delta":{"content":"A"}},{"index":null,"delta":{"content":"!"}}]}"#
            .to_owned(),
    ]);
    let texts = answer
        .choices()
        .iter()
        .map(|choice| (choice.index(), choice.text()));
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [(0, "aA"), (1, "bB!"), (4_000_000_000, "c")]
    );
}

#[test]
fn the_first_choice_speaks_or_choice_0_of_several() {
    let said = |several| {
        let mut answer = Accumulator::new(several);
        let mut said = |index| {
            let event = format!(
                r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":"stop"}}]}}"#
            );
            let said = answer.add(&Json::read(&event).unwrap()).unwrap();
            (said.text.len(), said.finish_reason.is_some())
        };
        [said(1), said(0)]
    };
    assert_eq!(said(false), [(1, true), (0, false)]);
    assert_eq!(said(true), [(0, false), (1, true)]);
}

/// The same numbers in every run: a failure can be seen again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        let (by, plus) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(by).wrapping_add(plus);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// A text as the inside of JSON strings, cut between UTF-16 units, or between characters only.
    fn cut(&mut self, text: &str, characters: bool) -> Vec<String> {
        let mut pieces = vec![String::new()];
        for unit in text.encode_utf16() {
            let within = characters && (0xDC00..0xE000).contains(&unit);
            if !within && self.below(3) == 0 {
                pieces.push(String::new());
            }
            write!(pieces.last_mut().unwrap(), "\\u{unit:04x}").unwrap();
        }
        pieces
    }
}

#[test]
fn an_answer_cut_anywhere_is_the_whole_answer() {
    const TEXTS: [&str; 4] = ["", "a \"naïve\" 😀👩‍🚀\n", "\u{fdd0}d83d😀\\u{2028}", "𝔘𝔫𝔦"];
    const FIELDS: [(&str, &str); 3] = [
        (r#"{"reasoning":""#, r#""}"#),
        (r#"{"content":""#, r#""}"#),
        (
            r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""#,
            r#""}}]}"#,
        ),
    ];
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let texts: [&str; 6] = std::array::from_fn(|_| TEXTS[dice.below(TEXTS.len())]);
        let choice = |index: usize, texts: &[&str]| {
            let call = json!({"function": {"name": "f", "arguments": texts[2]}});
            json!({"index": index, "message": {
                "reasoning": texts[0], "content": texts[1], "tool_calls": [call]}})
        };
        let choices = [choice(0, &texts[..3]), choice(1, &texts[3..])];
        let whole = send(&json!({ "choices": choices }).to_string());

        let mut queues = texts.map(|text| dice.cut(text, seed % 2 == 0).into_iter());
        let (mut answer, mut said) = (Accumulator::new(true), String::new());
        while queues.iter().any(|queue| queue.len() > 0) {
            let at = dice.below(queues.len());
            let Some(piece) = queues[at].next() else {
                continue;
            };
            let (index, (before, after)) = (at / 3, FIELDS[at % 3]);
            let event =
                format!(r#"{{"choices":[{{"index":{index},"delta":{before}{piece}{after}}}]}}"#);
            said += &answer.add(&Json::read(&event).unwrap()).unwrap().text;
        }
        assert_eq!(said, texts[1], "seed {seed}");
        assert_eq!(answer.finish(), whole, "seed {seed}");
    }
}

/// Adds these events one after the other until one is refused; says how many were taken.
fn taken(events: impl Iterator<Item = String>) -> usize {
    let mut answer = Accumulator::new(true);
    let started = Instant::now();
    let taken =
        events.take_while(|event| Json::read(event).is_ok_and(|event| answer.add(&event).is_ok()));
    let taken = taken.count();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let calls = answer
        .partial()
        .map_or(0, |answer| answer.tool_calls().len());
    assert!(answer.completion.choices.len() <= MOST && calls <= MOST);
    taken
}

#[test]
fn choices_and_calls_without_end_are_refused() {
    let choice = |index| format!(r#"{{"choices":[{{"index":{index},"delta":{{}}}}]}}"#);
    assert_eq!(taken((0..1_000_000).map(choice)), MOST);
    let call = |index| delta(&format!(r#"{{"tool_calls":[{{"index":{index}}}]}}"#));
    assert_eq!(taken((0..1_000_000).map(call)), MOST);
    let call = |id| {
        delta(&format!(
            r#"{{"tool_calls":[{{"id":"{id}","function":{{"name":"f"}}}}]}}"#
        ))
    };
    assert_eq!(taken((0..1_000_000).map(call)), MOST);
    let many = vec!["{}"; 1_000_000].join(",");
    assert_eq!(
        taken(std::iter::once(format!(r#"{{"choices":[{many}]}}"#))),
        0
    );
    assert_eq!(
        taken(std::iter::once(delta(&format!(
            r#"{{"tool_calls":[{many}]}}"#
        )))),
        0
    );
}

#[test]
fn an_index_may_be_any_number() {
    for index in [
        "4000000000",
        "4e9",
        "1e300",
        "-1",
        "18446744073709551615",
        "1.5",
        "\"7\"",
        "{}",
    ] {
        let choice = format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}}}}]}}"#);
        let call = delta(&format!(
            r#"{{"content":"","tool_calls":[{{"index":{index},"id":"a"}}]}}"#
        ));
        assert_eq!(read(&[&choice, &choice]).text(), "xx", "{index}");
        assert_eq!(read(&[&call, &call]).tool_calls().len(), 1, "{index}");
    }
}
