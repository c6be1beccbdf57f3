//! When to try again, and how long to wait before it: arithmetic only. The clock and the dice are arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest wait that a server is granted; one that asks for more gets no second try.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a failed request is repeated, and after what pause.
///
/// Default: 2 retries (so at most 3 attempts), the pause 0.5 s, then doubled each time up to 8 s, shortened at random
/// by up to a quarter so that many clients do not come back at once.
///
/// Only what cannot cost twice is repeated, whatever the policy says:
///
/// | what happened | repeated |
/// |---|---|
/// | the host was not found, the connection was refused or not made in time: nothing was sent | yes |
/// | the server refused: 408, 409, 429, 500 and above | yes |
/// | 429 because the quota or the credit is gone | no |
/// | the connection was lost within 2 s of sending, before the response began (an idle connection that the server had closed) | yes, at once, on a fresh connection |
/// | the connection was lost later, or the answer took too long: the server may have answered, and billed | no |
/// | a certificate was not accepted, a redirect, an answer that is none | no |
/// | anything after the first byte of a stream | no |
///
/// A server's `x-should-retry: true` or `false` decides instead where it is given. A server's `Retry-After` is waited
/// for in place of the policy's own pause if it is at most 60 s and ends before the client's
/// [`timeout`](crate::ClientBuilder::timeout); else the error is returned, with
/// [`retry_after()`](crate::Error::retry_after).
///
/// ```
/// use aimlapi::{Client, RetryPolicy};
/// use std::time::Duration;
///
/// let patient = RetryPolicy::default()
///     .max_retries(5)
///     .max_delay(Duration::from_secs(30));
/// let client = Client::builder().api_key("key").retry(patient).build()?;
/// # Ok::<(), aimlapi::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct RetryPolicy {
    max_retries: u32,
    initial_delay: Duration,
    max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_retries: 2,
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(8),
        }
    }
}

impl RetryPolicy {
    /// Never repeats a request.
    pub fn none() -> RetryPolicy {
        RetryPolicy::default().max_retries(0)
    }

    /// How often a request is repeated after its first attempt. Default: 2.
    pub fn max_retries(mut self, retries: u32) -> RetryPolicy {
        self.max_retries = retries;
        self
    }

    /// The pause before the first retry; it doubles with every further one. Default: 0.5 s.
    pub fn initial_delay(mut self, delay: Duration) -> RetryPolicy {
        self.initial_delay = delay;
        self
    }

    /// The longest pause of the policy's own. Default: 8 s. More than 60 s counts as 60 s.
    pub fn max_delay(mut self, delay: Duration) -> RetryPolicy {
        self.max_delay = delay.min(LONGEST_WAIT);
        self
    }

    /// Whether anything is repeated at all.
    pub(crate) fn retries(&self) -> bool {
        self.max_retries > 0
    }

    /// How long many calls wait together after one of them has been told `times` times that it is too much: as long
    /// as the server asks for, else as the policy says, and whatever its number of retries is.
    pub(crate) fn cool_down(&self, times: u32, again: Again, dice: f64) -> Duration {
        match again {
            Again::After(asked) if asked > Duration::ZERO => asked,
            _ => self.backoff(times, dice),
        }
    }

    /// The pause before the next attempt after `failed` ones, or `None` to give up.
    ///
    /// `asked` is what the server wants to be waited for, `left` the time to the deadline, `dice` random in `0.0..1.0`.
    pub(crate) fn pause(
        &self,
        failed: u32,
        again: Again,
        left: Duration,
        dice: f64,
    ) -> Option<Duration> {
        if failed > self.max_retries {
            return None;
        }
        let pause = match again {
            Again::Never => return None,
            Again::AtOnce if failed == 1 => Duration::ZERO,
            Again::After(asked) if asked > LONGEST_WAIT => return None,
            Again::After(asked) if asked > Duration::ZERO => asked,
            Again::AtOnce | Again::After(_) | Again::Later => self.backoff(failed, dice),
        };
        (pause < left).then_some(pause)
    }

