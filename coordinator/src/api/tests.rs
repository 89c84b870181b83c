//! Every route, asked in process: roles, scopes, limits, problems, and that the document says what happens.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use keyrotate_checkpoint::MemoryBackend;
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_proto::api::{DeadLetterList, JobList, JobStatus, Problem as ProblemBody, Requeued, Submitted};
use keyrotate_proto::id::{PassId, ShardId, ShardRef};
use keyrotate_proto::spec::{JobSpec, Manifest};
use keyrotate_proto::state::{JobState, PassKind, PauseReason, StopReason};
use keyrotate_proto::ticket::{TICKET_VERSION, Ticket};
use keyrotate_queue::{DeadLetter, QueueError};
use keyrotate_report::root::FolderRoot;
use tower::ServiceExt as _;

use super::*;

mod people;

const JOB: &str = "keyrotate: {apiVersion: v1, bucket: bucket, prefix: a/, encryption: {key: k}}";

struct Stand {
    api: Arc<Api>,
    router: Router,
    document: Value,
    tokens: BTreeMap<&'static str, String>,
    dead: Arc<Dead>,
    dir: tempfile::TempDir,
}

/// A broker's dead letters.
#[derive(Debug, Default)]
struct Dead(std::sync::Mutex<Vec<DeadLetter>>);

#[async_trait::async_trait]
impl DeadLetters for Dead {
    async fn list(&self, most: usize) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.0.lock().unwrap().iter().take(most).cloned().collect())
    }

    async fn remove(&self, ids: &BTreeSet<String>) -> Result<usize, QueueError> {
        let mut letters = self.0.lock().unwrap();
        let before = letters.len();
        letters.retain(|letter| !ids.contains(&letter.id));
        Ok(before - letters.len())
    }
}

fn store(name: &str, identity: Option<&str>) -> NamedStore {
    NamedStore { name: name.into(), identity: identity.map(str::to_owned), probes: ProbePlace::default() }
}

fn stand_with(limits: &Limits, stores: Vec<NamedStore>) -> Stand {
    let (env, dir) = (Env::system(), tempfile::tempdir().unwrap());
    let mut tokens = BTreeMap::new();
    let mut entries = Vec::new();
    let scoped = vec!["bucket/a/".parse().unwrap()];
    for (name, role, scopes) in [
        ("view", Role::View, Vec::new()),
        ("operate", Role::Operate, Vec::new()),
        ("admin", Role::Admin, Vec::new()),
        ("scoped", Role::Operate, scoped),
    ] {
        let (token, entry) = TokenEntry::make(name.parse().unwrap(), role, scopes, None, &env);
        tokens.insert(name, token.expose().to_owned());
        entries.push(entry);
    }
    let dead = Arc::new(Dead::default());
    let site = Site {
        ledger: Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone()),
        reports: Arc::new(FolderRoot::new(dir.path().join("reports"))),
        reports_at: Some(ReportsAt { store: "s".into(), bucket: "reports".into(), prefix: "k/".into() }),
        dead: Some(dead.clone()),
        sealer: Some(Sealer::new(None, None, dir.path().join("secret.key"), env.clone())),
        allow_private_notify: false,
        stores,
        env,
    };
    let api = Api::new(site, entries, true, limits);
    let (router, document) = (api.router(1000), api.document());
    Stand { api, router, document, tokens, dead, dir }
}

fn stand() -> Stand {
    stand_with(&Limits { rate: 1000, ..Limits::default() }, vec![store("default", Some("s"))])
}

impl Stand {
    async fn send(&self, method: &str, path: &str, with: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
        for (name, value) in with {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let status = response.status();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(kind.as_deref(), Some("application/problem+json"), "{method} {path}: {body}");
            let problem: ProblemBody = serde_json::from_str(&body).unwrap();
            assert_eq!(problem.status, status.as_u16());
            assert!(problem.kind.starts_with("urn:keyrotate:problem:"));
        }
        self.must_be_documented(method, path, status.as_u16());
        (status.as_u16(), body)
    }

    /// What happens is what the document says can happen.
    fn must_be_documented(&self, method: &str, path: &str, status: u16) {
        let path = path.split('?').next().unwrap();
        let same = |template: &str| {
            let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            let rest = template.last() == Some(&"{name}") && path.len() >= template.len();
            (rest || template.len() == path.len())
                && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
        };
        let paths = self.document["paths"].as_object().unwrap();
        let Some((_, methods)) = paths.iter().find(|(template, _)| same(template)) else { return };
        let Some(operation) = methods.get(method) else { return };
        let said = operation["responses"].get(status.to_string()).is_some();
        // A submit that came before answers 200 with the same body.
        let again = method == "post" && path == "/v1/jobs" && status == 200;
        assert!(said || again, "{method} {path} answered {status}, and the document does not know");
    }

