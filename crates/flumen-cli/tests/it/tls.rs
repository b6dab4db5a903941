//! TLS: versions by ALPN, certificates that change, and upstreams that must show a trusted one.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Gateway, chat, post, soon};

fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

const CONFIG: &str = "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";

#[tokio::test]
async fn the_version_is_agreed_by_alpn() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_certificate(folder.path());
    let gateway = Gateway::start_in(folder, CONFIG).await;
    for protocol in ["h2", "http/1.1"] {
        let stream = connect(gateway.address, &certificate, protocol).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    }
    let stream = connect(gateway.address, &certificate, "h2").await.unwrap();
    let (mut send, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::get("https://localhost/healthz").body(http_body_util::Empty::<bytes::Bytes>::new());
    assert_eq!(soon(send.send_request(request.unwrap())).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_new_connections() {
    let folder = tempfile::tempdir().unwrap();
    let old = write_certificate(folder.path());
    let mut gateway = Gateway::start_in(folder, CONFIG).await;
    connect(gateway.address, &old, "h2").await.unwrap();
    let new = write_certificate(gateway.folder.path());
    gateway.message("the new configuration is in force").await;
    assert!(connect(gateway.address, &old, "h2").await.is_err());
    connect(gateway.address, &new, "h2").await.unwrap();
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let key = std::fs::read(folder.path().join("key.pem")).unwrap();
    write_certificate(folder.path());
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let file = folder.path().join("flumen.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let output =
        crate::support::command(&["serve", "--listen", "127.0.0.1:0", "-c", file.to_str().unwrap()]).output();
    let output = soon(output).await.unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("does not belong"));
}

/// A model server under TLS that answers one request a connection.
async fn tls_upstream(folder: &Path) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = vec![0; 4096];
            tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_must_show_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let port = tls_upstream(folder.path()).await.port();
    let config = |ca_file: &str| {
        format!(
            "[upstreams.a]\nbase_url = \"https://localhost:{port}/v1\"\n{ca_file}[models.\"*\"]\nupstream = \"a\"\n"
        )
    };
    let mut trusting = Gateway::start_in(folder, &config("ca_file = \"cert.pem\"\n")).await;
    let answer = post(trusting.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.text().ends_with("data: [DONE]\n\n")), (200, true));
    let line = trusting.access().await;
    for phase in ["dns_ms", "connect_ms", "tls_ms"] {
        assert!(line[phase].is_f64(), "{phase} in {line}");
    }
    let strict = Gateway::start(&config("")).await;
    let answer = post(strict.address, "/v1/chat/completions", &chat("m")).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_tls"));
}
