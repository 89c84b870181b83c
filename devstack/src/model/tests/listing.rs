//! Listings, and buckets that are computed.

use super::*;

async fn walk(w: &World, versions: bool, limit: u32) -> Vec<Entry> {
    let (mut all, mut from) = (Vec::new(), ListFrom::Start);
    loop {
        let page = w.list(versions, from, limit).await;
        assert!(page.entries.len() <= limit as usize);
        all.extend(page.entries);
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    // The first of a page does not know the one above it.
    know_newer(&mut all);
    all
}

#[tokio::test(start_paused = true)]
async fn pages_of_any_size_add_up() {
    let w = world(Mode::minio(), BucketSettings::versioned()).await;
    for name in ["a", "a/b", "b", "ä", "z"] {
        for body in ["1", "2", "3"] {
            w.put(name, key("old"), body).await;
            later(5).await;
        }
    }
    w.model.delete(&at("b")).await.unwrap();
    let whole = walk(&w, true, 1000).await;
    assert_eq!(whole.len(), 16);
    assert!(whole.is_sorted_by(|a, b| a.key < b.key || (a.key == b.key && a.last_modified > b.last_modified)));
    assert_eq!(whole.iter().filter(|e| e.latest).count(), 5);
    let current = walk(&w, false, 1000).await;
    assert_eq!(current.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["a", "a/b", "z", "ä"]);
    assert!(current.iter().all(|e| e.version.is_none() && e.size == 1));
    for limit in 1..18 {
        assert_eq!(walk(&w, true, limit).await, whole);
        assert_eq!(walk(&w, false, limit).await, current);
    }
    let gone = ListFrom::AfterVersion("b".into(), "gone meanwhile".into());
    let page = w.list(true, gone, 1000).await;
    assert_eq!(page.entries[0], whole[6], "listed from its newest version");
    let page = w.list(true, ListFrom::AfterKey("a/b".into()), 1000).await;
    assert_eq!(page.entries[0], whole[6]);
}

#[tokio::test(start_paused = true)]
async fn motos_listing_of_versions_loses_one_behind_its_marker() {
    let w = world(Mode::moto(), BucketSettings::versioned()).await;
    for name in ["a", "a", "b", "c"] {
        w.put(name, key("old"), name).await;
        later(5).await;
    }
    let behind = async |marker: &str| {
        let page = w.list(true, ListFrom::AfterKey(marker.into()), 1000).await;
        page.entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(behind("aa").await, ["c"]);
    assert_eq!(behind("a").await, ["a", "b", "c"]);
    assert_eq!(behind("c").await, [""; 0]);
    let whole = walk(&w, true, 1000).await;
    assert_eq!(walk(&w, true, 1).await, whole, "page by page nothing is missing");
}

#[tokio::test(start_paused = true)]
async fn dates_are_milliseconds_in_minios_listing_and_seconds_in_head() {
    for mode in Mode::all() {
        let w = world(mode, BucketSettings::plain()).await;
        later(1234).await;
        w.put("k", key("old"), "x").await;
        let listed = w.entries(false).await[0].last_modified;
        let wanted = if w.model.mode().listing_milliseconds { 1234 } else { 1000 };
        assert_eq!(listed.as_millisecond() - start().as_millisecond(), wanted);
        assert_eq!(w.head(&at("k")).await.last_modified.as_millisecond() - start().as_millisecond(), 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn tags_are_announced_where_there_are_any() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.put("k", key("old"), "x").await;
    assert_eq!(w.head(&at("k")).await.tag_count, None);
    let tags = vec![("b".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    w.model.put_tags(&at("k"), tags.clone()).unwrap();
    assert_eq!(w.head(&at("k")).await.tag_count, Some(2));
    assert_eq!(w.entries(false).await[0].facts.as_ref().unwrap().tags, tags);
}

#[tokio::test(start_paused = true)]
async fn a_computed_bucket_lists_ten_million_keys_and_takes_writes() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.kms.create_key("k").await.unwrap();
    let keys = SyntheticKeys { sizes: (1, 3000), ..SyntheticKeys::under_key(10_000_000, "k") };
    w.model.create_synthetic_bucket("s", BucketSettings::plain(), keys.clone()).unwrap();
    let list = async |from: ListFrom| {
        let (bucket, prefix) = ("s".to_owned(), String::new());
        let request = ListRequest { bucket, prefix, versions: false, from, limit: 3, with_facts: true };
        w.model.list(request).await.unwrap().entries
    };
    let middle = keys.key(5_000_000);
    let page = list(ListFrom::AfterKey(middle)).await;
    let listed: Vec<&str> = page.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(listed, [keys.key(5_000_001), keys.key(5_000_002), keys.key(5_000_003)]);
    let this = ObjectAt::current("s", &page[0].key);
    let head = w.head(&this).await;
    assert_eq!((head.size, &head.etag), (page[0].size, &page[0].etag));
    let body = w.body(&this).await.unwrap();
    assert_eq!(body.len() as u64, head.size);

    let put = |guard| PutRequest { at: this.clone(), new: under(key("new")), guard, place: InPlace::default() };
    assert_eq!(kind(w.model.put(put(bad()), body.clone().into()).await), ErrorKind::Precondition);
    w.model.put(put(if_match(&head.etag)), body.clone().into()).await.unwrap();
    assert_eq!(w.body(&this).await.unwrap(), body);
    w.model.delete(&ObjectAt::current("s", &page[1].key)).await.unwrap();
    w.model
        .put(PutRequest { at: ObjectAt::current("s", format!("{}x", page[0].key)), ..put(Guard::None) }, body.into())
        .await
        .unwrap();
    let after = list(ListFrom::AfterKey(keys.key(5_000_000))).await;
    let names: Vec<String> = after.iter().map(|e| e.key.clone()).collect();
    assert_eq!(names, [page[0].key.clone(), format!("{}x", page[0].key), page[2].key.clone()]);
    assert_eq!(w.model.head(HeadRequest::of(&ObjectAt::current("s", "p"))).await.unwrap_err().status, Some(404));
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted() {
    let w = world(Mode::minio(), BucketSettings::plain()).await;
    w.put("k", key("old"), "x").await;
    w.head(&at("k")).await;
    w.head(&at("k")).await;
    let calls = w.model.calls();
    assert_eq!((calls["PutObject"], calls["HeadObject"], calls.get("GetObject")), (1, 2, None));
}
