//! Bodies as tonic may see them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

/// What tonic decodes details with.
const DETAILS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes details out that are none: tonic panics at them.
pub(super) fn tidy(headers: &mut HeaderMap) {
    let name = "grpc-status-details-bin";
    if headers.get(name).is_some_and(|value| DETAILS.decode(value.as_bytes()).is_err()) {
        tracing::debug!("the details of a status are not base64");
        headers.remove(name);
    }
}

/// The body of an answer, whose trailers are tidied.
pub(super) fn of_answer<B>(body: B) -> impl Body<Data = Bytes, Error = B::Error> + Send + 'static
where
    B: Body<Data = Bytes> + Send + 'static,
{
    body.map_frame(|mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            tidy(trailers);
        }
        frame
    })
}

/// The body of a request, and whether it broke off: tonic takes a reset for the proper end of a request.
pub(super) fn of_request<B>(
    body: B,
) -> (impl Body<Data = Bytes, Error = B::Error> + Send + 'static, Arc<AtomicBool>)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let broken = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&broken);
    let body = body.map_err(move |error| {
        told.store(true, Relaxed);
        error
    });
    (body, broken)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn details_that_are_none_are_taken_out() {
        for (details, stays) in [("CAUSAA==", true), ("CAUSAA", true), ("a-b_", false), ("\u{1}?", false)] {
            let mut headers = HeaderMap::new();
            let Ok(value) = HeaderValue::from_bytes(details.as_bytes()) else { continue };
            headers.insert("grpc-status-details-bin", value);
            headers.insert("grpc-status", HeaderValue::from_static("5"));
            tidy(&mut headers);
            assert_eq!(headers.contains_key("grpc-status-details-bin"), stays, "{details}");
            assert!(tonic::Status::from_header_map(&headers).is_some());
        }
    }
}
