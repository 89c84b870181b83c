//! The HTTP face, seen by a client that nobody here wrote.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

use std::error::Error as _;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete, EncodingType,
    MetadataDirective, ObjectEncryption, ObjectIdentifier, ServerSideEncryption, SsekmsEncryption, Tag, Tagging,
    VersioningConfiguration,
};
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_devstack::server::{Fault, FaultRule, S3Server, S3ServerConfig};
use keyrotate_env::Env;

const BUCKET: &str = "bucket";
const ODD_KEYS: [&str; 9] =
    ["plain", "a b", "a+b", "100%", "q?x=1&y", "h#1", "ü/日本/\u{10FFFF}", "quote\"<&>'", "control\u{1}\r\n\t"];

struct Stand {
    server: S3Server,
    model: StoreModel,
    client: Client,
}

async fn stand(mode: Mode, settings: BucketSettings) -> Stand {
    let env = Env::system();
    let kes = KesModel::new(env.clone());
    for key in ["key-a", "key-b"] {
        kes.create(key, "").unwrap();
    }
    let model = StoreModel::new(mode, std::sync::Arc::new(kes), env);
    model.create_bucket(BUCKET, settings).unwrap();
    let config = S3ServerConfig {
        addr: "127.0.0.1:0".parse().unwrap(),
        access_key: "access".to_owned(),
        secret_key: "secret".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let server = S3Server::start(model.clone(), config).await.unwrap();
    let client = client(&server, "secret");
    Stand { server, model, client }
}

fn client(server: &S3Server, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(server.endpoint())
        .credentials_provider(Credentials::new("access", secret, None, None, "test"))
        .region(Region::new("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

fn code<E: ProvideErrorMetadata>(result: Result<impl Sized, SdkError<E>>) -> (u16, String) {
    let error = result.err().unwrap();
    let status = error.raw_response().unwrap().status().as_u16();
    (status, error.code().unwrap_or("").to_owned())
}

#[tokio::test]
async fn an_object_comes_back_with_all_its_properties() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key("k")
        .body(ByteStream::from_static(b"hello"))
        .content_type("text/x-test")
        .content_encoding("gzip")
        .content_language("de")
        .content_disposition("attachment; filename=\"a b\"")
        .cache_control("max-age=3")
        .metadata("colour", "dark blue")
        .tagging("t=1&u=a%20b%26")
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("key-a")
        .send()
        .await
        .unwrap();
    assert_eq!(put.ssekms_key_id(), Some("key-a"));
    let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.e_tag(), put.e_tag());
    assert_eq!(head.content_type(), Some("text/x-test"));
    assert_eq!(head.content_encoding(), Some("gzip"));
    assert_eq!(head.content_language(), Some("de"));
    assert_eq!(head.content_disposition(), Some("attachment; filename=\"a b\""));
    assert_eq!(head.cache_control(), Some("max-age=3"));
    assert_eq!(head.metadata().unwrap()["colour"], "dark blue");
    assert_eq!(head.tag_count(), Some(2));
    assert_eq!(head.ssekms_key_id(), Some("arn:aws:kms:key-a"));
    assert_eq!(head.checksum_crc32(), put.checksum_crc32());
    assert!(head.checksum_crc32().is_some(), "the SDK sends one by itself");
    let tags = client.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    let tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
    assert_eq!(tags, [("t", "1"), ("u", "a b&")]);
    let get = client.get_object().bucket(BUCKET).key("k").range("bytes=1-3").send().await.unwrap();
    assert_eq!(get.content_range(), Some("bytes 1-3/5"));
    assert_eq!(get.body.collect().await.unwrap().to_vec(), b"ell");
    server.shutdown().await;
}

#[tokio::test]
async fn odd_keys_survive() {
    let Stand { server, client, .. } = stand(Mode::aws(), BucketSettings::plain()).await;
    for key in ODD_KEYS {
        let body = ByteStream::from(key.as_bytes().to_vec());
        client.put_object().bucket(BUCKET).key(key).body(body).send().await.unwrap();
        let got = client.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), key.as_bytes());
        let source = format!("{BUCKET}/{}", percent(key));
        let copied = client.copy_object().bucket(BUCKET).key(format!("copy/{key}")).copy_source(source).send().await;
        copied.unwrap();
    }
    let listed = list_all(&client, 2).await;
    let mut expected: Vec<_> = ODD_KEYS.iter().flat_map(|key| [(*key).to_owned(), format!("copy/{key}")]).collect();
    expected.sort();
    assert_eq!(listed, expected);
    server.shutdown().await;
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        match byte {
            b'%' => {
                out.push(u8::from_str_radix(std::str::from_utf8(&behind[..2]).unwrap(), 16).unwrap());
                rest = &behind[2..];
                continue;
            }
            b'+' => out.push(b' '),
            _ => out.push(byte),
        }
        rest = behind;
    }
    String::from_utf8(out).unwrap()
}

