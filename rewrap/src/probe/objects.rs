//! Our probe objects: their exact names, making them, and leaving none behind.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use keyrotate_proto::capability::SourceKind;
use keyrotate_proto::id::JobId;
use keyrotate_store::{
    Body, Checksum, Entry, ErrorKind, Guard, HeadRequest, Headers, InPlace, ListFrom, ListRequest, NewObject, Object,
    ObjectAt, PutRequest, Sse, Store, StoreError, Tags, Upload,
};
use sha2::{Digest as _, Sha256};

use super::ProbeSettings;

/// Bytes of the probe in one part.
const SINGLE: usize = 1_000;
/// Bytes of the second part.
pub(super) const SECOND_PART: usize = 1_000;

/// The body of the version that covers a probe.
const COVER: &[u8] = b"a newer version of a probe";

/// What a probe object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Learns the target key.
    Target,
    /// In one part.
    Single(SourceKind),
    /// In two parts.
    Parts(SourceKind),
}

impl Form {
    pub(super) const ALL: [Self; 7] = [
        Self::Target,
        Self::Single(SourceKind::Plaintext),
        Self::Single(SourceKind::SseS3),
        Self::Single(SourceKind::SseKms),
        Self::Parts(SourceKind::Plaintext),
        Self::Parts(SourceKind::SseS3),
        Self::Parts(SourceKind::SseKms),
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Single(SourceKind::Plaintext) => "plaintext",
            Self::Single(SourceKind::SseS3) => "sse-s3",
            Self::Single(SourceKind::SseKms) => "sse-kms",
            Self::Parts(SourceKind::Plaintext) => "plaintext-parts",
            Self::Parts(SourceKind::SseS3) => "sse-s3-parts",
            Self::Parts(SourceKind::SseKms) => "sse-kms-parts",
        }
    }

    /// The exact key of this probe.
    pub(super) fn key(self, ProbeSettings { prefix, job, attempt, .. }: &ProbeSettings) -> String {
        format!("{prefix}probe-{job}-{attempt}-{}", self.word())
    }

    pub(super) fn has_parts(self) -> bool {
        matches!(self, Self::Parts(_))
    }
}

/// Where probes live, where nobody says otherwise.
pub(super) const PREFIX: &str = ".keyrotate/";

/// The job whose probe has this key; `None` when we never gave such a name.
pub(super) fn job_of(prefix: &str, key: &str) -> Option<JobId> {
    let rest = key.strip_prefix(prefix)?.strip_prefix("probe-")?;
    let (job, rest) = rest.split_once('-')?;
    let is_attempt = |word: &str| word.len() == 8 && word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    // Versions before this one gave all attempts of a job the same names.
    let word = rest.split_once('-').filter(|(attempt, _)| is_attempt(attempt)).map_or(rest, |(_, word)| word);
    Form::ALL.iter().any(|f| f.word() == word).then(|| job.parse().ok())?
}

/// Whether a key is one that a job, whichever, gives its probes: under the prefix that nobody changed.
#[must_use]
pub fn is_probe(key: &str) -> bool {
    job_of(PREFIX, key).is_some()
}

/// The exact names of an attempt's probe objects.
pub(super) fn names(settings: &ProbeSettings) -> BTreeSet<String> {
    Form::ALL.iter().map(|f| f.key(settings)).collect()
}

/// Which keys of a bucket are ours, and left out by every job.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    exactly: Option<String>,
    probes: Option<(String, JobId)>,
}

impl Ours {
    /// This one key.
    #[must_use]
    pub fn exactly(key: impl Into<String>) -> Self {
        Self { exactly: Some(key.into()), probes: None }
    }

    /// The probes of all attempts of a job.
    #[must_use]
    pub fn probes(settings: &ProbeSettings) -> Self {
        Self { exactly: None, probes: Some((settings.prefix.clone(), settings.job.clone())) }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        let is_probe = |(prefix, job): &(String, JobId)| job_of(prefix, key).as_ref() == Some(job);
        self.exactly.as_deref() == Some(key) || self.probes.as_ref().is_some_and(is_probe)
    }
}

