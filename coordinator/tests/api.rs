//! A whole job through the API alone: submitted as a file, followed as a stream, read as a report.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use keyrotate_checkpoint::record::ProbePlace;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_config::Limits;
use keyrotate_coordinator::api::{Api, NamedStore, Site};
use keyrotate_coordinator::{Coordinator, CoordinatorConfig, TicketsOut};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::mixed;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::api::{FailedPage, JobStatus, ReportFiles, Submitted};
use keyrotate_queue::{DEFAULT_STORE, MemoryQueue};
use keyrotate_report::finish::Summary;
use keyrotate_report::root::FolderRoot;
use keyrotate_store::{Body as Bytes, NewObject, ObjectAt, Store};
use keyrotate_worker::{Permits, Site as WorkSite, SliceLimits, Worker, WorkerConfig};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const OBJECTS: u64 = 60;
/// Objects that only their owner can open: exceptions.
const OWNED: usize = 7;
const JOB: &str = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: key-b}}";

/// A fleet in this process, and the API of its coordinator.
async fn fleet(dir: &tempfile::TempDir) -> Router {
    let env = Env::seeded(5, Timestamp::from_second(1_800_000_000).unwrap());
    let kes = KesModel::new(env.clone());
    for key in ["key-a", "key-b"] {
        kes.create_key(key).await.unwrap();
    }
    let store = StoreModel::new(Mode::aws(), Arc::new(kes.clone()), env.clone());
    store.create_bucket("bucket", BucketSettings::plain()).unwrap();
    mixed::seed(&store, "bucket", OBJECTS, "key-a", "key-b").await.unwrap();
    for n in 0..OWNED {
        let at = ObjectAt::current("bucket", format!("owned/{n}"));
        store.seed_sse_c(&at, NewObject::default(), Bytes::Bytes("theirs".into())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
    let reports = Arc::new(FolderRoot::new(dir.path()));
    let queue = Arc::new(MemoryQueue::new(64));
    let identity = store.identity().0.clone();
    let site = WorkSite {
        stores: WorkSite::one_store(Arc::new(store)),
        kms: Some(Arc::new(kes)),
        reports: reports.clone(),
        ledger: ledger.clone(),
        queue: queue.clone(),
    };
    let config = WorkerConfig {
        owner: "w1".into(),
        slots: 2,
        permits: Permits::new(6, Some(20.0)),
        limits: SliceLimits { window_rows: 5, ..SliceLimits::default() },
        probe_part: 5 << 20,
        default_key: None,
        confirmed: false,
        local_files: false,
    };
    let worker = Arc::new(Worker::new(site, config, env.clone()));
    let stop = CancellationToken::new();
    tokio::spawn({
        let (worker, stop) = (Arc::clone(&worker), stop.clone());
        async move { worker.announce(stop).await }
    });
    tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await.unwrap() }
    });
    let config = CoordinatorConfig { shards: 4, tickets_out: TicketsOut::TwiceTheSlots, ..Default::default() };
    let coordinator = Coordinator::new(ledger.clone(), queue, reports.clone(), config);
    tokio::spawn(async move { coordinator.run_among_others("c1", stop).await });
    let store = NamedStore { name: DEFAULT_STORE.into(), identity: Some(identity), probes: ProbePlace::default() };
    let site = Site {
        ledger,
        reports,
        reports_at: None,
        dead: None,
        sealer: None,
        allow_private_notify: false,
        stores: vec![store],
        env,
    };
    Api::new(site, Vec::new(), true, &Limits { rate: 1000, ..Limits::default() }).router(64 << 10)
}

async fn ask(api: &Router, method: &str, path: &str, body: &str) -> Vec<u8> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "application/yaml").body(Body::from(body.to_owned())).unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    assert!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&body));
    body
}

