//! Who does what to a job: two persons where the file asks for them, and the audit record.

use keyrotate_checkpoint::record::{Growth, JobResult};
use keyrotate_proto::api::AuditRecord;
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::state::Phase;

use super::*;

impl Stand {
    async fn audit(&self, id: &JobId) -> AuditRecord {
        let (status, body) = self.ask("view", "get", &format!("/v1/jobs/{id}/audit"), "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn tell(&self, who: &str, id: &JobId, verb: &str) -> u16 {
        self.ask(who, "post", &format!("/v1/jobs/{id}/{verb}"), "").await.0
    }

    /// As `prepare` leaves it.
    async fn awaits_confirmation(&self, id: &JobId) {
        let change = |job: &JobRecord, _| {
            let growth = Some(Growth { versions: 1, bytes: 10, bound: 10, granted: 0 });
            let state = JobState::Live { phase: Phase::AwaitingConfirmation };
            Ok(JobRecord { growth, state, ..job.clone() })
        };
        self.api.site.ledger.update_job(id, change).await.unwrap();
    }
}

#[tokio::test]
async fn who_began_a_job_that_wants_two_persons_can_not_confirm_it_nor_let_it_add_more() {
    let stand = stand();
    let file = JOB.replace("encryption", "options: {approval: required}, encryption");
    let (status, body) = stand.ask("operate", "post", "/v1/jobs?confirm=true", &file).await;
    assert_eq!(status, 201, "{body}");
    let id = serde_json::from_str::<Submitted>(&body).unwrap().id;
    stand.awaits_confirmation(&id).await;
    let more = |who| {
        let (stand, path) = (&stand, format!("/v1/jobs/{id}/limits"));
        async move { stand.ask(who, "patch", &path, r#"{"maxAddedBytes": 20}"#).await.0 }
    };
    assert_eq!(stand.tell("view", &id, "confirm").await, 403, "a role of its own");
    assert_eq!((stand.tell("operate", &id, "confirm").await, more("operate").await), (403, 403));
    assert_eq!(stand.status(&id).await.job.state, "awaiting-confirmation");
    // Who began it may stop it, and have it add less.
    let less = stand.ask("operate", "patch", &format!("/v1/jobs/{id}/limits"), r#"{"maxAddedBytes": 5}"#).await.0;
    assert_eq!((stand.tell("operate", &id, "pause").await, less), (200, 200));
    assert_eq!(stand.tell("operate", &id, "resume").await, 200);
    assert_eq!(stand.status(&id).await.job.state, "awaiting-confirmation");
    assert_eq!((stand.tell("admin", &id, "confirm").await, more("admin").await), (200, 200));
    assert_eq!(stand.status(&id).await.job.state, "running");
    let who: Vec<_> = stand.audit(&id).await.entries.into_iter().map(|entry| (entry.who, entry.what)).collect();
    let who: Vec<_> = who.iter().map(|(who, what)| (who.as_str(), what.as_str())).collect();
    let (ours, theirs) = ("operate", "admin");
    let all =
        [(ours, "submit"), (ours, "limit"), (ours, "pause"), (ours, "resume"), (theirs, "confirm"), (theirs, "limit")];
    assert_eq!(who.len(), all.len(), "{who:?}");
    assert!(all.iter().all(|one| who.contains(one)), "{who:?}");

    let usual = stand.submit(&JOB.replace("prefix: a/", "prefix: b/")).await;
    stand.awaits_confirmation(&usual).await;
    assert_eq!(stand.tell("operate", &usual, "confirm").await, 200);
}

#[tokio::test]
async fn without_tokens_nobody_is_a_second_person() {
    let stand = stand();
    stand.api.set_tokens(Vec::new());
    let file = JOB.replace("encryption", "options: {approval: required}, encryption");
    let with = [("host", "localhost"), ("content-type", "application/yaml")];
    let (status, body) = stand.send("post", "/v1/jobs", &with, &file).await;
    assert!(status == 422 && body.contains("token"), "{status}: {body}");
}

#[tokio::test]
async fn the_audit_record_has_all_that_was_done_and_shows_what_was_changed_in_it() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    assert_eq!(stand.tell("operate", &id, "pause").await, 200);
    assert_eq!(stand.tell("operate", &id, "confirm").await, 409, "what is refused is not in it");
    assert_eq!(stand.tell("admin", &id, "resume").await, 200);
    let limits = stand.ask("operate", "patch", &format!("/v1/jobs/{id}/limits"), r#"{"permits": 3}"#).await;
    assert_eq!(limits.0, 200);
    assert_eq!(stand.tell("scoped", &id, "cancel").await, 200);
    let record = stand.audit(&id).await;
    assert_eq!((&record.spec_hash, &record.broken), (&stand.record(&id).await.spec_hash, &None));
    let line = |entry: &keyrotate_proto::audit::Entry| {
        format!("{} {} {} {}", entry.who, entry.what, entry.state, entry.detail.replace(&record.spec_hash, "HASH"))
    };
    let lines: Vec<_> = record.entries.iter().map(line).collect();
    let wanted = [
        "operate submit queued spec HASH",
        "operate pause queued ",
        "admin resume paused ",
        r#"operate limit queued {"permits":3}"#,
        "scoped cancel queued ",
    ];
    assert_eq!(lines, wanted);

    let files = stand.api.site.reports.of(&id).unwrap();
    let second = files.get("audit/000001.json").await.unwrap();
    let forged = String::from_utf8(second).unwrap().replace("\"operate\"", "\"admin\"");
    files.put("audit/000001.json", forged.into()).await.unwrap();
    let broken = stand.audit(&id).await.broken.unwrap();
    assert!(broken.contains("entry 1") && broken.contains("entry 2"), "{broken}");
}

#[tokio::test]
async fn of_many_at_the_same_moment_each_has_its_entry() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let all = futures::future::join_all((0..8).map(|n| {
        let (stand, path, body) = (&stand, format!("/v1/jobs/{id}/limits"), format!(r#"{{"permits": {}}}"#, n + 1));
        async move { stand.ask("operate", "patch", &path, &body).await.0 }
    }));
    assert_eq!(all.await, [200; 8]);
    let record = stand.audit(&id).await;
    assert_eq!((record.entries.len(), record.broken), (9, None));
}

#[tokio::test]
async fn a_job_is_stopped_even_where_that_can_not_be_written_down_and_goes_on_only_where_it_can() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    // Nothing can be written below a file.
    let audit = stand.dir.path().join("reports").join(id.as_str()).join("audit");
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::write(&audit, "").unwrap();
    assert_eq!(stand.tell("operate", &id, "pause").await, 200);
    let resumed = stand.tell("operate", &id, "resume").await;
    assert!(resumed >= 500, "{resumed}");
    assert_eq!(stand.status(&id).await.job.state, "paused");
    assert_eq!(stand.tell("operate", &id, "cancel").await, 200);
}

#[tokio::test]
async fn a_resume_that_came_too_late_is_told_so_in_the_audit_record() {
    let stand = stand();
    let id = stand.submit(JOB).await;
    let ledger = &stand.api.site.ledger;
    ledger.update_job(&id, |job, now| transition::fail(job, StopReason::Lost, "", now)).await.unwrap();
    let result = JobResult { counts: Counts::default(), ended: ledger.now().await.unwrap(), report: None };
    ledger.end_job(&id, &result).await.unwrap();
    let _another = stand.submit(JOB).await;
    assert_eq!(stand.tell("operate", &id, "resume").await, 409);
    let entries = stand.audit(&id).await.entries;
    let done: Vec<_> = entries.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(done, ["submit", "resume", "resume-refused"]);
    assert_eq!(entries[2].detail, "another job began on its keys since");
}
