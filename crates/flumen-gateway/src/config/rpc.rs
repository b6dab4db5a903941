use std::path::PathBuf;

use http::HeaderMap;

use super::Secret;

/// A model service behind RPC, which speaks `flumen.generation.v1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rpc {
    /// What carries it.
    pub transport: RpcTransport,
    /// Where it is: URLs such as `http://10.0.0.1:50051`. Calls are spread over all their addresses.
    pub endpoints: Vec<String>,
    /// The service's name, if it is not that of the contract.
    pub service: Option<String>,
    /// How requests are written. Default raw.
    pub request: RpcRequest,
    /// Whether pauses are said in messages, besides being felt. Default true.
    pub pause: bool,
    /// Sent as `authorization: Bearer …`.
    pub key: Option<Secret>,
    /// Metadata sent with every call.
    pub headers: HeaderMap,
    /// Certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key by which the gateway says who it is.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Streams that one connection carries at a time. Default 100.
    pub max_streams: usize,
    /// Whether the health service of gRPC is asked, again and again. Default false.
    pub health_check: bool,
}

/// What carries the messages of a model service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpcTransport {
    /// `kind = "grpc"`.
    #[default]
    Grpc,
    /// `kind = "thrift-grpc"`: Thrift in gRPC's frames, as Kitex speaks it.
    ThriftGrpc,
    /// `kind = "ttheader"`: TTHeader Streaming of Kitex.
    TtHeader,
}

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RpcRequest {
    /// As the client wrote them: JSON of their dialect.
    #[default]
    Raw,
    /// Chats besides spelt out in the contract's own messages.
    Messages,
}

impl RpcRequest {
    pub(super) const NAMES: &[(&str, Self)] = &[("raw", Self::Raw), ("messages", Self::Messages)];
}
