//! What a store does about writes into a bucket: lifecycle, replication, events.

use aws_sdk_s3::operation::get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput;
use aws_sdk_s3::types::{ExpirationStatus, ReplicationRuleStatus};

use super::S3Store;
use super::call::{Shape, Tap};
use crate::{ErrorKind, LifecycleRule, Reactions, Result};

impl S3Store {
    /// Each by itself: a right that is missing for one hides no other.
    pub(super) async fn bucket_reactions(&self, bucket: &str) -> Result<Reactions> {
        let kept = Tap::new();
        let lifecycle = self.lifecycle(bucket, &kept).await?;
        let server = kept.take().and_then(|headers| headers.get("server").map(str::to_owned));
        let replication = self.replication(bucket).await?;
        let call = self.client.get_bucket_notification_configuration().bucket(bucket).send();
        let answer = self.call("GetBucketNotificationConfiguration", self.timeouts.call, call).await;
        let events = configured(answer.map(|answer| listeners(&answer)))?;
        Ok(Reactions { lifecycle, replication, events, server })
    }

    async fn lifecycle(
        &self,
        bucket: &str,
        kept: &Tap<aws_smithy_runtime_api::http::Headers>,
    ) -> Result<Option<Vec<LifecycleRule>>> {
        let shape = Shape::default().keep_headers(kept);
        let call = self.client.get_bucket_lifecycle_configuration().bucket(bucket);
        let call = call.customize().interceptor(shape).send();
        let answer = self.call("GetBucketLifecycleConfiguration", self.timeouts.call, call).await;
        configured(answer.map(|answer| {
            let rules = answer.rules.unwrap_or_default().into_iter();
            rules.filter(|rule| rule.status == ExpirationStatus::Enabled).map(rule).collect()
        }))
    }

    async fn replication(&self, bucket: &str) -> Result<Option<Vec<String>>> {
        let call = self.client.get_bucket_replication().bucket(bucket).send();
        let answer = self.call("GetBucketReplication", self.timeouts.call, call).await;
        configured(answer.map(|answer| {
            let rules = answer.replication_configuration.map(|config| config.rules).unwrap_or_default().into_iter();
            let on = rules.filter(|rule| rule.status == ReplicationRuleStatus::Enabled);
            let mut buckets: Vec<String> =
                on.filter_map(|rule| rule.destination.map(|to| name_of(&to.bucket).to_owned())).collect();
            buckets.sort();
            buckets.dedup();
            buckets
        }))
    }
}

fn rule(rule: aws_sdk_s3::types::LifecycleRule) -> LifecycleRule {
    let days = |days: i32| u32::try_from(days).ok().filter(|days| *days > 0);
    let moves = rule.transitions().iter().filter_map(|transition| transition.days.and_then(days)).min();
    let filter = rule.filter();
    let prefix = filter.and_then(|f| f.prefix().or_else(|| f.and().and_then(|and| and.prefix())));
    #[expect(deprecated, reason = "stores still answer in the older form")]
    let prefix = prefix.or_else(|| rule.prefix()).unwrap_or_default().to_owned();
    LifecycleRule {
        id: rule.id().unwrap_or_default().to_owned(),
        prefix,
        expires: rule.expiration().and_then(|expiration| expiration.days).and_then(days),
        moves,
        noncurrent_expires: rule.noncurrent_version_expiration().and_then(|e| e.noncurrent_days).and_then(days),
    }
}

/// Who is told, whatever of.
fn listeners(answer: &GetBucketNotificationConfigurationOutput) -> Vec<String> {
    let queues = answer.queue_configurations().iter().map(|queue| queue.queue_arn.as_str());
    let topics = answer.topic_configurations().iter().map(|topic| topic.topic_arn.as_str());
    let functions =
        answer.lambda_function_configurations().iter().map(|function| function.lambda_function_arn.as_str());
    let mut all: Vec<String> = queues.chain(topics).chain(functions).map(|arn| name_of(arn).to_owned()).collect();
    all.extend(answer.event_bridge_configuration.as_ref().map(|_| "EventBridge".to_owned()));
    all.sort();
    all.dedup();
    all
}

/// What stands behind `arn:PARTITION:SERVICE:`, without a region or account that is not there.
fn name_of(arn: &str) -> &str {
    let name = arn.splitn(4, ':').nth(3).filter(|_| arn.starts_with("arn:")).unwrap_or(arn);
    name.trim_start_matches(':')
}

/// Nothing is configured where the store says that it has none; what it does not let us see is not known.
fn configured<T>(answer: Result<Vec<T>>) -> Result<Option<Vec<T>>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind {
            ErrorKind::NotFound => Ok(Some(Vec::new())),
            ErrorKind::NotImplemented | ErrorKind::Denied | ErrorKind::Refused | ErrorKind::Nonsense => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::Store as _;
    use crate::s3::S3Config;

    const LIFECYCLE: &str = r#"<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><Expiration><Days>30</Days></Expiration>
            <Transition><Days>7</Days><StorageClass>GLACIER</StorageClass></Transition>
            <NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration></Rule>
        <Rule><ID>off</ID><Status>Disabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule>
        </LifecycleConfiguration>"#;
    const REPLICATION: &str = r#"<ReplicationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Role/>
        <Rule><ID>r</ID><Status>Enabled</Status><Priority>1</Priority>
            <Destination><Bucket>arn:aws:s3:::copies</Bucket></Destination></Rule></ReplicationConfiguration>"#;
    const EVENTS: &str = r#"<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <QueueConfiguration><Id>q</Id><Queue>arn:minio:sqs::hook:webhook</Queue><Event>s3:ObjectCreated:*</Event>
        </QueueConfiguration></NotificationConfiguration>"#;

    /// A store that answers each sub-resource so.
    async fn store(answer: fn(&str) -> (u16, String)) -> S3Store {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = vec![0; 65_536];
                let read = stream.read(&mut buffer).await.unwrap_or_default();
                let line = String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned();
                let (status, body) = answer(&line);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nserver: MinIO\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        let config = S3Config { endpoint: Some(endpoint), ..S3Config::default() }.with_keys("id", "secret");
        S3Store::connect(config).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_switched_on_is_seen() {
        let store = store(|line| match line {
            line if line.contains("?lifecycle") => (200, LIFECYCLE.to_owned()),
            line if line.contains("?replication") => (200, REPLICATION.to_owned()),
            _ => (200, EVENTS.to_owned()),
        });
        let store = store.await;
        assert_eq!(store.access_key_id(), "id");
        let rule = LifecycleRule {
            id: "old".into(),
            prefix: "logs/".into(),
            expires: Some(30),
            moves: Some(7),
            noncurrent_expires: Some(3),
        };
        let wanted = Reactions {
            lifecycle: Some(vec![rule]),
            replication: Some(vec!["copies".into()]),
            events: Some(vec!["hook:webhook".into()]),
            server: Some("MinIO".into()),
        };
        assert_eq!(store.reactions("b").await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn nothing_configured_is_told_from_nothing_seen() {
        let store = store(|line| match line {
            line if line.contains("?lifecycle") => {
                (404, "<Error><Code>NoSuchLifecycleConfiguration</Code><Message>m</Message></Error>".to_owned())
            }
            line if line.contains("?replication") => {
                (403, "<Error><Code>AccessDenied</Code><Message>m</Message></Error>".to_owned())
            }
            _ => (501, "<Error><Code>NotImplemented</Code><Message>m</Message></Error>".to_owned()),
        });
        let seen = store.await.reactions("b").await.unwrap();
        assert_eq!((seen.lifecycle, seen.replication, seen.events), (Some(Vec::new()), None, None));
    }
}
