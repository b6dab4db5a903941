use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body, middleware::map_response, response::Response};
use bytes::Bytes;
use flumen_wire::listen::{Shutdown, Signal};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use tonic_health::ServingStatus;
use tonic_reflection::server::Builder;

/// The standard services beside one's own: health (`grpc.health.v1`) and reflection (`grpc.reflection.v1` and `v1alpha`), for these
/// services of a `FileDescriptorSet`. When the shutdown drains, health says so and what watches is ended, so that nobody waits for it.
///
/// # Errors
/// When the descriptors are none.
pub async fn companions(
    descriptors: &'static [u8],
    services: &[&'static str],
    shutdown: &Shutdown,
) -> io::Result<Router> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let names: Vec<&'static str> = services.iter().copied().chain([""]).collect();
    for name in &names {
        reporter.set_service_status(*name, ServingStatus::Serving).await;
    }
    let draining = shutdown.clone();
    tokio::spawn(async move {
        draining.draining().await;
        for name in names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    });
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let current = reflection().build_v1().map_err(io::Error::other)?;
    // Many clients, Python's among them, speak the one before.
    let former = reflection().build_v1alpha().map_err(io::Error::other)?;
    let shutdown = shutdown.clone();
    let until_drained = map_response(move |response: Response| {
        let drain = shutdown.drain_signal();
        std::future::ready(response.map(|body| Body::new(UntilDrained { body, drain, over: false })))
    });
    Ok(Router::new()
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", current)
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", former)
        .layer(until_drained))
}

/// A body that ends as unavailable when the drain begins and it has nothing more to say at once.
struct UntilDrained {
    body: Body,
    drain: Signal,
    over: bool,
}

impl HttpBody for UntilDrained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.drain.poll(cx));
        self.over = true;
        let unavailable = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"));
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([unavailable])))))
    }

    // An answer without a body carries its status in the head, which must be its end.
    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}
