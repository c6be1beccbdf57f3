//! Server-sent events: bytes to events, by the rules of the WHATWG. Knows neither HTTP nor what the events mean.
//!
//! Lines end in LF, CR or CRLF; a byte order mark at the start is dropped; comments and the fields `id` and `retry` are
//! passed over; several `data` lines are joined by LF; a blank line completes an event. An event is handed over as soon
//! as the first byte of that blank line's end is there.

use std::io::{self, BufRead};

use crate::bytes::find_either_far;

/// One event: its name, and its data as it came.
#[derive(Debug, PartialEq)]
pub(crate) struct Event<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: &'a [u8],
    /// False for the last one, if the input ended before its blank line: it may be cut off.
    pub(crate) whole: bool,
}

#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    /// A line or an event is longer than the limit.
    TooLong,
}

pub(crate) struct Events<R> {
    reader: R,
    limit: usize,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
    /// The last line ended in CR, so that an LF would belong to it.
    after_cr: bool,
    event: Fields,
    /// The event has been handed over, and makes room for the next one.
    handed_over: bool,
    /// How the input ended, to be told after its last event. Reading once more might mean to wait once more.
    end: Option<Result<(), Failure>>,
}

/// What the lines of an event have said so far.
#[derive(Default)]
struct Fields {
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// A line has ended, so that a byte order mark would be none.
    begun: bool,
}

impl<R: BufRead> Events<R> {
    /// `limit` bounds one event, in bytes; a stream as a whole has no bound.
    pub(crate) fn new(reader: R, limit: usize) -> Events<R> {
        Events {
            reader,
            limit,
            line: Vec::new(),
            after_cr: false,
            event: Fields::default(),
            handed_over: false,
            end: None,
        }
    }

    /// The next event; `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        if let Some(end) = self.end.take() {
            return end.map(|()| None);
        }
        if std::mem::take(&mut self.handed_over) {
            self.event.clear();
        }
        let end = loop {
            let buffer = match self.reader.fill_buf() {
                Ok([]) => break Ok(()),
                Ok(buffer) => buffer,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => break Err(Failure::Io(e)),
            };
            if std::mem::take(&mut self.after_cr) && buffer.first() == Some(&b'\n') {
                self.reader.consume(1);
                continue;
            }
            let Some(end) = find_either_far(buffer, b'\n', b'\r') else {
                // Of a comment, however long, nothing needs to be kept but that it is one.
                if self.line.first().or(buffer.first()) == Some(&b':') {
                    self.line.clear();
                    self.line.push(b':');
                } else {
                    self.line.extend_from_slice(buffer);
                }
                let length = buffer.len();
                self.reader.consume(length);
                if self.line.len() > self.limit {
                    return Err(Failure::TooLong);
                }
                continue;
            };
            let (line, rest) = buffer.split_at(end);
            let complete = if self.line.is_empty() {
                self.event.take(line)
            } else {
                self.line.extend_from_slice(line);
                self.event.take(&self.line)
            };
            self.line.clear();
            self.after_cr = rest == b"\r";
            let used = end + if rest.starts_with(b"\r\n") { 2 } else { 1 };
            self.reader.consume(used);
            if self.event.data.len() > self.limit {
                return Err(Failure::TooLong);
            }
            if complete {
                return Ok(Some(self.hand_over(true)));
            }
        };
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.event.take(&line);
        }
        if !self.event.has_data {
            return end.map(|()| None);
        }
        self.end = Some(end);
        Ok(Some(self.hand_over(false)))
    }

    /// The bytes that come next, as many as there are already.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        while let Err(e) = self.reader.fill_buf() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        self.reader.fill_buf()
    }

    pub(crate) fn into_reader(self) -> R {
        self.reader
    }

    fn hand_over(&mut self, whole: bool) -> Event<'_> {
        self.handed_over = true;
        Event {
            name: &self.event.name,
            data: &self.event.data,
            whole,
        }
    }
}

