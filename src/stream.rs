//! An answer that arrives piece by piece, and says honestly how it ended.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufReader, Write};
use std::iter::FusedIterator;
use std::sync::Arc;

use crate::accumulate::{Accumulator, Said};
use crate::call_pieces::TooMany;
use crate::cassette::Slot;
use crate::client::Tickets;
use crate::head::Head;
use crate::json::Json;
use crate::refusal;
use crate::sse::{Event, Events, Failure};
use crate::tape::{self, Answer};
use crate::template::Template;
use crate::transport::{BodyStream, Response, Transport};
use crate::{Chunk, Completion, Error, Result};

/// An answer as it arrives: an iterator of [`Chunk`]s, each handed over as soon as the server has sent it.
///
/// It is complete when the server said so, with `[DONE]` or with a finish reason for every choice. Whatever else ends
/// it is an error, and [`Error::partial`] has what came until then. After an error the iterator is at its end.
///
/// Dropping a stream closes its connection, so that the server stops generating, and charging.
///
/// [`write_to`](ChatStream::write_to) prints an answer as it arrives. To see each piece, iterate:
///
/// ```no_run
/// use aimlapi::{ChatRequest, GEMMA_2_27B_IT};
///
/// let client = aimlapi::Client::from_env()?;
/// let mut stream = client.stream(&ChatRequest::new(GEMMA_2_27B_IT, "Tell me a story."))?;
/// for chunk in &mut stream {
///     println!("{:?}", chunk?.text());
/// }
/// let reply = stream.finish()?;
/// println!("{:?}", reply.finish_reason());
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[must_use = "a stream is read by iterating over it, or with finish() or write_to(); dropping it ends the answer"]
pub struct ChatStream {
    /// `None` once the stream is over; its connection is then closed.
    events: Option<Events<BufReader<BodyStream>>>,
    begun: bool,
    answer: Accumulator,
    template: Template,
    /// A whole answer that came in place of a stream.
    whole: Option<Completion>,
    failed: bool,
    head: Head,
    transport: Arc<Transport>,
    /// Where the answer is to be recorded, and its events so far.
    recording: Option<(Slot, tape::Events)>,
    /// Where the answer was recorded.
    source: Option<Slot>,
    tickets: Option<Tickets>,
}

impl ChatStream {
    pub(crate) fn new(response: Response, transport: Arc<Transport>, several: bool) -> ChatStream {
        let limit = usize::try_from(transport.settings.max_response_bytes).unwrap_or(usize::MAX);
        let (head, body) = response.into_stream();
        let mut answer = Accumulator::new(several);
        answer.completion_mut().take_head(&head);
        let events = Some(Events::new(BufReader::new(body), limit));
        ChatStream {
            events,
            begun: false,
            template: Template::default(),
            answer,
            whole: None,
            failed: false,
            head,
            transport,
            recording: None,
            source: None,
            tickets: None,
        }
    }

    /// Records the answer once it is complete.
    pub(crate) fn recorded_in(mut self, slot: Option<Slot>) -> ChatStream {
        self.recording = slot.map(|slot| (slot, tape::Events::default()));
        self
    }

    /// Says where the answer was recorded.
    pub(crate) fn recorded_as(mut self, slot: Slot) -> ChatStream {
        self.source = Some(slot);
        self
    }

    /// Books what the answer takes.
    pub(crate) fn charged_to(mut self, tickets: Tickets) -> ChatStream {
        self.tickets = Some(tickets);
        self
    }

    /// Reads the stream to its end and returns the answer, whole.
    ///
    /// # Errors
    ///
    /// What ends the stream before it is complete: [`Interrupted`](crate::ErrorKind::Interrupted),
    /// [`Timeout`](crate::ErrorKind::Timeout), [`Api`](crate::ErrorKind::Api) or [`Decode`](crate::ErrorKind::Decode),
    /// each with the [`partial()`](Error::partial) answer. `Interrupted` too if the iterator has yielded an error
    /// before.
    pub fn finish(mut self) -> Result<Completion> {
        for chunk in &mut self {
            chunk?;
        }
        self.into_completion()
    }

