//! `devstack`: the embedded store and KES over HTTP.

use std::path::PathBuf;

use keyrotate_devstack::mixed;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_devstack::stack::{DevStack, KEYS, StackConfig, StackError};
use keyrotate_store::{ListFrom, ListRequest, Store as _, StoreError};
use zeroize::Zeroizing;

use crate::args::{DevstackArgs, ModeArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Signals;

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn serve(args: DevstackArgs) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let config = StackConfig {
        dir: args.dir.clone(),
        s3_addr: args.s3,
        kes_addr: args.kes,
        host: args.host.clone(),
        kes_api_key: args.kes_api_key.clone().map(Zeroizing::new),
        ..StackConfig::new(args.mode.into())
    };
    let stack = started(config).await?;
    for bucket in &args.bucket {
        if !stack.model().buckets().contains(bucket) {
            let made = stack.model().create_bucket(bucket, BucketSettings::default());
            made.map_err(|e| Failure::usage(format!("can't make the bucket `{bucket}`: {e}"), "choose another name"))?;
        }
    }
    if let (Some(count), Some(bucket)) = (args.objects, args.bucket.last()) {
        fill(stack.model(), bucket, count).await?;
    }
    say(&stack);
    signals.recv().await;
    signals.end_at_next();
    stack.shutdown().await;
    Ok(Exit::Completed)
}

/// A stack in a folder, or in memory.
pub(crate) async fn start(dir: Option<PathBuf>, mode: ModeArg) -> Result<DevStack, Failure> {
    started(StackConfig { dir, ..StackConfig::new(mode.into()) }).await
}

async fn started(config: StackConfig) -> Result<DevStack, Failure> {
    let mend = "check the folder; a stack needs one of its own";
    DevStack::start(config).await.map_err(|e: StackError| Failure::broke("the embedded stack did not start", &e, mend))
}

/// Puts the mix into an empty bucket.
async fn fill(model: &StoreModel, bucket: &str, count: u64) -> Result<(), Failure> {
    let broke = |e: StoreError| Failure::broke("the bucket can't be filled", &e, "check the folder");
    let page = ListRequest {
        bucket: bucket.to_owned(),
        prefix: String::new(),
        versions: false,
        from: ListFrom::Start,
        limit: 1,
        with_facts: false,
    };
    if model.list(page).await.map_err(broke)?.entries.is_empty() {
        let [old, new] = KEYS;
        mixed::seed(model, bucket, count, old, new).await.map_err(broke)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the environment is the output")]
fn say(stack: &DevStack) {
    println!("# An S3 store and a KES for tests, on the loopback. Not for production. Ctrl-C ends them.");
    for (name, value) in stack.variables() {
        println!("export {name}={value}");
    }
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Aws => Self::aws(),
            ModeArg::Minio => Self::minio(),
            ModeArg::Moto => Self::moto(),
            ModeArg::Rgw => Self::rgw(),
        }
    }
}
