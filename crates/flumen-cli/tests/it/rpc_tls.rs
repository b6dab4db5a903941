//! Services behind TLS, which may ask who the gateway is.

use std::sync::Arc;

use axum::Router;
use flumen_rpc::{
    Metadata, Services,
    generation::{self, Ask, ClientMessage, Finish, Say, ServerMessage},
    grpc,
};
use flumen_wire::listen::Shutdown;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::support::{Gateway, chat, post};

struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// A service that says one word to callers whom the authority knows.
async fn service(authority: &Authority) -> std::net::SocketAddr {
    let (certificate, key) = authority.issue("localhost");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![CertificateDer::from(certificate)], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let services =
        Services::new().method(generation::SERVICE, generation::METHOD, |mut incoming| async move {
            let start = ClientMessage::decode(incoming.requests.next().await.unwrap()?, incoming.encoding)?;
            assert!(matches!(start.message, Some(Ask::Start(_))));
            let word = generation::Delta { text: "known".into(), ..Default::default() };
            for say in [Say::Delta(word), Say::Finish(Finish::default())] {
                incoming.answers.send(ServerMessage::from(say).encode(incoming.encoding)).await?;
            }
            Ok(Metadata::default())
        });
    let router: Router = grpc::router(services, grpc::Limits::default(), Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service =
                    hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                        router.clone().oneshot(request.map(axum::body::Body::new))
                    });
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn the_gateway_trusts_an_own_authority_and_says_who_it_is() {
    let authority = Authority::new();
    let address = service(&authority).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let (certificate, key) = authority.issue("gateway");
    write("ca.pem", authority.certificate.pem());
    write("client.pem", certificate.pem());
    write("client-key.pem", key.serialize_pem());
    let port = address.port();
    let config = |more: &str| {
        format!(
            "[upstreams.svc]\nkind = \"grpc\"\nendpoints = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\n{more}\
             [models.\"*\"]\nupstream = \"svc\"\n"
        )
    };
    let known = config("cert_file = \"client.pem\"\ncert_key_file = \"client-key.pem\"\n");
    let gateway = Gateway::start_in(folder, &known).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("known"));
    // Without a certificate it is nobody.
    let unknown = tempfile::tempdir().unwrap();
    std::fs::write(unknown.path().join("ca.pem"), authority.certificate.pem()).unwrap();
    let gateway = Gateway::start_in(unknown, &config("")).await;
    let answer = post(gateway.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
}
