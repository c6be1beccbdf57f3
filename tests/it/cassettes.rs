//! A recorded answer is the answer: once paid for, and had again without a server, a key or a difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{
    Cassette, ChatRequest, Client, Completion, Error, ErrorKind, FinishReason, RetryPolicy,
};

use crate::support::{
    Child, DONE, HELLO, KEY, MODEL, STREAM_HEAD, Scratch, Server, event, finish, hello, json,
    respond,
};

fn with(server: &Server, cassette: Cassette) -> Client {
    server.builder().cassette(cassette).build().unwrap()
}

/// A client that only replays, and has neither a key nor a server.
fn replaying(directory: &Path) -> Client {
    let cassette = Cassette::replay(directory);
    Client::builder().cassette(cassette).build().unwrap()
}

#[track_caller]
fn the_only_file(directory: &Path) -> PathBuf {
    let files = files(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The chunks of a stream as they came, and the answer at its end.
#[track_caller]
fn drained(client: &Client, request: &ChatRequest) -> (Vec<String>, Completion) {
    let mut stream = client.stream(request).unwrap();
    let chunks = stream.by_ref().map(|chunk| chunk.unwrap().raw().to_owned());
    (chunks.collect(), stream.finish().unwrap())
}

fn streaming(events: &[String]) -> Server {
    Server::answering_once_each(format!("{STREAM_HEAD}{}", events.concat()))
}

fn hello_in_three_events() -> Vec<String> {
    vec![event("hel"), event("lo"), finish("stop"), DONE.to_owned()]
}

// The modes.

#[test]
fn auto_calls_once_and_answers_from_the_directory_ever_after() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    for _ in 0..3 {
        let client = with(&server, Cassette::auto(scratch.path()));
        assert_eq!(client.send(&hello()).unwrap().raw(), Some(HELLO));
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn record_calls_always_and_overwrites() {
    let (server, scratch) = (
        Server::answering_in_turn(vec![
            json(200, HELLO),
            json(200, &HELLO.replace("hello", "bye")),
        ]),
        Scratch::new(),
    );
    let client = with(&server, Cassette::record(scratch.path()));
    assert_eq!(client.send(&hello()).unwrap().text(), "hello");
    assert_eq!(client.send(&hello()).unwrap().text(), "bye");
    the_only_file(scratch.path());
    let replayed = replaying(scratch.path()).send(&hello()).unwrap();
    assert_eq!(replayed.text(), "bye");
}

#[test]
fn replay_sends_nothing_neither_for_a_hit_nor_for_a_miss() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let recorder = with(&server, Cassette::auto(scratch.path()));
    recorder.send(&hello()).unwrap();
    let client = with(&server, Cassette::replay(scratch.path()));
    assert_eq!(client.send(&hello()).unwrap().text(), "hello");
    assert!(client.send(&hello().max_tokens(1)).is_err());
    assert!(client.stream(&hello().max_tokens(1)).is_err());
    assert!(client.models().is_err());
    assert_eq!((server.requests().len(), client.spent().requests), (1, 0));
}

#[test]
fn models_are_not_recorded_and_a_client_that_only_replays_says_so() {
    let error = replaying(Path::new("nowhere")).models().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cassette);
    assert_eq!(
        error.to_string(),
        "the list of models is not recorded, and the cassette only replays"
    );
}

#[test]
fn the_environment_decides_about_the_mode() {
    let scratch = Scratch::new();
    let server = Server::answering(json(200, HELLO));
    let run = |mode: &str| {
        let child = Child::new("cassettes::in_the_mode_of_the_environment")
            .env("AIMLAPI_CASSETTE", mode)
            .env("AIMLAPI_BASE_URL", server.base_url())
            .env("DIRECTORY", scratch.path());
        (child.run(), server.requests().len())
    };
    let miss = run("replay").0;
    assert!(miss.starts_with("no recording of this request: "), "{miss}");
    assert_eq!(run("off"), ("hello".to_owned(), 1));
    assert!(files(scratch.path()).is_empty());
    assert_eq!(run("record"), ("hello".to_owned(), 2));
    assert_eq!(run("record"), ("hello".to_owned(), 3));
    assert_eq!(run("auto"), ("hello".to_owned(), 3));
    assert_eq!(run(" replay "), ("hello".to_owned(), 3));
    assert_eq!(run(""), ("hello".to_owned(), 3));
    assert_eq!(
        run("rewind").0,
        r#"AIMLAPI_CASSETTE is "rewind": it has to be auto, record, replay or off"#
    );
}

/// In a process that a test has started: its client, with the directory that the test names.
fn client_of_the_environment() -> Option<aimlapi::Result<Client>> {
    let directory = std::env::var_os("DIRECTORY")?;
    let builder = Client::builder().cassette(Cassette::auto(directory));
    Some(builder.build())
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn in_the_mode_of_the_environment() {
    let Some(client) = client_of_the_environment() else {
        return;
    };
    let reply = client.and_then(|client| client.send(&hello()));
    Child::say(reply.map_or_else(|e| e.to_string(), |reply| reply.text().to_owned()));
}

// What is the same request.

#[test]
fn neither_the_address_nor_streaming_nor_an_id_makes_another_request() {
    let scratch = Scratch::new();
    let first = Server::answering(json(200, HELLO));
    with(&first, Cassette::auto(scratch.path()))
        .send(&hello())
        .unwrap();
    let other = Server::answering(json(500, ""));
    let client = with(&other, Cassette::auto(scratch.path()));
    client.send(&hello().client_request_id("row-1")).unwrap();
    client.stream(&hello()).unwrap().finish().unwrap();
    let options = serde_json::json!({"include_usage": false});
    let request = hello().param("stream_options", options);
    client.stream(&request).unwrap().finish().unwrap();
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_model_a_word_or_a_parameter_makes_another_request() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let requests = [
        hello(),
        ChatRequest::new("test/model-2", "hello"),
        ChatRequest::new(MODEL, "hello "),
        hello().seed(1),
        hello().seed(2),
        hello().temperature(0.0),
        hello().param("stop", serde_json::Value::Null),
    ];
    for request in &requests {
        client.send(request).unwrap();
        client.send(request).unwrap();
    }
    assert_eq!(server.requests().len(), requests.len());
    assert_eq!(files(scratch.path()).len(), requests.len());
}

#[test]
fn a_float_of_seventeen_digits_finds_its_recording() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    // Some that serde_json reads wrong in the last place, unless a feature of it is on, as in these tests by one of their
    // dependencies. So the recordings are read without it.
    for float in [0.907_303_832_202_868_9, 0.432_952_849_813_225_6, 1e20, 0.1] {
        let request = hello().temperature(float);
        client.send(&request).unwrap();
        replaying(scratch.path()).send(&request).unwrap();
    }
}

// The files.

const WHOLE: &str =
    include_str!("../fixtures/cassettes/gemma-2-27b-it_why-is-the-sky-blue_d1acc49529e99154.json");
const STREAMED: &str =
    include_str!("../fixtures/cassettes/gemma-2-27b-it_tell-me-a-story_5e1d845d1eeabfdf.json");

fn why_blue() -> ChatRequest {
    let messages = [
        aimlapi::Message::system("Be brief."),
        aimlapi::Message::user("Why is the sky blue?"),
    ];
    ChatRequest::new(aimlapi::GEMMA_2_27B_IT, messages)
        .temperature(0.7)
        .max_tokens(20)
}

fn story() -> ChatRequest {
    ChatRequest::new(aimlapi::GEMMA_2_27B_IT, "Tell me a story.").seed(7)
}

#[track_caller]
fn is_recorded_as(
    name: &str,
    text: &str,
    answer: String,
    call: impl FnOnce(&Client) -> Completion,
) {
    let (server, scratch) = (Server::answering_once_each(answer), Scratch::new());
    let reply = call(&with(&server, Cassette::auto(scratch.path())));
    assert_eq!(reply.unrecorded(), None);
    let file = the_only_file(scratch.path());
    assert_eq!(file.file_name().unwrap().to_str(), Some(name));
    assert_eq!(fs::read_to_string(file).unwrap(), text);
}

#[test]
fn a_whole_answer_is_recorded_in_these_bytes_under_this_name() {
    let headers = [
        ("content-type", "application/json"),
        ("x-inference-id", "inference-1"),
        ("x-client-request-id", "row-1"),
        ("x-aimlapi-usd-spent", "0.001240000"),
        ("x-aimlapi-credits-used", "2480"),
        ("set-cookie", "session=secret"),
    ];
    let body = r#"{"id":"c1","model":"google/gemma-2-27b-it","choices":[{"index":0,"message":{"role":"assistant","content":"Rayleigh scattering. \ud83c\udf0c"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#;
    is_recorded_as(
        "gemma-2-27b-it_why-is-the-sky-blue_d1acc49529e99154.json",
        WHOLE,
        respond(201, &headers, body),
        |client| {
            let request = why_blue().client_request_id("row-1");
            client.send(&request).unwrap()
        },
    );
}

#[test]
fn a_stream_is_recorded_in_these_bytes_under_this_name() {
    let events = [
        ": a comment\n\n".to_owned(),
        event("Once 🌌"),
        "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\" upon\"}}]}\n\n".to_owned(),
        "data:   {\"choices\":[{\"delta\":{\"content\":\" a time\"}}]} \n\n".to_owned(),
        finish("length"),
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\n"
            .to_owned(),
        DONE.to_owned(),
    ];
    is_recorded_as(
        "gemma-2-27b-it_tell-me-a-story_5e1d845d1eeabfdf.json",
        STREAMED,
        format!("{STREAM_HEAD}{}", events.concat()),
        |client| client.stream(&story()).unwrap().finish().unwrap(),
    );
}

#[test]
fn the_files_of_this_project_are_read_for_ever() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cassettes");
    let client = replaying(&fixtures);
    let reply = client.send(&why_blue()).unwrap();
    assert_eq!(reply.text(), "Rayleigh scattering. 🌌");
    assert_eq!(reply.request_id(), Some("inference-1"));
    assert_eq!(reply.client_request_id(), Some("row-1"));
    assert_eq!(reply.usd_spent(), Some(0.00124));
    let reply = client.stream(&story()).unwrap().finish().unwrap();
    assert_eq!(reply.text(), "Once 🌌 upon a time");
    assert_eq!(reply.finish_reason(), Some(&FinishReason::Length));
    assert_eq!(reply.usage().map(|usage| usage.total_tokens), Some(8));
}

