//! How streams meet sockets: the listener, the metered client, and the responders that turn a stream into a response.
//!
//! * [`listen`] accepts connections (HTTP/1.1, HTTP/2, TLS) under limits and drains them politely.
//! * [`client`] asks an HTTP server and reads its answer under backpressure, recording what every phase took.
//! * [`transport`] turns any [`futures_util::Stream`], a [`flumen_stream::Cursor`] among them, into an HTTP response.
//! * [`boundary`] finds messages in a stream of bytes, [`relay`](mod@relay) joins two connections.
//!
//! This crate knows no model provider and no dialect.

pub mod boundary;
pub mod client;
pub mod listen;
pub mod relay;
pub mod tls;
pub mod transport;
