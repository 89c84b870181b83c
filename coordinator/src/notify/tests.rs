//! The news of a job's end, against a server of our own.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use keyrotate_checkpoint::record::JobResult;
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_env::Env;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_queue::MemoryQueue;
use keyrotate_report::root::FolderRoot;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Coordinator, CoordinatorConfig};

/// What came, and what is answered to the next ones; 200 behind them.
#[derive(Clone, Default)]
struct Receiver {
    came: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    async fn listen(&self, path: &str) -> String {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let receiver = self.clone();
        let take = post(async move |headers: HeaderMap, body: String| {
            receiver.came.lock().unwrap().push((headers, serde_json::from_str(&body).unwrap()));
            let status = receiver.answers.lock().unwrap().pop().unwrap_or(200);
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("location", "/elsewhere")]).into_response()
        });
        let router = Router::new().route(path, take);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn came(&self) -> Vec<(HeaderMap, Value)> {
        self.came.lock().unwrap().clone()
    }
}

fn job(env: &Env, endpoint: &str) -> JobRecord {
    let text = format!(
        "keyrotate: {{apiVersion: v1, bucket: bucket, encryption: {{key: k}}, flags: {{notify: {{endpoint: '{endpoint}'}}}}}}"
    );
    let options = keyrotate_proto::job::ParseOptions { allow_private_notify: true, scope: None };
    let spec = keyrotate_proto::job::parse_with(text.as_bytes(), "job.yaml", options).unwrap().spec;
    let id = JobId::new(1, [1; 10]);
    JobRecord::new(id, spec, "s".into(), Nonce("n".into()), "me".into(), env.now())
}

#[tokio::test]
async fn the_news_carry_the_token_and_the_jobs_id_as_key() {
    let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
    let receiver = Receiver::default();
    let sealer = Sealer::new(None, None, dir.path().join("key"), env.clone());
    let mut job = job(&env, &receiver.listen("/hook").await);
    job.sealed_token = Some(sealer.seal("Bearer s3cr3t").await.unwrap());
    let mut counts = keyrotate_proto::outcome::Counts::default();
    counts.by_outcome.insert(Outcome::Rotated(keyrotate_proto::outcome::Evidence::Key), 7);
    counts.by_outcome.insert(Outcome::Conflict, 2);
    job.result = Some(JobResult { counts, ended: env.now(), report: Some("ends/n-1/summary.json".into()) });
    job.state = JobState::Completed;
    Notifier::new(Some(sealer), true).tell(&job).await.unwrap();
    let (headers, body) = receiver.came().remove(0);
    assert_eq!(headers["authorization"], "Bearer s3cr3t");
    assert_eq!(headers["idempotency-key"], job.id.as_str());
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(body["jobID"], job.id.as_str());
    assert_eq!((&body["objects"], &body["objectsFailed"], &body["attempts"]), (&json!(7), &json!(2), &json!(9)));
    assert_eq!(
        (&body["complete"], &body["failed"], &body["state"]),
        (&json!(true), &json!(false), &json!("completed"))
    );
    assert_eq!(body["report"], "ends/n-1/summary.json");
    assert!(!body.to_string().contains("s3cr3t"));

    let shut = Notifier::new(None, true).tell(&job).await;
    assert!(matches!(shut, Err(NotifyError::Sealed)), "it must not be told without its token: {shut:?}");
}

#[tokio::test]
async fn private_addresses_and_redirects_are_not_followed() {
    let env = Env::system();
    let receiver = Receiver::default();
    let url = receiver.listen("/hook").await;
    // A name that leads to this machine, as anybody's name may.
    let named = url.replace("127.0.0.1", "localhost");
    for url in [&url, &named] {
        let refused = Notifier::new(None, false).tell(&job(&env, url)).await;
        assert!(matches!(refused, Err(NotifyError::Private(_))), "{refused:?}");
    }
    assert_eq!(receiver.came().len(), 0);
    receiver.answers.lock().unwrap().push(307);
    let refused = Notifier::new(None, true).tell(&job(&env, &url)).await;
    assert!(matches!(refused, Err(NotifyError::Refused(307))), "{refused:?}");
    assert_eq!(receiver.came().len(), 1);
    Notifier::new(None, true).tell(&job(&env, &named)).await.unwrap();
}

/// Told until it is taken, then never again; also by a coordinator that comes later.
#[tokio::test]
async fn the_end_is_told_until_it_is_taken() {
    let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
    let receiver = Receiver::default();
    receiver.answers.lock().unwrap().extend([500, 503]);
    let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
    let record = job(&env, &receiver.listen("/hook").await);
    let id = record.id.clone();
    ledger.begin_job(record).await.unwrap();
    ledger.update_job(&id, transition::cancel).await.unwrap();
    let work = async |until: usize| {
        let config = CoordinatorConfig { clean_limit: Duration::ZERO, ..CoordinatorConfig::default() };
        let (queue, reports) = (Arc::new(MemoryQueue::new(8)), Arc::new(FolderRoot::new(dir.path())));
        let coordinator = Coordinator::new(ledger.clone(), queue, reports, config);
        let stop = CancellationToken::new();
        let working = tokio::spawn(coordinator.with_notifier(Notifier::new(None, true)).run(stop.clone()));
        for _ in 0..200 {
            if receiver.came().len() >= until && (until < 3 || !ledger.is_settling(&id).await.unwrap()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.cancel();
        working.await.unwrap();
    };
    work(1).await;
    assert!(ledger.is_settling(&id).await.unwrap(), "it was told, and not taken");
    work(3).await;
    let came = receiver.came();
    assert_eq!(came.len(), 3);
    assert!(
        came.iter().all(|(headers, body)| headers["idempotency-key"] == id.as_str() && body["state"] == "cancelled")
    );
    let job = ledger.job(&id).await.unwrap();
    assert!(job.notified.is_some_and(|notified| notified.delivered));
    work(3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.came().len(), 3, "it was told again");
}
