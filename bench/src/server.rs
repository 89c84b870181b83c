//! The store in a process of its own, so that a client's CPU is measured apart; and the handle on it. They talk line
//! by line over the child's standard input and output.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use keyrotate_devstack::model::{BucketSettings, Mode, SyntheticKeys};
use keyrotate_devstack::server::{Fault, FaultRule};
use keyrotate_devstack::stack::{DevStack, StackConfig};
use keyrotate_store::Sse;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Which store to serve.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// `aws`, `minio`, `moto` or `rgw`.
    #[arg(long)]
    pub(crate) mode: String,
    /// Without UpdateObjectEncryption and without a guard on CopyObject's destination: only the multipart form is left.
    #[arg(long)]
    pub(crate) unguarded_copy: bool,
}

/// What a store is asked to do.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Make a synthetic bucket: its name, and what is in it.
    Bucket(String, Box<SyntheticKeys>),
    /// Count the requests so far.
    Requests,
    /// Answer each request only after so many milliseconds.
    Delay(u64),
}

/// Requests so far, by operation.
pub(crate) type Requests = BTreeMap<String, u64>;

/// Serves until its standard input ends.
pub(crate) async fn serve(args: ServeArgs) -> Result<(), Error> {
    let mut mode = Mode::named(&args.mode).ok_or("there is no such mode")?;
    if args.unguarded_copy {
        mode = Mode { update_encryption: false, copy_if_match: false, ..mode };
    }
    let stack = DevStack::start(StackConfig::new(mode)).await?;
    say(&stack.variables())?;
    let (sender, mut asked) = tokio::sync::mpsc::channel::<String>(1);
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
    });
    while let Some(line) = asked.recv().await {
        match serde_json::from_str(&line)? {
            Ask::Bucket(name, keys) => {
                let settings = if keys.versions { BucketSettings::versioned() } else { BucketSettings::plain() };
                stack.model().create_synthetic_bucket(&name, settings, *keys)?;
                say(&())?;
            }
            Ask::Requests => say(&stack.s3().faults().requests())?,
            Ask::Delay(ms) => {
                stack.s3().faults().add(FaultRule::every(Fault::Delay(Duration::from_millis(ms))));
                say(&())?;
            }
        }
    }
    stack.shutdown().await;
    Ok(())
}

/// So many objects of 1 KiB under `key`, `None`: in plaintext.
pub(crate) fn objects(count: u64, key: Option<&str>) -> SyntheticKeys {
    let keys = SyntheticKeys::under_key(count, key.unwrap_or_default());
    let sse = if key.is_some() { keys.sse.clone() } else { Sse::None };
    SyntheticKeys { sse, ..keys }
}

fn say(value: &impl Serialize) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}

/// A running store.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    ask: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    /// What a client's environment must say.
    pub(crate) variables: BTreeMap<String, String>,
    mode: Mode,
    buckets: u32,
}

impl Server {
    /// Starts it.
    pub(crate) fn start(args: &ServeArgs) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--mode", &args.mode]);
        if args.unguarded_copy {
            command.arg("--unguarded-copy");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let variables = serde_json::from_str(&answers.next().ok_or("the store did not start")??)?;
        let mode = Mode::named(&args.mode).ok_or("there is no such mode")?;
        Ok(Self { child, ask, answers, variables, mode, buckets: 0 })
    }

    /// The store's process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A KMS key as a request must name it.
    pub(crate) fn key(&self, name: &str) -> String {
        self.mode.show_key(name).0
    }

    /// Makes a synthetic bucket of `count` objects under `key`, `None`: in plaintext; gives its name.
    pub(crate) fn bucket(&mut self, count: u64, key: Option<&str>) -> Result<String, Error> {
        self.bucket_of(objects(count, key))
    }

    /// Makes a synthetic bucket; gives its name.
    pub(crate) fn bucket_of(&mut self, keys: SyntheticKeys) -> Result<String, Error> {
        self.buckets += 1;
        let name = format!("bench-{}", self.buckets);
        self.ask::<()>(&Ask::Bucket(name.clone(), Box::new(keys)))?;
        Ok(name)
    }

    /// Requests so far.
    pub(crate) fn requests(&mut self) -> Result<Requests, Error> {
        self.ask(&Ask::Requests)
    }

    /// From now on each answer comes so much later.
    pub(crate) fn delay(&mut self, time: Duration) -> Result<(), Error> {
        self.ask(&Ask::Delay(u64::try_from(time.as_millis())?))
    }

    fn ask<T: for<'a> Deserialize<'a>>(&mut self, ask: &Ask) -> Result<T, Error> {
        let input = self.ask.as_mut().ok_or("the store has ended")?;
        writeln!(input, "{}", serde_json::to_string(ask)?)?;
        input.flush()?;
        Ok(serde_json::from_str(&self.answers.next().ok_or("the store has ended")??)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.ask.take());
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
