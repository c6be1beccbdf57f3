//! What is said and answered beside plain text: JSON, parts, reasoning, prices, models.

use std::fmt::{Debug, Display};

use aimlapi::{
    ChatRequest, Client, Completion, Content, ContentPart, ErrorKind, FinishReason, Message,
    ReasoningEffort, Role,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{DONE, MODEL, STREAM_HEAD, Server, hello, json as response, respond};

pub(crate) fn completion(answer: Value) -> Completion {
    serde_json::from_value(answer).unwrap()
}

/// An answer with this message.
pub(crate) fn answering(message: Value) -> Completion {
    completion(json!({ "choices": [{ "message": message, "finish_reason": "stop" }] }))
}

fn saying(text: &str) -> Completion {
    answering(json!({ "role": "assistant", "content": text }))
}

/// What a server streams, put together.
pub(crate) fn streamed(chunks: &[Value]) -> Completion {
    let event = |chunk: &Value| format!("data: {chunk}\n\n");
    let events = chunks.iter().map(event).collect::<Vec<_>>().concat();
    let server = Server::answering(format!("{STREAM_HEAD}{events}{DONE}"));
    server.client().stream(&hello()).unwrap().finish().unwrap()
}

#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct City {
    #[serde(default)]
    city: String,
}

pub(crate) fn city(name: &str) -> City {
    City {
        city: name.to_owned(),
    }
}

mod json_answers {
    use super::*;

    #[test]
    fn json_is_read_with_or_without_a_fence_around_the_whole() {
        for text in [
            r#"{"city": "Paris"}"#,
            "\n {\"city\": \"Paris\"}\n",
            "```json\n{\"city\": \"Paris\"}\n```",
            "```\n{\"city\": \"Paris\"}\n```\n",
        ] {
            assert_eq!(
                saying(text).json::<City>().unwrap(),
                city("Paris"),
                "{text}"
            );
        }
        assert_eq!(saying(r#"["```"]"#).json::<Vec<String>>().unwrap(), ["```"]);
    }

    #[test]
    fn what_is_not_the_json_asked_for_is_shown() {
        for (text, message) in [
            (
                "Sure! {\"city\": \"Paris\"}",
                "the answer is not the JSON asked for, expected value at line 1 column 1, in: Sure! {\"city\": \"Paris\"}",
            ),
            (
                r#"{"city": null}"#,
                r#"the answer is not the JSON asked for, invalid type: null, expected a string at line 1 column 13, in: {"city": null}"#,
            ),
            (
                "",
                "the answer is not the JSON asked for, EOF while parsing a value at line 1 column 0",
            ),
        ] {
            let error = saying(text).json::<City>().unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Decode, message.to_owned())
            );
            assert_eq!(error.body(), Some(text));
        }
    }

    #[test]
    fn json_cut_off_by_the_limit_of_tokens_says_so() {
        let reply = completion(json!({
            "choices": [{ "message": { "content": "{\"city\": \"Par" }, "finish_reason": "length" }],
        }));
        assert_eq!(
            reply.json::<City>().unwrap_err().to_string(),
            "the answer was cut off at the token limit and is not the JSON asked for, \
             EOF while parsing a string at line 1 column 13, in: {\"city\": \"Par"
        );
    }
}

mod parts {
    use super::*;

    #[test]
    fn parts_go_out_in_their_order() {
        let message = Message::user([
            ContentPart::text("Compare:"),
            ContentPart::image_url("https://example.com/a.png").detail("low"),
            ContentPart::video_url("https://example.com/a.mp4"),
            ContentPart::input_audio(b"abc", "mp3"),
            ContentPart::file_id("file-1"),
            ContentPart::text("All of it is long.").cached(),
            ContentPart::raw(json!({ "type": "document", "title": "t" })),
        ]);
        let content = json!([
            { "type": "text", "text": "Compare:" },
            { "type": "image_url", "image_url": { "url": "https://example.com/a.png", "detail": "low" } },
            { "type": "video_url", "video_url": { "url": "https://example.com/a.mp4" } },
            { "type": "input_audio", "input_audio": { "data": "YWJj", "format": "mp3" } },
            { "type": "file", "file": { "file_id": "file-1" } },
            { "type": "text", "text": "All of it is long.", "cache_control": { "type": "ephemeral" } },
            { "type": "document", "title": "t" },
        ]);
        assert_eq!(serde_json::to_value(&message).unwrap()["content"], content);
        assert_eq!(message.text(), "Compare:All of it is long.");
    }

