//! The bare loop that `keyrotate run` is held against: tasks over a key list in memory, the SDK with our client's HTTP
//! settings, just the calls and nothing else. No error is handled: the first one ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use aws_sdk_s3::types::{ObjectEncryption, ServerSideEncryption, SsekmsEncryption};
use clap::ValueEnum;
use tokio::task::JoinSet;

use crate::{Error, place::Place};

/// One thing done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Call {
    /// HeadObject.
    Head,
    /// UpdateObjectEncryption.
    Update,
    /// CopyObject onto itself.
    Copy,
    /// The same as an upload of one copied part.
    Multipart,
    /// GetObject, then PutObject of its body.
    Rewrite,
    /// The same, keeping date and ETag as MinIO can.
    InPlace,
}

/// Does `calls` one after the other on each object, `tasks` objects at a time.
pub(crate) async fn run(s3: &Client, at: &Place, calls: &[Call], tasks: usize) -> Result<(), Error> {
    let keys = Arc::new(at.keys());
    let next = Arc::new(AtomicU64::new(0));
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let (s3, at, calls, keys, next) =
            (s3.clone(), at.clone(), calls.to_vec(), Arc::clone(&keys), Arc::clone(&next));
        set.spawn(async move {
            while let Some(key) = keys.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed))?) {
                for one in &calls {
                    call(&s3, &at, key, *one).await?;
                }
            }
            Ok::<(), Error>(())
        });
    }
    set.join_all().await.into_iter().collect()
}

async fn call(s3: &Client, at: &Place, key: &str, call: Call) -> Result<(), Error> {
    let (bucket, kms) = (&at.bucket, ServerSideEncryption::AwsKms);
    match call {
        Call::Head => drop(s3.head_object().bucket(bucket).key(key).send().await?),
        Call::Update => {
            let sse = ObjectEncryption::Ssekms(SsekmsEncryption::builder().kms_key_arn(&at.kms_key).build()?);
            drop(s3.update_object_encryption().bucket(bucket).key(key).object_encryption(sse).send().await?);
        }
        Call::Copy => {
            let copy = s3.copy_object().bucket(bucket).key(key).copy_source(format!("{bucket}/{key}"));
            let copy = copy.metadata_directive(MetadataDirective::Copy).server_side_encryption(kms);
            drop(copy.ssekms_key_id(&at.kms_key).send().await?);
        }
        Call::Multipart => {
            let create = s3.create_multipart_upload().bucket(bucket).key(key).server_side_encryption(kms);
            let created = create.ssekms_key_id(&at.kms_key).send().await?;
            let id = created.upload_id.unwrap_or_default();
            let part = s3.upload_part_copy().bucket(bucket).key(key).upload_id(&id).part_number(1);
            let part = part.copy_source(format!("{bucket}/{key}")).send().await?;
            let etag = part.copy_part_result.and_then(|part| part.e_tag);
            let part = CompletedPart::builder().part_number(1).set_e_tag(etag).build();
            let parts = CompletedMultipartUpload::builder().parts(part).build();
            let complete = s3.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
            drop(complete.multipart_upload(parts).send().await?);
        }
        Call::Rewrite | Call::InPlace => {
            let got = s3.get_object().bucket(bucket).key(key).send().await?;
            let etag = got.e_tag.unwrap_or_default();
            let body = got.body.collect().await?.into_bytes();
            let put = s3.put_object().bucket(bucket).key(key).if_match(&etag).body(ByteStream::from(body));
            let put = put.server_side_encryption(kms).ssekms_key_id(&at.kms_key).customize();
            let put = put.mutate_request(move |request| {
                if call == Call::InPlace {
                    request.headers_mut().insert("x-minio-source-mtime", Place::MOMENT_AFTER);
                    request.headers_mut().insert("x-minio-source-etag", etag.trim_matches('"').to_owned());
                }
            });
            drop(put.send().await?);
        }
    }
    Ok(())
}
