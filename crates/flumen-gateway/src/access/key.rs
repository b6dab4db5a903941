use std::io;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

const PREFIX: &str = "fl-";

/// A new key: 256 random bits.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_key() -> io::Result<String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// Whether a text that should be something else is probably a key.
pub(crate) fn looks_like_a_key(text: &str) -> bool {
    (text.starts_with(PREFIX) || text.starts_with("sk-")) && text.len() >= 20
}

/// Whether a credential is a token (JWT) and not a key: three parts in base64url, of which the first is an object.
pub(crate) fn looks_like_a_token(text: &str) -> bool {
    let in_alphabet =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let parts: Vec<_> = text.split('.').collect();
    parts.len() == 3 && text.starts_with("eyJ") && parts.iter().all(|part| in_alphabet(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_told_apart() {
        let key = new_key().unwrap();
        assert_eq!((key.len(), looks_like_a_key(&key), looks_like_a_token(&key)), (46, true, false));
        assert_ne!(key, new_key().unwrap());
        assert!(looks_like_a_token("eyJhbGciOiJub25lIn0.e30.") && looks_like_a_token("eyJ.a-_.b"));
        for other in ["eyJ.a", "eyJ.a.b.c", "eyJ.a.=", "a.b.c", ""] {
            assert!(!looks_like_a_token(other), "{other}");
        }
    }
}
