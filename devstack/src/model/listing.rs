//! Listings: a page from a place on, current versions or all.

use std::ops::Bound;

use keyrotate_store::{Entry, EntryFacts, ErrorKind, Headers, ListFrom, ListPage, ListRequest, Result, StoreError};

use super::inner::Inner;
use super::object::{Version, whole_milliseconds, whole_seconds};
use super::state::Bucket;

const MAX_KEYS: u32 = 1000;

impl Inner {
    pub(super) fn list_page(&self, request: &ListRequest) -> Result<ListPage> {
        let op = if request.versions { "ListObjectVersions" } else { "ListObjectsV2" };
        self.count(op);
        let core = self.lock();
        let bucket = core.bucket(op, &request.bucket)?;
        let mut start = Start::of(op, request)?;
        if let Start::AfterKey(marker) = &start
            && request.versions
            && self.mode.skips_at_key_marker
        {
            let first = bucket.keys_from(Bound::Included(marker)).next().map(|(key, _)| key);
            start = Start::Skipping { marker: marker.clone(), first };
        }
        let limit = request.limit.clamp(1, MAX_KEYS) as usize;
        let mut entries = self.entries(bucket, request, &start);
        let page: Vec<Entry> = entries.by_ref().take(limit).collect();
        let more = entries.next().is_some();
        let next = page.last().filter(|_| more).map(|last| match &last.version {
            Some(version) => ListFrom::AfterVersion(last.key.clone(), version.clone()),
            None => ListFrom::Token { token: hex::encode(&last.key), behind: Some(last.key.clone()) },
        });
        Ok(ListPage::of(page, next))
    }

    fn entries<'a>(
        &'a self,
        bucket: &'a Bucket,
        request: &'a ListRequest,
        start: &'a Start,
    ) -> impl Iterator<Item = Entry> + 'a {
        let keys = bucket.keys_from(start.bound(&request.prefix));
        let keys = keys.take_while(|(key, _)| key.starts_with(&request.prefix));
        keys.flat_map(move |(key, versions)| {
            let wanted = if request.versions { versions.len() } else { 1 };
            let behind = start.versions_behind(&key, &versions);
            let all = versions.into_iter().enumerate().take(wanted).skip(behind);
            let shown = all.filter(|(_, version)| request.versions || version.content.is_some());
            shown.map(move |(place, version)| self.entry(request, key.clone(), &version, place == 0))
        })
    }

    fn entry(&self, request: &ListRequest, key: String, version: &Version, latest: bool) -> Entry {
        let date = if self.mode.listing_milliseconds { whole_milliseconds } else { whole_seconds };
        let content = version.content.as_ref();
        let facts = content.filter(|_| request.with_facts && self.mode.listing_facts).map(|content| {
            let (sse, tags) = (content.sse.clone(), content.tags.clone());
            // MinIO leaves this one header out of its listing.
            let headers = Headers { expires: None, ..content.headers.clone() };
            Box::new(EntryFacts { sse, headers, tags })
        });
        Entry {
            key,
            version: request.versions.then(|| version.id.clone()),
            latest,
            delete_marker: content.is_none(),
            size: content.map_or(0, |content| content.size),
            etag: content.map(|content| content.etag.clone()).unwrap_or_default(),
            last_modified: date(version.date),
            storage_class: content.and_then(|content| content.storage_class.clone()),
            newer: None,
            facts,
        }
    }
}

/// Where a page begins.
enum Start {
    First,
    AfterKey(String),
    AfterVersion(String, String),
    /// From the marker on, without the newest version of the first key there.
    Skipping {
        marker: String,
        first: Option<String>,
    },
}

impl Start {
    fn of(op: &'static str, request: &ListRequest) -> Result<Self> {
        Ok(match &request.from {
            ListFrom::Start => Self::First,
            ListFrom::AfterKey(key) => Self::AfterKey(key.clone()),
            ListFrom::AfterVersion(key, version) if request.versions => {
                Self::AfterVersion(key.clone(), version.clone())
            }
            ListFrom::AfterVersion(key, _) => Self::AfterKey(key.clone()),
            ListFrom::Token { token, .. } => {
                let key = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let message = "The continuation token provided is incorrect";
                let wrong = || StoreError::answered(op, ErrorKind::Refused, 400, "InvalidArgument", message);
                Self::AfterKey(key.ok_or_else(wrong)?)
            }
        })
    }

    fn bound<'a>(&'a self, prefix: &'a str) -> Bound<&'a str> {
        match self {
            Self::AfterKey(key) if key.as_str() >= prefix => Bound::Excluded(key),
            Self::AfterVersion(key, _) | Self::Skipping { marker: key, .. } if key.as_str() >= prefix => {
                Bound::Included(key)
            }
            _ => Bound::Included(prefix),
        }
    }

    /// How many versions of a key lie before the page. A version that is gone meanwhile: none.
    fn versions_behind(&self, key: &str, versions: &[std::sync::Arc<Version>]) -> usize {
        match self {
            Self::AfterVersion(at, id) if at == key => {
                versions.iter().position(|version| version.id == *id).map_or(0, |place| place + 1)
            }
            Self::Skipping { first, .. } => usize::from(first.as_deref() == Some(key)),
            _ => 0,
        }
    }
}
