//! From a text to its nodes.

use super::{Broken, Kind, Span};
use crate::bytes::find_either;

/// A text that is being read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) nodes: Vec<Span>,
    /// The arrays and objects that the place is in, by their numbers.
    open: Vec<usize>,
    pub(super) has_escapes: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Reader<'a> {
        Reader {
            bytes: text.as_bytes(),
            at: 0,
            // Servers have a value every ten to twenty bytes.
            nodes: Vec::with_capacity((text.len() / 12).clamp(8, 4096)),
            open: Vec::new(),
            has_escapes: false,
        }
    }

    /// Reads the one value that the text is. No recursion, so that depth costs a few bytes and no stack.
    pub(super) fn read(&mut self) -> Result<(), Broken> {
        loop {
            match self.next()? {
                b'{' => {
                    self.open(Kind::Object);
                    if self.next()? == b'}' {
                        self.close();
                    } else {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(Kind::Array);
                    if self.next()? == b']' {
                        self.close();
                    } else {
                        continue;
                    }
                }
                b'"' => self.string()?,
                _ => {
                    let (kind, end) = scalar(self.bytes, self.at)?;
                    self.add(kind, self.at, end);
                    self.at = end;
                }
            }
            // A value has ended, and perhaps what it is in.
            loop {
                let Some(kind) = self
                    .open
                    .last()
                    .and_then(|open| self.nodes.get(*open))
                    .map(|span| span.kind)
                else {
                    self.skip_space();
                    let is_whole = self.at == self.bytes.len();
                    return if is_whole { Ok(()) } else { Err(self.broken()) };
                };
                match (self.next()?, kind) {
                    (b',', Kind::Object) => {
                        self.at += 1;
                        self.name()?;
                        break;
                    }
                    (b',', _) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', Kind::Object) | (b']', Kind::Array) => self.close(),
                    _ => return Err(self.broken()),
                }
            }
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Result<u8, Broken> {
        self.skip_space();
        self.bytes.get(self.at).copied().ok_or(Broken {
            at: self.at,
            is_cut: true,
        })
    }

    fn broken(&self) -> Broken {
        Broken {
            at: self.at,
            is_cut: false,
        }
    }

    fn add(&mut self, kind: Kind, start: usize, end: usize) {
        let next = short(self.nodes.len() + 1);
        self.nodes.push(Span {
            kind,
            start: short(start),
            end: short(end),
            next,
        });
    }

    fn open(&mut self, kind: Kind) {
        self.open.push(self.nodes.len());
        self.add(kind, self.at, self.at);
        self.at += 1;
    }

    fn close(&mut self) {
        self.at += 1;
        let next = short(self.nodes.len());
        if let Some(span) = self.open.pop().and_then(|open| self.nodes.get_mut(open)) {
            span.end = short(self.at);
            span.next = next;
        }
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<(), Broken> {
        if self.next()? != b'"' {
            return Err(self.broken());
        }
        self.string()?;
        if self.next()? != b':' {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Broken> {
        let start = self.at + 1;
        let (kind, end) = string(self.bytes, start)?;
        self.has_escapes |= kind == Kind::Escaped;
        self.add(kind, start, end);
        self.at = end + 1;
        Ok(())
    }
}

/// A place in a text whose length fits.
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The length of a string that begins behind its quote, and whether it has no escapes; `None` if it is none.
pub(crate) fn string_length(bytes: &[u8]) -> Option<(usize, bool)> {
    let length = find_either(bytes, b'"', b'\\')?;
    if bytes.get(length) == Some(&b'"') {
        return Some((length, true));
    }
    Some((escaped(bytes, 0).ok()?.1, false))
}

/// The end of a string that begins here, behind its quote.
fn string(bytes: &[u8], start: usize) -> Result<(Kind, usize), Broken> {
    let rest = bytes.get(start..).unwrap_or_default();
    match find_either(rest, b'"', b'\\') {
        Some(length) if rest.get(length) == Some(&b'"') => Ok((Kind::Text, start + length)),
        _ => escaped(bytes, start),
    }
}

/// Like [`string`], also where there are escapes.
fn escaped(bytes: &[u8], start: usize) -> Result<(Kind, usize), Broken> {
    let (mut at, mut kind) = (start, Kind::Text);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(found) = find_either(rest, b'"', b'\\') else {
            return Err(Broken {
                at: bytes.len(),
                is_cut: true,
            });
        };
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return Ok((kind, at));
        }
        kind = Kind::Escaped;
        let length = match bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = bytes.get(at + 2..at + 6);
                match digits {
                    Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => 6,
                    Some(_) => return Err(Broken { at, is_cut: false }),
                    None => {
                        return Err(Broken {
                            at: bytes.len(),
                            is_cut: true,
                        });
                    }
                }
            }
            Some(_) => return Err(Broken { at, is_cut: false }),
            None => {
                return Err(Broken {
                    at: bytes.len(),
                    is_cut: true,
                });
            }
        };
        at += length;
    }
}

fn scalar(bytes: &[u8], start: usize) -> Result<(Kind, usize), Broken> {
    let rest = bytes.get(start..).unwrap_or_default();
    let inside = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.');
    let length = rest.iter().position(|b| !inside(b)).unwrap_or(rest.len());
    let (word, end) = (rest.get(..length).unwrap_or_default(), start + length);
    let kind = match word {
        b"null" => Kind::Null,
        b"true" | b"false" => Kind::Bool,
        b"NaN" | b"Infinity" | b"-Infinity" => Kind::Number,
        number if is_number(number) => Kind::Number,
        _ => {
            let words: [&[u8]; 3] = [b"null", b"true", b"false"];
            let begun = words.iter().any(|whole| whole.starts_with(word)) || word == b"-";
            return Err(Broken {
                at: end,
                is_cut: end == bytes.len() && begun,
            });
        }
    };
    Ok((kind, end))
}

fn is_number(word: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = word.strip_prefix(b"-").unwrap_or(word);
    let whole = digits(rest);
    rest = rest.get(whole..).unwrap_or_default();
    if whole == 0 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = fraction.get(length..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent
            .strip_prefix(b"+")
            .or(exponent.strip_prefix(b"-"))
            .unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}
