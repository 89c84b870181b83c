//! What a bucket's configuration says.

use aws_sdk_s3::types::{ObjectLockEnabled, ObjectOwnership, OwnershipControlsRule, ServerSideEncryption};
use keyrotate_proto::key::KeyName;

use super::call::{Shape, Tap};
use super::{S3Store, headers, xml};
use crate::{BucketFacts, ErrorKind, Result, Sse, Versioning};

impl S3Store {
    /// All pages.
    pub(super) async fn list_buckets(&self) -> Result<Vec<String>> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let call = self.client.list_buckets().set_continuation_token(token).send();
            let page = self.call("ListBuckets", self.timeouts.call, call).await?;
            all.extend(page.buckets().iter().filter_map(|bucket| bucket.name().map(str::to_owned)));
            token = page.continuation_token.filter(|token| !token.is_empty());
            if token.is_none() {
                all.sort();
                return Ok(all);
            }
        }
    }

    /// Versioning must be known; of the rest, what the store does not answer stays unsaid.
    pub(super) async fn bucket_facts(&self, bucket: &str) -> Result<BucketFacts> {
        let mut facts = BucketFacts::default();
        let operation = "GetBucketVersioning";
        let (kept, body) = (Tap::new(), Tap::new());
        // Read here, because not every store names the answer's root element as AWS does.
        let shape = Shape::default().keep_headers(&kept).take_body(&body, "<VersioningConfiguration/>");
        let call = self.client.get_bucket_versioning().bucket(bucket).customize().interceptor(shape).send();
        match self
            .read_body(operation, &body, async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) })
            .await
        {
            Ok(answer) => {
                facts.versioning = match xml::versioning(operation, &answer)?.as_deref() {
                    Some("Enabled") => Versioning::Enabled,
                    Some("Suspended") => Versioning::Suspended,
                    _ => Versioning::Off,
                };
            }
            Err(error) if error.kind == ErrorKind::NotImplemented => {}
            Err(error) => return Err(error),
        }
        facts.server_date = kept.take().and_then(|headers| headers::date(&headers));
        facts.default_sse = self.default_sse(bucket).await?;
        (facts.lock_enabled, facts.default_retention) = self.default_lock(bucket).await?.unwrap_or_default();
        facts.acls_off = self.acls_off(bucket).await?;
        let call = self.client.get_bucket_location().bucket(bucket).send();
        let location = seen(self.call("GetBucketLocation", self.timeouts.call, call).await)?;
        facts.region = location.and_then(|answer| answer.location_constraint).map(|region| match region.as_str() {
            // How S3 writes its oldest regions.
            "" => "us-east-1".to_owned(),
            "EU" => "eu-west-1".to_owned(),
            other => other.to_owned(),
        });
        Ok(facts)
    }

    async fn default_sse(&self, bucket: &str) -> Result<Option<Sse>> {
        let call = self.client.get_bucket_encryption().bucket(bucket).send();
        let answer = seen(self.call("GetBucketEncryption", self.timeouts.call, call).await)?;
        let rules = answer.and_then(|answer| answer.server_side_encryption_configuration).map(|config| config.rules);
        let rule = rules.unwrap_or_default().into_iter().next();
        Ok(rule.and_then(|rule| {
            let bucket_key = rule.bucket_key_enabled;
            let default = rule.apply_server_side_encryption_by_default?;
            let key = default.kms_master_key_id.filter(|key| !key.is_empty()).map(KeyName);
            Some(match default.sse_algorithm {
                ServerSideEncryption::Aes256 => Sse::S3,
                ServerSideEncryption::AwsKmsDsse => Sse::DualLayer { key },
                ServerSideEncryption::AwsKms => Sse::Kms { key, context: None, bucket_key },
                _ => return None,
            })
        }))
    }

    /// Whether nobody's ACL counts for anything here. A store that does not know the call may answer it with anything.
    async fn acls_off(&self, bucket: &str) -> Result<bool> {
        let call = self.client.get_bucket_ownership_controls().bucket(bucket).send();
        let answer = match self.call("GetBucketOwnershipControls", self.timeouts.call, call).await {
            Err(error) if error.kind == ErrorKind::Nonsense => None,
            answer => seen(answer)?,
        };
        let rules = answer.and_then(|answer| answer.ownership_controls).map(|controls| controls.rules);
        let off = |rule: &OwnershipControlsRule| rule.object_ownership == ObjectOwnership::BucketOwnerEnforced;
        Ok(rules.is_some_and(|rules| rules.iter().any(off)))
    }

    /// Whether object lock is on, and the default retention: mode and days.
    async fn default_lock(&self, bucket: &str) -> Result<Option<(bool, Option<(String, u32)>)>> {
        let call = self.client.get_object_lock_configuration().bucket(bucket).send();
        let answer = seen(self.call("GetObjectLockConfiguration", self.timeouts.call, call).await)?;
        Ok(answer.and_then(|answer| answer.object_lock_configuration).map(|config| {
            let enabled = config.object_lock_enabled == Some(ObjectLockEnabled::Enabled);
            let retention = config.rule.and_then(|rule| rule.default_retention).and_then(|default| {
                let days = default.days.or_else(|| default.years.map(|years| years.saturating_mul(365)));
                Some((default.mode?.as_str().to_owned(), u32::try_from(days?).ok()?))
            });
            (enabled, retention)
        }))
    }
}

/// `None` for what the store refuses to say about a bucket that is there; other errors stay errors.
fn seen<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.kind {
            // `NotFound`: the store's way to say that nothing is configured.
            ErrorKind::NotFound | ErrorKind::NotImplemented | ErrorKind::Denied | ErrorKind::Refused => Ok(None),
            _ => Err(error),
        },
    }
}
