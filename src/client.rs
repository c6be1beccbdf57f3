//! The client: what is set once, and the calls.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Ledger, Ticket};
use crate::cassette::{Slot, Slots, Turn};
use crate::endpoint::{DEFAULT_BASE_URL, Endpoint};
use crate::error::KeySource;
use crate::pace::Pace;
use crate::request::Form;
use crate::tape::{Answer, Recording};
use crate::transport::{self, Call, Response, Roots, Settings, Transport};
use crate::{
    Batch, Budget, Cassette, ChatRequest, ChatStream, Completion, Error, IntoMessages, Model,
    Result, RetryPolicy, Spent,
};

const KEY_VARIABLE: &str = "AIMLAPI_API_KEY";
const BASE_URL_VARIABLE: &str = "AIMLAPI_BASE_URL";
const CASSETTE_VARIABLE: &str = "AIMLAPI_CASSETTE";

/// A client of one server: its address, the key, the limits, and a pool of connections.
///
/// Make one and keep it. A clone is cheap and shares the connections; a client is `Send` and `Sync`, so threads can
/// share one. `{:?}` never shows the key.
///
/// ```no_run
/// let client = aimlapi::Client::from_env()?;
/// let reply = client.chat(aimlapi::GEMMA_2_27B_IT, "Why is the sky blue?")?;
/// println!("{}", reply.text());
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    cassette: Option<(Cassette, Slots)>,
    budget: Option<Budget>,
    ledger: Ledger,
    /// The server needs a key and there is none, which only a recorded answer makes up for.
    lacks_key: bool,
}

impl Client {
    /// A client of AI/ML API with this key. Everything else as by default; see [`ClientBuilder`].
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if the key is empty, or holds what no HTTP header can carry.
    pub fn new(api_key: impl Into<String>) -> Result<Client> {
        Client::builder().api_key(api_key).build()
    }

    /// A client from the environment: the key from `AIMLAPI_API_KEY`, the base URL from `AIMLAPI_BASE_URL`, by default
    /// `https://api.aimlapi.com/v1`. Another base URL needs no key.
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if neither is set, or one of them cannot be right. The error says what to set.
    pub fn from_env() -> Result<Client> {
        Client::builder().build()
    }

