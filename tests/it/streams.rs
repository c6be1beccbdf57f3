//! A stream is handed over piece by piece, and says honestly how it ended.

use std::error::Error as _;
use std::io::{self, Write};
use std::iter::FusedIterator;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{
    ChatRequest, ChatStream, Client, Completion, Error, ErrorKind, FinishReason, Result,
};
use serde_json::{Value, json};

use crate::support::{
    DONE, HELLO, KEY, MODEL, STREAM_HEAD, Server, event, finish, hello, json as json_body, respond,
};

const CHUNKED_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n";

const MOMENT: Duration = Duration::from_millis(100);

type Way = fn(ChatStream) -> Result<Completion>;

/// Every way to read a stream to its end.
const WAYS: [(&str, Way); 3] = [
    ("iterate", iterate),
    ("finish", ChatStream::finish),
    ("write_to", |stream| stream.write_to(io::sink())),
];

fn iterate(mut stream: ChatStream) -> Result<Completion> {
    for chunk in &mut stream {
        chunk?;
    }
    stream.finish()
}

/// Answers every request with these bytes and ends the connection.
fn closing(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Server {
    Server::start(move |_, connection| {
        connection.request()?;
        connection.send(&bytes)
    })
}

/// Answers every request with these bytes and resets the connection.
fn resetting(bytes: String) -> Server {
    Server::start(move |_, connection| {
        connection.request_head()?;
        connection.send(&bytes)?;
        thread::sleep(MOMENT / 2);
        Ok(())
    })
}

/// Answers every request with these bytes and then falls silent.
fn stalling(bytes: String) -> Server {
    Server::start(move |_, connection| {
        connection.request()?;
        connection.send(&bytes)?;
        connection.is_closed_within(Duration::from_secs(10));
        Ok(())
    })
}

/// A stream that holds this and ends with its connection.
fn streaming(body: impl AsRef<str>) -> Server {
    closing(format!("{STREAM_HEAD}{}", body.as_ref()))
}

/// One chunk of a chunked body.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A server that sends one piece of a stream whenever it is told to, and after the last one says whether the client
/// hung up in a moment.
fn on_command(pieces: Vec<String>) -> (Server, Sender<()>, Receiver<bool>) {
    let (go, told) = mpsc::channel();
    let (say, hung_up) = mpsc::channel();
    let (told, say) = (Mutex::new(told), Mutex::new(say));
    let server = Server::start(move |_, connection| {
        connection.request()?;
        connection.send(CHUNKED_HEAD)?;
        for piece in &pieces {
            let Ok(()) = told.lock().unwrap().recv() else {
                break;
            };
            connection.send(chunk(piece))?;
        }
        let _ = say
            .lock()
            .unwrap()
            .send(connection.is_closed_within(MOMENT));
        Ok(())
    });
    (server, go, hung_up)
}

fn client(server: &Server) -> Client {
    let builder = server.builder().idle_timeout(Duration::from_secs(2));
    builder.build().unwrap()
}

fn stream(server: &Server) -> ChatStream {
    stream_of(server, &hello())
}

fn stream_of(server: &Server, request: &ChatRequest) -> ChatStream {
    client(server).stream(request).unwrap()
}

/// However the stream is read, it fails like this after this text; returns the error of the first way.
#[track_caller]
fn fails(server: &Server, kind: ErrorKind, partial: Option<&str>) -> Error {
    let [error, ..] = WAYS.map(|(way, read)| {
        // Too long for a server to have read all of it by accident.
        let request = ChatRequest::new(MODEL, "hello".repeat(20_000));
        let error = read(stream_of(server, &request)).unwrap_err();
        assert_eq!(error.kind(), kind, "{way}: {error:?}");
        assert_eq!(
            error.partial().map(Completion::text),
            partial,
            "{way}: {error:?}"
        );
        assert_eq!(
            (error.status(), error.attempts()),
            (Some(200), 1),
            "{way}: {error:?}"
        );
        error
    });
    error
}

/// However the stream is read, it is whole.
#[track_caller]
fn completes(server: &Server, text: &str, reason: Option<&FinishReason>) {
    for (way, read) in WAYS {
        let answer = read(stream(server)).unwrap_or_else(|error| panic!("{way}: {error:?}"));
        assert_eq!(
            (answer.text(), answer.finish_reason()),
            (text, reason),
            "{way}"
        );
    }
}

#[test]
fn each_chunk_is_in_hand_before_the_next_is_sent() {
    let (server, go, _) = on_command(["a", "b", "c"].map(event).into());
    let mut stream = stream(&server);
    assert_eq!(stream.partial(), None);
    for (text, so_far) in [("a", "a"), ("b", "ab"), ("c", "abc")] {
        go.send(()).unwrap();
        assert_eq!(stream.next().unwrap().unwrap().text(), text);
        assert_eq!(stream.partial().unwrap().text(), so_far);
    }
}

#[test]
fn an_event_is_in_hand_before_the_lf_of_its_last_crlf() {
    let crlf = event("a").replace('\n', "\r\n");
    let (server, go, _) = on_command(vec![crlf.trim_end_matches('\n').to_owned()]);
    go.send(()).unwrap();
    assert_eq!(stream(&server).next().unwrap().unwrap().text(), "a");
}

#[test]
fn every_event_is_a_chunk_and_says_what_it_holds() {
    let thought = r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#;
    let body = format!(
        ": ping\n\ndata: {thought}\n\n{}{}{USAGE}{DONE}",
        event("a"),
        finish("stop")
    );
    let chunks: Vec<_> = stream(&streaming(body)).map(Result::unwrap).collect();
    let [thinks, speaks, ends, counts] = &chunks[..] else {
        panic!("{chunks:?}")
    };
    assert_eq!(
        (thinks.text(), thinks.reasoning(), thinks.raw()),
        ("", "hm", thought)
    );
    assert_eq!(
        (speaks.text(), speaks.reasoning(), speaks.finish_reason()),
        ("a", "", None)
    );
    assert_eq!(
        (ends.text(), ends.finish_reason()),
        ("", Some(&FinishReason::Stop))
    );
    assert_eq!(counts.usage().map(|usage| usage.total_tokens), Some(3));
    assert_eq!(ends.usage(), None);
}

#[test]
fn a_stream_is_at_its_end_for_ever() {
    let mut complete = stream(&streaming(event("a") + DONE));
    assert_eq!(complete.by_ref().count(), 1);
    assert!((0..3).all(|_| complete.next().is_none()));
    assert_eq!(complete.finish().unwrap().text(), "a");

    let mut broken = stream(&streaming(event("a") + "data: {\n\n" + &event("b") + DONE));
    assert!(broken.next().unwrap().is_ok());
    assert!(broken.next().unwrap().is_err());
    assert!((0..3).all(|_| broken.next().is_none()));
    let error = broken.finish().unwrap_err();
    assert_eq!(error.to_string(), "the stream had failed before its end");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.partial().unwrap().text(), "a");
}

