//! Nothing is spent beyond a limit without being forbidden, and nothing that was spent is counted as nothing.

// The prices are sums of powers of two.
#![allow(clippy::float_cmp)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{Budget, Cassette, Client, ErrorKind, Spent};

use crate::support::{
    DONE, HELLO, STREAM_HEAD, Scratch, Server, event, finish, hello, json, respond,
};

/// What the answer [`HELLO`] reports.
const TOKENS: u64 = 3;

fn priced(usd: &str) -> String {
    respond(200, &[("x-aimlapi-usd-spent", usd)], HELLO)
}

fn with(server: &Server, budget: &Budget) -> Client {
    server.builder().budget(budget.clone()).build().unwrap()
}

#[track_caller]
fn is_refused(client: &Client, want: &str) {
    let error = client.send(&hello()).unwrap_err();
    assert_eq!(error.to_string(), want);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Budget, 0));
    assert!(!error.is_retryable());
}

/// Eight threads that call until they are refused; how often they were answered.
fn spend_all(client: &Client) -> usize {
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = loop {
                    match client.send(&hello()) {
                        Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                        Err(error) => break error,
                    };
                };
                assert_eq!(error.kind(), ErrorKind::Budget, "{error}");
            });
        }
    });
    answered.into_inner()
}

// The limits.

#[test]
fn of_eight_threads_exactly_as_many_calls_go_out_as_are_allowed() {
    let server = Server::answering(json(200, HELLO));
    let budget = Budget::new().requests(100);
    assert_eq!(spend_all(&with(&server, &budget)), 100);
    assert_eq!(server.requests().len(), 100);
    assert_eq!(budget.spent().requests, 100);
}

#[test]
fn eight_threads_do_not_overrun_a_limit_of_tokens_by_eight_calls() {
    let server = Server::answering(json(200, HELLO));
    let budget = Budget::new().tokens(20 * TOKENS + 1);
    assert_eq!(spend_all(&with(&server, &budget)), 21);
    assert_eq!(server.requests().len(), 21);
}

#[test]
fn eight_threads_do_not_overrun_a_limit_of_dollars_by_eight_calls() {
    let server = Server::answering(priced("0.25"));
    let budget = Budget::new().usd(5.0);
    assert_eq!(spend_all(&with(&server, &budget)), 20);
    assert_eq!(budget.spent().usd, 5.0);
}

#[test]
fn the_error_names_the_limit_and_what_was_spent() {
    let server = Server::answering(priced("0.1"));
    let spent = "(spent: 3 requests, 9 tokens, $0.3, 0 requests of unknown price)";
    for (budget, limit) in [
        (Budget::new().requests(3), "3 requests"),
        (Budget::new().tokens(9), "9 tokens"),
        (Budget::new().usd(0.3), "$0.3"),
    ] {
        let client = with(&server, &budget);
        for _ in 0..3 {
            client.send(&hello()).unwrap();
        }
        is_refused(
            &client,
            &format!("the budget of {limit} is used up {spent}"),
        );
    }
}

