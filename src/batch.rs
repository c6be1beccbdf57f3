//! Many requests: answered in order, by a bounded number of threads, at a pace that the server sets.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::{ChatRequest, Client, Completion, Error, ErrorKind, Result, Spent};

/// How many requests are taken from the input ahead of the answer that is handed over next, for each thread. More let
/// the others go on while one answer takes long.
const AHEAD: usize = 4;

/// The answers to many requests, in the order of the requests: an iterator that [`Client::send_all`] makes.
///
/// Requests are taken from the input as they are needed, at most four times [`concurrency`](Batch::concurrency) beyond
/// the answer that is handed over next, so that a million of them run in the memory of a few. The input is read by the
/// thread that iterates.
///
/// An error stays in its place and does not end the work, but for those that all the rest would meet as well: a key
/// that is refused (401), an account without credit (402, 403 or 429 that say so), a [`Budget`](crate::Budget) that is
/// used up, a server that wants to be left alone for longer than a whole call may take. After such an error no further
/// request is sent: what was in flight is still answered, what a thread had taken up and not sent yet is
/// [`Interrupted`](crate::ErrorKind::Interrupted), each in its place, and then the iterator is at its end.
///
/// When the server says that it is too much (429), all threads wait, as long as it asks for, or by the
/// [`RetryPolicy`](crate::RetryPolicy)'s pause. Such a refusal is no failure of the request: it is sent again until the
/// client's [`timeout`](crate::ClientBuilder::timeout) has passed, unless retries are off. The time before it is sent
/// for the first time does not count.
///
/// With [`Cassette::auto`](crate::Cassette::auto), work that was interrupted continues where it stopped, be it by a
/// signal that leaves no time for anything: at most the requests that were in flight are sent once more. Dropping a
/// batch ends it: no further request is sent, and what is in flight is not waited for.
///
/// ```no_run
/// use aimlapi::{Cassette, ChatRequest, Client, GEMMA_2_27B_IT};
///
/// let client = Client::builder().cassette(Cassette::auto("labels")).build()?;
/// let rows = ["I love it.", "Never again.", "It works."];
/// let requests = rows.map(|row| ChatRequest::new(GEMMA_2_27B_IT, format!("Positive or negative? {row}")).max_tokens(5));
/// for (row, reply) in rows.iter().zip(client.send_all(requests).concurrency(4)) {
///     match reply {
///         Ok(reply) => println!("{row}\t{}", reply.text()),
///         Err(error) => eprintln!("{row}: {error}"),
///     }
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[must_use = "a batch sends nothing until it is iterated over"]
pub struct Batch<I> {
    client: Client,
    input: Option<I>,
    concurrency: usize,
    observer: Option<Observer>,
    /// The answers that have come and those that are waited for, the next one to be handed over first.
    answers: VecDeque<Option<Result<Completion>>>,
    /// How many were handed over: the number of the first of `answers`.
    handed_over: u64,
    progress: Progress,
    started: Option<Instant>,
    before: Spent,
    work: Arc<Work>,
    threads: usize,
}

type Observer = Box<dyn FnMut(&Progress) + Send>;

/// How far a batch is. [`Batch::on_progress`] hands it over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that have an answer or an error.
    pub done: u64,
    /// Those of them that have an error.
    pub failed: u64,
    /// Requests that are being worked on.
    pub in_flight: u64,
    /// How many requests there are in all, where the input knows.
    pub total: Option<u64>,
    /// What the client has spent since the batch began; other calls of the same client count too.
    pub spent: Spent,
    /// The time since the batch began.
    pub elapsed: Duration,
    /// The time that the rest will take at the rate so far, where the total is known.
    pub left: Option<Duration>,
}

impl Progress {
    /// Requests done in a second, on average since the batch began.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            to_f64(self.done) / seconds
        } else {
            0.0
        }
    }
}