#[test]
fn a_recording_may_be_reformatted_and_annotated() {
    let scratch = Scratch::new();
    let value: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    let mut compact = value.as_object().unwrap().clone();
    compact.insert("note".into(), "checked by a human".into());
    let name = "gemma-2-27b-it_why-is-the-sky-blue_d1acc49529e99154.json";
    fs::create_dir_all(scratch.path()).unwrap();
    fs::write(
        scratch.path().join(name),
        serde_json::to_string(&compact).unwrap(),
    )
    .unwrap();
    let reply = replaying(scratch.path()).send(&why_blue()).unwrap();
    assert_eq!(reply.text(), "Rayleigh scattering. 🌌");
}

/// Answers with the key that it was sent, in whatever form it is told to.
fn echoing() -> Server {
    Server::start(|_, connection| {
        loop {
            let seen = connection.request()?;
            let key = &seen.headers["authorization"];
            let told = String::from_utf8_lossy(&seen.body);
            let whole = HELLO.replace("hello", key);
            connection.send(if told.contains("\"stream\":true") {
                let events = [("content-type", "text/event-stream")];
                respond(200, &events, &(event(key) + DONE))
            } else if told.contains("refuse") {
                json(400, &whole)
            } else if told.contains("echo") {
                json(200, &whole)
            } else {
                json(200, HELLO)
            })?;
        }
    })
}

