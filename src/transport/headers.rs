//! The headers that a client sends with every request.

use ureq::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Settings;
use crate::{Error, Result};

/// The headers that every request has. What must not be shown goes into `secrets`.
pub(super) fn of(settings: &Settings, secrets: &mut Vec<String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers.insert(
        header::USER_AGENT,
        header_value("the user agent", &settings.user_agent)?,
    );
    if let Some(key) = &settings.key {
        let mut value =
            header_value("the API key", &format!("Bearer {key}")).map_err(|_| bad_key(key))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        secrets.push(key.clone());
    }
    for (name, value) in &settings.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| Error::input(format!("the header name {name:?} is none")))?;
        if is_reserved(parsed.as_str()) {
            return Err(Error::input(format!(
                "the header {parsed} is set by the client itself"
            )));
        }
        let mut header = header_value(&format!("the header {parsed}"), value)?;
        if is_secret(parsed.as_str()) {
            header.set_sensitive(true);
            secrets.push(value.rsplit(' ').next().unwrap_or(value).to_owned());
        }
        headers.insert(parsed, header);
    }
    Ok(headers)
}

fn header_value(what: &str, value: &str) -> Result<HeaderValue> {
    match value.char_indices().find(|(_, c)| !matches!(c, ' '..='~')) {
        Some((at, _)) => Err(Error::input(format!("{what} {}", unfit(value, at)))),
        None => HeaderValue::from_str(value)
            .map_err(|e| Error::input(format!("{what} is no header's value: {e}"))),
    }
}

/// Says which character a header cannot carry, and never quotes the rest.
fn unfit(value: &str, at: usize) -> String {
    let place = value.get(..at).unwrap_or_default().chars().count() + 1;
    let what = match value.get(at..).and_then(|rest| rest.chars().next()) {
        Some(c) if c.is_control() => "a control character",
        _ => "a character that is not ASCII",
    };
    format!("holds a character that no HTTP header can carry: {what} at position {place}")
}

fn bad_key(key: &str) -> Error {
    let at = key
        .char_indices()
        .find(|(_, c)| !matches!(c, ' '..='~'))
        .map_or(0, |(at, _)| at);
    let hint = if key.trim_end().len() < key.len() {
        "; is it a line break at its end?"
    } else {
        ""
    };
    Error::input(format!("the API key {}{hint}", unfit(key, at)))
}

/// Headers that hold a key by custom, so that they are guarded like one.
pub(crate) fn is_secret(name: &str) -> bool {
    [
        "authorization",
        "api-key",
        "x-api-key",
        "proxy-authorization",
    ]
    .contains(&name.to_ascii_lowercase().as_str())
}

/// Headers that would change what a request means.
fn is_reserved(name: &str) -> bool {
    [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept",
        "accept-encoding",
        "expect",
    ]
    .contains(&name)
}
