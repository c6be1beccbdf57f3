//! An answer is decoded whatever it holds, and what is none is an error that shows it.

use aimlapi::{Completion, Error, ErrorKind, FinishReason, Role, Usage};

use crate::support::{HELLO, MODEL, Server, exchange, hello, json, respond};

/// The answer in a body with status 200.
#[track_caller]
fn answer(body: &str) -> Completion {
    exchange(200, &[], body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// The error that a 2xx response without an answer is; it has to show the status and the body.
#[track_caller]
fn no_answer(status: u16, body: &str, kind: ErrorKind, want: &str) -> Error {
    let error = exchange(status.into(), &[], body).unwrap_err();
    assert_eq!(error.to_string(), want);
    assert_eq!(
        (error.kind(), error.status()),
        (kind, Some(status)),
        "{error}"
    );
    assert_eq!(error.body(), Some(body));
    assert_eq!(error.attempts(), 1);
    error
}

/// An answer with this in place of its usage.
#[track_caller]
fn usage(usage: &str) -> Option<Usage> {
    let body = format!(r#"{{"choices":[{{"message":{{"content":"hello"}}}}],"usage":{usage}}}"#);
    answer(&body).usage().copied()
}

#[test]
fn chat_returns_the_answer() {
    let server = Server::answering(json(200, HELLO));
    let reply = server.client().chat(MODEL, "hello").unwrap();
    assert_eq!(reply.text(), "hello");
    assert_eq!(reply.raw(), Some(HELLO));
}

#[test]
fn what_an_answer_says_is_read() {
    let reply = answer(HELLO);
    assert_eq!((reply.id(), reply.model()), ("c1", "test/model"));
    assert_eq!(reply.created(), 1_700_000_000);
    assert_eq!(reply.finish_reason(), Some(&FinishReason::Stop));
    assert_eq!(reply.message().role(), &Role::Assistant);
    let usage = reply.usage().unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (1, 2));
    assert_eq!(usage.total_tokens, 3);
}

#[test]
fn a_field_that_is_missing_null_or_odd_costs_no_answer() {
    for body in [
        r#"{"choices":[{"message":{"content":"hello"}}]}"#,
        r#"{"id":null,"object":null,"created":null,"model":null,"choices":[{"index":null,"message":{"role":null,"content":"hello","refusal":null,"tool_calls":null,"annotations":null},"finish_reason":null,"logprobs":null}],"usage":null,"meta":null,"error":null}"#,
        r#"{"id":7,"created":"soon","model":[],"choices":[{"index":{},"message":{"role":1,"content":"hello","tool_calls":{},"reasoning":[]},"finish_reason":{},"logprobs":"x"}],"usage":[],"meta":1,"citations":{}}"#,
        r#"{"created":-1,"choices":[null,{"index":-1,"message":{"content":"hello","tool_calls":[null,1,{}]},"finish_reason":false}],"usage":"none","meta":{"usage":[]}}"#,
        r#"{"choices":[{"message":{"content":[{"type":"text","text":"hel"},{"type":"text","text":"lo"}]}}]}"#,
        r#"{"choices":[{"delta":{"content":"hello"}}]}"#,
        " \r\n\n {\"choices\":[{\"message\":{\"content\":\"hello\"}}]}\n",
    ] {
        let reply = answer(body);
        assert_eq!(reply.text(), "hello", "{body}");
        assert_eq!(reply.raw(), Some(body));
    }
}

#[test]
fn a_byte_order_mark_costs_no_answer() {
    let reply = answer(&format!("\u{feff}{HELLO}"));
    assert_eq!((reply.text(), reply.raw()), ("hello", Some(HELLO)));
}

#[test]
fn an_answer_without_text_is_one() {
    for message in ["{}", r#"{"content":null}"#, r#"{"content":""}"#, "null"] {
        let reply = answer(&format!(r#"{{"choices":[{{"message":{message}}}]}}"#));
        assert_eq!((reply.text(), reply.choices().len()), ("", 1), "{message}");
    }
}

#[test]
fn integers_may_come_as_floats_or_text() {
    let reply = answer(
        r#"{"created":1700000000.0,"choices":[{"index":1.0,"message":{"content":"b"}},{"index":"0","message":{"content":"a"}}],"usage":{"prompt_tokens":2.0,"completion_tokens":"3"}}"#,
    );
    assert_eq!((reply.created(), reply.text()), (1_700_000_000, "a"));
    assert_eq!(reply.usage().unwrap().total_tokens, 5);
}

#[test]
fn values_that_no_enum_knows_are_kept() {
    let body = r#"{"choices":[{"message":{"role":"model","content":"hello"},"finish_reason":"end_turn"}]}"#;
    let reply = answer(body);
    let reason = FinishReason::Other("end_turn".to_owned());
    assert_eq!(reply.finish_reason(), Some(&reason));
    assert_eq!(reply.message().role(), &Role::Other("model".to_owned()));
}

#[test]
fn a_finish_reason_that_says_nothing_is_none() {
    for reason in ["null", r#""""#] {
        let body = format!(r#"{{"choices":[{{"message":{{}},"finish_reason":{reason}}}]}}"#);
        assert_eq!(answer(&body).finish_reason(), None, "{reason}");
    }
}

#[test]
fn what_no_field_names_is_in_raw() {
    let body = r#"{ "choices":[{"message":{"content":"hello","mood":"good"},"flag":0}], "price":5.2e-06,  "a":1, "a":2 }"#;
    assert_eq!(answer(body).raw(), Some(body));
}

#[test]
fn choices_are_sorted_by_their_index() {
    let reply = answer(
        r#"{"choices":[{"index":2,"message":{"content":"c"}},{"index":0,"message":{"content":"a"}},{"index":1,"message":{"content":"b"}}]}"#,
    );
    let texts: Vec<_> = reply
        .choices()
        .iter()
        .map(|c| (c.index(), c.text()))
        .collect();
    assert_eq!(texts, [(0, "a"), (1, "b"), (2, "c")]);
    assert_eq!(reply.text(), "a");
    assert_eq!(reply.into_message().text(), "a");
}

#[test]
fn usage_is_read_in_every_dialect() {
    let usage = |json: &str| {
        let usage = usage(json).unwrap();
        let (reasoning, cached) = (usage.reasoning_tokens, usage.cached_tokens);
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            reasoning,
            cached,
        )
    };
    assert_eq!(
        usage(
            r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":20,"completion_tokens_details":{"reasoning_tokens":7},"prompt_tokens_details":{"cached_tokens":8}}"#
        ),
        (9, 4, 20, Some(7), Some(8))
    );
    assert_eq!(
        usage(r#"{"input_tokens":9,"output_tokens":4}"#),
        (9, 4, 13, None, None)
    );
    assert_eq!(
        usage(
            r#"{"prompt_tokens":9,"completion_tokens":4,"completion_tokens_details":null,"prompt_tokens_details":{"cached_tokens":null},"reasoning_tokens":0,"prompt_cache_hit_tokens":3}"#
        ),
        (9, 4, 13, Some(0), Some(3))
    );
    assert_eq!(
        usage(r#"{"num_cached_tokens":2}"#),
        (0, 0, 0, None, Some(2))
    );
    assert_eq!(
        usage(r#"{"cache_read_input_tokens":2}"#),
        (0, 0, 0, None, Some(2))
    );
    let most = u64::MAX;
    let huge = format!(r#"{{"prompt_tokens":{most},"completion_tokens":1}}"#);
    assert_eq!(usage(&huge), (most, 1, most, None, None));
}

#[test]
fn no_usage_is_none() {
    for none in ["null", "[]", "7", r#""x""#] {
        assert_eq!(usage(none), None, "{none}");
    }
}

#[test]
fn the_cost_is_the_provider_s_own_before_that_of_a_source_behind_it() {
    let usd = |headers: &[(&str, &str)], body: &str| {
        let body = format!(r#"{{"choices":[{{"message":{{}}}}]{body}}}"#);
        exchange(200, headers, body).unwrap().usd_spent()
    };
    let header = [("x-aimlapi-usd-spent", "0.001240000")];
    let meta = r#","meta":{"usage":{"credits_used":7,"usd_spent":0.5}},"usage":{"cost":0.25}"#;
    let cost = r#","usage":{"cost":0.25}"#;
    assert_eq!(usd(&header, meta), Some(0.5));
    assert_eq!(usd(&header, cost), Some(0.001_24));
    assert_eq!(usd(&[], cost), Some(0.25));
    assert_eq!(
        usd(&[], r#","usage":{"cost":{"total_cost":0.125}}"#),
        Some(0.125)
    );
    assert_eq!(usd(&[], r#","usage":{"cost":0}"#), Some(0.0));
    assert_eq!(usd(&[], r#","meta":{"usage":{"credits_used":7}}"#), None);
    for nonsense in ["", "free", "NaN", "inf"] {
        assert_eq!(
            usd(&[("x-aimlapi-usd-spent", nonsense)], ""),
            None,
            "{nonsense}"
        );
    }
}

#[test]
fn the_ids_are_those_of_the_headers() {
    let ids = |headers: &[(&str, &str)]| {
        let reply = exchange(200, headers, HELLO).unwrap();
        let own = |id: Option<&str>| id.map(str::to_owned);
        (own(reply.request_id()), own(reply.client_request_id()))
    };
    let some = |id: &str| Some(id.to_owned());
    let (inference, request) = (("x-inference-id", "inf-1"), ("x-request-id", "req-1"));
    assert_eq!(ids(&[request, inference]), (some("inf-1"), None));
    assert_eq!(ids(&[request]), (some("req-1"), None));
    assert_eq!(
        ids(&[("X-Client-Request-Id", "mine")]),
        (None, some("mine"))
    );
}

#[test]
fn half_a_surrogate_pair_and_doubled_members_cost_no_answer() {
    let text = |message: &str| {
        answer(&format!(r#"{{"choices":[{{"message":{message}}}]}}"#))
            .text()
            .to_owned()
    };
    assert_eq!(text(r#"{"content":"a \ud83d\ude00"}"#), "a \u{1f600}");
    assert_eq!(text(r#"{"content":"cut \ud83d"}"#), "cut \u{fffd}");
    assert_eq!(text(r#"{"content":"\ude00 cut"}"#), "\u{fffd} cut");
    assert_eq!(text(r#"{"content":"a","content":"b"}"#), "b");
    assert_eq!(
        answer(r#"{"choices":[],"choices":[{"message":{"content":"a"}}]}"#).text(),
        "a"
    );
}

#[test]
fn invalid_utf_8_in_an_answer_costs_only_its_own_bytes() {
    let body = b"{\"choices\":[{\"message\":{\"content\":\"caf\xe9!\"}}]}";
    assert_eq!(exchange(200, &[], body).unwrap().text(), "caf\u{fffd}!");
}

#[test]
fn any_2xx_is_success() {
    for status in [200, 201, 202, 203, 206, 226, 299] {
        assert_eq!(
            exchange(status, &[], HELLO).unwrap().text(),
            "hello",
            "{status}"
        );
    }
}

#[test]
fn interim_responses_are_skipped() {
    for interim in [
        "100 Continue",
        "102 Processing",
        "103 Early Hints\r\nlink: </x>",
    ] {
        let server = Server::answering(format!("HTTP/1.1 {interim}\r\n\r\n{}", json(200, HELLO)));
        assert_eq!(
            server.client().send(&hello()).unwrap().text(),
            "hello",
            "{interim}"
        );
    }
}

#[test]
fn an_answer_is_read_in_every_framing() {
    let (first, rest) = HELLO.split_at(1);
    let size = rest.len();
    for response in [
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{first}\r\n{size:X};x=y\r\n{rest}\r\n0\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{HELLO}"),
        format!("HTTP/1.0 200 OK\r\n\r\n{HELLO}"),
    ] {
        let server = Server::start(move |_, connection| {
            connection.request()?;
            connection.send(&response)?;
            connection.close()
        });
        assert_eq!(server.client().send(&hello()).unwrap().text(), "hello");
    }
}

#[test]
fn no_body_is_no_answer() {
    let want = "the server answered 204 with no body, so with no answer";
    no_answer(204, "", ErrorKind::Decode, want);
    let want = "the server answered 200 with no body, so with no answer";
    no_answer(200, "", ErrorKind::Decode, want);
    no_answer(200, " \r\n", ErrorKind::Decode, want);
}

#[test]
fn a_page_is_no_answer() {
    no_answer(
        200,
        "<!DOCTYPE html>\n<html><head><title>Sign in\n to Wi-Fi</title></head><body>Hello!</body></html>",
        ErrorKind::Decode,
        "the server answered 200 with a page and not JSON: Sign in to Wi-Fi",
    );
}

#[test]
fn compressed_data_is_no_answer_and_is_not_shown() {
    let gzip = include_bytes!("../fixtures/hello.json.gz");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", gzip.len());
    let server = Server::answering([head.as_bytes(), gzip].concat());
    let what = "the server answered 200 with compressed data, which was not asked for";
    let error = server.client().send(&hello()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Decode, what.to_owned())
    );
    let error = server
        .client()
        .stream(&hello())
        .unwrap()
        .finish()
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Decode, what.to_owned())
    );
}

#[test]
fn json_without_choices_is_no_answer() {
    for body in [
        "{}",
        r#"{"choices":null}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":[null]}"#,
        r#"{"choices":{}}"#,
        r#"{"id":"x"}"#,
        "[]",
        "null",
        "true",
        "7",
        r#""hello""#,
    ] {
        let want = format!("the server answered 200 with JSON that holds no answer: {body}");
        no_answer(200, body, ErrorKind::Decode, &want);
    }
}

#[test]
fn broken_json_is_no_answer() {
    no_answer(
        200,
        r#"{"choices":[{"message":{"content":"hel"#,
        ErrorKind::Decode,
        r#"the server answered 200 with JSON that breaks off before its end: {"choices":[{"message":{"content":"hel"#,
    );
    for body in ["hello", "data: {}", r#"{"choices":[}"#, "{} {}"] {
        let want = format!("the server answered 200 with what is not JSON: {body}");
        no_answer(200, body, ErrorKind::Decode, &want);
    }
}

#[test]
fn an_error_with_status_200_is_an_error_of_the_api() {
    for (body, code) in [
        (
            r#"{"error":{"message":"no key","type":"auth","code":401}}"#,
            Some("401"),
        ),
        (r#"{"error":"no key"}"#, None),
        (
            r#"{"message":"no key","statusCode":"403","path":"/v1"}"#,
            None,
        ),
        (r#"{"detail":"no key"}"#, None),
        (
            r#"{"object":"error","message":"no key","code":"bad"}"#,
            Some("bad"),
        ),
        (r#"{"error":{"message":"no key"},"choices":[]}"#, None),
    ] {
        let want = "the server answered 200 with an error in it: no key";
        let error = no_answer(200, body, ErrorKind::Api, want);
        assert_eq!((error.message(), error.code()), ("no key", code), "{body}");
        assert!(error.partial().is_none(), "{body}");
    }
}

#[test]
fn an_error_beside_an_answer_keeps_the_answer() {
    for body in [
        r#"{"error":{"message":"cut"},"choices":[{"message":{"content":"hel"}}]}"#,
        r#"{"choices":[{"message":{"content":"hel"},"error":{"message":"cut","code":502}}]}"#,
    ] {
        let error = exchange(200, &[], body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Api, "{error}");
        assert_eq!(error.partial().unwrap().text(), "hel");
    }
}

#[test]
fn nesting_without_end_is_no_danger() {
    const DEEP: usize = 100_000;
    let (open, close) = ("[".repeat(DEEP), "]".repeat(DEEP));
    for body in [
        open.clone(),
        format!("{open}{close}"),
        r#"{"a":"#.repeat(DEEP),
        format!(r#"{{"choices":{open}"#),
    ] {
        let error = exchange(200, &[], &body).unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Decode, Some(200))
        );
        assert_eq!(error.body(), Some(body.as_str()));
        assert!(error.to_string().len() < 400, "{error}");
    }
    for field in ["other", "usage", "meta", "citations"] {
        let error = exchange(
            200,
            &[],
            format!(r#"{{"choices":[{{"message":{{"content":"a"}}}}],"{field}":{open}{close}}}"#),
        );
        assert_eq!(error.unwrap().text(), "a", "{field}");
    }
}

#[test]
fn bytes_that_are_no_text_are_no_answer() {
    let error = exchange(200, &[], b"\x89\x08\0\xff\xfe\0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 200 with what is not JSON: \u{fffd} \u{fffd}\u{fffd}"
    );
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Decode, Some(200))
    );
}

#[test]
fn the_limit_of_bytes_is_exact() {
    let server = Server::answering(json(200, HELLO));
    let size = u64::try_from(HELLO.len()).unwrap();
    let with = |limit| server.builder().max_response_bytes(limit).build().unwrap();
    assert_eq!(with(size).send(&hello()).unwrap().text(), "hello");
    let error = with(size - 1).send(&hello()).unwrap_err();
    let why = format!("{} bytes (the limit is max_response_bytes())", size - 1);
    assert_eq!(
        error.to_string(),
        format!("the answer is longer than {why}")
    );
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Decode, Some(200))
    );
    assert_eq!(error.body(), Some(HELLO));
}

#[test]
fn a_body_without_end_is_read_no_further_than_the_limit() {
    for head in [
        "content-length: 99999999999\r\n\r\n",
        "connection: close\r\n\r\n",
    ] {
        let server = Server::start(move |_, connection| {
            connection.request()?;
            connection.send(format!("HTTP/1.1 200 OK\r\n{head}"))?;
            loop {
                connection.send(" ".repeat(1000))?;
            }
        });
        let client = server.builder().max_response_bytes(10_000).build().unwrap();
        let error = client.send(&hello()).unwrap_err();
        assert_eq!(
            (error.kind(), error.body().unwrap().len()),
            (ErrorKind::Decode, 10_001)
        );
    }
}

#[test]
fn a_whole_answer_that_is_cut_short_is_interrupted() {
    let response = respond(200, &[("x-inference-id", "inf-1")], HELLO);
    let server = Server::start(move |_, connection| {
        connection.request()?;
        connection.send(&response.as_bytes()[..response.len() - 20])?;
        connection.close()
    });
    let error = server.client().send(&hello()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(
        error.to_string(),
        "the connection was lost in the middle of the answer [request id inf-1]"
    );
    assert_eq!(error.body(), Some(&HELLO[..HELLO.len() - 20]));
    assert_eq!((error.status(), error.attempts()), (Some(200), 1));
    assert_eq!(server.requests().len(), 1);
}