async fn list_all(client: &Client, page: i32) -> Vec<String> {
    let (mut keys, mut token) = (Vec::new(), None);
    loop {
        let list = client.list_objects_v2().bucket(BUCKET).max_keys(page).encoding_type(EncodingType::Url);
        let got = list.set_continuation_token(token).send().await.unwrap();
        assert!(got.contents().len() <= usize::try_from(page).unwrap());
        keys.extend(got.contents().iter().map(|entry| decode(entry.key().unwrap())));
        token = got.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            return keys;
        }
    }
}

#[tokio::test]
async fn a_delimiter_rolls_up_and_pages_go_on_behind_it() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    for key in ["a/1", "a/2", "b", "c/1", "c/d/2", "e"] {
        client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"x")).send().await.unwrap();
    }
    let (mut lines, mut token) = (Vec::new(), None);
    loop {
        let list = client.list_objects_v2().bucket(BUCKET).delimiter("/").max_keys(1);
        let got = list.set_continuation_token(token).send().await.unwrap();
        assert_eq!(got.key_count(), Some(1));
        lines.extend(got.contents().iter().map(|entry| entry.key().unwrap().to_owned()));
        lines.extend(got.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap().to_owned()));
        token = got.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(lines, ["a/", "b", "c/", "e"]);
    server.shutdown().await;
}

#[tokio::test]
async fn versions_and_delete_markers_are_listed_and_removed() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(on).send().await.unwrap();
    let status = client.get_bucket_versioning().bucket(BUCKET).send().await.unwrap();
    assert_eq!(status.status(), Some(&BucketVersioningStatus::Enabled));
    let mut ids = Vec::new();
    for body in [&b"1"[..], b"22"] {
        let put = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(body)).send().await.unwrap();
        ids.push(put.version_id().unwrap().to_owned());
    }
    let deleted = client.delete_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(deleted.delete_marker(), Some(true));
    assert_eq!(code(client.get_object().bucket(BUCKET).key("k").send().await), (404, "NoSuchKey".to_owned()));
    let listed = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    let versions: Vec<_> = listed.versions().iter().map(|one| one.version_id().unwrap().to_owned()).collect();
    assert_eq!(versions, [ids[1].clone(), ids[0].clone()]);
    assert_eq!(listed.delete_markers().len(), 1);
    let old = client.get_object().bucket(BUCKET).key("k").version_id(&ids[0]).send().await.unwrap();
    assert_eq!(old.body.collect().await.unwrap().to_vec(), b"1");
    let one = |id: &str| ObjectIdentifier::builder().key("k").version_id(id).build().unwrap();
    let all = Delete::builder().objects(one(&ids[0])).objects(one(&ids[1])).build().unwrap();
    let gone = client.delete_objects().bucket(BUCKET).delete(all).send().await.unwrap();
    assert_eq!((gone.deleted().len(), gone.errors().len()), (2, 0));
    let listed = client.list_object_versions().bucket(BUCKET).send().await.unwrap();
    assert_eq!((listed.versions().len(), listed.delete_markers().len()), (0, 1));
    server.shutdown().await;
}