#[test]
fn a_stream_borrows_nothing_and_moves_to_another_thread() {
    fn is_free<T: Iterator + FusedIterator + Send + 'static>(stream: T) -> T {
        stream
    }
    let server = streaming(event("a") + DONE);
    let stream = is_free({
        let (client, request) = (client(&server), hello());
        client.stream(&request).unwrap()
    });
    let answer = thread::spawn(|| stream.finish()).join().unwrap();
    assert_eq!(answer.unwrap().text(), "a");
}

/// Notes what is written and flushed, and fails at the piece `b`.
#[derive(Default)]
struct Log {
    said: Vec<String>,
    failure: Option<io::ErrorKind>,
}

impl Write for &mut Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.failure {
            Some(kind) if bytes == b"b" => return Err(kind.into()),
            _ => self.said.push(String::from_utf8(bytes.to_vec()).unwrap()),
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.said.push("flush".to_owned());
        Ok(())
    }
}

fn a_b_c() -> String {
    ["a", "b", "c"].map(event).concat() + &finish("stop") + USAGE + DONE
}

#[test]
fn write_to_flushes_every_piece_and_returns_the_answer() {
    let mut log = Log::default();
    let answer = stream(&streaming(a_b_c())).write_to(&mut log).unwrap();
    assert_eq!(log.said, ["a", "flush", "b", "flush", "c", "flush"]);
    assert_eq!(
        (answer.text(), answer.usage().unwrap().total_tokens),
        ("abc", 3)
    );
}