    /// Writes the text as it arrives, flushing each piece, and returns the answer, whole. A `&mut` of a writer is one
    /// too.
    ///
    /// A reader that goes away (a broken pipe, as in `| head`) ends the stream and is no error: what has come is
    /// returned, with no finish reason unless that had come too. If writing fails otherwise, as on a full disk, the
    /// answer is still read to its end, and the error's [`partial()`](Error::partial) holds it whole.
    ///
    /// # Errors
    ///
    /// As [`finish`](ChatStream::finish); [`Interrupted`](crate::ErrorKind::Interrupted) too if writing fails.
    pub fn write_to(mut self, mut writer: impl Write) -> Result<Completion> {
        let mut failure = None;
        while let Some(chunk) = self.next() {
            let chunk = chunk?;
            if chunk.text().is_empty() || failure.is_some() {
                continue;
            }
            match writer
                .write_all(chunk.text().as_bytes())
                .and_then(|()| writer.flush())
            {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    self.events = None;
                    break;
                }
                Err(e) => failure = Some(e),
            }
        }
        match failure {
            None => self.into_completion(),
            Some(cause) => {
                let error =
                    Error::interrupted(format!("the answer came, but writing it failed: {cause}"));
                Err(self.fail(error.with_cause(cause)))
            }
        }
    }

    /// What has come so far; `None` before the first choice.
    pub fn partial(&self) -> Option<&Completion> {
        self.whole.as_ref().or_else(|| self.answer.partial())
    }

    fn into_completion(mut self) -> Result<Completion> {
        if self.failed || self.partial().is_none() {
            let error = Error::interrupted("the stream had failed before its end");
            return Err(self.fail(error));
        }
        Ok(self.whole.unwrap_or_else(|| self.answer.finish()))
    }

    /// The next event, or the honest end.
    fn advance(&mut self) -> Result<Option<Chunk>> {
        while let Some(events) = &mut self.events {
            if !std::mem::replace(&mut self.begun, true) {
                match looks_like_events(events, self.head.is_event_stream) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(cause) => return Err(self.transport.read_failed(cause)),
                }
            }
            let step = match events.next() {
                Ok(Some(event)) => read(
                    &mut self.answer,
                    &mut self.template,
                    self.head.status,
                    &event,
                )?,
                Ok(None) => self.end(None)?,
                Err(Failure::Io(cause)) => self.end(Some(cause))?,
                Err(Failure::TooLong) => {
                    let limit = self.transport.settings.max_response_bytes;
                    return Err(Error::too_large(limit, "one event of the stream"));
                }
            };
            match step {
                Step::Chunk(chunk) => {
                    if let Some((_, events)) = &mut self.recording {
                        events.push(&chunk.raw);
                    }
                    return Ok(Some(chunk));
                }
                Step::Nothing => {}
                Step::End => self.complete(),
            }
        }
        // What is left is no stream.
        let body = self.events.take().map(Events::into_reader);
        body.map(|body| self.take_whole(body)).transpose()
    }

    /// The server has said that the answer is whole.
    fn complete(&mut self) {
        // At once: a server may hold the connection open for long.
        self.events = None;
        self.answer.flush();
        let completion = self.answer.completion_mut();
        if let Some(mut tickets) = self.tickets.take() {
            tickets.answered(completion);
        }
        if let Some((slot, events)) = self.recording.take() {
            completion.unrecorded = slot.keep(
                &self.head,
                &Answer::Events(&events),
                &self.transport.secrets,
            );
        }
    }

    /// What the end of the input means.
    fn end(&self, cause: Option<io::Error>) -> Result<Step> {
        match cause {
            _ if self.answer.is_finished() => Ok(Step::End),
            Some(cause) => Err(self.transport.read_failed(cause)),
            None if self.answer.partial().is_none() => {
                Err(Error::interrupted("the stream ended without an answer"))
            }
            None => Err(Error::interrupted("the stream ended before the answer did")),
        }
    }

    /// A whole answer, or an error, that came in place of a stream: it is the only chunk.
    fn take_whole(&mut self, mut body: BufReader<BodyStream>) -> Result<Chunk> {
        body.get_mut().bound();
        let text = self.transport.whole(&mut body, 0)?;
        let mut completion = Completion::decode(self.head.status, text)?;
        completion.take_head(&self.head);
        let said = Said {
            text: completion.text().to_owned(),
            reasoning: completion.reasoning().unwrap_or_default().to_owned(),
            finish_reason: completion.finish_reason().cloned(),
            usage: completion.usage().copied(),
            ..Said::default()
        };
        let raw = completion.raw().unwrap_or_default().to_owned();
        if let Some(mut tickets) = self.tickets.take() {
            tickets.answered(&completion);
        }
        if let Some((slot, _)) = self.recording.take() {
            completion.unrecorded =
                slot.keep(&self.head, &Answer::Body(&raw), &self.transport.secrets);
        }
        self.whole = Some(completion);
        Ok(Chunk {
            raw,
            text: None,
            said,
        })
    }

    /// Ends the stream with this error, and gives it what is known besides.
    fn fail(&mut self, error: Error) -> Error {
        self.events = None;
        self.failed = true;
        self.answer.flush();
        let Head {
            status, attempts, ..
        } = self.head;
        let error = match &self.source {
            Some(slot) => slot.damaged(&error),
            None => error,
        };
        let error = error
            .with_status(status)
            .with_request_id(&self.head)
            .with_attempts(attempts);
        let error = match self.partial() {
            Some(partial) => error.with_partial(Some(partial.clone())),
            None => error,
        };
        let error = self.transport.redact(error);
        if let Some(mut tickets) = self.tickets.take() {
            tickets.failed(&error);
        }
        error
    }
}