/// A probe as it was made.
pub(super) struct Made {
    pub(super) at: ObjectAt,
    pub(super) object: Object,
    pub(super) tags: Tags,
    pub(super) entry: Entry,
}

/// Where probes are made.
pub(super) struct Yard<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) bucket: &'a str,
    pub(super) settings: &'a ProbeSettings,
    pub(super) has_versions: bool,
}

impl Yard<'_> {
    pub(super) fn at(&self, form: Form) -> ObjectAt {
        ObjectAt::current(self.bucket, form.key(self.settings))
    }

    /// Makes a probe anew and shows what it is.
    pub(super) async fn make(&self, form: Form, sse: &Sse) -> Result<Made, StoreError> {
        let at = self.at(form);
        self.wipe(&at.key).await?;
        let tags = vec![("keyrotate".to_owned(), "probe".to_owned()), ("two words".to_owned(), "a b".to_owned())];
        let new = NewObject { sse: sse.clone(), headers: headers(&self.settings.job), tags, ..NewObject::default() };
        if form.has_parts() {
            self.put_parts(&at, &new).await?;
        } else {
            self.put(&at, new).await?;
        }
        let object = self.store.head(HeadRequest::of(&at)).await?;
        let tags = self.store.tags(&at).await?;
        let gone =
            || StoreError::new("ListObjects", ErrorKind::Nonsense, "the listing does not show the probe just written");
        let entry = self.entries(&at.key).await?.into_iter().next().ok_or_else(gone)?;
        let at = at.at_version(entry.version.clone());
        Ok(Made { at, object, tags, entry })
    }

    /// Puts another version over a probe.
    pub(super) async fn cover(&self, form: Form, sse: &Sse) -> Result<(), StoreError> {
        let new = NewObject { sse: sse.clone(), headers: headers(&self.settings.job), ..NewObject::default() };
        let request = PutRequest { at: self.at(form), new, guard: Guard::None, place: InPlace::default() };
        self.store.put(request, Body::Bytes(Bytes::from_static(COVER))).await.map(|_| ())
    }

    async fn put(&self, at: &ObjectAt, mut new: NewObject) -> Result<(), StoreError> {
        let body = self.body(false);
        let value = STANDARD.encode(Sha256::digest(&body));
        new.checksum = Some(Checksum { algorithm: "SHA256".into(), value, full_object: true });
        let request = PutRequest { at: at.clone(), new, guard: Guard::None, place: InPlace::default() };
        let plain = PutRequest { new: NewObject { checksum: None, ..request.new.clone() }, ..request.clone() };
        match self.store.put(request, Body::Bytes(body.clone())).await {
            // A store that takes no checksum has none to lose.
            Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::NotImplemented) => {
                self.store.put(plain, Body::Bytes(body)).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    async fn put_parts(&self, at: &ObjectAt, new: &NewObject) -> Result<(), StoreError> {
        let checksum = Some(Checksum { algorithm: "CRC32".into(), value: String::new(), full_object: false });
        match self.upload(at, &NewObject { checksum, ..new.clone() }).await {
            // A store that takes no checksum has none to lose.
            Err(error) if matches!(error.kind, ErrorKind::Refused | ErrorKind::NotImplemented) => {
                self.upload(at, new).await
            }
            other => other,
        }
    }

    async fn upload(&self, at: &ObjectAt, new: &NewObject) -> Result<(), StoreError> {
        let id = self.store.create_upload(at, new, &InPlace::default()).await?;
        let upload = Upload { bucket: at.bucket.clone(), key: at.key.clone(), id };
        let (body, split) = (self.body(true), self.settings.part);
        let checksum = new.checksum.as_ref().map(|checksum| checksum.algorithm.as_str());
        let parts = [
            self.store.upload_part(&upload, 1, Body::Bytes(body.slice(..split)), checksum).await?,
            self.store.upload_part(&upload, 2, Body::Bytes(body.slice(split..)), checksum).await?,
        ];
        self.store.complete_upload(&upload, &parts, &Guard::None, &InPlace::default()).await.map(|_| ())
    }

    /// The body of a probe: no two kilobytes alike.
    pub(super) fn body(&self, parts: bool) -> Bytes {
        let length = if parts { self.settings.part + SECOND_PART } else { SINGLE };
        (0..length).map(|n| u8::try_from((n * 31 + n / 251) % 251).unwrap_or(0)).collect::<Vec<u8>>().into()
    }

    /// All lines of the listing about exactly this key.
    pub(super) async fn entries(&self, key: &str) -> Result<Vec<Entry>, StoreError> {
        let mut entries = list(self.store, self.bucket, key, self.has_versions).await?;
        entries.retain(|e| e.key == key);
        Ok(entries)
    }

    /// Removes every version and every open upload of one of our names.
    pub(super) async fn wipe(&self, key: &str) -> Result<(), StoreError> {
        let open = match self.store.uploads(self.bucket, key).await {
            Err(error) if error.kind.is_transient() => return Err(error),
            open => open.unwrap_or_default(),
        };
        for upload in open {
            if upload.key == key {
                self.store.abort_upload(&upload).await?;
            }
        }
        remove(self.store, self.bucket, &self.entries(key).await?).await
    }

    /// Removes all probes of this job; gives what could not be removed.
    pub(super) async fn wipe_all(&self) -> Vec<String> {
        let mut left = Vec::new();
        for name in names(self.settings) {
            if let Err(error) = self.wipe(&name).await {
                left.push(format!("the probe object {}/{name} could not be removed: {error}", self.bucket));
            }
        }
        left
    }
}

/// Removes exactly these versions.
pub(super) async fn remove(store: &dyn Store, bucket: &str, entries: &[Entry]) -> Result<(), StoreError> {
    for entry in entries {
        let at = ObjectAt { bucket: bucket.to_owned(), key: entry.key.clone(), version: entry.version.clone() };
        store.delete(&at).await?;
    }
    Ok(())
}

/// All lines of a listing of a prefix under which only few of ours lie.
pub(super) async fn list(
    store: &dyn Store,
    bucket: &str,
    prefix: &str,
    versions: bool,
) -> Result<Vec<Entry>, StoreError> {
    let mut all = Vec::new();
    let mut from = ListFrom::Start;
    loop {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let page = store.list(ListRequest { bucket, prefix, versions, from, limit: 1_000, with_facts: true }).await?;
        all.extend(page.entries);
        match page.next {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

fn headers(job: &JobId) -> Headers {
    let some = |text: &str| Some(text.to_owned());
    Headers {
        content_type: some("application/x-keyrotate-probe"),
        content_encoding: some("identity"),
        content_language: some("en"),
        content_disposition: some("attachment"),
        cache_control: some("no-store"),
        expires: some("Wed, 21 Oct 2037 07:28:00 GMT"),
        website_redirect: some("/keyrotate-probe"),
        metadata: [("keyrotate-probe".to_owned(), job.to_string())].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_we_gave_are_known_as_ours() {
        let job = JobId::new(1, [7; 10]);
        let settings = |attempt: &str| ProbeSettings {
            prefix: ".k/".into(),
            attempt: attempt.into(),
            ..ProbeSettings::new(job.clone())
        };
        for key in names(&settings("0123abcd")).iter().chain([&format!(".k/probe-{job}-sse-s3-parts")]) {
            assert_eq!(job_of(".k/", key).as_ref(), Some(&job));
            assert!(Ours::probes(&settings("ffffffff")).has(key));
        }
        let last = [format!(".k/probe-{job}-target2"), format!(".k/probe-{job}-0123abcx-target")];
        for foreign in [".k/probe-x-target", ".k/notes.txt", "probe-target", &last[0], &last[1]] {
            assert_eq!(job_of(".k/", foreign), None, "{foreign}");
        }
    }
}
