//! `flumen.generation.v1`: what Flumen and a model service say to each other.
//!
//! The contract is the file `proto/flumen/generation/v1/generation.proto`; `thrift/generation.thrift` says the same in Thrift, for
//! services of Kitex. One call is one generation: [`Start`], then [`Accepted`], [`Delta`]s and [`Finish`]; in between the caller may
//! say [`Pause`], [`Resume`] and [`Stop`].

use bytes::Bytes;
use prost::Message as _;

use crate::{Call, Code, Encoding, Status};

mod thrift_form;

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::large_enum_variant,
    reason = "made from the contract, which has the words"
)]
mod v1 {
    include!(concat!(env!("OUT_DIR"), "/flumen.generation.v1.rs"));
}

pub use v1::{
    Accepted, ClientMessage, Delta, Error, Finish, Message, Pause, Resume, Sampling, ServerMessage, Start,
    Stop, Times, ToolCall, ToolCallDelta, Usage, client_message::Message as Ask,
    server_message::Message as Say,
};

/// The service's full name.
pub const SERVICE: &str = "flumen.generation.v1.Generation";
/// The name that Thrift has for it.
pub const THRIFT_SERVICE: &str = "Generation";
/// Its method.
pub const METHOD: &str = "Generate";
/// The contract, as the reflection service tells it: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generation.bin"));

/// A call of the contract's method.
pub fn call(encoding: Encoding) -> Call {
    match encoding {
        Encoding::Proto => Call::new(SERVICE, METHOD),
        Encoding::Thrift => Call::new(THRIFT_SERVICE, METHOD),
    }
}

impl From<Ask> for ClientMessage {
    fn from(message: Ask) -> Self {
        Self { message: Some(message) }
    }
}

impl From<Say> for ServerMessage {
    fn from(message: Say) -> Self {
        Self { message: Some(message), id: String::new() }
    }
}

impl ClientMessage {
    /// The message on the wire.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Proto => self.encode_to_vec().into(),
            Encoding::Thrift => crate::thrift::encode(self),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none.
    pub fn decode(message: Bytes, encoding: Encoding) -> Result<Self, Status> {
        match encoding {
            Encoding::Proto => <Self as prost::Message>::decode(message)
                .map_err(|error| malformed(Code::InvalidArgument, &error)),
            Encoding::Thrift => {
                crate::thrift::decode(message).map_err(|error| malformed(Code::InvalidArgument, &error))
            }
        }
    }
}

impl ServerMessage {
    /// The message on the wire.
    pub fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Proto => self.encode_to_vec().into(),
            Encoding::Thrift => crate::thrift::encode(self),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// `Internal` when it is none.
    pub fn decode(message: Bytes, encoding: Encoding) -> Result<Self, Status> {
        match encoding {
            Encoding::Proto => {
                <Self as prost::Message>::decode(message).map_err(|error| malformed(Code::Internal, &error))
            }
            Encoding::Thrift => {
                crate::thrift::decode(message).map_err(|error| malformed(Code::Internal, &error))
            }
        }
    }
}

fn malformed(code: Code, error: &dyn std::error::Error) -> Status {
    Status::new(code, format!("not a message of the contract: {error}"))
}
