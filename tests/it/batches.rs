//! Many requests: every answer in its place, no more in flight than wanted, one pace for all, and an end that is one.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{
    Batch, BatchResults, Budget, Cassette, ChatRequest, Client, ErrorKind, FinishReason, Message,
    Progress, RetryPolicy, Tool,
};
use serde_json::json;

use crate::support::{Child, HELLO, MODEL, Scratch, Seen, Server, hello, json, respond};

fn row(number: usize) -> ChatRequest {
    ChatRequest::new(MODEL, number.to_string())
}

fn rows(count: usize) -> impl Iterator<Item = ChatRequest> {
    (0..count).map(row)
}

/// The number of the row that was asked about.
fn number(seen: &Seen) -> usize {
    let text = &seen.json()["messages"][0]["content"];
    text.as_str().unwrap().parse().unwrap()
}

/// An answer that says this.
fn saying(text: impl ToString) -> String {
    json(200, &HELLO.replace("hello", &text.to_string()))
}

/// A server that answers each request as it deserves.
fn answering(answer: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |_, connection| {
        loop {
            let seen = connection.request()?;
            connection.send(answer(&seen))?;
        }
    })
}

/// Says the number it is asked about.
fn echo() -> Server {
    answering(|seen| saying(number(seen)))
}

/// The texts of a batch, an error as its status or its kind.
fn texts<I: Iterator<Item = ChatRequest>>(batch: Batch<I>) -> Vec<String> {
    let text = |reply: aimlapi::Result<aimlapi::Completion>| match reply {
        Ok(reply) => reply.text().to_owned(),
        Err(error) => match error.status() {
            Some(status) => status.to_string(),
            None => format!("{:?}", error.kind()),
        },
    };
    batch.map(text).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

// Order and bounds.

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let server = answering(|seen| {
        let late = u32::try_from(number(seen) % 5).unwrap();
        thread::sleep(late * Duration::from_millis(7));
        saying(number(seen))
    });
    assert_eq!(texts(server.client().send_all(rows(60))), numbers(60));
}

#[test]
fn an_error_stays_in_its_place() {
    let server = answering(|seen| match number(seen) {
        3 => json(400, "{}"),
        number => saying(number),
    });
    let mut invalid = rows(7).collect::<Vec<_>>();
    invalid[5] = row(5).temperature(f64::NAN);
    let texts = texts(server.client().send_all(invalid));
    assert_eq!(texts, ["0", "1", "2", "400", "4", "Input", "6"]);
}

/// The most requests that a server had before it at one time.
fn most_at_once(concurrency: Option<usize>) -> usize {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen_most = Arc::clone(&most);
    let server = answering(move |seen| {
        let in_flight = now.fetch_add(1, Ordering::SeqCst) + 1;
        seen_most.fetch_max(in_flight, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(10));
        now.fetch_sub(1, Ordering::SeqCst);
        saying(number(seen))
    });
    let client = server.client();
    let batch = client.send_all(rows(40));
    let batch = match concurrency {
        Some(requests) => batch.concurrency(requests),
        None => batch,
    };
    assert_eq!(texts(batch), numbers(40));
    most.load(Ordering::SeqCst)
}

#[test]
fn as_many_requests_as_wanted_are_in_flight_and_no_more() {
    assert_eq!(most_at_once(None), 8);
    assert_eq!(most_at_once(Some(3)), 3);
    assert_eq!(most_at_once(Some(0)), 1);
}

/// An input that counts how often it was asked.
fn counted(asked: &Arc<AtomicUsize>) -> impl Iterator<Item = ChatRequest> + Send + use<> {
    let asked = Arc::clone(asked);
    std::iter::repeat_with(move || row(asked.fetch_add(1, Ordering::SeqCst)))
}

#[test]
fn of_an_endless_input_no_more_is_taken_than_is_needed_soon() {
    let (server, asked) = (echo(), Arc::new(AtomicUsize::new(0)));
    let client = server.client();
    let mut batch = client.send_all(counted(&asked)).concurrency(4);
    assert_eq!(
        (asked.load(Ordering::SeqCst), server.requests().len()),
        (0, 0)
    );
    for taken in 1..=100 {
        let reply = batch.next().unwrap().unwrap();
        assert_eq!(reply.text(), (taken - 1).to_string());
        assert!(asked.load(Ordering::SeqCst) <= taken + 4 * 4);
    }
}

