//! The client and its calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Ledger, Ticket};
use crate::cassette::{Slot, Slots, Turn};
use crate::client_builder::shown_key;
use crate::head::Head;
use crate::pace::Pace;
use crate::request::Form;
use crate::tape::{Answer, Recording};
use crate::transport::{Call, Response, Transport};
use crate::{
    Batch, Budget, Cassette, ChatRequest, ChatStream, ClientBuilder, Completion, Error,
    IntoMessages, Model, Result, Spent,
};

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
    pub(crate) transport: Arc<Transport>,
    pub(crate) cassette: Option<(Cassette, Slots)>,
    pub(crate) budget: Option<Budget>,
    pub(crate) ledger: Ledger,
    /// The server needs a key and there is none, which only a recorded answer makes up for.
    pub(crate) lacks_key: bool,
}

impl Client {
    /// A client of AI/ML API with this key, and with everything else as by default: see [`ClientBuilder`].
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
    /// [`Input`](crate::ErrorKind::Input) if neither is set, or one of them cannot be right. The error says what to
    /// set.
    pub fn from_env() -> Result<Client> {
        Client::builder().build()
    }

    /// Begins a client with everything as by default, to be changed: see [`ClientBuilder`]. If neither a key nor a base
    /// URL is given, both are taken from the environment.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Asks a model and waits for its whole answer: [`send`](Client::send) without parameters.
    ///
    /// ```no_run
    /// # use aimlapi::{Client, GEMMA_2_27B_IT, Message};
    /// # let client = Client::from_env()?;
    /// let messages = [Message::system("Be brief."), Message::user("Why is the sky blue?")];
    /// let reply = client.chat(GEMMA_2_27B_IT, messages)?;
    /// println!("{}", reply.text());
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Client::send).
    pub fn chat(&self, model: &str, messages: impl IntoMessages) -> Result<Completion> {
        self.send(&ChatRequest::new(model, messages))
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// A failed request is repeated where that cannot cost twice; see [`RetryPolicy`](crate::RetryPolicy). The whole
    /// takes at most [`timeout`](ClientBuilder::timeout).
    ///
    /// ```no_run
    /// # use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};
    /// # let client = Client::from_env()?;
    /// let request = ChatRequest::new(GEMMA_2_27B_IT, "Why is the sky blue?").max_tokens(100);
    /// let reply = client.send(&request)?;
    /// println!("{} ({:?})", reply.text(), reply.usage());
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Input`](crate::ErrorKind::Input) if the request cannot be right, [`Connection`](crate::ErrorKind::Connection)
    /// and [`Timeout`](crate::ErrorKind::Timeout) if there is no answer, [`Api`](crate::ErrorKind::Api) if the server
    /// answers with an error, [`Decode`](crate::ErrorKind::Decode) if it answers with what is no chat completion, and
    /// [`Interrupted`](crate::ErrorKind::Interrupted) if the answer breaks off. With a [`Budget`] or a [`Cassette`]
    /// also [`Budget`](crate::ErrorKind::Budget) and [`Cassette`](crate::ErrorKind::Cassette).
    pub fn send(&self, request: &ChatRequest) -> Result<Completion> {
        self.send_at(request, None)
    }

    /// Sends many requests at once and hands their answers over in the order of the requests. See [`Batch`].
    ///
    /// ```no_run
    /// # use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};
    /// # let client = Client::from_env()?;
    /// let questions = ["Why is the sky blue?", "Why is the sea?"];
    /// let requests = questions.map(|question| ChatRequest::new(GEMMA_2_27B_IT, question));
    /// for reply in client.send_all(requests) {
    ///     println!("{}", reply?.text());
    /// }
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
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
            body: body.as_bytes(),
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
            body: body.as_bytes(),
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
    /// println!("{} requests for ${:.4}", spent.requests, spent.usd);
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
    /// ```no_run
    /// # let client = aimlapi::Client::from_env()?;
    /// for model in client.models()? {
    ///     println!("{}", model.id());
    /// }
    /// # Ok::<(), aimlapi::Error>(())
    /// ```
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
            let head = Head::recorded(status, id, None, None);
            let body = Answer::Body(error.body().unwrap_or_default());
            // An error has no place to tell that it was not recorded; the log has.
            slot.keep(&head, &body, &self.transport.secrets);
        }
    }

    /// An error that a response's body told, with what its head says.
    fn concluded(&self, error: Error, head: &Head) -> Error {
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