#[test]
fn a_broken_pipe_ends_the_stream_quietly() {
    let (server, go, hung_up) = on_command(["a", "b", "c"].map(event).into());
    let mut log = Log {
        failure: Some(io::ErrorKind::BrokenPipe),
        ..Log::default()
    };
    go.send(()).unwrap();
    go.send(()).unwrap();
    let answer = stream(&server).write_to(&mut log).unwrap();
    assert_eq!((answer.text(), answer.finish_reason()), ("ab", None));
    drop(go);
    assert!(hung_up.recv().unwrap());
}

#[test]
fn a_full_disk_costs_the_writing_and_not_the_answer() {
    let mut log = Log {
        failure: Some(io::ErrorKind::StorageFull),
        ..Log::default()
    };
    let error = stream(&streaming(a_b_c())).write_to(&mut log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(
        error.to_string(),
        "the answer came, but writing it failed: no storage space"
    );
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
    let answer = error.partial().unwrap();
    assert_eq!(
        (answer.text(), answer.usage().unwrap().total_tokens),
        ("abc", 3)
    );
    assert_eq!(answer.finish_reason(), Some(&FinishReason::Stop));
    assert_eq!(log.said, ["a", "flush"]);
}

#[test]
fn dropping_a_stream_closes_its_connection_at_once() {
    let drops: [fn(ChatStream); 3] = [
        drop,
        |mut stream| drop(stream.next().unwrap().unwrap()),
        |stream| {
            for chunk in stream {
                if chunk.unwrap().text() == "a" {
                    break;
                }
            }
        },
    ];
    for drop_it in drops {
        let (server, go, hung_up) = on_command(vec![event("a")]);
        let stream = stream(&server);
        go.send(()).unwrap();
        drop_it(stream);
        assert!(hung_up.recv().unwrap());
    }
}

#[test]
fn an_error_and_the_end_close_the_connection_too() {
    for last in [DONE, "data: {\n\n"] {
        let (server, go, hung_up) = on_command(vec![event("a") + last]);
        let mut stream = stream(&server);
        go.send(()).unwrap();
        assert_eq!(stream.by_ref().count(), if last == DONE { 1 } else { 2 });
        assert!(hung_up.recv().unwrap());
        drop(stream);
    }
}

#[track_caller]
fn asks(request: &ChatRequest) -> Value {
    let server = streaming(event("a") + DONE);
    stream_of(&server, request).finish().unwrap();
    let [seen] = &server.requests()[..] else {
        panic!("not one request")
    };
    assert_eq!(seen.headers["accept"], "text/event-stream");
    seen.json()
}

#[test]
fn a_stream_asks_for_its_usage_unless_told_otherwise() {
    let asked = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(asks(&hello()), asked);
    let other = json!({"include_usage": false, "include_obfuscation": false});
    assert_eq!(
        asks(&hello().param("stream_options", other.clone()))["stream_options"],
        other
    );
    let none = asks(&hello().param("stream_options", Value::Null));
    assert_eq!(none.get("stream_options"), None);
}

#[test]
fn send_and_stream_give_the_same_answer() {
    let whole = include_str!("../fixtures/same_answer.json");
    let pieces = include_str!("../fixtures/same_answer.sse");
    let headers = [("x-request-id", "r1"), ("x-client-request-id", "mine")];
    let request = hello().n(2);
    let sent = Server::answering(respond(200, &headers, whole));
    let sent = sent.client().send(&request).unwrap();
    let streamed = Server::answering(respond(200, &headers, pieces));
    let streamed = stream_of(&streamed, &request).finish().unwrap();

    assert_eq!(streamed.choices(), sent.choices());
    assert_eq!(streamed.usage(), sent.usage());
    assert_eq!(streamed.usd_spent(), sent.usd_spent());
    assert_eq!(streamed.citations(), sent.citations());
    assert_eq!(streamed.id(), sent.id());
    assert_eq!(streamed.model(), sent.model());
    assert_eq!(streamed.created(), sent.created());
    assert_eq!(streamed.request_id(), sent.request_id());
    assert_eq!(streamed.client_request_id(), sent.client_request_id());
    assert_eq!((streamed.raw(), sent.raw()), (None, Some(whole)));
}

#[test]
fn choices_may_come_in_any_order() {
    let piece = |index: u32, text: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    let body = piece(1, "b") + &piece(0, "a") + &piece(1, "B") + &piece(0, "A") + DONE;
    let server = streaming(body);
    let mut stream = stream_of(&server, &hello().n(2));
    let texts: Vec<String> = stream
        .by_ref()
        .map(|chunk| chunk.unwrap().text().to_owned())
        .collect();
    assert_eq!(texts, ["", "a", "", "A"]);
    let answer = stream.finish().unwrap();
    let texts: Vec<_> = answer
        .choices()
        .iter()
        .map(|choice| (choice.index(), choice.text()))
        .collect();
    assert_eq!(texts, [(0, "aA"), (1, "bB")]);
}

#[test]
fn choices_without_an_index_are_counted() {
    let body =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}},{\"delta\":{\"content\":\"b\"}}]}\n\n";
    let answer = stream(&streaming(body.repeat(2) + DONE)).finish().unwrap();
    let texts: Vec<_> = answer
        .choices()
        .iter()
        .map(|choice| (choice.index(), choice.text()))
        .collect();
    assert_eq!(texts, [(0, "aa"), (1, "bb")]);
}

