//! Who we are in TLS, and whom we trust.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::ToSpan as _;
use keyrotate_env::Env;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::config::{ConfigError, Credential, KesConfig, parse_api_key};
use crate::private_key;

/// A TLS configuration and what it was made of.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    /// Lower-case hex SHA-256 of our certificate's SubjectPublicKeyInfo: what KES's policies name us by.
    pub(crate) identity: String,
}

/// The files of a configuration, as they are now.
#[derive(PartialEq, Eq)]
pub(crate) struct Files {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    /// One entry per file.
    ca: Vec<Vec<u8>>,
}

impl Files {
    pub(crate) fn read(config: &KesConfig) -> Result<Self, ConfigError> {
        let (mut cert, mut key) = (Vec::new(), Zeroizing::default());
        if let Credential::Files { cert: cert_path, key: key_path, .. } = &config.credential {
            cert = fs::read(cert_path).map_err(|e| ConfigError::cert(unreadable(cert_path, &e)))?;
            key = Zeroizing::new(fs::read(key_path).map_err(|e| ConfigError::key(unreadable(key_path, &e)))?);
        }
        let ca = config.ca_path.as_deref().map(read_ca).transpose()?.unwrap_or_default();
        Ok(Self { cert, key, ca })
    }
}

/// Makes the TLS configuration out of the files.
pub(crate) fn build(config: &KesConfig, files: &Files, env: &Env) -> Result<Tls, ConfigError> {
    let (chain, key) = match &config.credential {
        Credential::ApiKey(seed) => from_api_key(seed, env)?,
        Credential::Files { password, .. } => from_files(files, password.as_ref().map(|text| text.as_str()))?,
    };
    let identity = identity_of(&chain[0]).ok_or_else(|| ConfigError::cert("its certificate can't be read"))?;
    let signer = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|e| ConfigError::key(format!("this private key can't be used: {e}")))?;
    let certified = CertifiedKey::new(chain, signer);
    if matches!(certified.keys_match(), Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))) {
        return Err(ConfigError::key("this private key is not that of the certificate"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Verifier::new(files, &provider)?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| ConfigError::ca(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Always(Arc::new(certified))));
    Ok(Tls { config, identity })
}

/// Lower-case hex SHA-256 of a certificate's SubjectPublicKeyInfo.
#[must_use]
pub fn identity_of(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(hex::encode(Sha256::digest(parsed.public_key().raw)))
}

/// Lower-case hex SHA-256 of the public key that an API key stands for: what KES's policies name its holder by.
///
/// # Errors
/// It is no API key.
pub fn identity_of_api_key(text: &str) -> Result<String, ConfigError> {
    let (_, key) = ed25519(&*parse_api_key(text)?)?;
    Ok(identity_of_key(&key))
}

/// PKCS #8 of an Ed25519 key (RFC 8410), and the key.
fn ed25519(seed: &[u8; 32]) -> Result<(PrivatePkcs8KeyDer<'static>, KeyPair), ConfigError> {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend_from_slice(seed);
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519).map_err(no_certificate)?;
    Ok((pkcs8, key))
}

fn identity_of_key(key: &KeyPair) -> String {
    // SubjectPublicKeyInfo of an Ed25519 key: this head, then the public key.
    let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    spki.extend_from_slice(key.public_key_raw());
    hex::encode(Sha256::digest(&spki))
}

fn no_certificate(error: rcgen::Error) -> ConfigError {
    ConfigError::api_key(format!("no certificate can be made of it: {error}"))
}

/// The client certificate that belongs to an API key: self-signed by its Ed25519 key, named by its identity.
fn from_api_key(
    seed: &[u8; 32],
    env: &Env,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let (pkcs8, key) = ed25519(seed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity_of_key(&key));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // KES looks at neither date; ten years, so that no process outlives its certificate.
    let today = env.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(today.saturating_sub(1.day()));
    params.not_after = date(today.saturating_add(10.years()));
    let certificate = params.self_signed(&key).map_err(no_certificate)?;
    Ok((vec![certificate.der().clone()], pkcs8.into()))
}

fn from_files(
    files: &Files,
    password: Option<&str>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.cert)
        .collect::<Result<_, _>>()
        .map_err(|e| ConfigError::cert(format!("this is not PEM: {e}")))?;
    let Some(leaf) = chain.first() else { return Err(ConfigError::cert("there is no certificate in it")) };
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| ConfigError::cert("its first certificate can't be read"))?;
    if parsed.is_ca() {
        return Err(ConfigError::cert(
            "its certificate says CA:TRUE, which KES does not count as a client's; \
             make one that says CA:FALSE (`openssl req -x509 … -addext basicConstraints=critical,CA:FALSE`)",
        ));
    }
    Ok((chain, private_key::read(&files.key, password)?))
}

fn read_ca(path: &Path) -> Result<Vec<Vec<u8>>, ConfigError> {
    let wrong = |e: std::io::Error| ConfigError::ca(unreadable(path, &e));
    if !fs::metadata(path).map_err(wrong)?.is_dir() {
        return Ok(vec![fs::read(path).map_err(wrong)?]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        paths.push(entry.map_err(wrong)?.path());
    }
    paths.sort();
    paths.retain(|path| path.is_file());
    paths.iter().map(fs::read).collect::<Result<_, _>>().map_err(wrong)
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("`{}` can't be read: {error}", path.display())
}

/// Presents our certificate whatever issuers the server hints at: KES hints, and takes any.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The usual rules, and one more: a server's own certificate that was given to us as trusted is trusted although it
/// says CA:TRUE, as `openssl req -x509` makes them.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(files: &Files, provider: &Arc<CryptoProvider>) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut given = Vec::new();
        for file in &files.ca {
            // A folder may hold other things; a file without certificates is skipped as MinIO skips it.
            given.extend(CertificateDer::pem_slice_iter(file).filter_map(Result::ok));
        }
        if given.is_empty() && !files.ca.is_empty() {
            return Err(ConfigError::ca("there is no certificate in PEM form in it"));
        }
        roots.add_parsable_certificates(given.iter().cloned());
        if roots.is_empty() {
            return Err(ConfigError::ca(
                "this machine trusts no certificates; set it to the certificate of KES's issuer",
            ));
        }
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|e| ConfigError::ca(e.to_string()))?;
        Ok(Self { usual, given })
    }

    fn is_given(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let Ok(now) = i64::try_from(now.as_secs()) else { return false };
        let in_time = X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
            parsed.validity().not_before.timestamp() <= now && now <= parsed.validity().not_after.timestamp()
        });
        let named = ParsedCertificate::try_from(certificate).is_ok_and(|c| verify_server_name(&c, name).is_ok());
        in_time && named && self.given.iter().any(|given| given.as_ref() == certificate.as_ref())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usual = self.usual.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match usual {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.is_given(end_entity, name, now) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
