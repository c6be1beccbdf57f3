//! What calls have taken, and the limits to it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Completion, Error, Result};

/// What calls have taken so far, in requests, tokens and dollars.
///
/// [`Client::spent`](crate::Client::spent) tells it of a client, [`Budget::spent`] of all that share a budget, and
/// [`Progress::spent`](crate::Progress::spent) of a batch.
///
/// What a server does not report is not guessed: an answer without a price counts as `unpriced` and not as free.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Spent {
    /// Calls that were sent, however they ended. One answered from a cassette is not sent.
    pub requests: u64,
    /// How often they were sent, retries included.
    pub attempts: u64,
    /// Tokens of the requests, as reported.
    pub prompt_tokens: u64,
    /// Tokens of the answers, as reported.
    pub completion_tokens: u64,
    /// US dollars, as reported.
    pub usd: f64,
    /// Calls that may have been charged for without a price being told: answers without one, and calls that timed out
    /// or broke off.
    pub unpriced: u64,
}

impl Spent {
    /// What came on top of an earlier state of the same account.
    pub(crate) fn since(&self, before: &Spent) -> Spent {
        Spent {
            requests: self.requests.saturating_sub(before.requests),
            attempts: self.attempts.saturating_sub(before.attempts),
            prompt_tokens: self.prompt_tokens.saturating_sub(before.prompt_tokens),
            completion_tokens: self
                .completion_tokens
                .saturating_sub(before.completion_tokens),
            usd: self.usd - before.usd,
            unpriced: self.unpriced.saturating_sub(before.unpriced),
        }
    }
}

/// A limit to what a client may spend, checked before each call.
///
/// Clones share it, as do the clones of a client and all threads; several clients may have the same one. A call that a
/// limit forbids is not sent: its error is of kind [`Budget`](crate::ErrorKind::Budget) and says which limit it is and
/// what was spent. An answer from a [`Cassette`](crate::Cassette) takes nothing.
///
/// ```no_run
/// use aimlapi::{Budget, Client};
///
/// let budget = Budget::new().requests(10_000).tokens(5_000_000).usd(2.50);
/// let client = Client::builder().api_key("key").budget(budget.clone()).build()?;
/// println!("{:?}", budget.spent());
/// # drop(client);
/// # Ok::<(), aimlapi::Error>(())
/// ```
///
/// # What is guaranteed
///
/// There are never more calls than [`requests`](Budget::requests).
///
/// What a call takes in [`tokens`](Budget::tokens) and dollars ([`usd`](Budget::usd)) is known only after it, so of
/// these a limit is overrun, if at all, by the calls that were in flight when it was reached. As a rule that is one
/// call, for each in flight is counted as the dearest one so far, and one that might be too much waits until they have
/// ended. At the beginning, when no price is known, one call goes alone.
///
/// Such a wait takes no longer than the client's [`timeout`](crate::ClientBuilder::timeout), before the call's own time
/// begins. A stream is counted but not waited for, since the thread that waits might be the one to read it: the call is
/// then refused.
///
/// # What a server does not report
///
/// What is not reported is never counted as nothing. An answer without a price, and a call that timed out or broke off,
/// counts as the dearest one so far; likewise with tokens. Where no answer has told its price yet, a limit in dollars
/// cannot be kept: after one that does not, or was lost, all calls are refused; likewise with tokens. A price below
/// zero is none, and neither is a usage of no tokens at all.
#[derive(Clone)]
#[must_use]
pub struct Budget {
    requests: Option<u64>,
    tokens: Option<u64>,
    usd: Option<f64>,
    ledger: Ledger,
}

impl Budget {
    /// A budget without a limit, to be given some. It counts what is spent all the same.
    pub fn new() -> Budget {
        Budget {
            requests: None,
            tokens: None,
            usd: None,
            ledger: Ledger::default(),
        }
    }

    /// At most this many calls. Retries of a call are not counted: only what cannot cost twice is repeated.
    pub fn requests(mut self, limit: u64) -> Budget {
        self.requests = Some(limit);
        self
    }