/// What the threads of a batch share.
#[derive(Default)]
struct Work {
    state: Mutex<State>,
    /// Requests have come, or the end.
    more: Condvar,
    /// An answer has come.
    answered: Condvar,
    pace: Pace,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, ChatRequest)>,
    answers: Vec<(u64, Result<Completion>)>,
    /// How many requests threads have taken: each of these will have an answer.
    taken: u64,
    /// Requests taken by a thread and not answered yet.
    in_flight: u64,
    /// No more requests will come.
    ended: bool,
    /// None shall be sent either.
    stopped: bool,
}

impl<I: Iterator<Item = ChatRequest>> Batch<I> {
    pub(crate) fn new(client: Client, input: I) -> Batch<I> {
        Batch {
            before: client.spent(),
            client,
            input: Some(input),
            concurrency: 8,
            observer: None,
            answers: VecDeque::new(),
            handed_over: 0,
            progress: Progress::default(),
            started: None,
            work: Arc::default(),
            threads: 0,
        }
    }

    /// How many requests are in flight at once, each on a thread of its own. At least 1. Default: 8. With more than 16,
    /// raise [`max_connections`](crate::ClientBuilder::max_connections) too, so that connections are used again.
    pub fn concurrency(mut self, requests: usize) -> Batch<I> {
        self.concurrency = requests.max(1);
        self
    }

    /// Calls this with every answer that comes, on the thread that iterates.
    ///
    /// ```no_run
    /// # let client = aimlapi::Client::from_env()?;
    /// # let requests: Vec<aimlapi::ChatRequest> = Vec::new();
    /// let replies = client.send_all(requests).on_progress(|progress| eprint!("\r{} done", progress.done));
    /// # drop(replies);
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Batch<I> {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Takes requests from the input, up to the bound, and gives them to the threads.
    fn feed(&mut self) -> Result<()> {
        let bound = self.concurrency.saturating_mul(AHEAD);
        while let Some(input) = self.input.as_mut().filter(|_| self.answers.len() < bound) {
            // The input's own code, which may take its time: no lock is held.
            let request = input.next();
            let mut state = self.work.lock();
            let Some(request) = request.filter(|_| !state.stopped) else {
                self.input = None;
                state.ended = true;
                self.work.more.notify_all();
                break;
            };
            let place = u64::try_from(self.answers.len()).unwrap_or(u64::MAX);
            let number = self.handed_over.saturating_add(place);
            self.answers.push_back(None);
            state.waiting.push_back((number, request));
            drop(state);
            self.work.more.notify_one();
            if self.threads < self.concurrency {
                self.start_thread()?;
            }
        }
        Ok(())
    }

    fn start_thread(&mut self) -> Result<()> {
        let (work, client) = (Arc::clone(&self.work), self.client.clone());
        let thread = thread::Builder::new()
            .name("aimlapi-batch".to_owned())
            .spawn(move || work.run(&client));
        match thread {
            Ok(_) => self.threads += 1,
            // Fewer will do.
            Err(e) if self.threads > 0 => {
                log::warn!("a batch has {} threads and gets no more: {e}", self.threads);
                self.concurrency = self.threads;
            }
            Err(e) => return Err(Error::input(format!("the system gives no thread: {e}"))),
        }
        Ok(())
    }

    /// Puts the answers that have come into their places.
    fn collect(&mut self) {
        let mut state = self.work.lock();
        let answers = std::mem::take(&mut state.answers);
        let (in_flight, taken, stopped) = (state.in_flight, state.taken, state.stopped);
        drop(state);
        if stopped {
            // What was not taken has no place among the answers.
            self.input = None;
            let to_come = taken.saturating_sub(self.handed_over);
            self.answers
                .truncate(usize::try_from(to_come).unwrap_or(usize::MAX));
        }
        // All of them before the first report: an observer that panics must not lose any.
        let mut outcomes = Vec::new();
        for (number, answer) in answers {
            outcomes.push(answer.is_err());
            let place = usize::try_from(number.saturating_sub(self.handed_over)).ok();
            if let Some(slot) = place.and_then(|place| self.answers.get_mut(place)) {
                *slot = Some(answer);
            }
        }
        for failed in outcomes {
            self.progress.done += 1;
            self.progress.failed += u64::from(failed);
            self.progress.in_flight = in_flight;
            self.report();
        }
    }

    fn report(&mut self) {
        let Some(observer) = &mut self.observer else {
            return;
        };
        let progress = &mut self.progress;
        progress.elapsed = self
            .started
            .map(|started| started.elapsed())
            .unwrap_or_default();
        progress.spent = self.client.spent().since(&self.before);
        progress.left = progress.total.filter(|_| progress.done > 0).map(|total| {
            let share = to_f64(total.saturating_sub(progress.done)) / to_f64(progress.done);
            Duration::try_from_secs_f64(progress.elapsed.as_secs_f64() * share)
                .unwrap_or(Duration::MAX)
        });
        observer(progress);
    }
}

impl<I: Iterator<Item = ChatRequest>> Iterator for Batch<I> {
    type Item = Result<Completion>;