impl Iterator for ChatStream {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        match self.advance() {
            Ok(chunk) => chunk.map(Ok),
            Err(error) => Some(Err(self.fail(error))),
        }
    }
}

impl FusedIterator for ChatStream {}

impl fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatStream")
            .field("is_over", &self.events.is_none())
            .field("failed", &self.failed)
            .field("partial", &self.partial())
            .finish_non_exhaustive()
    }
}

enum Step {
    Chunk(Chunk),
    /// An event that says nothing.
    Nothing,
    End,
}

/// Takes one event. One that is cut off, at the end of the input, counts only if it can be read.
fn read(
    answer: &mut Accumulator,
    template: &mut Template,
    status: u16,
    event: &Event<'_>,
) -> Result<Step> {
    // The lossy reading would do, more slowly.
    let text = match std::str::from_utf8(event.data) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(event.data),
    };
    let known = template.find(&text).filter(|_| event.name.is_empty());
    if let Some(addition) = known.as_ref().filter(|addition| addition.is_plain) {
        let said = text.get(addition.text.clone()).unwrap_or_default();
        if let Some(speaks) = answer.add_text(addition.choice, said) {
            return Ok(Step::Chunk(Chunk {
                raw: text.into_owned(),
                text: speaks.then(|| addition.text.clone()),
                said: Said::default(),
            }));
        }
    }
    if text.trim() == "[DONE]" {
        return match answer.partial() {
            Some(_) => Ok(Step::End),
            None => Err(Error::undecodable(
                "the stream is complete and holds no answer",
                "",
            )),
        };
    }
    if event.name == b"error" {
        return Err(Error::reported(status, &text));
    }
    if text.trim().is_empty() {
        return Ok(Step::Nothing);
    }
    let json = match Json::read(&text) {
        Ok(json) if json.root().is_object() => json,
        _ if !event.whole => return Ok(Step::Nothing),
        read => {
            let error = Error::undecodable("an event of the stream is no chat completion", &text);
            return Err(match read {
                Ok(_) => error.with_cause("the event is JSON, but no object"),
                Err(cause) => error.with_cause(cause),
            });
        }
    };
    let root = json.root();
    let said = answer.add(&json).map_err(|TooMany| {
        Error::undecodable(
            "the stream has more choices or tool calls than any answer",
            &text,
        )
    })?;
    if said.failed || (!said.has_choices && refusal::is_error(root)) {
        return Err(Error::reported(status, &text));
    }
    if known.is_none() {
        template.learn(&text, root);
    }
    drop(json);
    Ok(Step::Chunk(Chunk {
        raw: text.into_owned(),
        text: None,
        said,
    }))
}

/// Whether the body is a stream of events, by its first bytes: some servers answer a request for a stream with one
/// piece of JSON, and some send either under the wrong name.
fn looks_like_events(
    events: &mut Events<BufReader<BodyStream>>,
    named_so: bool,
) -> io::Result<bool> {
    const STARTS: [&[u8]; 6] = [b":", b"data", b"event", b"id", b"retry", b"\xef\xbb\xbf"];
    let start = events.peek()?.trim_ascii_start();
    let begins = |field: &[u8]| {
        let shared = field.len().min(start.len());
        shared > 0 && start.get(..shared) == field.get(..shared)
    };
    Ok(match start.first() {
        // Of gzip too, as it was not asked for.
        Some(b'{' | b'[' | b'<' | 0x1f) => false,
        _ => named_so || STARTS.into_iter().any(begins),
    })
}