    async fn ask(&self, who: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let token = format!("Bearer {}", self.tokens[who]);
        let kind = if method == "patch" { "application/json" } else { "application/yaml" };
        self.send(method, path, &[("authorization", &token), ("content-type", kind)], body).await
    }

    async fn submit(&self, file: &str) -> JobId {
        let (status, body) = self.ask("operate", "post", "/v1/jobs", file).await;
        assert_eq!(status, 201, "{body}");
        serde_json::from_str::<Submitted>(&body).unwrap().id
    }

    async fn status(&self, id: &JobId) -> JobStatus {
        let (status, body) = self.ask("view", "get", &format!("/v1/jobs/{id}"), "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn record(&self, id: &JobId) -> JobRecord {
        self.api.site.ledger.job(id).await.unwrap()
    }
}

fn problem(body: &str) -> ProblemBody {
    serde_json::from_str(body).unwrap()
}

#[test]
fn the_document_is_the_one_that_is_shipped() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let shown = runtime.block_on(async { format!("{:#}\n", stand().document) });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &shown).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap_or_default();
    assert!(shown == shipped, "docs/openapi.json is not what the code says; UPDATE_OPENAPI=1 writes it anew");
    // Every reference leads somewhere.
    let document: Value = serde_json::from_str(&shown).unwrap();
    for found in shown.split("\"#/").skip(1) {
        let pointer = format!("/{}", found.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn every_route_is_there_and_wants_its_role() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let roles = [("view", Role::View), ("operate", Role::Operate), ("admin", Role::Admin)];
    for (path, methods) in stand.document["paths"].as_object().unwrap().clone() {
        let path = path.replace("{id}", id.as_str()).replace("{name}", "summary.json");
        for (method, operation) in methods.as_object().unwrap() {
            let Some(wanted) = operation.get("x-role").and_then(Value::as_str) else {
                let (status, body) = stand.send(method, &path, &[], "").await;
                assert_eq!(status, 200, "{path}: {body}");
                continue;
            };
            let wanted = roles.iter().find(|(name, _)| *name == wanted).unwrap().1;
            assert_eq!(stand.send(method, &path, &[], "").await.0, 401, "{method} {path}");
            for shown in ["Bearer kr_wrong", "Basic kr_wrong", "Bearer"] {
                assert_eq!(stand.send(method, &path, &[("authorization", shown)], "").await.0, 401, "{method} {path}");
            }
            for (name, role) in roles {
                if path.ends_with("/events") && role >= wanted {
                    continue; // It has no end.
                }
                let (status, body) = stand.ask(name, method, &path, "").await;
                assert_eq!(status == 403, role < wanted, "{method} {path} as {name}: {status} {body}");
                assert_ne!(status, 401);
                assert_ne!(status, 405);
            }
        }
    }
    assert_eq!(stand.send("get", "/v1/nothing", &[], "").await.0, 404);
    assert_eq!(stand.send("delete", "/v1/jobs", &[], "").await.0, 405);
}

#[tokio::test]
async fn without_tokens_only_programs_of_this_machine_are_answered() {
    let stand = stand();
    stand.api.set_tokens(Vec::new());
    let ask = |headers: Vec<(&'static str, &'static str)>| {
        let stand = &stand;
        async move { stand.send("get", "/v1/jobs", &headers, "").await.0 }
    };
    for host in ["localhost:7474", "127.0.0.1", "127.0.0.1:7474", "[::1]:7474", "[::1]"] {
        assert_eq!(ask(vec![("host", host)]).await, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "", "10.0.0.1", "[::2]:1"] {
        assert_eq!(ask(vec![("host", host)]).await, 403, "{host}");
    }
    assert_eq!(ask(vec![("host", "localhost"), ("origin", "https://evil.example")]).await, 403);
}

#[tokio::test]
async fn a_job_file_becomes_a_job() {
    let stand = stand();
    let token = stand.tokens["operate"].clone();
    let bearer = format!("Bearer {token}");
    let file = r#"{"keyrotate": {"apiVersion": "v1", "bucket": "bucket", "encryption": {},
        "flags": {"notify": {"endpoint": "https://n.example", "token": "Bearer s3cr3t"}}}}"#;
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json; charset=utf-8")];
    let (status, body) = stand.send("post", "/v1/jobs?store=default&confirm=true&priority=7", &headers, file).await;
    assert_eq!(status, 201, "{body}");
    let id = serde_json::from_str::<Submitted>(&body).unwrap().id;
    let job = stand.record(&id).await;
    assert_eq!((job.user.as_str(), job.store.as_str(), job.store_name.as_str()), ("operate", "s", "default"));
    assert!(job.confirmed && (job.limits.priority, job.limits.weight) == (7, 1));
    let stored = serde_json::to_string(&job).unwrap();
    assert!(!stored.contains("s3cr3t") && !stored.contains(&hex::encode("s3cr3t")));
    let opened = stand.api.site.sealer.as_ref().unwrap().open(job.sealed_token.as_deref().unwrap()).await;
    assert_eq!(opened.as_deref().map(String::as_str), Some("Bearer s3cr3t"));
    let (_, resealed) = stand.ask("admin", "post", "/v1/reseal", "").await;
    assert_eq!(serde_json::from_str::<body::Resealed>(&resealed).unwrap().resealed, 1, "{resealed}");
    let anew = stand.record(&id).await.sealed_token.unwrap();
    assert_ne!(Some(&anew), job.sealed_token.as_ref());
    let opened = stand.api.site.sealer.as_ref().unwrap().open(&anew).await;
    assert_eq!(opened.as_deref().map(String::as_str), Some("Bearer s3cr3t"));
    let (_, described) = stand.ask("view", "get", &format!("/v1/jobs/{id}/describe"), "").await;
    assert!(described.contains("n.example") && !described.contains("s3cr3t"), "{described}");
    let (_, body) = stand.ask("operate", "post", "/v1/jobs", JOB).await;
    let overlap = problem(&body);
    assert_eq!((overlap.status, overlap.job), (409, Some(id)));
}

