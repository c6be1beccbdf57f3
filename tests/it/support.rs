//! A server that misbehaves as told, which mockito cannot: it cuts, resets, stalls, drips.

use std::any;
use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aimlapi::{ChatRequest, Client, ClientBuilder, Completion, Error, RetryPolicy};
use serde_json::Value;

pub const KEY: &str = "sk-test-0123456789abcdef";
pub const MODEL: &str = "test/model";

/// A whole answer that says `hello`.
pub const HELLO: &str = r#"{"id":"c1","object":"chat.completion","created":1700000000,"model":"test/model","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server on a free port of 127.0.0.1. It ends with the test's process.
pub struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Runs the script for every connection, each on a thread of its own; connections are counted from 0.
    pub fn start(
        script: impl Fn(usize, &mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, connections) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicUsize::new(0)),
        );
        let (log, count, script) = (
            Arc::clone(&seen),
            Arc::clone(&connections),
            Arc::new(script),
        );
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || {
                    let mut connection = Connection::new(socket, log);
                    // A client that hangs up ends its connection's script; that is no failure here.
                    let _ = script(number, &mut connection);
                });
            }
        });
        Server {
            port,
            seen,
            connections,
        }
    }

    /// Answers every request of every connection with these bytes, head and all.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::start(move |_, connection| {
            loop {
                connection.request()?;
                connection.send(&bytes)?;
            }
        })
    }

    /// Answers one request on each connection with these bytes, and closes it.
    pub fn answering_once_each(bytes: impl Into<Vec<u8>>) -> Server {
        let bytes = bytes.into();
        Server::start(move |_, connection| {
            connection.request()?;
            connection.send(&bytes)?;
            connection.close()
        })
    }

    /// Answers the first requests with these bytes, one after the other, and all further ones with the last.
    pub fn answering_in_turn(answers: Vec<String>) -> Server {
        let turn = AtomicUsize::new(0);
        Server::start(move |_, connection| {
            loop {
                connection.request()?;
                let turn = turn.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                connection.send(answers[turn].as_bytes())?;
            }
        })
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A client of this server with a key, short limits and hardly any pause between attempts.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder()
            .api_key(KEY)
            .base_url(self.base_url())
            .retry(quick())
            .timeout(Duration::from_secs(5))
    }

    pub fn client(&self) -> Client {
        self.builder().build().unwrap()
    }
}

/// The default policy without its pauses.
pub fn quick() -> RetryPolicy {
    RetryPolicy::default().initial_delay(Duration::from_millis(1))
}

/// The base URL of a port where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    format!("http://{address}/v1")
}

pub fn hello() -> ChatRequest {
    ChatRequest::new(MODEL, "hello")
}

/// Says hello by a client of these settings.
pub fn say_hello(builder: ClientBuilder) -> aimlapi::Result<Completion> {
    builder.build().unwrap().send(&hello())
}

#[track_caller]
pub fn begins(error: &Error, want: &str) {
    assert!(error.to_string().starts_with(want), "{error}\n{want}");
}

#[track_caller]
pub fn ends(error: &Error, want: &str) {
    assert!(error.to_string().ends_with(want), "{error}\n{want}");
}

/// What a client that does not retry makes of one response.
pub fn exchange(
    status: usize,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> aimlapi::Result<Completion> {
    let mut server = mockito::Server::new();
    let mut mock = server.mock("POST", "/v1/chat/completions");
    for &(name, value) in headers {
        mock = mock.with_header(name, value);
    }
    mock.with_status(status).with_body(body).create();
    let builder = Client::builder().api_key(KEY).base_url(server.url());
    say_hello(builder.retry(RetryPolicy::none()))
}

/// A directory of a test's own that is not there yet, and is gone after the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, count) = (process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Scratch(root.join(format!("scratch-{process}-{count}")))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// This binary, to be run once more, without the proxies and the settings of the environment.
fn again() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy().to_ascii_uppercase();
        if name.starts_with("AIMLAPI_") || name.ends_with("_PROXY") {
            command.env_remove(variable);
        }
    }
    command
}