impl Fields {
    /// Takes one line; says whether it completes an event.
    fn take(&mut self, mut line: &[u8]) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            // The name of an event without data is forgotten with it.
            if !self.has_data {
                self.name.clear();
            }
            return self.has_data;
        }
        let mut parts = line.splitn(2, |b| *b == b':');
        let field = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            _ => {}
        }
        false
    }

    fn clear(&mut self) {
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out these slices, one for each read.
    struct Pieces<'a>(Vec<&'a [u8]>);

    impl io::Read for Pieces<'_> {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            unreachable!("read through BufRead")
        }
    }

    impl BufRead for Pieces<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            while self.0.first().is_some_and(|piece| piece.is_empty()) {
                self.0.remove(0);
            }
            Ok(self.0.first().copied().unwrap_or_default())
        }
        fn consume(&mut self, n: usize) {
            if let Some(first) = self.0.first_mut() {
                *first = &first[n..];
            }
        }
    }

    type Owned = (String, String);

    fn owned(event: &Event<'_>) -> Owned {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(event.name), text(event.data))
    }

    fn read(pieces: Vec<&[u8]>) -> (Vec<Owned>, Option<Owned>) {
        let mut events = Events::new(Pieces(pieces), 1000);
        let (mut all, mut tail) = (Vec::new(), None);
        while let Some(event) = events.next().unwrap() {
            assert_eq!(tail, None, "a tail is the last");
            if event.whole {
                all.push(owned(&event));
            } else {
                tail = Some(owned(&event));
            }
        }
        (all, tail)
    }

    /// The data of the events, and of the tail, must come out however the bytes are cut.
    #[track_caller]
    fn yields(bytes: &[u8], want: &[&str], tail: Option<&str>) {
        let data = |(events, tail): (Vec<Owned>, Option<Owned>)| {
            (
                events.into_iter().map(|event| event.1).collect::<Vec<_>>(),
                tail.map(|event| event.1),
            )
        };
        let want = (
            want.iter().map(ToString::to_string).collect(),
            tail.map(str::to_owned),
        );
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(data(read(vec![bytes])), want, "whole: {text:?}");
        assert_eq!(
            data(read(bytes.chunks(1).collect())),
            want,
            "byte by byte: {text:?}"
        );
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(data(read(vec![a, b])), want, "cut at {at}: {text:?}");
        }
    }

    #[test]
    fn lines_end_in_lf_cr_or_crlf() {
        for end in ["\n", "\r", "\r\n"] {
            let text = "data: a|data: b||data:c||".replace('|', end);
            yields(text.as_bytes(), &["a\nb", "c"], None);
        }
        yields(b"data: a\r\n\rdata: b\n\r\n", &["a", "b"], None);
    }

    #[test]
    fn an_event_is_handed_over_before_the_lf_of_a_crlf() {
        let mut events = Events::new(Pieces(vec![b"data: a\r\n\r"]), 100);
        assert_eq!(
            events
                .next()
                .unwrap()
                .map(|event| owned(&event).1)
                .as_deref(),
            Some("a")
        );
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_only() {
        yields(
            "\u{feff}data: a\n\n\u{feff}data: b\n\ndata: \u{feff}c\n\n".as_bytes(),
            &["a", "\u{feff}c"],
            None,
        );
        yields("\u{feff}\n\u{feff}data: b\n\n".as_bytes(), &[], None);
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        yields(
            b": comment\n\ndata\n\ndata:\n\ndata:  x\n\n",
            &["", "", " x"],
            None,
        );
        yields(
            b"id: 1\nretry: 5\nother: x\ndata: a:b: c\n\n",
            &["a:b: c"],
            None,
        );
        yields(b"data : a\n\nDATA: b\n\n datax: c\n\n", &[], None);
        yields(
            "data: \u{2028}é\u{85}\n\n".as_bytes(),
            &["\u{2028}é\u{85}"],
            None,
        );
        yields(b"data: \xff\n\n", &["\u{fffd}"], None);
        yields(b"data: a\0b\n\n", &["a\0b"], None);
    }

    #[test]
    fn an_event_has_the_name_given_last_and_a_name_without_data_is_forgotten() {
        let (events, _) = read(vec![
            b"event: x\nevent: y\ndata: a\n\nevent: z\n\ndata: b\n\n",
        ]);
        assert_eq!(
            events,
            [
                ("y".to_owned(), "a".to_owned()),
                (String::new(), "b".to_owned())
            ]
        );
    }

    #[test]
    fn what_the_end_left_open_is_the_tail() {
        yields(b"data: a\n\ndata: b", &["a"], Some("b"));
        yields(b"data: a\n\ndata: b\n", &["a"], Some("b"));
        yields(b"data: a\n\ndata: b\r", &["a"], Some("b"));
        yields(b"data: a\n\nevent: b\n", &["a"], None);
        yields(b"", &[], None);
    }

    #[test]
    fn a_failure_is_told_after_the_tail_and_nothing_is_read_again() {
        struct Broken(bool);
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                assert!(!std::mem::replace(&mut self.0, true), "read again");
                Err(io::ErrorKind::TimedOut.into())
            }
        }
        let reader = io::BufReader::new(io::Read::chain(&b"data: a\n"[..], Broken(false)));
        let mut events = Events::new(reader, 100);
        assert!(matches!(events.next(), Ok(Some(event)) if !event.whole));
        assert!(matches!(events.next(), Err(Failure::Io(_))));
    }

    #[test]
    fn an_event_over_the_limit_is_refused_and_a_comment_of_any_length_is_not() {
        let fails = |text: &str, piece: usize| {
            let mut events = Events::new(Pieces(text.as_bytes().chunks(piece).collect()), 20);
            matches!(events.next(), Err(Failure::TooLong))
        };
        let line = format!("data: {}\n\n", "x".repeat(30));
        let lines = "data: xxxxxxxxxx\n".repeat(3) + "\n";
        let comment = format!(":{}\ndata: a\n\n", "x".repeat(1000));
        for piece in [1, 7, 5000] {
            assert!(fails(&line, piece));
            assert!(fails(&lines, piece));
            assert!(!fails(&comment, piece));
        }
    }
}
