//! Buckets and their configuration.

use http::StatusCode;
use jiff::Timestamp;
use keyrotate_proto::key::KeyName;
use keyrotate_store::{BucketFacts, LifecycleRule, Sse, Store, Versioning};
use serde::Deserialize;

use super::call::Call;
use super::reply::{Answer, empty, set, xml};
use super::text::{Xml, from_xml, xml_date};
use crate::model::{BucketSettings, StoreModel};

/// ListBuckets. The model keeps no dates of buckets.
pub(super) fn list(model: &StoreModel) -> Answer {
    Ok(xml(Xml::document("ListAllMyBucketsResult", |xml| {
        xml.nest("Buckets", |xml| {
            for name in model.buckets() {
                xml.nest("Bucket", |xml| {
                    xml.text("Name", name);
                    xml.text("CreationDate", xml_date(Timestamp::UNIX_EPOCH));
                });
            }
        });
        xml.nest("Owner", |xml| xml.text("ID", "devstack"));
    })))
}

#[derive(Deserialize)]
struct CreateBucketConfiguration {
    #[serde(rename = "LocationConstraint")]
    region: Option<String>,
}

/// CreateBucket.
pub(super) async fn create(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let region = match body.is_empty() {
        true => None,
        false => from_xml::<CreateBucketConfiguration>(call.operation(), &body)?.region,
    };
    let lock_enabled =
        call.header("x-amz-bucket-object-lock-enabled").is_some_and(|on| on.eq_ignore_ascii_case("true"));
    let versioning = if lock_enabled { Versioning::Enabled } else { Versioning::default() };
    let settings = BucketSettings { lock_enabled, versioning, region, ..BucketSettings::default() };
    model.create_bucket(&call.target.bucket, settings)?;
    let mut reply = empty(StatusCode::OK);
    set(reply.headers_mut(), "location", format!("/{}", call.target.bucket));
    Ok(reply)
}

