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
    /// The same with one version, which keeps its id and its date.
    VersionInPlace,
    /// ListObjectVersions of the key alone.
    Versions,
    /// An upload of as many parts as the object has, each of them copied.
    PartsCopied,
    /// The same, each of them by GetObject and UploadPart.
    PartsThrough,
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
        Call::Versions => {
            drop(s3.list_object_versions().bucket(bucket).prefix(key).max_keys(100).send().await?);
        }
        Call::PartsCopied | Call::PartsThrough => parts(s3, at, key, call == Call::PartsThrough).await?,
        Call::Rewrite | Call::InPlace | Call::VersionInPlace => {
            let got = s3.get_object().bucket(bucket).key(key).send().await?;
            let etag = got.e_tag.unwrap_or_default();
            let version = got.version_id.filter(|_| call == Call::VersionInPlace);
            let body = got.body.collect().await?.into_bytes();
            let put = s3.put_object().bucket(bucket).key(key).if_match(&etag).body(ByteStream::from(body));
            let put = put.server_side_encryption(kms).ssekms_key_id(&at.kms_key).customize();
            let put = put.mutate_request(move |request| {
                if call != Call::Rewrite {
                    request.headers_mut().insert("x-minio-source-mtime", Place::MOMENT_AFTER);
                }
                if call == Call::InPlace {
                    request.headers_mut().insert("x-minio-source-etag", etag.trim_matches('"').to_owned());
                }
                if let Some(version) = &version {
                    let uri = format!("{}&versionId={version}", request.uri());
                    let _is_one = request.set_uri(uri);
                }
            });
            drop(put.send().await?);
        }
    }
    Ok(())
}

async fn parts(s3: &Client, at: &Place, key: &str, through: bool) -> Result<(), Error> {
    let (bucket, kms) = (&at.bucket, ServerSideEncryption::AwsKms);
    let head = s3.head_object().bucket(bucket).key(key);
    let whole = head.clone().send().await?;
    let (etag, size) = (whole.e_tag.unwrap_or_default(), whole.content_length.unwrap_or_default());
    let count = etag.trim_matches('"').rsplit('-').next().unwrap_or_default().parse()?;
    let create = s3.create_multipart_upload().bucket(bucket).key(key).server_side_encryption(kms);
    let id = create.ssekms_key_id(&at.kms_key).send().await?.upload_id.unwrap_or_default();
    let (mut parts, mut from) = (Vec::new(), 0);
    for number in 1..=count {
        let bytes = match number == count {
            true => size - from,
            false => head.clone().part_number(number).send().await?.content_length.unwrap_or_default(),
        };
        let range = format!("bytes={from}-{}", from + bytes - 1);
        from += bytes;
        let made = if through {
            let got = s3.get_object().bucket(bucket).key(key).range(range).if_match(&etag).send().await?;
            let part = s3.upload_part().bucket(bucket).key(key).upload_id(&id).part_number(number);
            part.content_length(bytes).body(got.body).send().await?.e_tag
        } else {
            let part = s3.upload_part_copy().bucket(bucket).key(key).upload_id(&id).part_number(number);
            let part = part.copy_source(format!("{bucket}/{key}")).copy_source_range(range);
            part.send().await?.copy_part_result.and_then(|part| part.e_tag)
        };
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(made).build());
    }
    let all = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    drop(s3.complete_multipart_upload().bucket(bucket).key(key).upload_id(id).multipart_upload(all).send().await?);
    Ok(())
}