#[test]
fn every_choice_asked_for_needs_its_finish_reason() {
    let both = event("a") + &event("b").replace("\"index\":0", "\"index\":1");
    let server = streaming(both + &finish("stop"));
    let error = client(&server)
        .stream(&hello().n(2))
        .unwrap()
        .finish()
        .unwrap_err();
    assert_eq!(error.to_string(), "the stream ended before the answer did");
    assert_eq!(error.partial().unwrap().choices().len(), 2);
    assert!(client(&server).stream(&hello()).unwrap().finish().is_ok());
}

/// `hello` and the first half of the next event.
fn in_the_middle() -> String {
    let next = event(" world");
    event("hel") + &event("lo") + &next[..next.len() / 2]
}

const LOST: &str = "the connection was lost in the middle of the answer";
const ENDED: &str = "the stream ended before the answer did";

#[track_caller]
fn is_cut(server: &Server, message: &str) {
    let error = fails(server, ErrorKind::Interrupted, Some("hello"));
    assert_eq!(error.to_string(), message);
    assert!(!error.is_retryable());
    assert_eq!(
        server.connections(),
        WAYS.len(),
        "nothing is asked for twice"
    );
}

#[test]
fn a_stream_that_ends_between_two_events_is_interrupted() {
    is_cut(&streaming(event("hel") + &event("lo")), ENDED);
}

#[test]
fn a_stream_that_ends_inside_an_event_is_interrupted() {
    is_cut(&streaming(in_the_middle()), ENDED);
}

#[test]
fn a_chunked_stream_that_ends_in_order_is_interrupted() {
    is_cut(
        &closing(format!(
            "{CHUNKED_HEAD}{}0\r\n\r\n",
            chunk(&in_the_middle())
        )),
        ENDED,
    );
}

#[test]
fn a_chunked_stream_without_its_end_is_interrupted() {
    let events = chunk(&event("hel")) + &chunk(&event("lo"));
    is_cut(&closing(format!("{CHUNKED_HEAD}{events}")), LOST);
    is_cut(
        &closing(format!("{CHUNKED_HEAD}{}", chunk(&in_the_middle()))),
        LOST,
    );
}

#[test]
fn a_stream_cut_inside_a_chunk_is_interrupted() {
    let text = in_the_middle();
    is_cut(&closing(format!("{CHUNKED_HEAD}fff\r\n{text}")), LOST);
    is_cut(&closing(format!("{CHUNKED_HEAD}{}1", chunk(&text))), LOST);
}

#[test]
fn a_stream_with_a_broken_chunk_is_interrupted() {
    let server = Server::start(|_, connection| {
        connection.request()?;
        connection.send(CHUNKED_HEAD.to_owned() + &chunk(&in_the_middle()))?;
        // What comes in one packet with a broken chunk is lost in the transport.
        thread::sleep(MOMENT / 2);
        connection.send("nonsense\r\n")
    });
    is_cut(&server, LOST);
}

#[test]
fn a_stream_shorter_than_its_content_length_is_interrupted() {
    let head = STREAM_HEAD.replace("connection: close", "content-length: 9999");
    is_cut(&closing(head.clone() + &event("hel") + &event("lo")), LOST);
    is_cut(&closing(head + &in_the_middle()), LOST);
}

