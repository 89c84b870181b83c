//! A job file about several buckets: which jobs it stands for, and how all of them together end.

use keyrotate_proto::job::{BucketPattern, Scope, scopes};
use keyrotate_proto::say::chain;
use keyrotate_store::Store;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::say;

/// The scopes that its `buckets` name in this store.
pub(crate) async fn named(entries: &[BucketPattern], store: &dyn Store) -> Result<Vec<Scope>, Failure> {
    let mut there = Vec::new();
    if entries.iter().any(BucketPattern::is_open) {
        there = store.buckets().await.map_err(|e| {
            let mend = "grant `s3:ListAllMyBuckets`, or name each bucket in the job file";
            Failure::refused(format!("which buckets there are is not known: {}", chain(&e)), mend)
        })?;
    }
    let (found, idle) = scopes(entries, &there);
    if let Some(entry) = idle.first() {
        let mend = "correct it, or leave it out; nothing was begun";
        return Err(Failure::usage(format!("the store has no bucket that `{entry}` names"), mend));
    }
    Ok(found)
}

/// How the jobs ended so far.
#[derive(Debug, Default)]
pub(crate) struct Ends(Vec<(Scope, Exit)>);

impl Ends {
    /// Notes how one ended; what kept it from being begun is said.
    pub(crate) fn note(&mut self, scope: Scope, ended: Result<Exit, Failure>) -> Exit {
        let exit = ended.unwrap_or_else(|failure| {
            say(&format!("keyrotate: {failure}"));
            failure.exit()
        });
        self.0.push((scope, exit));
        exit
    }

    /// The exit code of all: the worst of them.
    pub(crate) fn worst(&self) -> Exit {
        self.0.iter().map(|(_, exit)| *exit).max_by_key(|exit| exit.weight()).unwrap_or(Exit::Completed)
    }

    /// A line for each, and one for all of `wanted`.
    pub(crate) fn lines(&self, wanted: usize) -> Vec<String> {
        let width = self.0.iter().map(|(scope, _)| scope.to_string().len()).max().unwrap_or(0);
        let mut lines: Vec<_> =
            self.0.iter().map(|(scope, exit)| format!("{:width$}  {}", scope.to_string(), exit.word())).collect();
        let done = self.0.iter().filter(|(_, exit)| matches!(exit, Exit::Completed | Exit::Exceptions)).count();
        lines.push(format!("{done} of {wanted} completed"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_end_as_the_worst_of_them() {
        let mut ends = Ends::default();
        let scope = |bucket: &str| Scope { bucket: bucket.into(), prefix: String::new() };
        assert_eq!(ends.worst(), Exit::Completed);
        ends.note(scope("a"), Ok(Exit::Completed));
        ends.note(scope("logs-b"), Ok(Exit::Exceptions));
        assert_eq!(ends.worst(), Exit::Exceptions);
        ends.note(scope("c"), Err(Failure::refused("no", "")));
        assert_eq!(ends.worst(), Exit::Refused);
        let lines = ["a       completed", "logs-b  completed with exceptions", "c       refused", "2 of 4 completed"];
        assert_eq!(ends.lines(4), lines);
    }
}
