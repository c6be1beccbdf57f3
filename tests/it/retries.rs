//! What cannot cost twice is repeated, nothing else is, and one deadline holds over all of it.

use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use aimlapi::{ChatStream, Client, ClientBuilder, Error, ErrorKind, RetryPolicy};

use crate::support::{
    Connection, HELLO, Server, begins, ends, hello, json, nobody, quick, respond, say_hello,
};

const LIMIT: Duration = Duration::from_millis(200);

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// A server that answers with this once, and then as it should.
fn once(answer: String) -> Server {
    Server::answering_in_turn(vec![answer, json(200, HELLO)])
}

#[track_caller]
fn repeated(server: &Server) {
    let reply = server.client().send(&hello()).unwrap();
    assert_eq!((reply.text(), server.requests().len()), ("hello", 2));
}

#[track_caller]
fn not_repeated(server: &Server) -> Error {
    let error = server.client().send(&hello()).unwrap_err();
    let seen = server.requests().len();
    assert_eq!((seen, error.attempts()), (1, 1), "{error}");
    error
}

/// A connection that was not made: three times, and it may be tried again.
#[track_caller]
fn not_made(builder: ClientBuilder) -> Error {
    let error = say_hello(builder.retry(quick())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 3));
    assert!(error.is_retryable() && error.status().is_none(), "{error}");
    error
}

/// A call that has to end at its limit, and how.
#[track_caller]
fn times_out(limited: ClientBuilder) -> Error {
    let began = Instant::now();
    let error = say_hello(limited).unwrap_err();
    let took = began.elapsed();
    assert!((LIMIT..SOON).contains(&took), "{took:?}: {error}");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    error
}

/// A policy whose own pauses fit into no timeout.
fn slow() -> RetryPolicy {
    let policy = RetryPolicy::default().initial_delay(Duration::MAX);
    policy.max_delay(Duration::MAX)
}

