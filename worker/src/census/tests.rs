//! The census against the store model: what it guesses is what probes prove, what it counts is there, and it writes
//! nothing.

use std::sync::Arc;

use bytes::Bytes;
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{Action, BucketSettings, Faulty, Mode, Rule, StoreModel};
use keyrotate_kms::Kms as _;
use keyrotate_proto::capability::Versioning;
use keyrotate_proto::forecast::Basis;
use keyrotate_proto::id::JobId;
use keyrotate_proto::spec::{Dialect, Filter, Options, Retry, SPEC_VERSION};
use keyrotate_rewrap::probe::{ProbeSettings, prepare};
use keyrotate_store::{Body, ErrorKind, Guard, InPlace, NewObject, PutRequest};

use super::*;

const BUCKET: &str = "bucket";

struct World {
    store: Arc<Faulty<StoreModel>>,
    kes: KesModel,
    env: Env,
}

fn kms(key: &str) -> Sse {
    Sse::Kms { key: Some(KeyName(key.into())), context: None, bucket_key: None }
}

fn spec(key: Option<&str>) -> JobSpec {
    JobSpec {
        version: SPEC_VERSION,
        dialect: Dialect::Aistor,
        bucket: BUCKET.into(),
        prefix: String::new(),
        keys: [].into(),
        target: Target::SseKms { key: key.map(|key| KeyName(key.into())), context: None },
        filter: Filter { kms_key: None, ..Filter::default() },
        notify: None,
        retry: Retry::default(),
        options: Options::default(),
        manifest: None,
    }
}

impl World {
    async fn new(mode: Mode) -> Self {
        let env = Env::seeded(7, "2026-11-21T12:00:00Z".parse().unwrap());
        let kes = KesModel::new(env.clone());
        kes.create_key("old-key").await.unwrap();
        kes.create_key("new-key").await.unwrap();
        let model = StoreModel::new(Mode { min_part: 2_000, ..mode }, Arc::new(kes.clone()), env.clone());
        model.create_bucket(BUCKET, BucketSettings::default()).unwrap();
        Self { store: Arc::new(Faulty::new(model)), kes, env }
    }

    async fn put(&self, key: &str, sse: Sse, body: &'static str) {
        let at = ObjectAt::current(BUCKET, key);
        let body = Bytes::from_static(body.as_bytes());
        let new = NewObject { sse, ..NewObject::default() };
        if new.sse == Sse::None {
            self.store.store().seed_plaintext(&at, new, body).await.unwrap();
            return;
        }
        let request = PutRequest { at, new, guard: Guard::None, place: InPlace::default() };
        self.store.store().put(request, Body::Bytes(body)).await.unwrap();
    }

    /// Two thirds under the old key, the rest under the new one, with SSE-S3, or in plaintext.
    async fn fill(&self, objects: u32) {
        for n in 0..objects {
            let (sse, body) = match n % 9 {
                0..=5 => (kms("old-key"), "0123456789"),
                6 => (kms("new-key"), "abc"),
                7 => (Sse::S3, ""),
                _ => (Sse::None, "x"),
            };
            self.put(&format!("d{}/{n:05}", n % 4), sse, body).await;
        }
    }

    async fn census(&self, spec: JobSpec) -> Census {
        let question = Question { spec, rate: Some(10.0), proven: None, default_key: None, manifest: None };
        let permits = Permits::new(16, None);
        Census::begin(self.store.clone(), permits, question, self.env.clone()).await.unwrap()
    }

    fn writes(&self) -> u64 {
        let reads = ["ListObjectsV2", "ListObjectVersions", "HeadObject", "GetObjectTagging", "GetObjectAcl"];
        let calls = self.store.store().calls();
        calls.iter().filter(|(name, _)| !reads.contains(name) && !name.contains("Bucket")).map(|(_, n)| n).sum()
    }
}

fn of<'a>(forecast: &'a Forecast, seal: &str) -> &'a keyrotate_proto::forecast::UnderKey {
    forecast.keys.iter().find(|key| key.seal == seal).unwrap_or_else(|| panic!("{seal}: {forecast:#?}"))
}

