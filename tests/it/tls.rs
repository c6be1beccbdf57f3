//! TLS with a private certificate authority, and what is told when it fails.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use aimlapi::{Budget, Client, Completion, ErrorKind, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::support::{HELLO, KEY, Server, json, quick, respond};

/// A certificate with its key.
type Identity = (CertificateDer<'static>, KeyPair);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn signs(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key)
    }
}

fn named(host: &str) -> CertificateParams {
    CertificateParams::new([host.to_owned()]).unwrap()
}

/// A server with this certificate that answers every call; returns its port.
fn serve((certificate, key): Identity) -> u16 {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that does not trust the server hangs up; that is no failure here.
            thread::spawn(move || answer(socket, config));
        }
    });
    port
}

fn answer(mut socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut connection = ServerConnection::new(config).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut request = Vec::new();
    while !request.ends_with(b"}]}") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes)?;
        request.extend_from_slice(&bytes[..read]);
    }
    stream.write_all(json(200, HELLO).as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Asks `https://localhost`, trusting this authority and no other.
fn ask(port: u16, trusted: &Authority) -> Result<Completion> {
    Client::builder()
        .base_url(format!("https://localhost:{port}"))
        .api_key(KEY)
        .retry(quick())
        .root_certificates_pem(trusted.pem().as_bytes())
        .build()
        .unwrap()
        .chat("m", "hello")
}

/// The call came to nothing, and its error says this, and this to do.
#[track_caller]
fn is(result: Result<Completion>, port: u16, said: &str, to_do: &str) {
    let error = result.unwrap_err();
    let what = format!("no secure connection to localhost:{port}: {said} ({to_do})");
    assert_eq!(error.to_string(), what);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1));
    assert!(!error.is_retryable());
}

/// So it is with a client that trusts an authority of its own.
#[track_caller]
fn fails(port: u16, said: &str, to_do: &str) {
    is(ask(port, &Authority::new("ours")), port, said, to_do);
}

#[test]
fn a_private_authority_is_trusted_once_it_is_given() {
    let authority = Authority::new("ours");
    let port = serve(authority.signs(&named("localhost")));
    assert_eq!(ask(port, &authority).unwrap().text(), "hello");
}

const UNKNOWN: &str = "invalid peer certificate: UnknownIssuer";

const TRUST: &str = "a private certificate authority needs root_certificates_pem() or the feature \
     `platform-verifier`; a server without TLS needs http://";

#[test]
fn an_unknown_authority_is_not_trusted() {
    let port = serve(Authority::new("another").signs(&named("localhost")));
    fails(port, UNKNOWN, TRUST);
}

#[test]
fn a_certificate_that_signs_itself_is_not_trusted() {
    let key = KeyPair::generate().unwrap();
    let certificate = named("localhost").self_signed(&key).unwrap();
    fails(serve((certificate.der().clone(), key)), UNKNOWN, TRUST);
}

#[test]
fn a_certificate_that_is_not_accepted_has_cost_nothing() {
    let port = serve(Authority::new("another").signs(&named("localhost")));
    let client = Client::builder()
        .base_url(format!("https://localhost:{port}"))
        .root_certificates_pem(Authority::new("ours").pem().as_bytes())
        .budget(Budget::new().usd(1.0));
    let client = client.build().unwrap();
    // Were the first of unknown price, the budget would permit no second one.
    for _ in 0..2 {
        let error = client.chat("m", "hello").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    assert_eq!(client.spent().unpriced, 0);
}

/// What a certificate of this time fails with.
#[track_caller]
fn is_out_of_time(from: i32, until: i32, said: &str) {
    let mut params = named("localhost");
    params.not_before = date_time_ymd(from, 2, 3);
    params.not_after = date_time_ymd(until, 2, 3);
    let authority = Authority::new("ours");
    let error = ask(serve(authority.signs(&params)), &authority).unwrap_err();
    let error = error.to_string();
    let to_do = "(if the clock of this machine is right, the server needs a new certificate)";
    let said = format!("invalid peer certificate: {said}");
    assert!(error.contains(&said) && error.ends_with(to_do), "{error}");
}

#[test]
fn a_certificate_out_of_its_time_is_not_trusted() {
    is_out_of_time(2000, 2001, "certificate expired: ");
    is_out_of_time(3000, 3001, "certificate not valid yet: ");
    // Its time ends before it begins.
    is_out_of_time(2002, 2001, "Expired");
}

#[test]
fn a_certificate_of_another_host_is_not_trusted() {
    let authority = Authority::new("ours");
    let port = serve(authority.signs(&named("example.com")));
    let said = "invalid peer certificate: certificate not valid for name \"localhost\"; certificate is only valid for \
         DnsName(\"example.com\")";
    is(
        ask(port, &authority),
        port,
        said,
        "the base URL has to name the server as its certificate does",
    );
}

#[test]
fn https_to_a_server_without_tls_says_so() {
    let server = Server::start(|_, connection| {
        connection.send(respond(400, &[], "not HTTP"))?;
        connection.is_closed_within(Duration::from_secs(1));
        Ok(())
    });
    let port = server
        .authority()
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    fails(
        port,
        "received corrupt message of type InvalidContentType",
        "a server without TLS needs http://",
    );
}

#[test]
fn http_to_a_server_with_tls_says_so() {
    let port = serve(Authority::new("ours").signs(&named("localhost")));
    let client = Client::builder().base_url(format!("http://localhost:{port}"));
    let error = client.build().unwrap().chat("m", "hello").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "localhost:{port} did not answer with proper HTTP: protocol: http parse fail: invalid HTTP version (is it an https:// server addressed with http://, or no HTTP server at all?)"
        )
    );
}

#[test]
fn roots_that_are_none_are_refused_before_a_call() {
    for pem in [
        "",
        "-----BEGIN CERTIFICATE-----",
        &KeyPair::generate().unwrap().serialize_pem(),
    ] {
        let builder = Client::builder()
            .api_key(KEY)
            .root_certificates_pem(pem.as_bytes());
        assert_eq!(
            builder.build().unwrap_err().to_string(),
            "root_certificates_pem() was given no certificate in PEM form"
        );
    }
}
