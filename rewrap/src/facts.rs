//! What is known about one object version while it is decided about.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyrotate_proto::capability::SourceKind;
use keyrotate_proto::row::Seal;
use keyrotate_store::{Checksum, Entry, Headers, Lock, Object, ObjectAt, Sse, Tags};

/// What is known about one object version. A listing gives the first part, HEAD (or a listing that shows facts) the
/// rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Which object, and which version of it in a bucket that is listed by versions.
    pub at: ObjectAt,
    /// Whether it is the key's newest version.
    pub latest: bool,
    /// Whether it is a delete marker.
    pub delete_marker: bool,
    /// Bytes of the body.
    pub size: u64,
    /// ETag as listings show it, without quotes.
    pub etag: String,
    /// Last-Modified, as precise as known.
    pub last_modified: Timestamp,
    /// Last-Modified to the millisecond, where a listing showed it. MinIO's in-place form needs it.
    pub listed: Option<Timestamp>,
    /// Last-Modified of the version right above it, as a listing showed it; `None` for the newest, and where nobody asked.
    pub newer: Option<Timestamp>,
    /// Storage class; `None` is the standard one.
    pub storage_class: Option<String>,
    /// Encryption, headers and the like; `None`: nobody looked yet.
    pub shown: Option<Shown>,
    /// The object's own encryption context, as a listing showed it, also where HEAD is still to show the rest.
    pub listed_context: Option<BTreeMap<String, String>>,
    /// Tags, where they were asked for or listed.
    pub tags: Option<Tags>,
    /// Whether its ACL is the one that a write of ours would give it; `None`: nobody asked.
    pub plain_acl: Option<bool>,
    /// Whether a version `null` lies below it, whose place a write into a suspended bucket would take; `None`: nobody asked.
    pub covers_null: Option<bool>,
    /// Whether an earlier write of ours may still be on its way to it: of a holder that went without its last word, or
    /// one that was never answered.
    pub in_doubt: bool,
}

/// What HEAD shows, or a listing with facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// Encryption.
    pub sse: Sse,
    /// Headers and user metadata.
    pub headers: Headers,
    /// How many tags there are; `None`: not said.
    pub tag_count: Option<u32>,
    /// Object lock.
    pub lock: Lock,
    /// Checksums; `None` where a listing showed the rest, which never shows them.
    pub checksums: Option<Vec<Checksum>>,
    /// The ETag as HEAD shows it, which on MinIO is another one for encrypted keys that end in `/`, and the only one
    /// that guards there.
    pub head_etag: Option<String>,
}

impl Shown {
    /// Whether HEAD or GET showed it, and with it what no listing shows.
    #[must_use]
    pub fn by_head(&self) -> bool {
        self.checksums.is_some()
    }
}

impl Facts {
    /// What a line of a listing says.
    #[must_use]
    pub fn listed(bucket: &str, entry: &Entry) -> Self {
        let at = ObjectAt { bucket: bucket.to_owned(), key: entry.key.clone(), version: entry.version.clone() };
        // HEAD and listing never agree about the ETag of a key that ends in `/`, so its facts come from HEAD.
        let facts = entry.facts.as_deref().filter(|_| !is_marker(&entry.key));
        Self {
            at,
            latest: entry.latest,
            delete_marker: entry.delete_marker,
            size: entry.size,
            etag: entry.etag.clone(),
            last_modified: entry.last_modified,
            listed: Some(entry.last_modified),
            newer: entry.newer,
            storage_class: entry.storage_class.clone(),
            shown: facts.map(|f| Shown {
                sse: f.sse.clone(),
                headers: f.headers.clone(),
                tag_count: u32::try_from(f.tags.len()).ok(),
                ..Shown::default()
            }),
            listed_context: entry.facts.as_deref().and_then(|f| context_of(&f.sse).cloned()),
            tags: facts.map(|f| f.tags.clone()),
            plain_acl: None,
            covers_null: None,
            in_doubt: false,
        }
    }

    /// The same, of an object that an earlier write of ours may still be on its way to.
    #[must_use]
    pub(crate) fn in_doubt(self) -> Self {
        Self { in_doubt: true, ..self }
    }

