//! A store model with a bucket, a KES and a job, for the tests of this crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Faulty, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_kms::Kms as _;
use keyrotate_proto::capability::{FROZEN_VERSION, Frozen, FrozenTarget, LeasePlace, SourceKind, Versioning};
use keyrotate_proto::id::JobId;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::row::Row;
use keyrotate_proto::spec::{Dialect, Filter, JobSpec, Options, Retry, SPEC_VERSION, Target};
use keyrotate_store::*;
use sha2::{Digest as _, Sha256};

use crate::probe::{Ours, ProbeSettings, prepare};
use crate::{Halt, Look, Rewrapper, Rules, Settled, Unread};

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const OLD: &str = "old-key";
pub(crate) const NEW: &str = "new-key";

/// The least part, small so that probes in parts are quick.
pub(crate) const PART: usize = 2_000;

pub(crate) fn start() -> Timestamp {
    "2026-11-21T12:00:00.123Z".parse().unwrap()
}

/// A job under the rules of AIStor, onto [`NEW`].
pub(crate) fn spec() -> JobSpec {
    JobSpec {
        version: SPEC_VERSION,
        dialect: Dialect::Aistor,
        bucket: BUCKET.into(),
        prefix: String::new(),
        keys: [].into(),
        target: Target::SseKms { key: Some(KeyName(NEW.into())), context: None },
        filter: Filter::default(),
        notify: None,
        retry: Retry::default(),
        options: Options { verify_bodies: 0.0, ..Options::default() },
        manifest: None,
    }
}

/// What a store would be frozen as on which nothing is proven.
pub(crate) fn frozen() -> Frozen {
    Frozen {
        version: FROZEN_VERSION,
        target: FrozenTarget::key(KeyName(NEW.into())),
        versioning: Versioning::Off,
        listing_facts: false,
        tags_announced: true,
        probed: BTreeSet::new(),
        same_bucket: true,
        proofs: Vec::new(),
        notes: Vec::new(),
        new_objects: None,
        acl_owner: None,
        retains: false,
        lease: LeasePlace::Reports,
        canary: None,
        canaries: BTreeMap::new(),
    }
}

/// Rules over [`frozen`].
pub(crate) fn rules(spec: JobSpec) -> Rules {
    Rules { spec, started: start(), frozen: frozen(), ours: Ours::default() }
}

pub(crate) fn kms(key: &str) -> Sse {
    Sse::Kms { key: Some(KeyName(key.into())), context: None, bucket_key: None }
}

pub(crate) fn sse(kind: SourceKind) -> Sse {
    match kind {
        SourceKind::Plaintext => Sse::None,
        SourceKind::SseS3 => Sse::S3,
        SourceKind::SseKms => kms(OLD),
    }
}

/// A store, a bucket, a KES with two keys.
pub(crate) struct World {
    pub(crate) store: Faulty<StoreModel>,
    pub(crate) kes: KesModel,
    pub(crate) env: Env,
}

impl World {
    /// A store of which one thing is mended in all modes: else versions on moto would be refused at once.
    pub(crate) async fn new(mode: Mode, versioning: Versioning) -> Self {
        Self::as_it_is(Mode { skips_at_key_marker: false, ..mode }, versioning).await
    }

    pub(crate) async fn as_it_is(mode: Mode, versioning: Versioning) -> Self {
        let env = Env::seeded(7, start());
        let kes = KesModel::new(env.clone());
        let mode = Mode { min_part: PART as u64, ..mode };
        let model = StoreModel::new(mode, Arc::new(kes.clone()), env.clone());
        kes.create_key(OLD).await.unwrap();
        kes.create_key(NEW).await.unwrap();
        model.create_bucket(BUCKET, BucketSettings::default()).unwrap();
        match versioning {
            Versioning::Off => {}
            Versioning::Enabled => model.set_versioning(BUCKET, Versioning::Enabled).unwrap(),
            Versioning::Suspended => {
                model.set_versioning(BUCKET, Versioning::Enabled).unwrap();
                model.set_versioning(BUCKET, Versioning::Suspended).unwrap();
            }
        }
        Self { store: Faulty::new(model), kes, env }
    }

