//! What can go wrong, and every wording of it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::Completion;
use crate::head::Head;
use crate::refusal::one_line;

mod constructors;

/// A failed call: what failed, what was said about it, and what to do.
///
/// `{}` is one line; `{:#}` adds the chain of causes; `{:?}`, which is what a `main` that returns an error prints, is
/// the same as `{:#}`. None of them shows the API key or the prompt. `{:#?}` shows the fields.
///
/// [`kind`](Error::kind) says what a program can do about it, [`is_retryable`](Error::is_retryable) whether the same
/// request may be sent again at no risk of paying twice, and [`partial`](Error::partial) has what came of a stream.
///
/// ```no_run
/// # let client = aimlapi::Client::from_env()?;
/// match client.chat(aimlapi::GEMMA_2_27B_IT, "Why is the sky blue?") {
///     Ok(reply) => println!("{}", reply.text()),
///     Err(error) if error.is_retryable() => eprintln!("try again later: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), aimlapi::Error>(())
/// ```
pub struct Error(Box<Repr>);

/// What kind of failure an [`Error`] is, and so what a program can do about it.
///
/// ```
/// use aimlapi::{Client, ErrorKind};
///
/// let error = Client::new("").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Input);
/// println!("{error}"); // no API key: set the environment variable AIMLAPI_API_KEY, or ..
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the client's settings cannot be right. Nothing was sent.
    Input,
    /// No connection, or one that was lost before an answer began: host not found, refused, certificate not accepted,
    /// proxy down. Where [`Error::is_retryable`] is true, the server has not seen the request.
    Connection,
    /// It took longer than a timeout of the [`ClientBuilder`](crate::ClientBuilder) permits. The server may have
    /// answered, and billed; where [`Error::is_retryable`] is true, nothing was sent.
    Timeout,
    /// The server answered with an error: a status that is none of 2xx, or an error object with any status.
    Api,
    /// The server's answer is no chat completion, or not what was asked for. [`Error::body`] holds it.
    Decode,
    /// The answer broke off before its end. [`Error::partial`] holds what came of a stream.
    Interrupted,
    /// A [`Budget`](crate::Budget) is used up. Nothing was sent.
    Budget,
    /// A [`Cassette`](crate::Cassette) has no recording of the request and may not call, or has one that is damaged or
    /// cannot be read. Nothing was sent.
    Cassette,
}

/// What an error of somebody else's is kept as.
pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// A secret of fewer characters is none, and to take it out would tear words apart.
const SHORTEST: usize = 4;

struct Repr {
    kind: ErrorKind,
    /// What failed, in the crate's words.
    what: String,
    /// What was said about it, in the server's or the system's words.
    said: String,
    /// What to do.
    hint: Option<Cow<'static, str>>,
    status: Option<u16>,
    code: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    body: Option<String>,
    attempts: u32,
    partial: Option<Box<Completion>>,
    retryable: bool,
    /// The connection failed before the request could go out.
    unsent: bool,
    source: Option<Cause>,
}

impl Error {
    /// What kind of failure this is, for a program to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The HTTP status, where there was a response. An error that came inside a stream or a 2xx answer has that status.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The server's own sentence where it said one, else this crate's.
    pub fn message(&self) -> &str {
        if self.0.said.is_empty() {
            &self.0.what
        } else {
            &self.0.said
        }
    }

    /// The server's name for the failure: `code` in its error body, else `type`. A number is given as text.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The id to quote to the provider's support: the header `x-inference-id`, else `requestId` in the body, else the
    /// header `x-request-id`.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// How long the server wants to be left alone, where it said so: `retry-after-ms`, `Retry-After`, or Google's
    /// `retryDelay` in the body. Also given where the client already waited for it in vain.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The response's body as it came, as far as it was read; invalid UTF-8 is replaced. Unlike every other text of
    /// an error it is not redacted: a server may echo what it was sent.
    pub fn body(&self) -> Option<&str> {
        self.0.body.as_deref()
    }

    /// How often the request was sent, or tried to be: 0 where it was refused before, as by a
    /// [`Budget`](crate::Budget).
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// What had come of the answer before it failed. `Some` for every failure of a stream after its first choice.
    ///
    /// ```no_run
    /// # let client = aimlapi::Client::from_env()?;
    /// # let request = aimlapi::ChatRequest::new("m", "Tell me a story.");
    /// match client.stream(&request)?.finish() {
    ///     Ok(reply) => println!("{}", reply.text()),
    ///     Err(error) => match error.partial() {
    ///         Some(partial) => println!("{} [broken off: {error}]", partial.text()),
    ///         None => return Err(error),
    ///     },
    /// }
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    pub fn partial(&self) -> Option<&Completion> {
        self.0.partial.as_deref()
    }

