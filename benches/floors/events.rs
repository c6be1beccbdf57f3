//! A stream of events without a network, for what only splits it.

use std::io::{self, Read};
use std::sync::LazyLock;

use crate::ANSWER;

/// A hundred events, each of a whole answer.
static HUNDRED: LazyLock<String> = LazyLock::new(|| format!("data: {ANSWER}\n\n").repeat(100));

/// Hands out so many events, as many bytes at once as are asked for.
pub(crate) struct Input {
    at: usize,
    left: usize,
}

impl Input {
    pub(crate) fn of(events: u32) -> io::Result<Input> {
        let events = usize::try_from(events).map_err(io::Error::other)?;
        let left = events * (HUNDRED.len() / 100);
        Ok(Input { at: 0, left })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = HUNDRED.as_bytes().get(self.at..).unwrap_or_default();
        let mut rest = rest.get(..self.left).unwrap_or(rest);
        let read = rest.read(buffer)?;
        self.at = (self.at + read) % HUNDRED.len();
        self.left -= read;
        Ok(read)
    }
}
