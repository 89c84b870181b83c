//! From the environment to a client: the standard AWS chain, with the time-outs and the trust that keyrotate wants.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_async::time::TimeSource;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_types::service_config::ServiceConfigKey;
use keyrotate_env::Env;

use super::https::{self, TlsFiles};
use crate::StoreIdentity;
use crate::for_job::SaysJob;
use crate::wrap::fenced::signed_at;

/// How to reach a store. The default is the standard AWS chain: environment, profile files, instance credentials.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// Instead of `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile's `endpoint_url`.
    pub endpoint: Option<String>,
    /// Instead of `AWS_REGION` or the profile's `region`.
    pub region: Option<String>,
    /// Instead of `AWS_PROFILE`.
    pub profile: Option<String>,
    /// Instead of whatever the chain finds; see [`S3Config::with_keys`].
    pub credentials: Option<Credentials>,
    /// Certificates to trust instead of the system's: a PEM file, else `AWS_CA_BUNDLE`. It is read again for each
    /// connection.
    pub ca_bundle: Option<PathBuf>,
    /// PEM files of a client certificate and its key, likewise.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl S3Config {
    /// With an access key of one's own instead of the chain's.
    #[must_use]
    pub fn with_keys(self, id: &str, secret: &str) -> Self {
        Self { credentials: Some(Credentials::new(id, secret, None, None, "keyrotate's configuration")), ..self }
    }
}

/// How long things may take. A call that takes longer ends in [`crate::ErrorKind::Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Making a connection.
    pub connect: Duration,
    /// A call whose work does not grow with the object, up to the headers of a body's answer.
    pub call: Duration,
    /// A call in which the store itself copies data or puts parts together.
    pub store_work: Duration,
    /// The slowest pace, in bytes per second, at which a body may pass; its time is added to that of the call.
    pub slowest: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(60),
            store_work: Duration::from_secs(600),
            slowest: 256 << 10,
        }
    }
}

impl Timeouts {
    /// Bound of a call that sends `bytes` of a body.
    #[must_use]
    pub fn sending(&self, bytes: u64) -> Duration {
        self.call + Duration::from_secs(bytes / self.slowest.max(1))
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is not `http[s]://HOST[:PORT]`.
    #[error("the endpoint `{0}` is no URL of the form http[s]://HOST[:PORT]")]
    Endpoint(String),
    /// Neither an endpoint nor a region is known.
    #[error("neither an endpoint nor a region is set: set AWS_ENDPOINT_URL, or AWS_REGION for AWS itself")]
    NoRegion,
    /// The file with certificates cannot be read.
    #[error("the certificates in {} (AWS_CA_BUNDLE) cannot be read", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file has no certificate.
    #[error("{} (AWS_CA_BUNDLE) has no PEM certificate that can be used", .0.display())]
    NoCertificate(PathBuf),
    /// The client certificate or its key cannot be read.
    #[error("the client certificate or key in {} cannot be read", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// TLS cannot be made out of the files.
    #[error("the certificates for HTTPS cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No credentials, or they cannot be had.
    #[error("no credentials for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")]
    Credentials(#[source] aws_credential_types::provider::error::CredentialsError),
    /// Which AWS account this is could not be learnt.
    #[error(
        "the AWS account of the credentials is not known: set AWS_ACCOUNT_ID, or let sts:GetCallerIdentity through"
    )]
    Account(#[source] Box<dyn std::error::Error + Send + Sync>),
}

type Result<T> = std::result::Result<T, ConnectError>;

/// A client, which store it talks to and as whom.
pub(super) struct Connected {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) identity: StoreIdentity,
    pub(super) access_key_id: String,
}

/// Makes the client.
pub(super) async fn client(config: &S3Config) -> Result<Connected> {
    let http = http_client(config)?;
    let timeouts = TimeoutConfig::builder().connect_timeout(config.timeouts.connect).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .app_name(app_name());
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = &config.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    of(&loader.load().await, config).await
}

