//! The constructors of errors, each demanding the context that its sentence needs: every wording of a failure.

use std::borrow::Cow;
use std::time::Duration;

use super::{Cause, Error, ErrorKind, KeySource, Refused, Repr};
use crate::Spent;
use crate::budget::dollars;
use crate::refusal::{Refusal, one_line};

const PROXY_SOURCES: &str = "the proxy comes from proxy(), or from ALL_PROXY, HTTPS_PROXY or HTTP_PROXY; NO_PROXY \
     names exceptions";

/// As much of a stream's event as its error keeps, in characters.
const MAX_PAYLOAD: usize = 64 << 10;

impl Error {
    fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error::made(kind, what.into())
    }

    #[cold]
    fn made(kind: ErrorKind, what: String) -> Error {
        Error(Box::new(Repr {
            kind,
            what,
            said: String::new(),
            hint: None,
            status: None,
            code: None,
            request_id: None,
            retry_after: None,
            body: None,
            attempts: 0,
            partial: None,
            retryable: false,
            unsent: false,
            source: None,
        }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// The sentence that says what is wrong with what the caller gave.
    pub(crate) fn input(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Input, what)
    }

    pub(crate) fn no_key() -> Error {
        Error::input("no API key: set the environment variable AIMLAPI_API_KEY, or give one to Client::new")
            .with_hint("keys are made at https://aimlapi.com/app/keys; a server of your own needs none: set AIMLAPI_BASE_URL")
    }

    pub(crate) fn plaintext_key(host: &str) -> Error {
        Error::input(format!("the API key would travel to {host} unencrypted")).with_hint(
            "use an https:// base URL, or allow_plaintext_key() if that network is trusted",
        )
    }

    pub(crate) fn no_tls(host: &str) -> Error {
        Error::input(format!(
            "https://{host} cannot be reached: this build of aimlapi has no TLS"
        ))
        .with_hint("enable its feature `rustls` or `native-tls`; without one only http:// works")
    }

    /// A connection to `authority` (host and port) that was not made, so that nothing was sent.
    pub(crate) fn unreachable(authority: &str, cause: Cause) -> Error {
        let mut error = Error::new(
            ErrorKind::Connection,
            format!("cannot connect to {authority}"),
        );
        error.0.said = cause.to_string();
        error.0.retryable = true;
        if error.0.said.contains("lookup") {
            error = error.with_hint("is the host's name right, and is this machine online?");
        }
        error.with_cause(cause)
    }

    /// A connection that failed for a reason that a repetition cannot mend.
    pub(crate) fn connection(what: String, cause: Cause) -> Error {
        let mut error = Error::new(ErrorKind::Connection, what);
        error.0.said = cause.to_string();
        error.with_cause(cause)
    }

    pub(crate) fn tls(authority: &str, cause: Cause) -> Error {
        let mut error = Error::connection(format!("no secure connection to {authority}"), cause);
        // TLS libraries tell these apart in words only, of which rustls has two sets.
        let said = error.0.said.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| said.contains(words));
        error.0.unsent = says(&["certificate"]);
        let hint = if says(&["expired", "not valid yet", "notvalidyet"]) {
            "if the clock of this machine is right, the server needs a new certificate"
        } else if says(&["not valid for name", "notvalidforname", "hostname mismatch"]) {
            "the base URL has to name the server as its certificate does"
        } else if says(&["corrupt message", "wrong version number"]) {
            "a server without TLS needs http://"
        } else {
            "a private certificate authority needs root_certificates_pem() or the feature `platform-verifier`; a \
             server without TLS needs http://"
        };
        error.with_hint(hint)
    }

    /// A connection to `proxy` (host and port) that was not made, so that nothing was sent.
    pub(crate) fn proxy_unreachable(proxy: &str, authority: &str, cause: Cause) -> Error {
        Error::unreachable(&format!("the proxy {proxy} for {authority}"), cause)
            .with_hint(PROXY_SOURCES)
    }

    /// A proxy that was reached, and does not do what it is for.
    pub(crate) fn proxy_refused(proxy: &str, authority: &str, cause: Cause) -> Error {
        let what = format!("the proxy {proxy} did not connect to {authority}");
        let mut error = Error::connection(what, cause);
        error.0.unsent = true;
        if error.0.said.contains("responded 407") {
            return error
                .with_hint("its credentials go into its URL: http://user:password@host:port");
        }
        error.with_hint(PROXY_SOURCES)
    }

    /// A connection that was lost after the request went out and before a response came.
    pub(crate) fn lost(authority: &str, cause: Cause, late: bool) -> Error {
        let error = Error::connection(
            format!("{authority} closed the connection without an answer"),
            cause,
        );
        if late {
            error.with_hint(
                "the request may have been answered and billed, so it was not sent again",
            )
        } else {
            error
        }
    }

    /// `during` says what was waited for: `no connection to localhost:80`.
    pub(crate) fn timeout(during: &str, limit: Duration, setting: &'static str) -> Error {
        Error::new(ErrorKind::Timeout, format!("{during} within {limit:?}")).with_hint(setting)
    }

    /// Like [`Error::timeout`], and nothing had been sent yet.
    pub(crate) fn connect_timeout(
        authority: &str,
        limit: Duration,
        setting: &'static str,
    ) -> Error {
        let during = format!("no connection to {authority}");
        let mut error = Error::timeout(&during, limit, setting);
        error.0.retryable = true;
        error
    }

    /// A peer that does not speak HTTP.
    pub(crate) fn protocol(authority: &str, cause: Cause) -> Error {
        let mut error = Error::new(
            ErrorKind::Decode,
            format!("{authority} did not answer with proper HTTP"),
        );
        error.0.said = cause.to_string();
        error
            .with_cause(cause)
            .with_hint("is it an https:// server addressed with http://, or no HTTP server at all?")
    }

    /// A response with a status other than 2xx.
    pub(crate) fn refused(response: Refused<'_>) -> Error {
        let Refused {
            status,
            body,
            url,
            key,
            inference_id,
            request_id,
            retry_after,
            location,
        } = response;
        let refusal = Refusal::read(&body);
        let name = reason(status);
        let mut what = format!("the server answered {status}");
        if !name.is_empty() {
            what = format!("{what} {name}");
        }
        if let Some(target) = location.filter(|_| (300..400).contains(&status)) {
            what = format!("{what}, a redirect to {}", one_line(target, 200));
        }
        let hint = hint_for(
            status,
            refusal.message.as_deref().unwrap_or_default(),
            url,
            key,
        );
        let asked = retry_after.or(refusal.retry_after);
        let mut error = Error::new(ErrorKind::Api, what);
        error.0.retryable =
            matches!(status, 408 | 409 | 429 | 500..) && !refusal.is_final(asked.is_some());
        error.0.request_id = inference_id.map(str::to_owned).or(refusal.request_id);
        error.0.request_id = error.0.request_id.or_else(|| request_id.map(str::to_owned));
        // {"error": "Bad Request", "message": ..} was read as "Bad Request: ..".
        let said = refusal.message.unwrap_or_default();
        let unnamed = said.strip_prefix(name);
        let unnamed = unnamed.and_then(|said| said.strip_prefix(": "));
        error.0.said = String::from(unnamed.unwrap_or(&said));
        error.0.code = refusal.code;
        error.0.hint = hint;
        error.0.status = Some(status);
        error.0.retry_after = asked;
        error.0.body = Some(body);
        error
    }

    /// An error object in a response with a 2xx status, or in a stream.
    pub(crate) fn reported(status: u16, body: &str) -> Error {
        let refusal = Refusal::read(body);
        let mut error = Error::new(
            ErrorKind::Api,
            format!("the server answered {status} with an error in it"),
        );
        error.0.said = refusal.message.unwrap_or_default();
        error.0.code = refusal.code;
        error.0.request_id = refusal.request_id;
        error.0.retry_after = refusal.retry_after;
        error.0.status = Some(status);
        error.0.body = Some(body.to_owned());
        error
    }

    /// A request of a batch without an answer. `body` is what is said about it, `state` what became of it.
    pub(crate) fn unanswered(state: &str, body: &str) -> Error {
        let refusal = Refusal::read(body);
        let mut error = Error::new(ErrorKind::Api, "the batch has no answer to this request");
        error.0.said = refusal.message.unwrap_or_else(|| state.to_owned());
        error.0.code = refusal.code;
        error.0.request_id = refusal.request_id;
        error.0.body = Some(body.to_owned());
        error
    }

    /// A 2xx response whose body is no chat completion. `why` says what it is instead.
    pub(crate) fn no_answer(status: u16, body: String, why: &str) -> Error {
        let start = if body.trim_start().starts_with('<') {
            Refusal::read(&body).message.unwrap_or_default()
        } else if body.starts_with('\u{1f}') {
            // Of gzip nothing can be read.
            String::new()
        } else {
            one_line(&body, 200)
        };
        let mut error = Error::new(
            ErrorKind::Decode,
            format!("the server answered {status} with {why}"),
        );
        error.0.said = start;
        error.0.status = Some(status);
        error.0.body = Some(body);
        error
    }

    /// Like [`Error::no_answer`], for a payload that no message may quote.
    pub(crate) fn undecodable(what: &str, payload: &str) -> Error {
        let mut error = Error::new(ErrorKind::Decode, what);
        error.0.body = Some(payload.chars().take(MAX_PAYLOAD).collect());
        error
    }

    /// Text that a model wrote and that is not what `T` needs.
    pub(crate) fn unparsable(what: &str, text: &str, cause: serde_json::Error) -> Error {
        let mut shown = format!("{what}, {cause}");
        if !text.is_empty() {
            shown = format!("{shown}, in: {}", one_line(text, 200));
        }
        let mut error = Error::new(ErrorKind::Decode, shown);
        error.0.body = Some(text.to_owned());
        error.with_cause(cause)
    }

    /// An answer that broke off.
    pub(crate) fn interrupted(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Interrupted, what)
    }

    /// `what` names the limit and says what became of it: `100 requests is used up`.
    pub(crate) fn budget(what: String, spent: &Spent) -> Error {
        let Spent {
            requests,
            prompt_tokens,
            completion_tokens,
            usd,
            unpriced,
            ..
        } = spent;
        let tokens = prompt_tokens.saturating_add(*completion_tokens);
        let usd = dollars(*usd);
        Error::new(ErrorKind::Budget, format!("the budget of {what}"))
            .with_hint(format!("spent: {requests} requests, {tokens} tokens, {usd}, {unpriced} requests of unknown price"))
    }

    pub(crate) fn cassette(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Cassette, what)
    }

    /// An answer longer than `limit` bytes.
    pub(crate) fn too_large(limit: u64, what: &str) -> Error {
        Error::new(
            ErrorKind::Decode,
            format!("{what} is longer than {limit} bytes"),
        )
        .with_hint("the limit is max_response_bytes()")
    }
}

