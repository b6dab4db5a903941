use std::{net::IpAddr, sync::Arc};

use super::{Endpoint, Error, Io, Options, Timings, connect::Connector};

/// Opens bare connections to one endpoint, for protocols that are not ours to speak. Cheap to clone.
///
/// TLS, when the endpoint's URL says so, offers the endpoint's HTTP version by ALPN.
#[derive(Clone, Debug)]
pub struct Dialer {
    connector: Arc<Connector>,
}

impl Dialer {
    /// For an endpoint. Opens nothing yet.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Self, Error> {
        Ok(Self { connector: Arc::new(Connector::new(endpoint, options)?) })
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        self.connector.endpoint()
    }

    /// The addresses that the endpoint's name has, asked for again when their time is over.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, Error> {
        self.connector.addresses().await
    }

    /// Opens a connection to one of the endpoint's addresses, or to whichever of them answers first.
    ///
    /// Cancel-safe: a dropped future leaves no connection behind.
    ///
    /// # Errors
    /// See [`ErrorKind`](super::ErrorKind).
    pub async fn dial(&self, to: Option<IpAddr>, timings: &mut Timings) -> Result<Io, Error> {
        self.connector.open(to, timings).await
    }
}
