//! The local socket of a running job, by which other verbs reach it: one line of JSON asked, one answered.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrotate_checkpoint::transition::job::cancel;
use keyrotate_checkpoint::{Ledger, LedgerError};
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOCKET: &str = "control.sock";

/// How long a visitor may take to ask.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// How long whoever holds the folder may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It will be done; ask again to hear when.
    Ending,
    /// It is done.
    Ended,
    /// There is no such job here.
    Unknown,
    /// It can't be done.
    Refused {
        /// Why.
        error: String,
    },
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
pub(crate) fn serve(folder: &Path, ledger: &Ledger) -> io::Result<Control> {
    let _absent = std::fs::remove_file(folder.join(SOCKET));
    let listener = UnixListener::bind(&short(folder)?.path)?;
    let ledger = ledger.clone();
    Ok(Control(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((visitor, _)) => drop(tokio::spawn(answer(visitor, ledger.clone()))),
                // Out of descriptors, say: that passes.
                Err(_) => tokio::time::sleep(ASK_WITHIN).await,
            }
        }
    })))
}

/// Hears one request and answers it; nothing to a visitor who asks nothing that makes sense.
async fn answer(visitor: UnixStream, ledger: Ledger) {
    let mut line = String::new();
    let mut reader = BufReader::new(visitor.take(4096));
    let Ok(Ok(_)) = timeout(ASK_WITHIN, reader.read_line(&mut line)).await else { return };
    let Ok(Request::Cancel { job }) = serde_json::from_str(&line) else { return };
    let answer = match ledger.update_job(&job, cancel).await {
        Ok(record) if record.state.is_ended() => Answer::Ended,
        Ok(_) => Answer::Ending,
        Err(LedgerError::Lost(_)) => Answer::Unknown,
        Err(error) => Answer::Refused { error: chain(&error) },
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    // A visitor who has left hears nothing.
    let _left = timeout(ASK_WITHIN, reader.into_inner().into_inner().write_all(&line)).await;
}

/// Asks whoever holds a bucket's folder.
pub(crate) async fn ask(folder: &Path, request: &Request) -> io::Result<Answer> {
    timeout(ANSWER_WITHIN, asked(folder, request)).await?
}

async fn asked(folder: &Path, request: &Request) -> io::Result<Answer> {
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
    use std::sync::Arc;

    use keyrotate_checkpoint::MemoryBackend;
    use keyrotate_checkpoint::record::JobRecord;
    use keyrotate_env::Env;
    use keyrotate_proto::id::Nonce;

    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_however_deep_the_folder_lies() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100)).join("y".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let env = Env::seeded(1, jiff::Timestamp::UNIX_EPOCH);
        let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
        let text = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: k}}";
        let spec = keyrotate_proto::job::parse(text.as_bytes(), "job.yaml").unwrap().spec;
        let job = JobId::new(1, [7; 10]);
        let record = JobRecord::new(job.clone(), spec, "s".into(), Nonce("n".into()), String::new(), env.now());
        ledger.begin_job(record).await.unwrap();
        let control = serve(&deep, &ledger).unwrap();
        // One who says nothing holds nobody up.
        let _silent = UnixStream::connect(&short(&deep).unwrap().path).await.unwrap();
        assert_eq!(ask(&deep, &Request::Cancel { job: JobId::new(2, [7; 10]) }).await.unwrap(), Answer::Unknown);
        assert_eq!(ask(&deep, &Request::Cancel { job: job.clone() }).await.unwrap(), Answer::Ending);
        assert_eq!(ledger.job(&job).await.unwrap().state.word(), "cancelling");
        drop(control);
        serve(&deep, &ledger).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let _hears_nothing = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let request = Request::Cancel { job: JobId::new(1, [7; 10]) };
        let error = ask(dir.path(), &request).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