    fn next(&mut self) -> Option<Result<Completion>> {
        if self.started.is_none() {
            self.started = Some(Instant::now());
            let hint = self.input.as_ref().map(Iterator::size_hint);
            let exact = hint.filter(|(least, most)| Some(*least) == *most);
            self.progress.total = exact.and_then(|(total, _)| total.try_into().ok());
        }
        loop {
            if let Err(error) = self.feed() {
                self.work.stop();
                return Some(Err(error));
            }
            self.collect();
            match self.answers.front_mut() {
                None if self.input.is_none() => return None,
                None => {}
                Some(slot) => {
                    if let Some(answer) = slot.take() {
                        self.answers.pop_front();
                        self.handed_over += 1;
                        return Some(answer);
                    }
                    self.work.wait_for_answer();
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self
            .input
            .as_ref()
            .map_or(Some(0), |input| input.size_hint().1);
        (
            0,
            most.and_then(|most| most.checked_add(self.answers.len())),
        )
    }
}

// At its end there is neither input nor an answer, and none will come.
impl<I: Iterator<Item = ChatRequest>> FusedIterator for Batch<I> {}

impl<I> Drop for Batch<I> {
    fn drop(&mut self) {
        self.work.stop();
    }
}

impl<I> fmt::Debug for Batch<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("concurrency", &self.concurrency)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread's work.
    fn run(&self, client: &Client) {
        while let Some((number, request)) = self.take() {
            let send = || client.send_at(&request, Some(&self.pace));
            // Whoever waits for the answer must get one, whatever a logger or an allocator does.
            let answer = panic::catch_unwind(AssertUnwindSafe(send));
            let answer =
                answer.unwrap_or_else(|_| Err(Error::interrupted("the request's thread panicked")));
            if answer.as_ref().is_err_and(|e| meets_all(e, client)) {
                self.stop();
            }
            let mut state = self.lock();
            state.in_flight -= 1;
            state.answers.push((number, answer));
            self.answered.notify_one();
        }
    }

    /// The next request; `None` at the end.
    fn take(&self) -> Option<(u64, ChatRequest)> {
        let mut state = self.lock();
        loop {
            if let Some(next) = state.waiting.pop_front() {
                state.taken += 1;
                state.in_flight += 1;
                return Some(next);
            }
            if state.ended {
                return None;
            }
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_answer(&self) {
        let mut state = self.lock();
        while state.answers.is_empty() {
            state = self
                .answered
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends nothing more, and ends the threads after what they are at.
    fn stop(&self) {
        let mut state = self.lock();
        (state.ended, state.stopped) = (true, true);
        state.waiting.clear();
        drop(state);
        self.pace.stop();
        self.more.notify_all();
    }
}

/// Whether the requests that follow would fail in the same way.
fn meets_all(error: &Error, client: &Client) -> bool {
    let asks_for_too_long = || {
        let asked = error.retry_after().unwrap_or_default();
        error.status() == Some(429) && asked >= client.timeout()
    };
    error.kind() == ErrorKind::Budget || error.is_of_account() || asks_for_too_long()
}

// A count of requests is far below 2^53.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn to_f64(count: u64) -> f64 {
    count as f64
}
