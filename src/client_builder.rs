//! What a client is made of: every setting with its default, and what the environment adds.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Ledger;
use crate::cassette::Slots;
use crate::endpoint::{DEFAULT_BASE_URL, Endpoint};
use crate::error::KeySource;
use crate::transport::{self, Roots, Settings, Transport};
use crate::{Budget, Cassette, Client, Error, Result, RetryPolicy};

const KEY_VARIABLE: &str = "AIMLAPI_API_KEY";
const BASE_URL_VARIABLE: &str = "AIMLAPI_BASE_URL";
const CASSETTE_VARIABLE: &str = "AIMLAPI_CASSETTE";

/// The settings of a [`Client`] that is to be made: server, key, limits, proxy.
///
/// [`Client::builder`] begins one with everything as by default, and [`build`](ClientBuilder::build) makes the client.
///
/// ```
/// use aimlapi::Client;
/// use std::time::Duration;
///
/// // Ollama on this machine: no key, no TLS, and more patience.
/// let client = Client::builder()
///     .base_url("http://localhost:11434")
///     .timeout(Duration::from_secs(1800))
///     .build()?;
/// # drop(client);
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    api_key: Option<String>,
    key_source: KeySource,
    base_url: Option<String>,
    user_agent: String,
    headers: Vec<(String, String)>,
    connect_timeout: Duration,
    timeout: Duration,
    idle_timeout: Duration,
    retry: RetryPolicy,
    max_response_bytes: u64,
    max_connections: usize,
    proxy: Option<String>,
    root_certificates: Option<Roots>,
    allow_plaintext_key: bool,
    cassette: Option<(Cassette, Slots)>,
    budget: Option<Budget>,
}

impl ClientBuilder {
    pub(crate) fn new() -> ClientBuilder {
        ClientBuilder {
            api_key: None,
            key_source: KeySource::None,
            base_url: None,
            user_agent: concat!("aimlapi-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            max_response_bytes: 64 << 20,
            max_connections: 16,
            proxy: None,
            root_certificates: None,
            allow_plaintext_key: false,
            cassette: None,
            budget: None,
        }
    }

    /// The key, sent as `Authorization: Bearer`. An empty key is none. Default: if no [`base_url`](Self::base_url) is
    /// given either, both are taken from the environment, as by [`Client::from_env`]; else none, so that a key never
    /// goes to a server it was not meant for.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into()).filter(|key| !key.is_empty());
        self.key_source = if self.api_key.is_some() {
            KeySource::Given
        } else {
            KeySource::None
        };
        self
    }

    /// Where the server is. Default: `https://api.aimlapi.com/v1`.
    ///
    /// Any OpenAI-compatible server will do. A path left out is `/v1`; the full address of its chat completions is
    /// understood too, and a query, such as Azure's `?api-version=..`, goes along with every request.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The `User-Agent`. Default: `aimlapi-rust/` and the crate's version.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// A header for every request, such as OpenRouter's `X-Title`. The last one of a name counts; `authorization`
    /// replaces the key's. Those that would change what a request means, such as `content-length`, are refused by
    /// [`build`](Self::build).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long to look for the host, and then how long to connect to it, TLS included. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a whole call may take, all its attempts and the waits between them together; for a stream, until it
    /// begins. Default: 10 minutes. More than a year counts as a year.
    ///
    /// The limit is exact, but for one case: a server addressed by IP address that begins its answer late and then
    /// falls silent may take twice as long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How long a stream may be silent; any byte counts as life, a comment's too. Default: 5 minutes. A stream has no
    /// limit as a whole. Before a stream begins, this limit and [`timeout`](Self::timeout) both hold.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How often a failed request is repeated. Default: [`RetryPolicy::default`], 2 retries.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The most bytes that an answer may have, or one event of a stream. Default: 64 MiB. Guards the memory against a
    /// server that never ends.
    pub fn max_response_bytes(mut self, bytes: u64) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// The most idle connections to keep for later calls. Default: 16. It is no limit of parallel calls: each has a
    /// connection of its own.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// The proxy, as `http://host:port` or `http://user:password@host:port`; `socks5://` and its kin with the feature
    /// `socks-proxy`. Default: `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` with the exceptions of `NO_PROXY`, and none
    /// for a server on this machine.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// The certificate authorities to trust, in PEM form, in place of the default ones. Default: Mozilla's, built in;
    /// with the feature `platform-verifier` or with `native-tls` alone, the operating system's.
    pub fn root_certificates_pem(mut self, pem: &[u8]) -> Self {
        self.root_certificates = Some(Roots::read(pem));
        self
    }

