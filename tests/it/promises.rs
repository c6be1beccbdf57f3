//! The key and the prompt are shown to nobody but the server.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

use aimlapi::{Client, ClientBuilder, Completion, Error};

use crate::support::{
    HELLO, MODEL, Server, begins, hello, json, nobody, quick, respond, say_hello,
};

/// No other test has it.
const SECRET: &str = "sk-promise-5ec2e7-0f-7h15-f11e";

const PROMPT: &str = "tell nobody of the treaty";

/// A piece of the secret that would give it away.
const PIECE: &str = "sk-promise-5";

#[track_caller]
fn hidden(what: &impl Debug) {
    for shown in [format!("{what:?}"), format!("{what:#?}")] {
        assert!(!shown.contains(PIECE), "{shown}");
    }
}

#[track_caller]
fn hidden_in(error: &Error) {
    let parts = [Some(error.message()), error.code(), error.request_id()];
    let shown = format!("{error} {error:#} {error:?} {error:#?} {parts:?}");
    assert!(!shown.contains(PIECE), "{shown}");
}

fn client(server: &Server) -> Client {
    server.builder().api_key(SECRET).build().unwrap()
}

/// The error that such a response is to a client with the secret.
fn error(response: String) -> Error {
    let server = Server::answering(response);
    client(&server).chat(MODEL, PROMPT).unwrap_err()
}

/// Calls that end in every way: one well, ten not.
fn calls() -> Vec<aimlapi::Result<Completion>> {
    let ask = |builder: ClientBuilder| {
        let builder = builder.api_key(SECRET).allow_plaintext_key().retry(quick());
        builder.build().unwrap().chat(MODEL, PROMPT)
    };
    let answered = |response: String| ask(Server::answering(response).builder());
    let echo = format!("{SECRET} is not a key");
    let location = format!("https://a.com/?key={SECRET}");
    let silent = Server::start(|_, connection| connection.fall_silent());
    let gone = Server::start(|_, connection| connection.request().map(drop));
    let proxied = Client::builder()
        .base_url("http://a.invalid")
        .proxy(nobody());
    vec![
        answered(json(200, HELLO)),
        answered(json(200, &echo)),
        answered(json(401, &echo)),
        answered(json(503, &echo)),
        answered(respond(307, &[("location", &location)], "")),
        answered(respond(429, &[("x-request-id", SECRET)], "")),
        answered("no http".to_owned()),
        ask(silent.builder().timeout(Duration::from_millis(50))),
        ask(gone.builder()),
        ask(Client::builder().base_url(nobody())),
        ask(proxied),
    ]
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let (level, target, said) = (record.level(), record.target(), record.args());
        let line = format!("{level} {target}: {said}");
        LINES.lock().unwrap().push(line);
    }
    fn flush(&self) {}
}

/// Logs what follows, from everyone's `debug` up. A `trace` of ureq's holds all bytes that travel.
fn collect_log_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_logger(&Collector).unwrap());
    log::set_max_level(log::LevelFilter::Debug);
}

#[test]
fn no_log_line_holds_the_key_the_prompt_or_the_answer() {
    collect_log_lines();
    let server = Server::answering_in_turn(vec![json(503, SECRET), json(200, HELLO)]);
    client(&server).chat(MODEL, PROMPT).unwrap();
    calls();
    let lines = LINES.lock().unwrap().clone();
    let url = format!("{}/chat/completions", server.base_url());
    let ours: Vec<_> = lines.iter().filter(|line| line.contains(&url)).collect();
    let said = ["attempt 1", "status 503", "attempt 2", "status 200"];
    let want = said.map(|said| format!("DEBUG aimlapi::transport: {url}: {said}"));
    assert_eq!(ours, want.each_ref());
    for line in &lines {
        assert!(!line.contains(PIECE) && !line.contains(PROMPT), "{line}");
    }
}

#[test]
fn no_error_holds_the_key_or_the_prompt() {
    let errors: Vec<_> = calls().into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 10);
    for error in &errors {
        hidden_in(error);
        assert!(!format!("{error:#?} {error:#}").contains(PROMPT), "{error}");
    }
}

#[test]
fn no_panic_holds_the_key() {
    let server = Server::answering(json(401, &format!("{SECRET}?")));
    let unwrapped = AssertUnwindSafe(|| client(&server).chat(MODEL, PROMPT).unwrap());
    let panic = catch_unwind(unwrapped).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("401 Unauthorized: [key]?"), "{said}");
    assert!(!said.contains(PIECE), "{said}");
}

