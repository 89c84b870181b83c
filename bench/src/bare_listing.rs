//! The bare listing loop that a second run is held against: some ranges of keys side by side, page after page, and
//! HEAD of every object where the listing does not show enough. No error is handled: the first one ends it.

use std::sync::Arc;

use aws_sdk_s3::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{Error, place::Place};

/// Lists `ranges` equal ranges side by side, with MinIO's metadata where `facts`; and HEADs each object, `heads` of
/// them at a time, where that is not 0.
pub(crate) async fn run(s3: &Client, at: &Place, ranges: u64, facts: bool, heads: usize) -> Result<(), Error> {
    let permits = (heads > 0).then(|| Arc::new(Semaphore::new(heads)));
    let mut set = JoinSet::new();
    for number in 0..ranges {
        set.spawn(range(s3.clone(), at.clone(), number, ranges, facts, permits.clone()));
    }
    set.join_all().await.into_iter().collect()
}

async fn range(
    s3: Client,
    at: Place,
    number: u64,
    ranges: u64,
    facts: bool,
    permits: Option<Arc<Semaphore>>,
) -> Result<(), Error> {
    let (first, end) = (at.count * number / ranges, at.count * (number + 1) / ranges);
    let mut after = first.checked_sub(1).map(|before| at.key(before));
    let last = at.key(end - 1);
    let mut heads = JoinSet::new();
    loop {
        let list = s3.list_objects_v2().bucket(&at.bucket).set_start_after(after.take()).customize();
        let list = list.mutate_request(move |request| {
            if facts {
                let uri = format!("{}&metadata=true", request.uri());
                // A URL with one parameter more is a URL.
                let _set = request.set_uri(uri);
            }
        });
        let page = list.send().await?;
        let more = page.is_truncated.unwrap_or(false);
        let keys: Vec<String> = page.contents.unwrap_or_default().into_iter().filter_map(|entry| entry.key).collect();
        for key in keys.iter().filter(|key| **key <= last) {
            let Some(permits) = &permits else { break };
            let (s3, bucket, key, permit) =
                (s3.clone(), at.bucket.clone(), key.clone(), Arc::clone(permits).acquire_owned().await?);
            heads.spawn(async move {
                let answer = s3.head_object().bucket(bucket).key(key).send().await;
                drop(permit);
                answer
            });
        }
        while let Some(headed) = heads.try_join_next() {
            headed??;
        }
        after = keys.into_iter().next_back();
        if !more || after.as_ref().is_none_or(|key| *key >= last) {
            break;
        }
    }
    heads.join_all().await.into_iter().try_for_each(|headed| headed.map(drop).map_err(Error::from))
}