    /// Begins a client with everything as by default, to be changed. If neither a key nor a base URL is given, both are
    /// taken from the environment.
    pub fn builder() -> ClientBuilder {
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

    /// Asks a model and waits for its whole answer: [`send`](Client::send) without parameters.
    ///
    /// # Errors
    ///
    /// As [`send`](Client::send).
    pub fn chat(&self, model: &str, messages: impl IntoMessages) -> Result<Completion> {
        self.send(&ChatRequest::new(model, messages))
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// A failed request is repeated where that cannot cost twice; see [`RetryPolicy`]. The whole takes at most
    /// [`timeout`](ClientBuilder::timeout).
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if the request cannot be right, [`Connection`](crate::ErrorKind::Connection)
    /// and [`Timeout`](crate::ErrorKind::Timeout) if there is no answer, [`Api`](crate::ErrorKind::Api) if the server
    /// answers with an error, [`Decode`](crate::ErrorKind::Decode) if it answers with what is no chat completion, and
    /// [`Interrupted`](crate::ErrorKind::Interrupted) if the answer breaks off.
    pub fn send(&self, request: &ChatRequest) -> Result<Completion> {
        self.send_at(request, None)
    }

    /// Sends many requests at once and hands their answers over in the order of the requests. See [`Batch`].
    pub fn send_all<I>(&self, requests: I) -> Batch<I::IntoIter>
    where
        I: IntoIterator<Item = ChatRequest>,
        I::IntoIter: Send + 'static,
    {
        Batch::new(self.clone(), requests.into_iter())
    }

    /// Sends a request at a pace that others keep too.
    pub(crate) fn send_at(&self, request: &ChatRequest, pace: Option<&Pace>) -> Result<Completion> {
        let slot = self.slot(request)?;
        let _turn = slot.as_ref().map(|slot| self.turn(slot)).transpose()?;
        if let Some((slot, recording)) = find(slot.as_ref())? {
            let response = self.transport.replay(recording)?;
            return self
                .read(request, response, None)
                .map_err(|error| slot.damaged(&error));
        }
        let body = request.body(Form::Whole)?;
        let mut tickets = self.admit(false)?;
        let call = Call::Chat {
            body: &body,
            client_id: request.client_id(),
            stream: false,
        };
        let answer = self.transport.run(call, pace).and_then(|response| {
            tickets.begun(response.head.attempts);
            self.read(request, response, slot.as_ref())
        });
        match &answer {
            Ok(completion) => tickets.answered(completion),
            Err(error) => {
                tickets.failed(error);
                self.keep_error(slot.as_ref(), error);
            }
        }
        answer
    }

    /// Reads a response to its end, and records it.
    fn read(
        &self,
        request: &ChatRequest,
        response: Response,
        slot: Option<&Slot>,
    ) -> Result<Completion> {
        if response.head.is_event_stream {
            // A recorded stream, or a server that streams unasked.
            let stream = ChatStream::new(
                response,
                Arc::clone(&self.transport),
                request.asks_for_several(),
            );
            return stream.recorded_in(slot.cloned()).finish();
        }
        let (head, text) = response.text(&self.transport)?;
        let decoded = Completion::decode(head.status, text);
        let mut completion = decoded.map_err(|error| self.concluded(error, &head))?;
        completion.take_head(&head);
        if let (Some(slot), Some(raw)) = (slot, &completion.raw) {
            completion.unrecorded = slot.keep(&head, &Answer::Body(raw), &self.transport.secrets);
        }
        Ok(completion)
    }

    /// Where the request is recorded, or is to be.
    fn slot(&self, request: &ChatRequest) -> Result<Option<Slot>> {
        let slot = |(cassette, slots): &(Cassette, Slots)| slots(cassette, request);
        self.cassette.as_ref().map(slot).transpose()
    }

    /// How long a whole call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.transport.settings.timeout
    }

    /// Waits while another thread sends the same request in order to record it.
    fn turn<'a>(&self, slot: &'a Slot) -> Result<Turn<'a>> {
        let limit = self.timeout();
        slot.turn(limit).ok_or_else(|| {
            let during = "another thread did not finish the same request";
            Error::timeout(during, limit, "the limit is timeout()")
        })
    }

    /// Lets a call go out, or says why not.
    fn admit(&self, stream: bool) -> Result<Tickets> {
        if self.lacks_key {
            return Err(Error::no_key());
        }
        let limit = self.timeout();
        let admit = |budget: &Budget| {
            let during = "the budget had no room for another call";
            let late = || Error::timeout(during, limit, "the limit is timeout()");
            budget.admit(stream, limit).unwrap_or_else(|| Err(late()))
        };
        let budget = self.budget.as_ref().map(admit).transpose()?;
        Ok(Tickets {
            own: self.ledger.note(stream),
            budget,
        })
    }

    /// Sends a request and hands the answer over as it arrives.
    ///
    /// The call returns when the answer begins. It asks for the usage at the stream's end
    /// (`"stream_options": {"include_usage": true}`) unless [`param`](ChatRequest::param) sets `stream_options`; `null`
    /// leaves it out, for servers that refuse it. A server that answers without a stream is understood too.
    ///
    /// ```no_run
    /// # let client = aimlapi::Client::from_env()?;
    /// let request = aimlapi::ChatRequest::new(aimlapi::GEMMA_2_27B_IT, "Tell me a story.");
    /// let reply = client.stream(&request)?.write_to(std::io::stdout())?;
    /// println!("\n{:?}", reply.usage());
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Client::send), as long as the answer has not begun. What fails later, the stream tells.
    pub fn stream(&self, request: &ChatRequest) -> Result<ChatStream> {
        let slot = self.slot(request)?;
        let several = request.asks_for_several();
        if let Some((slot, recording)) = find(slot.as_ref())? {
            let response = self.transport.replay(recording)?;
            let stream = ChatStream::new(response, Arc::clone(&self.transport), several);
            return Ok(stream.recorded_as(slot.clone()));
        }
        let body = request.body(Form::Stream)?;
        let mut tickets = self.admit(true)?;
        let call = Call::Chat {
            body: &body,
            client_id: request.client_id(),
            stream: true,
        };
        match self.transport.run(call, None) {
            Ok(response) => {
                tickets.begun(response.head.attempts);
                let stream = ChatStream::new(response, Arc::clone(&self.transport), several);
                Ok(stream.recorded_in(slot).charged_to(tickets))
            }
            Err(error) => {
                tickets.failed(&error);
                self.keep_error(slot.as_ref(), &error);
                Err(error)
            }
        }
    }

    /// What the calls of this client and its clones have taken so far.
    ///
    /// ```no_run
    /// # let client = aimlapi::Client::from_env()?;
    /// let spent = client.spent();
    /// println!("{} requests, ${:.4}, {} without a price", spent.requests, spent.usd, spent.unpriced);
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    pub fn spent(&self) -> Spent {
        self.ledger.spent()
    }

    /// The models that the server offers: `GET /models`, in the server's order.
    ///
    /// AI/ML API needs no key for it. [`Client::new`] wants one all the same; a client with an explicit
    /// [`base_url`](ClientBuilder::base_url) does not. A cassette does not record it.
    ///
    /// # Errors
    ///
    /// As [`send`](Client::send); [`Decode`](crate::ErrorKind::Decode) if the answer is no list of models,
    /// [`Cassette`](crate::ErrorKind::Cassette) if the client only replays.
    pub fn models(&self) -> Result<Vec<Model>> {
        if self.transport.settings.offline {
            return Err(Error::cassette(
                "the list of models is not recorded, and the cassette only replays",
            ));
        }
        let (head, text) = self
            .transport
            .run(Call::Models, None)?
            .text(&self.transport)?;
        Model::decode(head.status, text).map_err(|error| self.concluded(error, &head))
    }

    /// Records an error that refuses the request for good, where the cassette wants it.
    fn keep_error(&self, slot: Option<&Slot>, error: &Error) {
        let (Some(slot), Some(status)) = (slot, error.status()) else {
            return;
        };
        if slot.keeps_error(status) {
            let id = error.request_id().map(str::to_owned);
            let head = transport::Head::recorded(status, id, None, None);
            let body = Answer::Body(error.body().unwrap_or_default());
            // An error has no place to tell that it was not recorded; the log has.
            slot.keep(&head, &body, &self.transport.secrets);
        }
    }

    /// An error that a response's body told, with what its head says.
    fn concluded(&self, error: Error, head: &transport::Head) -> Error {
        self.transport
            .redact(error.with_request_id(head).with_attempts(head.attempts))
    }
}

