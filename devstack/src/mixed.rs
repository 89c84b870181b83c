//! A bucket as one finds it: every kind of encryption, headers, tags, odd names, in one reproducible mix.

use std::collections::BTreeMap;

use crate::model::StoreModel;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keyrotate_proto::key::KeyName;
use keyrotate_store::{Body, Guard, Headers, InPlace, NewObject, ObjectAt, PutRequest, Result, Sse, Store};

/// One object of the mix.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Its key.
    pub key: String,
    /// What it is put with.
    pub new: NewObject,
    /// Its body.
    pub body: Bytes,
}

/// The `i`-th object of the mix, always the same. Of 20 objects 2 are plaintext, 4 under SSE-S3, 1 already under
/// `new_key`, 13 under `old_key`; every third has tags, sizes go from nothing to some 20 KiB.
#[must_use]
pub fn object(i: u64, old_key: &str, new_key: &str) -> Mixed {
    let kms = |key: &str| Sse::Kms { key: Some(KeyName(key.to_owned())), context: None, bucket_key: None };
    let sse = match i % 20 {
        0 | 1 => Sse::None,
        2..=5 => Sse::S3,
        6 => kms(new_key),
        _ => kms(old_key),
    };
    let tags = if i.is_multiple_of(3) { vec![("team".to_owned(), format!("t{}", i % 5))] } else { Vec::new() };
    let headers = Headers {
        content_type: Some(["text/plain", "image/png", "application/json"][(i % 3) as usize].to_owned()),
        cache_control: i.is_multiple_of(4).then(|| "max-age=60".to_owned()),
        metadata: BTreeMap::from([("number".to_owned(), i.to_string())]),
        ..Headers::default()
    };
    Mixed { key: key(i), new: NewObject { sse, headers, tags, ..NewObject::default() }, body: body(i) }
}

/// Puts the first `count` objects of the mix, 32 at a time. A store that encrypts every write by default, as AWS does,
/// leaves none in plaintext: [`seed`] does.
///
/// # Errors
/// The first refusal of the store.
pub async fn fill(store: &dyn Store, bucket: &str, count: u64, old_key: &str, new_key: &str) -> Result<()> {
    let puts = stream::iter((0..count).map(|i| async move {
        let one = object(i, old_key, new_key);
        let at = ObjectAt::current(bucket, one.key);
        let request = PutRequest { at, new: one.new, guard: Guard::None, place: InPlace::default() };
        store.put(request, Body::Bytes(one.body)).await
    }));
    puts.buffer_unordered(32).try_for_each(|_| async { Ok(()) }).await
}

/// As [`fill`], but plaintext is plaintext, as objects are that were there before the store began to encrypt.
///
/// # Errors
/// The first refusal of the store.
pub async fn seed(model: &StoreModel, bucket: &str, count: u64, old_key: &str, new_key: &str) -> Result<()> {
    fill(model, bucket, count, old_key, new_key).await?;
    for one in (0..count).map(|i| object(i, old_key, new_key)).filter(|one| one.new.sse == Sse::None) {
        model.seed_plaintext(&ObjectAt::current(bucket, one.key), one.new, Body::Bytes(one.body)).await?;
    }
    Ok(())
}

/// Names as people give them: dates, unicode, spaces, characters that mean something in a URL.
fn key(i: u64) -> String {
    let (month, day) = (1 + i / 28 % 12, 1 + i % 28);
    match i % 10 {
        0 => format!("photos/{:06}.png", i),
        1 => format!("überweisung/{i} & co+ä?.txt"),
        2 => format!("data/part={}/50%/{i}#x", i % 7),
        _ => format!("logs/2026/{month:02}/{day:02}/{i:06}.log"),
    }
}

fn body(i: u64) -> Bytes {
    let length = match i % 50 {
        0 => 0,
        1 => 20_000,
        n => 20 * n,
    };
    (0..length).map(|j| (i.wrapping_mul(31).wrapping_add(j) % 251) as u8).collect::<Vec<_>>().into()
}
