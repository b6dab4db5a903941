//! TLS settings: roots to trust as a client, certificates to show as a server.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct InvalidCertificate {
    path: PathBuf,
    problem: String,
}

/// Reads all certificates of a PEM file.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidCertificate> {
    let invalid = |problem: String| InvalidCertificate { path: path.to_owned(), problem };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| invalid(error.to_string()))?.collect();
    let found = found.map_err(|error| invalid(error.to_string()))?;
    if found.is_empty() {
        return Err(invalid("the file holds no certificate".to_owned()));
    }
    Ok(found)
}

/// A certificate chain and its key, by which a client says who it is.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads both from PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, InvalidCertificate> {
        certified(cert, key)?;
        let invalid = |error: rustls_pki_types::pem::Error| InvalidCertificate {
            path: key.to_owned(),
            problem: error.to_string(),
        };
        let private = PrivateKeyDer::from_pem_file(key).map_err(invalid)?;
        Ok(Self { chain: read_certificates(cert)?, key: Arc::new(private) })
    }
}

/// The settings of a client that trusts the public roots and some more, shows who it is, and offers these protocols.
///
/// # Errors
/// When a certificate or the key cannot be used.
pub fn client_config(
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    alpn: &[&str],
) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root)?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

/// A server's certificate and key, which can be read again while connections go on.
#[derive(Debug)]
pub struct ServerTls {
    current: Arc<Current>,
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServerTls {
    /// Reads a certificate chain and its key from two PEM files.
    ///
    /// # Errors
    /// When a file cannot be read, or the two do not belong together.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, InvalidCertificate> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certified(cert, key)?)));
        Ok(Self { current, cert: cert.to_owned(), key: key.to_owned() })
    }

    /// Reads the files again. New connections get the new certificate; on an error the old one stays.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn reload(&self) -> Result<(), InvalidCertificate> {
        self.current.0.store(Arc::new(certified(&self.cert, &self.key)?));
        Ok(())
    }

    /// The settings of a server that shows this certificate and offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn server_config(&self) -> io::Result<Arc<rustls::ServerConfig>> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certified(cert: &Path, key: &Path) -> Result<CertifiedKey, InvalidCertificate> {
    let chain = read_certificates(cert)?;
    let invalid = |problem: String| InvalidCertificate { path: key.to_owned(), problem };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid(error.to_string()))?;
    let private = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(private)
        .map_err(|error| invalid(error.to_string()))?;
    let certified = CertifiedKey::new(chain, private);
    certified
        .keys_match()
        .map_err(|error| invalid(format!("the key does not belong to the certificate: {error}")))?;
    Ok(certified)
}
