//! What more workers bring.

use std::time::Duration;

use keyrotate_devstack::model::SyntheticKeys;
use serde::Serialize;
use serde_json::json;

use super::{Bench, Part, bare_listing, middle};
use crate::Error;
use crate::fleet::{Crew, Fleet, QUIET, Run};
use crate::server::{ServeArgs, Server};
use crate::strategy::{CASES, OLD, job_file};
use crate::watch::{Spent, float};

/// How long the store takes to answer while workers write.
const LATENCY: Duration = Duration::from_millis(20);
/// And while they list.
const LISTING_LATENCY: Duration = Duration::from_millis(50);
/// Store calls in flight, of each worker.
const PERMITS: usize = 8;
/// Workers against one.
const WORKERS: usize = 4;
/// Workers that share what lies in one shard.
const SPLITTERS: usize = 8;
/// Store calls in flight, of each of those: so few that the store's latency decides, not this machine.
const FEW_PERMITS: usize = 2;
/// Of a hundred objects so many lie in one shard.
const HEAPED: u64 = 95;
/// Workers against one plain loop.
const LISTERS: usize = 8;

/// A round of writing.
#[derive(Debug, Serialize)]
struct Writing {
    one: Spent,
    many: Spent,
}

/// A round of an even and of an uneven bucket.
#[derive(Debug, Serialize)]
struct Splitting {
    even: Spent,
    uneven: Spent,
}

/// A round of listing.
#[derive(Debug, Serialize)]
struct Listing {
    /// Seconds of one loop from the first page to the last.
    bare_s: f64,
    /// Seconds of the walk.
    walk_s: f64,
}

impl Bench {
    /// Four workers against one, on a store that is slow to answer.
    pub(crate) async fn workers(&self, objects: u64) -> Result<Part, Error> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(Writing { one: self.writing(1, objects).await?, many: self.writing(WORKERS, objects).await? });
        }
        let ratio = |round: &Writing| round.many.rate() / round.one.rate();
        let cells = vec![
            format!("{:.0}", middle(&rounds, |round| round.one.rate())),
            format!("{:.0}", middle(&rounds, |round| round.many.rate())),
            format!("{:.2}", middle(&rounds, ratio)),
            format!("{:.0} %", 100.0 * middle(&rounds, |round| round.many.busy())),
        ];
        Ok(Part {
            title: format!(
                "{WORKERS} workers against one over {objects} objects, update-encryption, {PERMITS} permits each, store \
                 latency {LATENCY:?}, median of {}",
                self.rounds
            ),
            columns: vec!["1: obj/s", "4: obj/s", "4/1", "machine busy under 4"],
            rows: vec![cells],
            json: json!({ "objects": objects, "ratio": middle(&rounds, ratio), "rounds": rounds }),
        })
    }

    async fn writing(&self, workers: usize, objects: u64) -> Result<Spent, Error> {
        let [case, ..] = &CASES;
        let crew = Crew { workers, permits: PERMITS, log: QUIET };
        Ok(self.written(crew, case.objects(objects)).await?.seen.steady(case.write, objects))
    }

    async fn written(&self, crew: Crew, objects: SyntheticKeys) -> Result<Run, Error> {
        let [case, ..] = &CASES;
        let mut server = Server::start(&case.store())?;
        let bucket = server.bucket_of(objects)?;
        let fleet = Fleet::start(&self.keyrotate, &mut server, crew).await?;
        server.delay(LATENCY)?;
        fleet.run(&mut server, &job_file(&bucket, case.options, &[])).await
    }

    /// Whole jobs over a bucket of which one shard has nearly all, and over one that is spread evenly.
    pub(crate) async fn split(&self, objects: u64) -> Result<Part, Error> {
        let [case, ..] = &CASES;
        let crew = Crew { workers: SPLITTERS, permits: FEW_PERMITS, log: QUIET };
        let (mut rounds, even) = (Vec::new(), case.objects(objects));
        let uneven = SyntheticKeys { heaped: objects * HEAPED / 100, ..even.clone() };
        for _ in 0..self.rounds {
            rounds.push(Splitting {
                even: self.written(crew, even.clone()).await?.seen.whole(objects),
                uneven: self.written(crew, uneven.clone()).await?.seen.whole(objects),
            });
        }
        let ratio = |round: &Splitting| round.uneven.seconds / round.even.seconds;
        let cells = vec![
            format!("{:.1}", middle(&rounds, |round| round.even.seconds)),
            format!("{:.1}", middle(&rounds, |round| round.uneven.seconds)),
            format!("{:.2}", middle(&rounds, ratio)),
            format!("{:.0} %", 100.0 * middle(&rounds, |round| round.uneven.busy())),
        ];
        Ok(Part {
            title: format!(
                "{objects} objects, {HEAPED} % of them in one shard, {SPLITTERS} workers with {FEW_PERMITS} permits each, \
                 store latency {LATENCY:?}, median of {}",
                self.rounds
            ),
            columns: vec!["even s", "uneven s", "uneven/even", "machine busy under uneven"],
            rows: vec![cells],
            json: json!({ "objects": objects, "ratio": middle(&rounds, ratio), "rounds": rounds }),
        })
    }

    /// Eight workers that only list against one loop, on a store that takes its time for a page.
    pub(crate) async fn listing(&self, objects: u64) -> Result<Part, Error> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.listing_once(objects).await?);
        }
        let ratio = |round: &Listing| round.bare_s / round.walk_s;
        let cells = vec![
            format!("{:.0}", float(objects) / middle(&rounds, |round| round.bare_s)),
            format!("{:.0}", float(objects) / middle(&rounds, |round| round.walk_s)),
            format!("{:.1}", middle(&rounds, ratio)),
        ];
        Ok(Part {
            title: format!(
                "Listing {objects} keys, {LISTERS} workers against one loop, {LISTING_LATENCY:?} per page, median of {}",
                self.rounds
            ),
            columns: vec!["loop keys/s", "walk keys/s", "walk/loop"],
            rows: vec![cells],
            json: json!({ "objects": objects, "ratio": middle(&rounds, ratio), "rounds": rounds }),
        })
    }

    async fn listing_once(&self, objects: u64) -> Result<Listing, Error> {
        let mut server = Server::start(&ServeArgs { mode: "aws".to_owned(), unguarded_copy: false })?;
        let bucket = server.bucket(objects, Some(OLD))?;
        let crew = Crew { workers: LISTERS, permits: super::PERMITS, log: QUIET };
        let fleet = Fleet::start(&self.keyrotate, &mut server, crew).await?;
        server.delay(LISTING_LATENCY)?;
        let run = fleet.run(&mut server, &job_file(&bucket, &[], &["newerThan: 1d"])).await?;
        drop(fleet);
        let walk = run.passes.iter().find(|pass| pass.kind == "walk").ok_or("a job walks")?;
        let walk_s = walk.ended.ok_or("a walk ends")?.duration_since(walk.started).as_secs_f64();
        let bare = bare_listing(&mut server, &bucket, objects, 1, false, 0).await?;
        Ok(Listing { bare_s: bare.whole(objects).seconds, walk_s })
    }
}
