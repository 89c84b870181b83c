//! TLS as KES wants it: every client shows a certificate, of any issuer, and proves that it has the key.

use std::fmt;
use std::io;
use std::sync::Arc;

use keyrotate_kms::identity_of;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::api::Caller;

/// A server's certificate and its private key, in PEM form.
#[derive(Clone)]
pub struct ServerCert {
    /// The certificate, which is also what a client has to trust.
    pub cert: String,
    /// Its private key.
    pub key: Zeroizing<String>,
}

impl ServerCert {
    /// A fresh self-signed one for the loopback: `127.0.0.1`, `::1` and `localhost`.
    ///
    /// # Errors
    /// Never in practice: when no key can be made.
    pub fn generate() -> io::Result<Self> {
        Self::generate_for(None)
    }

    /// The same for another name as well.
    ///
    /// # Errors
    /// When no certificate can have that name.
    pub fn generate_for(host: Option<&str>) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let names: Vec<String> = ["127.0.0.1", "::1", "localhost"].into_iter().chain(host).map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let cert = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { cert, key: Zeroizing::new(key.serialize_pem()) })
    }
}

impl fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCert(..)")
    }
}

/// The configuration of a server with this certificate.
pub(super) fn server_config(cert: &ServerCert) -> io::Result<ServerConfig> {
    let invalid = |e: rustls::pki_types::pem::Error| io::Error::new(io::ErrorKind::InvalidInput, e.to_string());
    let chain = CertificateDer::pem_slice_iter(cert.cert.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(cert.key.as_bytes()).map_err(invalid)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(Arc::new(AnyClient(provider)))
        .with_single_cert(chain, key)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Who showed these certificates. Those of CAs are not counted.
pub(super) fn caller(shown: Option<&[CertificateDer<'_>]>) -> Caller {
    let no_ca = |certificate: &&CertificateDer<'_>| {
        X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| !parsed.is_ca())
    };
    let counted: Vec<_> = shown.unwrap_or_default().iter().filter(no_ca).collect();
    match counted.as_slice() {
        [] => Caller::Nobody,
        [one] => identity_of(one).map_or(Caller::Nobody, Caller::Known),
        _ => Caller::Several,
    }
}

/// Takes the certificate of every issuer, at any time, and leaves it to policies what it is good for.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    /// None: a client would send nothing if we named issuers that it does not have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            X509Certificate::from_der(certificate)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
