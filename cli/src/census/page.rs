//! A forecast as a page for the terminal, 80 columns wide.

use keyrotate_proto::forecast::{Basis, Fated, Forecast, Pace, Range, Share, Way};
use keyrotate_proto::outcome::{Outcome, Strategy};
use keyrotate_proto::say::{bytes, grouped, rounded};

use crate::jobs::show::time;
use crate::wrap::wrapped;

/// Columns of the page.
const WIDTH: usize = 80;

/// Keys that get a line of their own.
const KEYS: usize = 20;

/// Columns of a key's name, and of a fate's.
const NAME: usize = 31;

/// The page.
pub(crate) fn of(forecast: &Forecast) -> String {
    let mut lines = vec![head(forecast), String::new()];
    lines.push(format!("{:NAME$}{:>15} {:>21} {:>10}", "encrypted now", "objects", "share", "bytes"));
    for key in forecast.keys.iter().take(KEYS) {
        let (objects, share) = (number(key.objects, forecast.complete), percent(key.share, forecast.complete));
        lines.push(format!("{:NAME$}{objects:>15} {share:>21} {:>10}", cut(&key.seal), bytes(key.bytes)));
    }
    if forecast.keys.len() > KEYS {
        lines.push(format!("… and {} more: --output json has all", forecast.keys.len() - KEYS));
    }
    for way in &forecast.ways {
        lines.push(String::new());
        lines.extend(of_way(way, forecast));
    }
    if forecast.ways.len() > 1 {
        lines.push(String::new());
        let scope = if forecast.store.starts_with("aws:") { "s3://BUCKET" } else { "ALIAS/BUCKET" };
        let which = format!("which of these holds, `keyrotate doctor {scope}` proves on probe objects of its own");
        lines.push(wrapped(&which, 0, WIDTH));
    }
    lines.extend(forecast.notes.iter().map(|note| wrapped(&format!("note: {note}"), 0, WIDTH)));
    lines.push("nothing was written".to_owned());
    lines.join("\n")
}

fn head(forecast: &Forecast) -> String {
    let Forecast { bucket, prefix, store, looked, pages, .. } = forecast;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for the eye only")]
    let seconds = forecast.seconds.ceil() as u64;
    let all = number(forecast.objects, forecast.complete);
    let how = if forecast.complete { "all".to_owned() } else { format!("a sample of {}", grouped(*looked)) };
    let (low, high) = (about(forecast.objects.low), about(forecast.objects.high));
    let between = if forecast.complete || low == high { String::new() } else { format!(" ({low} to {high})") };
    format!(
        "{bucket}/{prefix} on {store}\n{all} object versions{between} with {}\n{how} looked at in {}, {} listing pages, \
         {} looks/s",
        size(forecast.bytes, forecast.complete),
        time(seconds),
        grouped(*pages),
        grouped(whole(forecast.reads_per_second)),
    )
}

/// What a job does, and what that costs.
fn of_way(way: &Way, forecast: &Forecast) -> Vec<String> {
    let target = forecast.target.as_deref().unwrap_or("the target");
    let mut lines = vec![match (way.basis, way.proven) {
        (Basis::Proven, Some(at)) => {
            format!("to {target}, as proven by the doctor on {}", at.strftime("%Y-%m-%d %H:%M UTC"))
        }
        (Basis::Proven, None) => format!("to {target}"),
        (Basis::UpdateEncryption, _) => format!("to {target}, if UpdateObjectEncryption is served (AWS S3)"),
        (Basis::InPlace, _) => format!("to {target}, if objects are rewritten in place (MinIO, AIStor)"),
        (Basis::RewriteOnly, _) => format!("to {target}, if only GET + PUT is guarded (Ceph RGW)"),
    }];
    lines.extend(way.fates.iter().map(|fated| of_fate(fated, forecast.complete)));
    let complete = forecast.complete;
    let mut costs = vec![
        ("calls", count(way.calls, complete)),
        ("KMS calls, at most", count(way.kms_calls, complete)),
        ("through this machine", format!("{} in and out", size(way.transit_bytes, complete))),
    ];
    if way.added_versions > 0 {
        let versions = count(way.added_versions, complete);
        costs.push(("added versions", format!("{versions} with {}", size(way.added_bytes, complete))));
    }
    costs.push(("takes about", duration(&way.pace)));
    costs.extend(way.at_rate.as_ref().map(|pace| ("at --rate", duration(pace))));
    lines.extend(costs.into_iter().map(|(what, how)| format!("  {what:22}{how}")));
    lines
}

fn of_fate(fated: &Fated, complete: bool) -> String {
    let (word, reason) = fated.fate.split_once('/').unwrap_or((&fated.fate, ""));
    let means = match Outcome::parse(word, reason) {
        _ if Strategy::parse(&fated.fate).is_some() => format!("by {}", fated.fate),
        Some(_) if reason.is_empty() => word.to_owned(),
        _ => format!("{word}({reason})"),
    };
    format!("  {:29}{:>15} {:>32}", cut(&means), number(fated.objects, complete), size(fated.bytes, complete))
}