#[tokio::test]
async fn conditions_hold_where_the_store_honours_them() {
    let Stand { server, client, .. } = stand(Mode::aws(), BucketSettings::plain()).await;
    let put = || client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    put().if_none_match("*").send().await.unwrap();
    let refused = (412, "PreconditionFailed".to_owned());
    assert_eq!(code(put().if_none_match("*").send().await), refused);
    assert_eq!(code(put().if_match("\"0123\"").send().await), refused);
    let get = client.get_object().bucket(BUCKET).key("k").if_match("\"0123\"");
    assert_eq!(code(get.send().await), refused);
    let copy = |etag: &str| {
        let etag = etag.to_owned();
        client
            .copy_object()
            .bucket(BUCKET)
            .key("k")
            .copy_source("bucket/k")
            .metadata_directive(MetadataDirective::Replace)
            .metadata("a", "1")
            .if_match(etag)
    };
    assert_eq!(code(copy("\"0123\"").send().await), refused);
    let etag = client.head_object().bucket(BUCKET).key("k").send().await.unwrap().e_tag().unwrap().to_owned();
    let copied = copy(&etag).send().await.unwrap();
    assert!(copied.copy_object_result().unwrap().last_modified().is_some());
    server.shutdown().await;
}

const KEY_B: &str = "arn:aws:kms:us-east-1:111122223333:key/key-b";

fn to_key_b() -> ObjectEncryption {
    ObjectEncryption::Ssekms(SsekmsEncryption::builder().kms_key_arn(KEY_B).build().unwrap())
}

#[tokio::test]
async fn update_object_encryption_changes_the_key_only() {
    let Stand { server, client, .. } = stand(Mode::aws(), BucketSettings::plain()).await;
    let put = client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"body"));
    put.server_side_encryption(ServerSideEncryption::AwsKms).ssekms_key_id("key-a").send().await.unwrap();
    let before = client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    let update = client.update_object_encryption().bucket(BUCKET).key("k").object_encryption(to_key_b());
    update.send().await.unwrap();
    let after = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(after.e_tag(), before.e_tag());
    assert!(after.ssekms_key_id().unwrap().ends_with("key-b"));
    assert_eq!(after.body.collect().await.unwrap().to_vec(), b"body");
    server.shutdown().await;
}

