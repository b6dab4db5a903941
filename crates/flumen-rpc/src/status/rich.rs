//! The rich error model of gRPC (`google.rpc.Status` in `grpc-status-details-bin`), as far as it is used here: a reason for programs
//! (`google.rpc.ErrorInfo`) and when to try again (`google.rpc.RetryInfo`).

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::Status;

#[derive(Message)]
struct Rich {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Span>,
}

#[derive(Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// The same with details: a reason for programs, such as `rate_limited`, and when to try again.
    pub fn because(mut self, reason: &str, retry_after: Option<Duration>) -> Self {
        let info = ErrorInfo { reason: reason.to_owned(), domain: "flumen".to_owned() };
        let mut details = vec![Any { type_url: ERROR_INFO.to_owned(), value: info.encode_to_vec().into() }];
        if let Some(delay) = retry_after {
            let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
            let delay = Some(Span { seconds, nanos: delay.subsec_nanos().cast_signed() });
            let value = RetryInfo { delay }.encode_to_vec().into();
            details.push(Any { type_url: RETRY_INFO.to_owned(), value });
        }
        let rich = Rich { code: self.code.into(), message: self.message.to_string(), details };
        self.details = rich.encode_to_vec().into();
        self
    }

    fn detail<M: Message + Default>(&self, type_url: &str) -> Option<M> {
        let rich = Rich::decode(self.details.clone()).ok()?;
        let detail = rich.details.into_iter().find(|detail| detail.type_url == type_url)?;
        M::decode(detail.value).ok()
    }

    /// The reason for programs, if the details have one.
    pub fn reason(&self) -> Option<String> {
        self.detail::<ErrorInfo>(ERROR_INFO).map(|info| info.reason)
    }

    /// When to try again, if the details say.
    pub fn retry_after(&self) -> Option<Duration> {
        let Span { seconds, nanos } = self.detail::<RetryInfo>(RETRY_INFO)?.delay?;
        Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn details_are_read_back() {
        let after = Duration::from_millis(1500);
        let status = Status::new(Code::ResourceExhausted, "slow down").because("rate_limited", Some(after));
        assert_eq!((status.reason().as_deref(), status.retry_after()), (Some("rate_limited"), Some(after)));
        let foreign = Status { details: Bytes::from_static(b"\xff\xff\xff"), ..Status::deadline() };
        assert_eq!((foreign.reason(), foreign.retry_after()), (None, None));
    }
}