#[test]
fn what_the_server_refuses_for_the_time_being_is_repeated() {
    for status in [408, 409, 429, 500, 502, 503, 504, 529] {
        repeated(&once(json(status, r#"{"message":"later"}"#)));
    }
}

#[test]
fn what_the_server_refuses_for_good_is_not_repeated() {
    for status in [300, 400, 401, 402, 403, 404, 405, 413, 422, 451] {
        not_repeated(&once(json(status, r#"{"message":"no"}"#)));
    }
}

#[test]
fn what_is_no_answer_is_not_repeated() {
    for body in ["", "<html>", r#"{"choices":[]}"#, r#"{"error":"busy"}"#] {
        not_repeated(&once(json(200, body)));
    }
}

#[test]
fn a_request_is_repeated_as_often_as_the_policy_says() {
    let five = quick().max_retries(5);
    for (policy, attempts) in [(RetryPolicy::none(), 1), (quick(), 3), (five, 6)] {
        let server = Server::answering(json(503, ""));
        let error = say_hello(server.builder().retry(policy)).unwrap_err();
        assert_eq!(usize::try_from(error.attempts()), Ok(attempts));
        assert_eq!(server.requests().len(), attempts);
        // An error's body is read, so its connection is kept.
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn a_repetition_is_the_same_request() {
    let server = once(json(503, ""));
    let request = hello().client_request_id("mine");
    server.client().send(&request).unwrap();
    let [first, second] = server.requests().try_into().unwrap();
    assert_eq!((&first.line, &first.body), (&second.line, &second.body));
    assert_eq!(first.headers, second.headers);
}

#[test]
fn the_policy_waits_between_attempts() {
    let policy = quick().initial_delay(Duration::from_millis(80));
    let (server, began) = (once(json(503, "")), Instant::now());
    say_hello(server.builder().retry(policy)).unwrap();
    // Chance takes off a quarter at most.
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[test]
fn a_server_that_says_when_to_come_back_is_waited_for() {
    for header in [("retry-after-ms", "120"), ("retry-after", "0.12")] {
        let (server, began) = (once(respond(429, &[header], "")), Instant::now());
        repeated(&server);
        assert!(began.elapsed() >= Duration::from_millis(120), "{header:?}");
    }
}

#[test]
fn a_wait_that_is_over_or_nonsense_is_none() {
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    for wait in ["0", "-5", "NaN", "soon", "", past] {
        repeated(&once(respond(503, &[("retry-after", wait)], "")));
    }
}

#[test]
fn a_server_that_wants_more_than_a_minute_gets_no_second_try() {
    for wait in ["61", "1e300", "inf", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = once(respond(429, &[("retry-after", wait)], ""));
        let patient = server.builder().timeout(Duration::MAX);
        let error = say_hello(patient).unwrap_err();
        assert!(
            error.retry_after() > Some(Duration::from_secs(60)),
            "{wait}"
        );
        assert_eq!((server.requests().len(), error.attempts()), (1, 1));
    }
}

#[test]
fn a_wait_that_ends_after_the_deadline_is_not_begun() {
    let error = not_repeated(&once(respond(503, &[("retry-after", "6")], "")));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(6)));
    let server = once(json(503, ""));
    let error = say_hello(server.builder().retry(slow())).unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(503), 1));
}

#[test]
fn the_server_s_word_on_a_repetition_counts_most() {
    repeated(&once(respond(400, &[("x-should-retry", "true")], "")));
    let error = not_repeated(&once(respond(503, &[("x-should-retry", "false")], "")));
    assert!(!error.is_retryable());
    repeated(&once(respond(503, &[("x-should-retry", "maybe")], "")));
}

#[test]
fn a_quota_that_is_gone_is_not_asked_for_again() {
    let gone = r#"{"error":{"message":"It is gone.","code":"insufficient_quota"}}"#;
    let error = not_repeated(&once(json(429, gone)));
    ends(&error, "429 Too Many Requests: It is gone.");
    assert!(!error.is_retryable());
    repeated(&once(respond(429, &[("retry-after-ms", "1")], gone)));
}

fn answers(connection: &mut Connection) -> io::Result<()> {
    loop {
        connection.request()?;
        connection.send(json(200, HELLO))?;
    }
}

/// Answers once, and hangs up when it is asked again.
fn goes_stale(connection: &mut Connection) -> io::Result<()> {
    connection.request()?;
    connection.send(json(200, HELLO))?;
    connection.request().map(drop)
}

#[test]
fn a_connection_gone_stale_is_replaced_at_once() {
    let server = Server::start(|number, connection| match number {
        0 => goes_stale(connection),
        _ => answers(connection),
    });
    let client = server.builder().retry(slow()).build().unwrap();
    client.send(&hello()).unwrap();
    assert_eq!(client.send(&hello()).unwrap().text(), "hello");
    assert_eq!((server.connections(), server.requests().len()), (2, 3));
}

#[test]
fn several_stale_connections_cost_one_attempt_together() {
    let together = Barrier::new(3);
    let server = Server::start(move |number, connection| match number {
        0..3 => {
            together.wait();
            goes_stale(connection)
        }
        _ => answers(connection),
    });
    let client = server.builder().retry(slow().max_retries(1));
    let client = client.build().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| client.send(&hello()).unwrap());
        }
    });
    assert_eq!(client.send(&hello()).unwrap().text(), "hello");
    assert_eq!((server.connections(), server.requests().len()), (4, 5));
}

#[test]
fn a_server_that_always_hangs_up_is_given_up() {
    let server = Server::start(|_, connection| connection.request().map(drop));
    let error = server.client().send(&hello()).unwrap_err();
    let authority = server.authority();
    begins(
        &error,
        &format!("{authority} closed the connection without an answer: "),
    );
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 3));
    assert_eq!(server.connections(), 3);
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    for begun in ["", "{\"cho"] {
        let server = Server::start(move |_, connection| {
            connection.request()?;
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")?;
            connection.send(begun)
        });
        let error = not_repeated(&server);
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_server_that_never_answers_is_not_asked_again() {
    let server = Server::start(|_, connection| connection.fall_silent());
    let error = times_out(server.builder().timeout(LIMIT));
    let (authority, all) = (
        server.authority(),
        "the limit is timeout(), over all attempts",
    );
    let want = format!("no answer from {authority} within 200ms ({all})");
    assert_eq!(error.to_string(), want);
    assert_eq!((server.connections(), error.attempts()), (1, 1));
    assert!(!error.is_retryable());
}

#[test]
fn a_call_that_gives_up_hangs_up_so_that_the_server_can_stop() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(move |_, connection| {
        connection.request()?;
        tell.send(connection.is_closed_within(SOON)).unwrap();
        Ok(())
    });
    times_out(server.builder().timeout(LIMIT));
    assert!(told.recv().unwrap());
}

/// Sends this every 20 ms, for ever.
fn drips(connection: &mut Connection, byte: &str) -> io::Result<()> {
    loop {
        thread::sleep(Duration::from_millis(20));
        connection.send(byte)?;
    }
}