#[test]
fn no_recording_holds_the_key() {
    let (server, scratch) = (echoing(), Scratch::new());
    let client = with(&server, Cassette::record(scratch.path()));
    let say = |text: &str| ChatRequest::new(MODEL, text);
    assert_eq!(client.send(&say("hello")).unwrap().unrecorded(), None);
    let echoed = client.send(&say("echo")).unwrap();
    assert!(echoed.text().contains(KEY), "or nothing is tested here");
    let why = echoed.unrecorded().unwrap();
    assert!(why.ends_with(".json cannot be written: it would hold the API key"));
    let told = client.send(&say(&format!("my key is {KEY}"))).unwrap();
    assert!(told.unrecorded().is_some());
    let streamed = client.stream(&say("echo a stream")).unwrap();
    assert!(streamed.finish().unwrap().unrecorded().is_some());
    assert_eq!(client.send(&say("refuse")).unwrap_err().status(), Some(400));
    let text = fs::read_to_string(the_only_file(scratch.path())).unwrap();
    assert!(text.contains("hello") && !text.contains(KEY));
}

#[test]
fn every_byte_of_an_answer_comes_back() {
    let odd = "{ \"choices\" : [\n{\"message\":{\"content\":\"half \\ud83d\", \"x\": 1.0e0}} ] }";
    for body in [odd.to_owned(), format!("\r\n {odd}\n"), HELLO.to_owned()] {
        let (server, scratch) = (Server::answering(json(200, &body)), Scratch::new());
        let client = with(&server, Cassette::auto(scratch.path()));
        let first = client.send(&hello()).unwrap();
        assert_eq!(first.raw(), Some(&*body));
        assert_eq!(replaying(scratch.path()).send(&hello()).unwrap(), first);
    }
}

