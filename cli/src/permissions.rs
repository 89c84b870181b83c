//! `permissions`: the least rights that one job needs, as a policy to attach. `docs/least-privilege.md` shows the same.

use keyrotate_proto::job::{BucketPattern, Parsed};
use keyrotate_proto::spec::{JobSpec, Target};
use serde_json::{Value, json};

use crate::args::{PermissionsArgs, PolicyArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;

/// Prints the policy.
#[expect(clippy::print_stdout, reason = "the policy is the output")]
pub(crate) fn permissions(args: &PermissionsArgs) -> Result<Exit, Failure> {
    let config = crate::config::load(args.config.clone(), Vec::new())?;
    let parsed = files::read(&args.file, config.notify.allow_private)?;
    match args.format {
        PolicyArg::Aws => println!("{:#}", policy(&parsed, false)),
        PolicyArg::Minio => println!("{:#}", policy(&parsed, true)),
        PolicyArg::Kes => print!("{}", kes(&parsed.spec)),
    }
    Ok(Exit::Completed)
}

/// What is asked about the bucket.
const LOOK: [&str; 10] = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:ListBucketMultipartUploads",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:GetEncryptionConfiguration",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:GetBucketNotification",
];

/// What reads and writes objects.
const ROTATE: [&str; 10] = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectTagging",
    "s3:GetObjectVersionTagging",
    "s3:GetObjectRetention",
    "s3:GetObjectLegalHold",
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
];

