//! What a spec asks for that can match no object at this moment, or under its target.

use std::time::Duration;

use jiff::Timestamp;

use super::problem::Problem;
use crate::spec::{JobSpec, Target};

/// What the spec asks for that can match no object now: by the clock, or under its target (`kmskey` with
/// `type: sse-s3`). `validate` warns of it, a start is refused. `now` is the time of the start. Without the file
/// there are no lines, and paths begin below `keyrotate`; [`super::Parsed::at_start`] has both.
#[must_use]
pub fn check_at_start(spec: &JobSpec, now: Timestamp) -> Vec<Problem> {
    let filter = &spec.filter;
    let mut problems = Vec::new();
    let mut add = |name: &str, message: String, hint: &str| {
        let path = format!("flags.filter.{name}");
        problems.push(Problem { file: String::new(), line: 0, column: 0, path, message, hint: Some(hint.to_owned()) });
    };
    if filter.kms_key.is_some() && spec.target == Target::SseS3 {
        let message = "matches nothing under `type: sse-s3`, which leaves objects under a KMS key alone".to_owned();
        add("kmskey", message, "remove it, or write `type: sse-kms`");
    }
    if let Some(after) = filter.created_after.filter(|after| *after >= now) {
        add("createdAfter", format!("{after} is still to come: no object matches now"), "give a date in the past");
    }
    let back = |age: Duration| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    if let (Some(newer), Some(before)) = (filter.newer_than, filter.created_before)
        && before <= back(newer)
    {
        let message = format!("objects newer than this were made after {}: none matches now", back(newer));
        add(
            "newerThan",
            format!("{message} and before `createdBefore`"),
            "give a longer time or a later `createdBefore`",
        );
    }
    if let Some(older) = filter.older_than {
        let latest = back(older);
        if let Some(after) = filter.created_after.filter(|after| *after < now && *after >= latest) {
            let message = format!("objects older than this were made before {latest}: none matches now");
            add("olderThan", format!("{message} and after `createdAfter` ({after})"), "give a shorter time");
        }
        if latest < Timestamp::UNIX_EPOCH {
            add("olderThan", format!("no object was made before {latest}"), "give a shorter time");
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn at_start(filter: &str, encryption: &str) -> Vec<(String, usize)> {
        let text = format!(
            "keyrotate:\n  apiVersion: v1\n  bucket: my-bucket\n  encryption: {encryption}\n  flags:\n    filter: {filter}\n"
        );
        let parsed = parse(text.as_bytes(), "job.yaml").unwrap();
        let now = NOW.parse().unwrap();
        let located = parsed.at_start(now);
        assert_eq!(located.len(), check_at_start(&parsed.spec, now).len());
        located.into_iter().map(|p| (p.path, p.line)).collect()
    }

    #[test]
    fn what_matches_nothing_now_is_named_with_its_line() {
        let one = |name: &str| vec![(format!("keyrotate.flags.filter.{name}"), 6)];
        assert_eq!(at_start("{kmskey: a}", "{type: sse-s3}"), one("kmskey"));
        assert_eq!(at_start("{kmskey: a}", "{type: sse-kms}"), []);
        assert_eq!(at_start("{createdAfter: 2026-11-21T12:00:00Z}", "{}"), one("createdAfter"));
        assert_eq!(at_start("{createdAfter: 2026-11-21T11:59:59Z}", "{}"), []);
        assert_eq!(at_start("{newerThan: 1d, createdBefore: 2026-11-20T12:00:00Z}", "{}"), one("newerThan"));
        assert_eq!(at_start("{newerThan: 1d, createdBefore: 2026-11-20T12:00:01Z}", "{}"), []);
        assert_eq!(at_start("{olderThan: 1d, createdAfter: 2026-11-20T12:00:00Z}", "{}"), one("olderThan"));
        assert_eq!(at_start("{olderThan: 1d, createdAfter: 2026-11-20T11:59:59Z}", "{}"), []);
        assert_eq!(at_start("{olderThan: 100000w}", "{}"), one("olderThan"));
    }
}
