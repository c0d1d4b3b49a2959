//! The certificate that the server shows, read anew when its files change, so that a renewed one needs no restart. It
//! refuses files that make no working pair: the one before stays in use then.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fs, io};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Why a certificate cannot be used. Says which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

/// A certificate chain and its private key, from two PEM files.
#[derive(Debug)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Debug, Clone)]
struct Current {
    files: (Vec<u8>, Vec<u8>),
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the files: the chain with the server's own certificate first, and its key.
    pub fn load(chain: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        let files = read(chain, key)?;
        let config = configure(&files, chain, key)?;
        Ok(Arc::new(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Current { files, config }),
        }))
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.config)
    }

    /// Takes what the files hold by now.
    fn look(&self) -> Result<bool, CertificateError> {
        let files = read(&self.chain, &self.key)?;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.files != files;
        drop(current);
        if is_new {
            let config = configure(&files, &self.chain, &self.key)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                Current { files, config };
        }
        Ok(is_new)
    }

    /// Looks at the files from time to time, for ever.
    pub(crate) async fn keep_fresh(&self) {
        let mut told = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look() {
                Ok(true) => tracing::info!("a new certificate is in use"),
                Ok(false) => told.clear(),
                Err(error) => {
                    let error = error.to_string();
                    if error != told {
                        tracing::error!(error, "the certificate stays the one before");
                        told = error;
                    }
                }
            }
        }
    }
}

fn read(chain: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| {
            CertificateError(format!("{} cannot be read: {error}", path.display()))
        })
    };
    Ok((read(chain)?, read(key)?))
}

fn configure(
    (chain, key): &(Vec<u8>, Vec<u8>),
    chain_path: &Path,
    key_path: &Path,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| {
        CertificateError(format!("{} cannot be used: {why}", path.display()))
    };
    let chain = certificates(chain).map_err(|error| wrong(chain_path, &error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
        wrong(
            key_path,
            &format!("it holds no private key in PEM ({error})"),
        )
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(chain_path, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    if chain.is_empty() {
        return Err(io::Error::other("it holds no certificate in PEM"));
    }
    Ok(chain)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Speaks TLS with a server of one's own: it must show the very certificate that this file holds, for whatever name.
pub async fn connect_to_own(stream: TcpStream, chain: &Path) -> io::Result<TlsStream<TcpStream>> {
    let mut own = certificates(&fs::read(chain)?)?;
    let pinned = Pinned {
        certificate: own.swap_remove(0),
        provider: provider(),
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Trusts one certificate, and nothing else.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "the server shows another certificate than the file holds".into(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
