//! The store found as the aws command finds it: variables, profiles, a certificate of one's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use keyrotate_devstack::kes::ServerCert;
use keyrotate_store::s3::{S3Config, S3Store};
use keyrotate_store::{ErrorKind, Store as _};
use keyrotate_tests::prelude::*;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The stand's variables without those that say where the store is and who we are there.
fn without_aws(stand: &Stand) -> BTreeMap<String, String> {
    let all = stand.target.variables().clone();
    all.into_iter().filter(|(name, _)| !name.starts_with("AWS_")).collect()
}

/// Runs the job of a stand under these variables.
async fn ended(stand: &Stand, variables: &BTreeMap<String, String>) -> Ended {
    let file = stand.write(&stand.job()).display().to_string();
    stand.start_with(&["run", &file, "--new"], variables).end().await
}

async fn all_are_rotated(stand: &Stand) {
    let snapshot = stand.snapshot().await;
    let under = Stand::keys_under(&snapshot, &format!("sse-kms:{}", stand.target.new_key));
    assert_eq!((under.len(), snapshot.len()), (3, 3), "{snapshot:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_of_s3_comes_before_the_general_one_and_needs_no_region() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    let mut variables = stand.target.variables().clone();
    let endpoint = variables.insert("AWS_ENDPOINT_URL".to_owned(), "http://127.0.0.1:1".to_owned());
    variables.insert("AWS_ENDPOINT_URL_S3".to_owned(), endpoint.expect("the stand has one"));
    variables.remove("AWS_REGION");
    variables.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
    let _rotated = ended(&stand, &variables).await.expect(0);
    all_are_rotated(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_names_store_and_credentials() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    let of = |name: &str| stand.target.variables()[name].clone();
    let config = format!(
        "[profile rotation]\nregion = {}\nservices = here\naws_access_key_id = {}\naws_secret_access_key = {}\n\n\
         [services here]\ns3 =\n  endpoint_url = {}\n",
        of("AWS_REGION"),
        of("AWS_ACCESS_KEY_ID"),
        of("AWS_SECRET_ACCESS_KEY"),
        of("AWS_ENDPOINT_URL"),
    );
    let file = stand.dir().join("aws-config");
    std::fs::write(&file, config).expect("the test's folder can be written");
    let mut variables = without_aws(&stand);
    variables.insert("AWS_CONFIG_FILE".to_owned(), file.display().to_string());
    variables.insert("AWS_PROFILE".to_owned(), "rotation".to_owned());
    let _rotated = ended(&stand, &variables).await.expect(0);
    all_are_rotated(&stand).await;
}

/// HTTPS before a store: whom it says to be, and whose certificate alone it takes, where it takes not everybody.
struct Https {
    url: String,
    doors: Arc<Mutex<(ServerCert, Option<CertificateDer<'static>>)>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Https {
    /// Before the stand's store.
    async fn before(stand: &Stand, cert: ServerCert, client: Option<CertificateDer<'static>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("https://{}", listener.local_addr().expect("it listens"));
        let behind = stand.target.variables()["AWS_ENDPOINT_URL"].trim_start_matches("http://").to_owned();
        let (doors, connections) = (Arc::new(Mutex::new((cert, client))), Arc::new(Mutex::new(JoinSet::new())));
        let https = Self { url, doors: Arc::clone(&doors), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor(&doors.lock().expect("nobody panics with it"));
                let behind = behind.clone();
                connections.lock().expect("nobody panics with it").spawn(async move {
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut client) => {
                            let Ok(mut store) = TcpStream::connect(behind).await else { return };
                            let _ended = tokio::io::copy_bidirectional(&mut client, &mut store).await;
                        }
                        // What it still sends is read, so that it hears why.
                        Err((_, mut refused)) => {
                            let _ended = refused.shutdown().await;
                            let _ended = tokio::io::copy(&mut refused, &mut tokio::io::sink()).await;
                        }
                    }
                });
            }
        });
        https
    }

    /// Lets all connections go; new ones are made so.
    fn change(&self, cert: ServerCert, client: Option<CertificateDer<'static>>) {
        *self.doors.lock().expect("nobody panics with it") = (cert, client);
        self.connections.lock().expect("nobody panics with it").abort_all();
    }
}

fn acceptor((cert, client): &(ServerCert, Option<CertificateDer<'static>>)) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(cert.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(cert.key.as_bytes()).expect("a key of our own");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().expect("the provider has them");
    let config = match client {
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client.clone()).expect("a certificate of our own");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            config.with_client_cert_verifier(verifier.expect("there is one to trust"))
        }
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(chain.expect("a certificate of our own"), key);
    TlsAcceptor::from(Arc::new(config.expect("they belong together")))
}