#[test]
fn a_key_that_the_server_echoes_is_taken_out() {
    let body = format!(r#"{{"message":"No such key: {SECRET}.","code":"no-{SECRET}"}}"#);
    let error = error(respond(401, &[("x-inference-id", SECRET)], &body));
    hidden_in(&error);
    assert_eq!(error.message(), "No such key: [key].");
    assert_eq!(
        (error.code(), error.request_id()),
        (Some("no-[key]"), Some("[key]"))
    );
    // The body is as it came.
    assert_eq!(error.body(), Some(body.as_str()));
}

#[test]
fn a_key_in_a_2xx_that_is_no_answer_is_taken_out() {
    hidden_in(&error(json(200, &format!(r#"{{"error":"{SECRET}"}}"#))));
    hidden_in(&error(json(200, &format!("<title>{SECRET}</title>"))));
    hidden_in(&error(json(200, &format!("{{\"{SECRET}\": 1}}"))));
}

#[test]
fn a_key_that_is_cut_short_is_taken_out() {
    for at in 150..220 {
        let error = error(json(200, &format!("{}{SECRET}", "x".repeat(at))));
        hidden_in(&error);
    }
    for at in [980, 985, 990] {
        hidden_in(&error(json(400, &format!("{}{SECRET}", "x".repeat(at)))));
    }
    let location = format!("https://a.com/{}{SECRET}", "x".repeat(170));
    hidden_in(&error(respond(302, &[("location", &location)], "")));
}

#[test]
fn a_key_in_a_redirect_s_target_is_taken_out() {
    let location = format!("/login?key={SECRET}");
    let error = error(respond(302, &[("location", &location)], ""));
    hidden_in(&error);
    begins(
        &error,
        "the server answered 302 Found, a redirect to /login?key=[key] (",
    );
}

#[test]
fn a_key_in_a_header_of_one_s_own_is_guarded_like_the_key() {
    let server = Server::answering(json(401, SECRET));
    let basic = format!("Basic {SECRET}");
    for (name, value) in [("api-key", SECRET), ("Authorization", &basic)] {
        let builder = Client::builder().base_url(server.base_url());
        let builder = builder.header(name, value);
        hidden(&builder);
        hidden(&builder.clone().build().unwrap());
        hidden_in(&say_hello(builder).unwrap_err());
    }
}

#[test]
fn a_stream_s_errors_hide_the_key_too() {
    let kind = ("content-type", "text/event-stream");
    let body = format!("data: {{\"error\":{{\"message\":\"{SECRET}\"}}}}\n\n");
    let server = Server::answering(respond(200, &[kind], &body));
    let stream = client(&server).stream(&hello()).unwrap();
    hidden(&stream);
    hidden_in(&stream.finish().unwrap_err());
}

#[test]
fn a_key_in_a_url_is_not_shown() {
    for base_url in [
        format!("https://a.com/v1?key={SECRET}"),
        format!("https://u:{SECRET}@a.com"),
        format!("u:{SECRET}@a.com"),
        format!("a.com?key={SECRET}"),
    ] {
        let builder = Client::builder().base_url(base_url);
        let builder = builder.proxy(format!("http://u:{SECRET}@127.0.0.1:1"));
        hidden(&builder);
        match builder.build() {
            Ok(client) => hidden(&client),
            Err(error) => hidden_in(&error),
        }
    }
}

#[test]
fn a_client_shows_its_server_and_that_it_has_a_key() {
    let builder = Client::builder()
        .api_key(SECRET)
        .base_url("http://localhost:1/v1?a=b");
    let client = builder.clone().build().unwrap();
    for shown in [format!("{builder:?}"), format!("{client:?}")] {
        let want = r#" { base_url: "http://localhost:1/v1", api_key: "[key]", "#;
        assert!(shown.contains(want), "{shown}");
    }
}

#[test]
fn a_key_that_cannot_be_sent_is_not_shown() {
    let local = || Client::builder().base_url("http://localhost");
    for odd in ["\n", "\u{e9}", "\0"] {
        let key = format!("{SECRET}{odd}");
        hidden_in(&local().api_key(&key).build().unwrap_err());
        hidden_in(&local().header("api-key", key).build().unwrap_err());
    }
}

#[test]
fn a_word_as_short_as_a_bad_key_is_left_alone() {
    let server = Server::answering(json(401, "a bad key"));
    let error = say_hello(server.builder().api_key("bad")).unwrap_err();
    assert_eq!(error.message(), "a bad key");
}

#[test]
fn a_client_is_shared_by_threads() {
    let server = Server::answering(json(200, HELLO));
    let client = client(&server);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(client.chat(MODEL, PROMPT).unwrap().text(), "hello"));
        }
    });
    assert_eq!(server.requests().len(), 8);
}
