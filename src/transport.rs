//! One call over HTTP: its attempts, the waits between them, and one deadline over all. Nothing outside of this module
//! knows ureq.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use ureq::{Agent, AsSendBody, Body};

use crate::endpoint::CHAT_PATH;
use crate::error::{Cause, Refused};
use crate::head::{self, Head};
use crate::pace::Pace;
use crate::retry::{self, Again};
use crate::tape::Recording;
use crate::{Error, Result};

mod agent;
mod body;
mod headers;

pub(crate) use agent::{Roots, Settings};
pub(crate) use body::{BodyStream, Response};
pub(crate) use headers::is_secret;

type RawResponse = ureq::http::Response<Body>;

/// A connection that is lost so soon after the request went out was an idle one that the server had closed. (A response
/// whose very head breaks off looks the same: ureq does not tell the two apart.)
const STALE: Duration = Duration::from_secs(2);

/// An error's body is read up to here.
const ERROR_BODY: u64 = 64 << 10;

/// Longer than any program runs, and short enough to be added to an `Instant`.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// What bounds a call as a whole, for messages.
const OVERALL: &str = "the limit is timeout(), over all attempts";

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Call<'a> {
    Chat {
        body: &'a [u8],
        client_id: Option<&'a str>,
        stream: bool,
    },
    Models,
}

impl Call<'_> {
    fn is_stream(self) -> bool {
        matches!(self, Call::Chat { stream: true, .. })
    }

    fn path(self) -> &'static str {
        match self {
            Call::Chat { .. } => CHAT_PATH,
            Call::Models => "/models",
        }
    }
}

pub(crate) struct Transport {
    agent: Agent,
    chat: Uri,
    models: Uri,
    headers: HeaderMap,
    /// Without what speaks of a body.
    bare_headers: HeaderMap,
    /// What no message and no recording may show.
    pub(crate) secrets: Vec<String>,
    pub(crate) settings: Settings,
}

impl Transport {
    pub(crate) fn new(mut settings: Settings) -> Result<Transport> {
        for limit in [
            &mut settings.connect_timeout,
            &mut settings.timeout,
            &mut settings.idle_timeout,
        ] {
            if limit.is_zero() {
                return Err(Error::input("a timeout of zero would let no call succeed"));
            }
            *limit = (*limit).min(FOREVER);
        }
        let endpoint = &settings.endpoint;
        let has_tls = cfg!(any(feature = "rustls", feature = "native-tls"));
        if endpoint.is_https() && !has_tls && !settings.offline {
            return Err(Error::no_tls(endpoint.authority()));
        }
        let uri = |url: String| {
            Uri::try_from(url).map_err(|e| Error::input(format!("the base URL is none: {e}")))
        };
        let (chat, models) = (uri(endpoint.chat_url())?, uri(endpoint.models_url())?);
        let mut secrets = Vec::new();
        let bare_headers = headers::of(&settings, &mut secrets)?;
        let mut headers = bare_headers.clone();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let agent = agent::of(&settings)?;
        Ok(Transport {
            agent,
            chat,
            models,
            headers,
            bare_headers,
            secrets,
            settings,
        })
    }

    /// Takes the key out of an error's words.
    pub(crate) fn redact(&self, error: Error) -> Error {
        error.redacted(&self.secrets)
    }

    /// A recorded response, or the error that was recorded.
    pub(crate) fn replay(&self, recording: Recording) -> Result<Response> {
        let Recording { head, body } = recording;
        if (200..300).contains(&head.status) {
            let deadline = Instant::now() + self.settings.timeout;
            return Ok(Response::recorded(head, body, deadline));
        }
        Err(self.redact(Error::refused(Refused {
            status: head.status,
            body: String::from_utf8_lossy(&body).into_owned(),
            url: &self.settings.endpoint.shown(CHAT_PATH),
            key: self.settings.key_source,
            inference_id: None,
            request_id: head.request_id.as_deref(),
            retry_after: None,
            location: None,
        })))
    }

