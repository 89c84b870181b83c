//! Who leads: of any number of coordinators one plans, dispatches, sweeps and finishes.

use std::time::Duration;

use jiff::Timestamp;
use keyrotate_proto::id::{Epoch, Nonce};

use super::Refusal;
use crate::record::{LeaderRecord, RECORD_VERSION};

/// What a leader shows with everything it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leading {
    /// The fencing token of its lead.
    pub epoch: Epoch,
    /// The random word of its lead.
    pub token: String,
}

/// Takes the lead where nobody has it, or where it belongs to another run of the back-end; `None` where somebody leads.
#[must_use]
pub fn take(
    there: Option<&LeaderRecord>,
    owner: &str,
    token: &str,
    nonce: &str,
    run: &str,
    ttl: Duration,
    now: Timestamp,
) -> Option<(LeaderRecord, Leading)> {
    let epoch = match there.filter(|there| there.run == run) {
        Some(there) if there.token == token => there.epoch.clone(),
        Some(there) if now <= there.until => return None,
        Some(there) => Epoch { counter: there.epoch.counter + 1, ..there.epoch.clone() },
        None => Epoch { nonce: Nonce(nonce.to_owned()), counter: 1 },
    };
    let next = LeaderRecord {
        version: RECORD_VERSION,
        epoch: epoch.clone(),
        owner: owner.to_owned(),
        token: token.to_owned(),
        run: run.to_owned(),
        until: super::shard::later(now, ttl),
    };
    Some((next, Leading { epoch, token: token.to_owned() }))
}

/// Makes the lead longer.
///
/// # Errors
/// When it is over.
pub fn renew(
    there: Option<&LeaderRecord>,
    leading: &Leading,
    run: &str,
    ttl: Duration,
    now: Timestamp,
) -> Result<LeaderRecord, Refusal> {
    leads(there, leading, run, now)?;
    let there = there.ok_or(Refusal::NotLeader)?;
    Ok(LeaderRecord { until: super::shard::later(now, ttl).max(there.until), ..there.clone() })
}

/// Ends the lead; `None` where it is another's.
#[must_use]
pub fn resign(there: Option<&LeaderRecord>, leading: &Leading, now: Timestamp) -> Option<LeaderRecord> {
    let there = there.filter(|there| is(there, leading))?;
    let until = now.checked_sub(Duration::from_millis(1)).unwrap_or(now).min(there.until);
    Some(LeaderRecord { until, ..there.clone() })
}

/// Till when the lead stands.
///
/// # Errors
/// When it ran out, is another's, or was given by another run of the back-end.
pub fn leads(there: Option<&LeaderRecord>, leading: &Leading, run: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let stands = |there: &&LeaderRecord| is(there, leading) && there.run == run && now <= there.until;
    there.filter(stands).map(|there| there.until).ok_or(Refusal::NotLeader)
}

fn is(there: &LeaderRecord, leading: &Leading) -> bool {
    there.token == leading.token && there.epoch == leading.epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(6);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn taken(there: Option<&LeaderRecord>, owner: &str, run: &str, second: i64) -> Option<(LeaderRecord, Leading)> {
        take(there, owner, &format!("{owner}{second}"), "9f", run, TTL, at(second))
    }

    #[test]
    fn one_leads_until_its_time_is_over() {
        let (record, first) = taken(None, "a", "r", 0).unwrap();
        assert_eq!(taken(Some(&record), "b", "r", 6), None);
        assert_eq!(leads(Some(&record), &first, "r", at(6)), Ok(at(6)));
        assert_eq!(leads(Some(&record), &first, "r", at(7)), Err(Refusal::NotLeader));
        let record = renew(Some(&record), &first, "r", TTL, at(6)).unwrap();
        assert_eq!(taken(Some(&record), "b", "r", 12), None);
        let (record, second) = taken(Some(&record), "b", "r", 13).unwrap();
        assert_eq!((second.epoch.counter, &second.epoch.nonce), (2, &first.epoch.nonce));
        assert_eq!(leads(Some(&record), &first, "r", at(13)), Err(Refusal::NotLeader));
        assert_eq!(renew(Some(&record), &first, "r", TTL, at(13)), Err(Refusal::NotLeader));
        assert_eq!(resign(Some(&record), &first, at(13)), None);
    }

    #[test]
    fn a_take_whose_answer_was_lost_is_the_same_lead() {
        let (record, first) = taken(None, "a", "r", 0).unwrap();
        let (again, same) = taken(Some(&record), "a", "r", 0).unwrap();
        assert_eq!((record, first), (again, same));
    }

    #[test]
    fn who_resigns_makes_room_at_once() {
        let (record, first) = taken(None, "a", "r", 0).unwrap();
        let record = resign(Some(&record), &first, at(1)).unwrap();
        assert_eq!(leads(Some(&record), &first, "r", at(1)), Err(Refusal::NotLeader));
        assert!(taken(Some(&record), "b", "r", 1).is_some());
    }

    #[test]
    fn another_run_of_the_back_end_ends_every_lead() {
        let (record, first) = taken(None, "a", "r", 0).unwrap();
        assert_eq!(leads(Some(&record), &first, "other", at(0)), Err(Refusal::NotLeader));
        let (_, second) = take(Some(&record), "b", "t", "c0", "other", TTL, at(0)).unwrap();
        assert_eq!(second.epoch, Epoch { nonce: Nonce("c0".into()), counter: 1 });
    }
}
