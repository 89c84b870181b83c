//! Jobs in lines and tables.

use comfy_table::{Table, presets};
use keyrotate_proto::api::{AuditRecord, JobBrief, JobDescription, JobStatus};
use keyrotate_proto::say::{bytes, grouped};

/// ID, TYPE, USER, STARTED, STATUS, as `mc batch list` shows them, and what each is about.
pub(super) fn list(jobs: &[JobBrief]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "TYPE", "USER", "STARTED", "STATUS", "SCOPE"]);
    for job in jobs {
        let started = job.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let scope = format!("{}/{}", job.bucket, job.prefix);
        table.add_row([job.id.to_string(), job.kind.clone(), job.user.clone(), started, job.state.clone(), scope]);
    }
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A job in a line: share, pace, bytes, time left, outcomes.
pub(crate) fn line(status: &JobStatus) -> String {
    let mut pieces = vec![status.job.state.clone()];
    if let Some(reason) = &status.reason {
        pieces.push(format!("({reason}: {})", status.detail.as_deref().unwrap_or_default()));
    }
    pieces.extend(status.share.map(share));
    pieces.extend(pace(status));
    if let Some(ended) = status.ended {
        let took = ended.duration_since(status.job.started).as_secs();
        pieces.push(format!("in {}", time(u64::try_from(took).unwrap_or(0))));
    }
    pieces.extend(sums(status));
    pieces.join("  ")
}

/// About how much of the key space is through: a guess until it is all of it.
pub(crate) fn share(share: f64) -> String {
    if share >= 1.0 { "100%".to_owned() } else { format!("~{:.0}%", (share * 100.0).min(99.0)) }
}

/// Objects and bytes per second, and the time left, as far as they are known.
pub(crate) fn pace(status: &JobStatus) -> Vec<String> {
    let mut pieces = Vec::new();
    // In other states objects get no outcomes.
    let running = status.job.state == "running";
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for the eye only")]
    if let Some(rate) = status.objects_per_second.filter(|_| running || status.job.state == "verifying") {
        pieces.push(format!("{} obj/s", grouped(rate as u64)));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for the eye only")]
    if let Some(rate) = status.bytes_per_second.filter(|rate| running && *rate >= 1.0) {
        pieces.push(format!("{}/s", bytes(rate as u64)));
    }
    if let Some(seconds) = status.eta_seconds {
        pieces.push(format!("ETA {}", time(seconds)));
    }
    pieces
}

/// Outcomes and bytes so far; nothing where there are none.
pub(crate) fn sums(status: &JobStatus) -> Option<String> {
    let outcomes: Vec<_> = words(status).into_iter().map(|(word, n)| format!("{} {word}", grouped(n))).collect();
    let mut pieces = Vec::new();
    if !outcomes.is_empty() {
        pieces.push(outcomes.join(" · "));
    }
    if status.rotated_bytes > 0 {
        pieces.push(format!("{} rotated", bytes(status.rotated_bytes)));
    }
    (!pieces.is_empty()).then(|| pieces.join("  "))
}

/// Who works on it, a line each.
pub(crate) fn workers(status: &JobStatus) -> Vec<String> {
    status.workers.iter().map(|worker| format!("  {}  {}", worker.name, many(worker.slices, "slice"))).collect()
}

/// All that was asked, and what it means.
pub(super) fn description(described: &JobDescription) -> String {
    let (status, job) = (&described.status, &described.status.job);
    let mut lines = vec![
        ("job".to_owned(), job.id.to_string()),
        ("scope".to_owned(), format!("{}/{} on {}", job.bucket, job.prefix, job.store)),
        ("submitted by".to_owned(), job.user.clone()),
        ("started".to_owned(), job.started.to_string()),
        ("status".to_owned(), line(status)),
    ];
    lines.extend(described.rules.iter().cloned());
    for pass in &described.passes {
        let state = if pass.ended.is_some() { many(pass.scanned, "version") } else { "open".to_owned() };
        let shards = many(u64::from(pass.shards), "shard");
        lines.push((format!("pass {}", pass.number), format!("{}, {shards}, {state}", pass.kind)));
    }
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let mut text: Vec<_> = lines.iter().map(|(what, how)| format!("{what:width$}  {how}")).collect();
    text.extend(status.findings.iter().cloned());
    text.join("\n")
}

/// A line for each entry, then whether their chain is whole.
pub(super) fn audit(record: &AuditRecord) -> String {
    let who = record.entries.iter().map(|entry| entry.who.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for entry in &record.entries {
        let at = entry.at.strftime("%Y-%m-%d %H:%M:%S");
        let line = format!("{at} UTC  {:who$}  {:7}  {:10}  {}", entry.who, entry.what, entry.state, entry.detail);
        lines.push(line.trim_end().to_owned());
    }
    let count = match record.entries.len() {
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    lines.push(match &record.broken {
        Some(broken) => format!("BROKEN: {broken}"),
        None => format!("{count}, whole: each names the hash of the one before, the first that of the job's spec"),
    });
    lines.join("\n")
}

/// Sums by the first word of the outcome, in the usual order.
fn words(status: &JobStatus) -> Vec<(&'static str, u64)> {
    let of = |word: &'static str| {
        let ours = |name: &str| name.split('/').next() == Some(word);
        (word, status.outcomes.iter().filter(|(name, _)| ours(name)).map(|(_, n)| n).sum())
    };
    let all = ["rotated", "current", "filtered", "skipped", "conflict", "failed"].map(of);
    all.into_iter().filter(|(_, n)| *n > 0).collect()
}

fn many(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(crate) fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_shown_where_there_is_one() {
        let status = |state: &str, more: &str| {
            let text = format!(
                r#"{{"id": "01m80khdbhdmdvx72mhfk8cdj4", "type": "keyrotate", "user": "u", "started": "2026-11-22T03:07:03Z",
                "state": "{state}", "store": "default", "bucket": "b", "prefix": "", "scanned": 20, "exceptions": 0,
                "outcomes": {{"rotated/key": 15, "current": 5}}, "superseded": 0, "rotatedBytes": 2048, "share": 0.5,
                "objectsPerSecond": 7.0, "bytesPerSecond": 70.0, "workers": [], "report": false, "findings": [],
                "limits": {{"rate": null, "permits": null, "priority": 0, "weight": 1}}{more}}}"#
            );
            line(&serde_json::from_str(&text).unwrap())
        };
        let running = status("running", r#", "etaSeconds": 9"#);
        assert_eq!(running, "running  ~50%  7 obj/s  70 B/s  ETA 9s  15 rotated · 5 current  2.0 KiB rotated");
        assert_eq!(status("verifying", ""), "verifying  ~50%  7 obj/s  15 rotated · 5 current  2.0 KiB rotated");
        let ended = status("completed", r#", "ended": "2026-11-22T03:08:50Z""#);
        assert_eq!(ended, "completed  ~50%  in 1m47s  15 rotated · 5 current  2.0 KiB rotated");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0.0, 0.5, 0.999, 1.0].map(share), ["~0%", "~50%", "~99%", "100%"]);
        assert_eq!((time(59), time(61), time(3725)), ("59s".into(), "1m01s".into(), "1h02m".into()));
    }
}
