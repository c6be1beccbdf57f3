//! Answers kept in files, so that what was paid for once can be had again. `testing.rs` documents the files.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::error::text_holds;
use crate::head::Head;
use crate::tape::{self, Answer, Recording};
use crate::{ChatRequest, Error, Result};

/// A directory of recorded answers, one file for each request.
///
/// Give it to a client, and the same request is answered from the directory from then on, with no call, no key and no
/// network: a build script becomes reproducible, a test costs nothing, a batch that was interrupted continues where
/// it stopped.
///
/// ```no_run
/// use aimlapi::{Cassette, Client, GEMMA_2_27B_IT};
///
/// let client = Client::builder().cassette(Cassette::auto("cassettes")).build()?;
/// // Sent once, then read from cassettes/:
/// let reply = client.chat(GEMMA_2_27B_IT, "Why is the sky blue?")?;
/// # drop(reply);
/// # Ok::<(), aimlapi::Error>(())
/// ```
///
/// | mode | a recording is there | it is not |
/// |---|---|---|
/// | [`auto`](Cassette::auto) | answers from it | calls, and records |
/// | [`record`](Cassette::record) | calls, and overwrites it | calls, and records |
/// | [`replay`](Cassette::replay) | answers from it | an error, which says what the nearest recording has otherwise |
///
/// The environment variable `AIMLAPI_CASSETTE`, set to `auto`, `record`, `replay` or `off`, takes the place of the mode
/// of every client that has a cassette, so that a CI can demand `replay`, and one command records anew.
///
/// [`testing`](crate::testing) tells how to test a program with one, and what the files look like.
///
/// # Which request is the same
///
/// One with the same model, messages and parameters. Neither the server's address nor whether the answer is streamed
/// makes a difference: a whole answer can be streamed from its recording, as one chunk, and a stream can be read as a
/// whole. To have several answers to one question recorded, give each a [`seed`](ChatRequest::seed) of its own.
///
/// # What is recorded
///
/// Only complete answers are recorded, of a stream when it has been read to its end. Of errors, those that refuse the
/// request for good (400, 404, 422) are recorded by [`record`](Cassette::record), for tests of what a program does
/// then. What an answer reports, such as [`usd_spent`](crate::Completion::usd_spent), its recording reports again; a
/// [`Budget`](crate::Budget) counts calls only.
///
/// # Threads and processes
///
/// A file appears whole or not at all, so any number of threads and processes can share a directory. In `auto`, threads
/// of one process that send the same request at the same time make one call: the others wait for it, no longer than
/// their [`timeout`](crate::ClientBuilder::timeout), and if it fails the next one calls. Of several processes, each
/// makes at most one. Streams neither wait nor are waited for. A process that is killed while it writes may leave a
/// file `*.tmp`, which nobody will read.
///
/// # What cannot be recorded or read
///
/// An answer that cannot be recorded, as on a full disk, is returned all the same; it says so by
/// [`Completion::unrecorded`](crate::Completion::unrecorded), and the log has a warning. So it is with one that would
/// put the client's key into the file, and with one of more than 64 MiB. A recording that is damaged, or holds another
/// request than its name says, is an error of kind [`Cassette`](crate::ErrorKind::Cassette) that names the file. It is
/// never taken for a missing one, as that would cost money.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Cassette {
    directory: PathBuf,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Auto,
    Record,
    Replay,
}

impl Cassette {
    /// Answers from the directory where it can, else calls and records.
    pub fn auto(directory: impl Into<PathBuf>) -> Cassette {
        Cassette {
            directory: directory.into(),
            mode: Mode::Auto,
        }
    }

    /// Always calls, and records the answer in place of an older one.
    pub fn record(directory: impl Into<PathBuf>) -> Cassette {
        Cassette {
            mode: Mode::Record,
            ..Cassette::auto(directory)
        }
    }

