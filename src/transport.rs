//! One call over HTTP: its attempts, the waits between them, and one deadline over all. Nothing outside of this module
//! knows ureq.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use ureq::{Agent, AsSendBody, Body};

use crate::endpoint::CHAT_PATH;
use crate::error::Refused;
use crate::head::{self, Head};
use crate::pace::Pace;
use crate::retry::{self, Again};
use crate::tape::Recording;
use crate::{Error, Result};

mod agent;
mod body;
mod failure;
mod headers;

pub(crate) use agent::{Roots, Settings};
pub(crate) use body::{BodyStream, Response};
pub(crate) use headers::is_secret;

type RawResponse = ureq::http::Response<Body>;

/// An error's body is read up to here.
const ERROR_BODY: u64 = 64 << 10;

/// Longer than any program runs, and short enough to be added to an `Instant`.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

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
}

/// A random number in `0.0..1.0`, from the randomness that std has for its hash maps.
#[allow(clippy::as_conversions, clippy::cast_precision_loss)]
fn dice() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}
