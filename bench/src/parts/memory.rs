//! Peak memory over buckets of different sizes.

use serde_json::json;

use super::{Bench, PERMITS, Part};
use crate::Error;
use crate::fleet::{Crew, Fleet, QUIET};
use crate::server::{ServeArgs, Server};
use crate::strategy::{OLD, job_file};
use crate::watch::float;

impl Bench {
    /// Everything is left out by a time filter that the listing decides; walk and `verifying` included.
    pub(crate) async fn memory(&self, sizes: &[u64]) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let mut first = None;
        for objects in sizes {
            let mut server = Server::start(&ServeArgs { mode: "aws".to_owned(), unguarded_copy: false })?;
            let bucket = server.bucket(*objects, Some(OLD))?;
            let run = self.run(&mut server, &bucket, &[], &["newerThan: 1d"]).await?;
            let ratio = float(run.peak_kib) / float(*first.get_or_insert(run.peak_kib));
            let (mib, whole) = (float(run.peak_kib) / 1024.0, run.whole(*objects));
            let cells = [format!("{mib:.1}"), format!("{ratio:.2}"), format!("{:.1}", whole.seconds)];
            rows.push([vec![objects.to_string()], cells.to_vec()].concat());
            all.push(json!({ "objects": objects, "peak_kib": run.peak_kib, "ratio": ratio, "whole": whole,
                "states": run.states }));
        }
        Ok(Part {
            title: "Peak memory, everything left out by a time filter".into(),
            columns: vec!["objects", "peak MiB", "of the first", "run s"],
            rows,
            json: json!(all),
        })
    }

    /// The same with a fleet of two workers.
    pub(crate) async fn fleet_memory(&self, sizes: &[u64]) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        let mut first = None;
        for objects in sizes {
            let mut server = Server::start(&ServeArgs { mode: "aws".to_owned(), unguarded_copy: false })?;
            let bucket = server.bucket(*objects, Some(OLD))?;
            let crew = Crew { workers: 2, permits: PERMITS, log: QUIET };
            let fleet = Fleet::start(&self.keyrotate, &mut server, crew).await?;
            let run = fleet.run(&mut server, &job_file(&bucket, &[], &["newerThan: 1d"])).await?;
            let peaks = [run.peaks.coordinator, run.peaks.worker, run.peaks.redis];
            let first = first.get_or_insert(peaks);
            let mut row = vec![objects.to_string()];
            for (peak, first) in peaks.into_iter().zip(first) {
                row.push(format!("{:.1} ({:.2})", float(peak) / 1024.0, float(peak) / float(*first)));
            }
            let whole = run.seen.whole(*objects);
            row.push(format!("{:.1}", whole.seconds));
            rows.push(row);
            all.push(json!({ "objects": objects, "peaks_kib": run.peaks, "whole": whole }));
        }
        Ok(Part {
            title: "Peak memory of a fleet, everything left out by a time filter (of the first size)".into(),
            columns: vec!["objects", "coordinator MiB", "worker MiB", "Redis MiB", "job s"],
            rows,
            json: json!(all),
        })
    }
}
