//! Starts that are refused, each with what is wrong and how to mend it.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrotate_devstack::kes::{ApiKey, Grant, KesServer, KesServerConfig, Policy, ServerCert};
use keyrotate_env::Env;
use keyrotate_tests::prelude::*;

/// Runs a job that can't begin, with some variables changed; gives what was said.
async fn refused(stand: &Stand, job: &JobFile, changes: &[(&str, &str)]) -> String {
    let mut variables = stand.target.variables().clone();
    variables.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let file = stand.write(job).display().to_string();
    let ended = stand.start_with(&["run", &file, "--no-wait"], &variables).end().await.expect(5);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    format!("{}{}", ended.stdout, ended.stderr)
}

/// A KES on the stand's keys that gives us one right only, and the variables that lead to it.
async fn kes_that_allows(stand: &Stand, pattern: &str) -> (KesServer, BTreeMap<String, String>) {
    let env = Env::system();
    let api_key = ApiKey::generate(&env);
    let policy = Policy::allow([pattern]);
    let grant = Grant { name: "narrow".to_owned(), policy, identities: vec![api_key.identity.clone()] };
    let cert = ServerCert::generate().expect("a certificate can be made");
    let config = KesServerConfig { addr: ([127, 0, 0, 1], 0).into(), grants: vec![grant], admin: None, cert };
    let keys = stand.target.stack().expect("an embedded target").kes().clone();
    let server = KesServer::start(keys, config).await.expect("a port is free");
    let ca = stand.dir().join("narrow-kes.crt");
    std::fs::write(&ca, server.ca_pem()).expect("the test's folder can be written");
    let mut variables = stand.target.variables().clone();
    variables.insert("MINIO_KMS_KES_ENDPOINT".to_owned(), server.endpoint());
    variables.insert("MINIO_KMS_KES_API_KEY".to_owned(), api_key.text.to_string());
    variables.insert("MINIO_KMS_KES_CAPATH".to_owned(), ca.display().to_string());
    (server, variables)
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_bucket_is_named() {
    let stand = Stand::embedded(Mode::aws()).await;
    let text = refused(&stand, &JobFile::of("no-such-bucket").key("key-b"), &[]).await;
    says(&text, &["no-such-bucket", "check the bucket's name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 3).await;
    let text = refused(&stand, &stand.job(), &[("AWS_SECRET_ACCESS_KEY", "wrong")]).await;
    says(&text, &["check the credentials"]);
    let text = refused(&stand, &stand.job(), &[("AWS_ACCESS_KEY_ID", "nobody")]).await;
    says(&text, &["check the credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_target_key_is_named_with_the_command_that_makes_it() {
    for mode in [Mode::aws(), Mode::minio()] {
        let stand = Stand::embedded(mode).await;
        stand.put_old("k/", 3).await;
        let before = stand.snapshot().await;
        let text = refused(&stand, &JobFile::of(&stand.bucket).key("no-such-key"), &[]).await;
        says(&text, &["no-such-key", "kes key create no-such-key"]);
        assert_eq!(stand.snapshot().await, before, "nothing was touched");
        oracle::nothing_of_ours_is_left(&stand).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_kes_lacks_ends_the_start_at_once_with_the_policy_line() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 3).await;
    for (allowed, missing) in [("/v1/key/decrypt/*", "generate"), ("/v1/key/generate/*", "decrypt")] {
        let (_server, variables) = kes_that_allows(&stand, allowed).await;
        let file = stand.write(&stand.job()).display().to_string();
        // Without `--no-wait`: a person has to mend it, so there is nothing to wait for.
        let ended = stand.start_with(&["run", &file, "--new"], &variables).end().await.expect(5);
        says(&format!("{}{}", ended.stdout, ended.stderr), &[&format!("allow: /v1/key/{missing}/key-b")]);
    }
    oracle::nothing_of_ours_is_left(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_where_nobody_listens_is_named() {
    let stand = Stand::embedded(Mode::aws()).await;
    let text = refused(&stand, &stand.job(), &[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]).await;
    says(&text, &["check the endpoint (AWS_ENDPOINT_URL)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_may_not_pass_are_no_way_where_it_is_the_only_one() {
    let stand = Stand::embedded(Mode::rgw()).await;
    stand.put_old("k/", 3).await;
    let before = stand.snapshot().await;
    let job = JobFile::of(&stand.bucket).key("key-b").option("bodyTransit: 0");
    let text = refused(&stand, &job, &[]).await;
    says(&text, &["bodyTransit: any"]);
    assert_eq!(stand.snapshot().await, before, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_versions_with_gaps_is_refused() {
    let stand = Stand::on(Arc::new(Target::embedded(Mode::moto()).await), true).await;
    stand.put_old("k/", 3).await;
    let before = stand.snapshot().await;
    let text = refused(&stand, &stand.job(), &[]).await;
    says(&text, &["listing of versions leaves out"]);
    assert_eq!(stand.snapshot().await, before, "nothing was touched");
    oracle::nothing_of_ours_is_left(&stand).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_file_is_told_with_line_and_field_before_anything_is_asked() {
    let stand = Stand::embedded(Mode::aws()).await;
    let seen = stand.target.faults().requests();
    let job = stand.job().option("bodyTransport: any");
    let ended = stand.run(&job, &[]).await.expect(2);
    says(&ended.stderr, &["job.yaml", "bodyTransport", "bodyTransit"]);
    let none = stand.start(&["run", "no-such-file.yaml"]).end().await;
    assert!(matches!(none.code, Some(2 | 5)), "{none:?}");
    assert_eq!(stand.target.faults().requests(), seen, "the store was not asked");
}
