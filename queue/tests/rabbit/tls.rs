//! The same over TLS, and with whom it is refused.

use std::net::Ipv4Addr;
use std::sync::Arc;

use keyrotate_env::Env;
use keyrotate_queue::conformance::{normal, stores, ticket};
use keyrotate_queue::rabbit::{Health, Limits, examine};
use keyrotate_queue::{Queue, QueueError, RabbitConfig, RabbitQueue};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{consume, next, number, publish, shared};

/// A way to the broker that speaks TLS as `localhost`; its port and its certificate in PEM.
async fn wrapped(port: u16) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let here = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (here, made.cert.pem())
}

#[tokio::test]
async fn tickets_go_over_tls_to_whom_is_trusted_only() {
    let broker = shared().await;
    let host = broker.fresh_name();
    broker.vhost(&host).await;
    let (port, certificate) = wrapped(broker.private.port()).await;
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