#[tokio::test]
async fn a_wrong_submit_is_told_all_that_is_wrong() {
    let stand = stand();
    let file = "keyrotate:\n  apiVersion: v1\n  buckt: b\n  encryption: {}\n  flags: {retry: {attempts: x}}\n";
    let (status, body) = stand.ask("operate", "post", "/v1/jobs", file).await;
    let found = problem(&body);
    assert_eq!((status, found.kind.as_str()), (422, "urn:keyrotate:problem:job-file"));
    let lines: Vec<_> = found.errors.iter().map(|error| (error.line, error.path.as_str())).collect();
    assert!(
        lines.contains(&(3, "keyrotate.buckt")) && lines.contains(&(5, "keyrotate.flags.retry.attempts")),
        "{body}"
    );
    assert!(found.errors.iter().any(|error| error.hint.as_deref() == Some("did you mean `bucket`?")));
    let late = JOB.replace("encryption: {key: k}", "encryption: {key: k}, flags: {filter: {createdAfter: 2999-01-01}}");
    let (status, body) = stand.ask("operate", "post", "/v1/jobs", &late).await;
    assert_eq!((status, problem(&body).errors.len()), (422, 1), "{body}");
    let token = format!("Bearer {}", stand.tokens["operate"]);
    for (kind, status) in [("text/plain", 415), ("", 415), ("application/x-www-form-urlencoded", 415)] {
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        assert_eq!(stand.send("post", "/v1/jobs", &headers, JOB).await.0, status, "{kind}");
    }
    for (query, status) in
        [("store=x", 422), ("priority=1000", 400), ("weight=0", 400), ("color=red", 400), ("confirm=perhaps", 400)]
    {
        let (got, body) = stand.ask("operate", "post", &format!("/v1/jobs?{query}"), JOB).await;
        assert_eq!(got, status, "{query}: {body}");
    }
    assert_eq!(stand.ask("operate", "post", "/v1/jobs", &"#".repeat(2000)).await.0, 413);
    let reports = JOB.replace("bucket: bucket, prefix: a/", "bucket: reports, prefix: k/x/");
    assert!(stand.ask("operate", "post", "/v1/jobs", &reports).await.1.contains("reports of all jobs"));
    assert!(stand.api.site.ledger.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn of_several_stores_one_is_named() {
    let stores = vec![store("eu", Some("s")), store("aws", None)];
    let stand = stand_with(&Limits { rate: 1000, ..Limits::default() }, stores);
    let (status, body) = stand.ask("operate", "post", "/v1/jobs", JOB).await;
    assert_eq!((status, problem(&body).hint.unwrap().as_str()), (422, "known: `eu`, `aws`; name one as `store`"));
    assert_eq!(stand.ask("operate", "post", "/v1/jobs?store=aws", JOB).await.0, 409, "nobody knows its account yet");
    let worker = keyrotate_checkpoint::record::WorkerRecord {
        version: keyrotate_checkpoint::record::RECORD_VERSION,
        owner: "w".into(),
        stores: BTreeMap::from([("aws".to_owned(), "aws:aws:1234".to_owned())]),
        slots: 2,
        seen: stand.api.site.env.now(),
        done: Default::default(),
    };
    stand.api.site.ledger.worker_lives(&worker, &BTreeSet::new()).await.unwrap();
    let (status, body) = stand.ask("operate", "post", "/v1/jobs?store=aws", JOB).await;
    assert_eq!(status, 201, "{body}");
    let id = serde_json::from_str::<Submitted>(&body).unwrap().id;
    assert_eq!(stand.record(&id).await.store, "aws:aws:1234");
    let (_, body) = stand.ask("admin", "get", "/v1/workers", "").await;
    let workers: body::WorkerList = serde_json::from_str(&body).unwrap();
    assert_eq!((workers.workers[0].name.as_str(), workers.workers[0].stores.len()), ("w", 1));
    let (status, body) = stand.ask("operate", "post", "/v1/jobs?store=eu", JOB).await;
    assert_eq!(status, 201);
    let id = serde_json::from_str::<Submitted>(&body).unwrap().id;
    assert_eq!(stand.record(&id).await.store_name, "eu");
}

#[tokio::test]
async fn a_file_of_several_buckets_is_submitted_once_for_each() {
    let stand = stand();
    let file = "keyrotate: {apiVersion: v1, buckets: [bucket/a/, 'logs-*'], encryption: {key: k}}";
    let token = format!("Bearer {}", stand.tokens["operate"]);
    let post = |query: String| {
        let (stand, token) = (&stand, token.as_str());
        let headers = [("authorization", token), ("content-type", "application/yaml"), ("idempotency-key", "k-1")];
        async move { stand.send("post", &format!("/v1/jobs{query}"), &headers, file).await }
    };
    for (query, status) in [
        ("", 400),
        ("?prefix=a%2F", 400),
        ("?bucket=bucket", 422),
        ("?bucket=other", 422),
        ("?bucket=logs-x&group=01m80khdbhdmdvx72mhfk8cdj4", 404),
    ] {
        let (got, body) = post(query.to_owned()).await;
        assert_eq!(got, status, "{query}: {body}");
    }
    let id = |(status, body): (u16, String), wanted: u16| {
        assert_eq!(status, wanted, "{body}");
        serde_json::from_str::<Submitted>(&body).unwrap().id
    };
    let first = id(post("?bucket=bucket&prefix=a%2F".to_owned()).await, 201);
    let second = id(post(format!("?bucket=logs-x&prefix=&group={first}")).await, 201);
    assert_eq!(id(post(format!("?bucket=logs-x&prefix=&group={first}")).await, 200), second);
    let record = stand.record(&second).await;
    assert_eq!((&*record.spec.bucket, &*record.spec.prefix, record.group), ("logs-x", "", Some(first.clone())));
    let (_, body) = stand.ask("view", "get", "/v1/jobs", "").await;
    let list: body::JobList = serde_json::from_str(&body).unwrap();
    let groups: Vec<_> = list.jobs.into_iter().map(|job| (job.id, job.group)).collect();
    assert_eq!(groups, [(first.clone(), None), (second, Some(first))]);
    assert_eq!(stand.ask("scoped", "post", "/v1/jobs?bucket=logs-y", file).await.0, 403);
    assert_eq!(stand.ask("operate", "post", "/v1/jobs?bucket=logs-y", JOB).await.0, 422);
}

#[tokio::test]
async fn the_same_key_begins_one_job() {
    let stand = stand();
    let token = format!("Bearer {}", stand.tokens["operate"]);
    let post = |file: &'static str, path: &'static str| {
        let (stand, token) = (&stand, token.as_str());
        let headers = [("authorization", token), ("content-type", "application/yaml"), ("idempotency-key", "k-1")];
        async move { stand.send("post", path, &headers, file).await }
    };
    // Two at once, and one more: one job, and all hear its name.
    let (a, b) = tokio::join!(post(JOB, "/v1/jobs"), post(JOB, "/v1/jobs"));
    let c = post(JOB, "/v1/jobs").await;
    let ids: Vec<_> = [&a, &b, &c].map(|(_, body)| serde_json::from_str::<Submitted>(body).unwrap().id).into();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let mut statuses = [a.0, b.0];
    statuses.sort_unstable();
    assert_eq!((statuses, c.0), ([200, 201], 200));
    assert_eq!(stand.api.site.ledger.jobs().await.unwrap().len(), 1);
    let other = "keyrotate: {apiVersion: v1, bucket: bucket, prefix: b/, encryption: {key: k}}";
    for (file, path) in [(other, "/v1/jobs"), (JOB, "/v1/jobs?priority=1")] {
        let (status, body) = post(file, path).await;
        let found = problem(&body);
        assert_eq!((status, found.kind.as_str()), (422, "urn:keyrotate:problem:idempotency-key-reused"));
        assert_eq!(found.job.as_ref(), Some(&ids[0]));
    }
    // Another's key is another key.
    let admin = format!("Bearer {}", stand.tokens["admin"]);
    let headers = [("authorization", admin.as_str()), ("content-type", "application/yaml"), ("idempotency-key", "k-1")];
    assert_eq!(stand.send("post", "/v1/jobs", &headers, other).await.0, 201);
    let empty = [("authorization", admin.as_str()), ("content-type", "application/yaml"), ("idempotency-key", "")];
    assert_eq!(stand.send("post", "/v1/jobs", &empty, other).await.0, 400);
}

#[tokio::test]
async fn outside_of_the_scopes_there_is_no_job() {
    let stand = stand();
    let inside = stand.submit(JOB).await;
    let outside = stand.submit(&JOB.replace("prefix: a/", "prefix: b/")).await;
    let (_, body) = stand.ask("scoped", "get", "/v1/jobs", "").await;
    let listed: JobList = serde_json::from_str(&body).unwrap();
    assert_eq!(listed.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&inside]);
    for (path, methods) in stand.document["paths"].as_object().unwrap().clone() {
        if !path.contains("{id}") {
            continue;
        }
        for id in [outside.as_str(), "00000000000000000000000000", "nothing", "%2e%2e"] {
            let path = path.replace("{id}", id).replace("{name}", "summary.json");
            for method in methods.as_object().unwrap().keys() {
                let (status, body) = stand.ask("scoped", method, &path, "{}").await;
                assert_eq!(status, 404, "{method} {path}: {body}");
            }
        }
    }
    assert_eq!(stand.ask("scoped", "get", &format!("/v1/jobs/{inside}"), "").await.0, 200);
    let file = JOB.replace("prefix: a/", "prefix: c/");
    assert_eq!(stand.ask("scoped", "post", "/v1/jobs", &file).await.0, 403);
    assert_eq!(stand.record(&outside).await.state.word(), "queued");
}

#[tokio::test]
async fn a_manifest_lies_where_its_caller_reaches_and_a_former_job_is_one_that_the_caller_sees() {
    let stand = stand();
    let (inside, outside) = (JOB.replace("prefix: a/", "prefix: a/x/"), JOB.replace("prefix: a/", "prefix: b/"));
    let (inside, outside) = (stand.submit(&inside).await, stand.submit(&outside).await);
    let file = |location: &str, format: &str| {
        JOB.replace("prefix: a/", &format!("prefix: a/y/, manifest: {{location: '{location}', format: {format}}}"))
    };
    for (location, format, wanted) in [
        ("s3://bucket/c/list.csv", "csv", 403),
        ("s3://bucket/a/manifest.json", "inventory", 403),
        ("list.csv", "csv", 422),
        ("s3://bucket/a/list.csv", "csv", 201),
    ] {
        let (status, body) = stand.ask("scoped", "post", "/v1/jobs", &file(location, format)).await;
        assert_eq!(status, wanted, "{location}: {body}");
    }
    let again = JOB.replace("prefix: a/", "prefix: a/z/");
    let path = |job: &JobId| format!("/v1/jobs?failedOf={job}");
    assert_eq!(stand.ask("scoped", "post", &path(&outside), &again).await.0, 404);
    assert_eq!(stand.ask("scoped", "post", &path(&inside), &file("s3://bucket/a/list.csv", "csv")).await.0, 400);
    let (status, body) = stand.ask("scoped", "post", &path(&inside), &again).await;
    assert_eq!(status, 201, "{body}");
    let begun: Submitted = serde_json::from_str(&body).unwrap();
    assert_eq!(stand.record(&begun.id).await.spec.manifest, Some(Manifest::FailedOf { job: inside }));
}

#[tokio::test]
async fn jobs_are_listed_in_pages() {
    let stand = stand();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(stand.submit(&JOB.replace("prefix: a/", &format!("prefix: a/{n}/"))).await);
    }
    ids.sort();
    stand.ask("operate", "post", &format!("/v1/jobs/{}/cancel", ids[3]), "").await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    for _ in 0..3 {
        let (_, body) = stand.ask("view", "get", &format!("/v1/jobs?limit=2{after}"), "").await;
        let page: JobList = serde_json::from_str(&body).unwrap();
        seen.extend(page.jobs.into_iter().map(|job| job.id));
        after = page.next.map_or(String::new(), |next| format!("&after={next}"));
    }
    assert_eq!((seen, after), (ids.clone(), String::new()));
    let (_, body) = stand.ask("view", "get", "/v1/jobs?state=cancelling", "").await;
    let page: JobList = serde_json::from_str(&body).unwrap();
    assert_eq!(page.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&ids[3]]);
    assert_eq!((page.jobs[0].user.as_str(), page.jobs[0].kind.as_str()), ("operate", "keyrotate"));
    assert_eq!(stand.ask("view", "get", "/v1/jobs?after=x", "").await.0, 400);
}

