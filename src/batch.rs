//! Many requests: answered in order, by a bounded number of threads, at a pace that the server sets.

use std::any::Any;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::{ChatRequest, Client, Completion, Error, ErrorKind, Result, Spent};

/// How many requests may be taken from the input beyond the answer that is handed over next, for each thread. More let
/// the others go on while one answer takes long.
const AHEAD: usize = 4;

/// The answers to many requests, in the order of the requests: an iterator that [`Client::send_all`] makes.
///
/// A request is taken from the input when a thread is free for it, and never more than four times
/// [`concurrency`](Batch::concurrency) beyond the answer that is handed over next: a million of them run in the memory
/// of a few, and an input may wait for something, even for an answer. It is read by one thread at a time. If it panics,
/// so does the thread that iterates, after the answers to what came before.
///
/// ```no_run
/// use aimlapi::{Cassette, ChatRequest, Client, GEMMA_2_27B_IT};
///
/// let client = Client::builder().cassette(Cassette::auto("labels")).build()?;
/// let rows = ["I love it.", "Never again.", "It works."];
/// let ask = |row| ChatRequest::new(GEMMA_2_27B_IT, format!("Positive or negative? {row}"));
/// for (row, reply) in rows.iter().zip(client.send_all(rows.map(ask)).concurrency(4)) {
///     match reply {
///         Ok(reply) => println!("{row}\t{}", reply.text()),
///         Err(error) => eprintln!("{row}: {error}"),
///     }
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
///
/// # Errors
///
/// An error stays in its place and does not end the work, but for those that all the rest would meet as well: a key
/// that is refused (401), an account without credit (402, 403 or 429 that say so), a [`Budget`](crate::Budget) that is
/// used up, a server that wants to be left alone for longer than a whole call may take. After such an error no further
/// request is sent: what was in flight is still answered, what a thread had taken up and not sent yet is
/// [`Interrupted`](crate::ErrorKind::Interrupted), each in its place, and then the iterator is at its end.
///
/// # Pace
///
/// When the server says that it is too much (429), all threads wait, as long as it asks for, or by the
/// [`RetryPolicy`](crate::RetryPolicy)'s pause. Such a refusal is no failure of the request: it is sent again until the
/// client's [`timeout`](crate::ClientBuilder::timeout) has passed, unless retries are off. The time before it is sent
/// for the first time does not count.
///
/// # When it ends early
///
/// With [`Cassette::auto`](crate::Cassette::auto), work that was interrupted continues where it stopped, even if a
/// signal left it no time for anything: at most the requests that were in flight are sent once more. Dropping a
/// batch ends it: no further request is sent, and what is in flight is not waited for.
#[must_use = "a batch sends nothing until it is iterated over"]
pub struct Batch<I> {
    client: Client,
    /// Until the threads have it.
    input: Option<Input>,
    concurrency: usize,
    observer: Option<Observer>,
    /// The answers that have come before their turn, with their numbers: no more than are taken ahead.
    answers: Vec<(u64, Result<Completion>)>,
    /// The number of the answer that is handed over next.
    next: u64,
    progress: Progress,
    started: Option<Instant>,
    before: Spent,
    work: Arc<Work>,
    /// The input's own type matters to nobody but the reader of a signature.
    kind: PhantomData<I>,
}

type Input = Box<dyn Iterator<Item = ChatRequest> + Send>;

type Observer = Box<dyn FnMut(&Progress) + Send>;

/// How far a [`Batch`] is, as [`Batch::on_progress`] hands it over.
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
    /// Locked while its own code runs, which may take its time; never locked after the state.
    input: Mutex<Option<Input>>,
    state: Mutex<State>,
    /// An answer has come, or none will.
    answered: Condvar,
    /// An answer was handed over, or nothing more shall be sent.
    room: Condvar,
    pace: Pace,
}

#[derive(Default)]
struct State {
    answers: Vec<(u64, Result<Completion>)>,
    /// How many requests were taken from the input: each of these will have an answer.
    taken: u64,
    /// How many answers were handed over.
    handed_over: u64,
    /// Requests taken and not answered yet.
    in_flight: u64,
    /// No more requests will be taken.
    ended: bool,
    /// What the input said as it panicked.
    panic: Option<Box<dyn Any + Send>>,
}

