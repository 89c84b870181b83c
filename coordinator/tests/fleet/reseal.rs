//! Secrets in records, when the key that seals them is rotated.

use std::sync::Arc;

use keyrotate_checkpoint::record::JobRecord;
use keyrotate_coordinator::Coordinator;
use keyrotate_coordinator::notify::Notifier;
use keyrotate_coordinator::sealed::Sealer;
use keyrotate_kms::Kms;
use keyrotate_report::ReportRoot as _;
use keyrotate_report::finish::Summary;
use tokio_util::sync::CancellationToken;

use crate::world::{Process, World};

#[tokio::test(start_paused = true)]
async fn a_job_to_the_key_that_seals_takes_the_secrets_of_other_jobs_along() {
    let world = World::new(41, 60).await;
    let folder = tempfile::tempdir().unwrap();
    let sealer = |key: &str| {
        let kms = Arc::new(world.kes.clone()) as Arc<dyn Kms>;
        Sealer::new(Some(kms), Some(key.to_owned()), folder.path().join("key"), world.env.clone())
    };
    // One that nobody works on, and the one that is worked on, whose token does not open.
    let waiting = world.submit_to("other-bucket", "elsewhere", "pauseLimit: 10m").await;
    let job = world.submit_on("0", 9).await;
    let old = sealer("key-a").seal("Bearer s3cr3t").await.unwrap();
    let with_token =
        |token: String| move |job: &JobRecord, _| Ok(JobRecord { sealed_token: Some(token.clone()), ..job.clone() });
    world.ledger.update_job(&waiting, with_token(old.clone())).await.unwrap();
    world.ledger.update_job(&job, with_token(old.replace("key-a", "key-0"))).await.unwrap();
    let coordinator =
        Coordinator::new(world.ledger.clone(), world.queue.clone(), world.reports.clone(), world.settings())
            .with_notifier(Notifier::new(Some(sealer("key-b")), false));
    let coordinating = tokio::spawn(coordinator.run(CancellationToken::new()));
    let worker = world.worker("w1");
    world.until(&job, |job| job.state.is_ended()).await;
    let record = world.job(&job).await;
    let name = record.result.unwrap().report.unwrap();
    let summary: Summary = serde_json::from_slice(&world.reports.of(&job).unwrap().get(&name).await.unwrap()).unwrap();
    let notes = summary.notes.join("\n");
    assert!(notes.contains("1 notify token was sealed anew in the records of jobs, under `key-b`"), "{notes}");
    assert!(notes.contains(&format!("not sealed anew: job {job}: its notify token does not open")), "{notes}");
    world.kes.delete_key("key-a").unwrap();
    let token = world.job(&waiting).await.sealed_token.unwrap();
    assert_eq!(sealer("key-b").open(&token).await.as_deref().map(String::as_str), Some("Bearer s3cr3t"));
    assert!(sealer("key-b").open(&old).await.is_none(), "the old one would still be needed");
    coordinating.abort();
    Process::kill(&worker);
}
