use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;
use crate::names::{ALL, Kind};

const BOTH: &[Role] = &[Role::Coordinator, Role::Worker];

/// Type and labels of each metric of a text.
fn read(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut read: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for (name, kind) in types {
        let ending = if kind == "counter" { "_total" } else { "" };
        read.insert(format!("{name}{ending}"), (kind.to_owned(), BTreeSet::new()));
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let labels = labels.split("\",").filter(|l| !l.is_empty()).map(|l| l.split('=').next().unwrap().to_owned());
        let entry = read.get_mut(name).unwrap_or_else(|| panic!("`{line}` has no type"));
        entry.1.extend(labels.filter(|label| label != "le"));
    }
    read
}

/// One series of everything, so that everything is shown.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.store_call.with(&["default", "list", "ok"]).observe(0.1);
    metrics.store_errors.with(&["default", "cut"]).inc();
    for (gauges, values) in [
        (&metrics.build_info, &["1", "run"][..]),
        (&metrics.connected, &["redis"]),
        (&metrics.store_connected, &["default"]),
        (&metrics.jobs, &["running"]),
        (&metrics.workers, &["default"]),
        (&metrics.worker_slots, &["default"]),
        (&metrics.tickets_out, &["default"]),
        (&metrics.shards_leased, &["default"]),
        (&metrics.shards_waiting, &["default"]),
        (&metrics.oldest_waiting, &["default"]),
        (&metrics.dead_letters, &[]),
        (&metrics.job_objects, &["j", "failed"]),
        (&metrics.job_bytes, &["j"]),
        (&metrics.job_shards, &["j", "over"]),
    ] {
        gauges.with(values).set(1);
    }
    metrics
}

#[test]
fn what_is_shown_is_what_the_table_says() {
    let metrics = touched();
    let shown = read(&metrics.text_of(BOTH));
    let told: BTreeMap<_, _> = ALL
        .iter()
        .map(|name| {
            let labels = name.labels.iter().map(|(label, _)| (*label).to_owned()).collect();
            (name.name.to_owned(), (format!("{:?}", name.kind).to_lowercase(), labels))
        })
        .collect();
    assert_eq!(shown, told);
    for role in BOTH {
        let shown: BTreeSet<_> = read(&metrics.text_of(&[*role])).into_keys().collect();
        let told: BTreeSet<_> =
            ALL.iter().filter(|name| name.roles.contains(role)).map(|name| name.name.to_owned()).collect();
        assert_eq!(shown, told, "{role:?}");
    }
}

#[test]
fn counters_start_at_0_and_gauges_where_somebody_sets_them() {
    let text = Metrics::new().text_of(BOTH);
    assert!(text.contains("\nkeyrotate_objects_total{outcome=\"failed\"} 0\n"), "{text}");
    assert!(text.contains("\nkeyrotate_redeliveries_total 0\n"), "{text}");
    assert!(text.contains("\nkeyrotate_kes_call_seconds_count{operation=\"generate\",result=\"error\"} 0\n"), "{text}");
    assert!(!text.contains("keyrotate_connected{"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_job_that_ended_leaves_nothing_behind() {
    let metrics = Metrics::new();
    metrics.job_bytes.with(&["j1"]).set(5);
    metrics.job_bytes.with(&["j2"]).set(6);
    metrics.job_bytes.remove(&["j1"]);
    let text = metrics.text_of(BOTH);
    assert!(!text.contains("j1") && text.contains("keyrotate_job_rotated_bytes{job=\"j2\"} 6"), "{text}");
}

#[test]
#[should_panic(expected = "keyrotate_objects_total: outcome=other")]
fn a_value_that_is_not_listed_is_refused() {
    drop(Metrics::new().objects.with(&["other"]));
}

#[test]
fn gauges_are_looked_at_when_they_are_fetched() {
    let metrics = Metrics::new();
    metrics.at_scrape(|metrics| {
        metrics.permits.set(7);
    });
    assert!(metrics.text_of(BOTH).contains("\nkeyrotate_permits 7\n"));
}

#[test]
fn the_documentation_is_made_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let told = document();
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    let shipped = std::fs::read_to_string(path).unwrap_or_default();
    assert!(told == shipped, "docs/metrics.md is not what the code says; UPDATE_METRICS=1 writes it anew");
}

fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
        What `/metrics` of a coordinator and of a worker shows, in the OpenMetrics text format. This page is made from\n\
        `telemetry/src/names.rs`.\n\n\
        Counters are there from the start, at 0; a gauge is there once there is something to say. No label has values without\n\
        a bound: they stand below, or are the configuration's names of stores (`reports` is where the reports lie), or the\n\
        jobs that have not ended, whose series go when they end.\n",
    );
    let sections: [(&str, &[Role]); 3] =
        [("Every role", BOTH), ("Workers", &[Role::Worker]), ("Coordinators", &[Role::Coordinator])];
    for (title, roles) in sections {
        let _written = write!(text, "\n## {title}\n\n| name | kind | labels | |\n|---|---|---|---|\n");
        for name in ALL.iter().filter(|name| name.roles == roles) {
            let kind = match name.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels: Vec<_> =
                name.labels.iter().map(|(label, values)| format!("`{label}`: {}", said(*values))).collect();
            let _written = writeln!(text, "| `{}` | {kind} | {} | {}. |", name.name, labels.join("<br>"), name.help);
        }
    }
    text
}

fn said(values: Values) -> String {
    match values {
        Values::These(all) => all.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" "),
        Values::Stores => "a store".to_owned(),
        Values::OpenJobs => "an open job".to_owned(),
        Values::One => "one value".to_owned(),
    }
}
