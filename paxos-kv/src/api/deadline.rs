//! How long a client waits, in the header `grpc-timeout`.
//!
//! - **Nobody works for a client that has gone**: its request ends with its time, as it does when it is cancelled or
//!   its connection ends. A write that is in the log by then has its effect all the same.
//! - A client that says nothing waits as long as the server does (`ServerConfig::request_timeout`).

use std::time::Duration;

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use tokio::time::timeout;
use tonic::Status;

const HEADER: &str = "grpc-timeout";

/// Digits that the protocol allows.
const DIGITS_MAX: usize = 8;

/// Gives a request up when its client waits no longer.
pub(super) async fn respect(request: Request, next: Next) -> Response {
    let Some(value) = request.headers().get(HEADER) else { return next.run(request).await };
    let Some(patience) = patience(value) else {
        return Status::invalid_argument(format!("malformed {HEADER}: {value:?}")).into_http();
    };
    match timeout(patience, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("context deadline exceeded").into_http(),
    }
}

fn patience(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(3600 * count)),
        "M" => Some(Duration::from_secs(60 * count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_all_units() {
        let of = |text: &str| patience(&HeaderValue::from_str(text).expect("text"));
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("99999999M", Duration::from_secs(60 * 99_999_999)),
            ("2S", Duration::from_secs(2)),
            ("0m", Duration::ZERO),
            ("15u", Duration::from_micros(15)),
            ("100n", Duration::from_nanos(100)),
        ] {
            assert_eq!(of(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "-1S", "+1S", "1s", "1.5S", "123456789S", "1 S", "1\u{e9}"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }
}
