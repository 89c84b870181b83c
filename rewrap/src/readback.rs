//! Reading back: what a written object shows, compared with what was sent.
//!
//! [`ReadBack`] is a proof token: only the comparison here can make one, and an outcome `rotated` can't be built
//! without.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyrotate_proto::outcome::{Evidence, Outcome};
use keyrotate_store::{Checksum, Entry, Headers, Lock, Object, Sse, Tags};

use crate::facts::is_marker;

/// What a written object must show.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) sse: Sse,
    pub(crate) size: u64,
    pub(crate) headers: Headers,
    /// The tags that were sent; `None`: the server took them along.
    pub(crate) tags: Option<Tags>,
    /// How many tags; `None`: not known.
    pub(crate) tag_count: Option<u32>,
    pub(crate) storage_class: Option<String>,
    /// Checksums that must be there; `None`: not known.
    pub(crate) checksums: Option<Vec<Checksum>>,
    /// The ETag that the write answered, or that must have stayed.
    pub(crate) etag: Option<String>,
    /// The version that the write made, or that must have stayed; `None`: not known.
    pub(crate) version: Option<String>,
    /// The date that must have stayed, or that the write named.
    pub(crate) date: Option<Timestamp>,
    /// The lock that was sent, or that must have stayed.
    pub(crate) lock: Lock,
}

/// What a read-back saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) sse: Sse,
    pub(crate) size: u64,
    pub(crate) headers: Headers,
    pub(crate) tags: Option<Tags>,
    pub(crate) tag_count: Option<u32>,
    pub(crate) storage_class: Option<String>,
    pub(crate) checksums: Option<Vec<Checksum>>,
    pub(crate) etag: String,
    pub(crate) version: Option<String>,
    pub(crate) last_modified: Timestamp,
    /// `None` where a listing showed the rest, which never shows locks.
    pub(crate) lock: Option<Lock>,
}

impl Seen {
    /// What HEAD showed.
    pub(crate) fn headed(object: Object) -> Self {
        Self {
            sse: object.sse,
            size: object.size,
            headers: object.headers,
            tags: None,
            tag_count: object.tag_count,
            storage_class: object.storage_class,
            checksums: Some(object.checksums),
            etag: object.etag,
            version: object.version,
            last_modified: object.last_modified,
            lock: Some(object.lock),
        }
    }

    /// What a listing with facts showed; `None` where it showed none.
    pub(crate) fn listed(entry: Entry) -> Option<Self> {
        let facts = entry.facts?;
        Some(Self {
            sse: facts.sse,
            size: entry.size,
            headers: facts.headers,
            tag_count: u32::try_from(facts.tags.len()).ok(),
            tags: Some(facts.tags),
            storage_class: entry.storage_class,
            checksums: None,
            etag: entry.etag,
            version: entry.version,
            last_modified: entry.last_modified,
            lock: None,
        })
    }
}

/// Proof that a written object showed what was sent.
#[derive(Debug)]
pub(crate) struct ReadBack(Evidence);

impl ReadBack {
    /// The outcome that it proves.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::Rotated(self.0)
    }
}

/// How a read-back differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// The object is no more the one that was written: somebody else wrote.
    Replaced(String),
    /// It is the one that was written, and lacks something.
    Wrong(String),
    /// Its tags are not the ones that were sent: somebody changed them meanwhile.
    Tags(String),
}

/// Compares what was sent with what is seen.
pub(crate) fn compare(key: &str, expected: &Expected, seen: &Seen) -> Result<ReadBack, Mismatch> {
    identity(key, expected, seen).map_err(Mismatch::Replaced)?;
    let evidence = seal(&expected.sse, &seen.sse).map_err(Mismatch::Wrong)?;
    headers(&expected.headers, &seen.headers).map_err(Mismatch::Wrong)?;
    if class(expected.storage_class.as_deref()) != class(seen.storage_class.as_deref()) {
        return Err(Mismatch::Wrong(format!(
            "storage class {:?} became {:?}",
            expected.storage_class, seen.storage_class
        )));
    }
    if let (Some(sent), Some(shown)) = (&expected.checksums, &seen.checksums)
        && let Some(lost) = sent.iter().find(|c| !shown.contains(c))
    {
        return Err(Mismatch::Wrong(format!("the {} checksum is gone", lost.algorithm)));
    }
    // Somebody may have locked it since.
    if seen.lock.as_ref().is_some_and(|lock| !lock.covers(&expected.lock)) {
        return Err(Mismatch::Wrong("its retention or legal hold is not what it was".into()));
    }
    tags(expected, seen)?;
    Ok(ReadBack(evidence))
}

