//! A store in a folder: killed and opened again.

use std::fs::OpenOptions;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn open(dir: &Path, kms: &Arc<TinyKms>, env: &Env) -> World {
    let mode = Mode { min_part: 1, ..Mode::minio() };
    let model = StoreModel::open(dir, mode, kms.clone(), env.clone()).unwrap();
    World { model, kms: kms.clone(), env: env.clone() }
}

async fn keys() -> (Arc<TinyKms>, Env) {
    let kms = Arc::new(TinyKms::default());
    kms.create_key("old").await.unwrap();
    kms.create_key("new").await.unwrap();
    (kms, Env::seeded(3, start()))
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let (kms, env) = keys().await;
    let w = open(dir.path(), &kms, &env);
    w.model.create_bucket("b", BucketSettings::versioned()).unwrap();
    let large = Bytes::from(vec![7; 3 << 20]);
    let request = PutRequest { at: at("large"), new: under(key("old")), guard: Guard::None, place: InPlace::default() };
    w.model.put(request, large.clone().into()).await.unwrap();
    w.put("k", key("old"), "one").await;
    w.put("k", key("new"), "two").await;
    w.model.put_tags(&at("k"), vec![("t".into(), "1".into())]).unwrap();
    w.put("gone", Sse::S3, "x").await;
    w.model.delete(&at("gone")).await.unwrap();
    multipart::two_parts(&w, "parts", under(key("old"))).await;
    let id = w.model.create_upload(&at("open"), &under(key("old")), &InPlace::default()).await.unwrap();
    let upload = Upload { bucket: "b".into(), key: "open".into(), id };
    let part = w.model.upload_part(&upload, 1, Bytes::from(vec![1; 2 << 20]).into(), None).await.unwrap();
    let before = w.entries(true).await;
    drop(w);
    for _ in 0..2 {
        let w = open(dir.path(), &kms, &env);
        assert_eq!(w.entries(true).await, before);
        assert_eq!(w.body(&at("large")).await.unwrap(), large);
        assert_eq!(w.body(&at("k")).await.unwrap(), "two");
        assert_eq!(w.body(&at("parts")).await.unwrap(), "onetwo");
        assert_eq!(w.model.parts(&upload).await.unwrap(), std::slice::from_ref(&part));
    }
    let w = open(dir.path(), &kms, &env);
    w.model.complete_upload(&upload, &[part], &Guard::None, &InPlace::default()).await.unwrap();
    let w = open(dir.path(), &kms, &env);
    assert_eq!(w.body(&at("open")).await.unwrap().len(), 2 << 20);
    assert!(w.model.uploads("b", "").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn bodies_that_nothing_names_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (kms, env) = keys().await;
    let w = open(dir.path(), &kms, &env);
    w.model.create_bucket("b", BucketSettings::plain()).unwrap();
    let files = || std::fs::read_dir(dir.path().join("bodies")).unwrap().count();
    let put = async || {
        let request = PutRequest { at: at("k"), new: under(key("old")), guard: Guard::None, place: InPlace::default() };
        w.model.put(request, Bytes::from(vec![7; 3 << 20]).into()).await.unwrap();
    };
    put().await;
    let (_, reading) = w.model.get(GetRequest::of(&at("k"))).await.unwrap();
    put().await;
    assert_eq!(files(), 1);
    assert_eq!(reading.collect().await.unwrap().len(), 3 << 20, "a body is readable to its end");
    w.model.put_tags(&at("k"), vec![("t".into(), "1".into())]).unwrap();
    assert_eq!(files(), 1);
    w.model.delete(&at("k")).await.unwrap();
    assert_eq!(files(), 0);
    std::fs::write(dir.path().join("bodies/orphan"), b"x").unwrap();
    drop(open(dir.path(), &kms, &env));
    assert_eq!(files(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_computed_bucket_is_there_again_with_what_was_written_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (kms, env) = keys().await;
    let w = open(dir.path(), &kms, &env);
    let keys = SyntheticKeys::under_key(5, "old");
    w.model.create_synthetic_bucket("b", BucketSettings::plain(), keys.clone()).unwrap();
    w.put(&keys.key(1), key("new"), "mine").await;
    w.model.delete(&at(&keys.key(2))).await.unwrap();
    let before = w.entries(false).await;
    assert_eq!(before.len(), 4);
    for _ in 0..2 {
        let w = open(dir.path(), &kms, &env);
        assert_eq!(w.entries(false).await, before);
        assert_eq!(w.body(&at(&keys.key(1))).await.unwrap(), "mine");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// However much of the journal's tail is missing, what is left is a state that once was.
    #[test]
    fn a_torn_tail_is_cut(steps in prop::collection::vec((0..4u8, any::<bool>()), 1..12), torn in 0.0..1.0f64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (kms, env) = keys().await;
            let w = open(dir.path(), &kms, &env);
            w.model.create_bucket("b", BucketSettings::versioned()).unwrap();
            let journal = dir.path().join("journal");
            let size = || std::fs::metadata(&journal).unwrap().len();
            let mut states = vec![(size(), w.entries(true).await)];
            for (name, deletes) in steps {
                let name = format!("k{name}");
                if deletes {
                    w.model.delete(&at(&name)).await.unwrap();
                } else {
                    w.put(&name, key("old"), "body").await;
                }
                later(3).await;
                states.push((size(), w.entries(true).await));
            }
            drop(w);
            let (first, last) = (states[0].0, states[states.len() - 1].0);
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a small file")]
            let left = first + ((last - first) as f64 * torn) as u64;
            OpenOptions::new().write(true).open(&journal).unwrap().set_len(left).unwrap();
            let w = open(dir.path(), &kms, &env);
            let wanted = states.iter().rev().find(|(size, _)| *size <= left).unwrap();
            assert_eq!(w.entries(true).await, wanted.1);
            w.put("after", key("new"), "goes on").await;
            assert_eq!(open(dir.path(), &kms, &env).body(&at("after")).await.unwrap(), "goes on");
        });
    }
}
