//! How far a slice has come: entries go in in the source's order, outcomes come back in any order, and the cursor
//! may stand only where everything before it has an outcome.

use std::collections::VecDeque;

use keyrotate_env::Safeguard;
use keyrotate_proto::position::Position;

/// Number of an entry, given by [`LowWater::begin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ordinal(pub(crate) u64);

/// Entries in flight, in the source's order, and the outcomes of those that have one.
#[derive(Debug)]
pub(crate) struct LowWater<T> {
    first: u64,
    entries: VecDeque<(Position, Option<T>)>,
    settled_in_front: usize,
}

impl<T> Default for LowWater<T> {
    fn default() -> Self {
        Self { first: 0, entries: VecDeque::new(), settled_in_front: 0 }
    }
}

impl<T> LowWater<T> {
    /// Takes the next entry of the source in; `after` is the position right behind it.
    pub(crate) fn begin(&mut self, after: Position) -> Ordinal {
        let ordinal = Ordinal(self.first + self.entries.len() as u64);
        self.entries.push_back((after, None));
        ordinal
    }

    /// Records the outcome of an entry.
    pub(crate) fn settle(&mut self, ordinal: Ordinal, outcome: T) {
        let at = ordinal.0.checked_sub(self.first).and_then(|i| usize::try_from(i).ok());
        if let Some((_, slot)) = at.and_then(|i| self.entries.get_mut(i)) {
            slot.get_or_insert(outcome);
        }
        while self.entries.get(self.settled_in_front).is_some_and(|(_, slot)| slot.is_some()) {
            self.settled_in_front += 1;
        }
        if !Safeguard::Cursor.stands() {
            self.settled_in_front =
                self.entries.iter().rposition(|(_, slot)| slot.is_some()).map_or(0, |last| last + 1);
        }
    }

    /// How many entries in front have an outcome, without a gap.
    #[must_use]
    pub(crate) fn ready(&self) -> usize {
        self.settled_in_front
    }

    /// How many entries are in, with or without an outcome.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is in.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes every outcome that there is, also those behind an entry without one. For a slice that ends: nothing goes on
    /// after it.
    pub(crate) fn take_known(&mut self) -> Vec<T> {
        self.settled_in_front = 0;
        self.entries.drain(..).filter_map(|(_, slot)| slot).collect()
    }

    /// Takes up to `limit` outcomes from the front, each with the position behind its entry: none when the first entry
    /// has no outcome yet.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<(Position, T)> {
        let count = self.settled_in_front.min(limit);
        self.first += count as u64;
        self.settled_in_front -= count;
        self.entries.drain(..count).filter_map(|(position, slot)| Some((position, slot?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(i: usize) -> Position {
        Position::After(format!("{i:05}"), None)
    }

    proptest! {
        /// Any order of outcomes, any moments of commit, a crash at any step: what was taken is exactly the entries
        /// up to the cursor, each once.
        #[test]
        fn the_cursor_never_passes_an_entry_without_an_outcome(
            order in Just((0..60usize).collect::<Vec<_>>()).prop_shuffle(),
            takes in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
            limit in 1usize..30,
            crash in 0usize..60,
        ) {
            let mut water = LowWater::default();
            let ordinals: Vec<_> = (0..60).map(|i| water.begin(position(i))).collect();
            let take_after: Vec<_> = takes.iter().map(|i| i.index(60)).collect();
            let (mut taken, mut cursor) = (Vec::new(), None);
            for (step, &i) in order.iter().enumerate().take(crash) {
                water.settle(ordinals[i], i);
                water.settle(ordinals[i], 1000);
                if take_after.contains(&step) {
                    let rows = water.take(limit);
                    prop_assert!(rows.len() <= limit);
                    cursor = rows.last().map(|(to, _)| to.clone()).or(cursor);
                    taken.extend(rows.into_iter().map(|(_, row)| row));
                }
            }
            prop_assert_eq!(&taken, &(0..taken.len()).collect::<Vec<_>>());
            let settled: Vec<_> = order[..crash].to_vec();
            prop_assert!(taken.iter().all(|i| settled.contains(i)));
            prop_assert_eq!(cursor, taken.last().map(|&i| position(i)));
            prop_assert_eq!(water.len(), 60 - taken.len());
        }
    }

    #[test]
    fn late_and_foreign_outcomes_change_nothing() {
        let mut water = LowWater::default();
        let first = water.begin(position(0));
        water.settle(first, 'a');
        assert_eq!(water.take(9), [(position(0), 'a')]);
        water.settle(first, 'b');
        water.settle(Ordinal(7), 'c');
        assert_eq!((water.take(9), water.ready()), (Vec::new(), 0));
    }
}