    /// Sends until there is a response with a 2xx status, or a reason to stop.
    ///
    /// Calls at one `pace` wait together when one of them is told to slow down. Being told so is then no failure: it
    /// is not counted against the policy's retries, and only the deadline bounds it.
    pub(crate) fn run(&self, call: Call<'_>, pace: Option<&Pace>) -> Result<Response> {
        let url = || self.settings.endpoint.shown(call.path());
        // Before the call's own time begins.
        if pace.is_some_and(|pace| !pace.wait(Duration::ZERO)) {
            return Err(Error::interrupted(
                "the batch ended before this request was sent",
            ));
        }
        let deadline = Instant::now() + self.settings.timeout;
        let (mut attempts, mut failures, mut fresh) = (0_u32, 0_u32, false);
        loop {
            attempts = attempts.saturating_add(1);
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            log::debug!("{}: attempt {attempts}", url());
            let (error, again) = match self.attempt(call, left, attempts > 1, fresh) {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let lines = parts.headers.iter();
                    let lines = lines
                        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
                    let head = Head::read(parts.status.as_u16(), lines, attempts);
                    log::debug!("{}: status {}", url(), head.status);
                    let response = Response::received(head, body, deadline);
                    if parts.status.is_success() {
                        return Ok(response);
                    }
                    self.refused(call, response, &parts.headers)
                }
                Err(error) => self.failed(call, error, started.elapsed()),
            };
            let error = self.redact(error.with_attempts(attempts));
            let left = deadline.saturating_duration_since(Instant::now());
            let policy = self.settings.retry;
            let too_fast = error.status() == Some(429) && again != Again::Never;
            let pause = match pace {
                Some(pace) if too_fast => {
                    let pause = policy.cool_down(attempts - failures, again, dice());
                    // Also where this call gives up: the others would only be told the same.
                    pace.slow_down(pause.min(self.settings.timeout));
                    (policy.retries() && pause < left).then_some(pause)
                }
                _ => {
                    failures += 1;
                    policy.pause(failures, again, left, dice())
                }
            };
            let Some(pause) = pause else {
                return Err(error);
            };
            log::warn!("attempt {attempts} failed, the next one follows in {pause:?}: {error}");
            match pace {
                None => std::thread::sleep(pause),
                Some(pace) if pace.wait(pause) => {}
                Some(_) => return Err(error),
            }
            fresh = again == Again::AtOnce;
        }
    }

    fn attempt(
        &self,
        call: Call<'_>,
        left: Duration,
        again: bool,
        fresh: bool,
    ) -> Result<RawResponse, ureq::Error> {
        match call {
            Call::Chat {
                body,
                client_id,
                stream,
            } => {
                let mut headers = self.headers.clone();
                if stream {
                    headers.insert(
                        header::ACCEPT,
                        HeaderValue::from_static("text/event-stream"),
                    );
                }
                if let Some(id) = client_id.and_then(|id| HeaderValue::from_str(id).ok()) {
                    headers.insert(HeaderName::from_static(head::CLIENT_REQUEST_ID), id);
                }
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = self.chat.clone();
                *request.headers_mut() = headers;
                self.send(request, left, stream, again, fresh)
            }
            Call::Models => {
                let mut request = Request::new(());
                *request.uri_mut() = self.models.clone();
                *request.headers_mut() = self.bare_headers.clone();
                self.send(request, left, false, again, fresh)
            }
        }
    }

    /// A first attempt at a whole answer needs no settings of its own: the agent has them.
    fn send(
        &self,
        request: Request<impl AsSendBody>,
        left: Duration,
        stream: bool,
        again: bool,
        fresh: bool,
    ) -> Result<RawResponse, ureq::Error> {
        if !stream && !again {
            return self.agent.run(request);
        }
        let config = self.agent.configure_request(request);
        let mut config = agent::limits!(config, &self.settings, left, stream);
        if fresh {
            // Skips the idle connections, and throws them away: the others are as stale as the one that failed.
            config = config.max_idle_age(Duration::ZERO);
        }
        self.agent.run(config.build())
    }

    /// The error of a response whose status is not 2xx.
    fn refused(&self, call: Call<'_>, response: Response, headers: &HeaderMap) -> (Error, Again) {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let asked = retry::retry_after(
            text("retry-after-ms"),
            text("retry-after"),
            SystemTime::now(),
        );
        let head = response.head.clone();
        let error = Error::refused(Refused {
            status: head.status,
            body: response.start(ERROR_BODY),
            url: &self.settings.endpoint.shown(call.path()),
            key: self.settings.key_source,
            inference_id: head.inference_id.as_deref(),
            request_id: head.request_id.as_deref(),
            retry_after: asked,
            location: text("location"),
        });
        let again = Again::of_refusal(
            head.status,
            text("x-should-retry"),
            error.retry_after(),
            !error.is_retryable(),
        );
        // What the server says of a repetition holds for the caller's too.
        (error.with_retryable(again != Again::Never), again)
    }

    /// The error of an attempt that got no response.
    fn failed(&self, call: Call<'_>, error: ureq::Error, elapsed: Duration) -> (Error, Again) {
        use io::ErrorKind as Io;
        use ureq::Timeout::{Connect, PerRead, PerWrite, Resolve};

        let settings = &self.settings;
        let authority = settings.endpoint.authority();
        match error {
            ureq::Error::Timeout(Resolve | Connect) => {
                // Over so soon, it was the call's own limit that was reached.
                let (limit, setting) = if elapsed < settings.connect_timeout {
                    (settings.timeout, OVERALL)
                } else {
                    (settings.connect_timeout, "the limit is connect_timeout()")
                };
                let error = Error::connect_timeout(authority, limit, setting);
                (error, Again::Later)
            }
            ureq::Error::Timeout(PerWrite) => {
                let during = format!("{authority} took no byte of the request");
                let error = Error::timeout(&during, agent::WRITE_TIMEOUT, "this limit is fixed");
                (error, Again::Never)
            }
            ureq::Error::Timeout(PerRead) if call.is_stream() => (self.silent(), Again::Never),
            ureq::Error::Timeout(_) => (self.late("no answer"), Again::Never),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                (self.unreachable(error.into()), Again::Later)
            }
            ureq::Error::Io(e) => match e.kind() {
                Io::ConnectionRefused
                | Io::HostUnreachable
                | Io::NetworkUnreachable
                | Io::NetworkDown
                | Io::AddrNotAvailable => (self.unreachable(e.into()), Again::Later),
                Io::UnexpectedEof
                | Io::ConnectionReset
                | Io::ConnectionAborted
                | Io::BrokenPipe => {
                    let stale = elapsed < STALE;
                    (
                        Error::lost(authority, e.into(), !stale),
                        if stale { Again::AtOnce } else { Again::Never },
                    )
                }
                Io::InvalidData => (Error::tls(authority, e.into()), Again::Never),
                // The kind of a failed look-up has no name; no other failure lacks a number of the system's.
                _ if e.raw_os_error().is_none() && e.to_string().contains("lookup") => {
                    (self.unreachable(e.into()), Again::Later)
                }
                _ => (
                    Error::connection(format!("the connection to {authority} failed"), e.into()),
                    Again::Never,
                ),
            },
            ureq::Error::ConnectProxyFailed(_) => {
                let proxy = self.proxy().unwrap_or_default();
                let error = Error::proxy_refused(&proxy, authority, error.into());
                (error, Again::Never)
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                let peer = match self.proxy() {
                    Some(proxy) => format!("{authority}, or the proxy {proxy} before it,"),
                    None => authority.to_owned(),
                };
                (Error::protocol(&peer, error.into()), Again::Never)
            }
            other => (
                Error::connection(
                    format!("no request could be sent to {authority}"),
                    other.into(),
                ),
                Again::Never,
            ),
        }
    }

    fn unreachable(&self, cause: Cause) -> Error {
        let authority = self.settings.endpoint.authority();
        match self.proxy() {
            Some(proxy) => Error::proxy_unreachable(&proxy, authority, cause),
            None => Error::unreachable(authority, cause),
        }
    }

    /// Host and port of the proxy that the requests go through.
    fn proxy(&self) -> Option<String> {
        let proxy = self.agent.config().proxy()?;
        let used = !proxy.is_no_proxy(&self.chat);
        used.then(|| format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// A stream that has been silent for too long.
    fn silent(&self) -> Error {
        let authority = self.settings.endpoint.authority();
        let limit = self.settings.idle_timeout;
        let during = format!("{authority} sent nothing");
        Error::timeout(&during, limit, "the limit is idle_timeout()")
    }

    /// A call that takes too long. `missing` is what has not come.
    fn late(&self, missing: &str) -> Error {
        let authority = self.settings.endpoint.authority();
        let limit = self.settings.timeout;
        Error::timeout(&format!("{missing} from {authority}"), limit, OVERALL)
    }

    /// What a failed read of a response's body means.
    pub(crate) fn read_failed(&self, cause: io::Error) -> Error {
        if cause
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<body::Expired>)
        {
            return self.late("no whole answer");
        }
        match ureq::Error::from(cause) {
            ureq::Error::Timeout(ureq::Timeout::PerRead) => self.silent(),
            ureq::Error::Timeout(_) => self.late("no whole answer"),
            cause => Error::interrupted("the connection was lost in the middle of the answer")
                .with_cause(cause),
        }
    }
}

