//! The trace of a job, as separate processes send it: whole, and without a word about whose objects they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_tests::collector::{Collector, Seen, all_text, without_parent};
use keyrotate_tests::fleet::{Fleet, and, place};
use keyrotate_tests::prelude::*;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// In the key of every object.
const CANARY: &str = "patient-4711";
const OBJECTS: usize = 120;
/// Somebody who submits as part of a trace of his own.
const CALLER: &str = "00-11112222333344445555666677778888-1234567890abcdef-01";

/// One object that can't be written, whatever is tried.
async fn spoil(stand: &Stand) {
    let key_prefix = format!("{CANARY}/0007");
    stand
        .target
        .faults()
        .add(FaultRule { key_prefix, ..FaultRule::on("UpdateObjectEncryption", Fault::InternalError) });
}

fn job(stand: &Stand) -> JobFile {
    stand.job().retry("attempts: 1").retry("delay: 100ms")
}

/// No span and no line of a log may name an object.
fn names_no_object(spans: &[Seen], logs: &[String]) {
    for seen in spans {
        assert!(!all_text(&seen.span).contains(CANARY), "{seen:?}");
    }
    for log in logs {
        let told = log.lines().filter(|line| line.contains("\"level\":"));
        for line in told.filter(|line| !line.contains("\"level\":\"DEBUG\"") && !line.contains("\"level\":\"TRACE\"")) {
            assert!(!line.contains(CANARY), "{line}");
        }
    }
}

/// What holds for the trace of any job: one root, nothing that hangs in the air.
fn is_whole(spans: &[Seen], root: &str) {
    let rootless: Vec<_> = without_parent(spans);
    let said: Vec<_> = rootless.iter().map(|seen| (&seen.service, &seen.span.name)).collect();
    assert_eq!(rootless.len(), 1, "spans without a parent: {said:?}");
    assert!(rootless[0].span.parent_span_id.is_empty(), "{said:?}");
    assert_eq!(rootless[0].span.name, root);
}

fn names(spans: &[Seen]) -> BTreeSet<(&str, &str)> {
    spans.iter().map(|seen| (seen.service.as_str(), seen.span.name.as_str())).collect()
}

/// The parents of a span, from itself up to the root.
fn way_up<'a>(spans: &'a [Seen], from: &'a Seen) -> Vec<&'a str> {
    let mut way = vec![from.span.name.as_str()];
    let mut at = from;
    while let Some(parent) = spans.iter().find(|seen| seen.span.span_id == at.span.parent_span_id) {
        way.push(&parent.span.name);
        at = parent;
    }
    way
}

/// The span of the object that can't be written, and what the slice says of it.
fn tells_of_the_bad_object(spans: &[Seen]) {
    let bad =
        spans.iter().find(|seen| seen.span.name == "object" && seen.failed() && seen.attribute("outcome") == "failed");
    let bad = bad.expect("an object that failed has a span");
    assert_eq!(bad.attribute("reason"), "store");
    let slice = spans.iter().find(|seen| seen.span.span_id == bad.span.parent_span_id).expect("it has a parent");
    assert_eq!(slice.span.name, "slice");
    assert!(slice.span.events.iter().any(|event| event.name == "object failed"), "{slice:?}");
}

/// A fleet whose spans go to a collector.
struct Traced {
    fleet: Fleet,
    collector: Collector,
}