#[test]
fn an_input_may_wait_for_an_answer() {
    let server = echo();
    let (sender, receiver) = mpsc::channel();
    sender.send(row(0)).unwrap();
    let mut batch = server.client().send_all(receiver);
    for number in 0..10 {
        assert_eq!(batch.next().unwrap().unwrap().text(), number.to_string());
        sender.send(row(number + 1)).unwrap();
    }
    assert_eq!(batch.next().unwrap().unwrap().text(), "10");
    // The input is waiting still, and whoever drops the batch is not.
    drop(batch);
    drop(sender);
}

#[test]
fn one_slow_answer_does_not_hold_up_the_others_until_the_bound() {
    let server = answering(|seen| {
        if number(seen) == 0 {
            thread::sleep(Duration::from_millis(200));
        }
        saying(number(seen))
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let client = server.client();
    let mut batch = client.send_all(counted(&asked)).concurrency(2);
    batch.next().unwrap().unwrap();
    assert_eq!(server.requests().len(), 2 * 4);
}

#[test]
fn an_empty_batch_has_no_answers_and_an_ended_one_has_no_more() {
    let server = echo();
    let client = server.client();
    assert!(client.send_all(Vec::new()).next().is_none());
    let mut batch = client.send_all(rows(2));
    assert_eq!(batch.by_ref().count(), 2);
    assert!(batch.next().is_none() && batch.next().is_none());
}

#[test]
fn a_batch_can_move_to_another_thread() {
    let server = echo();
    let mut batch = server.client().send_all(rows(20));
    let first = batch.next().unwrap().unwrap();
    let rest = thread::spawn(move || texts(batch)).join().unwrap();
    assert_eq!((first.text(), rest.len()), ("0", 19));
}

// The end.

#[test]
fn a_dropped_batch_returns_at_once_and_sends_nothing_more() {
    let server = answering(|seen| {
        if number(seen) > 0 {
            thread::sleep(Duration::from_millis(150));
        }
        saying(number(seen))
    });
    let client = server.client();
    let mut batch = client.send_all(rows(1000)).concurrency(4);
    batch.next().unwrap().unwrap();
    let started = Instant::now();
    drop(batch);
    assert!(started.elapsed() < Duration::from_millis(50));
    thread::sleep(Duration::from_millis(200));
    assert!(server.requests().len() <= 5, "{}", server.requests().len());
}

/// Asks a server that has only this answer, and reads slowly, so that the threads have all the time to go on.
#[track_caller]
fn stops(answer: String, want: &str) {
    let server = Server::answering(answer);
    let client = server.client();
    let mut batch = client.send_all(rows(1000)).concurrency(4);
    let first = batch.next().unwrap().unwrap_err();
    assert_eq!(first.to_string(), want);
    thread::sleep(Duration::from_millis(50));
    let seen = server.requests().len();
    assert!(seen <= 4, "{seen}");
    let rest: Vec<_> = batch.map(|reply| reply.unwrap_err().kind()).collect();
    assert!(rest.len() <= 3, "{rest:?}");
    let known = |kind: &ErrorKind| matches!(kind, ErrorKind::Api | ErrorKind::Interrupted);
    assert!(rest.iter().all(known), "{rest:?}");
    let requests = u64::try_from(seen).unwrap();
    assert_eq!(
        (server.requests().len(), client.spent().requests),
        (seen, requests)
    );
}

#[test]
fn a_key_that_is_refused_ends_the_batch() {
    stops(
        json(401, r#"{"message":"no such key"}"#),
        "the server answered 401 Unauthorized: no such key (the key is the one given to the client)",
    );
}

#[test]
fn an_account_without_credit_ends_the_batch() {
    stops(
        json(402, r#"{"message":"pay first"}"#),
        "the server answered 402 Payment Required: pay first",
    );
    stops(
        json(403, r#"{"message":"You are out of credits."}"#),
        "the server answered 403 Forbidden: You are out of credits. \
         (the account is out of credit or over its limit)",
    );
    stops(
        json(
            429,
            r#"{"error":{"message":"no quota","code":"insufficient_quota"}}"#,
        ),
        "the server answered 429 Too Many Requests: no quota",
    );
}

#[test]
fn a_server_that_wants_more_patience_than_a_call_has_ends_the_batch() {
    stops(
        respond(429, &[("retry-after", "3600")], r#"{"message":"tomorrow"}"#),
        "the server answered 429 Too Many Requests: tomorrow",
    );
    stops(
        respond(429, &[("retry-after", "1e300")], r#"{"message":"never"}"#),
        "the server answered 429 Too Many Requests: never",
    );
}

#[test]
fn a_request_that_is_forbidden_is_no_end() {
    let server = answering(|seen| match number(seen) {
        2 => json(403, r#"{"message":"Your prompt was flagged."}"#),
        number => saying(number),
    });
    let texts = texts(server.client().send_all(rows(30)));
    assert_eq!((&*texts[2], texts.len()), ("403", 30));
}

#[test]
fn a_budget_that_is_used_up_ends_the_batch() {
    let server = echo();
    let client = server
        .builder()
        .budget(Budget::new().requests(10))
        .build()
        .unwrap();
    let texts = texts(client.send_all(rows(1000)).concurrency(4));
    let answered: Vec<_> = texts
        .iter()
        .filter(|text| text.parse::<usize>().is_ok())
        .collect();
    assert_eq!((answered.len(), server.requests().len()), (10, 10));
    let refused = texts.iter().filter(|text| *text == "Budget").count();
    assert!((1..=4).contains(&refused), "{texts:?}");
    assert!(texts.len() <= 10 + 4, "{texts:?}");
}

#[test]
fn an_input_that_panics_does_so_in_the_thread_that_iterates_and_leaves_nobody_waiting() {
    let server = echo();
    let client = server.client();
    let input = (0..100).map(|number| {
        assert!(number != 50, "no row 50");
        row(number)
    });
    let mut batch = client.send_all(input).concurrency(4);
    let mut texts = Vec::new();
    let mut read = || texts.extend(batch.by_ref().map(|reply| reply.unwrap().text().to_owned()));
    let panic = catch_unwind(AssertUnwindSafe(&mut read)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"no row 50"));
    read();
    assert_eq!(texts, numbers(50), "what came before, and then the end");
}

#[test]
fn an_observer_that_panics_costs_no_answer() {
    let server = echo();
    let mut calls = 0;
    let observer = move |_: &Progress| {
        calls += 1;
        assert_ne!(calls, 10, "the tenth call panics");
    };
    let mut batch = server.client().send_all(rows(40)).on_progress(observer);
    let mut texts = Vec::new();
    let mut read = || texts.extend(batch.by_ref().map(|reply| reply.unwrap().text().to_owned()));
    assert!(catch_unwind(AssertUnwindSafe(&mut read)).is_err());
    read();
    assert_eq!(texts, numbers(40));
}

// The pace.

#[test]
fn all_wait_when_one_is_told_to() {
    const PAUSE: Duration = Duration::from_millis(250);
    // For what was on its way when the refusal left.
    const GRACE: Duration = Duration::from_millis(60);
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let refused = Arc::new(OnceLock::new());
    let (log, first) = (Arc::clone(&arrivals), Arc::clone(&refused));
    let server = answering(move |seen| {
        log.lock().unwrap().push(Instant::now());
        if number(seen) == 20 && first.set(Instant::now()).is_ok() {
            return respond(429, &[("retry-after-ms", "250")], "");
        }
        saying(number(seen))
    });
    assert_eq!(texts(server.client().send_all(rows(60))), numbers(60));
    let (arrivals, refused) = (arrivals.lock().unwrap(), refused.get().unwrap());
    let after = |arrival: &Instant| arrival.saturating_duration_since(*refused);
    assert_eq!(arrivals.len(), 61);
    assert!(arrivals.iter().any(|arrival| after(arrival) >= PAUSE));
    assert!(
        !arrivals
            .iter()
            .any(|arrival| (GRACE..PAUSE).contains(&after(arrival)))
    );
}

#[test]
fn being_told_to_slow_down_is_no_failure_however_often_it_happens() {
    let told = Mutex::new(BTreeMap::new());
    let server = answering(move |seen| {
        let mut told = told.lock().unwrap();
        let times = told.entry(number(seen)).or_insert(0);
        *times += 1;
        match *times {
            1..=5 => respond(429, &[("retry-after-ms", "1")], ""),
            _ => saying(number(seen)),
        }
    });
    let client = server.client();
    assert_eq!(texts(client.send_all(rows(50))), numbers(50));
    assert_eq!(
        (client.spent().requests, client.spent().attempts),
        (50, 300)
    );
}

#[test]
fn other_failures_are_retried_as_the_policy_says() {
    let server = Server::answering(json(503, ""));
    let texts = texts(server.client().send_all(rows(4)));
    assert_eq!(texts, ["503"; 4]);
    assert_eq!(server.requests().len(), 4 * 3);
}

#[test]
fn without_retries_a_refusal_is_the_answer_and_the_others_wait_all_the_same() {
    let started = Instant::now();
    let turn = AtomicUsize::new(0);
    let server = answering(move |seen| match turn.fetch_add(1, Ordering::SeqCst) {
        0 => respond(429, &[("retry-after-ms", "120")], ""),
        _ => saying(number(seen)),
    });
    let client = server.builder().retry(RetryPolicy::none()).build().unwrap();
    let texts = texts(client.send_all(rows(3)).concurrency(1));
    assert_eq!(texts, ["429", "1", "2"]);
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[test]
fn a_request_that_was_refused_until_its_time_is_over_fails_in_its_place() {
    let server = answering(|seen| match number(seen) {
        1 => respond(429, &[("retry-after-ms", "20")], ""),
        number => saying(number),
    });
    let client = server.builder().timeout(Duration::from_millis(150));
    let mut texts = texts(client.build().unwrap().send_all(rows(4)));
    // The last attempt is refused, or the time is over while it is made.
    let failed = texts.remove(1);
    assert!(["429", "Timeout"].contains(&failed.as_str()), "{failed}");
    assert_eq!(texts, ["0", "2", "3"]);
}

#[test]
fn recorded_answers_need_not_wait() {
    let (server, scratch) = (echo(), Scratch::new());
    let client = || {
        server
            .builder()
            .cassette(Cassette::auto(scratch.path()))
            .build()
            .unwrap()
    };
    assert_eq!(texts(client().send_all(rows(20))), numbers(20));
    assert_eq!(texts(client().send_all(rows(20))), numbers(20));
    assert_eq!(server.requests().len(), 20);
}

// Progress.

#[test]
fn progress_is_told_with_every_answer() {
    let server = answering(|seen| match number(seen) {
        2 => json(400, "{}"),
        _ => respond(200, &[("x-aimlapi-usd-spent", "0.5")], HELLO),
    });
    let log = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&log);
    let observer = move |progress: &Progress| told.lock().unwrap().push(*progress);
    let client = server.client();
    // Other calls of the same client, which came before.
    client.send(&row(2)).unwrap_err();
    let batch = client.send_all((0..5).map(row).collect::<Vec<_>>());
    assert_eq!(batch.concurrency(2).on_progress(observer).count(), 5);
    let log = log.lock().unwrap();
    let done: Vec<u64> = log.iter().map(|progress| progress.done).collect();
    assert_eq!(done, [1, 2, 3, 4, 5]);
    assert!(
        log.iter()
            .all(|progress| progress.total == Some(5) && progress.in_flight <= 2)
    );
    let last = log.last().unwrap();
    assert_eq!(
        (last.failed, last.in_flight, last.left),
        (1, 0, Some(Duration::ZERO))
    );
    let spent = last.spent;
    assert_eq!(
        (spent.requests, spent.completion_tokens, spent.unpriced),
        (5, 8, 0)
    );
    assert!((spent.usd - 2.0).abs() < 1e-9);
    assert!(last.elapsed > Duration::ZERO && last.rate() > 0.0);
    assert!(log[0].left.unwrap() > Duration::ZERO);
}

#[test]
fn an_input_of_unknown_length_has_no_total_and_no_time_left() {
    let server = echo();
    let observer = |progress: &Progress| assert_eq!((progress.total, progress.left), (None, None));
    let input = rows(9).filter(|_| true);
    assert_eq!(
        server
            .client()
            .send_all(input)
            .on_progress(observer)
            .count(),
        9
    );
}

// A run that is killed.

/// Labels rows in a process of its own.
fn labelling(server: &Server, rows: usize, directory: &Path, output: &Path) -> Child {
    Child::new("batches::label_rows")
        .env("AIMLAPI_BASE_URL", server.base_url())
        .env("ROWS", rows.to_string())
        .env("DIRECTORY", directory)
        .env("OUTPUT", output)
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn label_rows() {
    let Ok(count) = std::env::var("ROWS") else {
        return;
    };
    let variable = |name| std::env::var_os(name).unwrap();
    let client = Client::builder().cassette(Cassette::auto(variable("DIRECTORY")));
    let client = client.build().unwrap();
    let mut output = fs::File::create(variable("OUTPUT")).unwrap();
    for reply in client.send_all(rows(count.parse().unwrap())) {
        writeln!(output, "{}", reply.unwrap().text()).unwrap();
    }
    Child::say(client.spent().requests);
}

/// Kills a run in its middle and runs it again; returns how often each row was asked about.
#[track_caller]
fn killed_and_continued(rows: usize) -> Vec<usize> {
    let scratch = Scratch::new();
    let file = |name: &str| scratch.path().join(name);
    fs::create_dir_all(scratch.path()).unwrap();
    let server = answering(|seen| {
        thread::sleep(Duration::from_millis(1));
        saying(format!("label {}", number(seen)))
    });
    labelling(
        &server,
        rows,
        &file("undisturbed"),
        &file("undisturbed.txt"),
    )
    .run();
    let before = server.requests().len();
    assert_eq!(before, rows);

    let mut child = labelling(&server, rows, &file("killed"), &file("killed.txt")).start();
    while server.requests().len() < before + rows / 2 {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let recorded = fs::read_dir(file("killed")).unwrap().flatten();
    let whole = |name: &std::ffi::OsStr| Path::new(name).extension().is_some_and(|it| it == "json");
    let recorded = recorded.filter(|entry| whole(&entry.file_name())).count();
    assert!(recorded < rows, "or the kill came too late");

    let sent = labelling(&server, rows, &file("killed"), &file("killed.txt")).run();
    assert_eq!(sent, (rows - recorded).to_string());
    let texts = ["undisturbed.txt", "killed.txt"].map(|name| fs::read(file(name)).unwrap());
    assert_eq!(texts[0], texts[1]);
    let mut asked = vec![0; rows];
    for seen in &server.requests()[before..] {
        asked[number(seen)] += 1;
    }
    asked
}

#[test]
fn a_run_that_is_killed_continues_where_it_stopped() {
    let asked = killed_and_continued(200);
    assert!(
        asked.iter().all(|times| (1..=2).contains(times)),
        "{asked:?}"
    );
    let twice = asked.iter().filter(|times| **times == 2).count();
    assert!(twice <= 8, "only what was in flight: {twice}");
}

#[test]
#[ignore = "takes a while: cargo test --test it -- --ignored --nocapture a_thousand_rows"]
fn a_run_of_a_thousand_rows_that_is_killed_continues_where_it_stopped() {
    let asked = killed_and_continued(1000);
    let twice = asked.iter().filter(|times| **times == 2).count();
    println!(
        "{} requests for {} rows",
        asked.iter().sum::<usize>(),
        asked.len()
    );
    assert!(asked.iter().all(|times| (1..=2).contains(times)) && twice <= 8);
}

// Lines for engines that work through a file.

#[test]
fn a_line_is_what_the_batch_api_of_openai_and_vllm_run_batch_read() {
    let messages = [
        Message::system("You are a helpful assistant."),
        Message::user("Hello \"world\"!\n"),
    ];
    let request = ChatRequest::new("org/model", messages)
        .max_completion_tokens(1000)
        .temperature(0.7)
        .client_request_id("not-in-the-body");
    assert_eq!(
        request.batch_line("request-1").unwrap(),
        r#"{"custom_id":"request-1","method":"POST","url":"/v1/chat/completions","body":{"model":"org/model","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Hello \"world\"!\n"}],"max_completion_tokens":1000,"temperature":0.7}}"#
    );
}

#[test]
fn an_entry_is_what_the_batch_endpoint_of_the_provider_reads() {
    let request = ChatRequest::new("claude", "Hello")
        .max_tokens(9)
        .param("system", "Be brief.");
    assert_eq!(
        request.batch_entry("my id").unwrap(),
        r#"{"custom_id":"my id","params":{"model":"claude","messages":[{"role":"user","content":"Hello"}],"max_tokens":9,"system":"Be brief."}}"#
    );
}

#[test]
fn a_line_is_the_body_that_send_would_send() {
    let server = Server::answering(json(200, HELLO));
    let tool = Tool::function("f").parameters(json!({"type": "object"}));
    let request = ChatRequest::new(MODEL, [Message::system("s"), Message::user("1")]).fold_system();
    let request = request.tools([tool]).stop(["a"]);
    server.client().send(&request).unwrap();
    let sent = server.requests()[0].json();
    let line: serde_json::Value = serde_json::from_str(&request.batch_line("1").unwrap()).unwrap();
    let entry: serde_json::Value =
        serde_json::from_str(&request.batch_entry("1").unwrap()).unwrap();
    assert_eq!((&line["body"], &entry["params"]), (&sent, &sent));
}

#[test]
fn what_cannot_be_sent_makes_no_line() {
    for request in [hello().temperature(f64::NAN), ChatRequest::new("", "hello")] {
        assert_eq!(
            request.batch_line("1").unwrap_err().kind(),
            ErrorKind::Input
        );
        assert_eq!(
            request.batch_entry("1").unwrap_err().kind(),
            ErrorKind::Input
        );
    }
}

// Their results.

fn read(file: &str) -> BatchResults {
    BatchResults::read(file.as_bytes()).unwrap()
}

/// The text of the only result in a file, or its error.
#[track_caller]
fn text(file: &str) -> String {
    match read(file).take("a").unwrap() {
        Ok(reply) => reply.text().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn response(id: &str, body: &str) -> String {
    format!(
        r#"{{"id":"batch_req_1","custom_id":"{id}","response":{{"status_code":200,"request_id":"r-{id}","body":{body}}},"error":null}}"#
    )
}

#[test]
fn answers_are_taken_in_any_order() {
    let lines = [("b", "bye"), ("c", "see"), ("a", "hello")]
        .map(|(id, text)| response(id, &HELLO.replace("hello", text)));
    for file in [
        lines.join("\n"),
        lines.join("\r\n") + "\r\n\n\n",
        format!("[{}]", lines.join(",\n")),
        format!("[{}]\n[{}]\n{}", lines[0], lines[1], lines[2]),
        lines.concat(),
    ] {
        let mut results = read(&file);
        assert_eq!(results.ids().collect::<Vec<_>>(), ["a", "b", "c"]);
        let texts = ["a", "b", "c"].map(|id| results.take(id).unwrap().unwrap().text().to_owned());
        assert_eq!(texts, ["hello", "bye", "see"]);
        assert!(results.take("a").is_none());
    }
    assert_eq!(read("").ids().count(), 0);
}

#[test]
fn an_answer_is_the_one_that_send_would_have_returned() {
    let odd = r#"{ "choices" : [{"message":{"content":"half \ud83d"}, "finish_reason": "length"}], "usage": {"prompt_tokens": 5} }"#;
    let reply = read(&response("a", odd)).take("a").unwrap().unwrap();
    assert_eq!((reply.text(), reply.raw()), ("half \u{fffd}", Some(odd)));
    assert_eq!(reply.request_id(), Some("r-a"));
    assert_eq!(reply.finish_reason(), Some(&FinishReason::Length));
    assert_eq!(reply.usage().unwrap().prompt_tokens, 5);
}

#[test]
fn the_lines_of_vllm_are_read_the_older_ones_too() {
    assert_eq!(
        text(&format!(
            r#"{{"id":"vllm-1","custom_id":"a","response":{HELLO},"error":null}}"#
        )),
        "hello"
    );
    assert_eq!(
        text(
            r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":400,"request_id":"vllm-batch-1","body":null},"error":"no chat template"}"#
        ),
        "the server answered 400 with an error in it: no chat template [request id vllm-batch-1]"
    );
    assert_eq!(
        text(
            r#"{"id":"vllm-1","custom_id":"a","response":{"status_code":404,"request_id":"r","body":null},"error":{"error":{"message":"no such model","type":"NotFoundError","param":null,"code":404}}}"#
        ),
        "the server answered 404 with an error in it: no such model [request id r]"
    );
}

#[test]
fn the_error_of_a_request_stays_with_it() {
    assert_eq!(
        text(
            r#"{"id":"x","custom_id":"a","response":{"status_code":429,"request_id":"r","body":{"error":{"message":"slow down","code":"rate"}}},"error":null}"#
        ),
        "the server answered 429 with an error in it: slow down [request id r]"
    );
    assert_eq!(
        text(
            r#"{"id":"x","custom_id":"a","response":null,"error":{"code":"batch_expired","message":"The window is over."}}"#
        ),
        "the batch has no answer to this request: The window is over."
    );
    assert_eq!(
        text(r#"{"custom_id":"a"}"#),
        "the batch has no answer to this request"
    );
    assert!(
        text(&response("a", r#"{"choices":[]}"#))
            .starts_with("the server answered 200 with JSON that holds no answer")
    );
}

#[test]
fn the_results_of_the_provider_are_read() {
    let line = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"thinking","thinking":"Hm.","signature":"s"},{"type":"text","text":"Let me see."},{"type":"tool_use","id":"t1","name":"weather","input":{"z":1,"city":"Paris"}}],"stop_reason":"tool_use","usage":{"input_tokens":12,"output_tokens":34,"cache_read_input_tokens":5}}}}"#;
    let reply = read(line).take("a").unwrap().unwrap();
    assert_eq!(reply.text(), "Let me see.");
    assert_eq!(reply.reasoning(), Some("Hm."));
    assert_eq!((reply.id(), reply.model()), ("msg_1", "claude"));
    let call = &reply.tool_calls()[0];
    assert_eq!((call.id(), call.name()), ("t1", "weather"));
    assert_eq!(call.arguments(), r#"{"z":1,"city":"Paris"}"#);
    assert_eq!(reply.finish_reason(), Some(&FinishReason::ToolCalls));
    let usage = reply.usage().unwrap();
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens
        ),
        (12, 34, Some(5))
    );
}

#[test]
fn the_reasons_of_the_provider_have_their_names_here() {
    for (theirs, ours) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("refusal", FinishReason::Other("refusal".to_owned())),
    ] {
        let line = format!(
            r#"{{"custom_id":"a","result":{{"type":"succeeded","message":{{"content":[{{"type":"text","text":"x"}}],"stop_reason":"{theirs}"}}}}}}"#
        );
        let reply = read(&line).take("a").unwrap().unwrap();
        assert_eq!(reply.finish_reason(), Some(&ours));
    }
}

#[test]
fn a_result_of_the_provider_may_be_a_chat_completion_or_an_error() {
    let line = |result: &str| format!(r#"{{"custom_id":"a","result":{result}}}"#);
    assert_eq!(
        text(&line(&format!(
            r#"{{"type":"succeeded","message":{HELLO}}}"#
        ))),
        "hello"
    );
    assert_eq!(
        text(&line(
            r#"{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}}"#
        )),
        "the batch has no answer to this request: max_tokens: Field required"
    );
    for state in ["expired", "canceled"] {
        assert_eq!(
            text(&line(&format!(r#"{{"type":"{state}"}}"#))),
            format!("the batch has no answer to this request: {state}")
        );
    }
}

#[test]
fn what_is_no_result_is_an_error_of_the_file() {
    let is = |file: &str, want: &str| {
        let error = BatchResults::read(file.as_bytes()).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Decode, want.to_owned())
        );
    };
    let good = response("a", HELLO);
    let unread = "the results cannot be read";
    is(
        &format!("{good}\nno result\n"),
        &format!("{unread}: expected ident at line 2 column 2"),
    );
    let cut = format!("{good}\n{}", &response("b", HELLO)[..100]);
    is(
        &cut,
        &format!("{unread}: EOF while parsing a string at line 2 column 100"),
    );
    is(
        r#"[{"id":"batch_1","status":"generating"}]"#,
        "result 1 of the batch is none: it has no custom_id",
    );
    is(
        &format!("{good}\n{}", response("a", HELLO)),
        "two results of the batch are of \"a\"",
    );
    is("7", "result 1 of the batch is none: it has no custom_id");
    assert!(BatchResults::read(&b"\xff"[..]).is_err());
    assert!(BatchResults::read("[".repeat(1_000_000).as_bytes()).is_err());
    let deep = format!(
        "{{\"custom_id\":\"a\",\"response\":{}1{}}}",
        "[".repeat(9999),
        "]".repeat(9999)
    );
    assert!(read(&deep).take("a").unwrap().is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let error = BatchResults::read(std::io::BufReader::new(Broken)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the results cannot be read: the disk is gone"
    );
}

// The figures of a long run.

const SERVICE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(40);

/// Every fifth attempt is refused.
fn is_refused(attempt: usize) -> bool {
    attempt % 5 == 4
}

/// How long eight threads that lose no time would take for so many rows.
fn ideal(rows: usize) -> Duration {
    let (mut now, mut until) = (Duration::ZERO, Duration::ZERO);
    let (mut idle, mut attempts, mut answered) = (8, 0, 0);
    // When the attempts under way will end, in order, and whether they are refused.
    let mut under_way = VecDeque::new();
    while answered < rows {
        while idle > 0 && now >= until {
            under_way.push_back((now + SERVICE, is_refused(attempts)));
            (idle, attempts) = (idle - 1, attempts + 1);
        }
        match under_way.front() {
            Some((end, refused)) if idle == 0 || *end <= until => {
                now = *end;
                match refused {
                    true => until = now + PAUSE,
                    false => answered += 1,
                }
                under_way.pop_front();
                idle += 1;
            }
            _ => now = until,
        }
    }
    now
}

#[test]
#[ignore = "takes a minute and an idle machine: cargo test --test it -- --ignored --nocapture ten_thousand"]
fn ten_thousand_rows_at_twenty_percent_refusals() {
    let log = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let writer = Arc::clone(&log);
    let server = answering(move |seen| {
        let (number, attempt) = {
            let (arrivals, _): &mut (Vec<Instant>, Vec<Instant>) = &mut writer.lock().unwrap();
            arrivals.push(Instant::now());
            (number(seen), arrivals.len() - 1)
        };
        thread::sleep(SERVICE);
        if is_refused(attempt) {
            writer.lock().unwrap().1.push(Instant::now());
            return respond(429, &[("retry-after-ms", "40")], "");
        }
        saying(number)
    });
    let figures = [1_000, 10_000].map(|rows| {
        let said = Child::new("batches::answer_rows")
            .env("AIMLAPI_BASE_URL", server.base_url())
            .env("ROWS", rows.to_string())
            .run();
        let (millis, kilobytes) = said.split_once(' ').unwrap();
        let (arrivals, refusals) = std::mem::take(&mut *log.lock().unwrap());
        let into_a_cool_down = |grace| {
            let during = |arrival: &&Instant| {
                let last = refusals.partition_point(|refusal| refusal <= *arrival);
                let last = last.checked_sub(1).map(|last| **arrival - refusals[last]);
                last.is_some_and(|after| (grace..PAUSE).contains(&after))
            };
            arrivals.iter().filter(during).count()
        };
        let [early, very] = [1, 5].map(|ms| into_a_cool_down(Duration::from_millis(ms)));
        let took = Duration::from_millis(millis.parse().unwrap());
        let kilobytes: f64 = kilobytes.parse().unwrap();
        let slower = took.as_secs_f64() / ideal(rows).as_secs_f64();
        println!(
            "{rows} rows in {took:?}, {slower:.2} times the ideal {:?}; {kilobytes} kB; {} attempts, {} refused, \
             {early} came more than 1 ms into a cool-down, {very} more than 5 ms",
            ideal(rows),
            arrivals.len(),
            refusals.len(),
        );
        (slower, kilobytes, very)
    });
    let [(_, memory_of_few, _), (slower, memory, too_early)] = figures;
    assert!(slower < 1.3 && memory < 1.2 * memory_of_few && too_early < 10_000 / 100);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn answer_rows() {
    let Ok(count) = std::env::var("ROWS") else {
        return;
    };
    let client = Client::builder().build().unwrap();
    let started = Instant::now();
    for (row, reply) in client.send_all(rows(count.parse().unwrap())).enumerate() {
        assert_eq!(reply.unwrap().text(), row.to_string());
    }
    let elapsed = started.elapsed().as_millis();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = memory.unwrap().trim().trim_end_matches(" kB");
    Child::say(format!("{elapsed} {kilobytes}"));
}
