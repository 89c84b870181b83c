//! Answers of a store that are wrong: what is said of each, that nothing comes to harm by it, and that the same command
//! goes on with the same job when the store answers right again.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use keyrotate_store::{NewObject, Sse};
use keyrotate_tests::bucket::{open_uploads, put_parts};
use keyrotate_tests::prelude::*;

/// Jobs at a time: each has a store and a process of its own.
const AT_ONCE: usize = 3;

/// A fault of an operation on somebody's objects.
fn on(operation: &'static str, fault: Fault) -> FaultRule {
    FaultRule { key_prefix: "k/".into(), ..FaultRule::on(operation, fault) }
}

/// Few tries, so that a job that can't succeed ends soon.
fn hasty(stand: &Stand) -> JobFile {
    stand.job().retry("attempts: 1").retry("delay: 100ms")
}

fn says(ended: &Ended, parts: &[&str]) {
    let text = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!text.contains("panicked"), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

/// What could not be removed while the store did not answer is none of somebody's.
async fn theirs(stand: &Stand) -> Snapshot {
    let mut snapshot = stand.snapshot().await;
    snapshot.retain(|(key, _), _| !key.starts_with(".keyrotate/"));
    snapshot
}

/// The job that ended goes on, now that the store answers right, and all of it comes out right.
async fn goes_on(stand: &Stand, job: &JobFile, before: &Snapshot, ended: &Ended) {
    stand.target.faults().clear();
    let done = stand.run(job, &[]).await.expect_completed();
    assert_eq!(done.job(), ended.job(), "the same job goes on");
    let report = oracle::check(stand, job, before, &done, &Expect::default()).await;
    let right = report.count("rotated") + report.count("current");
    assert_eq!(right, before.len() as u64, "{}", report.summary);
}

async fn stand(mode: Mode, versioned: bool) -> Stand {
    let stand = Stand::on(Arc::new(Target::embedded(mode).await), versioned).await;
    let one = |n| Put::under(&stand.target.old_key, format!("k/{n}"), format!("body {n}")).tag("a", "b");
    stand.put_all((0..12).map(one)).await;
    stand
}

/// A job that can't begin writes nothing, and says what was asked of what, what came, and what to do.
async fn refused(stand: &Stand, rule: FaultRule, parts: &[&str]) -> (Snapshot, Ended) {
    let before = stand.snapshot().await;
    stand.target.faults().add(rule);
    let ended = stand.run(&hasty(stand), &["--no-wait"]).await.expect(5);
    assert!(stand.target.faults().met() > 0, "the fault was not met");
    says(&ended, parts);
    stand.target.faults().clear();
    oracle::nothing_was_written(&before, &theirs(stand).await, "a job that could not begin");
    (before, ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_wrongly_at_the_start_is_told_and_the_job_goes_on_later() {
    let not_s3 = &["GetBucketVersioning", "the answer is a web page", "AWS_ENDPOINT_URL", "start again"][..];
    let cases: [(bool, FaultRule, &[&str]); 8] = [
        (false, FaultRule::every(Fault::WebPage(200)), not_s3),
        (false, FaultRule::every(Fault::WebPage(404)), not_s3),
        (false, FaultRule::on("GetBucketVersioning", Fault::HalfBody), &["GetBucketVersioning", "broken XML"]),
        (false, FaultRule::on("ListObjectsV2", Fault::HalfBody), &["ListObjectsV2", "broken XML"]),
        (
            true,
            FaultRule::on("ListObjectVersions", Fault::ErrorInside("Strange")),
            &["ListObjectVersions: 200 Strange"],
        ),
        (
            false,
            FaultRule::on("ListObjectsV2", Fault::LastFirst),
            &["ListObjectsV2", "is listed behind", "nobody can tell"],
        ),
        (true, FaultRule::on("ListObjectVersions", Fault::FirstTwice), &["ListObjectVersions", "is listed twice"]),
        (
            false,
            FaultRule::every(Fault::OtherRegion("eu-central-1")),
            &["301 PermanentRedirect", "AWS_REGION=eu-central-1"],
        ),
    ];
    let each = stream::iter(cases).map(|(versioned, rule, parts)| async move {
        let stand = stand(Mode::aws(), versioned).await;
        let (before, ended) = refused(&stand, rule, parts).await;
        says(&ended, &[&stand.bucket]);
        goes_on(&stand, &hasty(&stand), &before, &ended).await;
    });
    each.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named_before_anything_is_written() {
    let rights = [
        (false, "ListObjectsV2", "s3:ListBucket"),
        (true, "ListObjectVersions", "s3:ListBucketVersions"),
        (false, "GetBucketVersioning", "s3:GetBucketVersioning"),
        (false, "HeadObject", "s3:GetObject"),
        (true, "HeadObject", "s3:GetObjectVersion"),
        (false, "GetObject", "s3:GetObject"),
        (false, "GetObjectTagging", "s3:GetObjectTagging"),
        (false, "PutObject", "s3:PutObject and s3:PutObjectTagging"),
        (false, "DeleteObject", "s3:DeleteObject"),
    ];
    let denied = Fault::Refused(403, "AccessDenied", "Access Denied");
    let each = stream::iter(rights).map(|(versioned, operation, right)| async move {
        let stand = stand(Mode::aws(), versioned).await;
        let _refused = refused(&stand, FaultRule::on(operation, denied), &[operation, "403", "; grant ", right]).await;
    });
    each.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_stores_own_kms_does_not_know_is_named() {
    let stand = stand(Mode::aws(), false).await;
    let unknown = Fault::Refused(400, "KMS.NotFoundException", "Invalid keyId");
    let parts = ["PutObject: 400 KMS.NotFoundException", "create `key-b`"];
    let (before, ended) = refused(&stand, FaultRule::on("PutObject", unknown), &parts).await;
    goes_on(&stand, &hasty(&stand), &before, &ended).await;
}

/// What lies in the bucket of a job that meets a wrong answer while it works.
#[derive(Clone, Copy)]
enum Lies {
    Sealed,
    Plain,
    InParts,
}

async fn filled(mode: Mode, lies: Lies) -> Stand {
    let bare = || Stand::embedded(mode.clone());
    match lies {
        Lies::Sealed => stand(mode, false).await,
        Lies::Plain => {
            let stand = bare().await;
            for n in 0..6 {
                let new = NewObject { sse: Sse::None, ..NewObject::default() };
                stand.seed_plaintext(&format!("k/{n}"), new, bytes::Bytes::from("body")).await;
            }
            stand
        }
        Lies::InParts => {
            let stand = bare().await;
            let one = Put::under(&stand.target.old_key, "k/parts", vec![7; 6 << 20]);
            put_parts(stand.client(), &stand.bucket, one, 5 << 20).await;
            stand
        }
    }
}

/// A job whose calls about somebody's objects are answered wrongly: each is an object that failed, with what was asked and
/// what came; none was written, none is taken for gone. Then the store answers right.
async fn meets(mode: Mode, lies: Lies, operation: &'static str, fault: Fault, part: &str) {
    let stand = filled(mode, lies).await;
    let before = stand.snapshot().await;
    let job = hasty(&stand).option("verifyBodies: 0");
    stand.target.faults().add(on(operation, fault));
    let ended = stand.run(&job, &["--no-wait"]).await.expect(4);
    assert!(stand.target.faults().met() > 0, "{operation} was not called");
    stand.target.faults().clear();
    says(&ended, &["objects-left"]);
    let report = stand.report(&ended);
    assert_eq!(report.count("failed"), before.len() as u64, "{operation} {fault:?}: {}", report.summary);
    for row in &report.rows {
        assert!(row["detail"].contains(part), "`{part}` is missing in {row:?}");
    }
    oracle::nothing_was_written(&before, &theirs(&stand).await, "a write that was never done");
    // Which of them is ours the store did not say: those are for a person to end.
    let left = report.summary["leftoverUploads"].as_array().expect("a list");
    assert_eq!(left.len(), open_uploads(stand.client(), &stand.bucket).await.len(), "{operation}: {}", report.summary);
    assert_eq!(!left.is_empty(), operation == "CreateMultipartUpload");
    for upload in left {
        let text = |name: &str| upload[name].as_str().unwrap_or_default().to_owned();
        assert!(text("command").contains(&text("uploadId")), "{upload}");
        let abort = stand.client().abort_multipart_upload().bucket(&stand.bucket);
        abort.key(text("key")).upload_id(text("uploadId")).send().await.expect("it is there");
    }
    goes_on(&stand, &job, &before, &ended).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_and_errors_in_the_place_of_objects_are_no_outcome_of_them() {
    let cases = [
        (Mode::aws(), Lies::Sealed, "HeadObject", Fault::WebPage(200), "HeadObject: the answer has no ETag"),
        (Mode::rgw(), Lies::Sealed, "GetObject", Fault::WebPage(404), "GetObject: 404: the answer is a web page"),
        (Mode::rgw(), Lies::Sealed, "PutObject", Fault::WebPage(200), "PutObject: the answer names no ETag"),
        (Mode::aws(), Lies::Sealed, "UpdateObjectEncryption", Fault::WebPage(200), "the answer is a web page"),
        (Mode::aws(), Lies::Sealed, "UpdateObjectEncryption", Fault::Nothing, "after a good answer it shows sse-kms:"),
    ];
    let each =
        stream::iter(cases).map(|(mode, lies, operation, fault, part)| meets(mode, lies, operation, fault, part));
    each.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_under_a_good_status_is_an_error_of_every_write() {
    let inside = Fault::ErrorInside("InternalError");
    let cases = [
        (Mode::aws(), Lies::Plain, "CopyObject", "CopyObject: 200 InternalError"),
        (Mode::aws(), Lies::Sealed, "UpdateObjectEncryption", "UpdateObjectEncryption: 200 InternalError"),
        (Mode::minio(), Lies::InParts, "UploadPartCopy", "UploadPartCopy: 200 InternalError"),
        (Mode::minio(), Lies::InParts, "CompleteMultipartUpload", "CompleteMultipartUpload: 200 InternalError"),
    ];
    let each = stream::iter(cases).map(|(mode, lies, operation, part)| meets(mode, lies, operation, inside, part));
    each.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
}

/// It is known by its key alone, and could be a user's.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_name_did_not_arrive_is_listed_with_what_removes_it() {
    let create = "CreateMultipartUpload";
    meets(Mode::minio(), Lies::InParts, create, Fault::HalfBody, create).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_not_to_be_there_and_is_listed_all_the_same_is_looked_at_again() {
    let stand = stand(Mode::aws(), false).await;
    let before = stand.snapshot().await;
    let gone = Fault::Refused(404, "NoSuchKey", "The specified key does not exist.");
    for operation in ["HeadObject", "GetObject"] {
        stand.target.faults().add(on(operation, gone).times(4));
    }
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    assert!(stand.target.faults().met() > 0);
    stand.target.faults().clear();
    let report = oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 12, "{}", report.summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_that_has_expired_is_gone_on_from_the_last_key() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 1_100).await;
    let before = stand.snapshot().await;
    let expired = Fault::Refused(400, "InvalidArgument", "The continuation token provided is incorrect");
    stand.target.faults().add(FaultRule { query: Some("continuation-token"), ..FaultRule::every(expired) });
    let ended = stand.run(&stand.job(), &[]).await.expect_completed();
    assert!(stand.target.faults().met() >= 2, "pages behind the first one, of walk and verify");
    stand.target.faults().clear();
    let report = oracle::check(&stand, &stand.job(), &before, &ended, &Expect::default()).await;
    assert_eq!(report.count("rotated"), 1_100, "{}", report.summary);
}

/// A third, half and two thirds through the listings of a job's life, from there on the store lists wrongly.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_begins_to_list_wrongly_leaves_no_object_out() {
    for (versioned, operation) in [(false, "ListObjectsV2"), (true, "ListObjectVersions")] {
        let healthy = stand(Mode::aws(), versioned).await;
        let seen = healthy.target.requests(&[operation]);
        let _done = healthy.run(&hasty(&healthy), &[]).await.expect_completed();
        let listings = healthy.target.requests(&[operation]) - seen;
        assert!(listings > 5, "{listings}");
        let faults = [Fault::LastFirst, Fault::FirstTwice, Fault::HalfBody];
        let points = [listings / 3, listings / 2, listings * 2 / 3];
        let each = stream::iter(points.into_iter().zip(faults)).map(|(point, fault)| async move {
            let stand = stand(Mode::aws(), versioned).await;
            let before = stand.snapshot().await;
            stand.target.faults().add(FaultRule::on(operation, fault).after(point));
            let ended = stand.run(&hasty(&stand), &["--no-wait"]).await;
            assert!(matches!(ended.code, Some(4 | 5)), "after {point} listings: {ended:?}");
            says(&ended, &[operation, &stand.bucket]);
            goes_on(&stand, &hasty(&stand), &before, &ended).await;
        });
        each.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    }
}