impl Traced {
    async fn new() -> Self {
        let collector = Collector::start().await;
        let settings = [
            ("KEYROTATE_LOG_FORMAT", "json"),
            ("KEYROTATE_METRICS_LISTEN", "127.0.0.1:0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ];
        let fleet = Fleet::with(Arc::new(Target::embedded(Mode::aws()).await), &settings).await;
        Self { fleet, collector }
    }

    /// A worker, and where it shows its metrics.
    async fn worker(&self, more: &[(&str, &str)]) -> (Process, String) {
        let worker = self.fleet.worker_with(more).await;
        let metrics = place(&worker, "health and metrics").expect("a worker says where its metrics are");
        (worker, metrics)
    }

    /// The spans of the caller's trace.
    fn trace(&self) -> Vec<Seen> {
        let trace: Vec<u8> = (1u8..=8).flat_map(|n| [n * 0x11; 2]).collect();
        self.collector.traces().remove(&trace).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_fleets_job_is_whole() {
    let traced = Traced::new().await;
    let fleet = &traced.fleet;
    fleet.stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
    spoil(&fleet.stand).await;
    let coordinator = fleet.coordinator().await;
    let (workers, places): (Vec<_>, Vec<_>) = [traced.worker(&[]).await, traced.worker(&[]).await].into_iter().unzip();
    // Part of the caller's trace.
    let id = fleet.submit_with(&coordinator, &job(&fleet.stand), &[("traceparent", CALLER)]).await;
    fleet.until(&coordinator, &id, "it has failed", |status| status["state"] == "failed").await;
    counts_are_shown(&fleet.client, &places).await;
    // They say their last word, and with it what spans are left.
    let mut logs = Vec::new();
    for process in workers.into_iter().chain([coordinator.process]) {
        process.signal("TERM");
        logs.push(process.end().await.expect(0).stderr);
    }

    let mut spans = traced.trace();
    // The caller's own span went elsewhere: its child is the root of what came here.
    let root = spans.iter_mut().find(|seen| seen.span.name == "POST /v1/jobs").expect("the submit has a span");
    assert_eq!(root.span.parent_span_id, [0x12, 0x34, 0x56, 0x78, 0x90, 0xab, 0xcd, 0xef]);
    assert_eq!((root.service.as_str(), root.attribute("job")), ("keyrotate-coordinator", id.clone()));
    root.span.parent_span_id.clear();
    is_whole(&spans, "POST /v1/jobs");
    names_no_object(&traced.collector.seen(), &logs);
    tells_of_the_bad_object(&spans);
    tells_of_every_role(&spans);
    let write =
        spans.iter().find(|seen| seen.span.name == "s3 update-encryption" && way_up(&spans, seen)[1] == "object");
    let way = way_up(&spans, write.expect("a write of a sampled object"));
    assert_eq!(way, ["s3 update-encryption", "object", "slice", "publish ticket", "POST /v1/jobs"]);
    lines_say_where_they_belong(&logs, &id);
}

fn tells_of_every_role(spans: &[Seen]) {
    let seen = names(spans);
    for name in ["POST /v1/jobs", "open pass", "publish ticket", "write report"] {
        assert!(seen.contains(&("keyrotate-coordinator", name)), "{name}: {seen:?}");
    }
    let parts = ["slice", "prepare", "canary", "read shard", "list page", "object", "close window"];
    for name in parts.into_iter().chain(["s3 list", "s3 put", "redis swap", "kes generate", "kes decrypt"]) {
        assert!(seen.contains(&("keyrotate-worker", name)), "{name}: {seen:?}");
    }
}

fn lines_say_where_they_belong(logs: &[String], job: &str) {
    let lines = logs.iter().flat_map(|log| log.lines()).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let leased: Vec<_> = lines.filter(|line| line["message"] == "leased").collect();
    assert!(!leased.is_empty());
    for line in leased {
        let trace = CALLER.split('-').nth(1);
        assert_eq!((line["job"].as_str(), line["trace_id"].as_str()), (Some(job), trace), "{line}");
        assert!(line["span_id"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_takes_over_links_to_the_one_that_was_lost() {
    let traced = Traced::new().await;
    let fleet = &traced.fleet;
    fleet.stand.put_old(&format!("{CANARY}/"), 60).await;
    let key_prefix = CANARY.to_owned();
    let slow = Fault::Delay(Duration::from_millis(500));
    fleet.stand.target.faults().add(FaultRule { key_prefix, ..FaultRule::on("UpdateObjectEncryption", slow) });
    let coordinator = fleet.coordinator().await;
    let (worker, _) = traced.worker(&[("KEYROTATE_WORKER_PERMITS", "2")]).await;
    let id = fleet.submit_with(&coordinator, &fleet.stand.job(), &[("traceparent", CALLER)]).await;
    let writes = || traced.trace().iter().any(|seen| seen.span.name == "s3 update-encryption" && !seen.failed());
    until("its first write is told", writes).await;
    let _killed = worker.kill().await;
    fleet.stand.target.faults().clear();
    let (worker, place) = traced.worker(&[]).await;
    fleet.until(&coordinator, &id, "it is completed", |status| status["state"] == "completed").await;
    let shown = fleet.client.get(format!("{place}/metrics")).send().await.expect("it answers");
    let shown = shown.text().await.expect("an answer has a body");
    assert!(!shown.contains("\nkeyrotate_redeliveries_total 0\n"), "{shown}");
    worker.signal("TERM");
    let _ended = worker.end().await.expect(0);
    let spans = traced.trace();
    let (after, link) = spans
        .iter()
        .filter(|seen| seen.span.name == "slice")
        .find_map(|seen| Some((seen, seen.span.links.first()?)))
        .expect("a slice links to another");
    assert_eq!(link.trace_id, after.span.trace_id);
    assert_eq!(after.attribute("redelivered"), "BoolValue(true)");
    // What the lost one had told before it was killed hangs below it.
    assert!(spans.iter().any(|seen| seen.span.parent_span_id == link.span_id), "{link:?}");
}

/// What the workers count adds up to the job.
async fn counts_are_shown(client: &reqwest::Client, places: &[String]) {
    let mut rotated = 0.0;
    for place in places {
        let shown = client.get(format!("{place}/metrics")).send().await.expect("it answers");
        let text = shown.text().await.expect("an answer has a body");
        let value = |series: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            let value = line.unwrap_or_else(|| panic!("no {series} in {text}"));
            value.parse().expect("a number")
        };
        rotated += value("keyrotate_objects_total{outcome=\"rotated\"}");
        let connected =
            ["connected{to=\"redis\"}", "connected{to=\"rabbitmq-consume\"}", "store_connected{store=\"default\"}"];
        assert_eq!(connected.map(|name| value(&format!("keyrotate_{name}"))), [1.0; 3]);
        assert_eq!((value("keyrotate_redeliveries_total"), value("keyrotate_leases")), (0.0, 0.0));
        let ready = client.get(format!("{place}/readyz")).send().await.expect("it answers");
        assert_eq!(ready.status(), 200);
    }
    assert!((rotated - (OBJECTS as f64 - 1.0)).abs() < 0.5, "{rotated}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_job_on_one_machine_is_whole() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
    spoil(&stand).await;
    let collector = Collector::start().await;
    let endpoint = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("KEYROTATE_LOG_FORMAT", "json"),
    ];
    let file = stand.write(&job(&stand)).display().to_string();
    let ended = stand.start_with(&["run", &file], &and(stand.target.variables(), &endpoint)).end().await.expect(4);
    let traces = collector.traces();
    assert_eq!(traces.len(), 1, "{:?}", traces.values().map(|spans| names(spans)).collect::<Vec<_>>());
    let spans = traces.into_values().next().unwrap();
    is_whole(&spans, "submit");
    names_no_object(&spans, &[ended.stderr]);
    tells_of_the_bad_object(&spans);
    for name in ["open pass", "publish ticket", "slice", "object", "s3 head", "write report"] {
        assert!(names(&spans).contains(&("keyrotate", name)), "{name}: {:?}", names(&spans));
    }
}

/// A listener that takes connections and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_does_not_answer_costs_spans_and_nothing_else() {
    for protocol in ["grpc", "http/protobuf"] {
        let stand = Stand::embedded(Mode::aws()).await;
        stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
        let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", hole.local_addr().unwrap());
        let taken = tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = hole.accept().await {
                taken.push(stream);
            }
        });
        let endpoint = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8"),
        ];
        let file = stand.write(&stand.job()).display().to_string();
        let without = Instant::now();
        let _ended = stand.start(&["run", &file, "--yes"]).end().await.expect(0);
        let without = without.elapsed();
        let stand = Stand::on(Arc::clone(&stand.target), false).await;
        stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
        let file = stand.write(&stand.job()).display().to_string();
        let with_hole = Instant::now();
        let _ended = stand.start_with(&["run", &file], &and(stand.target.variables(), &endpoint)).end().await.expect(0);
        let with_hole = with_hole.elapsed();
        // Three seconds of waiting at the end are what it may cost.
        assert!(with_hole < without + Duration::from_secs(8), "{protocol}: {with_hole:?}, without {without:?}");
        taken.abort();
    }
}