/// What is recorded of a request, and where.
fn find(slot: Option<&Slot>) -> Result<Option<(&Slot, Recording)>> {
    let Some(slot) = slot else {
        return Ok(None);
    };
    Ok(slot.find()?.map(|recording| (slot, recording)))
}

/// A call in flight, in the books of its client and of its budget.
pub(crate) struct Tickets {
    own: Ticket,
    budget: Option<Ticket>,
}

impl Tickets {
    fn each(&mut self, book: impl Fn(&mut Ticket)) {
        book(&mut self.own);
        self.budget.iter_mut().for_each(book);
    }

    fn begun(&mut self, attempts: u32) {
        self.each(|ticket| ticket.begun(attempts));
    }

    pub(crate) fn answered(&mut self, answer: &Completion) {
        self.each(|ticket| ticket.answered(answer));
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.each(|ticket| ticket.failed(error));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.transport.settings;
        f.debug_struct("Client")
            .field("base_url", &settings.endpoint.shown(""))
            .field("api_key", &shown_key(settings.key.is_some()))
            .field("connect_timeout", &settings.connect_timeout)
            .field("timeout", &settings.timeout)
            .field("idle_timeout", &settings.idle_timeout)
            .field("retry", &settings.retry)
            .finish_non_exhaustive()
    }
}

fn shown_key(given: bool) -> &'static str {
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

/// What a [`Client`] is made of.
///
/// [`Client::builder`] begins one with everything as by default.
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
    /// `AIMLAPI_CASSETTE` overrides the cassette's mode.
    pub fn cassette(mut self, cassette: Cassette) -> Self {
        self.cassette = Some((cassette, Cassette::slot));
        self
    }

    /// Limits what the client may spend. Default: no limit.
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
