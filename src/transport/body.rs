//! The body of a response: as it arrives, or as a whole, bounded in bytes and in time.

use std::fmt;
use std::io::{self, Read};
use std::time::Instant;

use ureq::{Body, BodyReader};

use super::Transport;
use crate::head::Head;
use crate::{Error, Result};

/// A response with a 2xx status whose body is still to be read.
pub(crate) struct Response {
    pub(crate) head: Head,
    body: BodyStream,
    /// As the head says it.
    length: u64,
}

impl Response {
    pub(super) fn received(head: Head, body: Body, deadline: Instant) -> Response {
        let length = body.content_length().unwrap_or(0);
        let source = Source::Network(body.into_reader());
        Response::new(head, source, length, deadline)
    }

    pub(super) fn recorded(head: Head, body: Vec<u8>, deadline: Instant) -> Response {
        let source = Source::Recording(io::Cursor::new(body));
        Response::new(head, source, 0, deadline)
    }

    fn new(head: Head, source: Source, length: u64, deadline: Instant) -> Response {
        let body = BodyStream {
            source,
            deadline,
            is_bounded: false,
        };
        Response { head, body, length }
    }

    /// Reads a whole answer.
    pub(crate) fn text(self, transport: &Transport) -> Result<(Head, String)> {
        // Room for a whole answer at once, but no more than is usual on a stranger's word.
        let room = self.length.min(64 << 10);
        let (head, mut body) = self.into_stream();
        body.bound();
        match transport.whole(&mut body, room) {
            Ok(text) => Ok((head, text)),
            Err(error) => {
                let error = error
                    .with_status(head.status)
                    .with_request_id(&head)
                    .with_attempts(head.attempts);
                Err(transport.redact(error))
            }
        }
    }

    /// The body of a stream, as it arrives.
    pub(crate) fn into_stream(self) -> (Head, BodyStream) {
        (self.head, self.body)
    }

    /// As much as `limit` permits of an error's body.
    pub(super) fn start(self, limit: u64) -> String {
        let (mut body, mut bytes) = (self.body, Vec::new());
        body.bound();
        let reader: &mut dyn Read = &mut body;
        if let Err(cause) = reader.take(limit).read_to_end(&mut bytes) {
            log::debug!("the body of the error was not read to its end: {cause}");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Transport {
    /// Reads what remains of a body, bounded in bytes.
    pub(crate) fn whole(&self, body: &mut dyn Read, room: u64) -> Result<String> {
        let limit = self.settings.max_response_bytes;
        // A little more, for std to see the end without growing.
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0) + 64);
        let read = body.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        let too_large = u64::try_from(bytes.len()).is_ok_and(|length| length > limit);
        let mut text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        };
        // A few servers begin with a byte order mark, which JSON has no place for.
        if text.starts_with('\u{feff}') {
            text.remove(0);
        }
        match read {
            Err(cause) => Err(self.read_failed(cause).with_body(text)),
            Ok(_) if too_large => Err(Error::too_large(limit, "the answer").with_body(text)),
            Ok(_) => Ok(text),
        }
    }
}

/// Where a body comes from.
enum Source {
    Network(BodyReader<'static>),
    Recording(io::Cursor<Vec<u8>>),
}

/// A response's body as it arrives. Dropping it closes the connection, unless it was read to its end.
pub(crate) struct BodyStream {
    source: Source,
    /// Of the call.
    deadline: Instant,
    is_bounded: bool,
}

impl BodyStream {
    /// From now on the deadline of the call holds, which a trickle of bytes cannot put off. A stream has none.
    pub(crate) fn bound(&mut self) {
        self.is_bounded = true;
    }
}

impl Read for BodyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_bounded && Instant::now() >= self.deadline {
            return Err(io::Error::other(Expired));
        }
        match &mut self.source {
            Source::Network(reader) => reader.read(buffer),
            Source::Recording(bytes) => bytes.read(buffer),
        }
    }
}

/// The deadline of a body that is read as a whole has passed.
#[derive(Debug)]
pub(super) struct Expired;

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Expired {}