/// MinIO refuses a policy with actions of AWS that it does not know, and asks for the right to the bucket's policy where
/// somebody looks at an object's ACL.
fn policy(parsed: &Parsed, minio: bool) -> Value {
    let spec = &parsed.spec;
    let places: Vec<(&str, &str)> = match parsed.buckets.is_empty() {
        true => vec![(&spec.bucket, &spec.prefix)],
        false => parsed.buckets.iter().map(|entry| (entry.bucket(), entry.prefix())).collect(),
    };
    let arn = |place: &str| format!("arn:aws:s3:::{place}");
    let bucket = one_or_more(places.iter().map(|(bucket, _)| arn(bucket)));
    let objects = one_or_more(places.iter().map(|(bucket, prefix)| arn(&format!("{bucket}/{prefix}*"))));
    let own = one_or_more(places.iter().map(|(bucket, _)| arn(&format!("{bucket}/.keyrotate/*"))));
    let scope = one_or_more(places.iter().flat_map(|(bucket, prefix)| {
        let own = (!prefix.is_empty()).then(|| arn(&format!("{bucket}/.keyrotate/*")));
        std::iter::once(arn(&format!("{bucket}/{prefix}*"))).chain(own)
    }));
    let mut look = LOOK.to_vec();
    let mut rotate = ROTATE.to_vec();
    if minio {
        look.push("s3:GetBucketPolicy");
    } else {
        look.push("s3:GetBucketOwnershipControls");
        rotate.extend(["s3:GetObjectAcl", "s3:GetObjectVersionAcl"]);
        rotate.extend(matches!(spec.target, Target::SseKms { .. }).then_some("s3:UpdateObjectEncryption"));
    }
    let allow = |sid: &str, actions: &[&str], on: Value| json!({"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": on});
    let mut statements = vec![allow("Look", &look, bucket), allow("Rotate", &rotate, scope)];
    if parsed.buckets.iter().any(BucketPattern::is_open) {
        statements.insert(0, allow("Find", &["s3:ListAllMyBuckets"], json!("arn:aws:s3:::*")));
    }
    if spec.filter.force_encrypt_locked {
        statements.push(allow("LockedObjects", &["s3:PutObjectRetention", "s3:PutObjectLegalHold"], objects.clone()));
    }
    statements.push(allow("AddedVersions", &["s3:DeleteObjectVersion"], objects));
    statements.push(allow("OwnProbes", &["s3:DeleteObject", "s3:DeleteObjectVersion"], own));
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn one_or_more(all: impl Iterator<Item = String>) -> Value {
    let mut all: Vec<String> = all.collect();
    all.sort_unstable();
    all.dedup();
    if let [one] = &*all { json!(one) } else { json!(all) }
}

/// KES is asked about the target keys only: what objects lie under, the store opens with rights of its own.
fn kes(spec: &JobSpec) -> String {
    let mut keys: Vec<&str> = match &spec.target {
        Target::SseKms { key: Some(key), .. } => vec![key.bare()],
        Target::SseKms { key: None, .. } if spec.keys.is_empty() => vec!["*"],
        _ => spec.keys.values().map(keyrotate_proto::key::KeyName::bare).collect(),
    };
    keys.sort_unstable();
    keys.dedup();
    let mut text = "policy:\n  keyrotate:\n    allow:\n".to_owned();
    for key in &keys {
        for call in ["generate", "decrypt"] {
            text.push_str(&format!("      - /v1/key/{call}/{key}\n"));
        }
    }
    if keys.is_empty() {
        text = "policy:\n  keyrotate:\n    allow: []    # this job asks KES for nothing\n".to_owned();
    }
    text.push_str("    identities: [\"…\"]           # `kes identity of keyrotate.crt`\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        keyrotate_proto::job::parse(text.as_bytes(), "job.yaml").expect("a job file")
    }

    fn spec(text: &str) -> JobSpec {
        parsed(text).spec
    }

    fn statements(policy: &Value) -> Vec<String> {
        let all = policy["Statement"].as_array().expect("statements");
        all.iter().map(|s| format!("{} on {}", s["Sid"].as_str().expect("a name"), s["Resource"])).collect()
    }

    const JOB: &str = "keyrotate:\n  apiVersion: v1\n  bucket: invoices\n  prefix: 2026/\n  encryption: {key: k}\n";

    #[test]
    fn a_policy_reaches_no_further_than_the_job() {
        let policy = policy(&parsed(JOB), false);
        assert_eq!(
            statements(&policy),
            [
                r#"Look on "arn:aws:s3:::invoices""#,
                r#"Rotate on ["arn:aws:s3:::invoices/.keyrotate/*","arn:aws:s3:::invoices/2026/*"]"#,
                r#"AddedVersions on "arn:aws:s3:::invoices/2026/*""#,
                r#"OwnProbes on "arn:aws:s3:::invoices/.keyrotate/*""#,
            ]
        );
        assert!(policy.to_string().contains("s3:UpdateObjectEncryption"));
    }

    #[test]
    fn of_several_buckets_each_is_reached_and_a_pattern_wants_their_list() {
        let several = JOB.replace("bucket: invoices\n  prefix: 2026/", "buckets: [logs-*, data/2026/]");
        assert_eq!(
            statements(&policy(&parsed(&several), true)),
            [
                r#"Find on "arn:aws:s3:::*""#,
                r#"Look on ["arn:aws:s3:::data","arn:aws:s3:::logs-*"]"#,
                r#"Rotate on ["arn:aws:s3:::data/.keyrotate/*","arn:aws:s3:::data/2026/*","arn:aws:s3:::logs-*/*"]"#,
                r#"AddedVersions on ["arn:aws:s3:::data/2026/*","arn:aws:s3:::logs-*/*"]"#,
                r#"OwnProbes on ["arn:aws:s3:::data/.keyrotate/*","arn:aws:s3:::logs-*/.keyrotate/*"]"#,
            ]
        );
    }

    #[test]
    fn what_only_some_jobs_or_stores_need_is_only_there_for_them() {
        let locked = format!("{JOB}  flags: {{filter: {{forceEncryptLocked: true}}}}\n");
        assert!(policy(&parsed(&locked), true).to_string().contains("s3:PutObjectLegalHold"));
        let minio = policy(&parsed(JOB), true).to_string();
        let only_aws = ["s3:UpdateObjectEncryption", "s3:GetObjectAcl", "s3:GetBucketOwnershipControls"];
        assert!(only_aws.iter().all(|action| !minio.contains(action)) && minio.contains("s3:GetBucketPolicy"));
        assert!(!minio.contains("s3:PutObjectLegalHold"));
        let s3 = JOB.replace("{key: k}", "{type: sse-s3}");
        assert!(!policy(&parsed(&s3), false).to_string().contains("s3:UpdateObjectEncryption"));
        assert!(kes(&spec(&s3)).contains("allow: []"));
    }

    #[test]
    fn kes_is_asked_for_the_target_keys_alone() {
        let lines = |text: &str| -> Vec<String> {
            kes(&spec(text))
                .lines()
                .filter_map(|line| line.trim().strip_prefix("- /v1/key/").map(str::to_owned))
                .collect()
        };
        assert_eq!(lines(JOB), ["generate/k", "decrypt/k"]);
        assert_eq!(lines(&JOB.replace("{key: k}", "{}")), ["generate/*", "decrypt/*"]);
        let keys = JOB.replace("encryption: {key: k}", "encryption: {}\n  keys: {a: y, b: x, c: y}");
        assert_eq!(lines(&keys), ["generate/x", "decrypt/x", "generate/y", "decrypt/y"]);
    }
}
