//! Store calls per object of each strategy.

use serde_json::{Value, json};

use super::{Bench, Part};
use crate::Error;
use crate::server::Server;
use crate::strategy::{CASES, Case};
use crate::watch::{float, less};

/// Objects of the smaller run.
const FEW: u64 = 500;
/// Objects that the larger run has more.
const MORE: u64 = 1000;

impl Bench {
    /// The difference between a run over few objects and one over more: what a run costs once is not in it. Bodies are
    /// not verified, for that is a share of the objects.
    pub(crate) async fn calls(&self) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for case in &CASES {
            let (row, value) = self.calls_of(case).await?;
            rows.push(row);
            all.push(value);
        }
        Ok(Part {
            title: "Store calls per object".into(),
            columns: vec!["strategy (store)", "expected", "calls", "listings", "which"],
            rows,
            json: json!(all),
        })
    }

    async fn calls_of(&self, case: &Case) -> Result<(Vec<String>, Value), Error> {
        let mut server = Server::start(&case.store())?;
        let mut counts = Vec::new();
        for objects in [FEW, FEW + MORE] {
            let bucket = server.bucket_of(case.objects(objects))?;
            let options = [case.options, &["verifyBodies: \"0\""]].concat();
            counts.push(self.run(&mut server, &bucket, &options, &[]).await?.requests());
        }
        let (mut calls, mut listings, mut which) = (0.0, 0.0, Vec::new());
        for (name, count) in less(&counts[1], &counts[0]) {
            let share = count / float(MORE);
            if name.starts_with("List") {
                listings += share;
            } else {
                calls += share;
                which.push(format!("{name} {share:.2}"));
            }
        }
        let name = format!("{} ({})", case.name, case.mode);
        let cells = [name, case.calls.to_string(), format!("{calls:.3}"), format!("{listings:.3}"), which.join(", ")];
        let value = json!({ "strategy": case.name, "mode": case.mode, "expected": case.calls,
            "calls_per_object": calls, "listings_per_object": listings, "which": which });
        Ok((cells.to_vec(), value))
    }
}
