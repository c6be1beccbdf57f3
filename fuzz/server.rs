//! A server that answers each connection with the bytes it was told to, in the pieces it was told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use aimlapi::{Client, RetryPolicy};

pub struct Server {
    pub client: Client,
    tell: Sender<Vec<Vec<u8>>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = mpsc::channel::<Vec<Vec<u8>>>();
        thread::spawn(move || {
            for pieces in told {
                let Ok((mut socket, _)) = listener.accept() else { return };
                let _ = socket.set_nodelay(true);
                let mut reader = BufReader::new(&socket);
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let _ = reader.read_exact(&mut vec![0; length]);
                for piece in pieces {
                    let _ = socket.write_all(&piece);
                }
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        let builder = Client::builder().base_url(url).retry(RetryPolicy::none());
        let builder = builder.max_connections(0).timeout(Duration::from_secs(10));
        Server { client: builder.build().unwrap(), tell }
    }

    /// The client whose next call is answered like this. Each call takes one answer.
    pub fn answering(&self, pieces: Vec<Vec<u8>>) -> &Client {
        self.tell.send(pieces).unwrap();
        &self.client
    }
}
