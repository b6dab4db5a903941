use flumen_wire::{client::Endpoint, tls};

use super::{Context, header_secret, headers, relative};
use crate::config::{Rpc, RpcRequest, RpcTransport, section::Section};

/// Where a model service is, and how it is spoken to.
pub(super) fn rpc(section: &mut Section<'_>, transport: RpcTransport, context: &mut Context) -> Rpc {
    let endpoints = section.strings("endpoints").unwrap_or_default();
    if endpoints.is_empty() {
        let hint = "for example endpoints = [\"http://10.0.0.1:50051\", \"http://10.0.0.2:50051\"]";
        section.fault("endpoints", "a model service needs at least one URL", Some(hint.to_owned()));
    }
    let mut secure = 0;
    for endpoint in &endpoints {
        match endpoint.parse::<Endpoint>() {
            Ok(parsed) if !parsed.base().is_empty() => {
                section.fault("endpoints", format_args!("`{endpoint}`: an RPC endpoint has no path"), None);
            }
            Ok(_) => secure += usize::from(endpoint.starts_with("https:")),
            Err(error) => section.fault("endpoints", format_args!("`{endpoint}`: {error}"), None),
        }
    }
    if transport == RpcTransport::TtHeader && secure > 0 {
        section.fault("endpoints", "TTHeader is spoken without TLS: use http://", None);
    }
    let ca_file = section.string("ca_file").map(|file| relative(&context.folder, &file));
    if let Some(file) = &ca_file {
        if let Err(error) = tls::read_certificates(file) {
            section.fault("ca_file", error, None);
        }
        context.files.push(file.clone());
    }
    Rpc {
        transport,
        service: section.string("service"),
        request: section.choice("request", RpcRequest::NAMES, RpcRequest::default()),
        pause: section.boolean("pause").unwrap_or(true),
        key: header_secret(section, ["key_env", "key_file"], context),
        headers: headers(section),
        ca_file,
        identity: identity(section, context),
        max_streams: section.integer("max_streams", 1..=1000).unwrap_or(100),
        health_check: transport == RpcTransport::Grpc && section.boolean("health_check").unwrap_or(false),
        endpoints,
    }
}

fn identity(
    section: &mut Section<'_>,
    context: &mut Context,
) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    let (cert, key) = match (section.string("cert_file"), section.string("cert_key_file")) {
        (Some(cert), Some(key)) => (relative(&context.folder, &cert), relative(&context.folder, &key)),
        (None, None) => return None,
        (cert, _) => {
            let missing = if cert.is_none() { "cert_file" } else { "cert_key_file" };
            section.fault(missing, "a certificate needs both `cert_file` and `cert_key_file`", None);
            return None;
        }
    };
    if let Err(error) = tls::Identity::read(&cert, &key) {
        section.fault("cert_file", error, None);
    }
    context.files.extend([cert.clone(), key.clone()]);
    Some((cert, key))
}
