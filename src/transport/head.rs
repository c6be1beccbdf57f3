//! What the head of a response says.

use ureq::http::{HeaderMap, HeaderName, StatusCode, header};

const INFERENCE_ID: HeaderName = HeaderName::from_static("x-inference-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const USD_SPENT: HeaderName = HeaderName::from_static("x-aimlapi-usd-spent");

/// What the head of a response says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) inference_id: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) client_request_id: Option<String>,
    pub(crate) usd_spent: Option<f64>,
    pub(crate) is_event_stream: bool,
    /// How often the request was sent; 0 for a recorded answer.
    pub(crate) attempts: u32,
}

impl Head {
    /// The id to quote to the provider's support.
    pub(crate) fn id(&self) -> Option<&str> {
        self.inference_id.as_deref().or(self.request_id.as_deref())
    }

    pub(crate) fn recorded(
        status: u16,
        request_id: Option<String>,
        client_request_id: Option<String>,
        usd_spent: Option<f64>,
    ) -> Head {
        Head {
            status,
            request_id,
            client_request_id,
            usd_spent,
            ..Head::default()
        }
    }

    pub(crate) fn of_stream(self) -> Head {
        Head {
            is_event_stream: true,
            ..self
        }
    }

    pub(super) fn of(status: StatusCode, headers: &HeaderMap, attempts: u32) -> Head {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok();
        let kind = text(header::CONTENT_TYPE);
        let spent: Option<f64> = text(USD_SPENT).and_then(|usd| usd.trim().parse().ok());
        Head {
            status: status.as_u16(),
            inference_id: text(INFERENCE_ID).map(str::to_owned),
            request_id: text(REQUEST_ID).map(str::to_owned),
            client_request_id: text(CLIENT_REQUEST_ID).map(str::to_owned),
            usd_spent: spent.filter(|usd| usd.is_finite()),
            is_event_stream: kind.is_some_and(|kind| {
                kind.trim_start()
                    .to_ascii_lowercase()
                    .starts_with("text/event-stream")
            }),
            attempts,
        }
    }
}