/// What is made of what the chain found.
async fn of(sdk: &SdkConfig, config: &S3Config) -> Result<Connected> {
    let endpoint = config.endpoint.clone().or_else(|| endpoint_of(sdk)).filter(|endpoint| !endpoint.is_empty());
    let credentials = sdk.credentials_provider().ok_or_else(|| {
        ConnectError::Credentials(aws_credential_types::provider::error::CredentialsError::not_loaded_no_source())
    })?;
    let credentials = credentials.provide_credentials().await.map_err(ConnectError::Credentials)?;
    let mut builder = aws_sdk_s3::config::Builder::from(sdk)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(SaysJob)
        .time_source(SigningClock(Env::system()));
    let identity = match endpoint {
        Some(endpoint) => {
            let identity = normalised(&endpoint)?;
            builder = builder.endpoint_url(endpoint).force_path_style(true);
            if sdk.region().is_none() {
                builder = builder.region(Region::from_static("us-east-1"));
            }
            identity
        }
        None => {
            let region = sdk.region().ok_or(ConnectError::NoRegion)?.as_ref();
            let account = match credentials.account_id() {
                Some(account) => account.as_str().to_owned(),
                None => account_by_sts(sdk).await?,
            };
            StoreIdentity(format!("aws:{}:{account}", partition(region)))
        }
    };
    let access_key_id = credentials.access_key_id().to_owned();
    Ok(Connected { client: aws_sdk_s3::Client::from_conf(builder.build()), identity, access_key_id })
}

/// The SDK shows it as `app/keyrotate-VERSION`; a slash is not allowed inside.
#[expect(clippy::expect_used, reason = "a constant, which a test sends")]
fn app_name() -> AppName {
    AppName::new(concat!("keyrotate-", env!("CARGO_PKG_VERSION"))).expect("letters and a version make an app name")
}

fn http_client(config: &S3Config) -> Result<SharedHttpClient> {
    let from_environment = || std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let ca = config.ca_bundle.clone().or_else(from_environment);
    if ca.is_none() && config.certificate.is_none() {
        let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        return Ok(builder.build_https());
    }
    https::client(TlsFiles { ca, certificate: config.certificate.clone() }, config.timeouts.connect)
}

/// What requests are signed with: the present, and in a write under a lease the time at which it was asked for, so that
/// what a frozen process sends late is as old as it is.
#[derive(Debug)]
struct SigningClock(Env);

impl TimeSource for SigningClock {
    fn now(&self) -> SystemTime {
        signed_at().unwrap_or_else(|| self.0.now()).into()
    }
}

/// The endpoint for S3: `AWS_ENDPOINT_URL_S3`, a profile's `services` section, then the general one.
fn endpoint_of(sdk: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let special = sdk.service_config().zip(key.ok()).and_then(|(config, key)| config.load_config(key));
    special.or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
}

/// How a store at that address names itself: nobody has to log in to know.
///
/// # Errors
/// [`ConnectError::Endpoint`] when it is no address of a store.
pub fn identity_of_endpoint(endpoint: &str) -> Result<StoreIdentity> {
    normalised(endpoint)
}

/// Scheme, host and port in lower case, the port always written.
fn normalised(endpoint: &str) -> Result<StoreIdentity> {
    let wrong = || ConnectError::Endpoint(endpoint.to_owned());
    let uri: http::Uri = endpoint.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
    let (scheme, port) = match uri.scheme_str() {
        Some("http") => ("http", 80),
        Some("https") => ("https", 443),
        _ => return Err(wrong()),
    };
    let port = authority.port_u16().unwrap_or(port);
    let host = authority.host().to_ascii_lowercase();
    let path = uri.path().trim_end_matches('/');
    Ok(StoreIdentity(format!("{scheme}://{}:{port}{path}", host.trim_end_matches('.'))))
}

fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ if region.starts_with("us-isob-") => "aws-iso-b",
        _ if region.starts_with("us-isof-") || region.starts_with("us-isoe-") => "aws-iso-ef",
        _ if region.starts_with("us-iso-") => "aws-iso",
        _ if region.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

