//! `devstack`: the embedded store and KES over HTTP.

use std::path::PathBuf;

use keyrotate_devstack::model::{BucketSettings, Mode};
use keyrotate_devstack::stack::{DevStack, StackConfig, StackError};

use crate::args::{DevstackArgs, ModeArg};
use crate::exit::Exit;
use crate::failure::Failure;

/// Serves until Ctrl-C.
pub(crate) async fn serve(args: DevstackArgs) -> Result<Exit, Failure> {
    let stack = start(args.dir.clone(), args.mode).await?;
    for bucket in &args.bucket {
        if !stack.model().buckets().contains(bucket) {
            let made = stack.model().create_bucket(bucket, BucketSettings::default());
            made.map_err(|e| Failure::usage(format!("can't make the bucket `{bucket}`: {e}"), "choose another name"))?;
        }
    }
    say(&stack);
    let _signal = tokio::signal::ctrl_c().await;
    stack.shutdown().await;
    Ok(Exit::Completed)
}

/// A stack in a folder, or in memory.
pub(crate) async fn start(dir: Option<PathBuf>, mode: ModeArg) -> Result<DevStack, Failure> {
    let config = StackConfig { dir, ..StackConfig::new(mode.into()) };
    let mend = "check the folder; a stack needs one of its own";
    DevStack::start(config).await.map_err(|e: StackError| Failure::broke("the embedded stack did not start", &e, mend))
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