#[test]
fn a_connection_that_is_reset_interrupts_the_stream() {
    is_cut(
        &resetting(format!("{CHUNKED_HEAD}{}", chunk(&in_the_middle()))),
        LOST,
    );
    is_cut(
        &resetting(format!("{STREAM_HEAD}{}", in_the_middle())),
        ENDED,
    );
}

#[test]
fn an_event_that_lacks_only_its_blank_line_counts() {
    let text = event("hel") + event("lo").trim_end();
    is_cut(&streaming(&text), ENDED);
    is_cut(&closing(format!("{CHUNKED_HEAD}{}", chunk(&text))), LOST);
    completes(&streaming(event("a") + DONE.trim_end()), "a", None);
    completes(
        &streaming(event("a") + finish("stop").trim_end()),
        "a",
        Some(&FinishReason::Stop),
    );
}

#[test]
fn a_stream_without_an_answer_is_an_error() {
    let says = |body: &str, kind, message: &str| {
        assert_eq!(fails(&streaming(body), kind, None).to_string(), message);
    };
    let nothing = "the stream ended without an answer";
    says("", ErrorKind::Interrupted, nothing);
    says(": ping\n\n", ErrorKind::Interrupted, nothing);
    says(USAGE, ErrorKind::Interrupted, nothing);
    let none = "the stream is complete and holds no answer";
    says(DONE, ErrorKind::Decode, none);
    says(&(USAGE.to_owned() + DONE), ErrorKind::Decode, none);
}

#[test]
fn done_ends_the_stream_while_the_connection_is_held_open() {
    let server = stalling(format!("{STREAM_HEAD}{}{DONE}", event("hello")));
    let started = Instant::now();
    completes(&server, "hello", None);
    assert!(started.elapsed() < Duration::from_secs(1));
    completes(
        &stalling(format!("{STREAM_HEAD}{}data:[DONE] \n\n", event("a"))),
        "a",
        None,
    );
}

#[test]
fn nothing_after_done_counts() {
    completes(
        &streaming(event("a") + DONE + &event("b") + "data: {\n\n"),
        "a",
        None,
    );
}

#[test]
fn a_finish_reason_completes_a_stream_without_done() {
    let events = event("hello") + &finish("length");
    let length = Some(&FinishReason::Length);
    completes(&streaming(&events), "hello", length);
    completes(
        &closing(format!("{CHUNKED_HEAD}{}0\r\n\r\n", chunk(&events))),
        "hello",
        length,
    );
}

#[test]
fn a_connection_lost_after_the_finish_reason_is_no_error() {
    let events = event("hello") + &finish("stop");
    let stop = Some(&FinishReason::Stop);
    let head = STREAM_HEAD.replace("connection: close", "content-length: 9999");
    completes(
        &closing(format!("{CHUNKED_HEAD}{}", chunk(&events))),
        "hello",
        stop,
    );
    completes(
        &closing(format!(
            "{CHUNKED_HEAD}{}",
            chunk(&(events.clone() + "data: {"))
        )),
        "hello",
        stop,
    );
    completes(&closing(head + &events), "hello", stop);
    let server = stalling(STREAM_HEAD.to_owned() + &events);
    let impatient = server.builder().idle_timeout(MOMENT).build().unwrap();
    assert_eq!(
        impatient.stream(&hello()).unwrap().finish().unwrap().text(),
        "hello"
    );
}

#[track_caller]
fn reports(bad: &str, message: &str, code: Option<&str>) {
    let body = event("hel") + &event("lo") + bad + "\n\n" + &event("!") + DONE;
    let error = fails(&streaming(body), ErrorKind::Api, Some("hello"));
    assert_eq!((error.message(), error.code()), (message, code));
    assert_eq!(
        error.to_string(),
        format!("the server answered 200 with an error in it: {message}")
    );
    assert_eq!(error.body(), bad.split_once("data: ").map(|(_, data)| data));
    assert!(!error.is_retryable());
}

