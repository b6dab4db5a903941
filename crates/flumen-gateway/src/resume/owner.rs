//! Whose streams a request may see.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};

use crate::{access::Identity, error::Failure};

/// The owner of the streams that a request begins and sees: its tenant; where nobody is asked who they are, whoever presents the
/// same credentials, of which the digest is kept.
pub(crate) struct Owner(pub String);

impl Owner {
    pub(crate) fn of(identity: &Identity, headers: &HeaderMap) -> Self {
        Self(identity.owner().unwrap_or_else(|| of_credentials(headers)))
    }
}

impl<S: Sync> FromRequestParts<S> for Owner {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self::of(&*Identity::of(&parts.extensions)?, &parts.headers))
    }
}

fn of_credentials(headers: &HeaderMap) -> String {
    let presented = headers.get(header::AUTHORIZATION).or_else(|| headers.get("x-api-key"));
    let Some(presented) = presented else { return String::new() };
    let bytes = presented.as_bytes();
    let bare = bytes.strip_prefix(b"Bearer ").or_else(|| bytes.strip_prefix(b"bearer ")).unwrap_or(bytes);
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, bare).as_ref()[..16]);
    format!("{:032x}", u128::from_be_bytes(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_tell_owners_apart_and_are_not_kept() {
        let owner = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            Owner::of(&Identity::anonymous(), &headers).0
        };
        assert_eq!(owner("authorization", "Bearer k"), owner("x-api-key", "k"));
        assert_ne!(owner("authorization", "Bearer k"), owner("authorization", "Bearer l"));
        assert!(!owner("authorization", "Bearer secret").contains("secret"));
        assert_eq!(Owner::of(&Identity::anonymous(), &HeaderMap::new()).0, "");
    }
}