    fn backoff(&self, failed: u32, dice: f64) -> Duration {
        let doubled = 2_u32
            .checked_pow(failed.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let full = self
            .initial_delay
            .saturating_mul(doubled)
            .min(self.max_delay);
        full.mul_f64(1.0 - 0.25 * dice.clamp(0.0, 1.0))
    }
}

/// Whether a failure may be repeated, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    /// The first time without a pause: the connection was stale, not the server busy.
    AtOnce,
    /// After the policy's own pause.
    Later,
    /// After the pause that the server asked for.
    After(Duration),
}

impl Again {
    /// What a refusal's status and headers say. `spent`: the quota or the credit is gone.
    pub(crate) fn of_refusal(
        status: u16,
        should: Option<&str>,
        asked: Option<Duration>,
        spent: bool,
    ) -> Again {
        let repeat = match should.map(str::trim) {
            Some("true") => true,
            Some("false") => false,
            _ => matches!(status, 408 | 409 | 429 | 500..) && !spent,
        };
        match asked {
            _ if !repeat => Again::Never,
            Some(asked) => Again::After(asked),
            None => Again::Later,
        }
    }
}

/// What `retry-after-ms` (milliseconds) and `Retry-After` (seconds, also as a float, or an HTTP date) ask for.
/// Nonsense is `None`; a date in the past is no wait; more than a `Duration` holds is all that it holds.
pub(crate) fn retry_after(
    millis: Option<&str>,
    header: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let millis = millis.and_then(|text| wait(text, 1000.0));
    millis.or_else(|| {
        let header = header?;
        wait(header, 1.0).or_else(|| {
            Some(
                http_date(header)?
                    .duration_since(now)
                    .unwrap_or(Duration::ZERO),
            )
        })
    })
}

fn wait(text: &str, per_second: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    if number.is_nan() || number < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(number / per_second).unwrap_or(Duration::MAX))
}