#[test]
fn ids_and_price_come_back() {
    let headers = [("x-request-id", "r1"), ("x-aimlapi-usd-spent", "0.3")];
    let server = Server::answering(respond(200, &headers, HELLO));
    let scratch = Scratch::new();
    let client = with(&server, Cassette::auto(scratch.path()));
    let (first, again) = (
        client.send(&hello()).unwrap(),
        client.send(&hello()).unwrap(),
    );
    assert_eq!(
        (again.request_id(), again.usd_spent()),
        (Some("r1"), Some(0.3))
    );
    assert_eq!(again, first);
}

// Streams and whole answers.

#[test]
fn a_stream_replays_as_the_same_chunks_in_order() {
    let (server, scratch) = (streaming(&hello_in_three_events()), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let first = drained(&client, &hello());
    assert_eq!(first.0.len(), 3);
    assert_eq!(drained(&replaying(scratch.path()), &hello()), first);
}

#[test]
fn a_recorded_stream_can_be_read_as_a_whole() {
    let (server, scratch) = (streaming(&hello_in_three_events()), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let streamed = client.stream(&hello()).unwrap().finish().unwrap();
    assert_eq!(client.send(&hello()).unwrap(), streamed);
    assert_eq!((streamed.text(), server.requests().len()), ("hello", 1));
}

#[test]
fn a_recorded_whole_answer_can_be_streamed_as_one_chunk() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let whole = client.send(&hello()).unwrap();
    let (chunks, streamed) = drained(&client, &hello());
    assert_eq!((chunks, streamed), (vec![HELLO.to_owned()], whole));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream_is_recorded_as_it_came() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let first = drained(&client, &hello());
    assert_eq!(drained(&client, &hello()), first);
    assert_eq!(client.send(&hello()).unwrap().raw(), Some(HELLO));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_pair_of_surrogates_split_between_two_events_survives() {
    let half = |half: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{half}\"}}}}]}}\n\n")
    };
    let events = [
        half("\\ud83c"),
        half("\\udf0c"),
        finish("stop"),
        DONE.to_owned(),
    ];
    let (server, scratch) = (streaming(&events), Scratch::new());
    let first = drained(&with(&server, Cassette::auto(scratch.path())), &hello());
    assert_eq!(first.1.text(), "🌌");
    assert_eq!(drained(&replaying(scratch.path()), &hello()), first);
}

