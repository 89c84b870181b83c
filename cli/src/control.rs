//! The local socket of a running job, by which other verbs reach it: the coordinator's API, over a socket in the bucket's
//! folder that only who may enter the folder can open.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use keyrotate_coordinator::api::server::serve_connection;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::jobs::{Ask, Reply};

const SOCKET: &str = "control.sock";

/// How long to wait when no visitor can be let in.
const BREATH: Duration = Duration::from_secs(2);

/// How long whoever holds the folder may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A socket path is at most 107 bytes long; through the folder's descriptor it is always short enough.
struct ShortPath {
    _folder: File,
    path: PathBuf,
}

fn short(folder: &Path) -> io::Result<ShortPath> {
    let open = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
    Ok(ShortPath { _folder: open, path })
}

/// Answers visitors until it is dropped, whatever the process does meanwhile: a question to a person does not keep
/// others from cancelling.
#[derive(Debug)]
pub(crate) struct Control(JoinHandle<()>);

impl Drop for Control {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens in a bucket's folder. Only for the holder of its lock: what an earlier holder left is removed.
pub(crate) fn serve(folder: &Path, router: Router) -> io::Result<Control> {
    let _absent = std::fs::remove_file(folder.join(SOCKET));
    let listener = UnixListener::bind(&short(folder)?.path)?;
    Ok(Control(tokio::spawn(async move {
        let mut visitors = JoinSet::new();
        loop {
            while visitors.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((visitor, _)) => {
                    visitors.spawn(serve_connection(visitor, router.clone(), CancellationToken::new()));
                }
                // Out of descriptors, say: that passes.
                Err(_) => tokio::time::sleep(BREATH).await,
            }
        }
    })))
}

/// Asks whoever holds a bucket's folder.
pub(crate) async fn ask(folder: &Path, ask: &Ask) -> io::Result<Reply> {
    timeout(ANSWER_WITHIN, asked(folder, ask)).await?
}

async fn asked(folder: &Path, ask: &Ask) -> io::Result<Reply> {
    let stream = UnixStream::connect(&short(folder)?.path).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let talk = async {
        let response = sender.send_request(request(ask)?).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
        Ok(Reply { status, body })
    };
    tokio::select! {
        reply = talk => reply,
        // It ends before the answer is whole only where the other side went away.
        ended = connection => Err(io::Error::other(format!("the other side went away: {ended:?}"))),
    }
}

/// Asks an API in this very process.
pub(crate) async fn ask_here(router: Router, ask: &Ask) -> Reply {
    let Ok(request) = request(ask) else { return Reply { status: 400, body: Vec::new() } };
    let Ok(response) = router.oneshot(request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    Reply { status, body }
}

fn request(ask: &Ask) -> io::Result<Request<Body>> {
    let mut request = Request::builder().method(ask.method).uri(&ask.path).header("host", "localhost");
    if let Some((kind, _)) = &ask.body {
        request = request.header("content-type", *kind);
    }
    let body = ask.body.as_ref().map(|(_, body)| body.clone()).unwrap_or_default();
    request.body(Body::from(body)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyrotate_checkpoint::record::JobRecord;
    use keyrotate_checkpoint::{Ledger, MemoryBackend};
    use keyrotate_env::Env;
    use keyrotate_proto::id::{JobId, Nonce};
    use keyrotate_store::StoreIdentity;

    use super::*;
    use crate::jobs::folder::router;
    use crate::state::BucketFolder;

    fn cancel(job: &JobId) -> Ask {
        Ask { method: "POST", path: format!("/v1/jobs/{job}/cancel"), ..Ask::default() }
    }

    #[tokio::test]
    async fn a_question_is_answered_however_deep_the_folder_lies() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        let folder = BucketFolder::of(&deep, &StoreIdentity("s".into()), "b");
        let deep = folder.path();
        std::fs::create_dir_all(deep).unwrap();
        let env = Env::system();
        let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
        let text = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: k}}";
        let spec = keyrotate_proto::job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let job = JobId::new(1, [7; 10]);
        let record = JobRecord::new(job.clone(), spec, "s".into(), Nonce("n".into()), String::new(), env.now());
        ledger.begin_job(record).await.unwrap();
        let control = serve(deep, router(&folder, &ledger, &env)).unwrap();
        // One who says nothing holds nobody up.
        let _silent = UnixStream::connect(&short(deep).unwrap().path).await.unwrap();
        assert_eq!(ask(deep, &cancel(&JobId::new(2, [7; 10]))).await.unwrap().status, 404);
        assert_eq!(ask(deep, &cancel(&job)).await.unwrap().status, 200);
        assert_eq!(ledger.job(&job).await.unwrap().state.word(), "cancelling");
        drop(control);
        serve(deep, router(&folder, &ledger, &env)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let _hears_nothing = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let error = ask(dir.path(), &cancel(&JobId::new(1, [7; 10]))).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