#[tokio::test]
async fn a_store_that_does_not_know_it_overwrites_the_object_with_the_request() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"body")).send().await.unwrap();
    for bucket_key in [None, Some(true), Some(false)] {
        let sse = SsekmsEncryption::builder().kms_key_arn(KEY_B).set_bucket_key_enabled(bucket_key).build().unwrap();
        let update = client.update_object_encryption().bucket(BUCKET).key("k");
        update.object_encryption(ObjectEncryption::Ssekms(sse)).send().await.unwrap();
        let after = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
        let body = String::from_utf8(after.body.collect().await.unwrap().to_vec()).unwrap();
        assert_eq!(body, keyrotate_store::update_encryption_body(KEY_B, bucket_key));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn multipart_uploads_are_made_listed_completed_and_aborted() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    let part: Vec<u8> = (0..5 << 20).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let create = || async { client.create_multipart_upload().bucket(BUCKET).key("m").send().await.unwrap() };
    let id = create().await.upload_id().unwrap().to_owned();
    let mut done = CompletedMultipartUpload::builder();
    for (number, body) in [(1, part.clone()), (2, b"end".to_vec())] {
        let upload = client.upload_part().bucket(BUCKET).key("m").upload_id(&id).part_number(number).body(body.into());
        let etag = upload.send().await.unwrap().e_tag().unwrap().to_owned();
        done = done.parts(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    let listed = client.list_parts().bucket(BUCKET).key("m").upload_id(&id).send().await.unwrap();
    let sizes: Vec<_> = listed.parts().iter().map(|part| part.size()).collect();
    assert_eq!(sizes, [Some(5 << 20), Some(3)]);
    let complete = client.complete_multipart_upload().bucket(BUCKET).key("m").upload_id(&id);
    complete.multipart_upload(done.build()).send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("m").part_number(1).send().await.unwrap();
    assert_eq!((head.parts_count(), head.content_length()), (Some(2), Some(5 << 20)));
    let body = client.get_object().bucket(BUCKET).key("m").send().await.unwrap().body.collect().await.unwrap().to_vec();
    assert!(body == [part, b"end".to_vec()].concat(), "the body differs");
    let id = create().await.upload_id().unwrap().to_owned();
    let open = client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert_eq!(open.uploads().len(), 1);
    client.abort_multipart_upload().bucket(BUCKET).key("m").upload_id(&id).send().await.unwrap();
    let open = client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert!(open.uploads().is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn tags_are_replaced_and_removed() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    client.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x")).send().await.unwrap();
    let tag = Tag::builder().key("a&b").value("<1>").build().unwrap();
    let set = Tagging::builder().tag_set(tag.clone()).build().unwrap();
    client.put_object_tagging().bucket(BUCKET).key("k").tagging(set).send().await.unwrap();
    let tags = client.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(tags.tag_set(), [tag]);
    client.delete_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    let tags = client.get_object_tagging().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(tags.tag_set().is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn a_wrong_secret_a_missing_bucket_and_wrong_bytes_are_refused() {
    let Stand { server, client: good, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    let bad = client(&server, "other");
    let put = bad.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    assert_eq!(code(put.send().await), (403, "SignatureDoesNotMatch".to_owned()));
    let update = bad.update_object_encryption().bucket(BUCKET).key("k").object_encryption(to_key_b());
    assert_eq!(code(update.send().await), (403, "SignatureDoesNotMatch".to_owned()));
    let nowhere = good.list_objects_v2().bucket("nowhere").send().await;
    assert_eq!(code(nowhere), (404, "NoSuchBucket".to_owned()));
    let put = good.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"x"));
    let wrong = put.content_md5("1B2M2Y8AsgTpgAmY7PhCfg==").send().await;
    assert_eq!(code(wrong), (400, "BadDigest".to_owned()));
    assert_eq!(
        good.head_object()
            .bucket(BUCKET)
            .key("k")
            .send()
            .await
            .err()
            .unwrap()
            .raw_response()
            .unwrap()
            .status()
            .as_u16(),
        404
    );
    server.shutdown().await;
}

#[tokio::test]
async fn faults_of_the_way_are_felt_and_end() {
    let Stand { server, client, model } = stand(Mode::minio(), BucketSettings::plain()).await;
    let body = vec![7; 300_000];
    let put = || client.put_object().bucket(BUCKET).key("k").body(body.clone().into());
    let exists = || async { model_has(&model, "k").await };
    server.faults().add(FaultRule::on("PutObject", Fault::SlowDown).times(1));
    assert_eq!(code(put().send().await), (503, "SlowDown".to_owned()));
    server.faults().add(FaultRule::on("PutObject", Fault::CutBefore).times(1));
    let cut = put().send().await.err().unwrap();
    assert!(cut.raw_response().is_none() && cut.source().is_some(), "{cut:?}");
    assert!(!exists().await);
    server.faults().add(FaultRule::on("PutObject", Fault::DropReply).times(1));
    let dropped = put().send().await.err().unwrap();
    assert!(dropped.raw_response().is_none(), "{dropped:?}");
    assert!(exists().await);
    server.faults().add(FaultRule::on("GetObject", Fault::CutBody).times(1));
    let get = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(get.body.collect().await.is_err());
    server.faults().add(FaultRule::on("HeadObject", Fault::Delay(Duration::from_millis(80))).times(1));
    let before = tokio::time::Instant::now();
    client.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(80));
    let get = client.get_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(get.body.collect().await.unwrap().to_vec(), body);
    assert_eq!(server.faults().met(), 5);
    assert_eq!(server.faults().requests()["PutObject"], 3);
    server.shutdown().await;
}

async fn model_has(model: &StoreModel, key: &str) -> bool {
    use keyrotate_store::{HeadRequest, ObjectAt, Store as _};
    model.head(HeadRequest::of(&ObjectAt::current(BUCKET, key))).await.is_ok()
}

#[tokio::test]
async fn a_large_body_is_streamed_and_its_checksum_kept() {
    let Stand { server, client, .. } = stand(Mode::minio(), BucketSettings::plain()).await;
    let body: Vec<u8> = (0..3 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let put = client.put_object().bucket(BUCKET).key("k").body(body.clone().into()).send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(head.checksum_crc32(), put.checksum_crc32());
    let got = client.get_object().bucket(BUCKET).key("k").checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert!(got.body.collect().await.unwrap().to_vec() == body, "the body differs");
    server.shutdown().await;
}
