//! The local socket of a running job, by which other verbs reach it: one line of JSON asked, one answered.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use keyrotate_proto::id::JobId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const SOCKET: &str = "control.sock";

/// What another verb asks of the process that holds a bucket's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Cancel that job.
    Cancel {
        /// The job.
        job: JobId,
    },
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// What was wrong; `None`: done.
    pub(crate) error: Option<String>,
}

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

/// Listens in a bucket's folder. Only for the holder of its lock: what an earlier holder left is removed.
pub(crate) fn listen(folder: &Path) -> io::Result<UnixListener> {
    let _absent = std::fs::remove_file(folder.join(SOCKET));
    UnixListener::bind(&short(folder)?.path)
}

/// Takes one request of one visitor; `None` when it asked nothing that makes sense.
pub(crate) async fn accept(listener: &UnixListener) -> Option<(Request, Reply)> {
    let (stream, _) = listener.accept().await.ok()?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(4096));
    let read = tokio::time::timeout(std::time::Duration::from_secs(2), reader.read_line(&mut line)).await;
    read.ok()?.ok()?;
    let request = serde_json::from_str(&line).ok()?;
    Some((request, Reply(reader.into_inner().into_inner())))
}

/// Where the answer goes.
pub(crate) struct Reply(UnixStream);

impl Reply {
    /// Answers; a visitor who has left hears nothing.
    pub(crate) async fn send(mut self, answer: &Answer) {
        let mut line = serde_json::to_vec(answer).unwrap_or_default();
        line.push(b'\n');
        let _left = self.0.write_all(&line).await;
    }
}

/// Asks whoever holds a bucket's folder.
pub(crate) async fn ask(folder: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(&short(folder)?.path).await?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_however_deep_the_folder_lies() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let job = JobId::new(1, [7; 10]);
        let request = Request::Cancel { job: job.clone() };
        let (answer, ()) = tokio::join!(ask(&deep, &request), async {
            let (Request::Cancel { job: asked }, reply) = accept(&listener).await.unwrap();
            assert_eq!(asked, job);
            reply.send(&Answer { error: Some("no".into()) }).await;
        });
        assert_eq!(answer.unwrap().error.as_deref(), Some("no"));
        drop(listener);
        listen(&deep).unwrap();
    }
}
