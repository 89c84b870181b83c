//! The job file as typed structs, and the one place that calls `serde_yaml`.
//!
//! `serde_yaml` is no longer maintained: it only ever sees text of at most 64 KiB that another reader has taken, a
//! panic of it is caught, and nothing outside this file knows it. Text fields take a single value as it is written
//! (`key: 123` is the key `123`, `bucket: yes` the bucket `yes`), as MinIO's reader does; `null`, `~` and nothing
//! mean that the field is absent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A job file in one of its two layouts.
#[derive(Debug, PartialEq, JsonSchema)]
#[schemars(untagged, title = "keyrotate job file")]
pub(super) enum JobFile {
    /// Under `keyrotate:`, as MinIO and AIStor write it.
    Nested(NestedFile),
    /// Without it, as MinIO announced it in 2023.
    Flat(FlatFile),
}

/// Which layout a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Nested,
    Flat,
}

/// A job file with `keyrotate:` at its top.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NestedFile {
    /// The job.
    pub(super) keyrotate: Job,
    /// Another kind of job: always empty here.
    #[schemars(extend("type" = "null"))]
    pub(super) replicate: Option<()>,
    /// Another kind of job: always empty here.
    #[schemars(extend("type" = "null"))]
    pub(super) expire: Option<()>,
    /// Another kind of job: always empty here.
    #[schemars(extend("type" = "null"))]
    pub(super) catalog: Option<()>,
}

/// Changes the encryption key of the objects of a bucket.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("required" = ["apiVersion", "encryption"], "oneOf" = [{"required": ["bucket"]}, {"required": ["buckets"]}]))]
pub(super) struct Job {
    /// Version of the format: `v1`.
    #[schemars(extend("const" = "v1"))]
    pub(super) api_version: Option<String>,
    /// The bucket.
    pub(super) bucket: Option<String>,
    /// Only objects whose key begins with it; empty or absent: all.
    pub(super) prefix: Option<String>,
    /// keyrotate's own: several buckets, in the place of `bucket` and `prefix`. `NAME` or `NAME/PREFIX`; in a name `*` and
    /// `?` stand for other signs. Each becomes a job of its own.
    pub(super) buckets: Option<Vec<String>>,
    /// Which new key the objects under each old one get, instead of one `key` for all: `{old: new, older: new}`. What is under
    /// another key is left alone, and listed.
    pub(super) keys: Option<BTreeMap<String, Option<String>>>,
    /// keyrotate's own: only the objects that a file names; absent: all below the prefix.
    pub(super) manifest: Option<ManifestBlock>,
    /// What the objects shall be encrypted with. Without `type` AIStor's rules hold: always SSE-KMS, plaintext
    /// objects too; `{}` takes the store's default key.
    pub(super) encryption: Option<Encryption>,
    /// Filters, notification, retries.
    pub(super) flags: Option<Flags>,
    /// keyrotate's own additions; other tools do not know them.
    pub(super) options: Option<OptionsBlock>,
}

