//! What it means that an attempt got no response, or that a body broke off, and whether the request is repeated.

use std::io;
use std::time::Duration;

use super::agent::WRITE_TIMEOUT;
use super::body::Expired;
use super::{Call, Transport};
use crate::Error;
use crate::error::Cause;
use crate::retry::Again;

/// A connection that is lost so soon after the request went out was an idle one that the server had closed. (A response
/// whose very head breaks off looks the same: ureq does not tell the two apart.)
const STALE: Duration = Duration::from_secs(2);

/// What bounds a call as a whole, for messages.
const OVERALL: &str = "the limit is timeout(), over all attempts";

impl Transport {
    /// The error of an attempt that got no response.
    pub(super) fn failed(
        &self,
        call: Call<'_>,
        error: ureq::Error,
        elapsed: Duration,
    ) -> (Error, Again) {
        use io::ErrorKind as Io;
        use ureq::Timeout::{Connect, PerRead, PerWrite, Resolve};

        let settings = &self.settings;
        let authority = settings.endpoint.authority();
        match error {
            ureq::Error::Timeout(Resolve | Connect) => {
                // Over so soon, it was the call's own limit that was reached.
                let (limit, setting) = if elapsed < settings.connect_timeout {
                    (settings.timeout, OVERALL)
                } else {
                    (settings.connect_timeout, "the limit is connect_timeout()")
                };
                let error = Error::connect_timeout(authority, limit, setting);
                (error, Again::Later)
            }
            ureq::Error::Timeout(PerWrite) => {
                let during = format!("{authority} took no byte of the request");
                let error = Error::timeout(&during, WRITE_TIMEOUT, "this limit is fixed");
                (error, Again::Never)
            }
            ureq::Error::Timeout(PerRead) if call.is_stream() => (self.silent(), Again::Never),
            ureq::Error::Timeout(_) => (self.late("no answer"), Again::Never),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                (self.unreachable(error.into()), Again::Later)
            }
            ureq::Error::Io(e) => match e.kind() {
                Io::ConnectionRefused
                | Io::HostUnreachable
                | Io::NetworkUnreachable
                | Io::NetworkDown
                | Io::AddrNotAvailable => (self.unreachable(e.into()), Again::Later),
                Io::UnexpectedEof
                | Io::ConnectionReset
                | Io::ConnectionAborted
                | Io::BrokenPipe => {
                    let stale = elapsed < STALE;
                    (
                        Error::lost(authority, e.into(), !stale),
                        if stale { Again::AtOnce } else { Again::Never },
                    )
                }
                Io::InvalidData => (Error::tls(authority, e.into()), Again::Never),
                // The kind of a failed look-up has no name; no other failure lacks a number of the system's.
                _ if e.raw_os_error().is_none() && e.to_string().contains("lookup") => {
                    (self.unreachable(e.into()), Again::Later)
                }
                _ => (
                    Error::connection(format!("the connection to {authority} failed"), e.into()),
                    Again::Never,
                ),
            },
            ureq::Error::ConnectProxyFailed(_) => {
                let proxy = self.proxy().unwrap_or_default();
                let error = Error::proxy_refused(&proxy, authority, error.into());
                (error, Again::Never)
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                let peer = match self.proxy() {
                    Some(proxy) => format!("{authority}, or the proxy {proxy} before it,"),
                    None => authority.to_owned(),
                };
                (Error::protocol(&peer, error.into()), Again::Never)
            }
            other => (
                Error::connection(
                    format!("no request could be sent to {authority}"),
                    other.into(),
                ),
                Again::Never,
            ),
        }
    }

    fn unreachable(&self, cause: Cause) -> Error {
        let authority = self.settings.endpoint.authority();
        match self.proxy() {
            Some(proxy) => Error::proxy_unreachable(&proxy, authority, cause),
            None => Error::unreachable(authority, cause),
        }
    }

    /// Host and port of the proxy that the requests go through.
    fn proxy(&self) -> Option<String> {
        let proxy = self.agent.config().proxy()?;
        let used = !proxy.is_no_proxy(&self.chat);
        used.then(|| format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// A stream that has been silent for too long.
    fn silent(&self) -> Error {
        let authority = self.settings.endpoint.authority();
        let limit = self.settings.idle_timeout;
        let during = format!("{authority} sent nothing");
        Error::timeout(&during, limit, "the limit is idle_timeout()")
    }

    /// A call that takes too long. `missing` is what has not come.
    fn late(&self, missing: &str) -> Error {
        let authority = self.settings.endpoint.authority();
        let limit = self.settings.timeout;
        Error::timeout(&format!("{missing} from {authority}"), limit, OVERALL)
    }

    /// What a failed read of a response's body means.
    pub(crate) fn read_failed(&self, cause: io::Error) -> Error {
        if cause
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Expired>)
        {
            return self.late("no whole answer");
        }
        match ureq::Error::from(cause) {
            ureq::Error::Timeout(ureq::Timeout::PerRead) => self.silent(),
            ureq::Error::Timeout(_) => self.late("no whole answer"),
            cause => Error::interrupted("the connection was lost in the middle of the answer")
                .with_cause(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::error::KeySource;
    use crate::transport::Settings;
    use crate::{ErrorKind, RetryPolicy};

    fn transport() -> Transport {
        Transport::new(Settings {
            endpoint: Endpoint::parse("http://127.0.0.1:1").unwrap(),
            key: None,
            key_source: KeySource::None,
            headers: Vec::new(),
            user_agent: String::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(300),
            retry: RetryPolicy::default(),
            max_response_bytes: 1,
            max_connections: 1,
            proxy: None,
            root_certificates: None,
            offline: false,
        })
        .unwrap()
    }

    /// What the failure of an attempt is after so many milliseconds, and whether it is repeated.
    #[track_caller]
    fn fails(error: ureq::Error, after: u64, kind: ErrorKind, again: Again) -> Error {
        let after = Duration::from_millis(after);
        let (error, is) = transport().failed(Call::Models, error, after);
        assert_eq!((error.kind(), is), (kind, again), "{error}");
        error
    }

    #[test]
    fn only_a_connection_that_is_lost_early_was_stale() {
        for lost in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
        ] {
            let fails = |after, again| {
                let error = io::Error::from(lost).into();
                fails(error, after, ErrorKind::Connection, again)
            };
            let (early, late) = (fails(1999, Again::AtOnce), fails(2000, Again::Never));
            assert!(!early.is_retryable() && !late.is_retryable());
            let why = "(the request may have been answered and billed, so it was not sent again)";
            assert!(late.to_string().ends_with(why), "{late}");
            assert!(!early.to_string().contains("billed"), "{early}");
        }
    }

    #[test]
    fn what_was_never_sent_is_repeated() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused).into();
        let unrouted = io::Error::from(io::ErrorKind::NetworkUnreachable).into();
        let unknown = io::Error::other("failed to lookup address information").into();
        for error in [refused, unrouted, unknown, ureq::Error::HostNotFound] {
            assert!(fails(error, 0, ErrorKind::Connection, Again::Later).is_retryable());
        }
        for phase in [ureq::Timeout::Resolve, ureq::Timeout::Connect] {
            let error = ureq::Error::Timeout(phase);
            assert!(fails(error, 10_000, ErrorKind::Timeout, Again::Later).is_retryable());
        }
    }

    #[test]
    fn what_the_server_may_have_begun_to_answer_is_not_repeated() {
        use ureq::Timeout::{Global, PerRead, PerWrite, RecvBody, RecvResponse, SendBody};

        for phase in [Global, SendBody, PerWrite, RecvResponse, PerRead, RecvBody] {
            let error = ureq::Error::Timeout(phase);
            assert!(!fails(error, 9, ErrorKind::Timeout, Again::Never).is_retryable());
        }
        let head = ureq::Error::LargeResponseHeader(2, 1);
        fails(head, 9, ErrorKind::Decode, Again::Never);
    }

    #[test]
    fn what_no_repetition_mends_is_not_repeated() {
        for kind in [io::ErrorKind::InvalidData, io::ErrorKind::PermissionDenied] {
            let error = io::Error::from(kind).into();
            assert!(!fails(error, 9, ErrorKind::Connection, Again::Never).is_retryable());
        }
    }

    #[test]
    fn the_limit_that_was_reached_is_named() {
        let connect = |after| {
            let error = ureq::Error::Timeout(ureq::Timeout::Connect);
            fails(error, after, ErrorKind::Timeout, Again::Later).to_string()
        };
        let own = "within 10s (the limit is connect_timeout())";
        assert_eq!(
            connect(10_000),
            format!("no connection to 127.0.0.1:1 {own}")
        );
        let all = "within 600s (the limit is timeout(), over all attempts)";
        assert_eq!(
            connect(9_999),
            format!("no connection to 127.0.0.1:1 {all}")
        );
        let write = ureq::Error::Timeout(ureq::Timeout::PerWrite);
        let error = fails(write, 60_000, ErrorKind::Timeout, Again::Never);
        let fixed = "within 60s (this limit is fixed)";
        assert_eq!(
            error.to_string(),
            format!("127.0.0.1:1 took no byte of the request {fixed}")
        );
    }
}
