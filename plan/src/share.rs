//! Shares and totals from the descents of [`crate::sample`], with the intervals that they lie in.
//!
//! The strata are the stretches that [`crate::plan`] cut; of each there are several descents, each with a total and a
//! few objects looked at, drawn with chances that follow the weights. A share is the ratio of two sums over the strata.
//! Its variance is that of the linearised ratio between the descents of a stratum (W. G. Cochran, "Sampling Techniques",
//! 3rd edition, chapter 6, combined ratio estimate), which has in it both where a descent went and which objects it drew,
//! however much neighbours are alike. Descents that share out the ways among them ([`crate::sample::Descent::among`])
//! differ less in their mean than it says, never more (same, chapter 5A, one unit per stratum). The interval is Wilson's
//! (E. B. Wilson, JASA 22, 1927) with as many objects as a simple random sample of that variance would have, and Student's
//! t with Satterthwaite's degrees of freedom in the place of 1.96, so that shares near nothing and few descents do not
//! make it narrow.

use std::collections::BTreeMap;

/// What one descent found.
#[derive(Clone, Debug)]
pub struct Draw<K> {
    /// Which stretch it went through.
    pub stratum: usize,
    /// Its guess at the number of objects there: every page's, times the page's weight.
    pub total: f64,
    /// The same of the bytes of their bodies.
    pub bytes: f64,
    /// Sum of the squares of what each page stood for: how evenly the pages spread.
    pub squares: f64,
    /// Of the objects looked at, how many are of which kind, and the bytes of their bodies.
    pub seen: BTreeMap<K, (u64, u64)>,
}

impl<K: Ord> Draw<K> {
    /// A descent that found nothing yet.
    #[must_use]
    pub fn new(stratum: usize) -> Self {
        Self { stratum, total: 0.0, bytes: 0.0, squares: 0.0, seen: BTreeMap::new() }
    }

    /// Adds a page with so many objects, each of which stands for `weight`.
    pub fn page(&mut self, weight: f64, objects: usize, bytes: u64) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (objects, bytes) = (objects as f64 * weight, bytes as f64 * weight);
        self.total += objects;
        self.bytes += bytes;
        self.squares += objects * objects;
    }

    /// Adds an object that was looked at; as often as it was drawn, so that each draw stands for as many.
    pub fn look(&mut self, kind: K, bytes: u64) {
        let seen = self.seen.entry(kind).or_default();
        seen.0 += 1;
        seen.1 = seen.1.saturating_add(bytes);
    }

    fn looked(&self) -> u64 {
        self.seen.values().map(|(count, _)| count).sum()
    }

    /// How many objects of these kinds were looked at, and the bytes of their bodies.
    fn seen_of(&self, wanted: &impl Fn(&K) -> bool) -> (f64, f64) {
        let seen = self.seen.iter().filter(|(kind, _)| wanted(kind)).map(|(_, seen)| *seen);
        let (count, bytes) = seen.fold((0u64, 0u64), |sum, seen| (sum.0 + seen.0, sum.1.saturating_add(seen.1)));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let sums = (count as f64, bytes as f64);
        sums
    }

    /// How many objects of these kinds it guesses, and how many bytes.
    fn of(&self, wanted: &impl Fn(&K) -> bool) -> (f64, f64) {
        let (count, bytes) = self.seen_of(wanted);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let each = self.total / self.looked().max(1) as f64;
        (each * count, each * bytes)
    }
}

/// A value, and between what the true one lies with 95 % confidence; all three are equal where it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The estimate.
    pub value: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// What was counted.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { low: value, value, high: value }
    }

    /// Whether a value lies in it.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// All descents through a key space.
#[derive(Clone, Debug)]
pub struct Sample<K> {
    /// The descents, in any order.
    pub draws: Vec<Draw<K>>,
    /// Whether every object was looked at exactly once: then nothing is an estimate, and only what was seen counts.
    pub whole: bool,
}

/// What one stratum adds to a sum.
struct Part {
    mean: f64,
    /// Variance of the mean.
    variance: f64,
    freedom: f64,
}

impl<K: Ord> Sample<K> {
    /// What was counted, of each kind how many objects and bytes: every object was looked at.
    #[must_use]
    pub fn counted(seen: BTreeMap<K, (u64, u64)>) -> Self {
        Self { draws: vec![Draw { seen, ..Draw::new(0) }], whole: true }
    }

    /// Objects looked at.
    #[must_use]
    pub fn looked(&self) -> u64 {
        self.draws.iter().map(Draw::looked).sum()
    }

    /// How many objects there are. The estimate is a sum of products of chances, so its error is a factor rather than a
    /// difference: the interval is that of a log-normal estimate, `value * exp(± t * deviation / value)`
    /// (K. P. Burnham et al., "Estimation of density from line transect sampling", Wildlife Monographs 72, 1980, with
    /// `cv` for their `sqrt(ln(1 + cv^2))`, which is a little less).
    #[must_use]
    pub fn objects(&self) -> Interval {
        if self.whole {
            #[expect(clippy::cast_precision_loss, reason = "nobody looks at more than 2^53 objects")]
            return Interval::exact(self.looked() as f64);
        }
        let parts = self.parts(|draw| draw.total);
        let value = sum(&parts);
        if value <= 0.0 {
            return Interval::exact(0.0);
        }
        let factor = (student(freedom(&parts)) * variance(&parts).sqrt() / value).exp();
        Interval { low: value / factor, value, high: value * factor }
    }