#[test]
fn a_stream_that_ends_without_done_is_recorded_once_it_is_complete() {
    let (server, scratch) = (streaming(&[event("hello"), finish("stop")]), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    let first = drained(&client, &hello());
    assert_eq!(drained(&client, &hello()), first);
    assert_eq!(server.requests().len(), 1);
}

#[track_caller]
fn leaves_no_recording(answer: String, call: impl FnOnce(&Client)) {
    let (server, scratch) = (Server::answering_once_each(answer), Scratch::new());
    call(&with(&server, Cassette::auto(scratch.path())));
    assert_eq!(server.requests().len(), 1);
    assert!(files(scratch.path()).is_empty());
}

#[test]
fn what_is_not_complete_is_not_recorded() {
    let stream = |events: &[&str]| format!("{STREAM_HEAD}{}", events.concat());
    let cut = stream(&[&event("hel")]);
    leaves_no_recording(cut, |client| {
        let stream = client.stream(&hello()).unwrap();
        assert_eq!(stream.finish().unwrap_err().kind(), ErrorKind::Interrupted);
    });
    let failed = stream(&[&event("hel"), "data: {\"error\":\"overloaded\"}\n\n"]);
    leaves_no_recording(failed, |client| {
        let stream = client.stream(&hello()).unwrap();
        assert_eq!(stream.finish().unwrap_err().kind(), ErrorKind::Api);
    });
    let complete = stream(&[&event("hel"), &event("lo"), &finish("stop"), DONE]);
    leaves_no_recording(complete.clone(), |client| {
        let first = client.stream(&hello()).unwrap().next();
        assert_eq!(first.unwrap().unwrap().text(), "hel");
    });
    leaves_no_recording(complete, |client| {
        let reader = client.stream(&hello()).unwrap();
        reader.write_to(BrokenPipe).unwrap();
    });
    let short =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\nconnection: close\r\n\r\n{HELLO}");
    leaves_no_recording(short, |client| {
        assert_eq!(
            client.send(&hello()).unwrap_err().kind(),
            ErrorKind::Interrupted
        );
    });
    leaves_no_recording(json(200, "{\"choices\":[]}"), |client| {
        assert_eq!(client.send(&hello()).unwrap_err().kind(), ErrorKind::Decode);
    });
}

struct BrokenPipe;

impl std::io::Write for BrokenPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// Errors.

const REFUSAL: &str = r#"{"message":"Body validation error!","path":"/v1/chat/completions","requestId":"r1","statusCode":400}"#;

/// The error of a request, in the mode `record`, and again in `replay`.
#[track_caller]
fn refused(answer: String) -> (Error, Result<Completion, Error>) {
    let (server, scratch) = (Server::answering(answer), Scratch::new());
    let client = server.builder().retry(RetryPolicy::none());
    let client = client.cassette(Cassette::record(scratch.path())).build();
    let error = client.unwrap().send(&hello()).unwrap_err();
    let stand = Cassette::replay(scratch.path());
    (error, with(&server, stand).send(&hello()))
}

#[test]
fn a_request_refused_for_good_is_recorded_in_the_mode_record() {
    for status in [400, 404, 422] {
        let (first, again) = refused(json(status, REFUSAL));
        let again = again.unwrap_err();
        assert_eq!(again.to_string(), first.to_string());
        assert_eq!(again.kind(), ErrorKind::Api);
        assert_eq!(
            (again.status(), again.body()),
            (Some(status), Some(REFUSAL))
        );
        assert_eq!((again.request_id(), again.attempts()), (Some("r1"), 0));
    }
}

#[test]
fn an_error_that_is_no_json_is_recorded_too() {
    for body in [
        "<html><title>Nothing here</title></html>",
        "",
        "\"a string\"",
    ] {
        let (first, again) = refused(respond(404, &[], body));
        let again = again.unwrap_err();
        assert_eq!(again.to_string(), first.to_string());
        assert_eq!(again.body(), Some(body));
    }
}

#[test]
fn no_other_error_is_recorded() {
    for status in [300, 401, 402, 403, 408, 409, 413, 429, 500, 503] {
        let (_, again) = refused(json(status, REFUSAL));
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Cassette, "{status}");
    }
}

#[test]
fn auto_records_no_error() {
    let (server, scratch) = (Server::answering(json(400, REFUSAL)), Scratch::new());
    let client = with(&server, Cassette::auto(scratch.path()));
    for _ in 0..2 {
        assert_eq!(client.send(&hello()).unwrap_err().status(), Some(400));
        assert!(client.stream(&hello()).is_err());
    }
    assert_eq!(server.requests().len(), 4);
    assert!(files(scratch.path()).is_empty());
}

// What is not as it should be.

#[track_caller]
fn cassette_error(client: &Client, request: &ChatRequest) -> String {
    let error = client.send(request).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cassette, 0));
    assert_eq!(
        client.stream(request).unwrap_err().to_string(),
        error.to_string()
    );
    assert_eq!(client.spent().requests, 0);
    error.to_string()
}

#[test]
fn a_miss_says_what_was_expected_and_how_to_record_it() {
    let scratch = Scratch::new();
    assert_eq!(
        cassette_error(&replaying(scratch.path()), &hello()),
        format!(
            "no recording of this request: {}/model_hello_76eebf9e64ca9666.json is not there \
             (run once with AIMLAPI_CASSETTE=auto and a key to record it)",
            scratch.path().display()
        )
    );
}

