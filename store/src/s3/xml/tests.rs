//! Pages as stores send them, and bytes that are no page.

use super::*;
use proptest::prelude::*;

fn read(xml: &str) -> ListPage {
    page("List", xml.as_bytes()).unwrap()
}

const VERSIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix><KeyMarker/>
<NextKeyMarker>a%2Bb+c</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker><MaxKeys>3</MaxKeys>
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<DeleteMarker><Key>a%2Bb+c</Key><LastModified>2026-11-21T12:58:29.123Z</LastModified><Owner><ID>x</ID></Owner>
<VersionId>v3</VersionId><IsLatest>true</IsLatest></DeleteMarker>
<Version><Key>a%2Bb+c</Key><LastModified>2026-11-21T12:58:28.123Z</LastModified><ETag>&#34;e2&#34;</ETag><Size>7</Size>
<Owner><ID>x</ID><DisplayName>minio</DisplayName></Owner><StorageClass>STANDARD</StorageClass><IsLatest>false</IsLatest>
<VersionId>v2</VersionId><UserMetadata><X-Amz-Meta-Colour>r&amp;d</X-Amz-Meta-Colour><content-type>text/plain</content-type>
<X-Amz-Server-Side-Encryption>aws:kms</X-Amz-Server-Side-Encryption>
<X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id>arn:aws:kms:key-a</X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id>
<X-Amz-Server-Side-Encryption-Context>eyJhIjoiYiJ9</X-Amz-Server-Side-Encryption-Context></UserMetadata>
<UserTags>t=1&amp;u=a%20b</UserTags></Version>
<Version><Key>a%2Bb+c</Key><LastModified>2026-11-21T12:58:27.123Z</LastModified><ETag>"e1"</ETag><Size>0</Size>
<StorageClass>GLACIER</StorageClass><IsLatest>false</IsLatest><VersionId>null</VersionId></Version>
</ListVersionsResult>"#;

#[test]
fn versions_and_markers_keep_the_stores_order_and_its_facts() {
    let page = read(VERSIONS);
    assert_eq!(page.next, Some(ListFrom::AfterVersion("a+b c".into(), "v1".into())));
    let seen: Vec<_> =
        page.entries.iter().map(|e| (e.version.as_deref().unwrap(), e.delete_marker, e.latest)).collect();
    assert_eq!(seen, [("v3", true, true), ("v2", false, false), ("null", false, false)]);
    let [marker, version, old] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!((marker.key.as_str(), marker.size, marker.etag.as_str()), ("a+b c", 0, ""));
    assert_eq!((version.size, version.etag.as_str(), version.storage_class.as_deref()), (7, "e2", None));
    assert_eq!(version.last_modified.to_string(), "2026-11-21T12:58:28.123Z");
    assert_eq!(old.storage_class.as_deref(), Some("GLACIER"));
    assert_eq!(old.facts, None);
    let facts = version.facts.as_deref().unwrap();
    let context = Some([("a".to_owned(), "b".to_owned())].into());
    assert_eq!(facts.sse, Sse::Kms { key: Some(KeyName("arn:aws:kms:key-a".into())), context, bucket_key: None });
    assert_eq!(facts.headers.metadata, [("colour".to_owned(), "r&d".to_owned())].into());
    assert_eq!(facts.headers.content_type.as_deref(), Some("text/plain"));
    assert_eq!(facts.tags, [("t".to_owned(), "1".to_owned()), ("u".to_owned(), "a b".to_owned())]);
}

#[test]
fn current_versions_with_a_token_and_keys_as_they_are() {
    let page = read(
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t+1=</NextContinuationToken>\
         <Contents><Key>a%2B &amp;&#x1;&lt;<![CDATA[<x>]]></Key><LastModified>2026-11-21T12:58:27Z</LastModified>\
         <ETag>\"e\"</ETag><Size>5368709121</Size></Contents></ListBucketResult>",
    );
    assert_eq!(
        page.next,
        Some(ListFrom::Token { token: "t+1=".into(), behind: page.entries.last().map(|entry| entry.key.clone()) })
    );
    let entry = &page.entries[0];
    assert_eq!((entry.key.as_str(), entry.version.as_deref(), entry.latest), ("a%2B &\u{1}<<x>", None, true));
    assert_eq!(entry.size, 5_368_709_121);
}

#[test]
fn an_empty_page_is_the_end() {
    let page = read("<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>");
    assert!(page.entries.is_empty() && page.next.is_none());
}

#[test]
fn facts_that_are_not_understood_are_left_to_head() {
    let entry = |metadata: &str, tags: &str| {
        let xml = format!(
            "<ListBucketResult><Contents><Key>k</Key><LastModified>2026-11-21T12:58:27Z</LastModified><Size>1</Size>\
             <UserMetadata>{metadata}</UserMetadata><UserTags>{tags}</UserTags></Contents>\
             <IsTruncated>false</IsTruncated></ListBucketResult>"
        );
        read(&xml).entries.remove(0).facts
    };
    assert_eq!(entry("", "").unwrap().sse, Sse::None);
    let algorithm = |name: &str| format!("<X-Amz-Server-Side-Encryption>{name}</X-Amz-Server-Side-Encryption>");
    assert_eq!(entry(&algorithm("AES256"), "").unwrap().sse, Sse::S3);
    assert_eq!(entry(&algorithm("aws:new"), ""), None);
    assert_eq!(entry("", "%zz=1"), None);
    let context = "<X-Amz-Server-Side-Encryption-Context>?</X-Amz-Server-Side-Encryption-Context>";
    assert_eq!(entry(context, ""), None);
}

