//! The target key: the file's, else the store's default, always as the store itself shows it.

use std::collections::BTreeMap;

use keyrotate_kms::Kms;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::spec::{JobSpec, Target};
use keyrotate_proto::state::PauseReason;
use keyrotate_store::{BucketFacts, ErrorKind, Sse, StoreError};

use super::Refusal;
use super::objects::{Form, Yard};

/// What the canary's ciphertext is bound to.
pub(super) const CANARY_CONTEXT: &[u8] = b"keyrotate canary";

/// Resolves the target through the store.
pub(super) async fn resolve(yard: &Yard<'_>, bucket: &BucketFacts, spec: &JobSpec) -> Result<FrozenTarget, Refusal> {
    match &spec.target {
        Target::SseS3 => {
            let shown = shown(yard, &Sse::S3).await.map_err(|e| Refusal::store("writing a probe with SSE-S3", &e))?;
            match shown {
                Sse::S3 => Ok(FrozenTarget::SseS3),
                other => Err(unseen(&other, "AES256")),
            }
        }
        Target::SseKms { context, .. } if !spec.keys.is_empty() => {
            let mut seen: BTreeMap<&KeyName, KeyName> = BTreeMap::new();
            for new in spec.keys.values() {
                if !seen.contains_key(new) {
                    seen.insert(new, named(yard, new, context.clone(), "keys").await?);
                }
            }
            let keys: BTreeMap<_, _> = spec.keys.iter().map(|(old, new)| (old.clone(), seen[new].clone())).collect();
            let key = keys.values().next().cloned().ok_or_else(no_default)?;
            Ok(FrozenTarget::SseKms { key, context: context.clone(), keys })
        }
        Target::SseKms { key, context } => {
            let key = match key {
                Some(key) => named(yard, key, context.clone(), "encryption.key").await?,
                None => default(yard, bucket).await?,
            };
            Ok(FrozenTarget::SseKms { key, context: context.clone(), keys: BTreeMap::new() })
        }
    }
}

fn unseen(shown: &Sse, wanted: &str) -> Refusal {
    let what = format!("a probe was written with {wanted} and the store shows {}", shown.seal());
    Refusal::new(what, "on such a store nobody can see which key an object is under: it can't be rotated here")
}

/// Writes the target probe; gives the encryption that HEAD shows.
async fn shown(yard: &Yard<'_>, sse: &Sse) -> Result<Sse, StoreError> {
    Ok(yard.make(Form::Target, sse).await?.object.sse)
}

/// The file's key: written once, and taken as the store shows it where that is a full ARN.
async fn named(
    yard: &Yard<'_>,
    key: &KeyName,
    context: Option<BTreeMap<String, String>>,
    field: &str,
) -> Result<KeyName, Refusal> {
    let sse = Sse::Kms { key: Some(key.clone()), context, bucket_key: None };
    let shown = match shown(yard, &sse).await {
        Ok(shown) => shown,
        Err(error) if error.kind == ErrorKind::KmsKeyNotFound => {
            let mend = format!("create `{key}` (KES: kes key create {}), or correct `{field}`", key.bare());
            return Err(Refusal { what: error.to_string(), mend, pause: Some(PauseReason::TargetKeyGone) });
        }
        Err(error) => return Err(Refusal::store(&format!("writing a probe under the key `{key}`"), &error)),
    };
    let Sse::Kms { key: Some(seen), .. } = &shown else { return Err(unseen(&shown, &format!("the key `{key}`"))) };
    let alias = key.bare().starts_with("alias/") || key.0.contains(":alias/");
    match (seen.same_key(key), seen.is_full_arn()) {
        (true, true) => Ok(seen.clone()),
        (true, false) => Ok(KeyName(key.bare().to_owned())),
        // Nobody shows an alias: the store resolves it.
        (false, true) if alias => Ok(seen.clone()),
        (false, _) => Err(unseen(&shown, &format!("the key `{key}`"))),
    }
}

