//! An error says what failed, what was said about it and what to do, in one line.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::time::Duration;

use aimlapi::{Client, Error, ErrorKind};

use crate::support::{
    HELLO, Server, begins, ends, exchange, hello, json, nobody, quick, respond, say_hello,
};

#[track_caller]
fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> Error {
    let error = exchange(status.into(), headers, body).unwrap_err();
    let kind = (error.kind(), error.status());
    assert_eq!(kind, (ErrorKind::Api, Some(status)), "{error}");
    assert_eq!((error.body(), error.attempts()), (Some(body), 1), "{error}");
    error
}

/// What an error says behind `the server answered`.
#[track_caller]
fn says(status: u16, body: &str, want: &str) {
    let text = refused(status, &[], body).to_string();
    assert_eq!(
        text.strip_prefix("the server answered "),
        Some(want),
        "{body}"
    );
}

/// The error of a request that a client refuses to send.
fn unsent() -> Error {
    let client = Client::builder().base_url(nobody()).build().unwrap();
    client.chat("", "hello").unwrap_err()
}

#[test]
fn the_sentence_of_the_server_is_found_in_every_shape() {
    for body in [
        r#"{"message":"no good","path":"/v1/chat/completions","requestId":null,"statusCode":400,"timestamp":"now"}"#,
        r#"{"error":{"message":"no good","type":"invalid","param":null,"code":null}}"#,
        r#"{"error":"no good"}"#,
        r#"{"error":["no good"]}"#,
        r#"{"error":{"error":{"message":"no good"}}}"#,
        r#"{"error":"Bad Request","message":"no good","statusCode":400}"#,
        r#"{"detail":"no good"}"#,
        r#"{"detail":[{"msg":"no good","type":"missing"}]}"#,
        r#"{"errors":[{"message":"no good"}]}"#,
        r#"[{"error":{"code":400,"message":"no good","status":"INVALID_ARGUMENT"}}]"#,
        r#"{"message":"400 {\"type\":\"error\",\"error\":{\"type\":\"x\",\"message\":\"no good\"}}"}"#,
        r#"{"error":{"message":"{\n  \"error\": {\"message\": \"no good\"}\n}"}}"#,
        r#"{"msg":"no\n\n  good"}"#,
        "\u{feff}{\"message\":\"no good\"}",
        "no good\n",
        "<html><head><title>no good</title></head><body><h1>Error</h1></body></html>",
        "<h1>no good</h1>",
    ] {
        says(400, body, "400 Bad Request: no good");
    }
}

#[test]
fn the_place_that_a_validator_complains_about_is_told() {
    says(
        422,
        r#"{"detail":[{"loc":["body","messages",0],"msg":"field required"},{"loc":["body","n"],"msg":"too big"}]}"#,
        "422 Unprocessable Entity: body.messages.0: field required; body.n: too big",
    );
}

#[test]
fn what_the_provider_behind_a_provider_said_is_told() {
    says(
        502,
        r#"{"error":{"message":"Provider returned error","metadata":{"raw":"{\"message\":\"too long\"}"}}}"#,
        "502 Bad Gateway: Provider returned error: too long",
    );
}

#[test]
fn a_server_that_says_nothing_is_given_its_status() {
    for body in [
        "",
        "{}",
        "null",
        r#"{"error":{}}"#,
        r#"{"error":null}"#,
        "  ",
    ] {
        says(500, body, "500 Internal Server Error");
    }
    says(529, "", "529");
    let error = refused(500, &[], "");
    assert_eq!(
        error.message(),
        "the server answered 500 Internal Server Error"
    );
}

#[test]
fn the_name_of_a_status_is_not_said_twice() {
    says(
        429,
        r#"{"message":"Too Many Requests"}"#,
        "429 Too Many Requests",
    );
    says(502, "<title>502 Bad Gateway</title>", "502 Bad Gateway");
    says(
        429,
        "Too Many Requests: slow down",
        "429 Too Many Requests: slow down",
    );
    assert_eq!(
        refused(429, &[], "Too Many Requests").message(),
        "Too Many Requests"
    );
}

#[test]
fn what_a_server_says_becomes_one_short_line() {
    let text = refused(500, &[], &"long\r\n\u{1b}[31m ".repeat(1000)).to_string();
    assert!(!text.contains(char::is_control), "{text}");
    assert!(text.chars().count() < 500 && text.ends_with('…'), "{text}");
}