#[tokio::test]
async fn a_job_is_told_what_to_do() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let tell = |verb: &'static str| {
        let (stand, path) = (&stand, format!("/v1/jobs/{id}/{verb}"));
        async move { stand.ask("operate", "post", &path, "").await.0 }
    };
    assert_eq!(tell("pause").await, 200);
    let paused = stand.status(&id).await;
    assert_eq!((paused.reason.as_deref(), paused.detail.as_deref()), (Some("operator"), Some("by operate")));
    assert!(matches!(stand.record(&id).await.state, JobState::Paused { reason: PauseReason::Operator, .. }));
    assert_eq!((tell("resume").await, tell("confirm").await), (200, 409));
    let limits = |body: &'static str| {
        let (stand, path) = (&stand, format!("/v1/jobs/{id}/limits"));
        async move { stand.ask("operate", "patch", &path, body).await }
    };
    assert_eq!(limits(r#"{"rate": 5.5, "permits": 3, "priority": -2, "weight": 7}"#).await.0, 200);
    let (_, body) = limits(r#"{"rate": null}"#).await;
    let changed: JobStatus = serde_json::from_str(&body).unwrap();
    let wanted = body::Limits { permits: Some(3), priority: -2, weight: 7, ..body::Limits::default() };
    assert_eq!(changed.limits, wanted);
    let (_, body) = limits(r#"{"byteRate": 1048576, "kmsRate": 0.5}"#).await;
    let changed: JobStatus = serde_json::from_str(&body).unwrap();
    assert_eq!((changed.limits.byte_rate, changed.limits.kms_rate), (Some(1_048_576.0), Some(0.5)));
    for wrong in [
        "",
        "{",
        r#"{"rate": 0}"#,
        r#"{"byteRate": -1}"#,
        r#"{"kmsRate": 0}"#,
        r#"{"permits": 0}"#,
        r#"{"priority": 101}"#,
        r#"{"weight": 0}"#,
        r#"{"color": 1}"#,
    ] {
        assert_eq!(limits(wrong).await.0, 400, "{wrong}");
    }
    let ledger = &stand.api.site.ledger;
    ledger.update_job(&id, |job, now| transition::fail(job, StopReason::ObjectsLeft, "x", now)).await.unwrap();
    let counts = keyrotate_proto::outcome::Counts::default();
    let ended = ledger.now().await.unwrap();
    let result = keyrotate_checkpoint::record::JobResult { counts, ended, report: None };
    ledger.end_job(&id, &result).await.unwrap();
    assert_eq!(stand.status(&id).await.exit_code, Some(4));
    assert_eq!((tell("pause").await, tell("cancel").await), (409, 409));
    assert_eq!(limits("{}").await.0, 409);
    assert_eq!(tell("resume").await, 200, "a failed job can go on");
    assert_eq!((tell("cancel").await, tell("cancel").await), (200, 200));
    assert_eq!(stand.status(&id).await.job.state, "cancelling");
    assert_eq!(tell("resume").await, 409);
    for path in ["report", "report/files", "report/files/summary.json"] {
        assert_eq!(stand.ask("view", "get", &format!("/v1/jobs/{id}/{path}"), "").await.0, 404);
    }
    assert_eq!(stand.ask("view", "get", &format!("/v1/jobs/{id}/failed?after=%21"), "").await.0, 400);
    assert_eq!(stand.ask("view", "get", &format!("/v1/jobs/{id}/failed"), "").await.1, r#"{"rows":[],"next":null}"#);
}

#[tokio::test]
async fn too_much_is_too_much() {
    let limits = Limits { rate: 3, open_jobs: 2, ..Limits::default() };
    let stand = stand_with(&limits, vec![store("default", Some("s"))]);
    let first = stand.submit(JOB).await;
    stand.submit(&JOB.replace("prefix: a/", "prefix: b/")).await;
    let (status, body) = stand.ask("admin", "post", "/v1/jobs", &JOB.replace("prefix: a/", "prefix: c/")).await;
    assert_eq!(status, 429);
    assert!(problem(&body).hint.unwrap().contains("openJobs"));
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(stand.ask("view", "get", &format!("/v1/jobs/{first}"), "").await.0);
    }
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 6, "twice the rate at once: {answers:?}");
    assert_eq!(stand.ask("scoped", "get", "/v1/jobs", "").await.0, 200, "each token has its own measure");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stand.ask("view", "get", "/v1/jobs", "").await.0, 200);
}

#[tokio::test]
async fn a_report_is_read_by_the_names_of_its_manifest_only() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let ledger = &stand.api.site.ledger;
    let store = stand.api.site.reports.of(&id).unwrap();
    let job = stand.record(&id).await;
    let input = keyrotate_report::finish::FinishInput {
        under: "e1/".into(),
        job: id.clone(),
        spec: job.spec.clone(),
        store: "s".into(),
        endpoint: None,
        is_minio: false,
        target: None,
        state: JobState::Cancelled,
        started: job.started,
        ended: job.started,
        passes: Vec::new(),
        counts: Default::default(),
        checked: None,
        leftovers: Vec::new(),
        notes: Vec::new(),
    };
    keyrotate_report::finish::finish(&store, input).await.unwrap();
    store.put("spec.json", b"{}".to_vec()).await.unwrap();
    ledger.update_job(&id, transition::cancel).await.unwrap();
    let report = Some("e1/summary.json".to_owned());
    let result = keyrotate_checkpoint::record::JobResult { counts: Default::default(), ended: job.started, report };
    ledger.end_job(&id, &result).await.unwrap();
    let get = |path: &'static str| {
        let (stand, path) = (&stand, format!("/v1/jobs/{id}/{path}"));
        async move { stand.ask("view", "get", &path, "").await }
    };
    let (status, body) = get("report").await;
    assert_eq!(status, 200, "{body}");
    let summary: keyrotate_report::finish::Summary = serde_json::from_str(&body).unwrap();
    assert_eq!(summary.job, id);
    let (_, body) = get("report/files").await;
    let files: body::ReportFiles = serde_json::from_str(&body).unwrap();
    assert_eq!(
        files.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["e1/manifest.json", "e1/summary.json"]
    );
    assert_eq!(get("report/files/e1/summary.json").await.0, 200);
    assert_eq!(get("report/files/e1/manifest.json").await.0, 200);
    assert!(get("report?format=html").await.1.starts_with("<!doctype html>"));
    assert!(get("report?format=text").await.1.starts_with("Key rotation of "));
    assert_eq!(get("report?format=json").await.1, get("report").await.1);
    assert_eq!(get("report?format=csv").await, (200, String::new()));
    assert_eq!(get("report?format=pdf").await.0, 400);
    for name in
        ["spec.json", "e2/manifest.json", "../secret.key", "%2e%2e/%2e%2e/secret.key", "parts/../spec.json", "x"]
    {
        let path = format!("/v1/jobs/{id}/report/files/{name}");
        assert_eq!(stand.ask("view", "get", &path, "").await.0, 404, "{name}");
    }
    let status = stand.status(&id).await;
    assert!(status.report && status.exit_code == Some(6) && status.ended.is_some());
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_until_the_end() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let request = |who: &str| {
        let bearer = format!("Bearer {}", stand.tokens[who]);
        let request = Request::builder().uri(format!("/v1/jobs/{id}/events")).header("authorization", bearer);
        stand.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let one = request("view").await.unwrap();
    assert_eq!(one.status(), StatusCode::OK);
    let mut body = one.into_body();
    let next = async |body: &mut Body| {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    let first = next(&mut body).await;
    assert!(first.contains("event: status") && first.contains("\"state\":\"queued\""), "{first}");
    // One who comes late, or comes back, hears the present state at once.
    let late = request("admin").await.unwrap();
    let heard = next(&mut late.into_body()).await;
    assert!(heard.contains("\"state\":\"queued\""), "{heard}");
    let ledger = &stand.api.site.ledger;
    ledger.update_job(&id, transition::cancel).await.unwrap();
    let counts = Default::default();
    let result = keyrotate_checkpoint::record::JobResult { counts, ended: ledger.now().await.unwrap(), report: None };
    ledger.end_job(&id, &result).await.unwrap();
    let mut all = String::new();
    while let Some(frame) = body.frame().await {
        all += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
    }
    assert!(all.ends_with("\n\n") && all.contains("event: end") && all.contains("cancelled"), "{all}");
    // An ended job says so at once, and the stream is over.
    let over = request("view").await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8(over.to_vec()).unwrap().matches("event: ").count(), 1);
}