/// The three forms of RFC 9110: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` and
/// `Sun Nov  6 08:49:37 1994`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let (mut day, mut month, mut year, mut time) = (None, None, None, None);
    for word in text.split([' ', ',', '-']).filter(|word| !word.is_empty()) {
        let lower = word.to_ascii_lowercase();
        if let Some(index) = MONTHS.iter().position(|name| *name == lower) {
            month = Some(u64::try_from(index).ok()? + 1);
        } else if word.contains(':') {
            time = Some(word);
        } else if let Ok(number) = word.parse::<u64>() {
            if day.is_none() {
                day = Some(number);
            } else {
                year = Some(match number {
                    0..70 => number + 2000,
                    70..100 => number + 1900,
                    _ => number,
                });
            }
        }
    }
    let (day, month, year) = (day?, month?, year?);
    let clock: Vec<u64> = time?
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let &[hour, minute, second] = clock.as_slice() else {
        return None;
    };
    let real = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second < 61;
    if !real {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days of the proleptic Gregorian calendar, the year counted from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    (year * 365 + leaps + (month * 153 + 2) / 5 + day).saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_dice_only_shorten_it() {
        let policy = RetryPolicy::default().max_retries(9);
        let pauses = |dice| {
            (1..=6)
                .map(|n| {
                    policy
                        .pause(n, Again::Later, LONG, dice)
                        .unwrap()
                        .as_millis()
                })
                .collect()
        };
        let (full, short): (Vec<u128>, Vec<u128>) = (pauses(0.0), pauses(1.0));
        assert_eq!(full, [500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(short, [375, 750, 1500, 3000, 6000, 6000]);
    }

    #[test]
    fn the_number_of_retries_is_a_limit() {
        let policy = RetryPolicy::default();
        assert!(policy.pause(2, Again::Later, LONG, 0.0).is_some());
        assert_eq!(policy.pause(3, Again::Later, LONG, 0.0), None);
        assert_eq!(RetryPolicy::none().pause(1, Again::AtOnce, LONG, 0.0), None);
        let endless = RetryPolicy::default().max_retries(u32::MAX);
        assert_eq!(
            endless.pause(u32::MAX, Again::Later, LONG, 0.0),
            Some(secs(8))
        );
    }

    #[test]
    fn a_stale_connection_is_replaced_at_once_and_only_once() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.pause(1, Again::AtOnce, LONG, 0.0),
            Some(Duration::ZERO)
        );
        assert_eq!(policy.pause(2, Again::AtOnce, LONG, 0.0), Some(secs(1)));
    }

    #[test]
    fn a_server_is_waited_for_up_to_a_minute_and_never_past_the_deadline() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.pause(1, Again::After(secs(60)), LONG, 0.5),
            Some(secs(60))
        );
        assert_eq!(policy.pause(1, Again::After(secs(61)), LONG, 0.5), None);
        assert_eq!(
            policy.pause(1, Again::After(Duration::MAX), LONG, 0.5),
            None
        );
        assert_eq!(policy.pause(1, Again::After(secs(5)), secs(5), 0.5), None);
        assert_eq!(
            policy.pause(1, Again::After(Duration::ZERO), LONG, 0.0),
            Some(Duration::from_millis(500))
        );
        assert_eq!(policy.pause(1, Again::Never, LONG, 0.0), None);
    }

    #[test]
    fn many_calls_wait_as_long_as_the_server_asks_for() {
        let policy = RetryPolicy::none();
        let hour = Again::After(secs(3600));
        assert_eq!(policy.cool_down(1, hour, 0.5), secs(3600));
        for unsaid in [Again::Later, Again::After(Duration::ZERO)] {
            assert_eq!(policy.cool_down(3, unsaid, 0.0), secs(2));
            assert_eq!(policy.cool_down(u32::MAX, unsaid, 0.0), secs(8));
        }
    }

    #[test]
    fn which_refusals_are_repeated() {
        let plain = |status| Again::of_refusal(status, None, None, false);
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert_eq!(plain(status), Again::Later, "{status}");
        }
        for status in [300, 400, 401, 403, 404, 413, 422] {
            assert_eq!(plain(status), Again::Never, "{status}");
        }
        assert_eq!(Again::of_refusal(429, None, None, true), Again::Never);
        assert_eq!(
            Again::of_refusal(429, Some("true"), None, true),
            Again::Later
        );
        assert_eq!(
            Again::of_refusal(400, Some("true"), Some(secs(1)), false),
            Again::After(secs(1))
        );
        assert_eq!(
            Again::of_refusal(503, Some("false"), Some(secs(1)), false),
            Again::Never
        );
    }

    #[test]
    fn every_spelling_of_retry_after_is_read() {
        let now = UNIX_EPOCH + secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let after = |header| retry_after(None, Some(header), now);
        assert_eq!(after("3"), Some(secs(3)));
        assert_eq!(after(" 1.5 "), Some(Duration::from_millis(1500)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:40 GMT"), Some(secs(3)));
        assert_eq!(after("Sunday, 06-Nov-94 08:49:40 GMT"), Some(secs(3)));
        assert_eq!(after("Sun Nov  6 08:49:40 1994"), Some(secs(3)));
        assert_eq!(after("Sat, 05 Nov 1994 08:49:40 GMT"), Some(Duration::ZERO));
        assert_eq!(
            retry_after(Some("250"), Some("9"), now),
            Some(Duration::from_millis(250))
        );
        assert_eq!(retry_after(Some("soon"), Some("9"), now), Some(secs(9)));
        assert_eq!(after("1e300"), Some(Duration::MAX));
        for nonsense in [
            "NaN",
            "-1",
            "",
            "soon",
            "06 Nov",
            "Sun, 99 Nov 1994 08:49:40 GMT",
            "1:2:3 jan 1 18446744073709551615",
        ] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn leap_days_are_counted() {
        assert_eq!(days_since_1970(1970, 1, 1), 0);
        assert_eq!(days_since_1970(2000, 2, 29), 11_016);
        assert_eq!(days_since_1970(2000, 3, 1), 11_017);
        assert_eq!(days_since_1970(2100, 3, 1), 47_541);
    }
}
