//! What a request presents, wherever it may stand.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri, header};

use super::looks_like_a_token;
use crate::{error::Failure, resume::KEY_PROTOCOL};

/// The credential of a request, if it presents one.
///
/// # Errors
/// 400 when it presents several that differ, 401 for what cannot be one.
pub(super) fn presented(headers: &HeaderMap, uri: &Uri) -> Result<Option<String>, Failure> {
    let mut found: Option<String> = None;
    let mut take = |credential: String| match &found {
        Some(other) if *other != credential => {
            Err(Failure::bad_request("the request presents several keys that differ; send one"))
        }
        _ => {
            found = Some(credential);
            Ok(())
        }
    };
    for value in headers.get_all(header::AUTHORIZATION) {
        take(bearer(value.as_bytes())?)?;
    }
    for value in headers.get_all("x-api-key") {
        take(text(value.as_bytes())?)?;
    }
    for name in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok()) {
        for key in name.split(',').filter_map(|name| name.trim().strip_prefix(KEY_PROTOCOL)) {
            let key = URL_SAFE_NO_PAD.decode(key.trim_end_matches('='));
            take(text(&key.map_err(|_| unreadable())?)?)?;
        }
    }
    for token in uri
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.strip_prefix("token="))
    {
        // What stands in an address ends up in logs and histories: fit for what is soon worth nothing, not for a key.
        if !looks_like_a_token(token) {
            return Err(super::gatekeeper::refused(
                "only tokens may stand in the address; send a key in the header `Authorization`",
            ));
        }
        take(token.to_owned())?;
    }
    Ok(found)
}

fn bearer(value: &[u8]) -> Result<String, Failure> {
    let bare = match value.iter().position(|&byte| byte == b' ') {
        Some(at) if value[..at].eq_ignore_ascii_case(b"bearer") => value[at..].trim_ascii(),
        _ => return Err(super::gatekeeper::refused("the header `Authorization` must be `Bearer` and a key")),
    };
    text(bare)
}

fn text(value: &[u8]) -> Result<String, Failure> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(text.to_owned())
        }
        _ => Err(unreadable()),
    }
}

fn unreadable() -> Failure {
    super::gatekeeper::refused("the key that was presented is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)], uri: &'static str) -> Result<Option<String>, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        presented(&map, &Uri::from_static(uri)).map_err(|failure| failure.status.as_u16())
    }

    #[test]
    fn a_credential_is_found_wherever_it_may_stand() {
        let k = Ok(Some("k".to_owned()));
        assert_eq!(of(&[], "/v1/models"), Ok(None));
        assert_eq!(of(&[("authorization", "Bearer k")], "/"), k);
        assert_eq!(of(&[("authorization", "bearer  k ")], "/"), k);
        assert_eq!(of(&[("x-api-key", "k")], "/"), k);
        assert_eq!(of(&[("sec-websocket-protocol", "flumen.v1, flumen.key.aw")], "/"), k);
        assert_eq!(of(&[("sec-websocket-protocol", "flumen.v1")], "/"), Ok(None));
        assert_eq!(of(&[], "/x?a=b&token=eyJ.a.b"), Ok(Some("eyJ.a.b".to_owned())));
    }

    #[test]
    fn several_may_stand_there_only_if_they_agree() {
        assert_eq!(of(&[("authorization", "Bearer k"), ("x-api-key", "k")], "/"), Ok(Some("k".to_owned())));
        assert_eq!(of(&[("authorization", "Bearer k"), ("x-api-key", "l")], "/"), Err(400));
        assert_eq!(of(&[("authorization", "Bearer k"), ("authorization", "Bearer l")], "/"), Err(400));
        assert_eq!(of(&[("x-api-key", "k")], "/?token=eyJ.a.b"), Err(400));
    }

    #[test]
    fn what_cannot_be_a_credential_is_refused() {
        for headers in [
            [("authorization", "Basic dTpw")],
            [("authorization", "k")],
            [("authorization", "Bearer ")],
            [("authorization", "Bearer a b")],
            [("x-api-key", "")],
            [("sec-websocket-protocol", "flumen.key.%%")],
        ] {
            assert_eq!(of(&headers, "/"), Err(401), "{headers:?}");
        }
        assert_eq!(of(&[], "/?token=fl-key"), Err(401));
    }
}
