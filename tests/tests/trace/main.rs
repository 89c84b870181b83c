//! The trace of a job, as separate processes send it: whole, and without a word about whose objects they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyrotate_peers::{PrivateRabbitMq, PrivateRedis};
use keyrotate_tests::bucket;
use keyrotate_tests::collector::{Collector, Seen, all_text, without_parent};
use keyrotate_tests::prelude::*;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// In the key of every object.
const CANARY: &str = "patient-4711";
const OBJECTS: usize = 120;

fn with(stand: &Stand, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    stand.target.variables().clone().into_iter().chain(more).collect()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_fleets_job_is_whole() {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stand = Stand::embedded(Mode::aws()).await;
    let reports = format!("{}-reports", stand.bucket);
    bucket::create(stand.client(), &reports, false).await;
    stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
    spoil(&stand).await;
    let redis = PrivateRedis::start().await.expect("redis-server is installed and starts");
    let rabbitmq = PrivateRabbitMq::start().await.expect("rabbitmq-server is installed and starts");
    let collector = Collector::start().await;
    let variables = with(
        &stand,
        &[
            ("KEYROTATE_REDIS_URL", &redis.url()),
            ("KEYROTATE_RABBITMQ_URL", &rabbitmq.url("/")),
            ("KEYROTATE_REPORTS_BUCKET", &reports),
            ("KEYROTATE_LOG_FORMAT", "json"),
            ("KEYROTATE_METRICS_LISTEN", "127.0.0.1:0"),
            (
                "RUST_LOG",
                "keyrotate=info,keyrotate_worker=debug,keyrotate_coordinator=debug,keyrotate_queue=info,warn,lapin=off",
            ),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    let mut coordinator = Process::start(["coordinator", "--listen", "127.0.0.1:0"], &variables, stand.dir());
    let url = place(&mut coordinator, " at ", "keyrotate coordinator").await;
    let mut workers: Vec<_> = (0..2).map(|_| Process::start(["worker"], &variables, stand.dir())).collect();
    let mut places = Vec::new();
    for worker in &mut workers {
        places.push(place(worker, " at ", "health and metrics").await);
    }

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let caller = "00-11112222333344445555666677778888-1234567890abcdef-01";
    let submit = client.post(format!("{url}/v1/jobs")).header("content-type", "application/yaml");
    let begun = submit.header("traceparent", caller).body(job(&stand).text()).send().await.unwrap();
    let begun: Value = serde_json::from_slice(&begun.bytes().await.unwrap()).unwrap();
    let id = begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
    let give_up = Instant::now() + Duration::from_secs(180);
    loop {
        let status = client.get(format!("{url}/v1/jobs/{id}")).send().await.unwrap().bytes().await.unwrap();
        let status: Value = serde_json::from_slice(&status).unwrap();
        if status["state"] == "failed" {
            break;
        }
        assert!(Instant::now() < give_up, "{status}\n{}", workers[0].stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    counts_are_shown(&client, &places).await;
    // They say their last word, and with it what spans are left.
    let mut logs = Vec::new();
    workers.push(coordinator);
    for process in workers {
        process.signal("TERM");
        logs.push(process.end().await.expect(0).stderr);
    }

    let traces = collector.traces();
    let trace: Vec<u8> = (1u8..=8).flat_map(|n| [n * 0x11; 2]).collect();
    let spans =
        traces.get(&trace).unwrap_or_else(|| panic!("the caller's trace is not gone on with: {:?}", traces.keys()));
    // The caller's own span went elsewhere: its child is the root of what came here.
    let mut spans = spans.clone();
    let root = spans.iter_mut().find(|seen| seen.span.name == "POST /v1/jobs").expect("the submit has a span");
    assert_eq!(root.span.parent_span_id, [0x12, 0x34, 0x56, 0x78, 0x90, 0xab, 0xcd, 0xef]);
    assert_eq!((root.service.as_str(), root.attribute("job")), ("keyrotate-coordinator", id.clone()));
    root.span.parent_span_id.clear();
    is_whole(&spans, "POST /v1/jobs");
    names_no_object(&collector.seen(), &logs);
    tells_of_the_bad_object(&spans);
    let seen = names(&spans);
    for name in ["POST /v1/jobs", "open pass", "publish ticket", "write report"] {
        assert!(seen.contains(&("keyrotate-coordinator", name)), "{name}: {seen:?}");
    }
    for name in
        ["slice", "prepare", "list page", "object", "close window", "s3 list", "s3 put", "redis swap", "kes generate"]
    {
        assert!(seen.contains(&("keyrotate-worker", name)), "{name}: {seen:?}");
    }
    let write =
        spans.iter().find(|seen| seen.span.name == "s3 update-encryption" && way_up(&spans, seen)[1] == "object");
    let way = way_up(&spans, write.expect("a write of a sampled object"));
    assert_eq!(way, ["s3 update-encryption", "object", "slice", "publish ticket", "POST /v1/jobs"]);
    // Log lines say where they belong.
    let lines = logs.iter().flat_map(|log| log.lines()).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let leased: Vec<_> = lines.filter(|line| line["message"] == "leased").collect();
    assert!(!leased.is_empty());
    for line in leased {
        assert_eq!(
            (line["job"].as_str(), line["trace_id"].as_str()),
            (Some(id.as_str()), Some("11112222333344445555666677778888")),
            "{line}"
        );
        assert!(line["span_id"].is_string(), "{line}");
    }
}

/// What the workers count adds up to the job.
async fn counts_are_shown(client: &reqwest::Client, places: &[String]) {
    let mut rotated = 0;
    for place in places {
        let text = client.get(format!("{place}/metrics")).send().await.unwrap().text().await.unwrap();
        let value = |series: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series} in {text}")).parse::<f64>().unwrap()
        };
        rotated += value("keyrotate_objects_total{outcome=\"rotated\"}") as usize;
        assert_eq!(value("keyrotate_connected{to=\"redis\"}"), 1.0);
        assert_eq!(value("keyrotate_connected{to=\"rabbitmq-consume\"}"), 1.0);
        assert_eq!(value("keyrotate_store_connected{store=\"default\"}"), 1.0);
        assert_eq!(value("keyrotate_redeliveries_total"), 0.0);
        assert_eq!(value("keyrotate_leases"), 0.0);
        let ready = client.get(format!("{place}/readyz")).send().await.unwrap();
        assert_eq!(ready.status(), 200);
    }
    assert_eq!(rotated, OBJECTS - 1);
}

/// Where a process says that it listens.
async fn place(process: &mut Process, before: &str, line: &str) -> String {
    let said = |process: &Process| {
        let stderr = process.stderr();
        let told = stderr.lines().find(|told| told.contains(line))?;
        Some(told.split_once(before)?.1.to_owned())
    };
    until(line, || process.has_ended() || said(process).is_some()).await;
    said(process).unwrap_or_else(|| panic!("it ended:\n{}", process.stderr()))
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
    let ended = stand.start_with(&["run", &file], &with(&stand, &endpoint)).end().await.expect(4);
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
        let stand = Stand::on(std::sync::Arc::clone(&stand.target), false).await;
        stand.put_old(&format!("{CANARY}/"), OBJECTS).await;
        let file = stand.write(&stand.job()).display().to_string();
        let with_hole = Instant::now();
        let _ended = stand.start_with(&["run", &file], &with(&stand, &endpoint)).end().await.expect(0);
        let with_hole = with_hole.elapsed();
        // Three seconds of waiting at the end are what it may cost.
        assert!(with_hole < without + Duration::from_secs(8), "{protocol}: {with_hole:?}, without {without:?}");
        taken.abort();
    }
}