    /// At most this many tokens, of requests and answers together, as reported.
    pub fn tokens(mut self, limit: u64) -> Budget {
        self.tokens = Some(limit);
        self
    }

    /// At most this many US dollars, as reported. NaN permits nothing.
    pub fn usd(mut self, limit: f64) -> Budget {
        self.usd = Some(limit);
        self
    }

    /// What the calls under this budget have taken so far.
    pub fn spent(&self) -> Spent {
        self.ledger.spent()
    }

    /// Lets a call go, or says why not. Waits for calls in flight where they decide; `None` if they still do after
    /// so long.
    pub(crate) fn admit(&self, stream: bool, patience: Duration) -> Option<Result<Ticket>> {
        let deadline = Instant::now() + patience;
        let mut book = self.ledger.lock();
        loop {
            let refused = |what| Some(Err(Error::budget(what, &book.spent)));
            match self.verdict(&book) {
                Verdict::Go => return Some(Ok(self.ledger.open(&mut book, stream))),
                Verdict::No(what) => return refused(what),
                Verdict::Perhaps(limit) if book.calls == 0 => {
                    return refused(format!("{limit} may be used up by the streams in flight"));
                }
                Verdict::Perhaps(_) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let woken = self.ledger.0.settled.wait_timeout(book, left);
                    book = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn verdict(&self, book: &Book) -> Verdict {
        let in_flight = book.calls.saturating_add(book.streams);
        let spent = &book.spent;
        if let Some(limit) = self.requests.filter(|limit| spent.requests >= *limit) {
            return Verdict::No(format!("{limit} requests is used up"));
        }
        let tokens = self.tokens.map(|limit| {
            let name = format!("{limit} tokens");
            book.tokens.verdict(&name, to_f64(limit), in_flight)
        });
        let usd = self
            .usd
            .map(|limit| book.usd.verdict(&dollars(limit), limit, in_flight));
        match (tokens.unwrap_or(Verdict::Go), usd.unwrap_or(Verdict::Go)) {
            (Verdict::No(what), _) | (_, Verdict::No(what)) => Verdict::No(what),
            (Verdict::Go, other) | (other, _) => other,
        }
    }
}

enum Verdict {
    Go,
    /// Depends on what the calls in flight will have taken.
    Perhaps(String),
    No(String),
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("requests", &self.requests)
            .field("tokens", &self.tokens)
            .field("usd", &self.usd)
            .field("spent", &self.spent())
            .finish_non_exhaustive()
    }
}

/// The account of one client, or of one budget.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<Shared>);

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    settled: Condvar,
}

#[derive(Default)]
struct Book {
    spent: Spent,
    /// Calls in flight whose threads are inside of this crate, so that they will end.
    calls: u64,
    /// Streams in flight, which end when their holder pleases.
    streams: u64,
    tokens: Meter,
    usd: Meter,
}

/// One of the two things of which only the answer tells how much a call took.
#[derive(Default)]
struct Meter {
    total: f64,
    /// The most that one call took.
    dearest: Option<f64>,
    /// Calls that may have taken some and did not tell.
    untold: u64,
}

impl Meter {
    fn count(&mut self, taken: Taken) {
        match taken {
            Taken::Nothing => {}
            Taken::Untold => self.untold += 1,
            Taken::This(amount) => {
                self.total += amount;
                self.dearest = Some(self.dearest.map_or(amount, |dearest| dearest.max(amount)));
            }
        }
    }

