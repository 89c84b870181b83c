//! Random buckets, random jobs, somebody else's writes between any two calls, failures before and behind the effect of
//! any call, workers that die: whatever comes of it, nothing of anybody's is harmed, and every row is true.
//!
//! `KEYROTATE_OPS_SEED=n` runs that one case and tells all that happened in it; with `KEYROTATE_OPS_CASES=m` as well, `m`
//! cases from there on.

use std::collections::BTreeMap;

use super::*;
use case::Case;
use model::{LATE, OVERTAKEN, SAME_SECOND, TRAP, UNGUARDED, WINDOWS, is_wanted};
use stage::{Log, Off, Stage, WRITES};

mod arm;
mod case;
mod holder;
mod model;
mod stage;
mod watched;

/// Cases in CI.
const CASES: u64 = 10_000;

/// What came of a case.
struct End {
    harms: Vec<String>,
    told: Vec<String>,
    counts: BTreeMap<String, u64>,
}

fn run(case: &Case, off: Option<Off>) -> End {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let frozen = holder::frozen(case).await;
            let stage = Stage::new(case.clone(), frozen, off).await;
            let books = holder::job(&stage).await;
            end(&stage, books).await
        })
    })
}

/// What must hold when all is over.
async fn end(stage: &Arc<Stage>, books: holder::Books) -> End {
    stage.judge_all().await;
    uploads(stage, &books).await;
    if let Some(halt) = &books.stopped {
        let mut log = stage.log();
        log.count("stopped");
        let looked = matches!(halt, Halt::Stop { reason: StopReason::ObjectReplaced, .. }) && !log.faults.is_empty();
        if !looked {
            log.harm(format!("it stopped: {halt}"));
        }
    } else {
        rows(stage, &books);
    }
    let mut log = stage.log();
    let log = &mut *log;
    End {
        harms: std::mem::take(&mut log.harms),
        told: std::mem::take(&mut log.told),
        counts: std::mem::take(&mut log.counts),
    }
}

/// Uploads of others are there, and none of ours.
async fn uploads(stage: &Stage, books: &holder::Books) {
    let open = stage.model().uploads(BUCKET, "").await.unwrap();
    let ours = |log: &Log, upload: &Upload| {
        !log.users_uploads.contains(&upload.id)
            && !log.lost_uploads.contains(&upload.id)
            && !log.unended.contains(&upload.key)
    };
    let cleaned = |upload: &Upload| books.handed_over && stage.off != Some(Off::Intents) && books.knows(upload);
    let mut log = stage.log();
    // One that is completed late, just when the next worker goes on with it, gets another one in its place that nobody put
    // down.
    let late = |log: &Log, upload: &Upload| books.handed_over && log.frozen.contains(&upload.key);
    let left = |upload: &&Upload| ours(&log, upload) && !cleaned(upload) && !late(&log, upload);
    let left: Vec<_> = open.iter().filter(left).collect();
    if !left.is_empty() {
        log.harm(format!("an upload of ours is left: {left:?}"));
    }
    if log.users_uploads.iter().any(|id| open.iter().all(|upload| upload.id != *id)) {
        log.harm("an upload of somebody's is gone".into());
    }
}