    /// Whether the same request may succeed later and cannot be billed twice by it: the server refused it for the
    /// time being, or never saw it.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Repr {
            what,
            said,
            hint,
            request_id,
            ..
        } = &*self.0;
        f.write_str(&one_line(what, 600))?;
        // Many a server says no more than the name of its status.
        if !said.is_empty() && !what.ends_with(said.as_str()) {
            write!(f, ": {}", one_line(said, 300))?;
        }
        if let Some(hint) = hint {
            write!(f, " ({hint})")?;
        }
        if let Some(id) = request_id {
            write!(f, " [request id {}]", one_line(id, 100))?;
        }
        if f.alternate() {
            let mut cause = self.source();
            while let Some(error) = cause {
                let text = one_line(&error.to_string(), 300);
                // Mostly it has been quoted already.
                if !said.contains(&text) && !what.contains(&text) {
                    write!(f, ": {text}")?;
                }
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{self:#}");
        }
        // The body is left out: it may echo what no log should hold.
        let Repr {
            kind,
            what,
            said,
            hint,
            status,
            code,
            request_id,
            ..
        } = &*self.0;
        let Repr {
            retry_after,
            body,
            attempts,
            partial,
            retryable,
            source,
            ..
        } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("what", what)
            .field("said", said)
            .field("hint", hint)
            .field("status", status)
            .field("code", code)
            .field("request_id", request_id)
            .field("retry_after", retry_after)
            .field("body_bytes", &body.as_ref().map(String::len))
            .field("attempts", attempts)
            .field("partial", &partial.is_some())
            .field("retryable", retryable)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// Where the key of a client came from, for the error that says it is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum KeySource {
    None,
    Environment,
    Given,
}

/// A response that is no answer, as far as its error needs it.
pub(crate) struct Refused<'a> {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) url: &'a str,
    pub(crate) key: KeySource,
    /// The header `x-inference-id`.
    pub(crate) inference_id: Option<&'a str>,
    /// The header `x-request-id`.
    pub(crate) request_id: Option<&'a str>,
    /// What the headers ask to be waited.
    pub(crate) retry_after: Option<Duration>,
    /// The header `location`.
    pub(crate) location: Option<&'a str>,
}

impl Error {
    /// Whether the key or the account is the trouble, so that every other request would meet it too.
    pub(crate) fn is_of_account(&self) -> bool {
        let said = self.0.said.to_ascii_lowercase();
        match self.0.status {
            Some(401 | 402) => true,
            // Also the answer to a request that a moderator does not like.
            Some(403) => ["credit", "balance", "billing", "quota", "limit", "key"]
                .iter()
                .any(|word| said.contains(word)),
            Some(429) => !self.0.retryable,
            _ => false,
        }
    }

    /// Whether it is certain that nothing was charged: the server refused the request, or never saw it.
    pub(crate) fn costs_nothing(&self) -> bool {
        self.0.kind == ErrorKind::Api || self.0.retryable || self.0.unsent
    }

    pub(crate) fn with_status(mut self, status: u16) -> Error {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_body(mut self, body: impl Into<String>) -> Error {
        self.0.body = Some(body.into());
        self
    }

    pub(crate) fn with_cause(mut self, cause: impl Into<Cause>) -> Error {
        self.0.source = Some(cause.into());
        self
    }

    /// An id in the body, where there is one, counts less than the head's `x-inference-id` and more than its
    /// `x-request-id`.
    pub(crate) fn with_request_id(mut self, head: &Head) -> Error {
        let of_body = self.0.request_id.take();
        let id = head.inference_id.clone().or(of_body);
        self.0.request_id = id.or_else(|| head.request_id.clone());
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Error {
        self.0.attempts = attempts;
        self
    }

    pub(crate) fn with_retryable(mut self, is: bool) -> Error {
        self.0.retryable = is;
        self
    }

    pub(crate) fn with_partial(mut self, partial: Option<Completion>) -> Error {
        self.0.partial = partial.map(Box::new);
        self
    }

    /// Takes the client's secrets out of everything but the body.
    pub(crate) fn redacted(mut self, secrets: &[String]) -> Error {
        let Repr {
            what,
            said,
            code,
            request_id,
            source,
            hint,
            ..
        } = &mut *self.0;
        let hint = hint.as_mut().map(Cow::to_mut);
        let texts = [
            Some(what),
            Some(said),
            code.as_mut(),
            request_id.as_mut(),
            hint,
        ];
        for text in texts.into_iter().flatten() {
            for secret in secrets {
                hide(text, secret);
            }
        }
        // A cause is somebody else's type: one that shows a secret is dropped whole.
        let shown = source
            .as_ref()
            .map(|cause| format!("{cause} {cause:?}"))
            .unwrap_or_default();
        if secrets.iter().any(|secret| text_holds(&shown, secret)) {
            *source = None;
        }
        self
    }
}

/// Takes a secret out of a text, also where the text was cut in the middle of it.
fn hide(text: &mut String, secret: &str) {
    if text_holds(text, secret) {
        *text = text.replace(secret, "[key]");
    }
    let kept = text.strip_suffix('…').unwrap_or_default();
    let mut starts = (SHORTEST..secret.len())
        .rev()
        .filter_map(|end| secret.get(..end));
    if let Some(rest) = starts.find_map(|start| kept.strip_suffix(start)) {
        *text = format!("{rest}[key]…");
    }
}

pub(crate) fn text_holds(text: &str, secret: &str) -> bool {
    secret.len() >= SHORTEST && text.contains(secret)
}