#[test]
fn a_miss_tells_the_nearest_recording_and_how_it_differs() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let recorder = with(&server, Cassette::auto(scratch.path()));
    let long = "Read all of this carefully, and then some more. ".repeat(4);
    for words in ["hello", "What is the capital of France?", &long] {
        let request = ChatRequest::new(MODEL, words).max_tokens(20);
        recorder.send(&request).unwrap();
    }
    let client = replaying(scratch.path());
    let nearest = |request: ChatRequest| {
        let message = cassette_error(&client, &request);
        let (_, nearest) = message.split_once("; the nearest, ").unwrap();
        nearest.split_once(" (run once").unwrap().0.to_owned()
    };
    assert_eq!(
        nearest(ChatRequest::new(MODEL, "What is the capital of Spain?").max_tokens(20)),
        "model_what-is-the-capital-of-france_f3e255d932359977.json, differs in messages.0.content: \
         recorded \"What is the capital of France?\", asked \"What is the capital of Spain?\""
    );
    assert_eq!(
        nearest(hello().temperature(0.5)),
        "model_hello_5e043a344e5caaa5.json, differs in max_tokens: recorded 20, asked nothing, \
         and in 1 more place"
    );
    assert_eq!(
        nearest(ChatRequest::new(MODEL, format!("{long}Now!")).max_tokens(20)),
        "model_read-all-of-this-carefully-and-then-some_d700d28953e8e385.json, differs in \
         messages.0.content: recorded …and then some more. \", asked …and then some more. Now!\""
    );
}

#[test]
fn the_nearest_of_many_recordings_is_found_by_its_name() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let recorder = with(&server, Cassette::auto(scratch.path()));
    let of_row = |row: usize| ChatRequest::new(MODEL, format!("label row {row}"));
    for row in 0..250 {
        recorder.send(&of_row(row)).unwrap();
    }
    let message = cassette_error(&replaying(scratch.path()), &of_row(77).top_k(1));
    assert!(
        message.contains("; the nearest, model_label-row-77_"),
        "{message}"
    );
    assert!(
        message.contains(", differs in top_k: recorded nothing, asked 1 ("),
        "{message}"
    );
}

/// The file of a recorded hello after it has been changed, and what is said about it.
#[track_caller]
fn damaged(change: impl FnOnce(&Path), want: &str) {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let auto = with(&server, Cassette::auto(scratch.path()));
    auto.send(&hello()).unwrap();
    let file = the_only_file(scratch.path());
    change(&file);
    let want = want.replace("FILE", &file.display().to_string());
    assert_eq!(cassette_error(&replaying(scratch.path()), &hello()), want);
    let error = auto.send(&hello()).unwrap_err();
    assert_eq!(error.to_string(), want);
    assert_eq!(
        server.requests().len(),
        1,
        "a damaged file is no missing one"
    );
}

#[track_caller]
fn rewritten(old: &str, new: &str, want: &str) {
    let hint = "(delete it, or record it anew with AIMLAPI_CASSETTE=record)";
    let change = |file: &Path| {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.contains(old));
        fs::write(file, text.replace(old, new)).unwrap();
    };
    damaged(
        change,
        &format!("the recording FILE is damaged: {want} {hint}"),
    );
}

#[test]
fn a_damaged_recording_is_an_error_that_names_it() {
    rewritten(
        "\"status\": 200",
        "\"status\": 200, \"usd_spent\": \"free\"",
        "its usd_spent is no number",
    );
    rewritten("\n}", "", "the JSON ends too early, at byte 427");
    rewritten(
        "\"version\": 1",
        "\"version\": 2",
        "its version is 2, not 1",
    );
    rewritten("\"version\": 1,", "", "it has no version");
    rewritten(
        "\"status\": 200",
        "\"status\": 65736",
        "its status is no HTTP status",
    );
    rewritten(
        "\"body\"",
        "\"answer\"",
        "it has neither a body nor events, or both",
    );
    rewritten(
        "\"body\"",
        "\"events\": [], \"body\"",
        "it has neither a body nor events, or both",
    );
    rewritten("\"body\"", "\"events\"", "its events are no list");
}

