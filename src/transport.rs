//! One call over HTTP: its attempts, the waits between them, and one deadline over all. The only file that knows ureq.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, Read};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use ureq::{Agent, AsSendBody, Body, BodyReader, Proxy, ProxyProtocol};

use crate::endpoint::{CHAT_PATH, Endpoint};
use crate::error::{KeySource, Refused};
use crate::pace::Pace;
use crate::retry::{self, Again};
use crate::tape::Recording;
use crate::{Error, Result, RetryPolicy};

type RawResponse = ureq::http::Response<Body>;

/// A connection that is lost so soon after the request went out was an idle one that the server had closed. (A response
/// whose very head breaks off looks the same: ureq does not tell the two apart.)
const STALE: Duration = Duration::from_secs(2);

/// An error's body is read up to here.
const ERROR_BODY: u64 = 64 << 10;

const INFERENCE_ID: HeaderName = HeaderName::from_static("x-inference-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const USD_SPENT: HeaderName = HeaderName::from_static("x-aimlapi-usd-spent");

/// Longer than any program runs, and short enough to be added to an `Instant`.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// What bounds a call as a whole, for messages.
const OVERALL: &str = "the limit is timeout(), over all attempts";

/// The longest time without any progress while a request is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Sets the timeouts of an agent or of a request; ureq has no common name for their builders.
///
/// ureq bounds a whole call exactly (`timeout_global`), at the price of a thread for each look-up of a name. An
/// address is not looked up, so there the phases are bounded one by one, and [`BodyStream`] bounds the whole body.
macro_rules! limits {
    ($config:expr, $settings:expr, $left:expr, $stream:expr) => {{
        let (settings, left, stream): (&Settings, Duration, bool) = ($settings, $left, $stream);
        let named = !settings.endpoint.is_address();
        let connect = settings.connect_timeout.min(left);
        $config
            .timeout_global((named && !stream).then_some(left))
            .timeout_resolve(named.then_some(connect))
            .timeout_connect(Some(connect))
            .timeout_send_request(Some(left))
            .timeout_send_body(Some(left))
            .timeout_recv_response(Some(left))
            .timeout_recv_body((!stream).then_some(left))
            .timeout_per_read(stream.then_some(settings.idle_timeout))
    }};
}

/// What a client is set to. The transport has no defaults of its own.
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) key: Option<String>,
    pub(crate) key_source: KeySource,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) user_agent: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_response_bytes: u64,
    pub(crate) max_connections: usize,
    pub(crate) proxy: Option<String>,
    pub(crate) root_certificates: Option<Vec<u8>>,
    /// Nothing will be sent.
    pub(crate) offline: bool,
}

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

/// What the head of a response says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) inference_id: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) client_request_id: Option<String>,
    pub(crate) usd_spent: Option<f64>,
    pub(crate) is_event_stream: bool,
    /// How often the request was sent; 0 for a recorded answer.
    pub(crate) attempts: u32,
}

impl Head {
    /// The id to quote to the provider's support.
    pub(crate) fn id(&self) -> Option<&str> {
        self.inference_id.as_deref().or(self.request_id.as_deref())
    }

    pub(crate) fn recorded(
        status: u16,
        request_id: Option<String>,
        client_request_id: Option<String>,
        usd_spent: Option<f64>,
    ) -> Head {
        Head {
            status,
            request_id,
            client_request_id,
            usd_spent,
            ..Head::default()
        }
    }

    pub(crate) fn of_stream(self) -> Head {
        Head {
            is_event_stream: true,
            ..self
        }
    }

    fn of(response: &RawResponse, attempts: u32) -> Head {
        let text = |name: HeaderName| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let spent: Option<f64> = text(USD_SPENT).and_then(|usd| usd.trim().parse().ok());
        Head {
            status: response.status().as_u16(),
            inference_id: text(INFERENCE_ID),
            request_id: text(REQUEST_ID),
            client_request_id: text(CLIENT_REQUEST_ID),
            usd_spent: spent.filter(|usd| usd.is_finite()),
            is_event_stream: kind.is_some_and(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("text/event-stream")
            }),
            attempts,
        }
    }
}

/// A response with a 2xx status whose body is still to be read.
pub(crate) struct Response {
    pub(crate) head: Head,
    source: Source,
    /// As the head says it.
    length: u64,
    deadline: Instant,
}