/// Every row says the truth.
fn rows(stage: &Stage, books: &holder::Books) {
    let (rows, handed_over) = (&books.rows, books.handed_over);
    let case = &stage.case;
    for row in rows {
        let is_right = |id: &Option<String>| {
            let object = stage.version(&row.key, id).and_then(|version| version.object);
            object.is_some_and(|object| is_wanted(case, &object.sse))
        };
        let (right, after_is_right) = (is_right(&row.version), is_right(&row.version_after));
        let mut log = stage.log();
        let what = match row.strategy {
            Some(strategy) => format!("{} by {strategy}", row.outcome.word()),
            None => row.outcome.name(),
        };
        log.count(what);
        // The key of a directory marker has no versions everywhere, and is listed with `null` all the same.
        let same =
            |a: &Option<String>, b: &Option<String>| a.as_deref().unwrap_or("null") == b.as_deref().unwrap_or("null");
        let made = row.version_after.clone().or_else(|| row.version.clone());
        let theirs = log.theirs.iter().any(|(_, key)| *key == row.key);
        // A write that comes late may come in the middle of a look.
        let late = log.frozen.contains(&row.key);
        let disturbed = theirs || late || log.faults.iter().any(|(_, key)| *key == row.key);
        // Where somebody put the same body again, and nobody saw it, what was made lies above theirs.
        let of_row = |wrote: &&model::Wrote| {
            let made_it = (theirs || late) && same(&wrote.to, &made);
            wrote.key == row.key && (wrote.blind || made_it || same(&wrote.from, &row.version))
        };
        let last = log.wrote.iter().rfind(of_row).cloned();
        match (row.outcome, last) {
            (Outcome::Rotated(_), Some(wrote)) if same(&wrote.to, &made) => {
                let later = log.theirs.iter().any(|(at, key)| *key == row.key && *at > wrote.at);
                // Whoever takes such a write over sees its key, and not what it was sent with.
                let unread = books.unread.contains(&row.key) && stage.off.is_none();
                // Nobody knows what was sent of a write that was never answered: it is compared with the look before it.
                let unanswered =
                    theirs && log.faults.iter().any(|(operation, key)| WRITES.contains(operation) && *key == row.key);
                if wrote.damaged && (unread || unanswered || late) {
                    log.count("lost in part, and not read back by who knew what was sent");
                } else if wrote.damaged && !later {
                    log.harm(format!("it says rotated, and a part is lost: {row:?}"));
                }
            }
            // Somebody put the same above what a lost window was about to write, and no store shows who wrote what.
            (Outcome::Rotated(_), _) if handed_over && theirs && after_is_right => log.count("taken for one of ours"),
            (Outcome::Rotated(_), wrote) => log.harm(format!("it says rotated, and was not: {row:?}, {wrote:?}")),
            (Outcome::Current, _) if !right && !disturbed => {
                log.harm(format!("it says current, and is not: {row:?}"));
            }
            // Written by a worker who is gone, and found as it should be by the next one, whose rules or filters leave it out.
            (_, Some(wrote)) if handed_over && !wrote.added && right => log.count("found as it should be"),
            (outcome, Some(wrote)) if !outcome.is_of_a_write() && !disturbed => {
                log.harm(format!("it was written, and the row does not say so: {row:?}, {wrote:?}"));
            }
            _ => {}
        }
    }
    laid(stage, books);
    let mut log = stage.log();
    let named = |wrote: &&model::Wrote| {
        rows.iter().any(|row| row.key == wrote.key && (!wrote.added || row.version_after == wrote.to))
            || log.faults.iter().any(|(_, key)| *key == wrote.key)
            || log.frozen.contains(&wrote.key)
            || log.theirs.iter().any(|(_, key)| *key == wrote.key)
    };
    if let Some(wrote) = log.wrote.iter().find(|wrote| !named(wrote)).cloned() {
        log.harm(format!(
            "no row names a version that was {}: {wrote:?}",
            if wrote.added { "added" } else { "written" }
        ));
    }
    if let Some(wrote) = log.wrote.iter().find(|wrote| !wrote.key.starts_with(case.job.prefix)).cloned() {
        log.harm(format!("it is none of the job's: {wrote:?}"));
    }
}

/// No version that we added stays above what somebody did between our read and our write.
fn laid(stage: &Stage, books: &holder::Books) {
    let mut log = stage.log();
    let looked_at = |wrote: &&model::Wrote| {
        let faulty = log.faults.iter().any(|(_, key)| *key == wrote.key) || log.frozen.contains(&wrote.key);
        let later = log.theirs.iter().any(|(at, key)| *key == wrote.key && *at > wrote.at);
        wrote.added && !faulty && !later && !books.handed_over
    };
    let stays = log.wrote.iter().filter(looked_at).find(|wrote| !wrote.excuses.is_empty()).cloned();
    let locked = |wrote: &model::Wrote| {
        let object = stage.version_of(&log, &wrote.key, &wrote.to).and_then(|version| version.object);
        object.is_some_and(|object| object.lock.standing(stage.world.env.now()).is_locked())
    };
    if let Some(wrote) = stays.filter(|wrote| !locked(wrote)) {
        log.harm(format!("a version that was added stays above what somebody did before it: {wrote:?}"));
    }
}

/// The case with as little in it as still comes to harm.
fn smallest(case: Case, off: Option<Off>) -> Case {
    let fewer = case.smaller().into_iter().find(|less| !run(less, off).harms.is_empty());
    match fewer {
        Some(less) => smallest(less, off),
        None => case,
    }
}