/// The store's default key, where the file names none.
async fn default(yard: &Yard<'_>, bucket: &BucketFacts) -> Result<KeyName, Refusal> {
    let set = match &bucket.default_sse {
        Some(Sse::Kms { key: Some(key), .. }) => Some(key),
        _ => None,
    };
    // On AWS the bucket's own setting is the default. It is read before anything is written: without a name AWS would
    // take aws/s3, which other accounts can't read and which this one may be denied.
    let is_aws = yard.store.identity().0.starts_with("aws:") || set.is_some_and(KeyName::is_full_arn);
    let own = if is_aws { None } else { Some(own_default(yard).await?) };
    let key = match own {
        Some(own) if !own.is_full_arn() => KeyName(own.bare().to_owned()),
        _ => named(yard, set.ok_or_else(no_default)?, None, "encryption.key").await?,
    };
    match &yard.settings.default_key {
        Some(expected) if !expected.same_key(&key) && !set.is_some_and(|set| is_aws && set.same_key(expected)) => {
            Err(Refusal::new(
                format!("the store's default key is `{key}`, but MINIO_KMS_KES_KEY_NAME says `{expected}`"),
                "set `encryption.key` to the one that is meant, or correct the variable",
            ))
        }
        _ => Ok(key),
    }
}

fn no_default() -> Refusal {
    let what = "the file names no key and the bucket's default encryption has no KMS key";
    Refusal::new(what, "set `encryption.key`, or set the bucket's default encryption to SSE-KMS with a key")
}

/// What a store with a KMS of its own takes where a write names no key.
async fn own_default(yard: &Yard<'_>) -> Result<KeyName, Refusal> {
    match shown(yard, &Sse::Kms { key: None, context: None, bucket_key: None }).await {
        Ok(Sse::Kms { key: Some(seen), .. }) => Ok(seen),
        Ok(other) => Err(unseen(&other, "the default KMS key")),
        Err(error)
            if matches!(error.kind, ErrorKind::Refused | ErrorKind::KmsKeyNotFound | ErrorKind::NotImplemented) =>
        {
            Err(Refusal::new(format!("this store has no default KMS key ({error})"), "set `encryption.key`"))
        }
        Err(error) => Err(Refusal::store("writing a probe under the store's default KMS key", &error)),
    }
}

/// The name by which KES knows a key.
pub(super) fn kes_name(key: &KeyName) -> &str {
    key.bare().rsplit(['/', ':']).next().unwrap_or(key.bare())
}

/// Makes a canary of each target key: ciphertext under it, in hex. It shows too that the key exists.
pub(super) async fn canaries(
    kms: Option<&dyn Kms>,
    target: &FrozenTarget,
) -> Result<BTreeMap<KeyName, String>, Refusal> {
    let mut canaries = BTreeMap::new();
    let Some(kms) = kms else { return Ok(canaries) };
    for key in target.all() {
        let name = kes_name(key);
        let sealed = kms.generate(name, CANARY_CONTEXT).await.map_err(|e| Refusal::kms(&e))?;
        kms.decrypt(name, &sealed.ciphertext, CANARY_CONTEXT).await.map_err(|e| Refusal::kms(&e))?;
        canaries.insert(key.clone(), hex::encode(sealed.ciphertext));
    }
    Ok(canaries)
}

/// Whether new objects get the target by themselves: seen on a probe that names no encryption. Only names can be
/// compared where the probes lie in another bucket, or where such a probe is refused.
pub(super) async fn new_objects_get(yard: &Yard<'_>, facts: &BucketFacts, name: &str, target: &FrozenTarget) -> bool {
    let seen = if yard.bucket == name { shown(yard, &Sse::None).await.ok() } else { None };
    match (target, seen.as_ref().or(facts.default_sse.as_ref())) {
        (FrozenTarget::SseKms { .. }, Some(Sse::Kms { key: Some(gets), .. })) => target.has(gets),
        (FrozenTarget::SseS3, Some(Sse::S3)) => true,
        _ => false,
    }
}

/// The command that makes the target the bucket's default encryption. `place` is `ALIAS/BUCKET`.
#[must_use]
pub fn default_encryption(minio: bool, target: &FrozenTarget, place: &str) -> String {
    let bucket = place.rsplit('/').next().unwrap_or(place);
    let rule = match (target, minio) {
        (FrozenTarget::SseKms { key, .. }, true) => return format!("mc encrypt set sse-kms {} {place}", key.bare()),
        (FrozenTarget::SseS3, true) => return format!("mc encrypt set sse-s3 {place}"),
        (FrozenTarget::SseKms { key, .. }, false) => {
            format!("{{\"SSEAlgorithm\":\"aws:kms\",\"KMSMasterKeyID\":\"{}\"}}", key.bare())
        }
        (FrozenTarget::SseS3, false) => "{\"SSEAlgorithm\":\"AES256\"}".to_owned(),
    };
    format!(
        "aws s3api put-bucket-encryption --bucket {bucket} --server-side-encryption-configuration \
         '{{\"Rules\":[{{\"ApplyServerSideEncryptionByDefault\":{rule}}}]}}'"
    )
}
