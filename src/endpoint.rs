//! Where requests go: what people write as a base URL, made into the addresses that are asked.

use crate::{Error, Result};

pub(crate) const DEFAULT_BASE_URL: &str = "https://api.aimlapi.com/v1";

pub(crate) const CHAT_PATH: &str = "/chat/completions";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    /// `https://host:port/v1`, without a slash at the end.
    base: String,
    /// With its question mark, else empty.
    query: String,
    /// Host and port, also where the port goes without saying, for messages.
    authority: String,
    host: String,
    https: bool,
}

impl Endpoint {
    /// Takes a base URL as people write it. A path left out is `/v1`; slashes at the end, a doubled `/v1` and the full
    /// address of the chat completions are put right.
    pub(crate) fn parse(url: &str) -> Result<Endpoint> {
        let url = url.trim();
        if url.is_empty() {
            return Err(Error::input("the base URL is empty"));
        }
        if let Some(c) = url
            .chars()
            .find(|c| c.is_whitespace() || c.is_control() || !c.is_ascii())
        {
            return Err(Error::input(format!(
                "the base URL holds {c:?}, which has to be percent-encoded"
            )));
        }
        let (https, rest) = match split_scheme(url) {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some((scheme, _)) => {
                return Err(Error::input(format!(
                    "the base URL has to begin with https:// or http://, not {scheme}://"
                )));
            }
            None => {
                let guess = if is_loopback(host_of(authority_of(url))) {
                    "http"
                } else {
                    "https"
                };
                let url = without_userinfo(url.split('?').next().unwrap_or_default());
                return Err(Error::input(format!(
                    "the base URL has to begin with https:// or http://: is {guess}://{url} meant?"
                )));
            }
        };
        let authority = authority_of(rest);
        let after = rest.get(authority.len()..).unwrap_or_default();
        if authority.contains('@') {
            return Err(Error::input(
                "the base URL holds a user name or password (before the @): give a key with api_key(), or credentials \
                 with header(\"authorization\", ..)",
            ));
        }
        if after.contains('#') {
            return Err(Error::input(
                "the base URL holds a #, after which nothing would be sent",
            ));
        }
        check_authority(authority)?;
        let host = host_of(authority);
        let (path, query) = after.split_at(after.find('?').unwrap_or(after.len()));
        let scheme = if https { "https" } else { "http" };
        Ok(Endpoint {
            base: format!("{scheme}://{authority}{}", base_path(path)),
            query: if query == "?" {
                String::new()
            } else {
                query.to_owned()
            },
            authority: match (host.len() < authority.len(), https) {
                (true, _) => authority.to_owned(),
                (false, true) => format!("{host}:443"),
                (false, false) => format!("{host}:80"),
            },
            host: host.to_owned(),
            https,
        })
    }

    pub(crate) fn chat_url(&self) -> String {
        format!("{}{CHAT_PATH}{}", self.base, self.query)
    }

    pub(crate) fn models_url(&self) -> String {
        format!("{}/models{}", self.base, self.query)
    }

    /// The address for messages: without the query, which may hold a key.
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Host and port, for messages.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Whether the host is an address, so that no name is looked up.
    pub(crate) fn is_address(&self) -> bool {
        bare(&self.host).parse::<std::net::IpAddr>().is_ok()
    }
}

fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let known = ["https", "http"]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known));
    Some((known.unwrap_or(scheme), rest))
}

fn authority_of(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The authority without its port; an IPv6 address keeps its brackets.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority.get(colon..).unwrap_or_default().contains(']') => {
            authority.get(..colon).unwrap_or_default()
        }
        _ => authority,
    }
}

fn without_userinfo(url: &str) -> &str {
    let authority = authority_of(url);
    url.get(authority.rfind('@').map_or(0, |at| at + 1)..)
        .unwrap_or_default()
}

fn check_authority(authority: &str) -> Result<()> {
    let host = host_of(authority);
    if host.is_empty() {
        return Err(Error::input("the base URL has no host"));
    }
    let bracketed = host.starts_with('[') || host.ends_with(']');
    if bracketed && bare(host).parse::<std::net::Ipv6Addr>().is_err() {
        return Err(Error::input(format!(
            "the base URL's host {host} is no IPv6 address"
        )));
    }
    if !bracketed && host.contains(':') {
        return Err(Error::input(format!(
            "an IPv6 address in the base URL needs brackets: [{host}]"
        )));
    }
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if !bracketed && !host.bytes().all(named) {
        return Err(Error::input(format!(
            "the base URL's host {host:?} is no host name"
        )));
    }
    let port = authority
        .get(host.len()..)
        .unwrap_or_default()
        .strip_prefix(':');
    match port {
        Some(port) if port.parse::<u16>().is_err() => Err(Error::input(format!(
            "the base URL's port {port:?} is none: it goes from 0 to 65535"
        ))),
        _ => Ok(()),
    }
}

