//! The ways in which an answer can go wrong on purpose.

use http::StatusCode;

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status instead of an answer.
    Status(StatusCode),
    /// This breakage after so many token events.
    After(Breakage, u64),
}

/// How an answer that has begun goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// Nothing comes any more, and nothing ends.
    Stall,
    /// The connection is cut.
    Cut,
    /// The body ends too early, but in proper form.
    End,
    /// An error event, then the end.
    Error,
    /// Bytes that are no events, then the end.
    Garbage,
    /// Half of an event, then the end.
    Unterminated,
}

impl Breakage {
    const NAMES: [(&str, Self); 6] = [
        ("stall", Self::Stall),
        ("cut", Self::Cut),
        ("end", Self::End),
        ("error", Self::Error),
        ("garbage", Self::Garbage),
        ("unterminated", Self::Unterminated),
    ];
}

impl Fault {
    /// What a fault may look like, for the message about one that does not.
    pub(crate) const EXPECTED: &str =
        "stall@N, cut@N, end@N, error@N, garbage@N, unterminated@N or status:400 to status:599";

    /// Reads `cut@20` or `status:503`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(code) = text.strip_prefix("status:") {
            let status = StatusCode::from_bytes(code.as_bytes()).ok()?;
            let is_error = status.is_client_error() || status.is_server_error();
            return is_error.then_some(Self::Status(status));
        }
        let (name, after) = text.split_once('@').unwrap_or((text, "0"));
        let (_, breakage) = Breakage::NAMES.iter().find(|(known, _)| *known == name)?;
        Some(Self::After(*breakage, after.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        assert_eq!(Fault::parse("cut@20"), Some(Fault::After(Breakage::Cut, 20)));
        assert_eq!(Fault::parse("stall"), Some(Fault::After(Breakage::Stall, 0)));
        assert_eq!(Fault::parse("status:429"), Some(Fault::Status(StatusCode::TOO_MANY_REQUESTS)));
        for bad in ["", "cut@", "cut@-1", "cut@x", "status:200", "status:999", "status:", "fire@3"] {
            assert_eq!(Fault::parse(bad), None, "{bad}");
        }
    }
}