    #[test]
    fn bytes_that_are_no_picture_are_refused() {
        let error = ContentPart::image_bytes(b"%PDF-1.7").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert_eq!(
            error.to_string(),
            "the bytes are no PNG, JPEG, GIF or WEBP picture"
        );
    }

    #[test]
    fn an_answer_in_parts_is_read_as_text_and_goes_back_in_parts() {
        let parts = json!([
            { "type": "thinking", "thinking": [{ "type": "text", "text": "Hm." }] },
            { "type": "text", "text": "Hel" },
            { "type": "text", "text": "lo" },
        ]);
        let reply = answering(json!({ "role": "assistant", "content": parts }));
        assert_eq!((reply.text(), reply.reasoning()), ("Hello", Some("Hm.")));
        assert!(
            matches!(reply.message().content(), Some(Content::Parts(parts)) if parts.len() == 3)
        );
        assert_eq!(
            serde_json::to_value(reply.message()).unwrap()["content"],
            parts
        );
    }
}

mod system_text {
    use super::*;

    #[track_caller]
    fn assert_folded(messages: &[Message], expected: Value) {
        let request = ChatRequest::new(MODEL, messages).fold_system();
        assert_eq!(
            serde_json::to_value(&request).unwrap()["messages"],
            expected
        );
        assert_eq!(request.messages(), messages);
    }

    #[test]
    fn system_text_goes_in_front_of_the_first_user_message() {
        assert_folded(
            &[
                Message::system("Be brief."),
                Message::developer("Be kind."),
                Message::assistant("Hello."),
                Message::user("Why?").named("ada"),
                Message::user("And how?"),
            ],
            json!([
                { "role": "assistant", "content": "Hello." },
                { "role": "user", "content": "Be brief.\n\nBe kind.\n\nWhy?", "name": "ada" },
                { "role": "user", "content": "And how?" },
            ]),
        );
    }

    #[test]
    fn system_text_goes_in_front_of_parts_as_a_part() {
        assert_folded(
            &[
                Message::system([ContentPart::text("Be "), ContentPart::text("brief.")]),
                Message::user([ContentPart::image_url("u")]),
            ],
            json!([{ "role": "user", "content": [
                { "type": "text", "text": "Be brief.\n\n" },
                { "type": "image_url", "image_url": { "url": "u" } },
            ] }]),
        );
    }

    #[test]
    fn system_text_without_a_user_message_becomes_one() {
        assert_folded(
            &[Message::system("Greet me."), Message::assistant("Hello.")],
            json!([
                { "role": "user", "content": "Greet me." },
                { "role": "assistant", "content": "Hello." },
            ]),
        );
    }

    #[test]
    fn nothing_is_folded_where_there_is_no_system_text() {
        let user = json!([{ "role": "user", "content": "Why?" }]);
        assert_folded(&[Message::user("Why?")], user.clone());
        assert_folded(&[Message::system(""), Message::user("Why?")], user);
    }
}

mod answers {
    use super::*;

