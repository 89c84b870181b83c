//! Names of jobs, passes, shards and epochs.

use std::fmt;

use serde::{Deserialize, Serialize};

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A job's name: 26 lower-case letters and digits (a ULID), so that names sort by the time of their making.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// A name from milliseconds since 1970 (48 bits are used) and 80 random bits.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut bits = u128::from(unix_ms & 0xffff_ffff_ffff);
        for byte in random {
            bits = (bits << 8) | u128::from(byte);
        }
        let digit = |n: u32| char::from(CROCKFORD[usize::try_from((bits >> (5 * n)) & 31).unwrap_or(0)]);
        Self((0..26).rev().map(digit).collect())
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        let value = |digit: u8| CROCKFORD.iter().position(|d| *d == digit).unwrap_or(0) as u64;
        self.0.bytes().take(10).fold(0, |time, digit| time << 5 | value(digit))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a job's name: 26 characters of `0-9a-z` without `i`, `l`, `o`, `u`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a job id (26 characters of 0-9 and a-z)")]
pub struct NotAJobId(pub String);

impl TryFrom<String> for JobId {
    type Error = NotAJobId;

    fn try_from(text: String) -> Result<Self, NotAJobId> {
        if text.len() == 26 && text.bytes().all(|b| CROCKFORD.contains(&b)) {
            Ok(Self(text))
        } else {
            Err(NotAJobId(text))
        }
    }
}

impl std::str::FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        Self::try_from(text.to_owned())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pass of a job, numbered from 0 in the order of their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PassId(pub u32);

impl fmt::Display for PassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:03}", self.0)
    }
}

/// A shard of a pass, numbered from 0 by the planner; a split gives the new half the next free number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:06}", self.0)
    }
}

/// One shard among all: job, pass, shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardRef {
    /// The job.
    pub job: JobId,
    /// The pass of the job.
    pub pass: PassId,
    /// The shard of the pass.
    pub shard: ShardId,
}

impl fmt::Display for ShardRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.job, self.pass, self.shard)
    }
}

/// Random, made anew after any loss or roll-back of the checkpoint: epochs of different nonces never compare
/// equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// A fencing token: grows by one at each lease of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The job's nonce when the lease was given.
    pub nonce: Nonce,
    /// 0 before the first lease.
    pub counter: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.nonce.0, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_sort_by_time_and_read_back() {
        let (a, b) = (JobId::new(1_700_000_000_000, [255; 10]), JobId::new(1_700_000_000_001, [0; 10]));
        assert!(a < b);
        assert_eq!(a.as_str().parse::<JobId>().as_ref(), Ok(&a));
        assert_eq!((a.unix_ms(), b.unix_ms()), (1_700_000_000_000, 1_700_000_000_001));
        assert_eq!(JobId::new((1 << 48) - 1, [0; 10]).unix_ms(), (1 << 48) - 1);
        assert!("JOB".parse::<JobId>().is_err());
        assert!("iiiiiiiiiiiiiiiiiiiiiiiiii".parse::<JobId>().is_err());
    }
}
