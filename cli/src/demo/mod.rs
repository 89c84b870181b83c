//! `demo`: a store, a KES and a mixed bucket in this process, rotated before your eyes.

mod fleet;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use futures::stream::{self, StreamExt};
use keyrotate_devstack::mixed;
use keyrotate_devstack::model::{BucketSettings, StoreModel};
use keyrotate_devstack::stack::DevStack;
use keyrotate_env::Env;
use keyrotate_proto::job;
use keyrotate_store::{Body, ErrorKind, HeadRequest, ListFrom, ListRequest, NewObject, ObjectAt, Store, StoreError};

use crate::args::{DemoArgs, ModeArg, Output};
use crate::choose::Wish;
use crate::devstack;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::local::LocalConfig;
use crate::run::Session;

const BUCKET: &str = "demo";
const REPORTS: &str = "reports";
const JOB: &str = "\
keyrotate:
  apiVersion: v1
  bucket: demo
  encryption:
    key: key-b
";

/// Fills a bucket, rotates it, shows what changed.
#[expect(clippy::print_stdout, reason = "the show is the output")]
pub(crate) async fn demo(args: DemoArgs) -> Result<Exit, Failure> {
    let temporary =
        tempfile::tempdir().map_err(|e| Failure::io("can't make a folder in", &std::env::temp_dir(), &e))?;
    let dir = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let made = std::fs::create_dir_all(&dir);
    made.map_err(|e| Failure::io("can't make the folder", &dir, &e))?;
    let stack = devstack::start(Some(dir.join("stack")), args.mode).await?;
    println!("An embedded S3 store ({}) and an embedded KES with the keys key-a and key-b.", mode_name(args.mode));
    fill(stack.model(), args.objects).await?;
    println!("The bucket `{BUCKET}` has {} objects, encrypted as one finds them:\n", args.objects);
    let before = seals(stack.model()).await?;
    let job = job_file(args.mode);
    println!("The job file says: everything under key-b.\n\n{job}");
    let file = dir.join("job.yaml");
    std::fs::write(&file, &job).map_err(|e| Failure::io("can't write", &file, &e))?;
    let exit = if args.fleet {
        if !stack.model().buckets().iter().any(|bucket| bucket == REPORTS) {
            let made = stack.model().create_bucket(REPORTS, BucketSettings::default());
            made.map_err(|e| Failure::broke("the reports' bucket could not be made", &e, "try another --keep folder"))?;
        }
        fleet::rotate(&stack, REPORTS, &dir, &job).await?
    } else {
        rotate(&stack, &dir, &job, args.keep.is_some()).await?
    };
    let after = seals(stack.model()).await?;
    println!("\n{}", changes(&before, &after));
    say_where_to_look(&args, &dir);
    stack.shutdown().await;
    Ok(if exit == Exit::Exceptions { Exit::Completed } else { exit })
}

/// Where only GET + PUT changes a key, bodies have to pass through here.
fn job_file(mode: ModeArg) -> String {
    let options = match mode {
        ModeArg::Aws | ModeArg::Minio => "",
        ModeArg::Moto | ModeArg::Rgw => "  options:\n    bodyTransit: any\n",
    };
    format!("{JOB}{options}")
}

async fn fill(model: &StoreModel, count: u32) -> Result<(), Failure> {
    let broke =
        |e: StoreError| Failure::broke("the demo's bucket could not be filled", &e, "try another --keep folder");
    if model.buckets().iter().any(|bucket| bucket == BUCKET) {
        return Ok(());
    }
    model.create_bucket(BUCKET, BucketSettings::default()).map_err(broke)?;
    let with_own_key = 3.min(u64::from(count));
    mixed::seed(model, BUCKET, u64::from(count) - with_own_key, "key-a", "key-b").await.map_err(broke)?;
    for i in 0..with_own_key {
        let at = ObjectAt::current(BUCKET, format!("vault/customer-key-{i}.bin"));
        model
            .seed_sse_c(&at, NewObject::default(), Body::Bytes("only its owner reads this".into()))
            .await
            .map_err(broke)?;
    }
    Ok(())
}