#[test]
fn a_server_that_drips_cannot_put_off_the_deadline() {
    for (head, byte) in [
        ("x: ", "x"),
        ("content-length: 99999\r\n\r\n", " "),
        ("connection: close\r\n\r\n", " "),
        ("transfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
    ] {
        let missing = if head == "x: " {
            "no answer"
        } else {
            "no whole answer"
        };
        let head = format!("HTTP/1.1 200 OK\r\n{head}");
        let server = Server::start(move |_, connection| {
            connection.request()?;
            connection.send(&head)?;
            drips(connection, byte)
        });
        // A host with a name is bounded in another way than an address.
        let named = server.base_url().replace("127.0.0.1", "localhost");
        for builder in [server.builder(), server.builder().base_url(named)] {
            let error = times_out(builder.timeout(LIMIT));
            begins(&error, &format!("{missing} from "));
        }
    }
}

#[test]
fn an_error_that_drips_is_told_at_the_deadline() {
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-length: 99999\r\n\r\nno";
    let server = Server::start(move |_, connection| {
        connection.request()?;
        connection.send(head)?;
        drips(connection, " ")
    });
    let began = Instant::now();
    let error = say_hello(server.builder().timeout(LIMIT)).unwrap_err();
    assert!(began.elapsed() < SOON);
    assert_eq!(error.to_string(), "the server answered 400 Bad Request: no");
}

#[test]
fn one_deadline_holds_over_all_attempts() {
    let busy = Server::answering(respond(503, &[("retry-after-ms", "50")], ""));
    let policy = quick().max_retries(1000);
    let error = say_hello(busy.builder().retry(policy).timeout(LIMIT)).unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert!(error.attempts() <= 4, "{}", error.attempts());
}

/// A call that has to end at its limit of 400 ms, of which the server spends the first 250.
fn exact(builder: ClientBuilder) -> Error {
    let (began, limit) = (Instant::now(), Duration::from_millis(400));
    let error = say_hello(builder.timeout(limit)).unwrap_err();
    assert!(began.elapsed() < limit + SPENT, "{error}");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    error
}

const SPENT: Duration = Duration::from_millis(250);

#[test]
fn a_later_attempt_has_only_the_time_that_is_left() {
    let server = Server::start(|_, connection| {
        connection.request()?;
        connection.send(respond(503, &[("retry-after-ms", "250")], ""))?;
        connection.fall_silent()
    });
    assert_eq!(exact(server.builder()).attempts(), 2);
}

#[test]
fn the_body_of_an_answer_has_only_the_time_that_is_left() {
    let server = Server::start(|_, connection| {
        connection.request()?;
        thread::sleep(SPENT);
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")?;
        drips(connection, " ")
    });
    assert_eq!(exact(server.builder()).attempts(), 1);
}

#[test]
fn silence_has_only_the_time_that_is_left_where_the_host_has_a_name() {
    let server = Server::start(|_, connection| {
        connection.request()?;
        thread::sleep(SPENT);
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")?;
        connection.fall_silent()
    });
    let named = server.base_url().replace("127.0.0.1", "localhost");
    exact(server.builder().base_url(named));
}

#[test]
fn limits_without_an_end_are_no_danger() {
    let (server, most) = (Server::answering(json(200, HELLO)), Duration::MAX);
    let named = server.base_url().replace("127.0.0.1", "localhost");
    for base_url in [server.base_url(), named] {
        let builder = server.builder().base_url(base_url).retry(slow());
        let builder = builder.connect_timeout(most).timeout(most);
        let client = builder.idle_timeout(most).build().unwrap();
        assert_eq!(client.send(&hello()).unwrap().text(), "hello");
        let streamed = client.stream(&hello()).and_then(ChatStream::finish);
        assert_eq!(streamed.unwrap().text(), "hello");
    }
}

#[test]
fn a_port_where_nobody_listens_is_tried_again() {
    let error = not_made(Client::builder().base_url(nobody()));
    begins(&error, "cannot connect to 127.0.0.1:");
}

#[test]
fn a_host_that_does_not_exist_is_named_and_tried_again() {
    // No look-up leaves the machine: a part of a name has 63 letters at most.
    let host = format!("{}.invalid:8080", "x".repeat(64));
    let error = not_made(Client::builder().base_url(format!("http://{host}")));
    begins(&error, &format!("cannot connect to {host}: "));
    ends(
        &error,
        " (is the host's name right, and is this machine online?)",
    );
}

#[test]
fn a_peer_that_speaks_no_http_is_told_so() {
    let server = Server::answering("SSH-2.0-OpenSSH_9.2\r\n");
    let error = not_repeated(&server);
    let authority = server.authority();
    begins(
        &error,
        &format!("{authority} did not answer with proper HTTP: "),
    );
    let hint = "is it an https:// server addressed with http://, or no HTTP server at all?";
    ends(&error, &format!(" ({hint})"));
    assert_eq!(error.kind(), ErrorKind::Decode);
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls {
    use super::*;

    fn secure(server: &Server) -> ClientBuilder {
        let base_url = format!("https://{}", server.authority());
        server.builder().base_url(base_url)
    }

    #[test]
    fn a_server_without_tls_is_not_asked_again() {
        let server = Server::start(|_, connection| {
            connection.send(json(400, ""))?;
            connection.fall_silent()
        });
        let error = say_hello(secure(&server)).unwrap_err();
        begins(
            &error,
            &format!("no secure connection to {}: ", server.authority()),
        );
        ends(&error, " (a server without TLS needs http://)");
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1));
        assert_eq!((server.connections(), error.is_retryable()), (1, false));
    }

    #[test]
    fn a_handshake_without_an_end_is_a_connection_not_made() {
        let server = Server::start(|_, connection| connection.fall_silent());
        let secure = || secure(&server).retry(RetryPolicy::none());
        let said = |limit: &str| {
            let authority = server.authority();
            format!("no connection to {authority} within 200ms (the limit is {limit})")
        };
        let error = times_out(secure().connect_timeout(LIMIT));
        assert_eq!(error.to_string(), said("connect_timeout()"));
        assert!(error.is_retryable());
        let error = times_out(secure().timeout(LIMIT));
        assert_eq!(error.to_string(), said("timeout(), over all attempts"));
    }
}