    fn verdict(&self, name: &str, limit: f64, in_flight: u64) -> Verdict {
        let used_up = || Verdict::No(format!("{name} is used up"));
        let Some(dearest) = self.dearest else {
            return match (self.untold, in_flight) {
                _ if limit.is_nan() || limit <= 0.0 => used_up(),
                (0, 0) => Verdict::Go,
                (0, _) => Verdict::Perhaps(name.to_owned()),
                _ => Verdict::No(format!(
                    "{name} cannot be kept, as no answer told what it took"
                )),
            };
        };
        let least = self.total + dearest * to_f64(self.untold);
        let most = least + dearest * to_f64(in_flight);
        // A limit that is NaN has nothing below it.
        if most < limit {
            Verdict::Go
        } else if least < limit {
            Verdict::Perhaps(name.to_owned())
        } else {
            used_up()
        }
    }
}

/// What a call took.
#[derive(Clone, Copy, Default)]
enum Taken {
    /// It was refused, or never sent.
    #[default]
    Nothing,
    Untold,
    This(f64),
}

impl Ledger {
    pub(crate) fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Notes a call that goes out under no limit.
    pub(crate) fn note(&self, stream: bool) -> Ticket {
        self.open(&mut self.lock(), stream)
    }

    fn open(&self, book: &mut Book, stream: bool) -> Ticket {
        book.spent.requests += 1;
        *book.in_flight(stream) += 1;
        Ticket {
            ledger: self.clone(),
            stream,
            attempts: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            tokens: Taken::Nothing,
            usd: Taken::Nothing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn in_flight(&mut self, stream: bool) -> &mut u64 {
        if stream {
            &mut self.streams
        } else {
            &mut self.calls
        }
    }
}

/// A call in flight. Its end is booked when it is dropped.
pub(crate) struct Ticket {
    ledger: Ledger,
    stream: bool,
    /// 0 until it was sent.
    attempts: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    tokens: Taken,
    usd: Taken,
}

impl Ticket {
    /// An answer that begins: if it is dropped before its end, nobody knows what it took.
    pub(crate) fn begun(&mut self, attempts: u32) {
        self.attempts = attempts.into();
        self.tokens = Taken::Untold;
        self.usd = Taken::Untold;
    }

    pub(crate) fn answered(&mut self, answer: &Completion) {
        let usage = answer.usage().copied().unwrap_or_default();
        self.prompt_tokens = usage.prompt_tokens;
        self.completion_tokens = usage.completion_tokens;
        self.tokens = match usage.prompt_tokens.saturating_add(usage.completion_tokens) {
            0 => Taken::Untold,
            tokens => Taken::This(to_f64(tokens)),
        };
        self.usd = match answer.usd_spent() {
            Some(usd) if usd >= 0.0 => Taken::This(usd),
            _ => Taken::Untold,
        };
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.attempts = error.attempts().into();
        if let Some(partial) = error.partial() {
            return self.answered(partial);
        }
        // Of the rest nobody knows.
        let taken = if error.costs_nothing() {
            Taken::Nothing
        } else {
            Taken::Untold
        };
        (self.tokens, self.usd) = (taken, taken);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut book = self.ledger.lock();
        let in_flight = book.in_flight(self.stream);
        *in_flight = in_flight.saturating_sub(1);
        if self.attempts == 0 {
            book.spent.requests = book.spent.requests.saturating_sub(1);
        } else {
            book.tokens.count(self.tokens);
            book.usd.count(self.usd);
        }
        let (usd, unpriced) = (book.usd.total, book.usd.untold);
        let spent = &mut book.spent;
        spent.attempts += self.attempts;
        spent.prompt_tokens = spent.prompt_tokens.saturating_add(self.prompt_tokens);
        spent.completion_tokens = spent
            .completion_tokens
            .saturating_add(self.completion_tokens);
        (spent.usd, spent.unpriced) = (usd, unpriced);
        drop(book);
        self.ledger.0.settled.notify_all();
    }
}

/// Dollars to the millionth: `$0.3`. By integers, as std's printing of floats would be 15 kB of every program.
// A float too large for an integer becomes the largest one, and NaN zero, which is all that it permits.
#[allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub(crate) fn dollars(usd: f64) -> String {
    let sign = if usd < 0.0 { "-" } else { "" };
    let millionths = (usd.abs() * 1e6).round() as u64;
    let (whole, rest) = (millionths / 1_000_000, millionths % 1_000_000);
    let text = format!("${sign}{whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

// A count of calls is far below 2^53.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn to_f64(count: u64) -> f64 {
    count as f64
}
