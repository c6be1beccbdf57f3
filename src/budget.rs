//! What calls have taken, and the limits to it.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Completion, Error, ErrorKind, Result};

/// What calls have taken so far: [`Client::spent`](crate::Client::spent), [`Budget::spent`].
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

    fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// A limit to what a client may spend, checked before each call.
///
/// Clones share it, as do the clones of a client and all threads; several clients may have the same one. A call that
/// a limit forbids is not sent: its error is of kind [`Budget`](crate::ErrorKind::Budget) and says which limit it is and
/// what was spent.
///
/// What is guaranteed: never more calls than [`requests`](Budget::requests). What a call takes in tokens and dollars
/// is known only after it, so those limits are overrun, if at all, by the calls that were in flight when they were
/// reached. To keep that to one call as a rule, each call in flight is counted as the dearest one so far, the first
/// call goes alone, and a call that might be too much waits for those in flight.
///
/// A price that the server does not report is counted as the dearest one so far. Where it has reported none at all, a
/// limit in dollars could not be kept, and calls are refused after the first; likewise a limit in tokens where it
/// does not report those.
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
#[derive(Clone)]
#[must_use]
pub struct Budget {
    requests: Option<u64>,
    tokens: Option<u64>,
    usd: Option<f64>,
    ledger: Ledger,
}

impl Budget {
    /// No limit yet.
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

    /// Lets a call go, or says why not. Waits for calls in flight where they decide.
    pub(crate) fn admit(&self, stream: bool) -> Result<Ticket> {
        let mut book = self.ledger.lock();
        loop {
            match self.verdict(&book) {
                Verdict::Go => break,
                Verdict::No(limit) => return Err(Error::budget(&limit, &book.spent)),
                // A stream in flight may be in the hands of the very thread that would wait for it.
                Verdict::Perhaps(limit) if book.calls == 0 => {
                    return Err(Error::budget(&limit, &book.spent));
                }
                Verdict::Perhaps(_) => {
                    book = self
                        .ledger
                        .0
                        .settled
                        .wait(book)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        drop(book);
        Ok(self.ledger.open(stream))
    }

    fn verdict(&self, book: &Book) -> Verdict {
        let Book {
            spent,
            calls,
            streams,
            uncounted,
            dearest,
        } = book;
        let in_flight = calls.saturating_add(*streams);
        if let Some(limit) = self.requests.filter(|limit| spent.requests >= *limit) {
            return Verdict::No(format!("{limit} requests"));
        }
        if let Some(limit) = self.tokens {
            let name = || format!("{limit} tokens");
            if dearest.tokens.is_none() && *uncounted > 0 {
                return Verdict::No(format!(
                    "{}, which cannot be kept as the server reports no usage",
                    name()
                ));
            }
            if spent.tokens() >= limit {
                return Verdict::No(name());
            }
            let reserved = dearest.tokens.unwrap_or(u64::MAX).saturating_mul(in_flight);
            if in_flight > 0 && spent.tokens().saturating_add(reserved) >= limit {
                return Verdict::Perhaps(name());
            }
        }
        if let Some(limit) = self.usd {
            let name = || format!("${limit}");
            let unknown = dearest.usd.is_none() && spent.unpriced > 0;
            let dearest = dearest.usd.unwrap_or(f64::INFINITY);
            let guessed = |calls: u64| {
                if calls == 0 {
                    0.0
                } else {
                    dearest * to_f64(calls)
                }
            };
            if unknown {
                return Verdict::No(format!(
                    "{}, which cannot be kept as the server reports no prices",
                    name()
                ));
            }
            // A limit that is NaN has nothing below it.
            let leaves_room = |calls: u64| spent.usd + guessed(calls) < limit;
            if !leaves_room(spent.unpriced) {
                return Verdict::No(name());
            }
            if !leaves_room(spent.unpriced.saturating_add(in_flight)) {
                return Verdict::Perhaps(name());
            }
        }
        Verdict::Go
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
    /// Answers without a usage.
    uncounted: u64,
    /// The most that one call took.
    dearest: Dearest,
}

#[derive(Default)]
struct Dearest {
    tokens: Option<u64>,
    usd: Option<f64>,
}

impl Ledger {
    pub(crate) fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Notes a call that goes out.
    pub(crate) fn open(&self, stream: bool) -> Ticket {
        let mut book = self.lock();
        book.spent.requests += 1;
        if stream {
            book.streams += 1;
        } else {
            book.calls += 1;
        }
        Ticket {
            ledger: self.clone(),
            stream,
            outcome: Outcome::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    attempts: u64,
    answered: bool,
    tokens: Option<(u64, u64)>,
    usd: Option<f64>,
    unpriced: bool,
}

/// A call in flight. Its end is booked when it is dropped.
pub(crate) struct Ticket {
    ledger: Ledger,
    stream: bool,
    outcome: Outcome,
}

impl Ticket {
    /// An answer that begins: if it is dropped before its end, its price stays unknown.
    pub(crate) fn begun(&mut self, attempts: u32) {
        self.outcome.attempts = attempts.into();
        self.outcome.unpriced = true;
    }

    pub(crate) fn answered(&mut self, answer: &Completion) {
        self.outcome = Outcome {
            attempts: self.outcome.attempts,
            answered: true,
            tokens: answer
                .usage()
                .map(|usage| (usage.prompt_tokens, usage.completion_tokens)),
            usd: answer.usd_spent(),
            unpriced: answer.usd_spent().is_none(),
        };
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.outcome.attempts = error.attempts().into();
        // Refused, or never sent: nothing was charged. Of the rest nobody knows.
        let lost = error.status().is_none()
            && error.kind() == ErrorKind::Connection
            && !error.is_retryable();
        self.outcome.unpriced = lost
            || matches!(
                error.kind(),
                ErrorKind::Timeout | ErrorKind::Interrupted | ErrorKind::Decode
            );
        if let Some(partial) = error.partial() {
            self.answered(partial);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Outcome {
            attempts,
            answered,
            tokens,
            usd,
            unpriced,
        } = self.outcome;
        let mut book = self.ledger.lock();
        let in_flight = if self.stream {
            &mut book.streams
        } else {
            &mut book.calls
        };
        *in_flight = in_flight.saturating_sub(1);
        let (prompt, completion) = tokens.unwrap_or_default();
        let spent = &mut book.spent;
        spent.attempts = spent.attempts.saturating_add(attempts);
        spent.prompt_tokens = spent.prompt_tokens.saturating_add(prompt);
        spent.completion_tokens = spent.completion_tokens.saturating_add(completion);
        spent.usd += usd.unwrap_or_default();
        spent.unpriced += u64::from(unpriced);
        book.uncounted += u64::from(answered && tokens.is_none());
        if tokens.is_some() {
            book.dearest.tokens = book
                .dearest
                .tokens
                .max(Some(prompt.saturating_add(completion)));
        }
        if let Some(usd) = usd {
            book.dearest.usd = Some(book.dearest.usd.map_or(usd, |dearest| dearest.max(usd)));
        }
        drop(book);
        self.ledger.0.settled.notify_all();
    }
}

// A count of calls is far below 2^53.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn to_f64(count: u64) -> f64 {
    count as f64
}
