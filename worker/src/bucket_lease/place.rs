//! Where the lease object lies, and how it is read and written there: in the bucket itself, or in the report store.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_proto::state::PauseReason;
use keyrotate_report::{ReportError, ReportStore};
use keyrotate_rewrap::{Halt, halt_of};
use keyrotate_store::{
    Body, Entry as Listed, ErrorKind, GetRequest, Guard, HeadRequest, Headers, InPlace, ListFrom, ListRequest,
    NewObject, Object, ObjectAt, PutRequest, Store, StoreError, Written,
};

use super::leases::{Entry, LEASES_VERSION, LENGTH, Leases, SIGNED};

/// The lease object of a bucket, whatever the prefix of a job's probes is.
pub(crate) const LEASE_KEY: &str = ".keyrotate/lease.json";

/// Metadata of what we wrote: anything else under that name is somebody else's.
const MARK: &str = "keyrotate-lease";

/// No lease object of ours is larger.
const LARGEST: u64 = 1 << 20;

/// A lease could not be read or written, or is another's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Another job is in the way.
    #[error("{}", said(.0))]
    Busy(Box<Entry>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report store.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// What lies there is not ours, or says nothing to us.
    #[error("{0}")]
    Foreign(String),
    /// The store writes over what is there although it was told not to.
    #[error("the store ignores `If-None-Match: *`")]
    Unguarded,
    /// Others write it all the time.
    #[error("others write the lease of this bucket all the time; try again")]
    Contended,
}

impl Trouble {
    /// What it means for a job.
    pub(crate) fn halt(&self) -> Halt {
        let (reason, detail) = match self {
            Self::Store(error) => {
                let pause = || Halt::Pause { reason: PauseReason::StoreDown, detail: error.to_string() };
                return halt_of(error).unwrap_or_else(pause);
            }
            Self::Report(error) => (PauseReason::ReportStore, chain(error)),
            Self::Busy(_) | Self::Foreign(_) | Self::Unguarded | Self::Contended => {
                (PauseReason::OtherJob, self.to_string())
            }
        };
        Halt::Pause { reason, detail }
    }

    /// Whether the same may go well a moment later.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Store(error) => error.kind.is_transient(),
            Self::Report(_) | Self::Contended => true,
            Self::Busy(_) | Self::Foreign(_) | Self::Unguarded => false,
        }
    }
}

fn said(other: &Entry) -> String {
    let Entry { job, user, holder, prefix, until, .. } = other;
    let of = if user.is_empty() { String::new() } else { format!(" of {user}") };
    let what = if prefix.is_empty() { "this bucket".to_owned() } else { format!("`{prefix}` of this bucket") };
    format!(
        "another keyrotate works on {what}: job {job}{of} ({holder}), until {until} and longer while it lives; wait \
         for it, or cancel it there; if it is dead, others may begin at {}",
        other.free()
    )
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What it says.
    pub(crate) leases: Leases,
    /// When, by the clock of who keeps it.
    pub(crate) now: Timestamp,
    tag: Option<Tag>,
}

/// By what is it known that nobody wrote since.
#[derive(Debug)]
enum Tag {
    Etag(String),
    Bytes(Vec<u8>),
}

impl Seen {
    /// Whether there was an object.
    pub(crate) fn is_there(&self) -> bool {
        self.tag.is_some()
    }
}

/// Where a lease lies.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    Bucket { store: &'a dyn Store, bucket: &'a str, versions: bool, env: &'a Env },
    Reports { files: Arc<dyn ReportStore>, name: String, env: &'a Env },
}

