use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_env::Env;
use keyrotate_report::{FolderStore, MemoryStore};
use keyrotate_store::{Body, Guard, InPlace, NewObject, ObjectAt, PutRequest, Store};
use parquet::basic::{Compression, GzipLevel};
use proptest::prelude::*;
use tokio::runtime::{Handle, Runtime};

use super::*;
use crate::testing::*;

/// What the rows of an inventory mean.
const LINES: [Line<'_>; 5] =
    [("b", "v2", true), ("a", "v1", true), ("b", "v1", false), ("b", "", false), ("c", "", true)];

fn meaning() -> Vec<Named> {
    let rows = [("a", Some("v1")), ("b", Some("null")), ("b", Some("v1")), ("b", Some("v2")), ("c", None)];
    rows.map(|(key, version)| named(key, version)).into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_it_is_sorted_without_duplicates_and_can_be_sought(
        rows in proptest::collection::vec(("[a-c/\"\n é+%]{1,3}", proptest::option::of("[1-2]")), 0..200),
        from in "[a-c]{0,2}",
    ) {
        let rows: Vec<Named> = rows.into_iter().map(|(key, version)| Named { key, version }).collect();
        let text: String = rows.iter().map(|row| {
            let key: String = row.key.bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("bucket,{key},{}\n", row.version.as_deref().unwrap_or_default())
        }).collect();
        let dir = tempfile::tempdir().unwrap();
        let origin = file(&dir, "rows.csv", text.as_bytes());
        Runtime::new().unwrap().block_on(async {
            let Ok(sorted) = brought(Input::Csv(origin), "").await else { return assert!(rows.is_empty()) };
            let set: BTreeSet<Named> = rows.iter().cloned().collect();
            assert_eq!(all(&sorted).await, set.iter().cloned().collect::<Vec<_>>());
            assert_eq!(sorted.count(), set.len() as u64);
            assert_eq!(sorted.left(), Left { outside: 0, duplicates: (rows.len() - set.len()) as u64 });
            let behind: Vec<_> = set.into_iter().filter(|row| row.key >= from).collect();
            assert_eq!(super::super::testing::from(&sorted, &from).await, behind);
        });
    }
}

#[tokio::test]
async fn a_list_is_read_packed_or_not_and_its_keys_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let text = "bucket,in/a%2Fb,v1\n\"bucket\",\"in/c+d%2B%c3%a9\"\nbucket,out/x\nbucket,in/a/b,v1\n";
    for (name, bytes) in [("list.csv", text.as_bytes().to_vec()), ("list.csv.gz", packed(text.as_bytes()))] {
        let sorted = brought(Input::Csv(file(&dir, name, &bytes)), "in/").await.unwrap();
        assert_eq!(all(&sorted).await, [named("in/a/b", Some("v1")), named("in/c d+é", None)]);
        assert_eq!(sorted.left(), Left { outside: 1, duplicates: 1 });
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_row_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("bucket,{}\n", "k".repeat(1025));
    let endless = format!("bucket,a\nbucket,\"{}", "x".repeat(3 << 20));
    let cases: [(&[u8], &str); 9] = [
        (b"bucket,a\nother,b\n", "line 2: it is of the bucket `other`, and the job's is `bucket`"),
        (b"bucket\n", "line 1: it has 1 fields"),
        (b"bucket,a,v,x\n", "line 1: it has 4 fields"),
        (b"bucket,\n", "line 1: it has no key"),
        (b"bucket,50%\n", "line 1: its key is not URL-encoded: a `%` itself is `%25`"),
        (b"bucket,%ff\n", "line 1: its key is not UTF-8"),
        (b"bucket,\xff\n", "line 1: field 2 is not UTF-8"),
        (long.as_bytes(), "line 1: its key has 1025 bytes, 1024 are the most"),
        (endless.as_bytes(), "a row has more than 1048576 bytes"),
    ];
    for (bytes, expected) in cases {
        let what = refusal(Input::Csv(file(&dir, "list.csv", bytes))).await;
        assert!(what.contains("list.csv`") && what.contains(expected), "{what}");
    }
    let what = refusal(Input::Csv(Origin::File(dir.path().join("none.csv")))).await;
    assert!(what.contains("none.csv` can't be read: No such file"), "{what}");
    let what = refusal(Input::Csv(file(&dir, "list.csv", b""))).await;
    assert!(what.starts_with("the manifest names no object"), "{what}");
}

#[tokio::test]
async fn an_inventory_is_read_in_csv_and_parquet() {
    let (first, second) = LINES.split_at(2);
    let inventories = [
        Inventory::csv(&[first, second]),
        Inventory::parquet(&[first, second], Compression::SNAPPY),
        Inventory::parquet(&[first, second], Compression::GZIP(GzipLevel::default())),
    ];
    for inventory in inventories {
        let sorted = brought(Input::Inventory(inventory.write()), "").await.unwrap();
        assert_eq!(all(&sorted).await, meaning(), "{}", inventory.format);
    }
}

#[tokio::test]
async fn keys_in_parquet_are_as_they_are() {
    let inventory = Inventory::parquet(&[&[("a+b%2F", "", true)]], Compression::SNAPPY);
    let sorted = brought(Input::Inventory(inventory.write()), "").await.unwrap();
    assert_eq!(all(&sorted).await, [named("a+b%2F", None)]);
}

#[tokio::test]
async fn an_inventory_that_is_damaged_changed_or_of_another_kind_is_refused() {
    let csv = || Inventory::csv(&[&LINES]);
    let inventory = csv();
    let origin = inventory.write();
    fs::write(inventory.data_path(0), packed(b"bucket,x,,true,false,1\n")).unwrap();
    let what = refusal(Input::Inventory(origin)).await;
    assert!(what.starts_with("the MD5 of ") && what.contains("data/0.csv"), "{what}");

    let inventory = csv();
    let origin = inventory.write();
    let text = fs::read_to_string(inventory.manifest_path()).unwrap().replace("\"bucket\"", "\"buckeT\"");
    fs::write(inventory.manifest_path(), text).unwrap();
    let what = refusal(Input::Inventory(origin)).await;
    assert!(what.starts_with("the MD5 of ") && what.contains("manifest.json"), "{what}");

    let inventory = csv();
    let origin = inventory.write();
    fs::remove_file(inventory.manifest_path().with_file_name("manifest.checksum")).unwrap();
    assert!(refusal(Input::Inventory(origin)).await.contains("manifest.checksum` can't be read"));

    let inventory = Inventory { format: "ORC", ..csv() };
    let what = refusal(Input::Inventory(inventory.write())).await;
    assert!(what.ends_with("its data files are ORC, which keyrotate does not read"), "{what}");

    let inventory = Inventory { schema: "Key, Size", ..csv() };
    assert!(refusal(Input::Inventory(inventory.write())).await.contains("names no `Bucket`"));

    // Whole by its checksum, and yet no file of its format.
    for mut inventory in [csv(), Inventory::parquet(&[&LINES], Compression::SNAPPY)] {
        let length = inventory.data[0].len();
        for cut in [length / 2, length - 3, 3] {
            inventory.data[0].truncate(cut);
            let what = refusal(Input::Inventory(inventory.write())).await;
            assert!(what.contains("can't be read"), "{what}");
        }
    }
}

/// What looks like Parquet and is none is an error, whatever byte of it is another.
#[tokio::test]
async fn no_damage_of_parquet_panics() {
    let good = Inventory::parquet(&[&LINES], Compression::SNAPPY).data.swap_remove(0);
    for place in 0..good.len() {
        let mut data = good.clone();
        data[place] ^= 0x55;
        let inventory = Inventory { data: vec![data], ..Inventory::parquet(&[], Compression::SNAPPY) };
        // Some bytes of it mean nothing, some a key.
        if let Err(error) = brought(Input::Inventory(inventory.write()), "").await {
            assert!(matches!(error, ManifestError::Bad { .. }), "{place}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_in_a_bucket_is_read_where_it_lies() {
    let env = Env::system();
    let model = StoreModel::new(Mode::aws(), Arc::new(KesModel::new(env.clone())), env);
    model.create_bucket("lists", BucketSettings::plain()).unwrap();
    let store: Arc<dyn Store> = Arc::new(model);
    let inventory = Inventory::parquet(&[&LINES], Compression::SNAPPY);
    inventory.write();
    let put = |key: String, bytes: Vec<u8>| {
        let at = ObjectAt::current("lists", key);
        let request = PutRequest { at, new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
        let store = Arc::clone(&store);
        async move { store.put(request, Body::Bytes(bytes.into())).await.unwrap() }
    };
    let paths = [inventory.data_path(0), inventory.manifest_path()];
    let checksum = inventory.manifest_path().with_file_name("manifest.checksum");
    for path in paths.iter().chain([&checksum]) {
        let key = path.strip_prefix(inventory.dir.path()).unwrap().display().to_string();
        put(key, fs::read(path).unwrap()).await;
    }
    let origin = |key: &str| Origin::Object {
        store: Arc::clone(&store),
        bucket: "lists".into(),
        key: key.into(),
        runtime: Handle::current(),
    };
    let manifest = inventory.manifest_path().strip_prefix(inventory.dir.path()).unwrap().display().to_string();
    let sorted = brought(Input::Inventory(origin(&manifest)), "").await.unwrap();
    assert_eq!(all(&sorted).await, meaning());
    let error = brought(Input::Csv(origin("none.csv")), "").await.unwrap_err();
    assert!(matches!(&error, ManifestError::Store { name, .. } if name == "s3://lists/none.csv"), "{error:?}");
}

#[tokio::test]
async fn what_was_brought_in_is_not_read_again_and_what_was_begun_leaves_no_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..500).map(|n| format!("bucket,k{}\n", n * 7 % 500)).collect();
    let store: Arc<dyn ReportStore> = Arc::new(MemoryStore::default());
    store.put("manifest/n-1/00000001.csv.gz", vec![1, 2, 3]).await.unwrap();
    let origin = file(&dir, "list.csv", text.as_bytes());
    let sorted = bring_in(Input::Csv(origin), &wanted(""), Arc::clone(&store), "n-2", &TINY).await.unwrap();
    let counts: BTreeSet<_> = sorted.segments().iter().map(|segment| segment.name.clone()).collect();
    let files = store.list(FOLDER).await.unwrap();
    assert!(files.len() > 2 * counts.len(), "there were runs");
    for name in files {
        let counts = name == INDEX || counts.contains(&name);
        assert_eq!(!store.get(&name).await.unwrap().is_empty(), counts, "{name}");
    }
    let gone = Origin::File(dir.path().join("gone"));
    let again = bring_in(Input::Csv(gone), &wanted(""), store, "n-3", &TINY).await.unwrap();
    assert_eq!(all(&again).await, all(&sorted).await);
}

/// A million rows in the worst order, with a run of 4 MiB: what is in memory at a time is a run, or a segment of each run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_rows_are_sorted_in_small_pieces() {
    const ROWS: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for n in 0..ROWS {
        writeln!(text, "bucket,folder/{:09}", n * 613 % ROWS).unwrap();
    }
    let origin = file(&dir, "list.csv", text.as_bytes());
    let store: Arc<dyn ReportStore> = Arc::new(FolderStore::open(dir.path().join("reports")).unwrap());
    let limits = Limits { run: 4 << 20, segment: 256 << 10, at_a_time: 16 };
    let sorted = bring_in(Input::Csv(origin), &wanted(""), store, "n-1", &limits).await.unwrap();
    assert_eq!(sorted.count(), ROWS);
    let most = sorted.segments().iter().map(|segment| segment.rows).max();
    assert!(most.is_some_and(|rows| rows * 17 <= 256 << 10), "{most:?}");
    let mut rows = sorted.rows_from("folder/000499990");
    for n in 499_990..500_010 {
        assert_eq!(rows.next_key().await.unwrap().unwrap().key, format!("folder/{n:09}"));
    }
}
