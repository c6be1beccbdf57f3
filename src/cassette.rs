//! Answers kept in files, so that what was paid for once can be had again. `testing.rs` documents the files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::refusal::one_line;
use crate::transport::Head;
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
/// let reply = client.chat(GEMMA_2_27B_IT, "Why is the sky blue?")?; // sent once, then read from cassettes/
/// # drop(reply);
/// # Ok::<(), aimlapi::Error>(())
/// ```
///
/// The environment variable `AIMLAPI_CASSETTE`, set to `auto`, `record`, `replay` or `off`, takes the place of the mode
/// of every client that has a cassette, so that a CI can demand `replay`, and one command records anew.
///
/// | mode | a recording is there | it is not |
/// |---|---|---|
/// | [`auto`](Cassette::auto) | answers from it | calls, and records |
/// | [`record`](Cassette::record) | calls, and overwrites it | calls, and records |
/// | [`replay`](Cassette::replay) | answers from it | an error, which says what the nearest recording has otherwise |
///
/// What is the same request: one with the same model, messages and parameters. Neither the server's address nor
/// whether the answer is streamed makes a difference: a whole answer can be streamed from its recording, as one chunk,
/// and a stream can be read as a whole. To have several answers to one question recorded, give each a
/// [`seed`](ChatRequest::seed) of its own.
///
/// Only complete answers are recorded. Of errors, those that refuse the request for good (400, 404, 422) are recorded
/// in the mode `record`, for tests of what a program does then. A file appears whole or not at all, so any number of
/// threads and processes can share a directory. In `auto`, several threads of a process that send the same request
/// make one call; of several processes, each makes at most one. A stream is not waited for.
///
/// An answer that cannot be recorded, as on a full disk, is returned all the same; it says so by
/// [`Completion::unrecorded`](crate::Completion::unrecorded), and the log has a warning. A recording that is damaged, or
/// holds another request than its name says, is an error of kind [`Cassette`](crate::ErrorKind::Cassette) that names the
/// file. It is never taken for a missing one, as that would cost money.
///
/// [`testing`](crate::testing) tells how to test a program with one, and what the files look like.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Cassette {
    directory: PathBuf,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Answers from the directory only. Nothing is sent, and no key is needed.
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

    /// The place of this request among the recordings.
    pub(crate) fn slot(&self, request: &ChatRequest) -> Result<Slot> {
        let canonical = canonical(request)?;
        let name = file_name(request, &canonical);
        Ok(Slot {
            path: self.directory.join(name),
            canonical,
            mode: self.mode,
        })
    }
}

/// Where one request is recorded, or is to be.
#[derive(Clone)]
pub(crate) struct Slot {
    path: PathBuf,
    canonical: String,
    mode: Mode,
}

/// An answer as it was recorded.
pub(crate) struct Recording {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Tape<'a> {
    version: u32,
    #[serde(borrow)]
    request: &'a RawValue,
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usd_spent: Option<f64>,
    /// A body that is no JSON, as some errors have, is a string.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    events: Option<Vec<&'a RawValue>>,
}

const VERSION: u32 = 1;

