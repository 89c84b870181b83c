//! A run over a bucket that is all `current`, against a bare listing.

use serde::Serialize;
use serde_json::json;

use super::{Bench, PERMITS, Part, bare_listing, middle};
use crate::Error;
use crate::server::{ServeArgs, Server};
use crate::strategy::NEW;
use crate::watch::{Seen, Spent};

/// Listings side by side: as many slots as `run` has.
const SLOTS: u64 = 8;

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    /// Listing, and HEAD where the listing does not show enough.
    bare: Spent,
    /// Listing alone, as `verifying` does once more.
    bare_again: Spent,
    /// The walk of `run`.
    walk: Spent,
    /// Its preparation.
    prepare: Spent,
    /// Its verifying pass and report.
    verify: Spent,
    /// All of it.
    whole: Spent,
    /// Pages that the first bare loop read.
    bare_pages: u64,
    /// Pages that `run` read.
    run_pages: u64,
    /// CPU seconds of the store under `run`.
    server_cpu: f64,
    /// Largest memory of `run`.
    peak_kib: u64,
}

const COLUMNS: [&str; 9] = [
    "how (store)",
    "objects",
    "bare obj/s",
    "walk obj/s",
    "walk/bare",
    "whole/bare twice",
    "CPU walk/bare",
    "prepare s",
    "verify s",
];

impl Bench {
    /// With a listing that shows the facts over `listed` objects, without over `headed`.
    pub(crate) async fn second(&self, listed: u64, headed: u64) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let cases = [("listing shows facts", "minio", listed, 0), ("listing and HEAD", "aws", headed, PERMITS)];
        for (name, mode, objects, heads) in cases {
            let mut rounds = Vec::new();
            for _ in 0..self.rounds {
                rounds.push(self.second_once(mode, objects, heads).await?);
            }
            let ratios = [walk_ratio, whole_ratio, cpu_ratio].map(|ratio| middle(&rounds, ratio));
            rows.push(row(&format!("{name} ({mode})"), objects, &rounds));
            all.push(json!({ "name": name, "mode": mode, "objects": objects, "walk_ratio": ratios[0],
                "whole_ratio": ratios[1], "cpu_ratio": ratios[2], "rounds": rounds }));
        }
        let title = format!("A second run: everything is current, median of {}", self.rounds);
        Ok(Part { title, columns: COLUMNS.to_vec(), rows, json: json!(all) })
    }

    async fn second_once(&self, mode: &str, objects: u64, heads: usize) -> Result<Round, Error> {
        let mut server = Server::start(&ServeArgs { mode: mode.to_owned(), unguarded_copy: false })?;
        let bucket = server.bucket(objects, Some(NEW))?;
        let bare = bare_listing(&mut server, &bucket, objects, SLOTS, heads == 0, heads).await?;
        let bare_again = bare_listing(&mut server, &bucket, objects, SLOTS, heads == 0, 0).await?;
        let run = self.run(&mut server, &bucket, &[], &[]).await?;
        Ok(Round {
            bare: bare.whole(objects),
            bare_again: bare_again.whole(objects),
            walk: run.between("running", "verifying", objects),
            prepare: run.between("preparing", "running", objects),
            verify: run.between("verifying", "", objects),
            whole: run.whole(objects),
            bare_pages: pages(&bare),
            run_pages: pages(&run),
            server_cpu: run.server_cpu,
            peak_kib: run.peak_kib,
        })
    }
}

fn pages(seen: &Seen) -> u64 {
    seen.requests().get("ListObjectsV2").copied().unwrap_or(0)
}

fn walk_ratio(round: &Round) -> f64 {
    round.walk.rate() / round.bare.rate()
}

/// `run` lists everything twice, in the walk and in `verifying`: so does the loop.
fn whole_ratio(round: &Round) -> f64 {
    (round.bare.seconds + round.bare_again.seconds) / round.whole.seconds
}

fn cpu_ratio(round: &Round) -> f64 {
    round.walk.cpu_ms() / round.bare.cpu_ms()
}

fn row(name: &str, objects: u64, rounds: &[Round]) -> Vec<String> {
    let count = |pick: fn(&Round) -> f64| format!("{:.0}", middle(rounds, pick));
    let exact = |pick: fn(&Round) -> f64| format!("{:.2}", middle(rounds, pick));
    vec![
        name.to_owned(),
        objects.to_string(),
        count(|round| round.bare.rate()),
        count(|round| round.walk.rate()),
        exact(walk_ratio),
        exact(whole_ratio),
        exact(cpu_ratio),
        exact(|round| round.prepare.seconds),
        exact(|round| round.verify.seconds),
    ]
}
