//! The numbers by which Kitex names what went wrong (`pkg/remote/trans/ttstream/exception.go`, `pkg/remote/trans_errors.go`).

use crate::{Code, Status};

/// Thrift: there is no such method.
pub(super) const UNKNOWN_METHOD: i32 = 1;
/// Thrift: an answer without a result.
pub(super) const MISSING_RESULT: i32 = 5;
/// Thrift: the service failed.
pub(super) const INTERNAL_ERROR: i32 = 6;
/// Kitex: a reset that says nothing.
pub(super) const RESET: i32 = 13;
/// Kitex: there is no such service.
pub(super) const UNKNOWN_SERVICE: i32 = 20;

/// A second header frame.
pub(super) const UNEXPECTED_HEADER: i32 = 12_002;
/// A frame that cannot be read.
pub(super) const ILLEGAL_FRAME: i32 = 12_004;
/// The connection is being closed.
pub(super) const CLOSING: i32 = 12_006;
/// The caller does not want it any more.
pub(super) const CANCELLED: i32 = 12_007;
/// The same, and has said why.
pub(super) const CANCELLED_WITH_CAUSE: i32 = 12_008;
/// The connection is lost.
pub(super) const CONNECTION_CLOSED: i32 = 12_013;
/// The deadline has passed.
pub(super) const DEADLINE: i32 = 12_015;

/// What a number means.
pub(super) const fn meaning(number: i32) -> Code {
    match number {
        UNKNOWN_METHOD | UNKNOWN_SERVICE => Code::Unimplemented,
        2..=10 | RESET | 12_002..=12_005 => Code::Internal,
        CLOSING | CONNECTION_CLOSED => Code::Unavailable,
        12_007..=12_012 => Code::Cancelled,
        12_014 | DEADLINE => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

/// The number that says a status best.
pub(super) fn number(status: &Status) -> i32 {
    status.wire.unwrap_or(match status.code {
        Code::Unimplemented => UNKNOWN_METHOD,
        Code::Unavailable => CLOSING,
        Code::Cancelled => CANCELLED,
        Code::DeadlineExceeded => DEADLINE,
        _ => INTERNAL_ERROR,
    })
}