#[tokio::test]
async fn dead_letters_are_settled_by_fresh_tickets() {
    let stand = stand();
    let ledger = &stand.api.site.ledger;
    let id = stand.submit(JOB).await;
    ledger.update_job(&id, transition::begin).await.unwrap();
    let job = stand.record(&id).await;
    let pass = ledger.open_pass(&job, PassKind::Prepare, vec![job.scope()], None).await.unwrap();
    let job = stand.record(&id).await;
    let ticket = |job: &JobId, pass: PassId| Ticket {
        version: TICKET_VERSION,
        shard: ShardRef { job: job.clone(), pass, shard: ShardId(0) },
        spec_hash: "another".into(),
        epoch: keyrotate_proto::id::Epoch { nonce: keyrotate_proto::id::Nonce("n".into()), counter: 0 },
        traceparent: String::new(),
    };
    let waiting =
        Ticket { epoch: keyrotate_proto::id::Epoch { nonce: job.nonce.clone(), counter: 0 }, ..ticket(&id, pass) };
    ledger.ticket_published(&waiting, Duration::from_secs(3600)).await.unwrap();
    let letter = |name: &str, ticket: Option<Ticket>| DeadLetter {
        id: name.into(),
        reason: "why".into(),
        queue: "q".into(),
        ticket,
        bytes: 10,
    };
    let all = [
        letter("waits", Some(waiting.clone())),
        letter("closed", Some(ticket(&id, PassId(pass.0 + 7)))),
        letter("unknown", Some(ticket(&JobId::new(9, [9; 10]), pass))),
        letter("foreign", None),
    ];
    stand.dead.0.lock().unwrap().extend(all);
    let list = async || {
        let (status, body) = stand.ask("admin", "get", "/v1/dlq", "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<DeadLetterList>(&body).unwrap()
    };
    let seen = list().await;
    assert_eq!(seen.letters[0].shard.as_deref(), Some(waiting.shard.to_string().as_str()));
    assert_eq!((seen.letters[3].shard.as_deref(), seen.letters[3].reason.as_str(), seen.more), (None, "why", false));
    let requeue = async |body: &str| {
        let (status, body) = stand.ask("admin", "post", "/v1/dlq/requeue", body).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Requeued>(&body).unwrap()
    };
    assert_eq!(stand.ask("admin", "post", "/v1/dlq/requeue", "{}").await.0, 400, "nothing is named");
    let done = requeue(r#"{"ids": ["waits", "nobody"]}"#).await;
    assert_eq!(done, Requeued { requeued: 1, missing: vec!["nobody".into()], ..Requeued::default() });
    let shard = ledger.shard(&waiting.shard).await.unwrap();
    assert!(shard.wants_ticket(&job, ledger.now().await.unwrap()), "no fresh ticket would go out: {shard:?}");
    assert_eq!(requeue(r#"{"all": true}"#).await, Requeued { not_wanted: 2, kept: 1, ..Requeued::default() });
    assert_eq!(list().await.letters.len(), 1, "what is no ticket is dropped on request only");
    assert_eq!(requeue(r#"{"all": true, "drop": true}"#).await, Requeued { dropped: 1, ..Requeued::default() });
    assert_eq!(list().await.letters, []);
}

#[tokio::test]
async fn a_job_that_the_checkpoint_lost_is_shown_as_lost() {
    let stand = stand();
    let known = stand.submit(JOB).await;
    let job = stand.record(&known).await;
    let lost = JobRecord { id: JobId::new(job.id.unix_ms() + 1, [9; 10]), sealed_token: Some("sealed".into()), ..job };
    let reports = stand.api.site.reports.as_ref();
    history::begins(reports, &lost).await.unwrap();
    let bytes = reports.of(&lost.id).unwrap().get("spec.json").await.unwrap();
    assert!(!String::from_utf8(bytes).unwrap().contains("sealed"));
    let status = stand.status(&lost.id).await;
    assert_eq!((status.job.state.as_str(), status.reason.as_deref()), ("failed", Some("lost")));
    let (_, body) = stand.ask("view", "get", "/v1/jobs", "").await;
    let list: JobList = serde_json::from_str(&body).unwrap();
    assert_eq!(list.jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), [known, lost.id.clone()]);
    // A word lets it begin anew, but for another that has begun on its keys since.
    let resume = |id: &JobId| format!("/v1/jobs/{id}/resume");
    stand.ask("operate", "post", &format!("/v1/jobs/{}/cancel", list.jobs[0].id), "").await;
    let mut newer = stand.record(&list.jobs[0].id).await;
    newer.id = JobId::new(lost.id.unix_ms() + 1, [9; 10]);
    history::begins(reports, &newer).await.unwrap();
    let (status, body) = stand.ask("operate", "post", &resume(&lost.id), "").await;
    assert_eq!((status, body.contains("another job")), (409, true), "{body}");
    assert_eq!(stand.ask("operate", "post", &resume(&newer.id), "").await.0, 409, "the cancelled one has its keys yet");
    // Whoever may not see its objects does not hear of it from there either.
    let outside = JobRecord { id: JobId::new(1, [8; 10]), ..lost };
    let outside = JobRecord { spec: JobSpec { bucket: "elsewhere".into(), ..outside.spec }, ..outside };
    history::begins(reports, &outside).await.unwrap();
    assert_eq!(stand.ask("scoped", "get", &format!("/v1/jobs/{}", outside.id), "").await.0, 404);
    assert_eq!(stand.ask("view", "get", &format!("/v1/jobs/{}", JobId::new(2, [8; 10])), "").await.0, 404);
}