#[test]
fn a_recording_without_an_answer_is_damaged_and_named() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    with(&server, Cassette::auto(scratch.path()))
        .send(&hello())
        .unwrap();
    let file = the_only_file(scratch.path());
    let text = fs::read_to_string(&file).unwrap();
    let (head, _) = text.split_once("\"body\"").unwrap();
    for (answer, why) in [
        (
            "\"body\": {}",
            "the server answered 200 with JSON that holds no answer: {}",
        ),
        (
            "\"events\": []",
            "the stream is complete and holds no answer",
        ),
        (
            "\"events\": [7]",
            "an event of the stream is no chat completion",
        ),
    ] {
        fs::write(&file, format!("{head}{answer}}}")).unwrap();
        let client = replaying(scratch.path());
        let streamed = client.stream(&hello()).unwrap().finish().unwrap_err();
        for error in [client.send(&hello()).unwrap_err(), streamed] {
            assert_eq!(error.kind(), ErrorKind::Cassette);
            let file = file.display();
            let want = format!(
                "the recording {file} is damaged: {why} (delete it, or record it anew with AIMLAPI_CASSETTE=record)"
            );
            assert_eq!(error.to_string(), want);
        }
    }
}

#[test]
fn an_edited_request_is_an_error_that_says_what_was_edited() {
    rewritten(
        "\"content\": \"hello\"",
        "\"content\": \"bye\"",
        "it holds another request than its name says: messages.0.content: recorded \"bye\", asked \"hello\"",
    );
}

#[test]
fn a_foreign_file_is_an_error_and_neither_fills_the_memory_nor_blocks() {
    let file = |bytes: &'static [u8]| move |path: &Path| fs::write(path, bytes).unwrap();
    let unreadable = |why: &str| format!("the recording FILE cannot be read: {why}");
    damaged(
        file(b"\xff{}"),
        &unreadable("stream did not contain valid UTF-8"),
    );
    let huge = |path: &Path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
    damaged(huge, &unreadable("it is larger than 67108864 bytes"));
    let directory = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    damaged(directory, &unreadable("it is no file"));
    #[cfg(unix)]
    damaged(
        |path| {
            fs::remove_file(path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        },
        &unreadable("it is no file"),
    );
}

#[test]
fn nesting_without_end_is_a_damaged_recording() {
    for member in ["request", "body"] {
        let scratch = Scratch::new();
        let text = WHOLE.replace(
            &format!("\"{member}\": "),
            &format!("\"{member}\": {}", "[".repeat(200_000)),
        );
        fs::create_dir_all(scratch.path()).unwrap();
        let name = "gemma-2-27b-it_why-is-the-sky-blue_d1acc49529e99154.json";
        fs::write(scratch.path().join(name), text).unwrap();
        let error = replaying(scratch.path()).send(&why_blue()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cassette);
    }
}

#[cfg(unix)]
#[test]
fn an_answer_that_cannot_be_recorded_is_returned_and_says_so() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path()).unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let server = Server::answering(json(200, HELLO));
    let client = with(&server, Cassette::record(&file));
    let want = format!(
        "{}/model_hello_76eebf9e64ca9666.json cannot be written: File exists (os error 17)",
        file.display()
    );
    let reply = client.send(&hello()).unwrap();
    assert_eq!((reply.text(), reply.unrecorded()), ("hello", Some(&*want)));
    let reply = client.stream(&hello()).unwrap().finish().unwrap();
    assert_eq!((reply.text(), reply.unrecorded()), ("hello", Some(&*want)));
    let below = with(&server, Cassette::record(file.join("deeper")));
    let reply = below.send(&hello()).unwrap();
    assert!(
        reply
            .unrecorded()
            .unwrap()
            .ends_with("Not a directory (os error 20)")
    );
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_read_is_an_error_before_anything_is_paid() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path()).unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let server = Server::answering(json(200, HELLO));
    let message = cassette_error(&with(&server, Cassette::auto(&file)), &hello());
    assert!(
        message.ends_with(".json cannot be read: Not a directory (os error 20)"),
        "{message}"
    );
    assert_eq!(server.requests().len(), 0);
}

/// A process that may write no byte to any file stands for a full disk, and root cannot overrule it.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_the_recording_and_not_the_answer() {
    let (server, scratch) = (Server::answering(json(200, HELLO)), Scratch::new());
    let said = Child::new("cassettes::on_a_full_disk")
        .env("AIMLAPI_BASE_URL", server.base_url())
        .env("DIRECTORY", scratch.path())
        .without_disk()
        .run();
    assert_eq!(
        said,
        format!(
            "hello, unrecorded: {}/model_hello_76eebf9e64ca9666.json cannot be written: \
             File too large (os error 27)",
            scratch.path().display()
        )
    );
    assert!(files(scratch.path()).is_empty());
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn on_a_full_disk() {
    let Some(client) = client_of_the_environment() else {
        return;
    };
    let reply = client.unwrap().send(&hello()).unwrap();
    Child::say(format!(
        "{}, unrecorded: {}",
        reply.text(),
        reply.unrecorded().unwrap()
    ));
}