#[test]
fn an_error_inside_a_stream_is_the_servers() {
    reports(
        r#"data: {"error":{"message":"overloaded","code":"503"}}"#,
        "overloaded",
        Some("503"),
    );
    reports(r#"data: {"error":"overloaded"}"#, "overloaded", None);
    reports(
        r#"data: {"error":{"message":"overloaded","code":502},"choices":[]}"#,
        "overloaded",
        Some("502"),
    );
    reports(
        r#"data: {"message":"gone","statusCode":500,"requestId":null}"#,
        "gone",
        None,
    );
    reports(
        r#"data: {"object":"error","message":"gone","type":"E","code":4}"#,
        "gone",
        Some("4"),
    );
    reports(r#"data: {"detail":"gone"}"#, "gone", None);
    reports("event: error\ndata: {\"message\":\"gone\"}", "gone", None);
    reports(
        "event: error\ndata: the model is gone",
        "the model is gone",
        None,
    );
}

#[test]
fn an_error_in_a_choice_keeps_what_comes_with_it() {
    let bad = r#"{"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"error","error":{"message":"gone","code":502}}]}"#;
    let body = format!("{}data: {bad}\n\n{DONE}", event("hello"));
    let error = fails(&streaming(body), ErrorKind::Api, Some("hello!"));
    assert_eq!((error.message(), error.code()), ("gone", Some("502")));
}

#[test]
fn an_error_before_the_first_choice_has_no_partial_answer() {
    let body = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    assert_eq!(
        fails(&streaming(body), ErrorKind::Api, None).message(),
        "overloaded"
    );
}

#[test]
fn an_event_that_cannot_be_decoded_is_shown_only_on_request() {
    for bad in [
        "{\"choices\":[{\"secret\"",
        "secret",
        "[\"secret\"]",
        "\"secret\"",
        "[DONE]secret",
    ] {
        let body = format!("{}data: {bad}\n\n{DONE}", event("hello"));
        let error = fails(&streaming(body), ErrorKind::Decode, Some("hello"));
        assert_eq!(
            error.to_string(),
            "an event of the stream is no chat completion"
        );
        assert!(
            !format!("{error:?} {error:#?}").contains("secret"),
            "{error:?}"
        );
        assert_eq!(error.body(), Some(bad));
        assert!(error.source().is_some());
    }
}

#[test]
fn only_the_start_of_a_long_event_is_kept() {
    let body = format!("{}data: {}\n\n", event("a"), "é".repeat(100_000));
    let error = fails(&streaming(body), ErrorKind::Decode, Some("a"));
    assert_eq!(error.body().unwrap(), "é".repeat(64 << 10));
}

#[test]
fn an_event_may_be_too_large_and_a_stream_may_not() {
    let text = "x".repeat(100);
    let server = streaming(event(&text).repeat(20) + &event(&"y".repeat(1000)) + DONE);
    let client = server.builder().max_response_bytes(1000).build().unwrap();
    let error = client.stream(&hello()).unwrap().finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert_eq!(
        error.to_string(),
        "one event of the stream is longer than 1000 bytes (the limit is max_response_bytes())"
    );
    assert_eq!(error.partial().unwrap().text(), text.repeat(20));
}

/// The stream falls silent after these bytes, and its error comes when it should.
#[track_caller]
fn times_out(bytes: String, partial: Option<&str>) {
    let server = stalling(STREAM_HEAD.to_owned() + &bytes);
    let client = server.builder().idle_timeout(MOMENT * 2).build().unwrap();
    let (stream, started) = (client.stream(&hello()).unwrap(), Instant::now());
    let error = stream.finish().unwrap_err();
    let took = started.elapsed();
    assert!((200..380).contains(&took.as_millis()), "{took:?}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let message = format!(
        "{} sent nothing within 200ms (the limit is idle_timeout())",
        server.authority()
    );
    assert_eq!(error.to_string(), message);
    assert_eq!(error.partial().map(Completion::text), partial);
}

#[test]
fn a_stream_that_falls_silent_times_out() {
    times_out(event("hello"), Some("hello"));
    times_out(in_the_middle(), Some("hello"));
    times_out(event("hello").trim_end().to_owned(), Some("hello"));
    times_out(event("hello").trim_end().to_owned() + "\n", Some("hello"));
    times_out(": ping\n\n".to_owned(), None);
    times_out(String::new(), None);
}

#[test]
fn a_whole_answer_in_place_of_a_stream_may_not_fall_silent_either() {
    let server =
        stalling(STREAM_HEAD.replace("text/event-stream", "application/json") + "{\"id\":");
    let client = server.builder().idle_timeout(MOMENT).build().unwrap();
    let error = client.stream(&hello()).unwrap().finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let message = format!(
        "{} sent nothing within 100ms (the limit is idle_timeout())",
        server.authority()
    );
    assert_eq!(
        (error.to_string(), error.body()),
        (message, Some("{\"id\":"))
    );
}

#[test]
fn any_byte_counts_as_life() {
    let body = event("hello") + DONE;
    let server = Server::start(move |_, connection| {
        connection.request()?;
        connection.send(STREAM_HEAD)?;
        for comment in [":", "\n\n", ": ping\n\n", ":\n"] {
            thread::sleep(MOMENT);
            connection.send(comment)?;
        }
        connection.send(&body)
    });
    let client = server.builder().idle_timeout(MOMENT * 3).build().unwrap();
    assert_eq!(
        client.stream(&hello()).unwrap().finish().unwrap().text(),
        "hello"
    );
}

#[test]
fn a_stream_may_begin_late_and_has_no_time_limit_as_a_whole() {
    let server = Server::start(|_, connection| {
        connection.request()?;
        thread::sleep(MOMENT);
        connection.send(STREAM_HEAD)?;
        for text in ["a", "b", "c"] {
            thread::sleep(MOMENT);
            connection.send(event(text))?;
        }
        connection.send(DONE)
    });
    let client = server.builder().timeout(MOMENT * 3).build().unwrap();
    assert_eq!(
        client.stream(&hello()).unwrap().finish().unwrap().text(),
        "abc"
    );
}

#[test]
fn a_stream_that_does_not_begin_times_out() {
    let server = stalling(String::new());
    let client = server.builder().timeout(MOMENT).build().unwrap();
    let error = client.stream(&hello()).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 1));
    assert_eq!(
        error.to_string(),
        format!(
            "no answer from {} within 100ms (the limit is timeout(), over all attempts)",
            server.authority()
        )
    );
}

