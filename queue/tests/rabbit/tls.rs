//! The same over TLS, and with whom it is refused.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use keyrotate_env::Env;
use keyrotate_queue::conformance::{normal, stores, ticket};
use keyrotate_queue::rabbit::{Health, Limits, examine};
use keyrotate_queue::{Queue, QueueError, RabbitConfig, RabbitQueue};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{consume, next, number, publish, shared};

/// Whom a way to the broker trusts: clients that show this certificate, or everybody.
type Clients = Arc<Mutex<Option<CertificateDer<'static>>>>;

/// A way to the broker that speaks TLS as `localhost`; its port and its certificate in PEM.
async fn wrapped(port: u16, clients: Clients) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (pem, certificate) = (made.cert.pem(), made.cert.der().clone());
    let key = made.signing_key.serialize_der();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let here = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let trusted = clients.lock().unwrap().clone();
            let acceptor = acceptor(certificate.clone(), key.clone(), trusted);
            tokio::spawn(async move {
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (here, pem)
}

fn acceptor(
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    client: Option<CertificateDer<'static>>,
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = match client {
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_read_again_when_it_was_renewed() {
    let broker = shared().await;
    let host = broker.fresh_name();
    broker.vhost(&host).await;
    let clients = Clients::default();
    let (port, certificate) = wrapped(broker.private.port(), Arc::clone(&clients)).await;
    let folder = tempfile::tempdir().unwrap();
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&ca, certificate).unwrap();
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["a worker".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        *clients.lock().unwrap() = Some(made.cert.der().clone());
    };
    renew();
    let url = broker.private.url(&host).replace("amqp://", "amqps://");
    let url = url.replace(&format!("127.0.0.1:{}", broker.private.port()), &format!("localhost:{port}"));
    let config = || RabbitConfig::parse(&url).unwrap().with_ca(&ca).unwrap();
    let second = std::time::Duration::from_secs(1);
    let hasty = Limits { connect: second, answer: second, ..Limits::default() };
    let nameless = RabbitQueue::new(config().with_limits(hasty), Env::system());
    assert!(matches!(nameless.publish(&ticket(1), &normal()).await, Err(QueueError::Unavailable(_))));
    assert!(config().with_certificate(&cert, &folder.path().join("none")).is_err());

    let queue = RabbitQueue::new(config().with_certificate(&cert, &key).unwrap(), Env::system());
    publish(&queue, 0).await;
    renew();
    broker.private.ctl(&["close_all_connections", "--vhost", &host, "renewed"]).await.unwrap();
    // Whoever still holds the old one gets in no more.
    let mut published = queue.publish(&ticket(1), &normal()).await;
    for _ in 0..40 {
        if published.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        published = queue.publish(&ticket(1), &normal()).await;
    }
    published.unwrap();
}

#[tokio::test]
async fn tickets_go_over_tls_to_whom_is_trusted_only() {
    let broker = shared().await;
    let host = broker.fresh_name();
    broker.vhost(&host).await;
    let (port, certificate) = wrapped(broker.private.port(), Clients::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let url = broker.private.url(&host).replace("amqp://", "amqps://");
    let url = url.replace(&format!("127.0.0.1:{}", broker.private.port()), &format!("localhost:{port}"));

    let config = RabbitConfig::parse(&url).unwrap().with_ca(&file).unwrap();
    assert!(config.is_encrypted());
    let queue = RabbitQueue::new(config.clone(), Env::system());
    publish(&queue, 0).await;
    let delivery = next(&mut *consume(&queue, 1).await).await;
    assert_eq!(number(&delivery), 0);
    let found = examine(&config, None, &stores(), &Env::system()).await;
    assert_eq!(found[0].health, Health::Ok, "{found:?}");

    let second = std::time::Duration::from_secs(1);
    let hasty = Limits { connect: second, answer: second, ..Limits::default() };
    let stranger = RabbitConfig::parse(&url).unwrap().with_limits(hasty);
    let found = examine(&stranger, None, &stores(), &Env::system()).await;
    assert!(found[0].health == Health::Bad && found[0].what.contains("certificate"), "{found:?}");
    let refused = RabbitQueue::new(stranger, Env::system()).publish(&ticket(1), &normal()).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
}
