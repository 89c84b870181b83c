//! Looking at a sample: random ways down through the key space, and some objects of each.

use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use keyrotate_plan::sample::{Descent, Reservoir};
use keyrotate_plan::share::{Draw, Sample};
use keyrotate_plan::{KeySpace, Stretch, plan};
use keyrotate_proto::forecast::Forecast;
use keyrotate_proto::position::KeyRange;
use keyrotate_store::Entry;

use super::{Census, CensusError, Kind};
use crate::keyspace::PAGE;

/// Stretches that the key space is cut into, and ways through all of them together.
const STRATA: usize = 12;
const DESCENTS: usize = 192;

/// Ways gone side by side: each has two pages of a listing in memory, and asks for both at once.
const SIDE_BY_SIDE: usize = 32;

/// One page of a listing, shared by the descents that begin with it.
type Page = Arc<(Stretch, Vec<Entry>)>;

impl Census {
    /// Looks at about `wanted` objects; at all of them where there are no more.
    ///
    /// # Errors
    /// When the bucket can't be listed or looked at.
    pub async fn sample(&self, wanted: usize) -> Result<Forecast, CensusError> {
        self.sample_of(&self.survey().key_space().await?, wanted).await
    }

    /// The same where the key space is known.
    pub(crate) async fn sample_of(&self, space: &KeySpace, wanted: usize) -> Result<Forecast, CensusError> {
        // Where the key space was listed and not asked about, each answer is a page.
        if space.probes.len() * PAGE as usize <= wanted {
            return self.count(self.nothing(space), |_| {}).await;
        }
        let known: Vec<String> = space.probes.iter().filter_map(|probe| probe.found.clone()).collect();
        let strata = plan(&self.survey().scope(), &space.probes, STRATA);
        let firsts = stream::iter(strata.into_iter().map(|range| self.first_page(range)));
        let firsts: Vec<Page> = firsts.buffered(STRATA).try_collect().await?;
        let each = DESCENTS.div_ceil(firsts.len().max(1));
        let picks = wanted.div_ceil(each * firsts.len().max(1)).max(1);
        let ways: Vec<(usize, Page, Descent)> = firsts
            .iter()
            .enumerate()
            .flat_map(|(stratum, first)| (0..each).map(move |rank| (stratum, first, rank)))
            .map(|(n, first, rank)| (n, Arc::clone(first), Descent::new(first.0.clone(), &known).among(rank, each)))
            .collect();
        let ways = ways.into_iter().map(|(stratum, first, way)| self.descend(stratum, first, way, picks));
        let found: Vec<(Draw<Kind>, Vec<Entry>)> =
            stream::iter(ways).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
        let (draws, picked): (Vec<Draw<Kind>>, Vec<Vec<Entry>>) = found.into_iter().unzip();
        let mut sample = Sample { draws, whole: false };
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        if sample.objects().value <= wanted as f64 {
            return self.count(self.nothing(space), |_| {}).await;
        }
        let picked: Vec<(usize, Entry)> =
            picked.into_iter().enumerate().flat_map(|(n, of_one)| of_one.into_iter().map(move |e| (n, e))).collect();
        let timed: Vec<Entry> = picked.iter().map(|(_, entry)| entry.clone()).take(super::TIMED).collect();
        let speed = self.time(&timed).await;
        for (n, kind, size) in self.look(picked).await? {
            sample.draws[n].look(kind, size);
        }
        Ok(self.forecast(&sample, speed))
    }

    async fn first_page(&self, range: KeyRange) -> Result<Page, CensusError> {
        let (entries, rest) = self.page(&range).await?;
        let mut first: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        first.dedup();
        Ok(Arc::new((Stretch { range, first, whole: rest.is_none() }, entries)))
    }

    /// One way down, and the objects to look at.
    async fn descend(
        &self,
        stratum: usize,
        first: Page,
        mut descent: Descent,
        picks: usize,
    ) -> Result<(Draw<Kind>, Vec<Entry>), CensusError> {
        let (mut draw, mut picked) = (Draw::new(stratum), Reservoir::new(picks));
        let mut take = |weight: f64, page: &Page| {
            draw.page(weight, page.1.len(), page.1.iter().map(|entry| entry.size).sum());
            for entry in &page.1 {
                picked.offer(weight, entry, || self.env.random_fraction());
            }
        };
        take(1.0, &first);
        while let Some(halves) = descent.halves() {
            let pages = stream::iter(halves.into_iter().map(|half| self.first_page(half)));
            let pages: Vec<Page> = pages.buffered(2).try_collect().await?;
            pages.iter().for_each(|page| take(descent.weight(), page));
            descent.choose(pages.iter().map(|page| page.0.clone()).collect(), self.env.random_fraction());
        }
        Ok((draw, picked.into_items()))
    }
}
