//! Many calls at once, by hand: `cargo test --release --test it -- --ignored --nocapture --test-threads 1 load`

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{Client, ClientBuilder};
use serde_json::{Value, json};

use crate::support::{MODEL, Server, json, quick, respond};

const THREADS: usize = 64;
const CALLS: usize = 100_000;

/// The answer that repeats the question.
fn echo(request: &Value) -> String {
    let question = &request["messages"][0]["content"];
    let choice = json!({ "message": { "content": question }, "finish_reason": "stop" });
    json(200, &json!({ "choices": [choice] }).to_string())
}

/// A figure of this process in kB.
fn memory(figure: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure));
    let line = line.unwrap().trim_start_matches(':').trim();
    line.trim_end_matches(" kB").parse().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Descriptors, once the server's threads have seen that the client has gone.
fn settled(at_most: usize) -> usize {
    for _ in 0..100 {
        if descriptors() <= at_most {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    descriptors()
}

/// Asks so many questions, each another one, and counts how the calls end. None may get another's answer.
fn ask_all(client: &Client, calls: usize) -> BTreeMap<String, usize> {
    let ends = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let ends = &ends;
            scope.spawn(move || {
                for number in (thread..calls).step_by(THREADS) {
                    let end = ask(client, number);
                    *ends.lock().unwrap().entry(end).or_default() += 1;
                }
            });
        }
    });
    ends.into_inner().unwrap()
}

fn ask(client: &Client, number: usize) -> String {
    let question = format!("question {number}");
    match client.chat(MODEL, &question) {
        Ok(answer) => {
            assert_eq!(answer.text(), question);
            "answered".to_owned()
        }
        Err(error) => match error.status() {
            Some(status) => format!("{:?} {status}", error.kind()),
            None => format!("{:?}", error.kind()),
        },
    }
}

fn patient(server: &Server) -> ClientBuilder {
    server.builder().timeout(Duration::from_secs(60))
}

#[test]
#[ignore = "takes a minute"]
fn load_loses_nothing_and_leaks_nothing() {
    for kept in [THREADS, 16] {
        let before = descriptors();
        let server = Server::start(|_, connection| {
            loop {
                let request = connection.next_request()?;
                connection.send(echo(&request.json()))?;
            }
        });
        let client = patient(&server).max_connections(kept).build().unwrap();
        ask_all(&client, CALLS / 10);
        let (warm, started) = (memory("VmRSS"), Instant::now());
        let ends = ask_all(&client, CALLS);
        let (took, grown) = (started.elapsed(), memory("VmRSS").saturating_sub(warm));
        // The listener, and both ends of each connection that is kept.
        let idle = settled(before + 1 + 2 * kept);
        println!(
            "keeping {kept}: {ends:?} in {took:?}, {} connections, {grown} kB more, {} kB at most, {before} descriptors before, {idle} after",
            server.connections(),
            memory("VmHWM")
        );
        assert_eq!(ends, BTreeMap::from([("answered".to_owned(), CALLS)]));
        assert_eq!(
            client.spent().attempts,
            u64::try_from(CALLS + CALLS / 10).unwrap()
        );
        assert!(idle <= before + 1 + 2 * kept, "{idle}");
        assert!(grown < 16 << 10, "{grown} kB");
        if kept == THREADS {
            assert!(server.connections() <= THREADS);
        }
        drop(client);
        assert_eq!(settled(before + 1), before + 1);
    }
}

#[test]
#[ignore = "takes a minute"]
fn load_on_a_server_that_fails_is_told_call_by_call() {
    let (reached, failures) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let seen = Arc::clone(&reached);
    let server = Server::start(move |_, connection| {
        loop {
            let request = connection.next_request()?;
            let answer = echo(&request.json());
            // Fibonacci hashing: one in ten at random, and the same ones each time.
            let random = seen
                .fetch_add(1, Ordering::SeqCst)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                >> 32;
            if random % 10 != 0 {
                connection.send(answer)?;
                continue;
            }
            match failures.fetch_add(1, Ordering::SeqCst) % 6 {
                0 => connection.send(json(500, "{}"))?,
                1 => connection.send(json(429, "{}"))?,
                2 => connection.send(json(400, "{}"))?,
                3 => connection.send(respond(200, &[], "<html><title>Welcome</title></html>"))?,
                4 => {
                    connection.send(&answer[..answer.len() - 9])?;
                    return connection.close();
                }
                _ => return connection.close(),
            }
        }
    });
    let client = patient(&server)
        .retry(quick())
        .max_connections(THREADS)
        .build()
        .unwrap();
    let ends = ask_all(&client, CALLS);
    let (spent, reached) = (client.spent(), reached.load(Ordering::SeqCst));
    println!(
        "{ends:?}, {reached} requests, {} connections, {} kB at most",
        server.connections(),
        memory("VmHWM")
    );
    assert_eq!(ends.values().sum::<usize>(), CALLS);
    assert_eq!(
        (spent.requests, spent.attempts),
        (u64::try_from(CALLS).unwrap(), reached)
    );
}