    /// Lets a second and a bit pass, so that dates differ.
    pub(crate) async fn later(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(2_345)).await;
    }

    /// Puts an object with all that a self-copy may lose.
    pub(crate) async fn put(&self, key: &str, sse: Sse, body: &[u8]) -> Written {
        let at = ObjectAt::current(BUCKET, key);
        let (new, body) = (new_object(sse, body), Bytes::copy_from_slice(body));
        if new.sse == Sse::None {
            return self.store.store().seed_plaintext(&at, new, body).await.unwrap();
        }
        let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
        self.store.store().put(request, Body::Bytes(body)).await.unwrap()
    }

    pub(crate) async fn prepare(&self, spec: &JobSpec) -> Frozen {
        let spec =
            JobSpec { filter: Filter { kms_key: Some(KeyName(OLD.into())), ..spec.filter.clone() }, ..spec.clone() };
        prepare(&self.store, Some(&self.kes), &spec, &settings(), &self.env).await.unwrap()
    }

    /// A rewrapper of a prepared job.
    pub(crate) async fn rewrapper(&self, spec: JobSpec) -> Rewrapper {
        let frozen = self.prepare(&spec).await;
        self.with(spec, frozen)
    }

    pub(crate) fn with(&self, spec: JobSpec, frozen: Frozen) -> Rewrapper {
        let rules = Rules { spec, started: self.env.now(), frozen, ours: Ours::default() };
        Rewrapper::new(Arc::new(self.store.clone()), rules, self.env.clone())
    }

    /// What the walk lists.
    pub(crate) async fn list(&self, frozen: &Frozen) -> Vec<Entry> {
        let request = ListRequest {
            bucket: BUCKET.into(),
            prefix: String::new(),
            versions: frozen.versioning.has_versions(),
            from: ListFrom::Start,
            limit: 1_000,
            with_facts: frozen.listing_facts,
        };
        self.store.store().list(request).await.unwrap().entries
    }

    /// The walk in small: every entry looked at, written, read back.
    pub(crate) async fn walk(&self, rewrapper: &Rewrapper) -> std::result::Result<Vec<Row>, Halt> {
        self.walk_as(rewrapper, false).await
    }

    /// The same as a worker does it, which puts intents down.
    pub(crate) async fn walk_with_intents(&self, rewrapper: &Rewrapper) -> std::result::Result<Vec<Row>, Halt> {
        self.walk_as(rewrapper, true).await
    }

    async fn walk_as(&self, rewrapper: &Rewrapper, intents: bool) -> std::result::Result<Vec<Row>, Halt> {
        let (mut rows, mut unread) = (Vec::new(), Vec::new());
        for entry in self.list(&rewrapper.rules().frozen).await {
            match rewrapper.look(&entry).await? {
                Look::Settled(row) => rows.push(row),
                Look::Write(mut plan) => {
                    if intents && plan.needs_intent() {
                        rewrapper.open(&mut plan).await?;
                    }
                    match rewrapper.write(plan).await.map_err(|end| end.halt)? {
                        Settled::Row(row) => rows.push(row),
                        Settled::Unread(one) => unread.push(*one),
                    }
                }
            }
        }
        rows.extend(read_back(rewrapper, unread).await?);
        rows.sort_by(|a, b| (&a.key, &a.version).cmp(&(&b.key, &b.version)));
        Ok(rows)
    }

    /// All that can be seen of an object.
    pub(crate) async fn get(&self, key: &str) -> (Object, Bytes, Tags) {
        let at = ObjectAt::current(BUCKET, key);
        let (object, body) = self.store.store().get(GetRequest::of(&at)).await.unwrap();
        (object, body.collect().await.unwrap(), self.store.store().tags(&at).await.unwrap())
    }

    /// Calls since the last time that was asked.
    pub(crate) fn calls_since(&self, before: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
        let now = self.store.store().calls();
        now.into_iter().map(|(op, n)| (op, n - before.get(op).copied().unwrap_or(0))).filter(|(_, n)| *n > 0).collect()
    }
}

pub(crate) fn job() -> JobId {
    JobId::new(1_700_000_000_000, [9; 10])
}

pub(crate) fn settings() -> ProbeSettings {
    ProbeSettings { part: PART, ..ProbeSettings::new(job()) }
}

/// Headers, metadata, tags, a checksum.
pub(crate) fn new_object(sse: Sse, body: &[u8]) -> NewObject {
    let some = |text: &str| Some(text.to_owned());
    let value = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(body));
    NewObject {
        sse,
        headers: Headers {
            content_type: some("image/png"),
            content_language: some("de"),
            cache_control: some("max-age=7"),
            content_disposition: some("inline"),
            expires: some("Wed, 21 Oct 2037 07:28:00 GMT"),
            metadata: [("owner".to_owned(), "x y".to_owned())].into(),
            ..Headers::default()
        },
        tags: vec![("t".into(), "1".into()), ("u".into(), "a b".into())],
        checksum: Some(Checksum { algorithm: "SHA256".into(), value, full_object: true }),
        ..NewObject::default()
    }
}

/// Reads writes back as the end of a window does.
pub(crate) async fn read_back(rewrapper: &Rewrapper, unread: Vec<Unread>) -> std::result::Result<Vec<Row>, Halt> {
    let (mut rows, doubtful) = rewrapper.read_back_by_pages(unread).await?;
    for unread in doubtful {
        rows.push(rewrapper.read_back_by_head(unread).await?);
    }
    Ok(rows)
}
