use std::io;

use axum::Router;
use tonic_reflection::server::Builder;

/// The standard services beside one's own: health (`grpc.health.v1`) and reflection (`grpc.reflection.v1` and `v1alpha`), for these services of a
/// `FileDescriptorSet`.
///
/// # Errors
/// When the descriptors are none.
pub async fn companions(descriptors: &'static [u8], services: &[&str]) -> io::Result<Router> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in services.iter().chain(&[""]) {
        reporter.set_service_status(*service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let current = reflection().build_v1().map_err(io::Error::other)?;
    // Many clients, Python's among them, speak the one before.
    let former = reflection().build_v1alpha().map_err(io::Error::other)?;
    Ok(Router::new()
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", current)
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", former))
}