    /// Answers from the directory only. Nothing is sent, and neither a key nor TLS is needed.
    pub fn replay(directory: impl Into<PathBuf>) -> Cassette {
        Cassette {
            mode: Mode::Replay,
            ..Cassette::auto(directory)
        }
    }

    /// The cassette in the mode that `AIMLAPI_CASSETTE` names; `None` for `off`.
    pub(crate) fn in_mode(self, name: &str) -> Result<Option<Cassette>> {
        let directory = self.directory;
        Ok(Some(match name.trim() {
            "auto" => Cassette::auto(directory),
            "record" => Cassette::record(directory),
            "replay" => Cassette::replay(directory),
            "off" => return Ok(None),
            other => {
                return Err(Error::input(format!(
                    "AIMLAPI_CASSETTE is {other:?}: it has to be auto, record, replay or off"
                )));
            }
        }))
    }

    /// Whether nothing may be sent.
    pub(crate) fn only_replays(&self) -> bool {
        self.mode == Mode::Replay
    }

    /// The place of this request among the recordings.
    pub(crate) fn slot(&self, request: &ChatRequest) -> Result<Slot> {
        let canonical = tape::canonical(request)?;
        let name = tape::file_name(request, &canonical);
        Ok(Arc::new(Entry {
            path: self.directory.join(name),
            canonical,
            mode: self.mode,
        }))
    }
}

/// How a client finds the slot of a request. A pointer that leads to a trait, so that a program which never gives a
/// client a cassette does not have 50 kB of code for them.
pub(crate) type Slots = fn(&Cassette, &ChatRequest) -> Result<Slot>;

/// Where one request is recorded, or is to be.
pub(crate) type Slot = Arc<dyn Place>;

pub(crate) trait Place: Send + Sync {
    /// The recorded answer, if there is one and the mode wants it.
    fn find(&self) -> Result<Option<Recording>>;

    /// The error of a recording that cannot be read, or holds no answer.
    fn damaged(&self, why: &dyn Display) -> Error;

    /// Whether an error with this status is worth a recording: one that refuses the request for good.
    fn keeps_error(&self, status: u16) -> bool;

    /// Keeps an answer, or an error's body; returns why it could not.
    fn keep(&self, head: &Head, answer: &Answer<'_>, secrets: &[String]) -> Option<String>;

    /// Waits until no other thread is sending this request, where that could make a call superfluous; `None` if one
    /// still is after so long.
    fn turn(&self, patience: Duration) -> Option<Turn<'_>>;
}

/// A file of a directory.
struct Entry {
    path: PathBuf,
    canonical: String,
    mode: Mode,
}

impl Place for Entry {
    fn find(&self) -> Result<Option<Recording>> {
        if self.mode == Mode::Record {
            return Ok(None);
        }
        match read_file(&self.path, tape::MOST_BYTES) {
            Ok(text) => match tape::read(&text, &self.canonical) {
                Ok(recording) => Ok(Some(recording)),
                Err(why) => Err(self.damaged(&why)),
            },
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::cassette(format!(
                "the recording {} cannot be read: {e}",
                self.path.display()
            ))),
            Err(_) if self.mode == Mode::Replay => Err(self.miss()),
            Err(_) => Ok(None),
        }
    }

    fn damaged(&self, why: &dyn Display) -> Error {
        Error::cassette(format!(
            "the recording {} is damaged: {why}",
            self.path.display()
        ))
        .with_hint("delete it, or record it anew with AIMLAPI_CASSETTE=record")
    }

    fn keeps_error(&self, status: u16) -> bool {
        self.mode == Mode::Record && matches!(status, 400 | 404 | 422)
    }

