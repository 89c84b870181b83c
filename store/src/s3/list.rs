//! Listings: the request through the SDK, the answer through our own reader.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::EncodingType;
use tokio::time::Instant;

use super::call::{Shape, Tap};
use super::{S3Store, errors, xml};
use crate::{ErrorKind, ListFrom, ListPage, ListRequest, Result, StoreError};

/// No page of 1,000 entries is larger: keys have at most 1 KiB, metadata and tags a few more.
const LARGEST_PAGE: usize = 32 << 20;

impl S3Store {
    /// A page behind a token that the store does not take any more begins behind the last key that was listed.
    pub(super) async fn list_current(&self, request: &ListRequest) -> Result<ListPage> {
        let page = self.page_of_current(request).await;
        match (&page, &request.from) {
            (Err(error), ListFrom::Token { behind: Some(key), .. }) if error.kind == ErrorKind::Refused => {
                let from = ListFrom::AfterKey(key.clone());
                self.page_of_current(&ListRequest { from, ..request.clone() }).await
            }
            _ => page,
        }
    }

    async fn page_of_current(&self, request: &ListRequest) -> Result<ListPage> {
        let operation = "ListObjectsV2";
        let (after, token) = match &request.from {
            ListFrom::Start => (None, None),
            ListFrom::AfterKey(key) | ListFrom::AfterVersion(key, _) => (Some(key.clone()), None),
            ListFrom::Token { token, .. } => (None, Some(token.clone())),
        };
        let call = self.client.list_objects_v2().bucket(&request.bucket).set_prefix(prefix(request));
        let call = call.max_keys(limit(request)).encoding_type(EncodingType::Url);
        let call = call.set_start_after(after).set_continuation_token(token);
        let body = Tap::new();
        let shape = shape(request).take_body(&body, "<ListBucketResult></ListBucketResult>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        let page = xml::page(operation, &self.read_body(operation, &body, call).await?)?;
        as_asked(operation, request, page)
    }

    pub(super) async fn list_versions(&self, request: &ListRequest) -> Result<ListPage> {
        let operation = "ListObjectVersions";
        let (key, version) = match &request.from {
            ListFrom::Start => (None, None),
            ListFrom::AfterKey(key) => (Some(key.clone()), None),
            ListFrom::AfterVersion(key, version) => (Some(key.clone()), Some(version.clone())),
            ListFrom::Token { .. } => {
                return Err(StoreError::new(operation, ErrorKind::Refused, "listings of versions have no tokens"));
            }
        };
        let call = self.client.list_object_versions().bucket(&request.bucket).set_prefix(prefix(request));
        let call = call.max_keys(limit(request)).encoding_type(EncodingType::Url);
        let call = call.set_key_marker(key).set_version_id_marker(version);
        let body = Tap::new();
        let shape = shape(request).take_body(&body, "<ListVersionsResult></ListVersionsResult>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        let page = xml::page(operation, &self.read_body(operation, &body, call).await?)?;
        as_asked(operation, request, page)
    }

    /// Sends, then reads the body that the call left in `body`, within the bound of one call.
    pub(super) async fn read_body(
        &self,
        operation: &'static str,
        body: &Tap<SdkBody>,
        call: impl Future<Output = Result<()>>,
    ) -> Result<Vec<u8>> {
        self.read_body_within(operation, self.timeouts.call, body, call).await
    }

    /// The same within another bound, for calls that make the store work.
    pub(super) async fn read_body_within(
        &self,
        operation: &'static str,
        bound: Duration,
        body: &Tap<SdkBody>,
        call: impl Future<Output = Result<()>>,
    ) -> Result<Vec<u8>> {
        let ends = Instant::now() + bound;
        call.await?;
        let body = body.take().unwrap_or_else(SdkBody::empty);
        let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let read = tokio::time::timeout(left, read(operation, ByteStream::new(body))).await;
        read.unwrap_or_else(|_| Err(StoreError::new(operation, ErrorKind::Timeout, "the answer did not end in time")))
    }
}

/// A page of what was asked for: only behind where it was to begin, and below the prefix. One that is not in the order of
/// keys, or goes back, or names something twice, is none: what it left out could not be told.
fn as_asked(operation: &'static str, request: &ListRequest, mut page: ListPage) -> Result<ListPage> {
    let nonsense = |message: String| Err(StoreError::new(operation, ErrorKind::Nonsense, message));
    let mut versions = BTreeSet::new();
    if let ListFrom::AfterVersion(_, version) = &request.from {
        versions.insert(Some(version.as_str()));
    }
    // What lies at or before a key that it was only to begin behind is left out below.
    let begins = matches!(request.from, ListFrom::AfterKey(_)).then(|| request.from.key()).flatten();
    let mut last = request.from.key().filter(|_| begins.is_none());
    for entry in &page.entries {
        match last.map(|last| last.cmp(&entry.key)) {
            Some(Ordering::Greater) => {
                let last = last.unwrap_or_default();
                return nonsense(format!("`{}` is listed behind `{last}`, and {DISORDER}", entry.key));
            }
            Some(Ordering::Equal) => {}
            _ => versions.clear(),
        }
        let again = last == Some(&entry.key) && !request.versions;
        if !versions.insert(entry.version.as_deref()) || again {
            return nonsense(format!("`{}` is listed twice, and {DISORDER}", entry.key));
        }
        last = Some(&entry.key);
    }
    let stays = match (&page.next, &request.from) {
        (Some(ListFrom::Token { token, .. }), ListFrom::Token { token: asked, .. }) => token == asked,
        (next, from) => next.as_ref() == Some(from),
    };
    if stays {
        return nonsense(format!("the page behind it is said to be the same one, and {DISORDER}"));
    }
    // Where nothing was listed, the place is that of the page before.
    if let Some(ListFrom::Token { behind: behind @ None, .. }) = &mut page.next {
        *behind = request.from.key().map(str::to_owned);
    }
    page.entries
        .retain(|entry| entry.key.starts_with(&request.prefix) && begins.is_none_or(|key| entry.key.as_str() > key));
    Ok(page)
}

/// Why such a listing is of no use.
const DISORDER: &str = "what a listing out of order leaves out nobody can tell";

async fn read(operation: &'static str, mut body: ByteStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk.map_err(|error| errors::from_body(operation, error))?);
        if all.len() > LARGEST_PAGE {
            let message = format!("one of more than {} MiB is no answer of S3", LARGEST_PAGE >> 20);
            return Err(StoreError::new(operation, ErrorKind::Nonsense, message));
        }
    }
    Ok(all)
}

fn shape(request: &ListRequest) -> Shape {
    Shape::default().query("metadata", request.with_facts.then_some("true"))
}

fn prefix(request: &ListRequest) -> Option<String> {
    Some(request.prefix.clone()).filter(|prefix| !prefix.is_empty())
}

fn limit(request: &ListRequest) -> i32 {
    i32::try_from(request.limit.clamp(1, 1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::Entry;

    fn entry(key: &str, version: Option<&str>) -> Entry {
        Entry {
            key: key.into(),
            version: version.map(str::to_owned),
            latest: version.is_none(),
            delete_marker: false,
            size: 1,
            etag: "e".into(),
            last_modified: Timestamp::UNIX_EPOCH,
            storage_class: None,
            newer: None,
            facts: None,
        }
    }

    fn token(token: &str, behind: Option<&str>) -> ListFrom {
        ListFrom::Token { token: token.into(), behind: behind.map(str::to_owned) }
    }

    /// The keys of a page that names these, asked for from there on.
    fn asked(from: ListFrom, keys: &[(&str, Option<&str>)], next: Option<ListFrom>) -> Result<ListPage> {
        let versions = keys.iter().any(|(_, version)| version.is_some());
        let (bucket, prefix) = ("b".to_owned(), "k".to_owned());
        let request = ListRequest { bucket, prefix, versions, from, limit: 1000, with_facts: false };
        let entries = keys.iter().map(|(key, version)| entry(key, *version)).collect();
        as_asked("List", &request, ListPage::of(entries, next))
    }

    fn keys(page: Result<ListPage>) -> Vec<String> {
        page.unwrap().entries.into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn a_listing_out_of_order_or_with_something_twice_is_none() {
        let after = |key: &str| ListFrom::AfterKey(key.into());
        let version = |key: &str, id: &str| ListFrom::AfterVersion(key.into(), id.into());
        for (from, page) in [
            (ListFrom::Start, vec![("k1", None), ("k3", None), ("k2", None)]),
            (ListFrom::Start, vec![("k1", None), ("k1", None)]),
            (ListFrom::Start, vec![("k2", Some("1")), ("k1", Some("1"))]),
            (ListFrom::Start, vec![("k1", Some("2")), ("k1", Some("1")), ("k1", Some("2"))]),
            (token("t", Some("k5")), vec![("k4", None), ("k6", None)]),
            (token("t", Some("k5")), vec![("k5", None)]),
            (version("k5", "1"), vec![("k5", Some("2")), ("k5", Some("1"))]),
            (version("k5", "1"), vec![("k4", Some("2"))]),
            (after("k5"), vec![("k7", None), ("k6", None)]),
        ] {
            let error = asked(from.clone(), &page, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Nonsense, "{from:?} {page:?}");
            assert!(error.message.contains(DISORDER), "{error}");
        }
        let versions = [("k1", Some("2")), ("k1", Some("1")), ("k2", Some("2"))];
        assert_eq!(keys(asked(ListFrom::Start, &versions, None)), ["k1", "k1", "k2"]);
        assert_eq!(keys(asked(version("k1", "3"), &versions, None)), ["k1", "k1", "k2"]);
    }

    #[test]
    fn what_was_not_asked_for_is_left_out() {
        let page = [("a", None), ("k1", None), ("k2", None), ("k3", None), ("z", None)];
        assert_eq!(keys(asked(ListFrom::AfterKey("k1".into()), &page, None)), ["k2", "k3"]);
        assert_eq!(keys(asked(ListFrom::Start, &page, None)), ["k1", "k2", "k3"]);
    }

    #[test]
    fn a_page_that_leads_to_itself_is_none_and_an_empty_one_keeps_its_place() {
        for (from, next) in [
            (token("t", Some("k1")), token("t", Some("k2"))),
            (ListFrom::AfterKey("k1".into()), ListFrom::AfterKey("k1".into())),
            (ListFrom::AfterVersion("k1".into(), "1".into()), ListFrom::AfterVersion("k1".into(), "1".into())),
        ] {
            let error = asked(from.clone(), &[("k2", None)], Some(next)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Nonsense, "{from:?}");
        }
        for from in [token("t", Some("k1")), ListFrom::AfterKey("k1".into())] {
            let page = asked(from, &[], Some(token("u", None))).unwrap();
            assert_eq!(page.next, Some(token("u", Some("k1"))));
        }
    }
}