/// Asks who the credentials belong to, a call that needs no right.
async fn account_by_sts(sdk: &SdkConfig) -> Result<String> {
    let config = aws_sdk_sts::config::Builder::from(sdk).build();
    let ask = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send();
    let answer = tokio::time::timeout(Duration::from_secs(10), ask).await;
    let answer = answer.map_err(|late| ConnectError::Account(late.into()))?;
    let answer = answer.map_err(|error| ConnectError::Account(error.into()))?;
    answer.account().map(ToOwned::to_owned).ok_or_else(|| ConnectError::Account("the answer names none".into()))
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::SharedCredentialsProvider;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn identities_are_normalised() {
        let same =
            ["http://Store.example:80", "HTTP://store.example", "http://store.example./", "http://store.example:80/"];
        for endpoint in same {
            assert_eq!(normalised(endpoint).unwrap().0, "http://store.example:80", "{endpoint}");
        }
        assert_eq!(normalised("https://[::1]:9000").unwrap().0, "https://[::1]:9000");
        assert_eq!(normalised("https://host").unwrap().0, "https://host:443");
        for wrong in ["store.example:9000", "ftp://x", "", "http://", "http://user:secret@host"] {
            assert!(normalised(wrong).is_err(), "{wrong}");
        }
    }

    fn found(endpoint: Option<&str>, region: Option<&'static str>, account: Option<&str>) -> SdkConfig {
        let credentials = aws_credential_types::Credentials::builder().provider_name("test");
        let mut credentials = credentials.access_key_id("access").secret_access_key("secret");
        credentials.set_account_id(account.map(Into::into));
        let mut sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client(&S3Config::default()).unwrap())
            .credentials_provider(SharedCredentialsProvider::new(credentials.build()));
        sdk.set_endpoint_url(endpoint.map(ToOwned::to_owned)).set_region(region.map(Region::from_static));
        sdk.build()
    }

    /// The URL that a GET of an object would have: host, path and the region that it is signed for.
    async fn asked(client: &aws_sdk_s3::Client) -> String {
        let soon = aws_sdk_s3::presigning::PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
        let signed = client.get_object().bucket("bucket").key("key").presigned(soon).await.unwrap();
        signed.uri().to_owned()
    }

    #[tokio::test]
    async fn an_endpoint_means_path_style_and_a_region_by_default() {
        let config = S3Config::default();
        let Connected { client, identity, .. } =
            of(&found(Some("http://Store:9000"), None, None), &config).await.unwrap();
        let url = asked(&client).await.to_ascii_lowercase();
        assert!(url.starts_with("http://store:9000/bucket/key?") && url.contains("%2fus-east-1%2fs3%2f"), "{url}");
        assert_eq!(identity.0, "http://store:9000");
        let Connected { client, .. } =
            of(&found(Some("http://store:9000"), Some("eu-west-1"), None), &config).await.unwrap();
        assert!(asked(&client).await.contains("%2Feu-west-1%2Fs3%2F"));
        let own = S3Config { endpoint: Some("http://other".into()), ..config };
        let Connected { client, identity, .. } = of(&found(Some("http://store:9000"), None, None), &own).await.unwrap();
        assert!(asked(&client).await.starts_with("http://other/bucket/key?"));
        assert_eq!(identity.0, "http://other:80");
    }

    #[tokio::test]
    async fn without_an_endpoint_the_store_is_an_account_of_aws() {
        let config = S3Config::default();
        let Connected { client, identity, .. } =
            of(&found(None, Some("cn-north-1"), Some("123456789012")), &config).await.unwrap();
        assert_eq!(identity.0, "aws:aws-cn:123456789012");
        let url = asked(&client).await;
        assert!(url.starts_with("https://bucket.s3.cn-north-1.amazonaws.com.cn/key?"), "{url}");
        let error = of(&found(None, None, Some("123456789012")), &config).await.err().unwrap();
        assert!(matches!(error, ConnectError::NoRegion), "{error}");
        let error = of(&found(Some(""), None, Some("123456789012")), &config).await.err().unwrap();
        assert!(matches!(error, ConnectError::NoRegion), "an empty variable is none: {error}");
    }

    /// A server that gives this answer to one request.
    async fn answering(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 65_536];
            let _ = stream.read(&mut buffer).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + answer).as_bytes()).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn the_account_of_credentials_that_name_none_is_asked_of_sts() {
        let answer = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
            <GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
        let sts = answering(answer).await;
        assert_eq!(account_by_sts(&found(Some(&sts), Some("eu-west-1"), None)).await.unwrap(), "123456789012");
        let nobody = account_by_sts(&found(Some("http://127.0.0.1:1"), Some("eu-west-1"), None)).await.unwrap_err();
        assert!(nobody.to_string().contains("AWS_ACCOUNT_ID"), "{nobody}");
    }

    #[test]
    fn certificates_that_cannot_be_used_are_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = S3Config { ca_bundle: Some(file.path().into()), ..S3Config::default() };
        assert!(matches!(http_client(&config), Err(ConnectError::NoCertificate(_))));
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(http_client(&config), Err(ConnectError::NoCertificate(_))));
        let config = S3Config { ca_bundle: Some("/does/not/exist".into()), ..S3Config::default() };
        assert!(matches!(http_client(&config), Err(ConnectError::CaBundle { .. })));
        let certificate = Some((file.path().into(), file.path().into()));
        let config = S3Config { certificate, ..S3Config::default() };
        assert!(matches!(http_client(&config), Err(ConnectError::Certificate { .. })));
    }

    #[test]
    fn bodies_get_time_by_their_length() {
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.sending(0), timeouts.call);
        assert_eq!(timeouts.sending(1 << 30), timeouts.call + Duration::from_secs(4096));
    }

    #[test]
    fn partitions() {
        for (region, expected) in [
            ("eu-west-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-east-1", "aws-us-gov"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert_eq!(partition(region), expected, "{region}");
        }
    }
}