#[test]
fn a_whole_answer_in_place_of_a_stream_is_one_chunk() {
    let kinds = ["application/json", "text/event-stream", "text/plain"];
    for server in
        kinds.map(|kind| Server::answering(respond(200, &[("content-type", kind)], HELLO)))
    {
        completes(&server, "hello", Some(&FinishReason::Stop));
        let mut stream = stream(&server);
        let chunk = stream.next().unwrap().unwrap();
        assert_eq!((chunk.text(), chunk.raw()), ("hello", HELLO));
        assert_eq!(chunk.usage().unwrap().total_tokens, 3);
        assert!(stream.next().is_none());
        assert_eq!(stream.partial().unwrap().text(), "hello");
        assert_eq!(stream.finish().unwrap().raw(), Some(HELLO));
    }
}

#[test]
fn an_error_in_place_of_a_stream_is_the_servers() {
    for kind in ["application/json", "text/event-stream"] {
        let body = r#"{"error":{"message":"overloaded","code":"busy"}}"#;
        let server = Server::answering(respond(200, &[("content-type", kind)], body));
        let error = fails(&server, ErrorKind::Api, None);
        assert_eq!(
            (error.message(), error.code(), error.body()),
            ("overloaded", Some("busy"), Some(body))
        );
    }
}

#[test]
fn a_page_in_place_of_a_stream_is_reduced_to_its_title() {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>secret</body></html>";
    for kind in ["text/html", "text/event-stream"] {
        let server = Server::answering(respond(200, &[("content-type", kind)], page));
        let error = fails(&server, ErrorKind::Decode, None);
        assert_eq!(
            error.to_string(),
            "the server answered 200 with a page and not JSON: Sign in"
        );
        assert_eq!(error.body(), Some(page));
    }
}

#[test]
fn a_body_that_breaks_off_in_place_of_a_stream_is_interrupted() {
    let answer = json_body(200, HELLO);
    let server = closing(answer[..answer.len() - 20].to_owned());
    let error = fails(&server, ErrorKind::Interrupted, None);
    assert_eq!(error.body(), Some(&HELLO[..HELLO.len() - 20]));
}

#[test]
fn events_under_another_name_are_a_stream() {
    let body = event("hello") + DONE;
    for kind in [
        "application/json",
        "text/plain; charset=utf-8",
        "application/octet-stream",
    ] {
        for start in [
            "",
            ": hi\n\n",
            "\u{feff}",
            "event: x\n",
            "id: 1\n",
            "retry: 1\n",
            "\n\n",
        ] {
            let head = STREAM_HEAD.replace("text/event-stream", kind);
            completes(&closing(format!("{head}{start}{body}")), "hello", None);
        }
    }
    let head = STREAM_HEAD.replace("text/event-stream", "Text/Event-Stream; charset=utf-8");
    completes(&closing(format!("{head}other: x\n\n{body}")), "hello", None);
}