#[tokio::test(start_paused = true)]
async fn what_is_guessed_of_a_store_is_what_probes_prove_there() {
    for (mode, basis) in
        [(Mode::aws(), Basis::UpdateEncryption), (Mode::minio(), Basis::InPlace), (Mode::rgw(), Basis::RewriteOnly)]
    {
        let world = World::new(mode).await;
        let mut spec = spec(Some("new-key"));
        spec.filter.kms_key = Some(KeyName("old-key".into()));
        let settings = ProbeSettings { part: 2_000, ..ProbeSettings::new(JobId::new(1, [9; 10])) };
        let store = world.store.as_ref();
        let proven = prepare(store, Some(&world.kes), &spec, &settings, &world.env).await.unwrap();
        let question = Question { spec, rate: None, proven: None, default_key: None, manifest: None };
        let facts = BucketFacts::default();
        let worlds = worlds::of(&question, &facts, Some(&proven.target), None, "http://store");
        let guessed = &worlds.iter().find(|world| world.basis == basis).unwrap().frozen;
        assert_eq!(guessed.probed, proven.probed, "{basis:?}");
        assert_eq!(guessed.listing_facts, proven.listing_facts, "{basis:?}");
        assert_eq!(guessed.tags_announced, proven.tags_announced, "{basis:?}");
        for proof in &proven.proofs {
            assert_eq!(guessed.proof(proof.strategy, proof.source, proof.multipart), Some(proof), "{basis:?}");
        }
        assert_eq!(guessed.proofs.len(), proven.proofs.len(), "{basis:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_census_counts_what_is_there_and_writes_nothing() {
    let world = World::new(Mode::minio()).await;
    world.fill(900).await;
    let before = world.writes();
    let forecast = world.census(spec(Some("new-key"))).await.full(None, |_| {}).await.unwrap();
    assert_eq!(world.writes(), before, "{:?}", world.store.store().calls());
    assert!(forecast.complete);
    assert_eq!(forecast.objects, keyrotate_proto::forecast::Range { low: 900, value: 900, high: 900 });
    let seals = ["sse-kms:old-key", "sse-kms:new-key", "sse-s3", "plaintext"].map(|seal| of(&forecast, seal));
    assert_eq!(seals.map(|key| key.objects.value), [600, 100, 100, 100]);
    assert_eq!(seals.map(|key| key.bytes), [6_000, 300, 0, 100]);
    let in_place = forecast.ways.iter().find(|way| way.basis == Basis::InPlace).unwrap();
    let fates: Vec<_> = in_place.fates.iter().map(|fated| (fated.fate.as_str(), fated.objects.value)).collect();
    assert_eq!(fates, [("rewrite-in-place", 800), ("current", 100)]);
    assert_eq!((in_place.written, in_place.added_versions, in_place.transit_bytes), (800, 0, 6_100));
    assert_eq!(in_place.kms_calls, 600 + 800, "one to open each that is under a key, one for each that is written");
    let slow = in_place.at_rate.unwrap();
    assert!(slow.seconds >= 90.0 && slow.ends > forecast.taken, "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_with_versions_grows_where_no_strategy_keeps_them() {
    let world = World::new(Mode::rgw()).await;
    world.store.store().set_versioning(BUCKET, Versioning::Enabled).unwrap();
    world.fill(90).await;
    world.put("d0/00000", kms("old-key"), "0123456789").await;
    let forecast = world.census(spec(Some("new-key"))).await.full(None, |_| {}).await.unwrap();
    assert_eq!(forecast.objects.value, 91, "versions are counted");
    let rewrite = forecast.ways.iter().find(|way| way.basis == Basis::RewriteOnly).unwrap();
    assert_eq!((rewrite.added_versions, rewrite.added_bytes), (80, 610));
    assert!(rewrite.fates.iter().any(|fated| fated.fate == "skipped/noncurrent" && fated.objects.value == 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_known_target_it_counts_and_says_so() {
    let world = World::new(Mode::minio()).await;
    world.fill(90).await;
    let forecast = world.census(spec(None)).await.sample(10_000).await.unwrap();
    assert!(forecast.complete, "a bucket smaller than the sample is counted");
    assert_eq!((forecast.target, forecast.ways.len()), (None, 0));
    assert_eq!(forecast.keys.len(), 4);
    assert!(forecast.notes.iter().any(|note| note.starts_with("target unknown")), "{:?}", forecast.notes);
}

#[tokio::test(start_paused = true)]
async fn of_an_empty_bucket_all_is_nothing() {
    let world = World::new(Mode::minio()).await;
    let forecast = world.census(spec(Some("new-key"))).await.sample(10_000).await.unwrap();
    assert_eq!((forecast.objects.value, forecast.keys.len()), (0, 0));
    let text = serde_json::to_string(&forecast).unwrap();
    assert_eq!(serde_json::from_str::<Forecast>(&text).unwrap(), forecast, "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_was_proven_leaves_one_way() {
    let world = World::new(Mode::aws()).await;
    world.fill(90).await;
    let spec = spec(Some("new-key"));
    let settings = ProbeSettings { part: 2_000, ..ProbeSettings::new(JobId::new(1, [9; 10])) };
    let frozen = prepare(world.store.as_ref(), Some(&world.kes), &spec, &settings, &world.env).await.unwrap();
    let at = world.env.now();
    let question = Question { spec, rate: None, proven: Some((frozen, at)), default_key: None, manifest: None };
    let census = Census::begin(world.store.clone(), Permits::new(4, None), question, world.env.clone()).await.unwrap();
    let forecast = census.full(None, |_| {}).await.unwrap();
    let [way] = forecast.ways.as_slice() else { panic!("{:#?}", forecast.ways) };
    assert_eq!((way.basis, way.proven), (Basis::Proven, Some(at)));
    assert!(way.fates.iter().any(|fated| fated.fate == "update-encryption"), "{way:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_count_goes_on_where_it_was() {
    let world = World::new(Mode::rgw()).await;
    world.fill(4_500).await;
    let kept = std::sync::Mutex::new(None);
    let keep = |count: &Count| {
        let text = serde_json::to_string(count).unwrap();
        *kept.lock().unwrap() = Some(serde_json::from_str::<Count>(&text).unwrap());
    };
    let lost = Action::FailBefore(ErrorKind::Credentials);
    world.store.faults().add(Rule::on("HeadObject", lost).behind(3_000).times(u64::MAX));
    let halted = world.census(spec(Some("new-key"))).await.full(None, keep).await.unwrap_err();
    assert!(matches!(halted, CensusError::Halted(_)), "{halted:?}");
    world.store.faults().clear();
    let earlier = kept.lock().unwrap().take().unwrap();
    let counted = earlier.objects();
    assert!(counted > 0 && counted < 4_500, "{counted}");
    let census = world.census(spec(Some("new-key"))).await;
    let forecast = census.full(Some(earlier.clone()), keep).await.unwrap();
    assert_eq!((forecast.objects.value, census.progress().looked()), (4_500, 4_500 - counted));
    // Of another question nothing is taken over.
    let other = world.census(spec(Some("old-key"))).await;
    other.full(Some(earlier), keep).await.unwrap();
    assert_eq!(other.progress().looked(), 4_500);
}

#[tokio::test(start_paused = true)]
async fn a_sample_says_what_lies_in_a_larger_bucket() {
    let world = World::new(Mode::rgw()).await;
    world.fill(9_000).await;
    let before = world.writes();
    let census = world.census(spec(Some("new-key"))).await;
    let forecast = census.sample(1_000).await.unwrap();
    assert_eq!(world.writes(), before);
    assert!(!forecast.complete && forecast.looked < 1_500, "{}", forecast.looked);
    let old = of(&forecast, "sse-kms:old-key");
    assert!(old.share.low < 0.667 && old.share.high > 0.667 && old.share.high - old.share.low < 0.2, "{old:?}");
    assert!((7_000..11_500).contains(&forecast.objects.value), "{:?}", forecast.objects);
}
