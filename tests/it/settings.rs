//! What a client is set to is what it does, and what cannot be right is refused before anything is sent.

use std::sync::Barrier;
use std::time::Duration;
use std::{io, thread};

use aimlapi::{Client, ClientBuilder, Error, ErrorKind};

use crate::support::{
    Connection, HELLO, KEY, MODEL, Seen, Server, begins, ends, hello, json, nobody, quick,
    say_hello, with_env,
};

fn answering() -> Server {
    Server::answering(json(200, HELLO))
}

/// The request that such a client sends.
#[track_caller]
fn sent(server: &Server, builder: ClientBuilder) -> Seen {
    assert_eq!(say_hello(builder).unwrap().text(), "hello");
    server.requests().pop().unwrap()
}

#[track_caller]
fn refused(builder: ClientBuilder, want: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.to_string(), want);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Input, 0));
}

fn at(base_url: &str) -> ClientBuilder {
    Client::builder().base_url(base_url)
}

fn local() -> ClientBuilder {
    at("http://localhost")
}

#[test]
fn every_way_to_write_a_base_url_leads_to_the_same_place() {
    let server = answering();
    let root = format!("http://{}", server.authority());
    for (written, path) in [
        ("", "/v1/chat/completions"),
        ("/", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1//", "/v1/chat/completions"),
        ("/v1/v1", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/api/openai/", "/api/openai/chat/completions"),
        ("/m?a=1&b=%20", "/m/chat/completions?a=1&b=%20"),
        ("?a=1", "/v1/chat/completions?a=1"),
    ] {
        let request = sent(&server, at(&format!(" {root}{written}\n")));
        assert_eq!(request.line, format!("POST {path} HTTP/1.1"), "{written}");
        assert_eq!(request.headers["host"], server.authority(), "{written}");
    }
}

#[test]
fn an_ipv6_address_is_connected_to_and_named() {
    let base_url = nobody().replace("127.0.0.1", "[::1]");
    let error = say_hello(at(&base_url).api_key(KEY).retry(quick())).unwrap_err();
    let authority = base_url.replace("http://", "").replace("/v1", "");
    begins(&error, &format!("cannot connect to {authority}: "));
}

#[test]
fn a_base_url_that_cannot_be_right_is_refused() {
    let begin = "the base URL has to begin with https:// or http://";
    refused(at("  "), "the base URL is empty");
    refused(at("ftp://a.com"), &format!("{begin}, not ftp://"));
    refused(
        at("localhost:1"),
        &format!("{begin}: is http://localhost:1 meant?"),
    );
    refused(
        at("a.com/v1"),
        &format!("{begin}: is https://a.com/v1 meant?"),
    );
    refused(
        at("http://u:p@localhost"),
        "the base URL holds a user name or password (before the @): give a key with api_key(), or credentials with \
         header(\"authorization\", ..)",
    );
    refused(
        at("http://a.com:99999"),
        "the base URL's port \"99999\" is none: it goes from 0 to 65535",
    );
}

#[test]
fn a_request_has_these_headers_and_no_others() {
    let server = answering();
    let Seen { headers, body, .. } = sent(&server, server.builder());
    let mut headers: Vec<_> = headers.into_iter().collect();
    headers.sort_unstable();
    let want = [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", &format!("Bearer {KEY}")),
        ("content-length", &body.len().to_string()),
        ("content-type", "application/json"),
        ("host", &server.authority()),
        (
            "user-agent",
            concat!("aimlapi-rust/", env!("CARGO_PKG_VERSION")),
        ),
    ];
    assert_eq!(
        headers,
        want.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn without_a_key_none_is_sent() {
    let server = answering();
    for builder in [at(&server.base_url()), at(&server.base_url()).api_key("")] {
        let request = sent(&server, builder);
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_refused_and_not_shown() {
    let why = "the API key holds a character that no HTTP header can carry:";
    refused(
        local().api_key("sk\ny"),
        &format!("{why} a control character at position 3"),
    );
    refused(
        local().api_key("\0sk"),
        &format!("{why} a control character at position 1"),
    );
    refused(
        local().api_key("s\u{e9}\u{e9}"),
        &format!("{why} a character that is not ASCII at position 2"),
    );
    let hint = "is it a line break at its end?";
    refused(
        local().api_key("sk\r\n"),
        &format!("{why} a control character at position 3; {hint}"),
    );
}

#[test]
fn headers_of_one_s_own_go_along() {
    let server = answering();
    let twice = server
        .builder()
        .header("X-Title", "old")
        .header("x-title", "a b~!");
    assert_eq!(sent(&server, twice).headers["x-title"], "a b~!");
    let empty = server.builder().header("http-referer", "");
    assert_eq!(sent(&server, empty).headers["http-referer"], "");
    let azure = at(&server.base_url()).header("api-key", KEY);
    assert_eq!(sent(&server, azure).headers["api-key"], KEY);
    let basic = server.builder().header("Authorization", "Basic dTpw");
    assert_eq!(sent(&server, basic).headers["authorization"], "Basic dTpw");
}

#[test]
fn a_header_that_cannot_be_right_is_refused() {
    refused(
        local().header("x y", "1"),
        "the header name \"x y\" is none",
    );
    refused(local().header("", "1"), "the header name \"\" is none");
    let why = "the header x-a holds a character that no HTTP header can carry:";
    let line = local().header("x-a", "1\r\nx-b: 2");
    refused(line, &format!("{why} a control character at position 2"));
    let letter = local().header("X-A", "\u{e9}");
    refused(
        letter,
        &format!("{why} a character that is not ASCII at position 1"),
    );
}

#[test]
fn a_header_that_the_client_needs_for_itself_is_refused() {
    for name in [
        "Host",
        "content-length",
        "Content-Type",
        "transfer-encoding",
        "connection",
        "accept",
        "Accept-Encoding",
        "expect",
    ] {
        let want = format!(
            "the header {} is set by the client itself",
            name.to_lowercase()
        );
        refused(local().header(name, "1"), &want);
    }
}

#[test]
fn the_user_agent_can_be_set() {
    let server = answering();
    let request = sent(&server, server.builder().user_agent("mine/1"));
    assert_eq!(request.headers["user-agent"], "mine/1");
    let why = "the user agent holds a character that no HTTP header can carry:";
    refused(
        local().user_agent("mine\n"),
        &format!("{why} a control character at position 5"),
    );
}

#[test]
fn without_a_key_the_default_server_is_not_asked() {
    const WANT: &str = "no API key: set the environment variable AIMLAPI_API_KEY, or give one to Client::new (keys are \
        made at https://aimlapi.com/app/keys; a server of your own needs none: set AIMLAPI_BASE_URL)";
    with_env::<&str, _>(&[], || {
        refused(Client::builder(), WANT);
        refused(Client::builder().api_key(""), WANT);
        let same = |error: Error| assert_eq!(error.to_string(), WANT);
        same(Client::new("").unwrap_err());
        same(Client::from_env().unwrap_err());
        // The process-wide client is tried again each time.
        same(aimlapi::chat(MODEL, "hello").unwrap_err());
        same(aimlapi::chat(MODEL, "hello").unwrap_err());
    });
}

#[test]
#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn a_key_is_enough_for_the_default_server() {
    let shown = format!("{:?}", Client::new(KEY).unwrap());
    assert!(
        shown.contains(r#"base_url: "https://api.aimlapi.com/v1""#),
        "{shown}"
    );
}

#[test]
#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
fn without_tls_the_default_server_is_told_to_be_out_of_reach() {
    refused(
        Client::builder().api_key(KEY),
        "https://api.aimlapi.com:443 cannot be reached: this build of aimlapi has no TLS (enable its feature `rustls` or \
         `native-tls`; without one only http:// works)",
    );
}

#[test]
fn a_key_does_not_travel_unencrypted_to_another_machine() {
    let want = "the API key would travel to a.com:8080 unencrypted (use an https:// base URL, or allow_plaintext_key() \
                if that network is trusted)";
    let far = || at("http://a.com:8080");
    refused(far().api_key(KEY), want);
    for name in [
        "Authorization",
        "api-key",
        "X-Api-Key",
        "proxy-authorization",
    ] {
        refused(far().header(name, KEY), want);
    }
    assert!(far().build().is_ok());
    assert!(far().api_key(KEY).allow_plaintext_key().build().is_ok());
}

#[test]
fn which_machine_is_another_one() {
    let trusts = |base_url: &str| at(base_url).api_key(KEY).build().is_ok();
    for near in [
        "http://localhost:1",
        "http://127.8.8.8",
        "http://[::1]:1",
        "http://a.localhost",
    ] {
        assert!(trusts(near), "{near}");
    }
    for far in [
        "http://localhost.a.com",
        "http://127.0.0.1.a.com",
        "http://10.0.0.1",
        "http://[::2]",
    ] {
        assert!(!trusts(far), "{far}");
    }
}

#[test]
fn a_timeout_of_zero_is_refused() {
    let want = "a timeout of zero would let no call succeed";
    refused(local().timeout(Duration::ZERO), want);
    refused(local().connect_timeout(Duration::ZERO), want);
    refused(local().idle_timeout(Duration::ZERO), want);
    assert!(local().timeout(Duration::from_nanos(1)).build().is_ok());
}

#[test]
fn idle_connections_are_kept_as_many_as_set() {
    for (kept, connections) in [(16, 5), (2, 8), (0, 10)] {
        let together = Barrier::new(5);
        let server = Server::start(move |_, connection| {
            loop {
                connection.request()?;
                together.wait();
                connection.send(json(200, HELLO))?;
            }
        });
        let client = server.builder().max_connections(kept).build().unwrap();
        let five = || {
            thread::scope(|scope| {
                for _ in 0..5 {
                    scope.spawn(|| client.send(&hello()).unwrap());
                }
            });
        };
        five();
        five();
        assert_eq!(server.connections(), connections, "{kept}");
    }
}

#[test]
fn a_clone_shares_the_connections() {
    let server = answering();
    let client = server.client();
    client.send(&hello()).unwrap();
    client.clone().send(&hello()).unwrap();
    assert_eq!(server.connections(), 1);
}

#[test]
#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn certificates_that_are_none_are_refused() {
    let want = "root_certificates_pem() was given no certificate in PEM form";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for pem in ["", "no certificate", key] {
        refused(local().root_certificates_pem(pem.as_bytes()), want);
    }
}

const SOURCES: &str = " (the proxy comes from proxy(), or from ALL_PROXY, HTTPS_PROXY or HTTP_PROXY; NO_PROXY names exceptions)";

/// A proxy, and every server behind it.
fn proxy() -> Server {
    Server::start(|_, connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\n\r\n")?;
        answers(connection)
    })
}

fn answers(connection: &mut Connection) -> io::Result<()> {
    loop {
        connection.request()?;
        connection.send(json(200, HELLO))?;
    }
}

/// A client of a server that only a proxy knows.
fn through(proxy: &str) -> ClientBuilder {
    at("http://a.invalid:8080").proxy(proxy).retry(quick())
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let server = proxy();
    let url = format!(" http://ada:pass@{}\n", server.authority());
    let request = sent(&server, through(&url));
    assert_eq!(request.headers["host"], "a.invalid:8080");
    assert!(!request.headers.contains_key("proxy-authorization"));
    let connect = &server.requests()[0];
    assert_eq!(connect.line, "CONNECT a.invalid:8080 HTTP/1.1");
    assert_eq!(connect.headers["proxy-authorization"], "Basic YWRhOnBhc3M=");
}

#[test]
fn a_proxy_that_is_set_serves_this_machine_too() {
    let server = proxy();
    let proxied = local().api_key(KEY).proxy(server.authority());
    let request = sent(&server, proxied);
    assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
    let connect = &server.requests()[0];
    assert_eq!(connect.line, "CONNECT localhost:80 HTTP/1.1");
    assert!(!connect.headers.contains_key("authorization"));
}

#[test]
fn a_proxy_that_refuses_is_told_from_the_server() {
    let server = Server::answering(json(407, ""));
    let error = say_hello(through(&server.authority())).unwrap_err();
    let proxy = server.authority();
    begins(
        &error,
        &format!("the proxy {proxy} did not connect to a.invalid:8080: "),
    );
    ends(
        &error,
        " (its credentials go into its URL: http://user:password@host:port)",
    );
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1));
    assert!(
        error.to_string().contains("407") && !error.is_retryable(),
        "{error}"
    );
}

#[test]
fn a_proxy_that_is_down_is_told_from_the_server() {
    let proxy = nobody().replace("http://", "").replace("/v1", "");
    let error = say_hello(through(&proxy)).unwrap_err();
    begins(
        &error,
        &format!("cannot connect to the proxy {proxy} for a.invalid:8080: "),
    );
    ends(&error, SOURCES);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 3));
    assert!(error.is_retryable());
}