    fn keep(&self, head: &Head, answer: &Answer<'_>, secrets: &[String]) -> Option<String> {
        let written = tape::write(&self.canonical, head, answer).and_then(|text| {
            if secrets.iter().any(|secret| text_holds(&text, secret)) {
                return Err("it would hold the API key".to_owned());
            }
            write_whole(&self.path, text.as_bytes()).map_err(|e| e.to_string())
        });
        let why = written.err()?;
        let why = format!("{} cannot be written: {why}", self.path.display());
        log::warn!("an answer was not recorded: {why}");
        Some(why)
    }

    fn turn(&self, patience: Duration) -> Option<Turn<'_>> {
        if self.mode != Mode::Auto {
            return Some(Turn(None));
        }
        let (calling, done) = &CALLING;
        let calling = calling.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut calling, waited) = done
            .wait_timeout_while(calling, patience, |calling| calling.contains(&self.path))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        calling.push(self.path.clone());
        Some(Turn(Some(&self.path)))
    }
}

impl Entry {
    /// The error of a request that is not recorded, with what the nearest recording has otherwise.
    fn miss(&self) -> Error {
        let mut what = format!(
            "no recording of this request: {} is not there",
            self.path.display()
        );
        let asked = tape::value(&self.canonical);
        let recorded = self.neighbours();
        let nearest = recorded
            .iter()
            .map(|(name, recorded)| (name, tape::differences(recorded, &asked)))
            .min_by_key(|(_, differences)| differences.len());
        if let Some((name, differences)) = nearest {
            what = format!(
                "{what}; the nearest, {}, differs in {}",
                name.to_string_lossy(),
                tape::describe(&differences)
            );
        }
        Error::cassette(what)
            .with_hint("run once with AIMLAPI_CASSETTE=auto and a key to record it")
    }

    /// The recorded requests whose names are most like this one's: those of the same model and the same first words.
    fn neighbours(&self) -> Vec<(OsString, Value)> {
        let wanted = self.path.file_name().unwrap_or_default();
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let mut nearest: Vec<(usize, OsString)> = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if Path::new(&name).extension().is_some_and(|it| it == "json") {
                let alike = alike(name.as_encoded_bytes(), wanted.as_encoded_bytes());
                let at = nearest.partition_point(|(other, theirs)| {
                    *other > alike || (*other == alike && *theirs < name)
                });
                nearest.insert(at, (alike, name));
                nearest.truncate(MOST_COMPARED);
            }
        }
        let read = |name: OsString| {
            let text = read_file(&directory.join(&name), MOST_COMPARED_BYTES).ok()?;
            Some((name, tape::request_in(&text)?))
        };
        nearest
            .into_iter()
            .filter_map(|(_, name)| read(name))
            .collect()
    }
}

/// How many recordings are looked at for the nearest one, and how large they may be.
const MOST_COMPARED: usize = 100;
const MOST_COMPARED_BYTES: usize = 1 << 20;

/// How many bytes two names have in common at their beginning.
fn alike(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The text of a file, if it is one and not too large.
fn read_file(path: &Path, most: usize) -> io::Result<String> {
    // Asked before it is opened, for to open a pipe is to wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let (mut text, most) = (String::new(), u64::try_from(most).unwrap_or(u64::MAX));
    let mut file = File::open(path)?.take(most);
    if file.get_ref().metadata()?.len() > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// A file of its own beside the target, then a rename: whoever reads sees the old file or the new one, whole.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // By chance, as a process number can be that of another machine's process, or of one that was killed here.
    let chance = RandomState::new().build_hasher().finish();
    let temporary = path.with_extension(format!("{chance:016x}.tmp"));
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of it helps nobody; that it cannot be removed changes nothing about the error.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The recordings that threads of this process are calling for.
static CALLING: (Mutex<Vec<PathBuf>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

/// While it lives, no other thread of this process sends the same request.
pub(crate) struct Turn<'a>(Option<&'a Path>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let (calling, done) = &CALLING;
            let mut calling = calling.lock().unwrap_or_else(PoisonError::into_inner);
            calling.retain(|other| other != path);
            done.notify_all();
        }
    }
}