// Many at once.

const DISTINCT: usize = 5;

fn question(number: usize) -> ChatRequest {
    ChatRequest::new(MODEL, format!("question {}", number % DISTINCT))
}

/// Answers after a while, so that the others come while the first is still being answered.
fn slow() -> Server {
    Server::start(|_, connection| {
        loop {
            connection.request()?;
            thread::sleep(Duration::from_millis(50));
            connection.send(json(200, HELLO))?;
        }
    })
}

/// How often each distinct request came.
fn calls(server: &Server) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for seen in server.requests() {
        *calls
            .entry(seen.json()["messages"].to_string())
            .or_default() += 1;
    }
    calls
}

fn ask_with_a_hundred_threads(client: &Client) {
    thread::scope(|scope| {
        for number in 0..100 {
            scope
                .spawn(move || assert_eq!(client.send(&question(number)).unwrap().text(), "hello"));
        }
    });
}

#[test]
fn a_hundred_threads_make_one_call_for_each_distinct_request() {
    let (server, scratch) = (slow(), Scratch::new());
    ask_with_a_hundred_threads(&with(&server, Cassette::auto(scratch.path())));
    assert_eq!(
        calls(&server).into_values().collect::<Vec<_>>(),
        [1; DISTINCT]
    );
}

#[test]
fn two_processes_make_at_most_one_call_each_and_leave_whole_files() {
    let (server, scratch) = (slow(), Scratch::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                Child::new("cassettes::with_a_hundred_threads")
                    .env("AIMLAPI_BASE_URL", server.base_url())
                    .env("DIRECTORY", scratch.path())
                    .run()
            });
        }
    });
    let calls = calls(&server);
    assert_eq!(calls.len(), DISTINCT);
    assert!(calls.values().all(|calls| *calls <= 2), "{calls:?}");
    assert_eq!(
        files(scratch.path()).len(),
        DISTINCT,
        "and no temporary file"
    );
    for number in 0..DISTINCT {
        let reply = replaying(scratch.path()).send(&question(number)).unwrap();
        assert_eq!(reply.raw(), Some(HELLO));
    }
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn with_a_hundred_threads() {
    let Some(directory) = std::env::var_os("DIRECTORY") else {
        return;
    };
    let client = Client::builder().cassette(Cassette::auto(directory));
    ask_with_a_hundred_threads(&client.build().unwrap());
    Child::say("done");
}

#[test]
fn when_the_call_that_others_wait_for_fails_the_next_one_calls() {
    let scratch = Scratch::new();
    let turn = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |_, connection| {
        loop {
            connection.request()?;
            thread::sleep(Duration::from_millis(50));
            let first = turn.fetch_add(1, Ordering::SeqCst) == 0;
            connection.send(if first {
                json(403, "{}")
            } else {
                json(200, HELLO)
            })?;
        }
    });
    let client = with(&server, Cassette::auto(scratch.path()));
    let replies: Vec<bool> = thread::scope(|scope| {
        let ask = || client.send(&hello()).is_ok();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(replies.iter().filter(|ok| **ok).count(), 3);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn nobody_waits_for_another_threads_call_beyond_the_own_limit() {
    let (server, scratch) = (slow(), Scratch::new());
    let patient = with(&server, Cassette::auto(scratch.path()));
    let hasty = server.builder().timeout(Duration::from_millis(10));
    let hasty = hasty
        .cassette(Cassette::auto(scratch.path()))
        .build()
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| patient.send(&hello()).unwrap());
        while server.requests().is_empty() {
            thread::yield_now();
        }
        let started = Instant::now();
        let error = hasty.send(&hello()).unwrap_err();
        assert!(started.elapsed() < Duration::from_millis(45));
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(
            error.to_string(),
            "another thread did not finish the same request within 10ms (the limit is timeout())"
        );
    });
    assert_eq!((server.requests().len(), hasty.spent().requests), (1, 0));
}
