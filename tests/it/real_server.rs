//! A real model behind a real server, llama.cpp's own: `.ci/local-model` starts it, and runs what is ignored here.

use std::env;

use aimlapi::Client;

fn server() -> String {
    env::var("AIMLAPI_TEST_SERVER").expect("the server's base URL, from .ci/local-model")
}

fn key() -> String {
    env::var("AIMLAPI_TEST_KEY").expect("the server's key, from .ci/local-model")
}

fn client(key: impl Into<String>) -> Client {
    Client::builder()
        .base_url(server())
        .api_key(key)
        .build()
        .unwrap()
}

mod streams {
    use std::io;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::mpsc::{self, Receiver};
    use std::thread;
    use std::time::{Duration, Instant};

    use aimlapi::{ChatRequest, Client, GEMMA_2_27B_IT};

    use super::{client, key, server};

    fn story(tokens: u32) -> ChatRequest {
        ChatRequest::new(GEMMA_2_27B_IT, "Tell me a story about a lighthouse.")
            .temperature(0.0)
            .max_tokens(tokens)
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn the_first_chunk_is_here_while_the_server_still_writes() {
        let started = Instant::now();
        let mut stream = client(key()).stream(&story(16)).unwrap();
        let mut times = Vec::new();
        for chunk in &mut stream {
            let chunk = chunk.unwrap();
            if !chunk.text().is_empty() {
                times.push(started.elapsed());
                println!("{:>6} ms {:?}", started.elapsed().as_millis(), chunk.text());
            }
        }
        let usage = *stream.finish().unwrap().usage().unwrap();
        assert!(
            times.len() > 8 && usage.completion_tokens == 16,
            "{usage:?}"
        );
        // Had they come together, no time would lie between the first and the last.
        let (first, last) = (times[0], times[times.len() - 1]);
        assert!(
            last > first + Duration::from_millis(20),
            "{first:?} to {last:?}"
        );
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn a_stream_is_the_whole_answer() {
        let client = client(key());
        let whole = client.send(&story(16)).unwrap();
        let mut written = Vec::new();
        let stream = client.stream(&story(16)).unwrap();
        let streamed = stream.write_to(&mut written).unwrap();
        println!("whole and streamed: {:?}", whole.text());
        assert_eq!(String::from_utf8(written).unwrap(), whole.text());
        assert_eq!(streamed.choices(), whole.choices());
        assert_eq!(streamed.usage(), whole.usage());
        assert_eq!(streamed.model(), whole.model());
    }

    /// Forwards one connection to the server; says when the client has closed its side, and when the server.
    fn proxy() -> (String, Receiver<Instant>, Receiver<Instant>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (client_closed, by_client) = mpsc::channel();
        let (server_closed, by_server) = mpsc::channel();
        thread::spawn(move || {
            let client = listener.accept().unwrap().0;
            let address = server();
            let address = address
                .trim_start_matches("http://")
                .trim_end_matches("/v1");
            let server = TcpStream::connect(address).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = server_closed.send(Instant::now());
            });
            let _ = io::copy(&mut &client, &mut &server);
            client_closed.send(Instant::now()).unwrap();
            server.shutdown(Shutdown::Both).unwrap();
        });
        (url, by_client, by_server)
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn dropping_a_stream_after_three_chunks_closes_its_connection() {
        let (url, by_client, by_server) = proxy();
        let client = Client::builder()
            .base_url(url)
            .api_key(key())
            .build()
            .unwrap();
        let mut stream = client.stream(&story(400)).unwrap();
        for chunk in stream.by_ref().take(3) {
            chunk.unwrap();
        }
        assert!(
            by_server.try_recv().is_err(),
            "the server is still generating"
        );
        let dropped = Instant::now();
        drop(stream);
        let closed = by_client.recv_timeout(Duration::from_secs(1)).unwrap();
        println!(
            "closed {} µs after it was dropped",
            (closed - dropped).as_micros()
        );
        assert!(closed - dropped < Duration::from_millis(100));
    }
}

mod cassettes {
    use std::path::Path;

    use aimlapi::{Cassette, ChatRequest, Client, Completion, GEMMA_2_27B_IT};

    use super::{key, server};
    use crate::support::Scratch;

    fn question() -> ChatRequest {
        ChatRequest::new(GEMMA_2_27B_IT, "Name three colours of the sky.")
            .temperature(0.0)
            .max_tokens(24)
    }

    fn recording(directory: &Path) -> Client {
        let client = Client::builder().base_url(server()).api_key(key());
        client.cassette(Cassette::auto(directory)).build().unwrap()
    }

    /// A client of a server that is not there, without a key.
    fn replaying(directory: &Path) -> Client {
        let client = Client::builder().base_url("http://127.0.0.1:9");
        client
            .cassette(Cassette::replay(directory))
            .build()
            .unwrap()
    }

    fn streamed(client: &Client) -> (Vec<String>, Completion) {
        let mut stream = client.stream(&question()).unwrap();
        let chunks = stream.by_ref().map(|chunk| chunk.unwrap().raw().to_owned());
        (chunks.collect(), stream.finish().unwrap())
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn a_recorded_answer_is_the_same_without_the_server() {
        let scratch = Scratch::new();
        let first = recording(scratch.path()).send(&question()).unwrap();
        let again = replaying(scratch.path()).send(&question()).unwrap();
        println!("recorded: {:?}, {:?}", again.text(), again.usage().unwrap());
        assert!(!again.text().is_empty() && again.usage().is_some());
        assert_eq!(again, first);
        let (chunks, whole) = streamed(&replaying(scratch.path()));
        assert_eq!((chunks.len(), whole), (1, first));
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn a_recorded_stream_is_the_same_without_the_server() {
        let scratch = Scratch::new();
        let first = streamed(&recording(scratch.path()));
        let again = streamed(&replaying(scratch.path()));
        println!("recorded: {} chunks, {:?}", again.0.len(), again.1.text());
        assert!(again.0.len() > 8 && again.1.usage().is_some());
        assert_eq!(again, first);
        assert_eq!(
            replaying(scratch.path()).send(&question()).unwrap(),
            first.1
        );
    }
}
