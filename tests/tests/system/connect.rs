//! The store found as the aws command finds it: variables, profiles, a certificate of one's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrotate_devstack::kes::ServerCert;
use keyrotate_tests::prelude::*;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
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

/// HTTPS before the stand's store; gives its URL.
async fn https(stand: &Stand, cert: &ServerCert) -> String {
    let chain = CertificateDer::pem_slice_iter(cert.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(cert.key.as_bytes()).expect("a key of our own");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate of our own"), key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("https://{}", listener.local_addr().expect("it listens"));
    let behind = stand.target.variables()["AWS_ENDPOINT_URL"].trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let (Ok(mut client), Ok(mut store)) = (acceptor.accept(stream).await, TcpStream::connect(behind).await)
                else {
                    return;
                };
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut store).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_ones_own_is_trusted_when_it_is_given_and_only_then() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    let cert = ServerCert::generate().expect("a certificate can be made");
    let bundle = stand.dir().join("store.crt");
    std::fs::write(&bundle, &cert.cert).expect("the test's folder can be written");
    let mut variables = stand.target.variables().clone();
    variables.insert("AWS_ENDPOINT_URL".to_owned(), https(&stand, &cert).await);
    let refused = ended(&stand, &variables).await.expect(5);
    assert!(refused.stderr.contains("AWS_CA_BUNDLE"), "{}", refused.stderr);
    variables.insert("AWS_CA_BUNDLE".to_owned(), bundle.display().to_string());
    let _rotated = ended(&stand, &variables).await.expect(0);
    all_are_rotated(&stand).await;
}
