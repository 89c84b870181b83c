use proptest::prelude::*;

use super::*;

fn page(first: &[&str], whole: bool) -> Stretch {
    let first = first.iter().map(|key| (*key).to_owned()).collect();
    Stretch { range: KeyRange { start: String::new(), end: None }, first, whole }
}

/// Numbers from 0 to below 1, the same each time (Knuth's MMIX generator).
fn randoms() -> impl FnMut() -> f64 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Whether each of so many coins showed the higher half.
fn ways(mut descent: Descent, randoms: &[f64]) -> Vec<bool> {
    let toss = |random: &f64| {
        descent.choose(vec![page(&["a"], false), page(&["b"], false)], *random);
        descent.at.first == ["b"]
    };
    randoms.iter().map(toss).collect()
}

proptest! {
    #[test]
    fn descents_share_out_the_first_coins(randoms in prop::collection::vec(0.0..1.0f64, 8), coins in 0..6usize) {
        let of = 1 << coins;
        let mut seen: Vec<Vec<bool>> = (0..of)
            .map(|rank| ways(Descent::new(page(&["a"], false), &[]).among(rank, of), &randoms)[..coins].to_vec())
            .collect();
        seen.sort();
        seen.dedup();
        prop_assert_eq!(seen.len(), of);
    }

    #[test]
    fn halves_lie_in_the_rest_and_cover_it(keys in prop::collection::btree_set("[a-f0-9/]{1,6}", 1..30)) {
        let keys: Vec<String> = keys.into_iter().collect();
        let first = Stretch { range: KeyRange { start: String::new(), end: None }, first: keys.clone(), whole: false };
        let halves = Descent::new(first, &keys).halves().unwrap();
        prop_assert_eq!(&halves[0].start, &right_behind(&keys[keys.len() - 1]));
        prop_assert_eq!(&halves[halves.len() - 1].end, &None);
        for pair in halves.windows(2) {
            prop_assert_eq!(pair[0].end.as_ref(), Some(&pair[1].start));
            prop_assert!(pair[0].start < pair[1].start);
        }
    }
}

#[test]
fn ranks_that_are_no_power_of_two_toss_fair_coins_together() {
    let coins = 6;
    let mut high = vec![0; coins];
    let (of, rounds, mut random) = (12, 500, randoms());
    for _ in 0..rounds {
        for rank in 0..of {
            let randoms: Vec<f64> = (0..coins).map(|_| random()).collect();
            let way = ways(Descent::new(page(&["a"], false), &[]).among(rank, of), &randoms);
            high.iter_mut().zip(way).for_each(|(count, is_high)| *count += usize::from(is_high));
        }
    }
    for count in high {
        let share = count as f64 / (of * rounds) as f64;
        assert!((share - 0.5).abs() < 0.02, "{share}");
    }
}

#[test]
fn only_a_coin_doubles_the_weight() {
    let mut descent = Descent::new(page(&["a"], false), &[]);
    descent.choose(vec![page(&["b"], true), page(&["c"], false)], 0.1);
    assert!((descent.weight() - 1.0).abs() < f64::EPSILON);
    descent.choose(vec![page(&["d"], false), page(&["e"], false)], 0.1);
    assert!((descent.weight() - 2.0).abs() < f64::EPSILON);
    descent.choose(vec![page(&["f"], true), page(&[], true)], 0.1);
    assert_eq!(descent.halves(), None);
}

#[test]
fn a_reservoir_draws_in_proportion_to_the_weights() {
    let weights = [1.0, 8.0, 0.0, 2.0, 0.5, 4.0, 0.5];
    let (mut random, mut drawn, size, rounds) = (randoms(), [0.0; 7], 4, 10_000);
    for _ in 0..rounds {
        let mut reservoir = Reservoir::new(size);
        for (item, weight) in weights.iter().enumerate() {
            reservoir.offer(*weight, &item, &mut random);
        }
        let items = reservoir.into_items();
        assert_eq!(items.len(), size);
        items.into_iter().for_each(|item| drawn[item] += 1.0);
    }
    let all: f64 = weights.iter().sum();
    for (weight, count) in weights.iter().zip(drawn) {
        let (wanted, share) = (weight / all, count / (size * rounds) as f64);
        assert!((share - wanted).abs() < 0.01, "{share} for {wanted}");
    }
}

#[test]
fn a_reservoir_that_nothing_was_offered_to_is_empty() {
    let mut reservoir = Reservoir::new(3);
    reservoir.offer(0.0, &1, || 0.5);
    assert!(reservoir.into_items().is_empty());
}