#[test]
fn a_limit_of_nothing_and_one_that_is_no_number_permit_nothing() {
    let server = Server::answering(json(200, HELLO));
    let spent = "(spent: 0 requests, 0 tokens, $0, 0 requests of unknown price)";
    for (budget, limit) in [
        (Budget::new().requests(0), "0 requests"),
        (Budget::new().tokens(0), "0 tokens"),
        (Budget::new().usd(0.0), "$0"),
        (Budget::new().usd(-1.0), "$-1"),
        (Budget::new().usd(f64::NAN), "$0"),
    ] {
        let client = with(&server, &budget);
        is_refused(
            &client,
            &format!("the budget of {limit} is used up {spent}"),
        );
        assert!(client.stream(&hello()).is_err());
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn clients_and_clones_share_a_budget_and_have_books_of_their_own() {
    let server = Server::answering(json(200, HELLO));
    let budget = Budget::new().requests(3);
    let (one, other) = (with(&server, &budget), with(&server, &budget));
    one.send(&hello()).unwrap();
    one.clone().send(&hello()).unwrap();
    other.stream(&hello()).unwrap().finish().unwrap();
    assert!(other.send(&hello()).is_err());
    let requests = [one.spent(), other.spent(), budget.spent()].map(|spent| spent.requests);
    assert_eq!(requests, [2, 1, 3]);
}

#[test]
fn an_answer_from_a_cassette_takes_nothing() {
    let (server, scratch) = (Server::answering(priced("1")), Scratch::new());
    let budget = Budget::new().requests(1).usd(1.0);
    let client = server.builder().budget(budget.clone());
    let client = client
        .cassette(Cassette::auto(scratch.path()))
        .build()
        .unwrap();
    for _ in 0..3 {
        client.send(&hello()).unwrap();
        client.stream(&hello()).unwrap().finish().unwrap();
    }
    assert_eq!((budget.spent().requests, budget.spent().usd), (1, 1.0));
    assert!(client.send(&hello().seed(1)).is_err());
}

// What is in flight.

/// A server that answers when it is told to, and tells how many requests it has not answered.
fn held(answer: String) -> (Server, Arc<AtomicUsize>) {
    let permits = Arc::new(AtomicUsize::new(0));
    let taken = Arc::clone(&permits);
    let server = Server::start(move |_, connection| {
        loop {
            connection.request()?;
            let take = |permits: usize| permits.checked_sub(1);
            let order = Ordering::SeqCst;
            while taken.fetch_update(order, order, take).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
            connection.send(&answer)?;
        }
    });
    (server, permits)
}

fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn as_long_as_no_price_is_known_one_call_goes_alone() {
    for budget in [Budget::new().usd(9.0), Budget::new().tokens(900)] {
        let (server, permits) = held(priced("0.5"));
        let client = with(&server, &budget);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| client.send(&hello()).unwrap());
            }
            until(|| server.requests().len() == 1);
            thread::sleep(Duration::from_millis(50));
            assert_eq!(server.requests().len(), 1);
            permits.fetch_add(1, Ordering::SeqCst);
            until(|| server.requests().len() == 4);
            permits.fetch_add(3, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_call_that_might_be_too_much_waits_for_what_is_in_flight() {
    let (server, permits) = held(priced("0.5"));
    permits.fetch_add(1, Ordering::SeqCst);
    let client = with(&server, &Budget::new().usd(1.6));
    client.send(&hello()).unwrap();
    thread::scope(|scope| {
        // Two more may go, as 0.5 + 0.5 + 0.5 is less than 1.6, but no third beside them.
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client.send(&hello())))
            .collect();
        until(|| server.requests().len() == 4);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(server.requests().len(), 4);
        permits.fetch_add(9, Ordering::SeqCst);
        let answered = calls
            .into_iter()
            .filter_map(|call| call.join().unwrap().ok());
        assert_eq!(answered.count(), 3);
    });
    assert_eq!(client.spent().usd, 2.0);
}

#[test]
fn the_wait_for_what_is_in_flight_has_the_limit_of_the_call() {
    let (server, permits) = held(priced("0.5"));
    let budget = Budget::new().usd(1.0);
    let patient = with(&server, &budget);
    let hasty = server.builder().timeout(Duration::from_millis(20));
    let hasty = hasty.budget(budget.clone()).build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| patient.send(&hello()).unwrap());
        until(|| server.requests().len() == 1);
        let error = hasty.send(&hello()).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 0));
        assert_eq!(
            error.to_string(),
            "the budget had no room for another call within 20ms (the limit is timeout())"
        );
        permits.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!((server.requests().len(), budget.spent().requests), (1, 1));
}

#[test]
fn a_stream_is_not_waited_for_as_its_reader_may_be_the_one_who_waits() {
    let events = [event("hel"), event("lo"), finish("stop"), DONE.to_owned()];
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let answer = format!(
        "{STREAM_HEAD}{}{usage}\n\n{}",
        events[..3].concat(),
        events[3]
    );
    let server = Server::answering_once_each(answer);
    let client = with(&server, &Budget::new().tokens(100));
    let stream = client.stream(&hello()).unwrap();
    is_refused(
        &client,
        "the budget of 100 tokens may be used up by the streams in flight \
         (spent: 1 requests, 0 tokens, $0, 0 requests of unknown price)",
    );
    assert!(client.stream(&hello()).is_err());
    assert_eq!(stream.finish().unwrap().text(), "hello");
    let several: Vec<_> = (0..3).map(|_| client.stream(&hello()).unwrap()).collect();
    assert_eq!(server.requests().len(), 4);
    drop(several);
}

// What is not told.

#[test]
fn without_a_price_a_limit_in_dollars_forbids_all_but_the_first_call() {
    let server = Server::answering(json(200, HELLO));
    let client = with(&server, &Budget::new().usd(5.0));
    client.send(&hello()).unwrap();
    is_refused(
        &client,
        "the budget of $5 cannot be kept, as no answer told what it took \
         (spent: 1 requests, 3 tokens, $0, 1 requests of unknown price)",
    );
}

