//! A server that answers at once and always the same, and ends with its input.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{process, thread};

use serde::Deserialize;

use crate::{ANSWER, Outcome, PADDED};

#[derive(Deserialize)]
struct Asked {
    model: String,
    #[serde(default)]
    stream: bool,
    max_tokens: u32,
}

pub(crate) fn serve() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(|| process::exit(i32::from(io::stdin().read(&mut [0]).is_err())));
    for socket in listener.incoming() {
        let socket = socket?;
        // A client that hangs up is no failure.
        thread::spawn(move || answer(&socket).ok());
    }
    Ok(())
}

fn answer(mut socket: &TcpStream) -> Outcome<()> {
    socket.set_nodelay(true)?;
    let mut input = BufReader::new(socket);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let asked: Asked = serde_json::from_slice(&body)?;
        let head = "HTTP/1.1 200 OK\r\ncontent-type:";
        if asked.stream {
            let head = format!("{head} text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
            socket.write_all(head.as_bytes())?;
            events(socket, &asked)?;
        } else {
            let head = format!(
                "{head} application/json\r\ncontent-length: {}\r\n\r\n",
                ANSWER.len()
            );
            socket.write_all((head + ANSWER).as_bytes())?;
        }
    }
}

/// As many words as tokens were allowed, an event each in a chunk of HTTP's own; 200 are one write.
fn events(mut socket: &TcpStream, asked: &Asked) -> io::Result<()> {
    let event = |padding: u32, rest: &str| {
        let json = format!(
            r#"{{"id":"chatcmpl-7Hq2ZkP0vY","object":"chat.completion.chunk","created":1763798400,"model":"google/gemma-2-27b-it","service_tier":"default","obfuscation":"{padding:08x}",{rest}}}"#
        );
        format!("{:x}\r\ndata: {json}\n\n\r\n", json.len() + 8)
    };
    // One in twenty has an escape, as line breaks do.
    let words = "Paris|.| The| kings| made| it| their| seat| in| the| tenth| century|.|\\n\\n|They| left| it| for| Versailles|,";
    let words = words.split('|').cycle().zip(0..200).map(|(word, number)| {
        let choice = format!(r#""choices":[{{"index":0,"delta":{{"content":"{word}"}},"logprobs":null,"finish_reason":null}}]"#);
        event(if asked.model == PADDED { number } else { 0 }, &choice)
    });
    let words: String = words.collect();
    for _ in 0..asked.max_tokens / 200 {
        socket.write_all(words.as_bytes())?;
    }
    let end = r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#;
    let usage =
        r#""choices":[],"usage":{"prompt_tokens":14,"completion_tokens":52,"total_tokens":66}"#;
    let done = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    socket.write_all((event(0, end) + &event(0, usage) + done).as_bytes())
}