impl Place<'_> {
    /// Reads it. One that is not there has no entries.
    pub(crate) async fn read(&self) -> Result<Seen, Trouble> {
        match self {
            Self::Bucket { store, bucket, env, .. } => read_object(*store, bucket, env).await,
            Self::Reports { files, name, env } => match files.get(name).await {
                Ok(bytes) => {
                    let leases = parse(&bytes).ok_or_else(|| Trouble::Foreign(unread(name)))?;
                    Ok(Seen { leases, now: env.now(), tag: Some(Tag::Bytes(bytes)) })
                }
                Err(ReportError::NotFound(_)) => Ok(Seen { leases: Leases::default(), now: env.now(), tag: None }),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Writes it over what was read. `None`: somebody wrote meanwhile, or nobody knows whether this was written; it is to
    /// be read again.
    pub(crate) async fn swap(&self, seen: &Seen, next: &Leases) -> Result<Option<Written>, Trouble> {
        let bytes = encode(next);
        match self {
            Self::Bucket { store, bucket, versions, .. } => {
                let guard = match &seen.tag {
                    Some(Tag::Etag(etag)) => Guard::IfMatch(etag.clone()),
                    _ => Guard::IfAbsent,
                };
                let written = match put(*store, bucket, bytes, guard).await {
                    Ok(written) => written,
                    // Some stores say so where the object that should have matched is gone.
                    Err(e) if matches!(e.kind, ErrorKind::Precondition | ErrorKind::NotFound) => return Ok(None),
                    Err(e) if e.kind.is_ambiguous() => return Ok(None),
                    Err(e) => return Err(e.into()),
                };
                if *versions && let Err(error) = remove_superseded(*store, bucket).await {
                    // The next one who writes tries again.
                    tracing::warn!(error = &error as &dyn std::error::Error, "old versions of the lease are left");
                }
                Ok(Some(written))
            }
            Self::Reports { files, name, .. } => {
                let seen = match &seen.tag {
                    Some(Tag::Bytes(bytes)) => Some(bytes.as_slice()),
                    _ => None,
                };
                Ok(files.swap(name, seen, bytes.into()).await?.then(Written::default))
            }
        }
    }

    /// Shows that the store does not write where something is: the object that was just made is not made once more.
    pub(crate) async fn prove(&self, made: &Leases) -> Result<(), Trouble> {
        let Self::Bucket { store, bucket, .. } = self else { return Ok(()) };
        match put(*store, bucket, encode(made), Guard::IfAbsent).await {
            Err(error) if error.kind == ErrorKind::Precondition => Ok(()),
            Err(error) => Err(error.into()),
            Ok(written) => {
                self.remove(&written).await?;
                Err(Trouble::Unguarded)
            }
        }
    }

    /// Takes the object away that this write made, with all that it superseded. Nobody else writes into it meanwhile: see
    /// [`super::leases::Entry::leaving`].
    pub(crate) async fn remove(&self, written: &Written) -> Result<(), Trouble> {
        let Self::Bucket { store, bucket, versions, .. } = self else { return Ok(()) };
        if !versions {
            return Ok(store.delete(&ObjectAt::current(*bucket, LEASE_KEY)).await?);
        }
        remove_superseded(*store, bucket).await?;
        let ours = |entry: &Listed| match &written.version {
            Some(version) => entry.version.as_ref() == Some(version),
            None => written.etag.as_ref() == Some(&entry.etag),
        };
        for entry in versions_of(*store, bucket).await?.iter().filter(|entry| ours(entry)) {
            store.delete(&at(bucket, entry)).await?;
        }
        Ok(())
    }

    /// Whether it stays when nobody is in it: nothing is ever removed from a report store.
    pub(crate) fn keeps_it(&self) -> bool {
        matches!(self, Self::Reports { .. })
    }
}

async fn read_object(store: &dyn Store, bucket: &str, env: &Env) -> Result<Seen, Trouble> {
    let current = ObjectAt::current(bucket, LEASE_KEY);
    let (object, body) = match store.get(GetRequest::of(&current)).await {
        Ok((object, body)) => (object, Some(body)),
        Err(error) if error.kind == ErrorKind::NotFound => {
            let now = store.bucket(bucket).await?.server_date.unwrap_or_else(|| env.now());
            return Ok(Seen { leases: Leases::default(), now, tag: None });
        }
        // Its key is gone, and with it what it said.
        Err(error) if matches!(error.kind, ErrorKind::Kms | ErrorKind::KmsKeyNotFound | ErrorKind::Refused) => {
            (store.head(HeadRequest::of(&current)).await?, None)
        }
        Err(error) => return Err(error.into()),
    };
    if !object.headers.metadata.contains_key(MARK) {
        let what = format!("the object {bucket}/{LEASE_KEY} is not keyrotate's, which needs that name: move it away");
        return Err(Trouble::Foreign(what));
    }
    let now = object.server_date.unwrap_or_else(|| env.now());
    let bytes = match body.filter(|_| object.size <= LARGEST) {
        Some(body) => Some(body.collect().await?),
        None => None,
    };
    let leases = match bytes.and_then(|bytes| parse(&bytes)) {
        Some(leases) => leases,
        None if is_over(&object, now) => Leases::default(),
        None => return Err(Trouble::Foreign(unread(&format!("{bucket}/{LEASE_KEY}")))),
    };
    Ok(Seen { leases, now, tag: Some(Tag::Etag(object.etag)) })
}

/// Whether everybody is gone who is named in there, whoever it is.
fn is_over(object: &Object, now: Timestamp) -> bool {
    now.duration_since(object.last_modified) > LENGTH + SIGNED
}

fn unread(name: &str) -> String {
    format!(
        "another keyrotate holds {name}, which can't be read; if it is dead, half an hour after its last write others may go on"
    )
}

/// `None`: another version wrote it, or it is damaged.
fn parse(bytes: &[u8]) -> Option<Leases> {
    serde_json::from_slice::<Leases>(bytes).ok().filter(|leases| leases.version <= LEASES_VERSION)
}

fn encode(leases: &Leases) -> Bytes {
    #[expect(clippy::expect_used, reason = "names and times are always JSON")]
    serde_json::to_vec(leases).expect("leases are JSON").into()
}

async fn put(store: &dyn Store, bucket: &str, bytes: Bytes, guard: Guard) -> Result<Written, StoreError> {
    let headers = Headers {
        content_type: Some("application/json".to_owned()),
        cache_control: Some("no-store".to_owned()),
        metadata: [(MARK.to_owned(), LEASES_VERSION.to_string())].into(),
        ..Headers::default()
    };
    // Encrypted as the bucket encrypts: nothing in it is secret.
    let new = NewObject { headers, ..NewObject::default() };
    let request = PutRequest { at: ObjectAt::current(bucket, LEASE_KEY), new, guard, place: InPlace::default() };
    store.put(request, Body::Bytes(bytes)).await
}

/// Removes all versions of the object but its current one.
async fn remove_superseded(store: &dyn Store, bucket: &str) -> Result<(), StoreError> {
    for entry in versions_of(store, bucket).await?.iter().filter(|entry| !entry.latest) {
        store.delete(&at(bucket, entry)).await?;
    }
    Ok(())
}

/// Versions and delete markers of exactly this key.
async fn versions_of(store: &dyn Store, bucket: &str) -> Result<Vec<Listed>, StoreError> {
    let request = ListRequest {
        bucket: bucket.to_owned(),
        prefix: LEASE_KEY.to_owned(),
        versions: true,
        from: ListFrom::Start,
        limit: 1_000,
        with_facts: false,
    };
    let mut entries = store.list(request).await?.entries;
    entries.retain(|entry| entry.key == LEASE_KEY);
    Ok(entries)
}

fn at(bucket: &str, entry: &Listed) -> ObjectAt {
    ObjectAt { bucket: bucket.to_owned(), key: entry.key.clone(), version: entry.version.clone() }
}
