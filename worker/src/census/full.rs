//! Looking at every object, stretch by stretch: what was counted can be stored at any time, and gone on from.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use keyrotate_plan::share::Sample;
use keyrotate_plan::{KeySpace, plan};
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::position::KeyRange;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::{Census, CensusError, Kind, Speed};

/// Version of [`Count`] that this code writes.
const COUNT_VERSION: u32 = 1;

/// Stretches of a key space; listed side by side.
const STRETCHES: usize = 64;
const SIDE_BY_SIDE: usize = 8;

/// What was counted so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Count {
    /// [`COUNT_VERSION`] of the writer.
    version: u32,
    /// Hex SHA-256 of what was asked: a count goes on for the same question only.
    question: String,
    stretches: Vec<Stretch>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stretch {
    /// What is left of it; `None` where it is through.
    left: Option<KeyRange>,
    seen: Vec<Seen>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    kind: Kind,
    objects: u64,
    bytes: u64,
}

/// One stretch while it is counted.
#[derive(Debug, Default)]
struct Tally(BTreeMap<Kind, (u64, u64)>);

impl Census {
    /// Looks at every object, from what `earlier` had counted on. `store` is given the count again and again, each time
    /// one that can be gone on from, and is to keep the last.
    ///
    /// # Errors
    /// When the bucket can't be listed or looked at; what was given to `store` then still holds.
    pub async fn full(
        &self,
        earlier: Option<Count>,
        store: impl Fn(&Count) + Send + Sync,
    ) -> Result<Forecast, CensusError> {
        let question = self.hash();
        let known = |count: &Count| count.version == COUNT_VERSION && count.question == question;
        let count = match earlier.filter(known) {
            Some(count) => count,
            None => self.nothing(&self.survey().key_space().await?),
        };
        self.count(count, store).await
    }

    /// Looks at every object of the stretches that are left.
    pub(super) async fn count(
        &self,
        count: Count,
        store: impl Fn(&Count) + Send + Sync,
    ) -> Result<Forecast, CensusError> {
        let left: Vec<(usize, KeyRange)> =
            count.stretches.iter().enumerate().filter_map(|(n, stretch)| Some((n, stretch.left.clone()?))).collect();
        let count = Mutex::new(count);
        let speed = OnceCell::new();
        stream::iter(left.into_iter().map(|(n, range)| self.stretch(n, range, &count, &speed, &store)))
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect::<()>()
            .await?;
        let count = count.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(self.forecast(&sample(&count), speed.into_inner().unwrap_or_default()))
    }

    /// Nothing is counted yet.
    pub(super) fn nothing(&self, space: &KeySpace) -> Count {
        let ranges = plan(&self.survey().scope(), &space.probes, STRETCHES);
        let stretches = ranges.into_iter().map(|range| Stretch { left: Some(range), seen: Vec::new() }).collect();
        Count { version: COUNT_VERSION, question: self.hash(), stretches }
    }

    async fn stretch(
        &self,
        n: usize,
        range: KeyRange,
        count: &Mutex<Count>,
        speed: &OnceCell<Speed>,
        store: &(impl Fn(&Count) + Send + Sync),
    ) -> Result<(), CensusError> {
        let mut left = Some(range);
        while let Some(range) = left {
            let (entries, rest) = self.page(&range).await?;
            if !entries.is_empty() {
                speed.get_or_init(|| self.time(&entries)).await;
            }
            let looked = self.look(entries.into_iter().map(|entry| ((), entry)).collect()).await?;
            let mut tally = Tally::default();
            for ((), kind, size) in looked {
                tally.add(kind, 1, size);
            }
            left = rest.map(|start| KeyRange { start, end: range.end });
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            let stretch = &mut count.stretches[n];
            for seen in std::mem::take(&mut stretch.seen) {
                tally.add(seen.kind, seen.objects, seen.bytes);
            }
            stretch.seen = tally.0.into_iter().map(|(kind, (objects, bytes))| Seen { kind, objects, bytes }).collect();
            stretch.left.clone_from(&left);
            store(&count);
        }
        Ok(())
    }

    fn hash(&self) -> String {
        let worlds: Vec<_> = self.worlds.iter().map(|world| &world.frozen).collect();
        let asked = (&self.store.identity().0, self.spec().hash(), &self.facts.versioning, worlds);
        #[expect(clippy::expect_used, reason = "names, numbers and text are always JSON")]
        let bytes = serde_json::to_vec(&asked).expect("a question is JSON");
        hex::encode(Sha256::digest(bytes))
    }
}

impl Tally {
    fn add(&mut self, kind: Kind, objects: u64, bytes: u64) {
        let seen = self.0.entry(kind).or_default();
        seen.0 = seen.0.saturating_add(objects);
        seen.1 = seen.1.saturating_add(bytes);
    }
}

impl Count {
    /// How many object versions were counted.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.stretches.iter().flat_map(|stretch| &stretch.seen).map(|seen| seen.objects).sum()
    }
}

/// All that was counted, as a sample of everything.
fn sample(count: &Count) -> Sample<Kind> {
    let mut all = Tally::default();
    for seen in count.stretches.iter().flat_map(|stretch| &stretch.seen) {
        all.add(seen.kind.clone(), seen.objects, seen.bytes);
    }
    Sample::counted(all.0)
}
