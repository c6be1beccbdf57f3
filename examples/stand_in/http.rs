//! As much of HTTP/1.1 as a client on this machine needs; nothing here knows about chat.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const MAX_HEAD: u64 = 64 << 10;
const MAX_BODY: u64 = 64 << 20;

/// The time between two events of a stream, long enough for eyes to see that it is one.
const PACE: Duration = Duration::from_millis(25);

pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
    headers: HashMap<String, String>,
}

impl Request {
    /// The next request on a connection, `None` at its end. The error for what is no HTTP, or too
    /// much of it, is `InvalidData`.
    pub(super) fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);

        let mut lines = input.by_ref().take(MAX_HEAD).lines();
        let Some(line) = lines.next().transpose()? else {
            return Ok(None);
        };
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version @ ("HTTP/1.0" | "HTTP/1.1")), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(invalid("not an HTTP request"));
        };

        let mut headers = HashMap::new();
        loop {
            let line = lines
                .next()
                .ok_or_else(|| invalid("a head without an end"))??;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid("not a header"))?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }

        if headers.contains_key("transfer-encoding") {
            return Err(invalid("a body without Content-Length"));
        }
        let length = headers.get("content-length").map_or("0", String::as_str);
        let length = length.parse().ok().filter(|&length| length <= MAX_BODY);
        let length = length.ok_or_else(|| invalid("a wrong or too large Content-Length"))?;
        let mut body = Vec::new();
        if io::copy(&mut input.take(length), &mut body)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }

        let close = headers
            .get("connection")
            .is_some_and(|it| it.eq_ignore_ascii_case("close"));
        Ok(Some(Self {
            method: method.to_owned(),
            path: target.split('?').next().unwrap_or(target).to_owned(),
            keep_alive: version == "HTTP/1.1" && !close,
            headers,
            body,
        }))
    }

    /// A header's value, by lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(super) struct Reply {
    head: String,
    /// Each leaves at once, on its own.
    parts: Vec<String>,
    cut: bool,
}

impl Reply {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        let json = value.to_string();
        let length = json.len();
        let framing = format!("content-type: application/json\r\ncontent-length: {length}");
        Self {
            head: format!("HTTP/1.1 {status} \r\n{framing}\r\n"),
            parts: vec![json],
            cut: false,
        }
    }

    /// A stream of events with the `[DONE]` that ends it.
    pub(super) fn events(events: &[Value]) -> Self {
        let chunk = |event: String| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8);
        let mut parts: Vec<_> = events
            .iter()
            .map(|event| chunk(event.to_string()))
            .collect();
        parts.push(chunk("[DONE]".to_owned()) + "0\r\n\r\n");
        let framing = "content-type: text/event-stream\r\ntransfer-encoding: chunked";
        Self {
            head: format!("HTTP/1.1 200 \r\n{framing}\r\n"),
            parts,
            cut: false,
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    /// Only the first half, as if the server had died over it.
    pub(super) fn cut(mut self) -> Self {
        self.parts.truncate(self.parts.len() / 2);
        self.cut = true;
        self
    }

    /// Whether the connection has to be closed after it: the other side waits for more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn write(&self, keep_alive: bool, mut out: impl Write) -> io::Result<()> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!("{}connection: {connection}\r\n\r\n", self.head);
        out.write_all(head.as_bytes())?;
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                thread::sleep(PACE);
            }
            out.write_all(part.as_bytes())?;
        }
        Ok(())
    }
}