/// The flat layout: `type`, `key` and `context` may stand beside `bucket`.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("required" = ["apiVersion"], "oneOf" = [{"required": ["bucket"]}, {"required": ["buckets"]}]))]
pub(super) struct FlatFile {
    /// Empty, as in the template of the announcement.
    #[schemars(extend("type" = "null"))]
    pub(super) keyrotate: Option<()>,
    /// Version of the format: `v1`.
    #[schemars(extend("const" = "v1"))]
    pub(super) api_version: Option<String>,
    /// The bucket.
    pub(super) bucket: Option<String>,
    /// Only objects whose key begins with it; empty or absent: all.
    pub(super) prefix: Option<String>,
    /// keyrotate's own: several buckets, in the place of `bucket` and `prefix`. `NAME` or `NAME/PREFIX`; in a name `*` and
    /// `?` stand for other signs. Each becomes a job of its own.
    pub(super) buckets: Option<Vec<String>>,
    /// Which new key the objects under each old one get, instead of one `key` for all: `{old: new, older: new}`. What is under
    /// another key is left alone, and listed.
    pub(super) keys: Option<BTreeMap<String, Option<String>>>,
    /// keyrotate's own: only the objects that a file names; absent: all below the prefix.
    pub(super) manifest: Option<ManifestBlock>,
    /// What the objects shall be encrypted with, where it does not stand beside `bucket`.
    pub(super) encryption: Option<Encryption>,
    /// `sse-s3` or `sse-kms`.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["sse-s3", "sse-kms"]))]
    pub(super) kind: Option<String>,
    /// The KMS key, only for `sse-kms`; absent: the store's default key.
    pub(super) key: Option<String>,
    /// Encryption context, only for `sse-kms`: base64 of a JSON object of strings.
    pub(super) context: Option<String>,
    /// Filters, notification, retries.
    pub(super) flags: Option<Flags>,
    /// keyrotate's own additions; other tools do not know them.
    pub(super) options: Option<OptionsBlock>,
}

/// What the objects shall be encrypted with.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Encryption {
    /// `sse-s3` or `sse-kms`; absent: AIStor's rules, always SSE-KMS, plaintext objects too.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["sse-s3", "sse-kms"]))]
    pub(super) kind: Option<String>,
    /// The KMS key, only for SSE-KMS; absent: the store's default key. An `arn:aws:kms:` in front is tolerated.
    pub(super) key: Option<String>,
    /// Encryption context, only for SSE-KMS: base64 of a JSON object of strings. Readers need the same.
    pub(super) context: Option<String>,
}

/// Objects that are named one by one.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["location", "format"]))]
pub(super) struct ManifestBlock {
    /// `s3://BUCKET/KEY` on the job's store, or a file of this machine, which only `keyrotate run` reads.
    pub(super) location: Option<String>,
    /// `csv`: a list, `bucket,key[,version]` in each row, keys URL-encoded; `inventory`: `manifest.json` of S3 Inventory,
    /// with data files in CSV or Parquet.
    #[schemars(extend("enum" = ["csv", "inventory"]))]
    pub(super) format: Option<String>,
}

/// Filters, notification, retries.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Flags {
    /// Which objects are left out. Fields are ANDed.
    pub(super) filter: Option<FilterBlock>,
    /// Whom to tell about the end.
    pub(super) notify: Option<NotifyBlock>,
    /// Further passes over what failed.
    pub(super) retry: Option<RetryBlock>,
}

/// Which objects are left out. Fields are ANDed; entries inside `tags`, and inside `metadata`, are ORed.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FilterBlock {
    /// Only objects younger than this, counted back from the job's start: `7d10h31s` (w, d, h, m, s, ms).
    #[schemars(regex(pattern = r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"))]
    pub(super) newer_than: Option<String>,
    /// Only objects older than this, counted back from the job's start: `7d10h31s` (w, d, h, m, s, ms).
    #[schemars(regex(pattern = r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"))]
    pub(super) older_than: Option<String>,
    /// Only objects last modified after this moment: `YYYY-MM-DD` (midnight UTC) or RFC 3339.
    pub(super) created_after: Option<String>,
    /// Only objects last modified before this moment: `YYYY-MM-DD` (midnight UTC) or RFC 3339.
    pub(super) created_before: Option<String>,
    /// Only objects with one of these tags.
    pub(super) tags: Option<Vec<Entry>>,
    /// Only objects with one of these metadata entries, or headers such as `content-type`.
    pub(super) metadata: Option<Vec<Entry>>,
    /// Only SSE-KMS objects under this key.
    #[serde(rename = "kmskey")]
    pub(super) kms_key: Option<String>,
    /// The same as `kmskey`, as MinIO's code spells it.
    #[serde(rename = "kmskeyid")]
    pub(super) kms_key_id: Option<String>,
    /// AIStor: only objects without encryption.
    pub(super) plaintext_only: Option<bool>,
    /// AIStor: also encrypted objects under object lock or legal hold.
    pub(super) force_encrypt_locked: Option<bool>,
}

