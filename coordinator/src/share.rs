//! Which job gets how many of the fleet's slots.

/// What a job may have of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Jobs of a higher one go first.
    pub(crate) priority: i32,
    /// Among jobs of one priority: slots in proportion to it; at least 1.
    pub(crate) weight: u32,
    /// It has no use for more.
    pub(crate) most: usize,
}

/// Slots for each claim. Each gets one, as far as there are so many, so that no job starves; what is left goes to those
/// of the highest priority, among these by weight, until they have all they have use for, then to the next.
#[must_use]
pub(crate) fn shares(slots: usize, claims: &[Claim]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..claims.len()).filter(|one| claims[*one].most > 0).collect();
    order.sort_by_key(|one| std::cmp::Reverse(claims[*one].priority));
    let mut shares = vec![0; claims.len()];
    let mut left = slots;
    for one in order.iter().take(slots) {
        shares[*one] = 1;
        left -= 1;
    }
    for level in order.chunk_by(|a, b| claims[*a].priority == claims[*b].priority) {
        while left > 0 {
            let wants_more = level.iter().copied().filter(|one| shares[*one] < claims[*one].most);
            let Some(next) = wants_more.min_by(|a, b| is_behind((shares[*a], &claims[*a]), (shares[*b], &claims[*b])))
            else {
                break;
            };
            shares[next] += 1;
            left -= 1;
        }
    }
    shares
}

/// Whose next slot is due first: whoever would have less for its weight with it.
pub(crate) fn is_behind((a, a_claim): (usize, &Claim), (b, b_claim): (usize, &Claim)) -> std::cmp::Ordering {
    let due = |has: usize, other: &Claim| (has as u128 + 1) * u128::from(other.weight.max(1));
    due(a, b_claim).cmp(&due(b, a_claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(priority: i32, weight: u32, most: usize) -> Claim {
        Claim { priority, weight, most }
    }

    #[test]
    fn the_urgent_take_what_they_can_use_and_equals_share_by_weight() {
        for (slots, claims, shared) in [
            (8, vec![claim(0, 1, 100)], vec![8]),
            (8, vec![claim(0, 1, 100), claim(0, 1, 100)], vec![4, 4]),
            (8, vec![claim(0, 3, 100), claim(0, 1, 100)], vec![6, 2]),
            (8, vec![claim(0, 1, 100), claim(50, 1, 100)], vec![1, 7]),
            (8, vec![claim(0, 1, 100), claim(50, 1, 2)], vec![6, 2]),
            (2, vec![claim(0, 9, 100), claim(50, 1, 100), claim(7, 1, 100)], vec![0, 1, 1]),
            (8, vec![claim(0, 1, 0), claim(0, 1, 3)], vec![0, 3]),
            (0, vec![claim(0, 1, 9)], vec![0]),
        ] {
            assert_eq!(shares(slots, &claims), shared, "{slots} over {claims:?}");
        }
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        proptest::collection::vec((-3..3_i32, 1..5_u32, 0..20_usize).prop_map(|(p, w, m)| claim(p, w, m)), 0..8)
    }

    proptest! {
        #[test]
        fn nothing_idles_nobody_starves_and_nobody_gets_too_much(slots in 0..40_usize, claims in claims()) {
            let shares = shares(slots, &claims);
            let wanted: usize = claims.iter().map(|claim| claim.most).sum();
            prop_assert_eq!(shares.iter().sum::<usize>(), slots.min(wanted));
            prop_assert!(shares.iter().zip(&claims).all(|(share, claim)| *share <= claim.most));
            let at_it = claims.iter().filter(|claim| claim.most > 0).count();
            for (a, one) in claims.iter().enumerate() {
                prop_assert!(slots < at_it || one.most == 0 || shares[a] > 0, "{:?} starves", one);
                for (b, other) in claims.iter().enumerate() {
                    // Whoever could use more was not passed over for somebody less urgent, or by more than one slot for an equal.
                    if shares[a] < one.most && one.priority > other.priority {
                        prop_assert!(shares[b] <= 1);
                    }
                    if shares[a] < one.most && one.priority == other.priority && shares[b] > 1 {
                        let (mine, others) = (u64::from(one.weight), u64::from(other.weight));
                        prop_assert!((shares[b] as u64 - 1) * mine <= (shares[a] as u64 + 1) * others);
                    }
                }
            }
        }
    }
}
