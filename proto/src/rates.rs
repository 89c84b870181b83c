//! How much a job may do per second, and at which hours of the day that is something else.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// What a job may do per second, over all workers. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Objects that are begun with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<f64>,
    /// Bytes of bodies that are written, whether they pass through a worker or the store copies them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// Calls to the KMS that the store makes for what is written: see [`KMS_CALLS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms: Option<f64>,
}

/// Calls to the KMS that one written object is taken to cost its store: one to open the key that it has, and one for a
/// new data key. MinIO with KES was seen to make 2.1, with those for the sample whose bodies are hashed.
pub const KMS_CALLS: u32 = 2;

impl Rates {
    /// Each the lower one of both.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let lower = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            objects: lower(self.objects, other.objects),
            bytes: lower(self.bytes, other.bytes),
            kms: lower(self.kms, other.kms),
        }
    }

    /// The even share of one of so many.
    #[must_use]
    pub fn shared_by(self, slots: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "nobody has that many slots")]
        let share = |rate: Option<f64>| rate.map(|rate| rate / slots.max(1) as f64);
        Self { objects: share(self.objects), bytes: share(self.bytes), kms: share(self.kms) }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn are_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Hours of the day, by the clock on the wall of a time zone, in which other rates hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateWindow {
    /// From then.
    pub from: Time,
    /// Until then, this left out; on the next day where it is not after `from`.
    pub until: Time,
    /// On these days; a window over midnight counts to the day on which it begins.
    #[serde(default, skip_serializing_if = "Days::are_all")]
    pub days: Days,
    /// Name in the IANA time zone database: `Europe/Zurich`, `UTC`.
    pub zone: String,
    /// What holds then, in place of the job's own.
    #[serde(default)]
    pub rates: Rates,
}

impl RateWindow {
    /// Whether it holds at that time. Never where the zone is not known here.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        let Ok(zone) = TimeZone::get(&self.zone) else { return false };
        let wall = zone.to_datetime(now);
        let (time, day) = (wall.time(), wall.weekday());
        if self.from < self.until {
            return self.days.has(day) && (self.from..self.until).contains(&time);
        }
        time >= self.from && self.days.has(day) || time < self.until && self.days.has(day.previous())
    }
}

/// What holds at that time: the rates of the first window that does, else `own`.
#[must_use]
pub fn rates_at(own: Rates, windows: &[RateWindow], now: Timestamp) -> Rates {
    windows.iter().find(|window| window.holds_at(now)).map_or(own, |window| window.rates)
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Days([bool; 7]);

impl Days {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// Whether these are all days.
    #[must_use]
    pub fn are_all(&self) -> bool {
        *self == Self::default()
    }

    fn has(&self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset()).is_ok_and(|n| self.0.get(n) == Some(&true))
    }
}

impl Default for Days {
    fn default() -> Self {
        Self([true; 7])
    }
}

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            let found = Self::NAMES.iter().position(|known| *known == name);
            found.ok_or_else(|| format!("`{}` is no day", name.escape_debug()))
        };
        let mut days = [false; 7];
        for piece in text.split(',') {
            let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
            let (mut at, last) = (day(first)?, day(last)?);
            days[at] = true;
            while at != last {
                at = (at + 1) % 7;
                days[at] = true;
            }
        }
        Ok(Self(days))
    }
}