/// Runs the body in a process of its own that has these variables: to set one of this process would be unsafe. What
/// comes before it in a test runs there too, what comes after it does not.
#[track_caller]
pub fn with_env<V: AsRef<OsStr>, F: FnOnce()>(variables: &[(&str, V)], body: F) {
    const INSIDE: &str = "INSIDE_WITH_ENV";
    const DONE: i32 = 77;
    if env::var_os(INSIDE).is_some() {
        body();
        process::exit(DONE);
    }
    // A closure is named after the function around it.
    let test = any::type_name::<F>().trim_start_matches("it::");
    let test = test.trim_end_matches("::{{closure}}");
    let mut child = again();
    child.args(["--exact", test, "--nocapture"]).env(INSIDE, "");
    child.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = child.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(DONE), "{said}");
}

/// An ignored test of this binary in a process of its own, which can be given an environment, or be killed.
pub struct Child {
    command: Command,
    test: &'static str,
}

impl Child {
    pub fn new(test: &'static str) -> Child {
        let command = again();
        Child { command, test }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Child {
        self.command.env(name, value);
        self
    }

    /// Every write to a file fails in it, as on a full disk. Pipes still work.
    pub fn without_disk(self) -> Child {
        let mut command = Command::new("sh");
        // 25 is SIGXFSZ, which would end the process.
        command.args(["-c", "trap '' 25; ulimit -f 0; exec \"$0\" \"$@\""]);
        command.arg(self.command.get_program());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Child { command, ..self }
    }

    pub fn start(mut self) -> process::Child {
        self.command
            .args(["--exact", self.test, "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs it to its end; returns what it said.
    #[track_caller]
    pub fn run(self) -> String {
        let output = self.start().wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stdout}{stderr}");
        let said = stdout.lines().find_map(|line| line.strip_prefix("> "));
        said.expect("it has to say something").to_owned()
    }

    /// What the process has to say to the test that runs it.
    pub fn say(text: impl Display) {
        println!("\n> {text}");
    }
}

/// The server's side of a connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Connection {
    fn new(socket: TcpStream, seen: Arc<Mutex<Vec<Seen>>>) -> Connection {
        socket.set_nodelay(true).unwrap();
        Connection {
            reader: BufReader::new(socket),
            seen,
        }
    }

    /// Reads one request and keeps it; an error at the end of the connection.
    pub fn request(&mut self) -> io::Result<Seen> {
        let seen = self.next_request()?;
        self.seen.lock().unwrap().push(seen.clone());
        Ok(seen)
    }

    /// Reads one request and leaves no trace of it.
    pub fn next_request(&mut self) -> io::Result<Seen> {
        let line = self.line()?;
        let mut headers = HashMap::new();
        loop {
            let header = self.line()?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(Seen {
            line,
            headers,
            body,
        })
    }

    /// Reads the head of a request and leaves the body unread, so that the connection is reset when the script ends.
    pub fn request_head(&mut self) -> io::Result<()> {
        while !self.line()?.is_empty() {}
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Says nothing more until the client hangs up.
    pub fn fall_silent(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }

    /// Passes on what comes from either side, until one ends.
    pub fn tunnel(&mut self, other: TcpStream) -> io::Result<()> {
        let (mut there, mut back) = (other.try_clone()?, self.reader.get_ref().try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut there, &mut back);
            back.shutdown(Shutdown::Both)
        });
        io::copy(&mut self.reader, &mut &other)?;
        other.shutdown(Shutdown::Both)
    }

    /// Ends the connection in order.
    pub fn close(&mut self) -> io::Result<()> {
        self.reader.get_mut().shutdown(Shutdown::Both)
    }

    /// Waits until the client closes the connection; false if it has not after this time.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.reader.get_mut().set_read_timeout(Some(limit)).unwrap();
        match self.reader.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A response with this status and JSON body, on a connection that stays open.
pub fn json(status: u16, body: &str) -> String {
    respond(status, &[("content-type", "application/json")], body)
}

/// A response with a length.
pub fn respond(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!("HTTP/1.1 {status} Test\r\n");
    for (name, value) in headers {
        head += &[name, ": ", value, "\r\n"].concat();
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

/// The head of a stream that ends with its connection.
pub const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// One event of a stream: a chunk that adds this text.
pub fn event(text: &str) -> String {
    let text = Value::from(text);
    format!(
        "data: {{\"id\":\"c1\",\"model\":\"test/model\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
    )
}

/// The event that says why the answer ended.
pub fn finish(reason: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}\n\n"
    )
}

pub const DONE: &str = "data: [DONE]\n\n";