/// A random number in `0.0..1.0`, from the randomness that std has for its hash maps.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn dice() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::error::KeySource;
    use crate::{ErrorKind, RetryPolicy};

    fn transport() -> Transport {
        Transport::new(Settings {
            endpoint: Endpoint::parse("http://127.0.0.1:1").unwrap(),
            key: None,
            key_source: KeySource::None,
            headers: Vec::new(),
            user_agent: String::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            max_response_bytes: 1,
            max_connections: 1,
            proxy: None,
            root_certificates: None,
            offline: false,
        })
        .unwrap()
    }

    /// What the failure of an attempt is after so many milliseconds, and whether it is repeated.
    #[track_caller]
    fn fails(error: ureq::Error, after: u64, kind: ErrorKind, again: Again) -> Error {
        let after = Duration::from_millis(after);
        let (error, is) = transport().failed(Call::Models, error, after);
        assert_eq!((error.kind(), is), (kind, again), "{error}");
        error
    }

    #[test]
    fn only_a_connection_that_is_lost_early_was_stale() {
        for lost in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
        ] {
            let fails = |after, again| {
                let error = io::Error::from(lost).into();
                fails(error, after, ErrorKind::Connection, again)
            };
            let (early, late) = (fails(1999, Again::AtOnce), fails(2000, Again::Never));
            assert!(!early.is_retryable() && !late.is_retryable());
            let why = "(the request may have been answered and billed, so it was not sent again)";
            assert!(late.to_string().ends_with(why), "{late}");
            assert!(!early.to_string().contains("billed"), "{early}");
        }
    }

    #[test]
    fn what_was_never_sent_is_repeated() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        let unrouted = io::Error::from(io::ErrorKind::NetworkUnreachable).into();
        let unknown = io::Error::other("failed to lookup address information").into();
        for error in [refused, unrouted, unknown, ureq::Error::HostNotFound] {
            assert!(fails(error, 0, ErrorKind::Connection, Again::Later).is_retryable());
        }
        for phase in [ureq::Timeout::Resolve, ureq::Timeout::Connect] {
            let error = ureq::Error::Timeout(phase);
            assert!(fails(error, 10_000, ErrorKind::Timeout, Again::Later).is_retryable());
        }
    }

    #[test]
    fn what_the_server_may_have_begun_to_answer_is_not_repeated() {
        use ureq::Timeout::{Global, PerRead, PerWrite, RecvBody, RecvResponse, SendBody};

        for phase in [Global, SendBody, PerWrite, RecvResponse, PerRead, RecvBody] {
            let error = ureq::Error::Timeout(phase);
            assert!(!fails(error, 9, ErrorKind::Timeout, Again::Never).is_retryable());
        }
        let head = ureq::Error::LargeResponseHeader(2, 1);
        fails(head, 9, ErrorKind::Decode, Again::Never);
    }

    #[test]
    fn what_no_repetition_mends_is_not_repeated() {
        for kind in [io::ErrorKind::InvalidData, io::ErrorKind::PermissionDenied] {
            let error = io::Error::from(kind).into();
            assert!(!fails(error, 9, ErrorKind::Connection, Again::Never).is_retryable());
        }
    }

    #[test]
    fn the_limit_that_was_reached_is_named() {
        let connect = |after| {
            let error = ureq::Error::Timeout(ureq::Timeout::Connect);
            fails(error, after, ErrorKind::Timeout, Again::Later).to_string()
        };
        let own = "within 10s (the limit is connect_timeout())";
        assert_eq!(
            connect(10_000),
            format!("no connection to 127.0.0.1:1 {own}")
        );
        let all = "within 600s (the limit is timeout(), over all attempts)";
        assert_eq!(
            connect(9_999),
            format!("no connection to 127.0.0.1:1 {all}")
        );
        let write = ureq::Error::Timeout(ureq::Timeout::PerWrite);
        let error = fails(write, 60_000, ErrorKind::Timeout, Again::Never);
        let fixed = "within 60s (this limit is fixed)";
        assert_eq!(
            error.to_string(),
            format!("127.0.0.1:1 took no byte of the request {fixed}")
        );
    }
}