#[test]
fn of_a_long_body_the_start_is_kept() {
    let error = exchange(500, &[], "x".repeat(1 << 20)).unwrap_err();
    assert_eq!(error.body(), Some("x".repeat(64 << 10).as_str()));
}

#[test]
fn a_wrong_key_is_told_by_where_it_came_from() {
    let server = Server::answering(json(401, r#"{"message":"No such key."}"#));
    let without = || Client::builder().base_url(server.base_url());
    let says = |builder, hint: &str| {
        let want = format!("the server answered 401 Unauthorized: No such key. ({hint})");
        assert_eq!(say_hello(builder).unwrap_err().to_string(), want);
    };
    let given = "the key is the one given to the client";
    says(without().api_key("sk-1234"), given);
    says(without().header("Authorization", "Basic dTpw"), given);
    says(
        without(),
        "no key was sent: set AIMLAPI_API_KEY, or give one to the client",
    );
}

#[test]
fn a_wrong_address_is_shown_without_its_query() {
    let server = Server::answering(json(404, r#"{"message":"Cannot POST"}"#));
    let base_url = format!("{}/v2?key=secret", server.base_url());
    let error = say_hello(server.builder().base_url(base_url)).unwrap_err();
    begins(
        &error,
        "the server answered 404 Not Found: Cannot POST (asked: ",
    );
    let end = "/v1/v2/chat/completions; check the model's name against Client::models(), and that the base URL ends where /chat/completions \
               begins, usually in /v1)";
    ends(&error, &format!("{}{end}", server.authority()));
}

#[test]
fn a_redirect_is_shown_and_not_followed() {
    let target = Server::answering(json(200, HELLO));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/elsewhere", target.base_url());
        let server = Server::answering(respond(status, &[("location", &location)], ""));
        let error = server.client().send(&hello()).unwrap_err();
        let hint = "redirects are not followed: nothing was sent there; correct the base URL";
        ends(&error, &format!(", a redirect to {location} ({hint})"));
        assert_eq!(
            (error.status(), error.kind()),
            (Some(status), ErrorKind::Api)
        );
        assert_eq!((server.requests().len(), target.connections()), (1, 0));
    }
}

#[test]
fn a_redirect_to_nowhere_is_an_error_too() {
    let hint = "(redirects are not followed: nothing was sent there; correct the base URL)";
    says(302, "", &format!("302 Found {hint}"));
    says(304, "", &format!("304 {hint}"));
}

#[test]
fn a_model_without_a_system_role_points_at_fold_system() {
    for said in [
        "System role not supported",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Developer instruction is not enabled: system messages are not supported",
    ] {
        let hint = "for a model without a system role there is ChatRequest::fold_system()";
        says(400, said, &format!("400 Bad Request: {said} ({hint})"));
    }
}

#[test]
fn a_server_that_refuses_stream_options_points_at_the_way_out() {
    let server = Server::answering(json(422, "stream_options: not permitted"));
    let error = server.client().stream(&hello()).unwrap_err();
    ends(
        &error,
        ": stream_options: not permitted (the server refuses the request for usage in a stream: leave it out with \
         param(\"stream_options\", serde_json::Value::Null))",
    );
}

#[test]
fn other_statuses_have_their_hint() {
    let credit = "(the account is out of credit or over its limit)";
    says(
        403,
        "No credits.",
        &format!("403 Forbidden: No credits. {credit}"),
    );
    says(403, "no", "403 Forbidden: no");
    says(
        413,
        "",
        "413 Payload Too Large (the request is too large for the server)",
    );
    let error = refused(405, &[], "");
    begins(
        &error,
        "the server answered 405 Method Not Allowed (asked: http://127.0.0.1:",
    );
    ends(&error, "/v1/chat/completions; check the base URL)");
}

#[test]
fn the_code_is_the_server_s_name_for_the_failure() {
    for (body, code) in [
        (
            r#"{"error":{"message":"x","code":"bad_model","type":"t"}}"#,
            Some("bad_model"),
        ),
        (
            r#"{"error":{"message":"x","code":null,"type":"t"}}"#,
            Some("t"),
        ),
        (r#"{"error":{"message":"x","code":1234}}"#, Some("1234")),
        (r#"{"code":"flat","message":"x"}"#, Some("flat")),
        (r#"{"message":"x","statusCode":400}"#, None),
        ("x", None),
    ] {
        assert_eq!(refused(400, &[], body).code(), code, "{body}");
    }
}

#[test]
fn the_request_id_is_the_one_to_be_trusted_most() {
    let (inference, request) = (("x-inference-id", "inf-1"), ("x-request-id", "req-1"));
    let body = r#"{"message":"x","requestId":"body-1","statusCode":500}"#;
    for status in [500, 200] {
        let id = |headers: &[(&str, &str)], body, want| {
            let error = exchange(status, headers, body).unwrap_err();
            assert_eq!(error.request_id(), want, "{status}");
        };
        id(&[request, inference], body, Some("inf-1"));
        id(&[request], body, Some("body-1"));
        id(&[request], "{}", Some("req-1"));
        id(&[], "{}", None);
    }
    ends(
        &refused(500, &[inference], "busy"),
        ": busy [request id inf-1]",
    );
}

#[test]
fn the_attempts_are_counted() {
    let server = Server::answering(json(503, ""));
    let attempts = |policy| {
        let failed = say_hello(server.builder().retry(policy));
        failed.unwrap_err().attempts()
    };
    assert_eq!(attempts(quick()), 3);
    assert_eq!(attempts(quick().max_retries(0)), 1);
    assert_eq!(unsent().attempts(), 0);
}

#[test]
fn what_may_succeed_later_is_retryable() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        assert!(refused(status, &[], "").is_retryable(), "{status}");
    }
    for status in [300, 400, 401, 402, 403, 404, 413, 422] {
        assert!(!refused(status, &[], "").is_retryable(), "{status}");
    }
    let gone = r#"{"error":{"code":"insufficient_quota"}}"#;
    assert!(!refused(429, &[], gone).is_retryable());
    assert!(!unsent().is_retryable());
}

#[test]
fn the_wait_that_a_server_asks_for_is_told() {
    let asks = |headers: &[(&str, &str)], body, millis| {
        let error = refused(429, headers, body);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(millis)));
    };
    asks(&[("retry-after", "120")], "", 120_000);
    asks(&[("retry-after-ms", "30"), ("retry-after", "9")], "", 30);
    asks(
        &[],
        r#"{"error":{"details":[{"retryDelay":"2.5s"}]}}"#,
        2_500,
    );
    assert_eq!(
        refused(429, &[("retry-after", "soon")], "").retry_after(),
        None
    );
}

#[test]
fn a_cause_can_be_asked_and_is_not_said_twice() {
    let error = say_hello(Client::builder().base_url(nobody()).retry(quick())).unwrap_err();
    let cause = error.source().unwrap().downcast_ref::<std::io::Error>();
    assert_eq!(cause.unwrap().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(format!("{error:#}"), error.to_string());
}

#[test]
fn the_alternate_form_adds_the_causes() {
    let error = exchange(200, &[], "hello").unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert_eq!(format!("{error:#}"), format!("{error}: {cause}"));
    assert!(refused(500, &[], "busy").source().is_none());
}

#[test]
fn what_a_main_prints_is_one_line_with_the_causes() {
    let error = exchange(200, &[], "hello").unwrap_err();
    assert_eq!(format!("{error:?}"), format!("{error:#}"));
}

#[test]
fn the_pretty_debug_shows_the_fields_but_no_body() {
    let body = r#"{"message":"slow down","echo":"what was asked"}"#;
    let shown = format!("{:#?}", refused(429, &[("retry-after", "2")], body));
    for field in ["kind: Api", "429", "slow down", "2s", "attempts: 1"] {
        assert!(shown.contains(field), "{field} in {shown}");
    }
    assert!(!shown.contains("what was asked"), "{shown}");
}

#[test]
fn an_error_is_one_pointer_that_may_go_anywhere() {
    fn goes_anywhere<T: StdError + Send + Sync + 'static>() {}
    goes_anywhere::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<aimlapi::Result<()>>(), size_of::<usize>());
}

#[test]
fn a_kind_can_be_copied_compared_and_hashed() {
    let kind = unsent().kind();
    let copy = kind;
    assert_eq!(HashSet::from([kind, copy]).len(), 1);
    assert_eq!(format!("{kind:?}"), "Input");
}
