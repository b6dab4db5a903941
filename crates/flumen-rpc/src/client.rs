use flumen_wire::client::{Dialer, Endpoint, InvalidUrl, Options, Protocol};

use crate::{Call, Encoding, Exchange, Status, grpc, ttheader};

/// A client of one service, over any of the protocols. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Client {
    /// gRPC, with messages in either encoding.
    Grpc(grpc::Client),
    /// TTHeader Streaming, with messages in Thrift.
    TtHeader(ttheader::Client),
}

/// A URL that leads to no service.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It is none.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// What is needed to connect cannot be used.
    #[error(transparent)]
    Connector(#[from] flumen_wire::client::Error),
}

impl Client {
    /// A client of gRPC for the service at a URL such as `http://127.0.0.1:50051`, with the default options. Opens nothing yet.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn grpc(url: &str, encoding: Encoding) -> Result<Self, Unreachable> {
        Ok(Self::Grpc(grpc::Client::new(vec![dialer(url)?], encoding, grpc::Options::default())))
    }

    /// The same over TTHeader Streaming.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn ttheader(url: &str) -> Result<Self, Unreachable> {
        Ok(Self::TtHeader(ttheader::Client::new(dialer(url)?, ttheader::Options::default())))
    }

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

fn dialer(url: &str) -> Result<Dialer, Unreachable> {
    let endpoint: Endpoint = url.parse()?;
    Ok(Dialer::new(endpoint.protocol(Protocol::Http2), Options::default())?)
}