    /// How many bytes their bodies have.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        if self.whole { self.seen_of(&|_| true).1 } else { sum(&self.parts(|draw| draw.bytes)) }
    }

    /// How many bytes the bodies of the objects of these kinds have.
    #[must_use]
    pub fn bytes_of(&self, wanted: impl Fn(&K) -> bool) -> f64 {
        if self.whole { self.seen_of(&wanted).1 } else { sum(&self.parts(|draw| draw.of(&wanted).1)) }
    }

    /// How many objects are of these kinds: the share times the total, and so are the ends, as both may be off the same
    /// way. The true number lies in it whenever the true share and the true total lie in theirs.
    #[must_use]
    pub fn count(&self, wanted: impl Fn(&K) -> bool) -> Interval {
        if self.whole {
            return Interval::exact(self.seen_of(&wanted).0);
        }
        let (share, all) = (self.share(wanted), self.objects());
        Interval { low: share.low * all.low, value: share.value * all.value, high: share.high * all.high }
    }

    /// Which share of the objects is of these kinds, 0 to 1. Of kinds that nobody saw: up to how much they may be.
    #[must_use]
    pub fn share(&self, wanted: impl Fn(&K) -> bool) -> Interval {
        let all = self.objects().value;
        if all <= 0.0 {
            return Interval::default();
        }
        if self.whole {
            return Interval::exact(self.seen_of(&wanted).0 / all);
        }
        let share = (sum(&self.parts(|draw| draw.of(&wanted).0)) / all).clamp(0.0, 1.0);
        let residuals = self.parts(|draw| draw.of(&wanted).0 - share * draw.total);
        let variance = variance(&residuals) / (all * all);
        let spread = share * (1.0 - share);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let most = self.looked() as f64;
        let (worth, t) = if variance > 0.0 && spread > 0.0 {
            ((spread / variance).min(most), student(freedom(&residuals)))
        } else {
            (self.pages_worth(all).min(most), student(f64::INFINITY))
        };
        wilson(share, worth.max(1.0), t)
    }

    fn seen_of(&self, wanted: &impl Fn(&K) -> bool) -> (f64, f64) {
        self.draws.iter().map(|draw| draw.seen_of(wanted)).fold((0.0, 0.0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }

    /// As how many equal pages the pages count (L. Kish, "Survey Sampling", 1965): as if all objects of a page were alike.
    fn pages_worth(&self, all: f64) -> f64 {
        let of_each = self.descents();
        let share = |draw: &Draw<K>| f64::from(of_each.get(&draw.stratum).copied().unwrap_or(1)).powi(2);
        let squares: f64 = self.draws.iter().map(|draw| draw.squares / share(draw)).sum();
        if squares > 0.0 { all * all / squares } else { 1.0 }
    }

    fn descents(&self) -> BTreeMap<usize, u32> {
        let mut of_each = BTreeMap::new();
        for draw in &self.draws {
            *of_each.entry(draw.stratum).or_default() += 1;
        }
        of_each
    }

    fn parts(&self, value: impl Fn(&Draw<K>) -> f64) -> Vec<Part> {
        let mut of_each: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for draw in &self.draws {
            of_each.entry(draw.stratum).or_default().push(value(draw));
        }
        of_each.into_values().map(|values| part(&values)).collect()
    }
}

fn part(values: &[f64]) -> Part {
    #[expect(clippy::cast_precision_loss, reason = "few descents")]
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let freedom = count - 1.0;
    let variance = if freedom > 0.0 { squares / freedom / count } else { 0.0 };
    Part { mean, variance, freedom }
}

fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.mean).sum()
}

fn variance(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.variance).sum()
}

/// Degrees of freedom of a sum of variances (F. E. Satterthwaite, Biometrics Bulletin 2, 1946).
fn freedom(parts: &[Part]) -> f64 {
    let each = parts.iter().filter(|part| part.freedom > 0.0);
    let squares: f64 = each.map(|part| part.variance.powi(2) / part.freedom).sum();
    if squares > 0.0 { (variance(parts).powi(2) / squares).max(1.0) } else { f64::INFINITY }
}

/// The quantile of Student's t that 97.5 % lie below; to 2 % from 3 degrees of freedom on (Abramowitz and Stegun,
/// 26.7.5).
fn student(freedom: f64) -> f64 {
    let z = 1.959_964_f64;
    if freedom < 3.0 {
        return if freedom < 2.0 { 12.71 } else { 4.31 };
    }
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

/// Wilson's score interval of a share of so many objects.
fn wilson(share: f64, count: f64, t: f64) -> Interval {
    let squared = t * t / count;
    let middle = (share + squared / 2.0) / (1.0 + squared);
    let half = t / (1.0 + squared) * (share * (1.0 - share) / count + squared / (4.0 * count)).sqrt();
    Interval { low: (middle - half).clamp(0.0, share), value: share, high: (middle + half).clamp(share, 1.0) }
}

#[cfg(test)]
mod tests;