    #[test]
    fn reasoning_is_read_under_every_name() {
        let details = json!([
            { "type": "reasoning.summary", "summary": "Hm" },
            { "type": "reasoning.text", "text": "m.", "signature": "c2ln" },
            { "type": "reasoning.encrypted", "data": "eA" },
        ]);
        for (message, expected) in [
            (json!({ "reasoning_content": "Hmm." }), Some("Hmm.")),
            (json!({ "reasoning": "Hmm." }), Some("Hmm.")),
            (
                json!({ "reasoning_content": "Hmm.", "reasoning": "no" }),
                Some("Hmm."),
            ),
            (
                json!({ "reasoning_content": "", "reasoning": "Hmm." }),
                Some("Hmm."),
            ),
            (
                json!({ "reasoning_content": null, "reasoning_details": details }),
                Some("Hmm."),
            ),
            (
                json!({ "content": [{ "type": "thinking", "thinking": "Hmm." }] }),
                Some("Hmm."),
            ),
            (json!({ "content": "Hmm." }), None),
            (json!({ "reasoning": "" }), None),
        ] {
            assert_eq!(
                answering(message.clone()).reasoning(),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn reasoning_goes_back_with_its_signature() {
        let details = json!([{ "type": "reasoning.text", "text": "Hmm.", "signature": "c2ln" }]);
        let said = json!({ "role": "assistant", "content": "4", "reasoning_details": details, "audio": { "id": "a" } });
        let sent = serde_json::to_value(answering(said).message()).unwrap();
        assert_eq!(
            sent,
            json!({ "role": "assistant", "content": "4", "reasoning_details": details })
        );
    }

    #[test]
    fn the_price_is_what_the_provider_says_before_what_one_behind_it_says() {
        let meta = r#""meta":{"usage":{"credits_used":42,"usd_spent":0.000021}},"#;
        let cost = r#""usage":{"prompt_tokens":1,"cost":0.5},"#;
        let costs = r#""usage":{"prompt_tokens":1,"cost":{"total_cost":0.25}},"#;
        let header = Some("0.000042");
        for (fields, header, expected) in [
            (String::new(), None, None),
            (meta.to_owned(), None, Some(0.000_021)),
            (format!("{meta}{cost}"), header, Some(0.000_021)),
            (cost.to_owned(), header, Some(0.000_042)),
            (String::new(), header, Some(0.000_042)),
            (String::new(), Some("much"), None),
            (cost.to_owned(), None, Some(0.5)),
            (costs.to_owned(), None, Some(0.25)),
        ] {
            let body = format!(r#"{{{fields}"choices":[{{"message":{{"content":"a"}}}}]}}"#);
            let headers: Vec<_> = header
                .map(|usd| ("x-aimlapi-usd-spent", usd))
                .into_iter()
                .collect();
            let server = Server::answering(respond(200, &headers, &body));
            let reply = server.client().send(&hello()).unwrap();
            assert_eq!(reply.usd_spent(), expected, "{body} {header:?}");
        }
    }

    #[test]
    fn the_price_of_a_stream_is_the_last_one_told() {
        let cost =
            |usd: f64| json!({ "choices": [], "usage": { "prompt_tokens": 1, "cost": usd } });
        let text = json!({ "choices": [{ "index": 0, "delta": { "content": "a" }, "finish_reason": "stop" }] });
        let reply = streamed(&[text.clone(), cost(0.25), cost(0.5)]);
        assert_eq!(reply.usd_spent(), Some(0.5));
        let meta = json!({ "choices": [], "meta": { "usage": { "usd_spent": 0.75 } } });
        assert_eq!(streamed(&[text, meta, cost(0.5)]).usd_spent(), Some(0.75));
    }

    #[test]
    fn citations_are_those_of_the_answer_and_of_its_annotations() {
        let note = |url: &str| json!({ "type": "url_citation", "url_citation": { "url": url, "title": "t", "start_index": 0 } });
        let message =
            json!({ "content": "a", "annotations": [note("u3"), { "type": "file" }, note("u4")] });
        let cited = |more: Value| {
            let mut answer = json!({ "choices": [{ "message": message }] });
            answer
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            completion(answer)
        };
        let found = json!([{ "title": "t", "url": "u1" }, { "title": "no address" }]);
        assert_eq!(cited(json!({})).citations(), ["u3", "u4"]);
        assert_eq!(
            cited(json!({ "citations": ["u1", "u2"], "search_results": found })).citations(),
            ["u1", "u2", "u3", "u4"]
        );
        assert_eq!(
            cited(json!({ "citations": null, "search_results": found })).citations(),
            ["u1", "u3", "u4"]
        );
        let back = cited(json!({})).into_message();
        assert_eq!(
            serde_json::to_value(back).unwrap(),
            json!({ "role": "assistant", "content": "a" })
        );
    }

    #[test]
    fn logprobs_are_read_with_what_is_missing_in_them() {
        let reply = completion(json!({ "choices": [{
            "message": { "content": "ô!" },
            "logprobs": {
                "content": [
                    { "token": "ô", "logprob": -0.5, "bytes": [195, 180], "top_logprobs": [
                        { "token": "ô", "logprob": -0.5, "bytes": [195, 180] },
                        { "token": "o", "logprob": -9999, "bytes": null },
                    ] },
                    { "token": "!", "logprob": null },
                ],
                "refusal": null,
            },
        }] }));
        let logprobs = reply.choices()[0].logprobs().unwrap();
        let [first, second] = &logprobs.content[..] else {
            panic!("{logprobs:?}");
        };
        assert_eq!(
            (&*first.token, first.logprob, first.bytes.as_deref()),
            ("ô", -0.5, Some(&[195, 180][..]))
        );
        assert_eq!(
            (first.top_logprobs.len(), first.top_logprobs[1].logprob),
            (2, -9999.0)
        );
        assert_eq!((&*second.token, second.logprob), ("!", f64::NEG_INFINITY));
        assert!(
            second.bytes.is_none() && second.top_logprobs.is_empty() && logprobs.refusal.is_empty()
        );
    }

    #[test]
    fn logprobs_of_a_stream_are_put_together() {
        let chunk = |token: &str| json!({ "choices": [{ "index": 0, "delta": { "content": token }, "logprobs": { "content": [{ "token": token, "logprob": -1 }] } }] });
        let reply = streamed(&[chunk("a"), chunk("b")]);
        let tokens: Vec<&str> = reply.choices()[0]
            .logprobs()
            .unwrap()
            .content
            .iter()
            .map(|t| &*t.token)
            .collect();
        assert_eq!(tokens, ["a", "b"]);
    }
}

mod stored {
    use super::*;

    #[track_caller]
    fn stored(reply: &Completion) -> Completion {
        serde_json::from_str(&serde_json::to_string(reply).unwrap()).unwrap()
    }

    #[test]
    fn a_whole_answer_is_stored_as_it_came() {
        let body = r#"{ "id": "c", "choices" : [ {"message":{"content":"a","new_field":1}} ], "new": 1e3 }"#;
        let reply: Completion = serde_json::from_str(body).unwrap();
        assert_eq!(reply.raw(), Some(body));
        assert_eq!(serde_json::to_string(&reply).unwrap(), body);
        assert_eq!(stored(&reply), reply);
    }

    #[test]
    fn an_answer_that_is_no_strict_json_is_stored_as_far_as_its_fields_go() {
        for odd in ["NaN", "007", "\"a\tb\""] {
            let answer =
                crate::support::HELLO.replace("\"stop\"", &format!("\"stop\",\"x\":{odd}"));
            let server = Server::answering(crate::support::json(200, &answer));
            let reply = server.client().send(&crate::support::hello()).unwrap();
            assert_eq!(reply.raw(), Some(answer.as_str()));
            assert_eq!(stored(&reply).choices(), reply.choices(), "{odd}");
        }
    }

    #[test]
    fn a_streamed_answer_is_stored_in_the_same_form() {
        let reply = streamed(&[
            json!({ "id": "c", "model": "m", "created": 7, "citations": ["u1"], "choices": [{ "index": 0, "delta": {
                "role": "assistant", "reasoning_content": "Hm.", "content": "a",
                "annotations": [{ "type": "url_citation", "url_citation": { "url": "u2" } }],
            }, "logprobs": { "content": [{ "token": "a", "logprob": -0.1, "bytes": [97] }] } }] }),
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [
                { "index": 0, "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" }, "extra_content": { "a": 1 } },
            ] } }] }),
            json!({ "choices": [{ "index": 0, "delta": { "refusal": "No." }, "finish_reason": "eos" }] }),
            json!({ "choices": [], "usage": {
                "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 8, "cost": 0.1,
                "completion_tokens_details": { "reasoning_tokens": 2 }, "prompt_tokens_details": { "cached_tokens": 1 },
            } }),
        ]);
        let read = stored(&reply);
        assert_eq!((read.id(), read.model(), read.created()), ("c", "m", 7));
        assert_eq!(
            (read.text(), read.reasoning(), read.choices()),
            ("a", Some("Hm."), reply.choices())
        );
        assert_eq!(
            (read.usage(), read.usd_spent(), read.citations()),
            (reply.usage(), Some(0.1), vec!["u1", "u2"])
        );
        assert_eq!(stored(&read), read);
    }

    #[test]
    fn what_is_no_answer_is_not_read_as_one() {
        for body in [
            "{}",
            "[]",
            r#"{"choices":[]}"#,
            r#"{"error":{"message":"no"}}"#,
        ] {
            assert!(serde_json::from_str::<Completion>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_message_of_any_role_and_with_any_field_is_kept() {
        let messages = json!([
            { "role": "critic", "content": "No.", "weight": 1 },
            { "role": "tool", "content": [{ "type": "text", "text": "t" }], "tool_call_id": "1" },
            { "role": "assistant", "content": null, "refusal": "No." },
        ]);
        let read: Vec<Message> = serde_json::from_value(messages.clone()).unwrap();
        assert_eq!(read[0].role(), &Role::Other("critic".to_owned()));
        assert_eq!(read[2].refusal(), Some("No."));
        assert_eq!(serde_json::to_value(&read).unwrap(), messages);
    }
}

mod names {
    use super::*;

    #[track_caller]
    fn named<T>(value: &T, name: &str)
    where
        T: for<'a> From<&'a str> + Debug + DeserializeOwned + Display + PartialEq + Serialize,
    {
        assert_eq!(&T::from(name), value);
        assert_eq!(format!("{value:>20}"), format!("{name:>20}"));
        assert_eq!(serde_json::to_value(value).unwrap(), json!(name));
        assert_eq!(&serde_json::from_value::<T>(json!(name)).unwrap(), value);
    }

    #[test]
    fn a_name_on_the_wire_is_read_printed_and_stored() {
        named(&Role::System, "system");
        named(&Role::Developer, "developer");
        named(&Role::User, "user");
        named(&Role::Assistant, "assistant");
        named(&Role::Tool, "tool");
        named(&Role::Other("critic".to_owned()), "critic");
        named(&FinishReason::Stop, "stop");
        named(&FinishReason::Length, "length");
        named(&FinishReason::ContentFilter, "content_filter");
        named(&FinishReason::ToolCalls, "tool_calls");
        named(&FinishReason::Other("eos".to_owned()), "eos");
        named(&ReasoningEffort::Low, "low");
        named(&ReasoningEffort::Medium, "medium");
        named(&ReasoningEffort::High, "high");
        named(&ReasoningEffort::Other("none".to_owned()), "none");
    }
}

mod models {
    use super::*;

    fn listed(body: &str) -> Vec<aimlapi::Model> {
        let server = Server::answering(response(200, body));
        let client = Client::builder()
            .base_url(server.base_url())
            .build()
            .unwrap();
        let models = client.models().unwrap();
        let request = server.requests().remove(0);
        assert_eq!(request.line, "GET /v1/models HTTP/1.1");
        assert_eq!(request.headers.get("authorization"), None);
        models
    }

    #[track_caller]
    fn assert_ids(body: &str, ids: &[&str]) {
        let models = listed(body);
        assert_eq!(
            models.iter().map(aimlapi::Model::id).collect::<Vec<_>>(),
            ids
        );
    }

    #[test]
    fn models_are_listed_without_a_key_in_every_shape() {
        assert_ids(
            r#"{"object":"list","data":[{"id":"b","object":"model"},{"id":"a"}]}"#,
            &["b", "a"],
        );
        assert_ids(
            r#"{"data":[{"id":"b","aliases":["x"],"type":"chat-completion","info":{}}]}"#,
            &["b"],
        );
        assert_ids(r#"[{"id":"b"},{"id":"a"}]"#, &["b", "a"]);
        assert_ids(
            r#"{"models":[{"name":"b:latest","model":"b:latest"},{"name":"a"}]}"#,
            &["b:latest", "a"],
        );
        assert_ids(r#"{"data":[]}"#, &[]);
    }

    #[test]
    fn a_model_has_aliases_and_whatever_else_the_server_tells() {
        let item = r#"{"id":"google/gemma-2-27b-it","aliases":["gemma-2-27b-it","gemma"],"info":{"contextLength":8192}}"#;
        let models = listed(&format!(r#"{{"data":[{item}]}}"#));
        assert_eq!(
            models[0].aliases().collect::<Vec<_>>(),
            ["gemma-2-27b-it", "gemma"]
        );
        assert_eq!(models[0].raw(), item);
    }

    #[test]
    fn what_is_no_list_of_models_is_an_error() {
        let refused = |status, body: &str| {
            let server = Server::answering(response(status, body));
            server.client().models().unwrap_err()
        };
        let error = refused(200, r#"{"object":"list"}"#);
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(
            error.to_string(),
            r#"the server answered 200 with what is no list of models: {"object":"list"}"#
        );
        assert_eq!(refused(200, r#"{"error":"no"}"#).kind(), ErrorKind::Api);
        assert_eq!(refused(401, r#"{"message":"no"}"#).status(), Some(401));
    }
}
