//! A small server for whoever watches the process: `/healthz`, `/readyz`, `/metrics`. It answers everybody who reaches it,
//! and has nothing else to say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

use crate::metrics::{CONTENT_TYPE, metrics};

/// How long whoever asks whether we are ready waits.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Says whether the process can do its work, and what it lacks if not.
pub type Ready = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Listens at `address` from now on, as long as the runtime lives; gives the address that it got.
///
/// # Errors
/// When it can't be listened on.
pub async fn listen(address: SocketAddr, ready: Ready) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(move || is_ready(Arc::clone(&ready))))
        .route("/metrics", get(async || ([("content-type", CONTENT_TYPE)], metrics().text())));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "nobody can look at this process any more");
        }
    });
    Ok(address)
}

async fn is_ready(ready: Ready) -> impl IntoResponse {
    match tokio::time::timeout(READY_WITHIN, ready()).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(lacks)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{lacks}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no answer in time\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_says_what_it_has_to_say() {
        let ready: Ready = Arc::new(|| Box::pin(async { Err("no Redis".to_owned()) }));
        let address = listen(([127, 0, 0, 1], 0).into(), ready).await.unwrap();
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let not_ready = ask(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("no Redis"), "{not_ready}");
        let metrics = ask(address, "/metrics").await;
        assert!(
            metrics.contains("openmetrics-text") && metrics.contains("\nkeyrotate_redeliveries_total 0"),
            "{metrics}"
        );
    }
}