#[test]
fn a_proxy_that_cannot_be_right_is_refused() {
    let want =
        "the proxy is none: it has to be like http://host:port or http://user:password@host:port";
    for url in ["", "http://", "ftp://a.com:1", "no proxy"] {
        refused(local().proxy(url), want);
    }
}

#[test]
#[cfg(not(feature = "socks-proxy"))]
fn a_socks_proxy_needs_its_feature() {
    for scheme in ["socks4", "socks4a", "socks5", "socks5h"] {
        let want = "a SOCKS proxy needs the feature `socks-proxy` of aimlapi";
        refused(local().proxy(format!("{scheme}://127.0.0.1:1080")), want);
    }
}

#[test]
fn the_environment_s_proxy_serves_other_machines() {
    let server = proxy();
    with_env(&[("HTTP_PROXY", server.authority())], || {
        say_hello(at("http://a.invalid")).unwrap();
    });
    let connect = &server.requests()[0];
    assert_eq!(connect.line, "CONNECT a.invalid:80 HTTP/1.1");
}

#[test]
fn the_environment_s_exceptions_from_its_proxy_hold() {
    let server = proxy();
    let except = ("NO_PROXY", ".invalid".to_owned());
    with_env(&[("ALL_PROXY", server.authority()), except], || {
        let host = format!("{}.invalid", "x".repeat(64));
        let far = at(&format!("http://{host}")).retry(quick());
        let error = say_hello(far).unwrap_err();
        begins(&error, &format!("cannot connect to {host}:80: "));
    });
    assert_eq!(server.connections(), 0);
}