async fn rotate(stack: &DevStack, dir: &Path, text: &str, keeps: bool) -> Result<Exit, Failure> {
    let parsed = job::parse(text.as_bytes(), "job.yaml");
    let parsed = parsed.map_err(|e| Failure::usage(e.to_string(), "this is a bug of the demo"))?;
    let session = Session {
        what: "keyrotate demo".into(),
        store: None,
        root: dir.join("state"),
        wish: Wish::default(),
        config: LocalConfig { confirmed: true, ..LocalConfig::default() },
        no_wait: false,
        allow_private_notify: false,
        output: Output::Text,
        stays: keeps,
    };
    let store = Arc::new(stack.model().clone()).into();
    session.run(&parsed, store, Some(Arc::new(stack.kes().clone())), &Env::system()).await
}

/// How many objects there are of each encryption, by listing and HEAD of everything: not by what a job said.
async fn seals(model: &StoreModel) -> Result<BTreeMap<String, u64>, Failure> {
    let broke = |e: StoreError| Failure::broke("the demo's bucket could not be looked at", &e, "try again");
    let mut seals = BTreeMap::new();
    let mut from = Some(ListFrom::Start);
    while let Some(at) = from.take() {
        let (bucket, prefix) = (BUCKET.to_owned(), String::new());
        let request = ListRequest { bucket, prefix, versions: false, from: at, limit: 1000, with_facts: false };
        let page = model.list(request).await.map_err(broke)?;
        let heads = stream::iter(
            page.entries
                .into_iter()
                .map(|entry| async move { model.head(HeadRequest::of(&ObjectAt::current(BUCKET, entry.key))).await }),
        );
        for head in heads.buffered(32).collect::<Vec<_>>().await {
            let seal = match head {
                Ok(object) => object.sse.seal().to_string(),
                Err(error) if error.kind == ErrorKind::CustomerKey => "sse-c".to_owned(),
                Err(error) => return Err(broke(error)),
            };
            *seals.entry(seal).or_default() += 1;
        }
        from = page.next;
    }
    Ok(seals)
}

fn changes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["encryption, by HEAD of every object", "before", "after"]);
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let count = |of: &BTreeMap<String, u64>, name: &str| of.get(name).copied().unwrap_or(0).to_string();
    for name in names {
        table.add_row([name.clone(), count(before, name), count(after, name)]);
    }
    for column in 1..=2 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[expect(clippy::print_stdout, reason = "the show is the output")]
fn say_where_to_look(args: &DemoArgs, dir: &Path) {
    if args.keep.is_none() {
        println!("All of it was in a temporary folder that is gone now. `demo --keep DIR` leaves it there to look at.");
        return;
    }
    let dir = dir.display();
    let mode = args.mode.to_possible_value().map_or(String::new(), |mode| format!(" --mode {}", mode.get_name()));
    println!("Look for yourself:");
    println!(
        "    keyrotate devstack --dir {dir}/stack{mode}     # serves the store and prints what to export; then, say,"
    );
    println!("    aws s3api head-object --bucket {BUCKET} --key photos/000000.png");
    if args.fleet {
        println!("The report is in that store, too, below s3://{REPORTS}/; what each process said is in {dir}/*.log");
        return;
    }
    println!("The rows of the report: `zcat {dir}/state/*/{BUCKET}/jobs/*/report/*.csv.gz | head`");
}

fn mode_name(mode: ModeArg) -> &'static str {
    match mode {
        ModeArg::Aws => "as AWS S3 is",
        ModeArg::Minio => "as MinIO is",
        ModeArg::Moto => "as moto's server is",
        ModeArg::Rgw => "as Ceph RGW is",
    }
}
