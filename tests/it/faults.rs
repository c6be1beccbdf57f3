//! Every fault a network has, and what a call comes to: how it ends, how often it was sent, how long it takes, how much
//! memory it takes, and that nobody else sees the key.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use aimlapi::{Client, Completion, Error, ErrorKind, Result};

use crate::support::{Child, DONE, HELLO, KEY, Server, event, finish, hello, json, quick, respond};

/// The timeouts of a call that has to run into them.
const LIMIT: Duration = Duration::from_millis(300);

/// The timeouts of all others, and what any call takes at the very most, on a machine that is busy with other tests.
const BOUND: Duration = Duration::from_secs(4);

/// The most bytes of an answer.
const MOST: u16 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Send,
    Stream,
}

impl Way {
    const ALL: [Way; 2] = [Way::Send, Way::Stream];

    fn call(self, client: &Client) -> Result<Completion> {
        match self {
            Way::Send => client.send(&hello()),
            Way::Stream => client.stream(&hello())?.finish(),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Way::Send => "application/json",
            Way::Stream => "text/event-stream",
        }
    }

    fn body(self) -> String {
        match self {
            Way::Send => HELLO.to_owned(),
            Way::Stream => event("hello") + &finish("stop") + DONE,
        }
    }

    /// The good answer.
    fn answer(self) -> String {
        respond(200, &[("content-type", self.content_type())], &self.body())
    }

    /// The head of a good answer, with this in place of its length.
    fn head(self, framing: &str) -> String {
        let content_type = self.content_type();
        format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n")
    }
}

/// How a call ends.
type End = Option<ErrorKind>;

const ANSWER: End = None;
const LOST: End = Some(ErrorKind::Connection);
const LATE: End = Some(ErrorKind::Timeout);
const API: End = Some(ErrorKind::Api);
const DECODE: End = Some(ErrorKind::Decode);
const BROKEN: End = Some(ErrorKind::Interrupted);

