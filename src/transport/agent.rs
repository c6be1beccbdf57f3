//! The agent of ureq that a client's settings make.

use std::time::Duration;

use ureq::{Agent, Proxy, ProxyProtocol};

use crate::endpoint::Endpoint;
use crate::error::KeySource;
use crate::{Error, Result, RetryPolicy};

/// The longest time without any progress while a request is sent.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Sets the timeouts of an agent or of a request; ureq has no common name for their builders.
///
/// ureq bounds a whole call exactly (`timeout_global`), at the price of a thread for each look-up of a name. An
/// address is not looked up, so there the phases are bounded one by one, and [`BodyStream`] bounds the whole body.
macro_rules! limits {
    ($config:expr, $settings:expr, $left:expr, $stream:expr) => {{
        let (settings, left, stream): (&$crate::transport::Settings, ::std::time::Duration, bool) =
            ($settings, $left, $stream);
        let named = !settings.endpoint.is_address();
        let connect = settings.connect_timeout.min(left);
        $config
            .timeout_global((named && !stream).then_some(left))
            .timeout_resolve(named.then_some(connect))
            .timeout_connect(Some(connect))
            .timeout_send_request(Some(left))
            .timeout_send_body(Some(left))
            .timeout_recv_response(Some(left))
            .timeout_recv_body((!stream).then_some(left))
            .timeout_per_read(stream.then_some(settings.idle_timeout))
    }};
}

pub(super) use limits;

/// What a client is set to. The transport has no defaults of its own.
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) key: Option<String>,
    pub(crate) key_source: KeySource,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) user_agent: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_response_bytes: u64,
    pub(crate) max_connections: usize,
    pub(crate) proxy: Option<String>,
    pub(crate) root_certificates: Option<Roots>,
    /// Nothing will be sent.
    pub(crate) offline: bool,
}

/// Certificate authorities to trust. Read where they are given, so that a program which gives none has no code for it.
#[derive(Clone)]
pub(crate) struct Roots {
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    certificates: Vec<ureq::tls::Certificate<'static>>,
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
impl Roots {
    pub(crate) fn read(pem: &[u8]) -> Roots {
        use ureq::tls::{PemItem, parse_pem};

        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        Roots {
            certificates: parse_pem(pem).filter_map(certificate).collect(),
        }
    }
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
impl Roots {
    pub(crate) fn read(_: &[u8]) -> Roots {
        Roots {}
    }
}

pub(super) fn of(settings: &Settings) -> Result<Agent> {
    let endpoint = &settings.endpoint;
    let mut config = limits!(Agent::config_builder(), settings, settings.timeout, false)
        .timeout_per_write(Some(WRITE_TIMEOUT))
        // The body of an error, its Retry-After and its connection are all needed.
        .http_status_as_error(false)
        // A redirected POST would become a GET, and its headers could go to another host.
        .max_redirects(0)
        .https_only(endpoint.is_https())
        .max_idle_connections(settings.max_connections)
        .max_idle_connections_per_host(settings.max_connections);
    if let Some(proxy) = proxy(settings)? {
        config = config.proxy(proxy);
    }
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    {
        config = config.tls_config(tls(settings)?);
    }
    #[cfg(not(any(feature = "rustls", feature = "native-tls")))]
    if settings.root_certificates.is_some() {
        return Err(Error::no_tls(endpoint.authority()));
    }
    Ok(config.build().new_agent())
}

/// `None` leaves ureq's own choice, `Some(None)` is no proxy.
#[allow(clippy::option_option)]
fn proxy(settings: &Settings) -> Result<Option<Option<Proxy>>> {
    let given = match &settings.proxy {
        Some(url) => Some(Proxy::new(url.trim()).map_err(|_| {
            Error::input("the proxy is none: it has to be like http://host:port or http://user:password@host:port")
        })?),
        // What is on this machine is reached without help, and its key stays on it.
        None if settings.endpoint.is_loopback() => return Ok(Some(None)),
        None => Proxy::try_from_env(),
    };
    let socks = given.as_ref().is_some_and(|proxy| {
        !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
    });
    if socks && !cfg!(feature = "socks-proxy") {
        return Err(Error::input(
            "a SOCKS proxy needs the feature `socks-proxy` of aimlapi",
        ));
    }
    Ok(settings.proxy.is_some().then_some(given))
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn tls(settings: &Settings) -> Result<ureq::tls::TlsConfig> {
    use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

    let rustls = cfg!(feature = "rustls");
    let provider = if rustls {
        TlsProvider::Rustls
    } else {
        TlsProvider::NativeTls
    };
    let roots = match &settings.root_certificates {
        Some(Roots { certificates }) if certificates.is_empty() => {
            return Err(Error::input(
                "root_certificates_pem() was given no certificate in PEM form",
            ));
        }
        Some(Roots { certificates }) => RootCerts::new_with_certs(certificates),
        None if cfg!(feature = "platform-verifier") || !rustls => RootCerts::PlatformVerifier,
        None => RootCerts::WebPki,
    };
    Ok(TlsConfig::builder()
        .provider(provider)
        .root_certs(roots)
        .build())
}
