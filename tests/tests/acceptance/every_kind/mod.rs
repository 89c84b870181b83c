//! Every kind of object that can be made from outside, rotated by the real executable: what comes out of each stands in
//! one table for all stores, and nothing of anybody's comes to harm.

mod kinds;
mod table;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;
use keyrotate_tests::report::{Row, outcome, plain};

use crate::scenarios::Verdict;
use kinds::Place;
use table::Table;
use world::World;

/// Jobs at the same time.
const AT_ONCE: usize = 2;

pub(crate) async fn every_kind_of_object(target: Arc<Target>) -> Verdict {
    let jobs = Place::ALL.map(|place| rotated(place, Arc::clone(&target)));
    let tables: Vec<Table> = stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
    table::hold(&target, tables.into_iter().flatten().collect());
    Verdict::Passed
}

/// Fills one of the buckets, runs its job, and looks at everything.
async fn rotated(place: Place, target: Arc<Target>) -> Table {
    let world = World::fill(place, store_of(target).await).await;
    let (stand, shown) = (&world.stand, world.shown().await);
    let before = stand.snapshot().await;
    let deleted = deleted(stand).await;
    let job = JobFile::of(&stand.bucket).key(&stand.target.new_key).option("bodyTransit: any");
    let job = if place == Place::Forced { job.filter("forceEncryptLocked: true") } else { job };
    let ended = stand.run(&job, &["--no-wait"]).await;
    if ended.code == Some(5) {
        oracle::nothing_was_written(&before, &stand.snapshot().await, "a job that did not begin");
        oracle::nothing_of_ours_is_left(stand).await;
        let why = refusal(&ended.stdout);
        return world.table(|_| vec![format!("not begun: {why}")]);
    }
    let ended = ended.expect_completed();
    let report = stand.report(&ended);
    unharmed(&before, &stand.snapshot().await, &report);
    assert_eq!(self::deleted(stand).await, deleted, "{place:?}: what is deleted");
    assert_eq!(world.shown().await, shown, "{place:?}: what no HEAD shows");
    oracle::check(stand, &job, &before, &ended, &Expect::default()).await;
    world.table(|made| {
        let row = |version: &String| report.of(&made.key).find(|row| plain(&row["version"]) == version);
        made.versions.iter().map(|version| row(version).map_or_else(|| "no row".to_owned(), words)).collect()
    })
}

/// A store of its own where it is embedded, since the old key is deleted at the end of each job; with ACLs where there
/// can be any.
async fn store_of(target: Arc<Target>) -> Arc<Target> {
    if target.stack().is_none() {
        return target;
    }
    let mode = target.model().mode().clone();
    let acls = matches!(mode.name, "aws" | "rgw");
    Arc::new(Target::embedded(Mode { acls, ..mode }).await)
}

/// The keys that are deleted, and all delete markers.
async fn deleted(stand: &Stand) -> BTreeSet<(String, String, bool)> {
    let all = bucket::list_with_markers(stand.client(), &stand.bucket).await.into_iter();
    all.filter(|one| one.marker).map(|one| (one.key, one.version, one.latest)).collect()
}

/// What the oracle leaves open: what was not written is as it was in every way, and what was written in parts still is.
fn unharmed(before: &Snapshot, after: &Snapshot, report: &Report) {
    let rows: BTreeMap<(&str, &str), &Row> =
        report.contents().map(|row| ((row["key"].as_str(), plain(&row["version"])), row)).collect();
    for ((key, version), was) in before {
        let row = rows[&(key.as_str(), version.as_str())];
        let (written, added) = (row["outcome"] == "rotated", !row["version_after"].is_empty());
        if !written || added {
            let now = &after[&(key.clone(), version.clone())];
            let latest = if written { now.latest } else { was.latest };
            assert_eq!(*now, bucket::Seen { latest, ..was.clone() }, "{key} ({version}) as it was");
        }
        if written {
            let at = if added { plain(&row["version_after"]) } else { version };
            assert_eq!(after[&(key.clone(), at.to_owned())].parts, was.parts, "parts of {key} ({version})");
        }
    }
}

/// What became of a version.
fn words(row: &Row) -> String {
    let mut words = outcome(row);
    if !row["strategy"].is_empty() {
        words = format!("{words} by {}", row["strategy"]);
    }
    if !row["version_after"].is_empty() {
        words.push_str(" as a new version");
    }
    let why = reasons(&row["detail"]);
    if !why.is_empty() {
        words = format!("{words} ({})", why.join(", "));
    }
    words
}

/// Why no strategy was left, each reason once. What is not proven on a store says nothing about the object.
fn reasons(detail: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for why in detail.split("; ").map(|why| why.split_once(": ").map_or(why, |(_, why)| why)) {
        if !why.is_empty() && why != "not proven on this store" && !all.contains(&why) {
            all.push(why);
        }
    }
    all
}

/// Why a job did not begin, without what to do about it and without names, which are others each time.
fn refusal(summary: &str) -> String {
    let why = summary.split_once("\nrefused: ").map_or(summary, |(_, why)| why).split("; ").next().unwrap_or_default();
    let pieces = why.split('`').enumerate().map(|(n, piece)| if n % 2 == 0 { piece } else { "…" });
    pieces.collect::<Vec<_>>().join("`")
}
