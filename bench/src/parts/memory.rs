//! Peak memory over buckets of different sizes.

use serde_json::json;

use super::{Bench, Part};
use crate::Error;
use crate::client::float;
use crate::server::{ServeArgs, Server};
use crate::strategy::OLD;

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
}
