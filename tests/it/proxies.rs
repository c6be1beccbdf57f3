//! Calls through a proxy.

use std::net::TcpStream;
use std::time::Duration;

use aimlapi::{Client, ErrorKind};

use crate::support::{Child, HELLO, KEY, Server, hello, json, quick};

/// An HTTP proxy that connects whoever asks to this server, if they have the password where there is one.
fn proxy(to: &Server, password: Option<&'static str>) -> Server {
    let address = to.authority();
    Server::start(move |_, connection| {
        let request = connection.request()?;
        let given = request.headers.get("proxy-authorization");
        if password.is_some() && given.map(String::as_str) != password {
            connection
                .send("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")?;
            return connection.close();
        }
        connection.send("HTTP/1.1 200 Connection established\r\n\r\n")?;
        let server = TcpStream::connect(&address)?;
        connection.tunnel(server)
    })
}

fn server() -> Server {
    Server::answering(json(200, HELLO))
}

#[test]
fn a_proxy_that_is_given_is_used_also_for_this_machine() {
    let server = server();
    let proxy = proxy(&server, None);
    let client = server
        .builder()
        .proxy(format!("http://{}", proxy.authority()));
    assert_eq!(
        client.build().unwrap().send(&hello()).unwrap().text(),
        "hello"
    );
    let asked = &proxy.requests()[0];
    assert_eq!(
        asked.line,
        format!("CONNECT {} HTTP/1.1", server.authority())
    );
    // The key is the server's to see.
    assert_eq!(asked.headers.get("authorization"), None);
    assert_eq!(
        server.requests()[0].headers["authorization"],
        format!("Bearer {KEY}")
    );
}

#[test]
fn a_proxy_is_given_its_credentials() {
    let server = server();
    // user:pass
    let proxy = proxy(&server, Some("Basic dXNlcjpwYXNz"));
    let client = server
        .builder()
        .proxy(format!("http://user:pass@{}", proxy.authority()));
    assert_eq!(
        client.build().unwrap().send(&hello()).unwrap().text(),
        "hello"
    );
}

/// A call through this proxy never reaches the server.
#[track_caller]
fn fails(server: &Server, proxy: &str, attempts: u32, want: &str) {
    let client = server.builder().proxy(format!("http://{proxy}"));
    let error = client.build().unwrap().send(&hello()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert_eq!(
        (error.attempts(), error.to_string().as_str()),
        (attempts, want)
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_proxy_that_wants_credentials_is_told_of() {
    let server = server();
    let proxy = proxy(&server, Some("Basic dXNlcjpwYXNz"));
    for url in [
        proxy.authority(),
        format!("user:wrong@{}", proxy.authority()),
    ] {
        let what = format!(
            "the proxy {} did not connect to {}: CONNECT proxy failed: proxy server responded 407/407 (its credentials go \
             into its URL: http://user:password@host:port)",
            proxy.authority(),
            server.authority()
        );
        fails(&server, &url, 1, &what);
    }
}

#[test]
fn a_proxy_that_is_down_is_told_of() {
    let server = server();
    let what = format!(
        "cannot connect to the proxy 127.0.0.1:1 for {}: Connection refused (os error 111) (the proxy comes from \
         proxy(), or from ALL_PROXY, HTTPS_PROXY or HTTP_PROXY; NO_PROXY names exceptions)",
        server.authority()
    );
    fails(&server, "127.0.0.1:1", 3, &what);
}

#[test]
fn a_proxy_that_speaks_no_http_is_told_of() {
    let server = server();
    let proxy = Server::answering("SSH-2.0-OpenSSH_9.9\r\n\r\n");
    let client = server
        .builder()
        .proxy(format!("http://{}", proxy.authority()));
    let error = client.build().unwrap().send(&hello()).unwrap_err();
    let what = format!(
        "{}, or the proxy {} before it, did not answer with proper HTTP: ",
        server.authority(),
        proxy.authority()
    );
    assert!(error.to_string().starts_with(&what), "{error}");
}

/// An address that is nobody's.
const FAR: &str = "192.0.2.1";

#[test]
#[ignore = "a process of its own, for the tests below"]
fn asks_what_is_far() {
    let client = Client::builder()
        .base_url(format!("http://{FAR}"))
        .connect_timeout(Duration::from_millis(100))
        .retry(quick())
        .build()
        .unwrap();
    match client.send(&hello()) {
        Ok(answer) => Child::say(answer.text()),
        Err(error) => Child::say(error),
    }
}

fn child(proxy: &Server) -> Child {
    let none = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "no_proxy",
    ];
    let child = none
        .into_iter()
        .fold(Child::new("proxies::asks_what_is_far"), |child, name| {
            child.env(name, "")
        });
    child
        .env("NO_PROXY", "")
        .env("HTTP_PROXY", format!("http://{}", proxy.authority()))
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let server = server();
    let proxy = proxy(&server, None);
    assert_eq!(child(&proxy).run(), "hello");
    assert_eq!(
        proxy.requests()[0].line,
        format!("CONNECT {FAR}:80 HTTP/1.1")
    );
}

#[test]
fn the_exceptions_of_the_environment_go_past_it() {
    let server = server();
    let proxy = proxy(&server, None);
    for exceptions in [FAR, "*", "a.com,192.0.2.1"] {
        let said = child(&proxy).env("NO_PROXY", exceptions).run();
        assert!(
            said.contains("to 192.0.2.1") && !said.contains("proxy"),
            "{said}"
        );
    }
    assert_eq!(proxy.connections(), 0);
}