impl<I> Batch<I> {
    pub(crate) fn new(client: Client, input: I) -> Batch<I>
    where
        I: Iterator<Item = ChatRequest> + Send + 'static,
    {
        Batch {
            before: client.spent(),
            client,
            input: Some(Box::new(input)),
            concurrency: 8,
            observer: None,
            answers: Vec::new(),
            next: 0,
            progress: Progress::default(),
            started: None,
            work: Arc::default(),
            kind: PhantomData,
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
    /// let replies = client
    ///     .send_all(requests)
    ///     .on_progress(|progress| eprint!("\r{} done", progress.done));
    /// # drop(replies);
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Batch<I> {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Gives the input to threads of its own.
    fn start(&mut self, input: Input) -> Result<()> {
        let (least, most) = input.size_hint();
        let total = Some(least).filter(|_| most == Some(least));
        self.progress.total = total.and_then(|total| total.try_into().ok());
        self.started = Some(Instant::now());
        *self.work.input() = Some(input);
        let bound = self.concurrency.saturating_mul(AHEAD);
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        // One at least, to find the end of an input that has nothing.
        let threads = self.concurrency.min(most.unwrap_or(usize::MAX)).max(1);
        for number in 0..threads {
            let (work, client) = (Arc::clone(&self.work), self.client.clone());
            let thread = thread::Builder::new().name("aimlapi-batch".to_owned());
            match thread.spawn(move || work.run(&client, bound)) {
                Ok(_) => {}
                Err(e) if number == 0 => {
                    self.work.stop();
                    return Err(Error::input(format!("the system gives no thread: {e}")));
                }
                Err(e) => {
                    log::warn!("a batch has {number} threads and gets no more: {e}");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes the answers that have come.
    fn collect(&mut self) {
        let mut state = self.work.lock();
        let answers = std::mem::take(&mut state.answers);
        self.progress.in_flight = state.in_flight;
        drop(state);
        // All of them before the first report: an observer that panics must not lose any.
        let outcomes: Vec<bool> = answers.iter().map(|(_, answer)| answer.is_err()).collect();
        self.answers.extend(answers);
        for failed in outcomes {
            self.progress.done += 1;
            self.progress.failed += u64::from(failed);
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

impl<I> Iterator for Batch<I> {
    type Item = Result<Completion>;

    fn next(&mut self) -> Option<Result<Completion>> {
        if let Some(input) = self.input.take() {
            if let Err(error) = self.start(input) {
                return Some(Err(error));
            }
        }
        loop {
            self.collect();
            let is_next = |(number, _): &(u64, _)| *number == self.next;
            if let Some(at) = self.answers.iter().position(is_next) {
                let (_, answer) = self.answers.swap_remove(at);
                self.next += 1;
                self.work.hand_over();
                return Some(answer);
            }
            if !self.work.wait_for_answer() {
                return None;
            }
        }
    }
}

// At its end all that was taken is handed over, and nothing more will be taken.
impl<I> FusedIterator for Batch<I> {}

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

    fn input(&self) -> MutexGuard<'_, Option<Input>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an answer has come; false if none will.
    fn wait_for_answer(&self) -> bool {
        let mut state = self.lock();
        while state.answers.is_empty() {
            if state.ended && state.handed_over == state.taken {
                if let Some(panic) = state.panic.take() {
                    drop(state);
                    panic::resume_unwind(panic);
                }
                return false;
            }
            state = self
                .answered
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn hand_over(&self) {
        self.lock().handed_over += 1;
        self.room.notify_one();
    }

    /// Takes nothing more, sends nothing more, and ends the threads after what they are at.
    fn stop(&self) {
        self.lock().ended = true;
        self.pace.stop();
        self.answered.notify_one();
        self.room.notify_all();
    }

    /// One thread's work.
    fn run(&self, client: &Client, bound: u64) {
        while let Some((number, request)) = self.take(bound) {
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

    /// The next request and its number; `None` at the end.
    fn take(&self, bound: u64) -> Option<(u64, ChatRequest)> {
        // Held until the request has its number, so that the numbers are in the order of the input.
        let mut input = self.input();
        let mut state = self.lock();
        while !state.ended && state.taken - state.handed_over >= bound {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let ended = state.ended;
        drop(state);
        let next = || input.as_mut().filter(|_| !ended)?.next();
        let next = panic::catch_unwind(AssertUnwindSafe(next));
        let mut state = self.lock();
        match next {
            Ok(Some(request)) if !state.ended => {
                let number = state.taken;
                state.taken += 1;
                state.in_flight += 1;
                return Some((number, request));
            }
            Ok(_) => {}
            Err(panic) => state.panic = Some(panic),
        }
        state.ended = true;
        drop(state);
        self.answered.notify_one();
        *input = None;
        None
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