    /// A name and nothing else: HEAD fills it.
    #[must_use]
    pub(crate) fn nothing_known(at: &ObjectAt) -> Self {
        Self {
            at: at.clone(),
            latest: true,
            delete_marker: false,
            size: 0,
            etag: String::new(),
            last_modified: Timestamp::UNIX_EPOCH,
            listed: None,
            newer: None,
            storage_class: None,
            shown: None,
            listed_context: None,
            tags: None,
            plain_acl: None,
            covers_null: None,
            in_doubt: false,
        }
    }

    /// Takes over what HEAD shows. Gives `false`, and takes the newer facts, when the object is not the one that was
    /// listed.
    pub fn add(&mut self, object: &Object) -> bool {
        let same = self.size == object.size
            && self.last_modified.as_second() == object.last_modified.as_second()
            && (self.etag == object.etag || is_marker(&self.at.key));
        if !same {
            self.size = object.size;
            self.etag.clone_from(&object.etag);
            self.last_modified = object.last_modified;
            self.listed = None;
            self.listed_context = None;
            self.tags = None;
            self.plain_acl = None;
        }
        // Only a listing ever shows a context: HEAD must not wipe it off.
        let mut sse = object.sse.clone();
        if let (Sse::Kms { context: new, .. }, Some(known)) = (&mut sse, self.own_context().filter(|_| same)) {
            new.get_or_insert_with(|| known.clone());
        }
        self.storage_class.clone_from(&object.storage_class);
        self.shown = Some(Shown {
            sse,
            headers: object.headers.clone(),
            tag_count: object.tag_count,
            lock: object.lock.clone(),
            checksums: Some(object.checksums.clone()),
            head_etag: Some(object.etag.clone()),
        });
        same
    }

    /// The object's own encryption context, where it is known.
    #[must_use]
    pub fn own_context(&self) -> Option<&BTreeMap<String, String>> {
        self.shown.as_ref().and_then(|shown| context_of(&shown.sse)).or(self.listed_context.as_ref())
    }

    /// Encryption as a row shows it.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.shown.as_ref().map_or(Seal::Unknown, |s| s.sse.seal())
    }

    /// The ETag that a guard must name.
    #[must_use]
    pub fn guard(&self) -> &str {
        self.shown
            .as_ref()
            .and_then(|s| s.head_etag.as_deref())
            .filter(|_| is_marker(&self.at.key))
            .unwrap_or(&self.etag)
    }

    /// In how many parts it was uploaded, by its ETag; `None`: at once.
    #[must_use]
    pub fn parts(&self) -> Option<u32> {
        parts_of(&self.etag)
    }

    /// Whether the ETag says that it was uploaded in parts.
    #[must_use]
    pub fn is_multipart(&self) -> bool {
        has_parts(&self.etag)
    }
}

fn context_of(sse: &Sse) -> Option<&BTreeMap<String, String>> {
    match sse {
        Sse::Kms { context, .. } => context.as_ref(),
        _ => None,
    }
}

/// Whether a key names a directory marker, about which MinIO's HEAD, GET and listing do not agree.
#[must_use]
pub(crate) fn is_marker(key: &str) -> bool {
    key.ends_with('/')
}

/// In how many parts an object with that ETag was uploaded.
pub(crate) fn parts_of(etag: &str) -> Option<u32> {
    etag.rsplit_once('-').filter(|_| has_parts(etag)).and_then(|(_, count)| count.parse().ok())
}

/// Whether an ETag has the form `…-N` of an object in parts.
fn has_parts(etag: &str) -> bool {
    etag.rsplit_once('-').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The kind of source, for encryption that a strategy may be tried on.
#[must_use]
pub fn kind_of(sse: &Sse) -> Option<SourceKind> {
    match sse {
        Sse::None => Some(SourceKind::Plaintext),
        Sse::S3 => Some(SourceKind::SseS3),
        Sse::Kms { .. } => Some(SourceKind::SseKms),
        Sse::DualLayer { .. } | Sse::Customer => None,
    }
}