fn report(case: Case, off: Option<Off>) -> String {
    let small = smallest(case.clone(), off);
    let end = run(&small, off);
    format!("{case}\nas small as it gets:\n{small}\n{}\n{}", end.told.join("\n"), end.harms.join("\n"))
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The cases to run: the first one's number, and how many.
fn seeds() -> std::ops::Range<u64> {
    let (first, count) = match (asked("KEYROTATE_OPS_SEED"), asked("KEYROTATE_OPS_CASES")) {
        (Some(one), None) => (one, 1),
        (first, count) => (first.unwrap_or(0), count.unwrap_or(CASES)),
    };
    first..first + count
}

/// Runs the cases of one store, and sees that of enough of them something came.
fn nothing_is_harmed(mode: u64, strategies: &[&str]) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in seeds().filter(|seed| seed % 4 == mode) {
        let case = Case::of(seed);
        let end = run(&case, None);
        assert!(end.harms.is_empty(), "{}", report(case, None));
        if seeds().count() == 1 {
            tell(&case, &end);
        }
        end.counts.into_iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
    }
    if seeds() != (0..CASES) {
        return;
    }
    let count = |what: &str| counts.get(what).copied().unwrap_or(0);
    let rotated = strategies.iter().map(|strategy| format!("rotated by {strategy}"));
    let rare = ["a row says conflict", "a row says failed", "a write taken over", "theirs: hold", "window: headers"]
        .map(str::to_owned);
    let common = HAPPENS.map(str::to_owned);
    for (what, least) in rotated.chain(common).map(|what| (what, 10)).chain(rare.map(|what| (what, 3))) {
        assert!(count(&what) >= least, "`{what}` came about {} times: {counts:#?}", count(&what));
    }
    let writes = count("a version added") + count("a version replaced");
    for excuse in WINDOWS.iter().chain(&[LATE, TRAP, SAME_SECOND, OVERTAKEN, UNGUARDED]) {
        assert!(count(excuse) <= writes / 12, "`{excuse}` excuses too much: {counts:#?}");
    }
}

#[expect(clippy::print_stderr, reason = "somebody asked for this one case")]
fn tell(case: &Case, end: &End) {
    eprintln!("{case}\n{}", end.told.join("\n"));
}

/// What must come about on every store, or the cases see nothing any more.
const HAPPENS: [&str; 25] = [
    "a version added",
    "a version replaced",
    "an intent taken over",
    "current",
    "expired",
    "handed over",
    "op: dies before",
    "op: dies behind",
    "op: fails before",
    "op: fails behind",
    "op: forgets",
    "op: freezes",
    "op: lease ends",
    "op: slow",
    "skipped/gone",
    "skipped/locked",
    "taken over",
    "theirs: delete",
    "theirs: delete a version",
    "theirs: put",
    "theirs: same body again",
    "theirs: tags",
    "theirs: there and back",
    "window: tags",
    "withdrawn",
];

#[test]
fn nothing_is_harmed_on_aws() {
    nothing_is_harmed(0, &["update-encryption", "copy", "copy-multipart", "rewrite-multipart"]);
}

#[test]
fn nothing_is_harmed_on_minio() {
    let in_place = ["rewrite-in-place", "copy-multipart-in-place", "rewrite-multipart-in-place"];
    nothing_is_harmed(1, &[&in_place[..], &["rewrite", "copy-multipart", "rewrite-multipart"]].concat());
}

#[test]
fn nothing_is_harmed_on_moto() {
    nothing_is_harmed(2, &["rewrite", "copy-multipart"]);
}

#[test]
fn nothing_is_harmed_on_rgw() {
    nothing_is_harmed(3, &["rewrite", "rewrite-multipart"]);
}

/// Without a guard somebody comes to harm: else the cases would not show that the guard works. Stops at the first.
fn harm_is_found_without(off: Off, harm: &str) {
    let is_it = |case: &Case| run(case, Some(off)).harms.iter().any(|found| found.contains(harm));
    let harmed = (0..CASES).map(Case::of).find(is_it);
    let harmed = harmed.unwrap_or_else(|| panic!("{CASES} cases, and nothing shows that {off:?} is missing"));
    assert!(run(&harmed, None).harms.is_empty(), "{}", report(harmed, None));
}

#[test]
fn without_if_match_a_write_of_somebody_is_lost() {
    harm_is_found_without(Off::IfMatch, "another body");
}

#[test]
fn without_if_match_what_was_deleted_comes_back() {
    harm_is_found_without(Off::IfMatch, "what was deleted is back");
}

#[test]
fn without_the_guard_of_the_source_another_body_is_copied() {
    harm_is_found_without(Off::Source, "another body");
}

#[test]
fn without_intents_a_version_that_was_added_has_no_row() {
    harm_is_found_without(Off::Intents, "no row names a version that was added");
}

#[test]
fn without_intents_an_upload_of_ours_is_left() {
    harm_is_found_without(Off::Intents, "an upload of ours is left");
}

#[test]
fn without_a_look_below_a_version_that_was_added_hides_what_somebody_did() {
    harm_is_found_without(Off::Ground, "a version that was added stays above what somebody did before it");
}

#[test]
fn without_the_read_back_a_row_says_rotated_of_what_lost_a_part() {
    harm_is_found_without(Off::ReadBack, "it says rotated, and a part is lost");
}
