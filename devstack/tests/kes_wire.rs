//! The KES server on the wire, byte for byte: what a real KES was seen to answer, and a client certificate of each kind.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use keyrotate_devstack::kes::{Failure, Grant, KesModel, KesServer, KesServerConfig, Policy, ServerCert};
use keyrotate_env::Env;
use keyrotate_kms::{Kms as _, identity_of};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Credential = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Stand {
    kes: KesModel,
    server: KesServer,
    admin: KeyPair,
    app: KeyPair,
}

/// A self-signed certificate over `key`.
fn certificate(key: &KeyPair, is_ca: IsCa) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.is_ca = is_ca;
    params.self_signed(key).unwrap().der().clone()
}

fn credential(key: &KeyPair) -> Credential {
    (vec![certificate(key, IsCa::NoCa)], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn identity(key: &KeyPair) -> String {
    identity_of(&certificate(key, IsCa::NoCa)).unwrap()
}

impl Stand {
    async fn new() -> Self {
        let kes = KesModel::new(Env::system());
        let (admin, app) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let policy = Policy {
            allow: vec!["/v1/key/*".to_owned(), "/v1/policy/read/app".to_owned()],
            deny: vec!["/v1/key/delete/*".to_owned()],
        };
        let grants = vec![Grant { name: "app".to_owned(), policy, identities: vec![identity(&app)] }];
        let cert = ServerCert::generate().unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let config = KesServerConfig { addr, grants, admin: Some(identity(&admin)), cert };
        let server = KesServer::start(kes.clone(), config).await.unwrap();
        Self { kes, server, admin, app }
    }

    async fn connect(&self, credential: Option<Credential>, alpn: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match credential {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.server.addr()).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    /// Sends `request` whole over a connection of its own: status, head in lower case, body.
    async fn raw(&self, credential: Credential, request: &str) -> (u16, String, String) {
        let mut stream = self.connect(Some(credential), b"http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that closes a connection over a body that it did not read may reset it.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    async fn ask(&self, key: &KeyPair, line: &str, body: &str) -> (u16, String, String) {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{length}\r\n{body}");
        self.raw(credential(key), &request).await
    }
}

/// What was recorded of a real KES: request, body, status, answer.
#[rustfmt::skip]
const RECORDED: &[(&str, &str, u16, &str)] = &[
    ("PUT /v1/key/create/my-key", "", 200, ""),
    ("POST /v1/key/create/my-key", "", 400, "{\"message\":\"key already exists\"\n}"),
    ("PUT /v1/key/create/a.b", "", 400, "{\"message\":\"key name 'a.b' is empty, too long or contains invalid characters\"\n}"),
    ("PUT /v1/key/create/a%2Fb", "", 400, "{\"message\":\"key name 'a/b' is empty, too long or contains invalid characters\"\n}"),
    ("PUT /v1/key/create/%3Cb%3E", "", 400, "{\"message\":\"key name '\\u003cb\\u003e' is empty, too long or contains invalid characters\"\n}"),
    ("GET /v1/key/create/my-key", "", 405, "{\"message\":\"received method 'GET' expected 'PUT'\"\n}"),
    ("HEAD /v1/key/create/my-key", "", 405, ""),
    ("PUT /v1/key/decrypt/my-key", "", 400, "{\"message\":\"invalid request body\"\n}"),
    ("PUT /v1/key/decrypt/nope", "{", 400, "{\"message\":\"invalid request body\"\n}"),
    ("PUT /v1/key/decrypt/my-key", "{}", 400, "{\"message\":\"decryption failed: ciphertext is not authentic\"\n}"),
    ("PUT /v1/key/generate/nope", "", 404, "{\"message\":\"key does not exist\"\n}"),
    ("PUT /v1/key/generate/my-key", "{\"context\":\"x\"}", 400, "{\"message\":\"invalid request body\"\n}"),
    ("PUT /v1/key/import/imp", "{\"key\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",\"cipher\":\"AES256\"}", 200, ""),
    ("PUT /v1/key/import/imp", "{\"key\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",\"cipher\":\"AES256\"}", 400, "{\"message\":\"key already exists\"\n}"),
    ("PUT /v1/key/import/imp2", "{\"bytes\":\"AAEC\"}", 406, "{\"message\":\"algorithm '' is not supported\"\n}"),
    ("PUT /v1/key/import/imp2", "{\"key\":\"AAEC\",\"cipher\":\"AES256\"}", 406, "{\"message\":\"invalid key size for 'AES256'\"\n}"),
    ("PUT /v1/key/import/imp2", "", 400, "{\"message\":\"invalid import key request body\"\n}"),
    ("PUT /v1/key/decrypt/imp", "{\"ciphertext\":\"I0tk5JTlfNA5+R7ZiZg9I/oR7U4C0Bc5zk5sLczXxr1oHxpxYDGowUfB33++x90UQEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaWw==\",\"context\":\"Y3R4MQ==\"}",
        200, "{\"plaintext\":\"qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\"}\n"),
    ("GET /v1/key/describe/nope", "", 404, "{\"message\":\"key does not exist\"\n}"),
    ("GET /v1/key/list/", "", 200, "{\"names\":[\"imp\",\"my-key\"]}\n"),
    ("GET /v1/key/list/*", "", 200, "{\"names\":[\"imp\",\"my-key\"]}\n"),
    ("GET /v1/key/list/my-key*", "", 200, "{\"names\":[]}\n"),
    ("GET /v1/key/list/my-", "", 400, "{\"message\":\"listing pattern 'my-' is empty, too long or is invalid\"\n}"),
    ("GET /v1/key/list", "", 307, ""),
    ("GET /v1//key/list/", "", 307, ""),
    ("PUT /v1/key/bulk/decrypt/my-key", "", 404, "404 page not found\n"),
    ("DELETE /v1/key/delete/imp", "", 200, ""),
    ("DELETE /v1/key/delete/imp", "", 404, "{\"message\":\"key does not exist\"\n}"),
    ("GET /v1/ready", "", 200, ""),
    ("GET /v1/policy/read/nope", "", 404, "{\"message\":\"policy does not exist\"\n}"),
];

#[tokio::test]
async fn answers_are_those_that_were_recorded_of_a_real_kes() {
    let stand = Stand::new().await;
    for (line, body, status, answer) in RECORDED {
        let (got, head, text) = stand.ask(&stand.admin, line, body).await;
        assert_eq!((got, text.as_str()), (*status, *answer), "{line} {body}");
        match (got, answer.is_empty()) {
            (405, _) => assert!(head.contains("\r\naccept: put"), "{head}"),
            (307, _) => assert!(head.contains("\r\nlocation: /v1/key/list/"), "{head}"),
            (404, _) if answer.starts_with("404") => assert!(head.contains("content-type: text/plain"), "{head}"),
            (_, true) => assert!(head.contains("content-length: 0") && !head.contains("content-type"), "{head}"),
            _ => assert!(head.contains("content-type: application/json"), "{head}"),
        }
    }
    let (_, _, described) = stand.ask(&stand.admin, "GET /v1/key/describe/my-key", "").await;
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["algorithm"], "AES256");
    assert_eq!(described["created_by"], identity(&stand.admin));
    described["created_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
}

#[tokio::test]
async fn rights_come_after_method_and_route_and_before_everything_else() {
    let stand = Stand::new().await;
    let stranger = KeyPair::generate().unwrap();
    let refused = "{\"message\":\"not authorized: insufficient permissions\"\n}";
    for (key, line, status) in [
        (&stand.app, "PUT /v1/key/create/my-key", 200),
        (&stand.app, "DELETE /v1/key/delete/my-key", 403),
        (&stand.app, "GET /v1/status", 403),
        (&stand.app, "GET /v1/policy/read/app", 200),
        (&stand.app, "GET /v1/identity/self/describe", 404),
        (&stand.admin, "GET /v1/identity/self/describe", 200),
        (&stranger, "GET /version", 200),
        (&stranger, "GET /v1/status", 403),
        (&stranger, "PUT /v1/key/create/a.b", 403),
        (&stranger, "GET /v1/key/create/a.b", 405),
        (&stranger, "GET /nowhere", 404),
    ] {
        let (got, _, body) = stand.ask(key, line, "").await;
        assert_eq!(got, status, "{line} {body}");
        assert!(got != 403 || body == refused, "{line} {body}");
    }
}

#[tokio::test]
async fn a_body_may_be_chunked_and_an_empty_one_counts_only_with_a_length() {
    let stand = Stand::new().await;
    stand.kes.create("k", "").unwrap();
    let chunked = |path: &str, chunks: &str| {
        format!("PUT {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
    };
    let sealed = stand.kes.generate("k", b"").await.unwrap();
    let body = format!("{{\"ciphertext\":\"{}\"}}", STANDARD.encode(&sealed.ciphertext));
    let (first, rest) = body.split_at(9);
    let chunks = format!("{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", first.len(), rest.len());
    let (status, _, answer) = stand.raw(credential(&stand.app), &chunked("/v1/key/decrypt/k", &chunks)).await;
    assert_eq!((status, answer.contains(&STANDARD.encode(sealed.plaintext.expose()))), (200, true), "{answer}");
    let (status, _, answer) = stand.raw(credential(&stand.app), &chunked("/v1/key/generate/k", "0\r\n\r\n")).await;
    assert_eq!((status, answer.as_str()), (400, "{\"message\":\"invalid request body\"\n}"));
    let (status, ..) = stand.ask(&stand.app, "PUT /v1/key/generate/k", "").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let stand = Stand::new().await;
    let stream = stand.connect(Some(credential(&stand.app)), b"h2").await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    for status in [200, 400] {
        let uri = format!("{}/v1/key/create/two", stand.server.endpoint());
        let request = http::Request::put(uri).body(Full::<bytes::Bytes>::default()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        answer.into_body().collect().await.unwrap();
    }
    driver.abort();
}

#[tokio::test]
async fn without_a_certificate_the_alert_116_comes_after_the_handshake() {
    let stand = Stand::new().await;
    let mut stream = stand.connect(None, b"http/1.1").await;
    // The request is under way when the alert comes, and must not cost it.
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    assert_eq!(alert, Some(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired)), "{error}");
}

#[tokio::test]
async fn certificates_of_authorities_do_not_count_and_two_others_are_one_too_many() {
    let stand = Stand::new().await;
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let required = "{\"message\":\"tls: client certificate is required\"\n}";
    let several = "{\"message\":\"tls: received more than one client certificate\"\n}";
    let refused = "{\"message\":\"not authorized: insufficient permissions\"\n}";
    let leaf = || certificate(&key, IsCa::NoCa);
    for (chain, status, answer) in [
        (vec![certificate(&key, ca)], 400, required),
        (vec![leaf(), certificate(&other, IsCa::ExplicitNoCa)], 400, several),
        (vec![leaf(), certificate(&other, ca)], 403, refused),
    ] {
        let credential = (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap());
        let request = "GET /v1/status HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let (got, _, body) = stand.raw(credential, request).await;
        assert_eq!((got, body.as_str()), (status, answer));
    }
}

#[tokio::test]
async fn failures_of_the_node_look_as_on_a_real_wire() {
    let stand = Stand::new().await;
    stand.kes.set_failure(Failure::KeyStore);
    for (line, status, message) in [
        ("PUT /v1/key/create/k", 502, "failed to create key"),
        ("PUT /v1/key/generate/k", 502, "failed to read key"),
        ("GET /v1/key/list/", 502, "failed to list keys"),
        ("DELETE /v1/key/delete/k", 502, "failed to delete key"),
        ("GET /v1/ready", 504, "key store is not reachable"),
        ("GET /v1/status", 200, "\"keystore_unreachable\":true"),
    ] {
        let (got, _, body) = stand.ask(&stand.admin, line, "").await;
        assert!(got == status && body.contains(message), "{line} {got} {body}");
    }
    stand.kes.set_failure(Failure::Unavailable);
    assert_eq!(stand.ask(&stand.admin, "GET /version", "").await.0, 503);
}