impl Slot {
    /// The recorded answer, if there is one and the mode wants it.
    pub(crate) fn find(&self) -> Result<Option<Recording>> {
        if self.mode == Mode::Record {
            return Ok(None);
        }
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.mode == Mode::Auto => {
                return Ok(None);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.miss()),
            Err(e) => {
                return Err(Error::cassette(format!(
                    "the recording {} cannot be read: {e}",
                    self.shown()
                )));
            }
        };
        self.read(&text).map(Some)
    }

    fn read(&self, text: &str) -> Result<Recording> {
        let damaged = |why: String| {
            Error::cassette(format!("the recording {} is damaged: {why}", self.shown()))
                .with_hint("delete it, or record it anew with AIMLAPI_CASSETTE=record")
        };
        let tape: Tape<'_> = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if tape.version != VERSION {
            return Err(damaged(format!(
                "its version is {}, not {VERSION}",
                tape.version
            )));
        }
        let recorded: Value =
            serde_json::from_str(tape.request.get()).map_err(|e| damaged(e.to_string()))?;
        if sorted(&recorded) != self.canonical {
            let difference = difference(&recorded, &self.request());
            return Err(damaged(format!(
                "it holds another request than its name says: {difference}"
            )));
        }
        let head = Head::recorded(
            tape.status,
            tape.request_id,
            tape.client_request_id,
            tape.usd_spent,
        );
        match (tape.body, tape.events) {
            (Some(body), None) => {
                let body =
                    serde_json::from_str(body.get()).unwrap_or_else(|_| body.get().to_owned());
                Ok(Recording {
                    head,
                    body: body.into_bytes(),
                })
            }
            (None, Some(events)) => {
                let mut body = Vec::new();
                for event in events {
                    for line in event.get().split('\n') {
                        body.extend_from_slice(b"data: ");
                        body.extend_from_slice(line.as_bytes());
                        body.push(b'\n');
                    }
                    body.push(b'\n');
                }
                body.extend_from_slice(b"data: [DONE]\n\n");
                Ok(Recording {
                    head: head.of_stream(),
                    body,
                })
            }
            _ => Err(damaged(
                "it has neither a body nor events, or both".to_owned(),
            )),
        }
    }

    /// Whether an error with this status is worth a recording: one that refuses the request for good.
    pub(crate) fn keeps_error(&self, status: u16) -> bool {
        self.mode == Mode::Record && matches!(status, 400 | 404 | 422)
    }

    /// Keeps a whole answer, or an error's body.
    pub(crate) fn keep(&self, head: &Head, body: &str) -> Result<(), String> {
        let as_text = || serde_json::value::to_raw_value(body).map_err(|e| e.to_string());
        let text = match serde_json::from_str::<&RawValue>(body) {
            // The white space around it is not in a RawValue, and `raw()` promises every byte.
            Ok(json) if json.get() == body => json.to_owned(),
            _ => as_text()?,
        };
        self.write(head, Some(&text), None)
    }

    /// Keeps a stream's events.
    pub(crate) fn keep_events(&self, head: &Head, events: &[String]) -> Result<(), String> {
        let events: Result<Vec<&RawValue>, _> = events
            .iter()
            .map(|event| serde_json::from_str(event))
            .collect();
        self.write(head, None, Some(events.map_err(|e| e.to_string())?))
    }

    fn write(
        &self,
        head: &Head,
        body: Option<&RawValue>,
        events: Option<Vec<&RawValue>>,
    ) -> Result<(), String> {
        let request: Box<RawValue> = serde_json::from_str(&pretty(&self.request()))
            .map_err(|e: serde_json::Error| e.to_string())?;
        let tape = Tape {
            version: VERSION,
            request: &request,
            status: head.status,
            request_id: head.id().map(str::to_owned),
            client_request_id: head.client_request_id.clone(),
            usd_spent: head.usd_spent,
            body,
            events,
        };
        let mut text = serde_json::to_string_pretty(&tape).map_err(|e| e.to_string())?;
        text.push('\n');
        write_whole(&self.path, text.as_bytes())
            .map_err(|e| format!("{} cannot be written: {e}", self.shown()))
    }

    fn request(&self) -> Value {
        serde_json::from_str(&self.canonical).unwrap_or_default()
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The error of a request that is not recorded, with what the nearest recording has otherwise.
    fn miss(&self) -> Error {
        let request = self.request();
        let mut nearest: Option<(usize, PathBuf, Value)> = None;
        let entries = self
            .path
            .parent()
            .and_then(|directory| fs::read_dir(directory).ok());
        for path in entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .take(MOST_COMPARED)
        {
            let Some(recorded) = recorded_request(&path) else {
                continue;
            };
            let distance = distance(&recorded, &request);
            if nearest.as_ref().is_none_or(|(least, ..)| distance < *least) {
                nearest = Some((distance, path, recorded));
            }
        }
        let mut what = format!(
            "no recording of this request: {} is not there",
            self.shown()
        );
        if let Some((_, path, recorded)) = nearest {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            what = format!(
                "{what}; the nearest, {name}, differs in {}",
                difference(&recorded, &request)
            );
        }
        Error::cassette(what)
            .with_hint("run once with AIMLAPI_CASSETTE=auto and a key to record it")
    }
}

/// How many recordings are looked at for the nearest one.
const MOST_COMPARED: usize = 1000;