/// Where a body comes from.
enum Source {
    Network(BodyReader<'static>),
    Recording(io::Cursor<Vec<u8>>),
}

pub(crate) struct Transport {
    agent: Agent,
    chat: Uri,
    models: Uri,
    headers: HeaderMap,
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
        let headers = headers(&settings, &mut secrets)?;
        let agent = agent(&settings)?;
        Ok(Transport {
            agent,
            chat,
            models,
            headers,
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
            return Ok(Response {
                head,
                length: 0,
                source: Source::Recording(io::Cursor::new(body)),
                deadline: Instant::now() + self.settings.timeout,
            });
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
                    let head = Head::of(&response, attempts);
                    log::debug!("{}: status {}", url(), head.status);
                    if response.status().is_success() {
                        let body = response.into_body();
                        return Ok(Response {
                            head,
                            length: body.content_length().unwrap_or(0),
                            source: Source::Network(body.into_reader()),
                            deadline,
                        });
                    }
                    self.refused(call, &head, response, deadline)
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
        let mut headers = self.headers.clone();
        match call {
            Call::Chat {
                body,
                client_id,
                stream,
            } => {
                if stream {
                    headers.insert(
                        header::ACCEPT,
                        HeaderValue::from_static("text/event-stream"),
                    );
                }
                if let Some(id) = client_id.and_then(|id| HeaderValue::from_str(id).ok()) {
                    headers.insert(CLIENT_REQUEST_ID, id);
                }
                let mut request = Request::new(body);
                *request.method_mut() = Method::POST;
                *request.uri_mut() = self.chat.clone();
                *request.headers_mut() = headers;
                self.send(request, left, stream, again, fresh)
            }
            Call::Models => {
                headers.remove(header::CONTENT_TYPE);
                let mut request = Request::new(());
                *request.uri_mut() = self.models.clone();
                *request.headers_mut() = headers;
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
        let mut config = limits!(config, &self.settings, left, stream);
        if fresh {
            // Skips the idle connections, and throws them away: the others are as stale as the one that failed.
            config = config.max_idle_age(Duration::ZERO);
        }
        self.agent.run(config.build())
    }

    /// The error of a response whose status is not 2xx.
    fn refused(
        &self,
        call: Call<'_>,
        head: &Head,
        response: RawResponse,
        deadline: Instant,
    ) -> (Error, Again) {
        let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let asked = retry::retry_after(
            text("retry-after-ms").as_deref(),
            text("retry-after").as_deref(),
            SystemTime::now(),
        );
        let (should, location) = (text("x-should-retry"), text("location"));
        let mut body = Vec::new();
        let reader = BodyStream {
            source: Source::Network(response.into_body().into_reader()),
            until: Some(deadline),
            deadline,
        };
        if let Err(cause) = reader.take(ERROR_BODY).read_to_end(&mut body) {
            log::debug!("the body of the error was not read to its end: {cause}");
        }
        let error = Error::refused(Refused {
            status: head.status,
            body: String::from_utf8_lossy(&body).into_owned(),
            url: &self.settings.endpoint.shown(call.path()),
            key: self.settings.key_source,
            inference_id: head.inference_id.as_deref(),
            request_id: head.request_id.as_deref(),
            retry_after: asked,
            location: location.as_deref(),
        });
        let again = Again::of_refusal(
            head.status,
            should.as_deref(),
            error.retry_after(),
            !error.is_retryable(),
        );
        (error, again)
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
                let error = Error::timeout(&during, WRITE_TIMEOUT, "this limit is fixed");
                (error, Again::Never)
            }
            ureq::Error::Timeout(PerRead) if call.is_stream() => (self.silent(), Again::Never),
            ureq::Error::Timeout(_) => (self.late("no answer"), Again::Never),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                (self.unreachable(error), Again::Later)
            }
            ureq::Error::Io(e) => match e.kind() {
                Io::ConnectionRefused
                | Io::HostUnreachable
                | Io::NetworkUnreachable
                | Io::NetworkDown
                | Io::AddrNotAvailable => (self.unreachable(e), Again::Later),
                Io::UnexpectedEof
                | Io::ConnectionReset
                | Io::ConnectionAborted
                | Io::BrokenPipe => {
                    let stale = elapsed < STALE;
                    (
                        Error::lost(authority, e, !stale),
                        if stale { Again::AtOnce } else { Again::Never },
                    )
                }
                Io::InvalidData => (Error::tls(authority, e), Again::Never),
                // The kind of a failed look-up has no name; no other failure lacks a number of the system's.
                _ if e.raw_os_error().is_none() && e.to_string().contains("lookup") => {
                    (self.unreachable(e), Again::Later)
                }
                _ => (
                    Error::connection(format!("the connection to {authority} failed"), e),
                    Again::Never,
                ),
            },
            ureq::Error::ConnectProxyFailed(_) => {
                let proxy = self.proxy().unwrap_or_default();
                let error = Error::proxy_refused(&proxy, authority, error);
                (error, Again::Never)
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                let peer = match self.proxy() {
                    Some(proxy) => format!("{authority}, or the proxy {proxy} before it,"),
                    None => authority.to_owned(),
                };
                (Error::protocol(&peer, error), Again::Never)
            }
            other => (
                Error::connection(format!("no request could be sent to {authority}"), other),
                Again::Never,
            ),
        }
    }