#[test]
fn the_environment_s_proxy_does_not_serve_this_machine() {
    let proxy = proxy();
    let variables = ["ALL_PROXY", "HTTP_PROXY", "https_proxy"];
    with_env(&variables.map(|name| (name, proxy.authority())), || {
        let server = answering();
        say_hello(server.builder()).unwrap();
        let named = server.base_url().replace("127.0.0.1", "localhost");
        say_hello(server.builder().base_url(named)).unwrap();
    });
    assert_eq!(proxy.connections(), 0);
}

/// The environment that names this key and this server.
fn naming(key: &str, server: &Server) -> [(&'static str, String); 2] {
    [
        ("AIMLAPI_API_KEY", key.to_owned()),
        ("AIMLAPI_BASE_URL", server.base_url()),
    ]
}

#[test]
fn the_environment_names_the_key_and_the_server() {
    let server = answering();
    with_env(&naming(KEY, &server), || {
        let reply = Client::from_env().unwrap().send(&hello()).unwrap();
        assert_eq!(reply.text(), "hello");
    });
    let request = &server.requests()[0];
    assert_eq!(request.headers["authorization"], format!("Bearer {KEY}"));
}

#[test]
fn a_server_of_one_s_own_needs_no_key() {
    let server = answering();
    with_env(&naming(" ", &server), || {
        let reply = Client::from_env().unwrap().send(&hello()).unwrap();
        assert_eq!(reply.text(), "hello");
    });
    assert!(!server.requests()[0].headers.contains_key("authorization"));
}

#[test]
fn a_wrong_key_of_the_environment_is_told_so() {
    let server = Server::answering(json(401, r#"{"message":"no"}"#));
    with_env(&naming(KEY, &server), || {
        let error = Client::from_env().unwrap().send(&hello()).unwrap_err();
        ends(
            &error,
            "401 Unauthorized: no (the key came from AIMLAPI_API_KEY)",
        );
    });
}

#[test]
fn the_process_has_one_client_of_the_environment() {
    let server = answering();
    with_env(&naming(KEY, &server), || {
        for _ in 0..2 {
            let ask = || aimlapi::chat(MODEL, "hello").unwrap();
            assert_eq!(thread::spawn(ask).join().unwrap().text(), "hello");
        }
    });
    assert_eq!((server.requests().len(), server.connections()), (2, 1));
}

#[test]
fn a_base_url_of_the_environment_that_cannot_be_right_is_refused() {
    with_env(&[("AIMLAPI_BASE_URL", "a.com")], || {
        let error = Client::from_env().unwrap_err();
        ends(&error, "is https://a.com meant?");
    });
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    with_env(
        &[("AIMLAPI_API_KEY", OsStr::from_bytes(b"sk-\xff"))],
        || {
            let want = "the environment variable AIMLAPI_API_KEY is not UTF-8";
            assert_eq!(Client::from_env().unwrap_err().to_string(), want);
        },
    );
}