/// A row of the table: the fault, how `send` ends, how `stream` does, how often it is sent, and who misbehaves.
struct Fault(&'static str, End, End, u32, Peer);

enum Peer {
    Server(Server),
    /// Nobody listens.
    Nobody,
    /// The system takes the connection, and nobody ever reads from it.
    Dead(TcpListener),
}

impl Peer {
    fn base_url(&self) -> String {
        match self {
            Peer::Server(server) => server.base_url(),
            Peer::Nobody => "http://127.0.0.1:1".to_owned(),
            Peer::Dead(listener) => format!("http://{}", listener.local_addr().unwrap()),
        }
    }

    /// How many requests came, those included that were not read.
    fn seen(&self) -> Option<u32> {
        match self {
            Peer::Server(server) => {
                let seen = server.connections().max(server.requests().len());
                Some(seen.try_into().unwrap())
            }
            Peer::Nobody | Peer::Dead(_) => None,
        }
    }
}

fn always(answer: impl Into<Vec<u8>>) -> Peer {
    Peer::Server(Server::answering(answer))
}

/// Reads the request, sends this, and ends the connection.
fn then_closes(bytes: impl Into<Vec<u8>>) -> Peer {
    Peer::Server(Server::answering_once_each(bytes))
}

/// Sends this, and resets the connection.
fn then_resets(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::Server(Server::start(move |_, connection| {
        connection.request_head()?;
        connection.send(&bytes)?;
        thread::sleep(LIMIT / 10);
        Ok(())
    }))
}

/// Sends this, and then nothing more.
fn then_stalls(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::Server(Server::start(move |_, connection| {
        connection.request()?;
        connection.send(&bytes)?;
        connection.is_closed_within(BOUND * 2);
        Ok(())
    }))
}

/// Sends the first, and then the second again and again, with this pause.
fn for_ever(first: impl Into<Vec<u8>>, second: impl Into<Vec<u8>>, pause: Duration) -> Peer {
    let (first, second) = (first.into(), second.into());
    Peer::Server(Server::start(move |_, connection| {
        connection.request()?;
        connection.send(&first)?;
        loop {
            thread::sleep(pause);
            connection.send(&second)?;
        }
    }))
}

/// The promises.
#[rustfmt::skip]
fn faults(way: Way, elsewhere: &str) -> Vec<Fault> {
    let (answer, body) = (way.answer(), way.body());
    let half = &answer[..answer.len() - body.len() / 2];
    // Of a stream one event, so that there is something which could pass for an answer.
    let begun = match way {
        Way::Send => body[..60].to_owned(),
        Way::Stream => event("hello"),
    };
    let begun = begun.as_str();
    let page = respond(200, &[("content-type", "text/html")], PAGE);
    let drip = Duration::from_millis(20);
    let until_close = way.head("connection: close");
    let chunked = |end| way.head("transfer-encoding: chunked") + &format!("{:x}\r\n{begun}\r\n{end}", begun.len());
    let as_long_as = |length| way.head(&format!("content-length: {length}")) + &body;
    let redirect = |status, target| always(respond(status, &[("location", target)], ""));
    let before = |first| Peer::Server(Server::answering_in_turn(vec![first, answer.clone()]));
    let asking = |header| before(format!("HTTP/1.1 429 Test\r\n{header}\r\ncontent-length: 0\r\n\r\n"));

    vec![
        // No connection, or none that lasts until the answer begins.
        Fault("refused",                        LOST,   LOST,   3, Peer::Nobody),
        Fault("reset before the head",          LOST,   LOST,   3, then_resets("")),
        Fault("closed before the head",         LOST,   LOST,   3, then_closes("")),
        Fault("half-open: nobody reads",        LATE,   LATE,   1, Peer::Dead(TcpListener::bind("127.0.0.1:0").unwrap())),
        Fault("silent",                         LATE,   LATE,   1, then_stalls("")),

        // The head of the answer.
        Fault("reset in the head",              LOST,   LOST,   3, then_resets("HTTP/1.1 200 OK\r\ncont")),
        Fault("stalled in the head",            LATE,   LATE,   1, then_stalls("HTTP/1.1 200 OK\r\ncont")),
        Fault("a slow head",                    LATE,   LATE,   1, for_ever("HTTP/1.1 200 OK\r\n", "x: y\r\n", drip)),
        Fault("100,000 headers",                DECODE, DECODE, 1, then_stalls(way.head(&"x: y\r\n".repeat(100_000)))),
        Fault("a head over 64 KiB",             DECODE, DECODE, 1, then_stalls(way.head(&format!("x: {}", "y".repeat(65 << 10))))),
        Fault("a head without end",             DECODE, DECODE, 1, for_ever("HTTP/1.1 200 OK\r\nx: ", MUCH, NO_PAUSE)),
        Fault("no HTTP",                        DECODE, DECODE, 1, then_stalls("SSH-2.0-OpenSSH_9.9\r\n\r\n")),
        Fault("two lengths",                    DECODE, DECODE, 1, then_stalls(way.head("content-length: 5\r\ncontent-length: 6"))),

        // Its body.
        Fault("cut in the body",                BROKEN, BROKEN, 1, then_closes(half)),
        Fault("reset in the body",              BROKEN, BROKEN, 1, then_resets(half)),
        Fault("stalled in the body",            LATE,   LATE,   1, then_stalls(half)),
        Fault("cut between two chunks",         BROKEN, BROKEN, 1, then_closes(chunked(""))),
        Fault("cut in the length of a chunk",   BROKEN, BROKEN, 1, then_closes(chunked("1"))),
        Fault("cut in a chunk",                 BROKEN, BROKEN, 1, then_closes(chunked("20\r\nabc"))),
        Fault("a chunk of no length",           BROKEN, BROKEN, 1, then_stalls(chunked("xyz\r\n"))),
        Fault("cut where the close is the end", DECODE, BROKEN, 1, then_closes(until_close.clone() + begun)),
        Fault("too small a length",             DECODE, BROKEN, 1, then_closes(as_long_as(begun.len()))),
        Fault("too great a length",             BROKEN, ANSWER, 1, then_closes(as_long_as(10_000))),
        Fault("slow, and ends",                 ANSWER, ANSWER, 1, for_ever(half, &answer[half.len()..], drip)),
        Fault("an endless body",                DECODE, DECODE, 1, for_ever(until_close, MUCH, NO_PAUSE)),
        Fault("1 GiB of body",                  DECODE, DECODE, 1, for_ever(way.head("content-length: 1073741824"), MUCH, NO_PAUSE)),
        Fault("1 PiB promised, and cut",        BROKEN, BROKEN, 1, then_closes(way.head("content-length: 1125899906842624") + begun)),
        Fault("gzip, in which bombs come",      DECODE, DECODE, 1, then_closes([way.head("content-encoding: gzip").as_bytes(), GZIP].concat())),
        Fault("a web page",                     DECODE, DECODE, 1, always(page)),
        Fault("an empty answer",                DECODE, DECODE, 1, always(respond(200, &[], ""))),

        // Refusals.
        Fault("a redirect to itself",           API,    API,    1, redirect(302, "/v1/chat/completions")),
        Fault("a redirect to another host",     API,    API,    1, redirect(307, elsewhere)),
        Fault("an answer at another host",      API,    API,    1, redirect(303, elsewhere)),
        Fault("401 that echoes the key",        API,    API,    1, always(json(401, &format!("{{\"error\":\"wrong key {KEY}\"}}")))),
        Fault("500, again and again",           API,    API,    3, always(json(500, "{}"))),
        Fault("502 with a web page",            API,    API,    3, always(respond(502, &[("content-type", "text/html")], PAGE))),
        Fault("500, then the answer",           ANSWER, ANSWER, 2, before(json(500, "{}"))),
        Fault("429 for 0 s",                    ANSWER, ANSWER, 2, asking("retry-after: 0")),
        Fault("429 for 10 ms",                  ANSWER, ANSWER, 2, asking("retry-after-ms: 10")),
        Fault("429 for 0.01 s",                 ANSWER, ANSWER, 2, asking("retry-after: 0.01")),
        Fault("429 until a day gone by",        ANSWER, ANSWER, 2, asking("retry-after: Sun, 06 Nov 1994 08:49:37 GMT")),
        Fault("429 until then, in RFC 850",     ANSWER, ANSWER, 2, asking("retry-after: Sunday, 06-Nov-94 08:49:37 GMT")),
        Fault("429 until then, in C",           ANSWER, ANSWER, 2, asking("retry-after: Sun Nov  6 08:49:37 1994")),
        Fault("429 until nonsense",             ANSWER, ANSWER, 2, asking("retry-after: soon")),
        Fault("429 for longer than the call",   API,    API,    1, asking("retry-after: 30")),
        Fault("429 for an hour",                API,    API,    1, asking("retry-after: 3600")),
        Fault("429 until a far year",           API,    API,    1, asking("retry-after: Fri, 31 Dec 9999 23:59:59 GMT")),
    ]
}

const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head></html>";

/// [`HELLO`]: who decodes it has an answer.
const GZIP: &[u8] = include_bytes!("../fixtures/hello.json.gz");

/// More of what never ends.
const MUCH: [u8; 4096] = [b'x'; 4096];

const NO_PAUSE: Duration = Duration::ZERO;

fn client(peer: &Peer, limit: Duration) -> Client {
    let builder = Client::builder().api_key(KEY).base_url(peer.base_url());
    let builder = builder.timeout(limit).idle_timeout(limit).retry(quick());
    builder.max_response_bytes(MOST.into()).build().unwrap()
}

/// What a fault came to that was not promised.
fn broken_promises(way: Way, Fault(_, sent, streamed, times, peer): &Fault) -> Vec<String> {
    let end = match way {
        Way::Send => *sent,
        Way::Stream => *streamed,
    };
    let limit = if end == LATE { LIMIT } else { BOUND };
    let client = client(peer, limit);
    let begin = Instant::now();
    let result = way.call(&client);
    let took = begin.elapsed();
    let (error, text) = (
        result.as_ref().err(),
        result.as_ref().map_or("", Completion::text),
    );
    let seen = peer.seen().unwrap_or(*times);
    let attempts = error.map_or(seen, Error::attempts);
    let booked = client.spent().attempts;
    let shown = error.map_or(String::new(), |error| {
        format!("{error} {error:?} {error:#?}")
    });
    let kept = error.and_then(Error::body).map_or(0, str::len);
    [
        (
            error.map(Error::kind) == end && error.is_none() == (text == "hello"),
            format!("{result:?}"),
        ),
        (
            took < BOUND && (end != LATE || took >= LIMIT),
            format!("took {took:?}"),
        ),
        (seen == *times, format!("was seen {seen} times")),
        (attempts == *times, format!("tells of {attempts} attempts")),
        (
            booked == u64::from(*times),
            format!("was booked as {booked}"),
        ),
        (!shown.contains(KEY), "shows the key".to_owned()),
        (kept <= usize::from(MOST) + 1, format!("keeps {kept} bytes")),
    ]
    .into_iter()
    .filter_map(|(holds, what)| (!holds).then_some(what))
    .collect()
}

/// All of the table's rows at once, both ways. Each says what was not as promised.
fn try_all(elsewhere: &str) -> Vec<String> {
    let rows = |way| {
        faults(way, elsewhere)
            .into_iter()
            .map(move |fault| (way, fault))
    };
    let rows: Vec<_> = Way::ALL.into_iter().flat_map(rows).collect();
    thread::scope(|scope| {
        let calls: Vec<_> = rows
            .iter()
            .map(|(way, fault)| scope.spawn(|| (fault.0, *way, broken_promises(*way, fault))))
            .collect();
        let tell = |(name, way, broken): (_, _, Vec<String>)| {
            broken
                .into_iter()
                .map(move |what| format!("{name}, {way:?}: {what}"))
        };
        calls
            .into_iter()
            .flat_map(|call| tell(call.join().unwrap()))
            .collect()
    })
}

#[test]
fn every_fault_ends_as_promised() {
    let elsewhere = Server::answering(json(200, HELLO));
    let broken = try_all(&elsewhere.base_url());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // Where no connection was made, no byte of the key has gone.
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
#[ignore = "a process of its own, for the test below"]
fn the_memory_that_all_faults_take_together() {
    try_all("http://127.0.0.1:1");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Child::say(peak.unwrap().trim().trim_end_matches(" kB"));
}

/// A client that took an endless body, or a length, at its word would take a gigabyte.
#[test]
#[cfg(target_os = "linux")]
fn no_fault_takes_much_memory() {
    let peak = Child::new("faults::the_memory_that_all_faults_take_together").run();
    let peak: u64 = peak.parse().unwrap();
    assert!(peak < 100 << 10, "{peak} kB");
}

#[test]
fn a_whole_answer_that_drips_for_ever_is_late() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    let fault = Fault("", LATE, LATE, 1, for_ever(head, " ", LIMIT / 10));
    assert_eq!(broken_promises(Way::Send, &fault), [""; 0]);
}

#[test]
fn a_pooled_connection_gone_stale_costs_no_answer() {
    for way in Way::ALL {
        let server = Server::start(move |number, connection| {
            connection.request()?;
            match number {
                0 => connection.send(json(200, HELLO))?,
                _ => return connection.send(way.answer()),
            }
            // It takes one more request, and is closed.
            connection.request()?;
            connection.close()
        });
        let client = server.client();
        assert_eq!(client.send(&hello()).unwrap().text(), "hello");
        assert_eq!(way.call(&client).unwrap().text(), "hello");
        let seen = (server.requests().len(), server.connections());
        assert_eq!((seen, client.spent().attempts), ((3, 2), 3), "{way:?}");
    }
}