fn hint_for(status: u16, said: &str, url: &str, key: KeySource) -> Option<Cow<'static, str>> {
    let lower = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().all(|word| lower.contains(word));
    Some(match status {
        300..400 => Cow::Borrowed("redirects are not followed: nothing was sent there; correct the base URL"),
        400 | 422 if has(&["system", "role"]) || has(&["system", "not support"]) => {
            "for a model without a system role there is ChatRequest::fold_system()".into()
        }
        400 | 422 if has(&["stream_options"]) || has(&["include_usage"]) => {
            "the server refuses the request for usage in a stream: leave it out with \
             param(\"stream_options\", serde_json::Value::Null)"
                .into()
        }
        401 => match key {
            KeySource::Environment => "the key came from AIMLAPI_API_KEY".into(),
            KeySource::Given => "the key is the one given to the client".into(),
            KeySource::None => "no key was sent: set AIMLAPI_API_KEY, or give one to the client".into(),
        },
        403 if has(&["credit"]) || has(&["balance"]) || has(&["limit"]) => {
            "the account is out of credit or over its limit".into()
        }
        404 => format!("asked: {url}; check the model's name against Client::models(), and that the base URL ends where /chat/completions begins, usually in /v1").into(),
        405 => format!("asked: {url}; check the base URL").into(),
        413 => "the request is too large for the server".into(),
        _ => return None,
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
