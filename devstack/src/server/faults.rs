//! Faults of the way between client and store, switched on and off while the server runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered only after this time.
    Delay(Duration),
    /// 503 `SlowDown`, nothing done.
    SlowDown,
    /// 500 `InternalError`, nothing done.
    InternalError,
    /// The connection is cut, nothing done.
    CutBefore,
    /// It is done, and the connection is cut instead of an answer.
    DropReply,
    /// It is done, the answer's headers are sent, and the connection is cut in the middle of the body.
    CutBody,
    /// An error with this status, code and message, nothing done.
    Refused(u16, &'static str, &'static str),
    /// 301 `PermanentRedirect`: the bucket lies in this region. Nothing done.
    OtherRegion(&'static str),
    /// A web page under this status, as proxies and login pages send it, nothing done.
    WebPage(u16),
    /// 200 with an error document of this code in the body, nothing done.
    ErrorInside(&'static str),
    /// 200 without a body, nothing done.
    Nothing,
    /// It is done, and the answer is its first half, with all that says that it is whole.
    HalfBody,
    /// It is done; of a listing the last entry comes first.
    LastFirst,
    /// It is done; of a listing the first entry comes twice.
    FirstTwice,
}

/// Which requests a fault meets.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// What happens.
    pub fault: Fault,
    /// The S3 operation by its documented name; `None`: all.
    pub operation: Option<&'static str>,
    /// Only keys that begin with it.
    pub key_prefix: String,
    /// Only requests with this query parameter.
    pub query: Option<&'static str>,
    /// This many matching requests pass first.
    pub skip: u64,
    /// This many are met then; `None`: all.
    pub times: Option<u64>,
}

impl FaultRule {
    /// Meets every request.
    #[must_use]
    pub fn every(fault: Fault) -> Self {
        Self { fault, operation: None, key_prefix: String::new(), query: None, skip: 0, times: None }
    }

    /// Meets every request of one operation.
    #[must_use]
    pub fn on(operation: &'static str, fault: Fault) -> Self {
        Self { operation: Some(operation), ..Self::every(fault) }
    }

    /// Meets only that many.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Lets that many pass first.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }
}

/// The switches of a running server. Clones are the same switches.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<FaultRule>,
    requests: BTreeMap<&'static str, u64>,
    met: u64,
}

impl Faults {
    /// Switches a fault on. Of several rules that meet one request, the first counts, delays apart: they add up.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(rule);
    }

    /// Switches all faults off.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// How many requests met a fault so far.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.lock().met
    }

    /// How many requests of each operation arrived so far, those that met a fault included.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.lock().requests.clone()
    }

    /// Counts a request and says what happens to it: how long it waits, and what then.
    pub(super) fn meet(&self, operation: &'static str, key: &str, query: &str) -> (Duration, Option<Fault>) {
        let mut inner = self.lock();
        let Inner { rules, requests, met } = &mut *inner;
        *requests.entry(operation).or_default() += 1;
        let (mut delay, mut fault) = (Duration::ZERO, None);
        for rule in rules {
            let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
            let wanted = rule.operation.is_none_or(|wanted| wanted == operation)
                && key.starts_with(&rule.key_prefix)
                && rule.query.is_none_or(has);
            let is_delay = matches!(rule.fault, Fault::Delay(_));
            if !wanted || (fault.is_some() && !is_delay) || !rule.fires() {
                continue;
            }
            *met += 1;
            match rule.fault {
                Fault::Delay(time) => delay += time,
                other => fault = Some(other),
            }
        }
        (delay, fault)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultRule {
    /// Counts one matching request down.
    fn fires(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.times {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_skip_count_down_and_end() {
        let faults = Faults::default();
        faults.add(FaultRule::on("PutObject", Fault::SlowDown).after(1).times(2));
        faults.add(FaultRule::every(Fault::Delay(Duration::from_millis(3))));
        let met: Vec<_> = (0..4).map(|_| faults.meet("PutObject", "k", "").1).collect();
        assert_eq!(met, [None, Some(Fault::SlowDown), Some(Fault::SlowDown), None]);
        assert_eq!(faults.meet("GetObject", "k", ""), (Duration::from_millis(3), None));
        assert_eq!(faults.met(), 7);
        faults.clear();
        assert_eq!(faults.meet("PutObject", "k", ""), (Duration::ZERO, None));
        assert_eq!(faults.requests(), BTreeMap::from([("GetObject", 1), ("PutObject", 5)]));
        faults.add(FaultRule { query: Some("token"), ..FaultRule::every(Fault::SlowDown) });
        assert_eq!(faults.meet("ListObjectsV2", "", "prefix=token&tokens=1").1, None);
        assert_eq!(faults.meet("ListObjectsV2", "", "prefix=&token=1").1, Some(Fault::SlowDown));
    }
}