/// Whether it is the object that was written, by size, ETag, version, date.
fn identity(key: &str, expected: &Expected, seen: &Seen) -> Result<(), String> {
    if seen.size != expected.size {
        return Err(format!("{} bytes where {} were written", seen.size, expected.size));
    }
    // HEAD shows another ETag of a directory marker than the write answered.
    if let Some(etag) = expected.etag.as_ref().filter(|_| !is_marker(key))
        && *etag != seen.etag
    {
        return Err(format!("ETag {} where {etag} was written", seen.etag));
    }
    if let (Some(wanted), Some(shown)) = (&expected.version, &seen.version)
        && wanted != shown
    {
        return Err(format!("version {shown} where {wanted} was written"));
    }
    if let Some(date) = expected.date
        && date.as_second() != seen.last_modified.as_second()
    {
        return Err(format!("date {} where {date} was written", seen.last_modified));
    }
    Ok(())
}

fn seal(wanted: &Sse, shown: &Sse) -> Result<Evidence, String> {
    let differs = || format!("it shows {} where {} was asked for", shown.seal(), wanted.seal());
    match (wanted, shown) {
        (Sse::S3, Sse::S3) => Ok(Evidence::Write),
        (
            Sse::Kms { key: Some(a), context, bucket_key },
            Sse::Kms { key: Some(b), context: seen, bucket_key: flag },
        ) => {
            if !a.same_key(b) {
                return Err(differs());
            }
            if seen.is_some() && context_of(context) != context_of(seen) {
                return Err("its encryption context is not the one that was sent".into());
            }
            // A store that does not know the flag shows none.
            match (bucket_key, flag) {
                (Some(sent), Some(shown)) if sent != shown => {
                    Err("its bucket-key flag is not the one that was sent".into())
                }
                _ => Ok(Evidence::Key),
            }
        }
        _ => Err(differs()),
    }
}

fn context_of(context: &Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    context.clone().unwrap_or_default()
}

fn headers(sent: &Headers, shown: &Headers) -> Result<(), String> {
    if let Some((name, _)) = sent.metadata.iter().find(|(k, v)| shown.metadata.get(*k) != Some(v)) {
        return Err(format!("metadata `{name}` is not what it was"));
    }
    if let Some(name) = shown.metadata.keys().find(|k| !sent.metadata.contains_key(*k)) {
        return Err(format!("metadata `{name}` was not there before"));
    }
    let named = [
        ("Content-Type", &sent.content_type, &shown.content_type),
        ("Content-Encoding", &sent.content_encoding, &shown.content_encoding),
        ("Content-Language", &sent.content_language, &shown.content_language),
        ("Content-Disposition", &sent.content_disposition, &shown.content_disposition),
        ("Cache-Control", &sent.cache_control, &shown.cache_control),
        ("Expires", &sent.expires, &shown.expires),
        ("the website redirect", &sent.website_redirect, &shown.website_redirect),
    ];
    match named.iter().find(|(_, a, b)| a != b) {
        Some((name, ..)) => Err(format!("{name} is not what it was")),
        None => Ok(()),
    }
}

/// The standard class is said or left out.
pub(crate) fn class(class: Option<&str>) -> &str {
    class.filter(|c| !c.is_empty()).unwrap_or("STANDARD")
}

fn tags(expected: &Expected, seen: &Seen) -> Result<(), Mismatch> {
    let lost = |n: usize| Mismatch::Wrong(format!("{n} tags are gone"));
    if let (Some(sent), Some(shown)) = (&expected.tags, &seen.tags) {
        if same_tags(sent, shown) {
            return Ok(());
        }
        return Err(if shown.is_empty() {
            lost(sent.len())
        } else {
            Mismatch::Tags("other tags than were sent".into())
        });
    }
    let (Some(sent), shown) = (expected.tag_count, seen.tag_count.unwrap_or(0)) else { return Ok(()) };
    if seen.tags.is_none() && seen.tag_count.is_none() && sent == 0 || sent == shown {
        return Ok(());
    }
    Err(if shown == 0 { lost(sent as usize) } else { Mismatch::Tags(format!("{shown} tags where {sent} were")) })
}

/// Whether both have the same tags in any order.
pub(crate) fn same_tags(a: &Tags, b: &Tags) -> bool {
    let sorted = |tags: &Tags| {
        let mut tags = tags.clone();
        tags.sort();
        tags
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests;