/// A tag or metadata entry.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["key", "value"]))]
pub(super) struct Entry {
    /// The name, compared without case.
    pub(super) key: Option<String>,
    /// A wildcard pattern for the value, compared with case: `*` any run, `?` one character.
    #[schemars(extend("type" = ["string", "number", "boolean", "null"]))]
    pub(super) value: Option<String>,
}

/// Whom to tell about the end.
#[derive(Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NotifyBlock {
    /// Where to POST: an http or https address.
    pub(super) endpoint: Option<String>,
    /// Sent as it is in the `Authorization` header.
    pub(super) token: Option<String>,
}

impl std::fmt::Debug for NotifyBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifyBlock").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Further passes over what failed.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryBlock {
    /// How many; 0 or absent: 3.
    pub(super) attempts: Option<u32>,
    /// The least wait before each: `500ms`; 0 or absent: 25 ms.
    #[schemars(regex(pattern = r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"))]
    pub(super) delay: Option<String>,
}

/// keyrotate's own additions; other tools do not know them.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OptionsBlock {
    /// How large a body may pass through a worker: bytes with units (`1MiB`, the default), `0` for none,
    /// `any`. Where bodies have no other way, the start is refused until the file says it.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) body_transit: Option<String>,
    /// Whether MinIO's in-place form may be used where it is proven. Default: true.
    pub(super) in_place: Option<bool>,
    /// Whether to work on a store that guards no write against a concurrent one. Default: false.
    pub(super) allow_unguarded: Option<bool>,
    /// Share of the bodies that are hashed before and after: `0.001` (the default) or `0.1%`; `0` for none.
    #[schemars(extend("type" = ["string", "number", "null"]))]
    pub(super) verify_bodies: Option<String>,
    /// How long the job may stay paused before it fails: `24h` (the default).
    #[schemars(regex(pattern = r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$"))]
    pub(super) pause_limit: Option<String>,
    /// Whether probe objects may be left behind where the bucket's default retention keeps them. Default: false.
    pub(super) retained_probes: Option<bool>,
    /// Objects per second for the whole job; absent: no limit.
    #[schemars(extend("type" = ["string", "number", "null"]))]
    pub(super) rate: Option<String>,
    /// Bytes of bodies per second that the job writes, whether they pass through a worker or the store copies them:
    /// `50MiB`. Absent: no limit.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) byte_rate: Option<String>,
    /// Calls to the KMS per second that the job causes, taken to be 2 for each object that is written. Absent: no limit.
    #[schemars(extend("type" = ["string", "number", "null"]))]
    pub(super) kms_rate: Option<String>,
    /// Hours in which other rates hold; of several that hold the first one. Rates that one leaves out are without limit.
    pub(super) windows: Option<Vec<WindowBlock>>,
    /// In a bucket with versions: how many bytes the versions that the job adds may have, `500GiB`. It pauses before it
    /// adds more. Absent: what is confirmed at its start.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) max_added_bytes: Option<String>,
    /// Which versions are in scope: `all` (the default) or `current`. A noncurrent version is written only where the store
    /// can do that in its place; else it is skipped and listed with its key.
    #[schemars(extend("enum" = ["all", "current"]))]
    pub(super) versions: Option<String>,
    /// What objects may lose where nothing keeps it: `checksum`, `parts` (number and sizes of the parts it was uploaded in).
    /// Without it such objects are skipped and listed.
    #[schemars(extend("items" = {"type": "string", "enum": ["checksum", "parts"]}))]
    pub(super) accept_loss: Option<Vec<String>>,
    /// `require`: an object that would lose its checksum is skipped and listed. So it is without this word, too; it keeps
    /// `acceptLoss: [checksum]` from being added by mistake.
    #[schemars(extend("enum" = ["require"]))]
    pub(super) checksums: Option<String>,
    /// In a bucket with versions, what becomes of the version that a new one replaces: `keep` (the default) or `expire`, which
    /// deletes it by its id once the new one was seen to have the same content.
    #[schemars(extend("enum" = ["keep", "expire"]))]
    pub(super) superseded: Option<String>,
    /// The S3 bucket key of objects that are written: `keep` (the default) as each had it, `on` or `off`.
    #[schemars(extend("enum" = ["keep", "on", "off"]))]
    pub(super) bucket_key: Option<String>,
    /// Whether objects that are under the target key already are written again, once: after the key's own material was
    /// rotated in the KMS. Default: false.
    pub(super) reseal: Option<bool>,
    /// How many versions may fail before the job waits for a person: a number, a share of what was scanned (once that are
    /// 10,000), both, or `none`. Default: `1000, 1%`.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) failure_threshold: Option<String>,
    /// `required`: somebody else than who began it must confirm the job before anything is written, and whatever it may add
    /// beyond that; `none` (the default). Only a fleet knows who is who.
    #[schemars(extend("enum" = ["required", "none"]))]
    pub(super) approval: Option<String>,
    /// Jobs of a higher one get the fleet's slots first; each of the others keeps one. -100 to 100. Default: 0.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) priority: Option<String>,
    /// Jobs of one priority share the fleet's slots in proportion to it: 1 to 1000. Default: 1.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) weight: Option<String>,
}