#[test]
fn what_fails_before_a_stream_begins_is_repeated() {
    let busy = json_body(429, r#"{"message":"slow down"}"#);
    let server = Server::answering_in_turn(vec![
        busy,
        respond(
            200,
            &[("content-type", "text/event-stream")],
            &(event("hello") + DONE),
        ),
    ]);
    assert_eq!(stream(&server).finish().unwrap().text(), "hello");
    assert_eq!(server.requests().len(), 2);

    let server = Server::start(|number, connection| {
        connection.request()?;
        match number {
            0 => connection.close(),
            _ => connection.send(STREAM_HEAD.to_owned() + &event("hello")),
        }
    });
    let error = stream(&server).finish().unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts()),
        (ErrorKind::Interrupted, 2)
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_refused_stream_is_an_error_before_it_is_one() {
    let server = Server::answering(json_body(
        400,
        r#"{"message":"unknown field stream_options"}"#,
    ));
    let error = server.client().stream(&hello()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 400 Bad Request: unknown field stream_options (the server refuses the request for usage \
         in a stream: leave it out with param(\"stream_options\", serde_json::Value::Null))"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn errors_of_a_stream_have_its_request_id() {
    let head = STREAM_HEAD.replace("connection", "x-request-id: r1\r\nconnection");
    let error = fails(
        &closing(head + &event("a")),
        ErrorKind::Interrupted,
        Some("a"),
    );
    assert_eq!(error.request_id(), Some("r1"));
    assert_eq!(error.partial().unwrap().request_id(), Some("r1"));
}

#[test]
fn the_key_is_redacted_in_a_stream_too() {
    let bad = format!(r#"{{"error":{{"message":"wrong key {KEY}","code":"{KEY}"}}}}"#);
    let error = fails(&streaming(format!("data: {bad}\n\n")), ErrorKind::Api, None);
    assert_eq!(
        (error.message(), error.code()),
        ("wrong key [key]", Some("[key]"))
    );
    assert!(!format!("{error} {error:?} {error:#?}").contains(KEY));
    assert_eq!(error.body(), Some(&*bad));

    let server = streaming(event("a") + DONE);
    let stream = stream(&server);
    assert!(!format!("{stream:?} {stream:#?}").contains(KEY));
}

#[test]
fn a_surrogate_pair_may_be_cut_by_an_event_and_a_character_by_a_packet() {
    let half = |digits: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"\\u{digits}\"}}}}]}}\n\n")
    };
    completes(&streaming(half("d83d") + &half("de00") + DONE), "😀", None);
    let bytes = STREAM_HEAD.to_owned() + &event("é😀") + DONE;
    let server = Server::start(move |_, connection| {
        connection.request()?;
        bytes
            .as_bytes()
            .chunks(1)
            .try_for_each(|byte| connection.send(byte))
    });
    completes(&server, "é😀", None);
}

#[test]
fn invalid_utf8_is_replaced_and_costs_no_character_beside_it() {
    let mut body = STREAM_HEAD.as_bytes().to_vec();
    for text in [&b"a"[..], b"\xf0\x9fbc\xff", b"d"] {
        body.extend_from_slice(b"data: {\"choices\":[{\"delta\":{\"content\":\"");
        body.extend_from_slice(text);
        body.extend_from_slice(b"\"}}]}\n\n");
    }
    body.extend_from_slice(DONE.as_bytes());
    completes(&closing(body), "a\u{fffd}bc\u{fffd}d", None);
}

#[test]
fn a_stream_with_all_that_the_standard_permits_is_read() {
    let crlf = event("hel").replace('\n', "\r\n");
    let cr = event("lo").replace('\n', "\r");
    let body = format!(
        "\u{feff}: hi\r\nid: 7\r\nretry: 9\r\nevent: message\r\n{crlf}:\n\n{cr}data: [DONE]\r\r"
    );
    completes(&streaming(body), "hello", None);
    let lines = event("hello").replace(",\"model\"", ",\ndata: \"model\"");
    completes(&streaming(lines + DONE), "hello", None);
}