fn base_path(path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    // The full address is taken at its word, also where no /v1 is in it.
    let full = path.strip_suffix(CHAT_PATH);
    path = full.unwrap_or(path).trim_end_matches('/');
    if path.is_empty() && full.is_none() {
        return "/v1".to_owned();
    }
    while let Some(once) = path
        .strip_suffix("/v1")
        .filter(|once| once.ends_with("/v1"))
    {
        path = once;
    }
    path.to_owned()
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    match bare(host).parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn chat(base: &str, want: &str) {
        assert_eq!(Endpoint::parse(base).unwrap().chat_url(), want, "{base}");
    }

    #[track_caller]
    fn refused(base: &str, want: &str) {
        assert_eq!(
            Endpoint::parse(base).unwrap_err().to_string(),
            want,
            "{base}"
        );
    }

    #[test]
    fn a_base_url_is_put_right() {
        let want = "https://api.aimlapi.com/v1/chat/completions";
        for base in [
            "https://api.aimlapi.com/v1",
            "https://api.aimlapi.com/v1/",
            "https://api.aimlapi.com/v1//",
            "https://api.aimlapi.com",
            "https://api.aimlapi.com/",
            "https://api.aimlapi.com/v1/v1",
            "https://api.aimlapi.com/v1/chat/completions",
            "https://api.aimlapi.com/v1/chat/completions/",
            " https://api.aimlapi.com/v1\n",
            "HTTPS://api.aimlapi.com/v1?",
        ] {
            chat(base, want);
        }
        chat(
            "http://localhost:11434",
            "http://localhost:11434/v1/chat/completions",
        );
        chat(
            "http://[::1]:8080/v1",
            "http://[::1]:8080/v1/chat/completions",
        );
        chat("http://[::1]", "http://[::1]/v1/chat/completions");
        chat(
            "https://openrouter.ai/api/v1",
            "https://openrouter.ai/api/v1/chat/completions",
        );
        chat(
            "https://api.perplexity.ai/chat/completions",
            "https://api.perplexity.ai/chat/completions",
        );
        chat(
            "https://example.com/v1beta/openai/",
            "https://example.com/v1beta/openai/chat/completions",
        );
        chat(
            "https://a.com/d/x?api-version=1",
            "https://a.com/d/x/chat/completions?api-version=1",
        );
    }

    #[test]
    fn a_base_url_that_cannot_work_is_refused_with_the_sentence_that_helps() {
        refused("", "the base URL is empty");
        refused(
            "ftp://a.com",
            "the base URL has to begin with https:// or http://, not ftp://",
        );
        refused(
            "a.com/v1",
            "the base URL has to begin with https:// or http://: is https://a.com/v1 meant?",
        );
        refused(
            "localhost:11434",
            "the base URL has to begin with https:// or http://: is http://localhost:11434 meant?",
        );
        refused(
            "u:secret@a.com",
            "the base URL has to begin with https:// or http://: is https://a.com meant?",
        );
        refused(
            "https://u:secret@a.com",
            "the base URL holds a user name or password (before the @): give a key with api_key(), or credentials with \
             header(\"authorization\", ..)",
        );
        refused(
            "https://a b.com",
            "the base URL holds ' ', which has to be percent-encoded",
        );
        refused(
            "https://exämple.com",
            "the base URL holds 'ä', which has to be percent-encoded",
        );
        refused("https:///v1", "the base URL has no host");
        refused(
            "https://a.com:http/v1",
            "the base URL's port \"http\" is none: it goes from 0 to 65535",
        );
        refused(
            "https://a.com:70000",
            "the base URL's port \"70000\" is none: it goes from 0 to 65535",
        );
        refused(
            "http://::1:80",
            "an IPv6 address in the base URL needs brackets: [::1]",
        );
        refused(
            "http://[::g]",
            "the base URL's host [::g] is no IPv6 address",
        );
        refused(
            "https://a{b}.com",
            "the base URL's host \"a{b}.com\" is no host name",
        );
        refused(
            "https://a.com/v1#x",
            "the base URL holds a #, after which nothing would be sent",
        );
    }

    #[test]
    fn loopback_is_told_by_the_host_and_not_by_a_part_of_it() {
        let is = |base| Endpoint::parse(base).unwrap().is_loopback();
        for base in [
            "http://localhost",
            "http://LOCALHOST.:1",
            "http://a.localhost",
            "http://127.9.9.9",
            "http://[::1]:1",
        ] {
            assert!(is(base), "{base}");
        }
        for base in [
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://10.0.0.1",
            "http://notlocalhost",
        ] {
            assert!(!is(base), "{base}");
        }
    }

    #[test]
    fn messages_name_the_port_also_where_it_goes_without_saying() {
        let names = |base: &str| Endpoint::parse(base).unwrap().authority;
        assert_eq!(names("https://a.com/v1"), "a.com:443");
        assert_eq!(names("http://[::1]"), "[::1]:80");
        assert_eq!(names("http://a.com:8080"), "a.com:8080");
    }

    #[test]
    fn what_messages_show_holds_no_query() {
        let endpoint = Endpoint::parse("https://a.com/v1?key=secret").unwrap();
        assert_eq!(endpoint.shown("/models"), "https://a.com/v1/models");
        assert_eq!(endpoint.models_url(), "https://a.com/v1/models?key=secret");
    }
}