/// Hours of the day, and what holds then in place of `rate`, `byteRate` and `kmsRate` of `options`.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WindowBlock {
    /// From when, by the clock of `zone`: `22:00`.
    #[schemars(regex(pattern = r"^\d\d:\d\d$"))]
    pub(super) from: Option<String>,
    /// Until when: `06:00`. Where it is not after `from`, on the next day.
    #[schemars(regex(pattern = r"^\d\d:\d\d$"))]
    pub(super) until: Option<String>,
    /// On which days it begins: `mon-fri`, `sat,sun`. Absent: on all.
    pub(super) days: Option<String>,
    /// The time zone: `Europe/Zurich`, `UTC`.
    pub(super) zone: Option<String>,
    /// Objects per second. Absent: no limit.
    #[schemars(extend("type" = ["string", "number", "null"]))]
    pub(super) rate: Option<String>,
    /// Bytes per second. Absent: no limit.
    #[schemars(extend("type" = ["string", "integer", "null"]))]
    pub(super) byte_rate: Option<String>,
    /// Calls to the KMS per second. Absent: no limit.
    #[schemars(extend("type" = ["string", "number", "null"]))]
    pub(super) kms_rate: Option<String>,
}

/// Why `serde_yaml` did not read a file.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// From 1; 1 when it did not say.
    pub(super) line: usize,
    /// From 1; 1 when it did not say.
    pub(super) column: usize,
}

impl JobFile {
    /// The typed structs from what the tree was read as.
    pub(super) fn from_tree(value: serde_json::Value, layout: Layout) -> Result<Self, serde_json::Error> {
        match layout {
            Layout::Nested => serde_json::from_value(value).map(Self::Nested),
            Layout::Flat => serde_json::from_value(value).map(Self::Flat),
        }
    }

    /// The typed structs as `serde_yaml` reads them. Its own messages are left out: they may quote a secret.
    pub(super) fn from_yaml(text: &str, layout: Layout) -> Result<Self, Refusal> {
        let nothing_said = Refusal { line: 1, column: 1 };
        if text.len() > super::tree::MAX_BYTES {
            return Err(nothing_said);
        }
        let read = || match layout {
            Layout::Nested => serde_yaml::from_str(text).map(Self::Nested),
            Layout::Flat => serde_yaml::from_str(text).map(Self::Flat),
        };
        match std::panic::catch_unwind(read) {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(error)) => {
                let place = error.location();
                Err(place.map_or(nothing_said, |at| Refusal { line: at.line().max(1), column: at.column().max(1) }))
            }
            Err(_) => Err(nothing_said),
        }
    }
}