#[test]
fn without_a_usage_a_limit_in_tokens_forbids_all_but_the_first_call() {
    for usage in [
        "",
        r#","usage":{}"#,
        r#","usage":{"prompt_tokens":0,"completion_tokens":0}"#,
    ] {
        let answer = format!(r#"{{"choices":[{{"message":{{"content":"hello"}}}}]{usage}}}"#);
        let server = Server::answering(json(200, &answer));
        let client = with(&server, &Budget::new().tokens(500));
        client.send(&hello()).unwrap();
        is_refused(
            &client,
            "the budget of 500 tokens cannot be kept, as no answer told what it took \
             (spent: 1 requests, 0 tokens, $0, 1 requests of unknown price)",
        );
    }
}

#[test]
fn what_has_no_price_counts_as_the_dearest_so_far() {
    let prices = ["0.1", "0.4", "-9", "soon", "NaN"].map(priced);
    let server = Server::answering_in_turn(prices.into());
    let client = with(&server, &Budget::new().usd(1.5));
    // 0.1 + 0.4 + 3 * 0.4 is more than 1.5.
    let answered = (0..9).filter(|_| client.send(&hello()).is_ok());
    assert_eq!(answered.count(), 5);
    let Spent { usd, unpriced, .. } = client.spent();
    assert_eq!((usd, unpriced), (0.5, 3));
}

#[test]
fn a_call_that_was_lost_has_a_price_that_nobody_knows() {
    let stalled = Server::start(|_, connection| {
        connection.request()?;
        connection.is_closed_within(Duration::from_secs(5));
        Ok(())
    });
    let budget = Budget::new().usd(5.0);
    let client = stalled.builder().timeout(Duration::from_millis(50));
    let client = client.budget(budget.clone()).build().unwrap();
    assert_eq!(
        client.send(&hello()).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    is_refused(
        &client,
        "the budget of $5 cannot be kept, as no answer told what it took \
         (spent: 1 requests, 0 tokens, $0, 1 requests of unknown price)",
    );
}

// What was spent.

#[track_caller]
fn spent(answer: String, call: impl FnOnce(&Client), requests: u64, attempts: u64, unpriced: u64) {
    let server = Server::answering_once_each(answer);
    let client = server.client();
    call(&client);
    let spent = client.spent();
    let counts = (spent.requests, spent.attempts, spent.unpriced);
    assert_eq!(counts, (requests, attempts, unpriced));
}

#[test]
fn a_price_and_a_usage_are_counted() {
    let server = Server::answering(priced("0.25"));
    let client = server.client();
    client.send(&hello()).unwrap();
    client.send(&hello()).unwrap();
    let mut want = Spent::default();
    (want.requests, want.attempts) = (2, 2);
    (want.prompt_tokens, want.completion_tokens) = (2, 4);
    want.usd = 0.5;
    assert_eq!(client.spent(), want);
}

#[test]
fn retries_are_attempts_of_one_request() {
    // It says that it closes, so that no attempt goes out on a connection that is just being closed.
    let busy = || respond(503, &[("connection", "close")], "");
    spent(busy(), |client| drop(client.send(&hello())), 1, 3, 0);
    spent(busy(), |client| drop(client.stream(&hello())), 1, 3, 0);
}

#[test]
fn a_refusal_is_a_request_and_costs_nothing() {
    spent(
        json(400, "{}"),
        |client| drop(client.send(&hello())),
        1,
        1,
        0,
    );
}

#[test]
fn what_was_never_sent_costs_nothing() {
    let client = Client::builder()
        .base_url("http://127.0.0.1:9")
        .retry(crate::support::quick());
    let client = client.build().unwrap();
    assert_eq!(client.send(&hello()).unwrap_err().attempts(), 3);
    assert_eq!((client.spent().requests, client.spent().unpriced), (1, 0));
    let invalid = hello().temperature(f64::NAN);
    assert!(client.send(&invalid).is_err());
    assert_eq!(client.spent().requests, 1);
}

#[test]
fn what_was_answered_badly_may_have_been_charged() {
    let send = |client: &Client| drop(client.send(&hello()));
    spent(json(200, "{}"), send, 1, 1, 1);
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{HELLO}");
    spent(cut, send, 1, 1, 1);
}

#[test]
fn a_stream_counts_when_it_ends_however_it_ends() {
    let stream = |events: &[&str]| format!("{STREAM_HEAD}{}", events.concat());
    let cut = stream(&[&event("hel")]);
    let whole = stream(&[&event("hello"), &finish("stop"), DONE]);
    let finish = |client: &Client| drop(client.stream(&hello()).unwrap().finish());
    spent(cut, finish, 1, 1, 1);
    spent(whole.clone(), finish, 1, 1, 1);
    let drop_early = |client: &Client| {
        let stream = client.stream(&hello()).unwrap();
        assert_eq!((client.spent().requests, client.spent().unpriced), (1, 0));
        drop(stream);
    };
    spent(whole, drop_early, 1, 1, 1);
}

#[test]
fn the_price_of_a_stream_is_the_one_in_its_events() {
    let price = r#"{"choices":[],"meta":{"usage":{"usd_spent":0.75}},"usage":{"prompt_tokens":7,"completion_tokens":5}}"#;
    let events = [
        event("hello"),
        finish("stop"),
        format!("data: {price}\n\n"),
        DONE.into(),
    ];
    let server = Server::answering_once_each(format!("{STREAM_HEAD}{}", events.concat()));
    let client = server.client();
    client.stream(&hello()).unwrap().finish().unwrap();
    let Spent {
        usd,
        prompt_tokens,
        completion_tokens,
        unpriced,
        ..
    } = client.spent();
    assert_eq!(
        (usd, prompt_tokens, completion_tokens, unpriced),
        (0.75, 7, 5, 0)
    );
}