#[test]
fn what_is_no_listing_makes_no_sense() {
    let entry = |fields: &str| format!("<ListBucketResult><Contents>{fields}</Contents></ListBucketResult>");
    let date = "<LastModified>2026-11-21T12:58:27Z</LastModified>";
    let deep = "<a>".repeat(10_000);
    let cases = [
        String::new(),
        "OK".into(),
        "<html><body>502 Bad Gateway</body></html>".into(),
        "<!DOCTYPE html><html></html>".into(),
        "<ListBucketResult><Name>b</Name></ListBucketResult>".into(),
        "<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>".into(),
        "<ListBucketResult>".into(),
        "<ListBucketResult><Contents></ListBucketResult>".into(),
        "<ListBucketResult></ListBucketResult><ListBucketResult></ListBucketResult>".into(),
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>".into(),
        "<ListBucketResult><Name>&nbsp;</Name></ListBucketResult>".into(),
        "<ListBucketResult><Name>&#xD800;</Name></ListBucketResult>".into(),
        format!("<ListBucketResult>{deep}"),
        entry(""),
        entry(&format!("<Key>k</Key>{date}")),
        entry(&format!("<Key>k</Key>{date}<Size>-1</Size>")),
        entry(&format!("<Key>k</Key>{date}<Size>99999999999999999999</Size>")),
        entry("<Key>k</Key><LastModified>yesterday</LastModified><Size>1</Size>"),
        format!("<ListVersionsResult><Version><Key>k</Key>{date}<Size>1</Size></Version></ListVersionsResult>"),
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%zz</Key></Contents></ListBucketResult>"
            .into(),
    ];
    for case in cases {
        let shown: String = case.chars().take(120).collect();
        assert_eq!(page("List", case.as_bytes()).unwrap_err().kind, ErrorKind::Nonsense, "{shown}");
    }
    let error = page("List", b"<Error><Code>SlowDown</Code><Message>m</Message></Error>").unwrap_err();
    assert_eq!((error.kind, error.status, error.code.as_deref()), (ErrorKind::Throttled, Some(200), Some("SlowDown")));
    let web_page = page("List", b" <HTML><br></HTML>").unwrap_err();
    assert_eq!((web_page.kind, web_page.message.as_str()), (ErrorKind::Nonsense, WEB_PAGE));
    for end in (0..VERSIONS.len()).filter(|end| VERSIONS.is_char_boundary(*end)) {
        assert_eq!(page("List", &VERSIONS.as_bytes()[..end]).unwrap_err().kind, ErrorKind::Nonsense, "cut at {end}");
    }
}

#[test]
fn an_error_under_a_good_status_is_an_error() {
    let read = |xml: &str| fields("CompleteMultipartUpload", xml.as_bytes());
    let done =
        read("  \n<?xml version=\"1.0\"?><AnyResult><ETag>&quot;e&quot;</ETag><P><N>1</N></P></AnyResult>").unwrap();
    assert_eq!(done[0], ("ETag".to_owned(), "\"e\"".to_owned()));
    assert_eq!(done[1], ("P/N".to_owned(), "1".to_owned()));
    let error = |code: &str| read(&format!("<Error><Code>{code}</Code><Message>m</Message></Error>")).unwrap_err();
    assert_eq!(error("SlowDown").kind, ErrorKind::Throttled);
    assert_eq!(error("InternalError").kind, ErrorKind::Server);
    assert_eq!(error("PreconditionFailed").kind, ErrorKind::Precondition);
    assert!(error("SomethingNew").kind.is_ambiguous());
    assert_eq!(error("SlowDown").code.as_deref(), Some("SlowDown"));
    for wrong in ["", " ", "<html></html>", "<a>", "<!DOCTYPE x><a/>", "OK"] {
        assert_eq!(read(wrong).unwrap_err().kind, ErrorKind::Nonsense, "{wrong}");
    }
}

#[test]
fn versioning_under_either_root() {
    let read = |xml: &str| versioning("GetBucketVersioning", xml.as_bytes());
    assert_eq!(read("<VersioningConfiguration xmlns=\"x\"/>").unwrap(), None);
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    assert_eq!(read(suspended).unwrap().as_deref(), Some("Suspended"));
    let moto =
        "<?xml version=\"1.0\"?>\n<GetBucketVersioningResponse><Status>Enabled</Status></GetBucketVersioningResponse>";
    assert_eq!(read(moto).unwrap().as_deref(), Some("Enabled"));
    for wrong in ["", "<html></html>", "<VersioningConfiguration>", "<a><b></a>", "<ListBucketResult/>"] {
        assert_eq!(read(wrong).unwrap_err().kind, ErrorKind::Nonsense, "{wrong}");
    }
    let error = read("<Error><Code>InternalError</Code><Message>m</Message></Error>").unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Server, Some("InternalError")));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = page("List", &bytes);
        let _ = versioning("GetBucketVersioning", &bytes);
        let _ = fields("ListParts", &bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0..VERSIONS.len(), with in proptest::collection::vec(any::<u8>(), 0..8), cut in 0usize..20) {
        let mut bytes = VERSIONS.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, with);
        if let Err(error) = page("List", &bytes) {
            prop_assert_eq!(error.kind, ErrorKind::Nonsense);
        }
    }

    #[test]
    fn every_key_comes_back(key in "\\PC*") {
        let encoded = super::super::encode::percent(&key, "/");
        let xml = format!(
            "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>{encoded}</Key>\
             <LastModified>2026-11-21T12:58:27Z</LastModified><Size>1</Size></Contents>\
             <IsTruncated>false</IsTruncated></ListBucketResult>"
        );
        prop_assert_eq!(&read(&xml).entries[0].key, &key);
    }
}