    fn unreachable(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
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
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Expired>)
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

impl Response {
    /// Reads a whole answer, bounded in bytes and in time.
    pub(crate) fn text(self, transport: &Transport) -> Result<(Head, String)> {
        // Room for a whole answer at once, but no more than is usual on a stranger's word.
        let room = self.length.min(64 << 10);
        let (head, body) = self.into_stream();
        match transport.whole(body, room) {
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
        (
            self.head,
            BodyStream {
                source: self.source,
                until: None,
                deadline: self.deadline,
            },
        )
    }
}

impl Transport {
    /// Reads what remains of a body, bounded in bytes and by the deadline of its call.
    pub(crate) fn whole(&self, body: impl Whole, room: u64) -> Result<String> {
        let limit = self.settings.max_response_bytes;
        // A little more, for std to see the end without growing.
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0) + 64);
        let read = body
            .within_deadline()
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes);
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

/// A response's body as it arrives. Dropping it closes the connection, unless it was read to its end.
pub(crate) struct BodyStream {
    source: Source,
    /// The end in time, which a trickle of bytes cannot put off. A stream has none.
    until: Option<Instant>,
    deadline: Instant,
}

impl Read for BodyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::Error::other(Expired));
        }
        match &mut self.source {
            Source::Network(reader) => reader.read(buffer),
            Source::Recording(bytes) => bytes.read(buffer),
        }
    }
}

/// What can be read as a whole, before the deadline of its call.
pub(crate) trait Whole: Read + Sized {
    fn within_deadline(self) -> Self;
}

impl Whole for BodyStream {
    fn within_deadline(mut self) -> BodyStream {
        self.until = Some(self.deadline);
        self
    }
}

impl Whole for BufReader<BodyStream> {
    fn within_deadline(mut self) -> Self {
        let body = self.get_mut();
        body.until = Some(body.deadline);
        self
    }
}

#[derive(Debug)]
struct Expired;

impl std::fmt::Display for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Expired {}

fn agent(settings: &Settings) -> Result<Agent> {
    let endpoint = &settings.endpoint;
    let mut config = limits!(Agent::config_builder(), settings, settings.timeout, false)
        .timeout_per_write(Some(WRITE_TIMEOUT))
        // The body of an error, its Retry-After and its connection are all needed.
        .http_status_as_error(false)
        // A redirected POST would become a GET, and its headers could go to another host.
        .max_redirects(0)
        .https_only(endpoint.is_https())
        .max_idle_connections(settings.max_connections)
        .max_idle_connections_per_host(settings.max_connections);
    if let Some(proxy) = proxy(settings)? {
        config = config.proxy(proxy);
    }
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    {
        config = config.tls_config(tls(settings)?);
    }
    #[cfg(not(any(feature = "rustls", feature = "native-tls")))]
    if settings.root_certificates.is_some() {
        return Err(Error::no_tls(endpoint.authority()));
    }
    Ok(config.build().new_agent())
}

