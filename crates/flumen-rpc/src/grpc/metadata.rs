//! Headers, trailers and statuses as gRPC and Kitex write them.

use std::{collections::BTreeMap, error::Error, time::Duration};

use bytes::Bytes;
use flumen_wire::client::ErrorKind;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;

use crate::{Business, Code, Metadata, Status};

/// Kitex's prefix of values for the next hop, in HTTP/2.
const TRANSIENT: &str = "rpc-transit-";
/// Kitex's prefix of values for all hops.
const PERSISTENT: &str = "rpc-persist-";
/// The code of a reset by which Kitex ends streams at its own shutdown. It is no code of HTTP/2.
const KITEX_SHUTDOWN: u32 = 1000;

/// Headers that belong to the protocol.
fn is_reserved(name: &str) -> bool {
    matches!(name, "content-type" | "te" | "user-agent" | "host" | "content-length" | "date")
        || name.starts_with("grpc-")
        || name.starts_with("biz-")
}

/// Adds metadata to the headers of a call or an answer. What cannot stand in a header is left out.
pub(super) fn write(metadata: &Metadata, headers: &mut HeaderMap) {
    let mut put = |prefix: &str, values: &BTreeMap<String, String>| {
        for (key, value) in values {
            let name = HeaderName::try_from(format!("{prefix}{}", key.to_lowercase().replace('_', "-")));
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
                tracing::debug!(key, "metadata that no header can carry was left out");
                continue;
            };
            if !is_reserved(name.as_str()) {
                headers.append(name, value);
            }
        }
    };
    put("", &metadata.plain);
    put(TRANSIENT, &metadata.transient);
    put(PERSISTENT, &metadata.persistent);
}

/// Reads what headers or trailers carry besides what belongs to the protocol.
pub(super) fn read(headers: &HeaderMap) -> Metadata {
    let mut metadata = Metadata::default();
    for (name, value) in headers {
        let (name, Ok(value)) = (name.as_str(), value.to_str()) else { continue };
        let (map, key) = if let Some(key) = name.strip_prefix(TRANSIENT) {
            (&mut metadata.transient, key)
        } else if let Some(key) = name.strip_prefix(PERSISTENT) {
            (&mut metadata.persistent, key)
        } else if is_reserved(name) {
            continue;
        } else {
            (&mut metadata.plain, name)
        };
        map.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    metadata
}

/// The value of `grpc-timeout`: at most eight digits and a unit.
pub(super) fn timeout(left: Duration) -> HeaderValue {
    let (micros, millis, seconds) = (left.as_micros(), left.as_millis(), left.as_secs());
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", seconds.min(99_999_999))
    };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("99999999S"))
}

/// Reads a `grpc-timeout`.
pub(super) fn read_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// What a status is that came in place of a message. One with a source is none of the service's: its connection broke.
pub(super) fn received(status: &tonic::Status) -> Status {
    let mut own = status_of(status);
    if status.source().is_some() {
        own.connection = Some(ErrorKind::Broken);
        if own.code == Code::Unknown {
            own.code = Code::Unavailable;
        }
    }
    own
}

/// What a status of tonic's is to us.
pub(super) fn status_of(status: &tonic::Status) -> Status {
    let mut own = Status::new(status.code(), status.message().to_owned());
    own.details = Bytes::copy_from_slice(status.details());
    own.business = business(status.metadata().as_ref()).map(Box::new);
    // Kitex says it there and nowhere else.
    if let Some(business) = own.business.as_mut().filter(|business| business.message.is_empty()) {
        business.message = own.message.to_string();
    }
    if reset_code(status) == Some(KITEX_SHUTDOWN) {
        own.code = Code::Unavailable;
        own.message = "the service is shutting down".into();
    }
    own
}

/// The code of the reset that ended a stream, if that is what ended it.
fn reset_code(status: &tonic::Status) -> Option<u32> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().map(Into::into);
        }
        source = error.source();
    }
    None
}

/// An error of the service's business, which Kitex writes into the trailers.
pub(super) fn business(trailers: &HeaderMap) -> Option<Business> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("biz-status")?.parse().ok().filter(|code| *code != 0)?;
    Some(Business {
        code,
        message: percent_decoded(text("biz-message").unwrap_or_default()),
        extra: text("biz-extra").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
    })
}

/// What a status of ours is to tonic. The trailer's metadata goes with it.
pub(super) fn to_tonic(status: Status, trailer: &Metadata) -> tonic::Status {
    let mut headers = HeaderMap::new();
    write(trailer, &mut headers);
    let mut message = status.message.into_owned();
    if let Some(business) = status.business {
        let extra = serde_json::to_string(&business.extra).unwrap_or_default();
        let fields =
            [("biz-status", business.code.to_string()), ("biz-message", percent_encoded(&business.message))];
        for (name, value) in fields.into_iter().chain((extra != "{}").then_some(("biz-extra", extra))) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        message = business.message;
    }
    let metadata = MetadataMap::from_headers(headers);
    tonic::Status::with_details_and_metadata(status.code, message, status.details, metadata)
}

/// gRPC's escaping of messages: printable ASCII but `%` stays.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

fn percent_decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_keep_to_eight_digits_and_are_read_back() {
        for (span, text) in [
            (Duration::from_micros(5), "5u"),
            (Duration::from_mins(10), "600000m"),
            (Duration::from_hours(100), "360000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(timeout(span), text);
        }
        assert_eq!(read_timeout(&timeout(Duration::from_millis(1500))), Some(Duration::from_millis(1500)));
        for text in ["", "5", "u", "123456789m", "-1S", "5x", "5é"] {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            assert_eq!(read_timeout(&value), None, "{text}");
        }
    }

    #[test]
    fn metadata_keeps_its_kinds_and_leaves_the_protocol_alone() {
        let mut metadata = Metadata::default();
        metadata.plain.insert("x-request-id".into(), "7".into());
        metadata.plain.insert("grpc-status".into(), "0".into());
        metadata.transient.insert("TKEY_A".into(), "t".into());
        metadata.persistent.insert("pkey".into(), "p".into());
        let mut headers = HeaderMap::new();
        write(&metadata, &mut headers);
        assert_eq!(headers["rpc-transit-tkey-a"], "t");
        let read = read(&headers);
        assert_eq!(read.plain, BTreeMap::from([("x-request-id".to_owned(), "7".to_owned())]));
        assert_eq!(read.persistent["pkey"], "p");
    }

    #[test]
    fn errors_of_the_business_survive_the_trailers() {
        let business = Business {
            code: 4001,
            message: "no more 100% é".into(),
            extra: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        let status = to_tonic(Status::business(business.clone()), &Metadata::default());
        assert_eq!(status_of(&status).business.as_deref(), Some(&business));
    }
}