fn server_cert() -> ServerCert {
    ServerCert::generate().expect("a certificate can be made")
}

/// A fresh client certificate in these files.
fn client_cert(cert: &Path, key: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["a worker".to_owned()]).expect("a certificate can be made");
    write(cert, &made.cert.pem());
    write(key, &made.signing_key.serialize_pem());
    made.cert.der().clone()
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("the test's folder can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_ones_own_is_trusted_when_it_is_given_and_only_then() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    let (cert, bundle) = (server_cert(), stand.dir().join("store.crt"));
    write(&bundle, &cert.cert);
    let mut variables = stand.target.variables().clone();
    let https = Https::before(&stand, cert, None).await;
    variables.insert("AWS_ENDPOINT_URL".to_owned(), https.url);
    let refused = ended(&stand, &variables).await.expect(5);
    assert!(refused.stderr.contains("AWS_CA_BUNDLE"), "{}", refused.stderr);
    variables.insert("AWS_CA_BUNDLE".to_owned(), bundle.display().to_string());
    let _rotated = ended(&stand, &variables).await.expect(0);
    all_are_rotated(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_wants_a_client_certificate_is_shown_that_of_the_configuration() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    let [bundle, cert, key] = ["store.crt", "me.crt", "me.key"].map(|name| stand.dir().join(name));
    let server = server_cert();
    write(&bundle, &server.cert);
    let https = Https::before(&stand, server, Some(client_cert(&cert, &key))).await;
    let mut variables = stand.target.variables().clone();
    let mut set = |name: &str, value: &str| variables.insert(format!("KEYROTATE_STORES_HERE_{name}"), value.to_owned());
    set("ENDPOINT", &https.url);
    set("CA_BUNDLE", &bundle.display().to_string());
    let file = stand.write(&stand.job()).display().to_string();
    let run = ["run", &file, "--new", "--store", "here"];
    let refused = stand.start_with(&run, &variables).end().await.expect(5);
    assert!(refused.stderr.contains("`cert` and `key`"), "{}", refused.stderr);
    for (name, file) in [("CERT", &cert), ("KEY", &key)] {
        variables.insert(format!("KEYROTATE_STORES_HERE_{name}"), file.display().to_string());
    }
    let _rotated = stand.start_with(&run, &variables).end().await.expect(0);
    all_are_rotated(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_renewed_of_a_stores_certificates_holds_for_the_next_connection() {
    let stand = Stand::embedded(Mode::minio()).await;
    let [bundle, cert, key] = ["store.crt", "me.crt", "me.key"].map(|name| stand.dir().join(name));
    let server = server_cert();
    write(&bundle, &server.cert);
    let https = Https::before(&stand, server, Some(client_cert(&cert, &key))).await;
    let variable = |name: &str| stand.target.variables()[name].as_str();
    let config = S3Config {
        endpoint: Some(https.url.clone()),
        region: Some("us-east-1".to_owned()),
        ca_bundle: Some(bundle.clone()),
        ..S3Config::default()
    };
    let config = config.with_keys(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let nameless = S3Store::connect(config.clone()).await.expect("nothing was asked of it yet");
    assert_eq!(nameless.buckets().await.expect_err("it shows none").kind, ErrorKind::Untrusted);
    let store = S3Store::connect(S3Config { certificate: Some((cert.clone(), key.clone())), ..config });
    let store = store.await.expect("the files can be used");
    store.buckets().await.expect("the store knows us");

    let renewed = server_cert();
    https.change(renewed.clone(), Some(client_cert(&cert, &key)));
    assert_eq!(next(&store).await, Err(ErrorKind::Untrusted), "the old authority did not sign it");
    write(&bundle, &renewed.cert);
    assert_eq!(next(&store).await, Ok(()));
    // What can't be used changes nothing.
    write(&bundle, "");
    write(&key, "");
    https.change(renewed, Some(CertificateDer::from_pem_file(&cert).expect("it is still there")));
    assert_eq!(next(&store).await, Ok(()));
}

/// A call over a new connection: that the one before it is gone may show only when it is used.
async fn next(store: &S3Store) -> Result<(), ErrorKind> {
    loop {
        match store.buckets().await {
            Err(error) if error.kind == ErrorKind::Cut => {}
            answer => return answer.map(drop).map_err(|error| error.kind),
        }
    }
}