/// `None` leaves ureq's own choice, `Some(None)` is no proxy.
#[allow(clippy::option_option)]
fn proxy(settings: &Settings) -> Result<Option<Option<Proxy>>> {
    let given = match &settings.proxy {
        Some(url) => Some(Proxy::new(url.trim()).map_err(|_| {
            Error::input("the proxy is none: it has to be like http://host:port or http://user:password@host:port")
        })?),
        // What is on this machine is reached without help, and its key stays on it.
        None if settings.endpoint.is_loopback() => return Ok(Some(None)),
        None => Proxy::try_from_env(),
    };
    let socks = given.as_ref().is_some_and(|proxy| {
        !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
    });
    if socks && !cfg!(feature = "socks-proxy") {
        return Err(Error::input(
            "a SOCKS proxy needs the feature `socks-proxy` of aimlapi",
        ));
    }
    Ok(settings.proxy.is_some().then_some(given))
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn tls(settings: &Settings) -> Result<ureq::tls::TlsConfig> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    let rustls = cfg!(feature = "rustls");
    let provider = if rustls {
        TlsProvider::Rustls
    } else {
        TlsProvider::NativeTls
    };
    let roots = match &settings.root_certificates {
        Some(pem) => {
            let certificates: Vec<_> = parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(Error::input(
                    "root_certificates_pem() was given no certificate in PEM form",
                ));
            }
            RootCerts::new_with_certs(&certificates)
        }
        None if cfg!(feature = "platform-verifier") || !rustls => RootCerts::PlatformVerifier,
        None => RootCerts::WebPki,
    };
    Ok(TlsConfig::builder()
        .provider(provider)
        .root_certs(roots)
        .build())
}

/// The headers that every request has. What must not be shown goes into `secrets`.
fn headers(settings: &Settings, secrets: &mut Vec<String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::ACCEPT, json.clone());
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers.insert(
        header::USER_AGENT,
        header_value("the user agent", &settings.user_agent)?,
    );
    if let Some(key) = &settings.key {
        let mut value =
            header_value("the API key", &format!("Bearer {key}")).map_err(|_| bad_key(key))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        secrets.push(key.clone());
    }
    for (name, value) in &settings.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| Error::input(format!("the header name {name:?} is none")))?;
        if is_reserved(parsed.as_str()) {
            return Err(Error::input(format!(
                "the header {parsed} is set by the client itself"
            )));
        }
        let mut header = header_value(&format!("the header {parsed}"), value)?;
        if is_secret(parsed.as_str()) {
            header.set_sensitive(true);
            secrets.push(value.rsplit(' ').next().unwrap_or(value).to_owned());
        }
        headers.insert(parsed, header);
    }
    Ok(headers)
}

fn header_value(what: &str, value: &str) -> Result<HeaderValue> {
    match value.char_indices().find(|(_, c)| !matches!(c, ' '..='~')) {
        Some((at, _)) => Err(Error::input(format!("{what} {}", unfit(value, at)))),
        None => HeaderValue::from_str(value)
            .map_err(|e| Error::input(format!("{what} is no header's value: {e}"))),
    }
}

/// Says which character a header cannot carry, and never quotes the rest.
fn unfit(value: &str, at: usize) -> String {
    let place = value.get(..at).unwrap_or_default().chars().count() + 1;
    let what = match value.get(at..).and_then(|rest| rest.chars().next()) {
        Some(c) if c.is_control() => "a control character",
        _ => "a character that is not ASCII",
    };
    format!("holds a character that no HTTP header can carry: {what} at position {place}")
}

fn bad_key(key: &str) -> Error {
    let at = key
        .char_indices()
        .find(|(_, c)| !matches!(c, ' '..='~'))
        .map_or(0, |(at, _)| at);
    let hint = if key.trim_end().len() < key.len() {
        "; is it a line break at its end?"
    } else {
        ""
    };
    Error::input(format!("the API key {}{hint}", unfit(key, at)))
}

/// Headers that hold a key by custom, so that they are guarded like one.
pub(crate) fn is_secret(name: &str) -> bool {
    [
        "authorization",
        "api-key",
        "x-api-key",
        "proxy-authorization",
    ]
    .contains(&name.to_ascii_lowercase().as_str())
}

/// Headers that would change what a request means.
fn is_reserved(name: &str) -> bool {
    [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept",
        "accept-encoding",
        "expect",
    ]
    .contains(&name)
}

/// A random number in `0.0..1.0`, from the randomness that std has for its hash maps.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn dice() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