/// DeleteBucket.
pub(super) fn delete(model: &StoreModel, call: &Call) -> Answer {
    model.delete_bucket(&call.target.bucket)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// HeadBucket.
pub(super) async fn head(store: &dyn Store, call: &Call, region: &str) -> Answer {
    let facts = facts(store, call).await?;
    let mut reply = empty(StatusCode::OK);
    set(reply.headers_mut(), "x-amz-bucket-region", facts.region.as_deref().unwrap_or(region));
    Ok(reply)
}

/// GetBucketLocation: `us-east-1` is written as nothing.
pub(super) async fn location(store: &dyn Store, call: &Call, region: &str) -> Answer {
    let facts = facts(store, call).await?;
    let region = facts.region.as_deref().unwrap_or(region);
    let shown = if region == "us-east-1" { "" } else { region };
    Ok(xml(Xml::document("LocationConstraint", |xml| xml.content(shown))))
}

/// GetBucketVersioning.
pub(super) async fn versioning(store: &dyn Store, call: &Call) -> Answer {
    let facts = facts(store, call).await?;
    Ok(xml(Xml::document("VersioningConfiguration", |xml| match facts.versioning {
        Versioning::Enabled => xml.text("Status", "Enabled"),
        Versioning::Suspended => xml.text("Status", "Suspended"),
        _ => {}
    })))
}

#[derive(Deserialize)]
struct VersioningConfiguration {
    #[serde(rename = "Status")]
    status: String,
}

/// PutBucketVersioning.
pub(super) async fn set_versioning(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: VersioningConfiguration = from_xml(call.operation(), &body)?;
    let versioning = match asked.status.as_str() {
        "Enabled" => Versioning::Enabled,
        "Suspended" => Versioning::Suspended,
        _ => return Err(call.refuse(400, "IllegalVersioningConfigurationException", "no such versioning status")),
    };
    model.set_versioning(&call.target.bucket, versioning)?;
    Ok(empty(StatusCode::OK))
}

/// GetBucketEncryption.
pub(super) async fn encryption(store: &dyn Store, call: &Call) -> Answer {
    let (algorithm, key, bucket_key) = match facts(store, call).await?.default_sse {
        Some(Sse::S3) => ("AES256", None, None),
        Some(Sse::Kms { key, bucket_key, .. }) => ("aws:kms", key, bucket_key),
        Some(Sse::DualLayer { key }) => ("aws:kms:dsse", key, None),
        Some(Sse::None | Sse::Customer) | None => {
            let code = "ServerSideEncryptionConfigurationNotFoundError";
            return Err(not_there(call, code, "The server side encryption configuration was not found"));
        }
    };
    Ok(xml(Xml::document("ServerSideEncryptionConfiguration", |xml| {
        xml.nest("Rule", |xml| {
            xml.nest("ApplyServerSideEncryptionByDefault", |xml| {
                xml.text("SSEAlgorithm", algorithm);
                if let Some(key) = &key {
                    xml.text("KMSMasterKeyID", &key.0);
                }
            });
            xml.text("BucketKeyEnabled", bucket_key.unwrap_or(false).to_string());
        });
    })))
}

#[derive(Deserialize)]
struct EncryptionConfiguration {
    #[serde(rename = "Rule")]
    rule: EncryptionRule,
}

#[derive(Deserialize)]
struct EncryptionRule {
    #[serde(rename = "ApplyServerSideEncryptionByDefault")]
    default: EncryptionDefault,
    #[serde(rename = "BucketKeyEnabled")]
    bucket_key: Option<bool>,
}

#[derive(Deserialize)]
struct EncryptionDefault {
    #[serde(rename = "SSEAlgorithm")]
    algorithm: String,
    #[serde(rename = "KMSMasterKeyID")]
    key: Option<String>,
}

/// PutBucketEncryption.
pub(super) async fn set_encryption(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let EncryptionConfiguration { rule } = from_xml(call.operation(), &body)?;
    let key = rule.default.key.map(KeyName);
    let sse = match rule.default.algorithm.as_str() {
        "AES256" => Sse::S3,
        "aws:kms" => Sse::Kms { key, context: None, bucket_key: rule.bucket_key },
        "aws:kms:dsse" => Sse::DualLayer { key },
        _ => return Err(call.refuse(400, "MalformedXML", "no such encryption algorithm")),
    };
    let settings = model.settings(&call.target.bucket)?;
    model.configure(&call.target.bucket, BucketSettings { default_sse: Some(sse), ..settings })?;
    Ok(empty(StatusCode::OK))
}

/// DeleteBucketEncryption.
pub(super) fn delete_encryption(model: &StoreModel, call: &Call) -> Answer {
    let settings = model.settings(&call.target.bucket)?;
    model.configure(&call.target.bucket, BucketSettings { default_sse: None, ..settings })?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// GetObjectLockConfiguration.
pub(super) async fn lock(store: &dyn Store, call: &Call) -> Answer {
    let facts = facts(store, call).await?;
    if !facts.lock_enabled {
        let message = "Object Lock configuration does not exist for this bucket";
        return Err(not_there(call, "ObjectLockConfigurationNotFoundError", message));
    }
    Ok(xml(Xml::document("ObjectLockConfiguration", |xml| {
        xml.text("ObjectLockEnabled", "Enabled");
        if let Some((mode, days)) = &facts.default_retention {
            xml.nest("Rule", |xml| {
                xml.nest("DefaultRetention", |xml| {
                    xml.text("Mode", mode);
                    xml.text("Days", days.to_string());
                });
            });
        }
    })))
}

#[derive(Deserialize)]
struct LockConfiguration {
    #[serde(rename = "Rule")]
    rule: Option<LockRule>,
}

#[derive(Deserialize)]
struct LockRule {
    #[serde(rename = "DefaultRetention")]
    default: DefaultRetention,
}

#[derive(Deserialize)]
struct DefaultRetention {
    #[serde(rename = "Mode")]
    mode: String,
    #[serde(rename = "Days")]
    days: Option<u32>,
    #[serde(rename = "Years")]
    years: Option<u32>,
}

/// PutObjectLockConfiguration.
pub(super) async fn set_lock(model: &StoreModel, call: &mut Call) -> Answer {
    let body = call.take_xml().await?;
    let asked: LockConfiguration = from_xml(call.operation(), &body)?;
    let default_retention = asked.rule.map(|LockRule { default }| {
        let days = default.days.or(default.years.map(|years| years.saturating_mul(365))).unwrap_or(0);
        (default.mode, days)
    });
    let settings = model.settings(&call.target.bucket)?;
    let settings = BucketSettings { lock_enabled: true, default_retention, ..settings };
    model.configure(&call.target.bucket, settings)?;
    Ok(empty(StatusCode::OK))
}

/// GetBucketLifecycleConfiguration.
pub(super) fn lifecycle(model: &StoreModel, call: &Call) -> Answer {
    let rules = model.settings(&call.target.bucket)?.lifecycle;
    if rules.is_empty() {
        return Err(not_there(call, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"));
    }
    Ok(xml(Xml::document("LifecycleConfiguration", |xml| {
        for rule in &rules {
            xml.nest("Rule", |xml| lifecycle_rule(xml, rule));
        }
    })))
}

fn lifecycle_rule(xml: &mut Xml, rule: &LifecycleRule) {
    xml.text("ID", &rule.id);
    xml.text("Status", "Enabled");
    xml.nest("Filter", |xml| xml.text("Prefix", &rule.prefix));
    if let Some(days) = rule.expires {
        xml.nest("Expiration", |xml| xml.text("Days", days.to_string()));
    }
    if let Some(days) = rule.moves {
        xml.nest("Transition", |xml| {
            xml.text("Days", days.to_string());
            xml.text("StorageClass", "GLACIER");
        });
    }
    if let Some(days) = rule.noncurrent_expires {
        xml.nest("NoncurrentVersionExpiration", |xml| xml.text("NoncurrentDays", days.to_string()));
    }
}

/// GetBucketReplication.
pub(super) fn replication(model: &StoreModel, call: &Call) -> Answer {
    let buckets = model.settings(&call.target.bucket)?.replication;
    if buckets.is_empty() {
        let message = "The replication configuration was not found";
        return Err(not_there(call, "ReplicationConfigurationNotFoundError", message));
    }
    Ok(xml(Xml::document("ReplicationConfiguration", |xml| {
        xml.text("Role", "");
        for bucket in &buckets {
            xml.nest("Rule", |xml| {
                xml.text("Status", "Enabled");
                xml.nest("Destination", |xml| xml.text("Bucket", format!("arn:aws:s3:::{bucket}")));
            });
        }
    })))
}

/// GetBucketNotificationConfiguration: without any it is empty.
pub(super) fn notification(model: &StoreModel, call: &Call) -> Answer {
    let events = model.settings(&call.target.bucket)?.events;
    Ok(xml(Xml::document("NotificationConfiguration", |xml| {
        for queue in &events {
            xml.nest("QueueConfiguration", |xml| {
                xml.text("Queue", format!("arn:aws:sqs:::{queue}"));
                xml.text("Event", "s3:ObjectCreated:*");
            });
        }
    })))
}

async fn facts(store: &dyn Store, call: &Call) -> keyrotate_store::Result<BucketFacts> {
    let answer = store.bucket(&call.target.bucket).await;
    answer.map_err(|error| keyrotate_store::StoreError { operation: call.operation(), ..error })
}

fn not_there(call: &Call, code: &str, message: &str) -> keyrotate_store::StoreError {
    let kind = keyrotate_store::ErrorKind::NotFound;
    keyrotate_store::StoreError::answered(call.operation(), kind, 404, code, message)
}