fn duration(pace: &Pace) -> String {
    let ends = pace.ends.strftime("%Y-%m-%d %H:%M UTC");
    let seconds = whole(pace.seconds);
    format!("{} at {} obj/s, until {ends}", long(seconds), grouped(whole(pace.objects_per_second)))
}

/// A length of time; of more than a day without minutes.
fn long(seconds: u64) -> String {
    const DAY: u64 = 24 * 3600;
    match seconds {
        0..1 => "a second".to_owned(),
        _ if seconds < DAY => time(seconds),
        _ => format!("{}d{:02}h", seconds / DAY, seconds % DAY / 3600),
    }
}

fn number(range: Range, complete: bool) -> String {
    count(range.value, complete)
}

fn count(n: u64, complete: bool) -> String {
    if complete { grouped(n) } else { about(n) }
}

fn about(n: u64) -> String {
    format!("~{}", grouped(rounded(n)))
}

fn size(n: u64, complete: bool) -> String {
    if complete || n == 0 { bytes(n) } else { format!("~{}", bytes(n)) }
}

fn percent(share: Share, complete: bool) -> String {
    let Share { low, value, high } = share;
    match complete {
        true => format!("{:.2} %", 100.0 * value),
        false => format!("{:.1} % ({:.1}–{:.1})", 100.0 * value, 100.0 * low, 100.0 * high),
    }
}

/// Its end, where it is too long: keys of one account begin alike.
fn cut(name: &str) -> String {
    let most = NAME - 2;
    let length = name.chars().count();
    if length <= most {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length + 1 - most).collect();
    format!("…{end}")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for the eye only")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use keyrotate_proto::forecast::{FORECAST_VERSION, UnderKey};

    use super::*;

    fn range(value: u64) -> Range {
        Range { low: value * 9 / 10, value, high: value * 11 / 10 }
    }

    fn under(seal: &str, objects: u64, share: f64, bytes: u64) -> UnderKey {
        let share = Share { low: share - 0.012, value: share, high: share + 0.011 };
        UnderKey { seal: seal.into(), objects: range(objects), share, bytes }
    }

    fn fated(fate: &str, objects: u64, bytes: u64) -> Fated {
        Fated { fate: fate.into(), objects: range(objects), bytes }
    }

    fn pace(objects_per_second: f64, seconds: f64) -> Pace {
        Pace { objects_per_second, seconds, ends: "2026-12-02T04:05:06Z".parse().unwrap() }
    }

    fn forecast(complete: bool, basis: &[Basis]) -> Forecast {
        let way = |basis: &Basis| Way {
            basis: *basis,
            proven: (*basis == Basis::Proven).then(|| "2026-11-29T09:00:00Z".parse().unwrap()),
            fates: vec![
                fated("copy-multipart", 150_000_000, 8 << 40),
                fated("current", 30_000_000, 2 << 40),
                fated("skipped/keeps-not", 20_000_000, 1 << 40),
            ],
            written: 150_000_000,
            calls: 812_345_678,
            kms_calls: 300_000_000,
            transit_bytes: 0,
            added_versions: 150_000_000,
            added_bytes: 8 << 40,
            added_bytes_at_most: 9 << 40,
            pace: pace(1_234.0, 162_000.0),
            at_rate: Some(pace(200.0, 1_000_000.0)),
        };
        Forecast {
            version: FORECAST_VERSION,
            store: "https://minio.example:9000".into(),
            bucket: "invoices".into(),
            prefix: "2026/".into(),
            taken: "2026-11-30T07:05:06Z".parse().unwrap(),
            complete,
            looked: 10_000,
            pages: 4_321,
            seconds: 131.4,
            reads_per_second: 2_345.6,
            target: Some("key-2026".into()),
            objects: range(200_000_000),
            bytes: 11 << 40,
            keys: vec![
                under("sse-kms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd", 170_000_000, 0.85, 9 << 40),
                under("plaintext", 30_000_000, 0.15, 2 << 40),
            ],
            ways: basis.iter().map(way).collect(),
            notes: vec!["object lock is on: locked objects are counted as skipped".into()],
        }
    }

    #[test]
    fn a_forecast_is_a_page_of_eighty_columns() {
        let alternatives = of(&forecast(false, &[Basis::UpdateEncryption, Basis::InPlace, Basis::RewriteOnly]));
        let counted = of(&forecast(true, &[Basis::Proven]));
        for page in [&alternatives, &counted] {
            let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= 80, "{widest}:\n{page}");
        }
        insta::assert_snapshot!(format!("{alternatives}\n\n{counted}"));
    }
}
