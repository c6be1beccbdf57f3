//! What the head of a response says.

pub(crate) const CLIENT_REQUEST_ID: &str = "x-client-request-id";

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

    /// Of a header that comes twice, the first one counts.
    pub(crate) fn read<'a>(
        status: u16,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        attempts: u32,
    ) -> Head {
        let mut head = Head {
            status,
            attempts,
            ..Head::default()
        };
        // One pass costs less than to look for each.
        for (name, value) in headers {
            let text = || value.to_owned();
            match name {
                "x-inference-id" => {
                    head.inference_id.get_or_insert_with(text);
                }
                "x-request-id" => {
                    head.request_id.get_or_insert_with(text);
                }
                CLIENT_REQUEST_ID => {
                    head.client_request_id.get_or_insert_with(text);
                }
                "x-aimlapi-usd-spent" => {
                    let usd = value.trim().parse().ok();
                    head.usd_spent = head.usd_spent.or(usd.filter(|usd: &f64| usd.is_finite()));
                }
                "content-type" => {
                    let kind = value.trim_start().get(..17).unwrap_or_default();
                    head.is_event_stream |= kind.eq_ignore_ascii_case("text/event-stream");
                }
                _ => {}
            }
        }
        head
    }
}