#[tokio::test(start_paused = true)]
async fn a_job_is_submitted_followed_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let api = fleet(&dir).await;
    let begun: Submitted = serde_json::from_slice(&ask(&api, "POST", "/v1/jobs", JOB).await).unwrap();
    let at = |what: &str| format!("/v1/jobs/{}{what}", begun.id);
    // The stream ends by itself when the job does.
    let stream = tokio::time::timeout(Duration::from_secs(3600), ask(&api, "GET", &at("/events"), "")).await.unwrap();
    let stream = String::from_utf8(stream).unwrap();
    let heard: Vec<JobStatus> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|d| serde_json::from_str(d).unwrap())
        .collect();
    assert!(heard.iter().any(|status| status.job.state == "running" && !status.workers.is_empty()), "{stream}");
    assert!(heard.iter().any(|status| status.objects_per_second.is_some_and(|rate| rate > 0.0)), "{stream}");
    assert!(heard.windows(2).all(|pair| pair[0].scanned <= pair[1].scanned), "{stream}");
    let last = heard.last().unwrap();
    assert_eq!((last.job.state.as_str(), last.exit_code, last.report), ("completed", Some(3), true));
    assert_eq!(last.scanned, OBJECTS + OWNED as u64);
    assert_eq!(last.outcomes.values().sum::<u64>(), last.scanned);
    let status: JobStatus = serde_json::from_slice(&ask(&api, "GET", &at(""), "").await).unwrap();
    assert_eq!((status.scanned, &status.outcomes), (last.scanned, &last.outcomes));
    let summary = ask(&api, "GET", &at("/report"), "").await;
    let summary: Summary = serde_json::from_slice(&summary).unwrap();
    assert_eq!((summary.scanned, summary.checkpoint_counts), (last.scanned, None));
    let files: ReportFiles = serde_json::from_slice(&ask(&api, "GET", &at("/report/files"), "").await).unwrap();
    assert!(files.files.len() >= 3 && files.files.iter().map(|file| file.rows).sum::<u64>() > last.scanned);
    for file in &files.files {
        let bytes = ask(&api, "GET", &at(&format!("/report/files/{}", file.name)), "").await;
        assert_eq!((bytes.len() as u64, hex::encode(Sha256::digest(&bytes))), (file.bytes, file.sha256.clone()));
    }
    let csv = String::from_utf8(ask(&api, "GET", &at("/report?format=csv"), "").await).unwrap();
    assert_eq!(csv.lines().count() as u64, 1 + last.scanned, "one heading, one line for each version");
    let html = String::from_utf8(ask(&api, "GET", &at("/report?format=html"), "").await).unwrap();
    assert!(html.matches("<svg").count() == 3 && html.contains("sse-c"), "{html}");
    // What could not be done comes in pages, each row once and in key order, however small the pages are.
    for limit in [1, 3, 1000] {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let path = at(&format!("/failed?limit={limit}{after}"));
            let page: FailedPage = serde_json::from_slice(&ask(&api, "GET", &path, "").await).unwrap();
            assert!(page.rows.iter().all(|row| row.outcome == "skipped" && row.reason == "sse-c"), "{page:?}");
            keys.extend(page.rows.into_iter().map(|row| row.key));
            let Some(next) = page.next else { break };
            after = format!("&after={next}");
        }
        let owned: Vec<_> = (0..OWNED).map(|n| format!("owned/{n}")).collect();
        assert_eq!(keys, owned, "pages of {limit}");
    }
}

/// An API over the same reports, whose checkpoint has lost everything.
fn api_after_a_loss(dir: &tempfile::TempDir) -> Router {
    let env = Env::seeded(6, Timestamp::from_second(1_800_100_000).unwrap());
    let site = Site {
        ledger: Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone()),
        reports: Arc::new(FolderRoot::new(dir.path())),
        reports_at: None,
        dead: None,
        sealer: None,
        allow_private_notify: false,
        stores: Vec::new(),
        env,
    };
    Api::new(site, Vec::new(), true, &Limits { rate: 1000, ..Limits::default() }).router(64 << 10)
}

#[tokio::test(start_paused = true)]
async fn an_ended_job_is_known_when_the_checkpoint_has_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let api = fleet(&dir).await;
    let begun: Submitted = serde_json::from_slice(&ask(&api, "POST", "/v1/jobs", JOB).await).unwrap();
    let at = |what: &str| format!("/v1/jobs/{}{what}", begun.id);
    ask(&api, "GET", &at("/events"), "").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let again = api_after_a_loss(&dir);
    for what in ["", "/describe", "/report", "/report/files", "/failed?limit=1000"] {
        let (before, after) = (ask(&api, "GET", &at(what), "").await, ask(&again, "GET", &at(what), "").await);
        assert_eq!(String::from_utf8(after).unwrap(), String::from_utf8(before).unwrap(), "{what}");
    }
    assert_eq!(ask(&again, "GET", "/v1/jobs", "").await, ask(&api, "GET", "/v1/jobs", "").await);
    let events = ask(&again, "GET", &at("/events"), "").await;
    assert!(String::from_utf8(events).unwrap().contains("event: end"));
    let cancel = Request::builder().method("POST").uri(at("/cancel")).header("host", "localhost");
    let cancel = again.clone().oneshot(cancel.body(Body::empty()).unwrap()).await.unwrap();
    assert!(cancel.status().is_client_error(), "{}", cancel.status());
}
