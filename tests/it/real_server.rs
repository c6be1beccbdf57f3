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

mod vocabulary {
    use aimlapi::{
        ChatRequest, Completion, FinishReason, GEMMA_2_27B_IT, Message, ResponseFormat, Tool,
        ToolChoice,
    };
    use serde::Deserialize;
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::{client, key};

    /// Its answers are small and silly, so that their form is judged and never their words.
    fn ask(question: &str) -> ChatRequest {
        ChatRequest::new(GEMMA_2_27B_IT, question)
            .temperature(0.0)
            .max_tokens(60)
    }

    const QUESTION: &str = "Do I need a coat in Lyon in January?";

    /// Not in the order of the alphabet.
    const SCHEMA: &str = r#"{"type":"object","properties":{"town":{"enum":["Lyon","Nice"]},"coat":{"type":"boolean"},"degrees":{"type":"integer","minimum":0,"maximum":9}},"required":["town","coat","degrees"],"additionalProperties":false}"#;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Advice {
        town: String,
        coat: bool,
        degrees: u8,
    }

    fn advice() -> ResponseFormat {
        let schema: Box<RawValue> = serde_json::from_str(SCHEMA).unwrap();
        ResponseFormat::json_schema("advice", schema).strict(true)
    }

    #[track_caller]
    fn assert_advice(reply: &Completion) {
        let advice: Advice = reply.json().unwrap();
        assert!(
            ["Lyon", "Nice"].contains(&&*advice.town) && advice.degrees <= 9,
            "{advice:?}"
        );
        let places = ["town", "coat", "degrees"].map(|name| reply.text().find(name).unwrap());
        assert!(places.is_sorted(), "{}", reply.text());
        assert_eq!(reply.finish_reason(), Some(&FinishReason::Stop));
        println!("{}", reply.text());
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_answers_in_json_of_a_schema_and_in_its_order() {
        let request = ask(QUESTION).response_format(advice());
        let whole = client(key()).send(&request).unwrap();
        assert_advice(&whole);
        let streamed = client(key()).stream(&request).unwrap().finish().unwrap();
        assert_advice(&streamed);
        assert_eq!(streamed.text(), whole.text());
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_cuts_json_off_at_the_limit_of_tokens() {
        let request = ask(QUESTION).response_format(advice()).max_tokens(4);
        let reply = client(key()).send(&request).unwrap();
        assert_eq!(reply.finish_reason(), Some(&FinishReason::Length));
        let error = reply.json::<Advice>().unwrap_err().to_string();
        let start = "the answer was cut off at the token limit and is not the JSON asked for, ";
        assert!(error.starts_with(start), "{error}");
    }

    #[track_caller]
    fn assert_logprobs(reply: &Completion) {
        let tokens = &reply.choices()[0].logprobs().unwrap().content;
        let text: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token.bytes.clone().unwrap())
            .collect();
        assert_eq!(String::from_utf8(text).unwrap(), reply.text());
        for token in tokens {
            assert!(
                token.logprob <= 0.0 && token.top_logprobs.len() == 3,
                "{token:?}"
            );
            // Without chance, it is the likeliest token that is chosen.
            assert_eq!(token.top_logprobs[0].token, token.token);
        }
        println!("{} tokens: {:?}", tokens.len(), tokens[0]);
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_tells_how_likely_each_token_was() {
        let request = ask("Say hello.")
            .max_tokens(8)
            .logprobs(true)
            .top_logprobs(3);
        assert_logprobs(&client(key()).send(&request).unwrap());
        assert_logprobs(&client(key()).stream(&request).unwrap().finish().unwrap());
    }

    /// Its model calls none: too small, and its template has no place for them.
    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_takes_tools_and_a_history_with_calls() {
        let called: Completion = serde_json::from_value(json!({ "choices": [{ "message": {
            "content": null,
            "tool_calls": [{ "id": "1", "type": "function", "function": { "name": "advise", "arguments": "{}" } }],
        } }] }))
        .unwrap();
        let schema: Box<RawValue> = serde_json::from_str(SCHEMA).unwrap();
        let tool = Tool::function("advise")
            .description("Gives advice.")
            .parameters(schema);
        let mut request = ask(QUESTION).tools([tool]).tool_choice(ToolChoice::Auto);
        request
            .messages_mut()
            .extend([called.into_message(), Message::tool("1", "9 °C")]);
        let reply = client(key()).send(&request).unwrap();
        println!("{:?} {:?}", reply.finish_reason(), reply.text());
        assert!(reply.finish_reason().is_some());
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_lists_its_models() {
        let models = client(key()).models().unwrap();
        println!("{models:?}");
        assert!(models.iter().any(|model| model.id() == GEMMA_2_27B_IT));
    }

    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_refuses_a_schema_that_is_none() {
        let format = ResponseFormat::json_schema("none", json!({ "type": "nothing" }));
        let error = client(key())
            .send(&ask("Say hello.").response_format(format))
            .unwrap_err();
        println!("{error}");
        assert_eq!(error.status(), Some(400));
    }

    #[cfg(feature = "schemars")]
    #[test]
    #[ignore = "needs the server of .ci/local-model"]
    fn real_server_answers_with_a_type() {
        #[derive(Debug, Deserialize, schemars::JsonSchema)]
        #[allow(dead_code, reason = "it is only read")]
        struct Typed {
            /// Where it is asked for.
            town: Town,
            coat: bool,
            other: Option<Town>,
        }
        #[derive(Debug, Deserialize, schemars::JsonSchema)]
        enum Town {
            Lyon,
            Nice,
        }
        let reply = client(key())
            .send(&ask(QUESTION).response_format(ResponseFormat::of::<Typed>()))
            .unwrap();
        println!("{:?}", reply.json::<Typed>().unwrap());
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
