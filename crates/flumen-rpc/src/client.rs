use crate::{Call, Encoding, Exchange, Status, grpc, ttheader};

/// A client of one service, over any of the protocols. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Client {
    /// gRPC, with messages in either encoding.
    Grpc(grpc::Client),
    /// TTHeader Streaming, with messages in Thrift.
    TtHeader(ttheader::Client),
}

impl Client {
    /// Begins a call; see [`grpc::Client::stream`].
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn stream(&self, call: &Call) -> Result<Exchange, Status> {
        match self {
            Self::Grpc(client) => client.stream(call).await,
            Self::TtHeader(client) => client.stream(call).await,
        }
    }

    /// What its messages are written in.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Grpc(client) => client.encoding(),
            Self::TtHeader(_) => Encoding::Thrift,
        }
    }
}