    /// Lets the key travel to another machine over `http://`, where all on the way can read it. Default: refused.
    pub fn allow_plaintext_key(mut self) -> Self {
        self.allow_plaintext_key = true;
        self
    }

    /// Answers from a directory of recorded answers, and records new ones. Default: none. The environment variable
    /// `AIMLAPI_CASSETTE` overrides the mode: see [`Cassette`].
    pub fn cassette(mut self, cassette: Cassette) -> Self {
        self.cassette = Some((cassette, Cassette::slot));
        self
    }

    /// Limits what the client may spend: see [`Budget`]. Default: no limit.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Makes the client. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if a setting cannot be right: no key for the default base URL, a base URL
    /// that is none, a key or a header that HTTP cannot carry, a key that would travel unencrypted to another machine,
    /// a timeout of zero, `https://` without a TLS feature.
    pub fn build(mut self) -> Result<Client> {
        let guarded = self
            .headers
            .iter()
            .any(|(name, _)| transport::is_secret(name));
        if self.api_key.is_none() && self.base_url.is_none() && !guarded {
            self = self.environment()?;
        }
        let cassette = match (self.cassette, variable(CASSETTE_VARIABLE)?) {
            (Some((cassette, slots)), Some(mode)) => {
                cassette.in_mode(&mode)?.map(|cassette| (cassette, slots))
            }
            (cassette, _) => cassette,
        };
        let endpoint = Endpoint::parse(self.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?;
        let has_secret = self.api_key.is_some() || guarded;
        let lacks_key = !has_secret && self.base_url.is_none();
        if lacks_key && cassette.is_none() {
            return Err(Error::no_key());
        }
        if has_secret
            && !endpoint.is_https()
            && !endpoint.is_loopback()
            && !self.allow_plaintext_key
        {
            return Err(Error::plaintext_key(endpoint.authority()));
        }
        let transport = Transport::new(Settings {
            endpoint,
            key: self.api_key,
            key_source: match self.key_source {
                KeySource::None if has_secret => KeySource::Given,
                source => source,
            },
            headers: self.headers,
            user_agent: self.user_agent,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
            retry: self.retry,
            max_response_bytes: self.max_response_bytes,
            max_connections: self.max_connections,
            proxy: self.proxy,
            root_certificates: self.root_certificates,
            offline: cassette
                .as_ref()
                .is_some_and(|(cassette, _)| cassette.only_replays()),
        })?;
        Ok(Client {
            transport: Arc::new(transport),
            cassette,
            budget: self.budget,
            ledger: Ledger::default(),
            lacks_key,
        })
    }

    /// With the key and the base URL of the environment.
    fn environment(mut self) -> Result<ClientBuilder> {
        self.api_key = variable(KEY_VARIABLE)?;
        if self.api_key.is_some() {
            self.key_source = KeySource::Environment;
        }
        self.base_url = variable(BASE_URL_VARIABLE)?;
        Ok(self)
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its query may hold a key, and what is no base URL may hold anything.
        let base_url = Endpoint::parse(self.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))
            .map_or_else(
                |_| "[no base URL]".to_owned(),
                |endpoint| endpoint.shown(""),
            );
        f.debug_struct("ClientBuilder")
            .field("base_url", &base_url)
            .field("api_key", &shown_key(self.api_key.is_some()))
            .finish_non_exhaustive()
    }
}

/// How a key is shown: not at all.
pub(crate) fn shown_key(given: bool) -> &'static str {
    if given { "[key]" } else { "none" }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) if value.trim().is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Error::input(format!(
            "the environment variable {name} is not UTF-8"
        ))),
    }
}