impl TryFrom<String> for Days {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Days> for String {
    fn from(days: Days) -> Self {
        days.to_string()
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().zip(self.0).filter(|(_, is)| *is).map(|(name, _)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, until: &str, days: &str, zone: &str) -> RateWindow {
        let (from, until, days) = (from.parse().unwrap(), until.parse().unwrap(), days.parse().unwrap());
        RateWindow { from, until, days, zone: zone.into(), rates: Rates::default() }
    }

    #[test]
    fn a_window_holds_by_the_clock_of_its_zone() {
        // 2026-07-03 is a Friday; Zurich is two hours ahead then, one in winter.
        for (window, at, holds) in [
            (window("22:00", "06:00", "mon-sun", "Europe/Zurich"), "2026-07-03T19:59:59Z", false),
            (window("22:00", "06:00", "mon-sun", "Europe/Zurich"), "2026-07-03T20:00:00Z", true),
            (window("22:00", "06:00", "mon-sun", "Europe/Zurich"), "2026-07-04T03:59:59Z", true),
            (window("22:00", "06:00", "mon-sun", "Europe/Zurich"), "2026-07-04T04:00:00Z", false),
            (window("22:00", "06:00", "mon-sun", "Europe/Zurich"), "2026-01-03T20:30:00Z", false),
            (window("08:00", "18:00", "mon-fri", "UTC"), "2026-07-03T08:00:00Z", true),
            (window("08:00", "18:00", "mon-fri", "UTC"), "2026-07-03T18:00:00Z", false),
            (window("08:00", "18:00", "mon-fri", "UTC"), "2026-07-04T08:00:00Z", false),
            (window("22:00", "06:00", "fri", "UTC"), "2026-07-03T03:00:00Z", false),
            (window("22:00", "06:00", "fri", "UTC"), "2026-07-04T03:00:00Z", true),
            (window("22:00", "06:00", "fri", "UTC"), "2026-07-04T23:00:00Z", false),
            (window("00:00", "00:00", "sat,sun", "UTC"), "2026-07-04T00:00:00Z", true),
            (window("00:00", "00:00", "sat,sun", "UTC"), "2026-07-05T23:59:59Z", true),
            (window("00:00", "00:00", "sat,sun", "UTC"), "2026-07-06T00:00:00Z", false),
            (window("00:00", "00:00", "mon-sun", "Mars/Olympus_Mons"), "2026-07-06T00:00:00Z", false),
        ] {
            assert_eq!(window.holds_at(at.parse().unwrap()), holds, "{window:?} at {at}");
        }
    }

    #[test]
    fn the_first_window_that_holds_counts() {
        let own = Rates { objects: Some(50.0), ..Rates::default() };
        let by_night = window("22:00", "06:00", "mon-sun", "UTC");
        let always =
            RateWindow { rates: Rates { bytes: Some(1e6), ..own }, ..window("00:00", "00:00", "mon-sun", "UTC") };
        let (noon, night) = ("2026-07-03T12:00:00Z".parse().unwrap(), "2026-07-03T23:00:00Z".parse().unwrap());
        assert_eq!(rates_at(own, &[], noon), own);
        assert_eq!(rates_at(own, std::slice::from_ref(&by_night), noon), own);
        assert_eq!(rates_at(own, &[by_night.clone(), always.clone()], night), Rates::default());
        assert_eq!(rates_at(own, &[by_night, always.clone()], noon), always.rates);
    }

    #[test]
    fn days_read_and_written() {
        for (text, normal) in [
            ("mon-fri", "mon,tue,wed,thu,fri"),
            ("Sat, sun", "sat,sun"),
            ("fri-mon", "mon,fri,sat,sun"),
            ("wed", "wed"),
            ("mon-sun", "mon,tue,wed,thu,fri,sat,sun"),
        ] {
            let days: Days = text.parse().unwrap();
            assert_eq!(days.to_string(), normal);
            assert_eq!(normal.parse(), Ok(days));
        }
        for wrong in ["", "monday", "mon-", "mon;tue", "1"] {
            assert!(wrong.parse::<Days>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_limits_hold_and_shares_add_up() {
        let one = Rates { objects: Some(10.0), bytes: None, kms: Some(6.0) };
        let other = Rates { objects: Some(20.0), bytes: Some(5.0), kms: Some(3.0) };
        let both = Rates { objects: Some(10.0), bytes: Some(5.0), kms: Some(3.0) };
        assert_eq!(one.within(other), both);
        assert_eq!(other.within(one), both);
        assert_eq!(both.shared_by(5), Rates { objects: Some(2.0), bytes: Some(1.0), kms: Some(0.6) });
        assert!(Rates::default().shared_by(3).are_unlimited());
    }
}