fn recorded_request(path: &Path) -> Option<Value> {
    if path.extension()? != "json" {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let tape: Tape<'_> = serde_json::from_str(&text).ok()?;
    serde_json::from_str(tape.request.get()).ok()
}

/// The request as sent, without what says whether it is streamed, its keys sorted at every depth.
fn canonical(request: &ChatRequest) -> Result<String> {
    let unfit = |e: serde_json::Error| Error::input(format!("the request has no JSON form: {e}"));
    let body = request.body(false)?;
    let mut value: Value = serde_json::from_slice(&body).map_err(unfit)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("stream_options");
    }
    Ok(sorted(&value))
}

/// JSON text with sorted keys, also where serde_json is told to keep their order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let names: BTreeSet<&String> = object.keys().collect();
            let members: Vec<String> = names
                .into_iter()
                .filter_map(|name| {
                    Some(format!(
                        "{}:{}",
                        Value::from(name.as_str()),
                        sorted(object.get(name)?)
                    ))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(list) => format!(
            "[{}]",
            list.iter().map(sorted).collect::<Vec<_>>().join(",")
        ),
        scalar => scalar.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    // Indented to stand inside of the file's own object.
    serde_json::to_string_pretty(value)
        .unwrap_or_default()
        .replace('\n', "\n  ")
}

/// `gemma-2-27b-it_why-is-the-sky-blue_0123456789abcdef.json`
fn file_name(request: &ChatRequest, canonical: &str) -> String {
    let model = request.model().rsplit('/').next().unwrap_or_default();
    let words = request
        .messages()
        .last()
        .map_or("", |message| message.text());
    format!(
        "{}_{}_{:016x}.json",
        slug(model),
        slug(words),
        fnv1a(canonical.as_bytes())
    )
}

/// At most 40 lower-case letters, digits and hyphens.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(200).map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 40 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// FNV-1a with 64 bits: a few lines, and the same on every platform for ever, which std's hashers do not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// In how many places two requests differ.
fn distance(a: &Value, b: &Value) -> usize {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names
                .into_iter()
                .map(|name| distance(at(a.get(name)), at(b.get(name))))
                .sum()
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
            .map(|i| distance(at(a.get(i)), at(b.get(i))))
            .sum(),
        (a, b) => usize::from(a != b),
    }
}

fn at(value: Option<&Value>) -> &Value {
    value.unwrap_or(&Value::Null)
}

/// The first place where a recorded request differs from the one that is asked for, with both values, cut.
fn difference(recorded: &Value, asked: &Value) -> String {
    fn find(path: &str, a: &Value, b: &Value) -> Option<String> {
        let below = |name: &str| {
            if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            }
        };
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                names
                    .into_iter()
                    .find_map(|name| find(&below(name), at(a.get(name)), at(b.get(name))))
            }
            (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
                .find_map(|i| find(&below(&i.to_string()), at(a.get(i)), at(b.get(i)))),
            (a, b) if a == b => None,
            (a, b) => {
                let cut = |value: &Value| one_line(&value.to_string(), 60);
                Some(format!("{path}: recorded {}, asked {}", cut(a), cut(b)))
            }
        }
    }
    find("", recorded, asked).unwrap_or_else(|| "nothing but its form".to_owned())
}

/// A file of its own beside the target, then a rename: whoever reads sees the old file or the new one, whole.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{count}.tmp", std::process::id()));
    let written = File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of it helps nobody; that it cannot be removed changes nothing about the error.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The requests that threads of this process are sending in order to record them.
static SENDING: (Mutex<BTreeSet<PathBuf>>, Condvar) = (Mutex::new(BTreeSet::new()), Condvar::new());

/// While it lives, no other thread of this process sends the same request.
pub(crate) struct Turn<'a>(Option<&'a Path>);

impl Slot {
    /// Waits until no other thread is sending this request, where that would make a call superfluous.
    pub(crate) fn turn(&self) -> Turn<'_> {
        if self.mode != Mode::Auto {
            return Turn(None);
        }
        let (sending, done) = &SENDING;
        let mut paths = sending.lock().unwrap_or_else(PoisonError::into_inner);
        while !paths.insert(self.path.clone()) {
            paths = done.wait(paths).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(Some(&self.path))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let (sending, done) = &SENDING;
            sending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(path);
            done.notify_all();
        }
    }
}
