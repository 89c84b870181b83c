//! Redis: whether it keeps what it acknowledged, its clock, and who works over it.

use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_checkpoint::redis::Weakness;
use keyrotate_checkpoint::{Ledger, LedgerError, RedisBackend};
use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_proto::say::chain;
use keyrotate_queue::DEFAULT_STORE;

use super::{Finding, Health};
use crate::failure::Failure;
use crate::fleet;

const SECTION: &str = "redis";
/// Clocks that differ by more are worth a line.
const SKEW: f64 = 5.0;
/// Clocks that differ by more make nonsense of every date, and S3 refuses the signatures of one of them.
const LARGE_SKEW: f64 = 300.0;

pub(super) async fn examine(config: &Config, env: &Env) -> Vec<Finding> {
    match looked_at(config, env).await {
        Ok(findings) => findings,
        Err(failure) => vec![Finding::of(SECTION, &failure)],
    }
}

async fn looked_at(config: &Config, env: &Env) -> Result<Vec<Finding>, Failure> {
    let settings = fleet::redis_settings(config)?;
    let broke = |e: &dyn std::error::Error| {
        let mend = "check the address, user and password, and what lies between: one primary, no Cluster";
        Failure::refused(format!("no checkpoint at {}: {}", settings.shown(), chain(e)), mend)
    };
    let backend = RedisBackend::new(&settings, env.clone()).map_err(|e| broke(&e))?;
    let persistence = backend.persistence().await.map_err(|e| broke(&e))?;
    let mut findings = vec![Finding::green(SECTION, format!("{} at {}", persistence.version, settings.shown()))];
    findings.push(Finding::green(SECTION, "it is one server, no Cluster, and the primary"));
    let weaknesses = persistence.weaknesses();
    findings.extend(weaknesses.iter().map(|weakness| weak(weakness, config)));
    if weaknesses.is_empty() {
        findings.push(Finding::green(SECTION, "it keeps what it acknowledged: AOF, fsync always, no eviction"));
    }
    let ledger = Ledger::new(Arc::new(backend), env.clone());
    let asked = env.now();
    match ledger.now().await {
        Ok(now) => findings.push(clock(now, asked, env.now())),
        Err(error) => findings.push(unreadable(&error)),
    }
    findings.extend(fleet_of(&ledger, config).await.unwrap_or_else(|error| vec![unreadable(&error)]));
    Ok(findings)
}

/// What a start refuses is red; what the configuration accepts by name is yellow.
fn weak(weakness: &Weakness, config: &Config) -> Finding {
    let (accepted, field) = match weakness.unknown {
        true => (config.redis.accept_unknown_persistence, "acceptUnknownPersistence"),
        false => (config.redis.accept_weak_persistence, "acceptWeakPersistence"),
    };
    let what = format!("{}: {}", weakness.what, weakness.risk);
    if accepted {
        let what = format!("{what} (accepted by `redis.{field}`)");
        return Finding::new(SECTION, Health::Yellow, what, weakness.mend);
    }
    Finding::new(SECTION, Health::Red, what, format!("{}, or accept it: `redis.{field}: true`", weakness.mend))
}

/// Leases go by the server's clock alone. It is never followed back: one that ran ahead and was put right stands still.
fn clock(there: Timestamp, before: Timestamp, after: Timestamp) -> Finding {
    let ahead = there.duration_since(after).as_secs_f64();
    let behind = before.duration_since(there).as_secs_f64();
    let skew = ahead.max(behind).max(0.0);
    let word = if ahead > behind { "ahead of" } else { "behind" };
    match skew {
        skew if skew <= SKEW => Finding::green(SECTION, "its clock and this machine's agree"),
        skew => {
            let health = if skew > LARGE_SKEW { Health::Red } else { Health::Yellow };
            let what = format!("its clock is {skew:.0} s {word} this machine's");
            let mend =
                "let both follow NTP; if it ran ahead and was put right, leases stand still until it is there again";
            Finding::new(SECTION, health, what, mend)
        }
    }
}

/// Who leads, and who serves which store.
async fn fleet_of(ledger: &Ledger, config: &Config) -> Result<Vec<Finding>, LedgerError> {
    const FLEET: &str = "fleet";
    let now = ledger.now().await?;
    let mut findings = Vec::new();
    findings.push(match ledger.leader().await?.filter(|leader| leader.until >= now) {
        Some(leader) => Finding::green(FLEET, format!("the coordinator {} leads", leader.owner)),
        None => Finding::new(FLEET, Health::Yellow, "no coordinator leads", "start `keyrotate coordinator`"),
    });
    let workers = ledger.workers().await?;
    let mut stores: Vec<&str> = config.stores.keys().map(keyrotate_config::StoreName::as_str).collect();
    if stores.is_empty() {
        stores.push(DEFAULT_STORE);
    }
    for store in stores {
        let serving: Vec<_> = workers.iter().filter(|worker| worker.stores.contains_key(store)).collect();
        let slots: u32 = serving.iter().map(|worker| worker.slots).sum();
        findings.push(match serving.len() {
            0 => {
                let what = format!("no worker serves the store `{store}`: its jobs wait");
                Finding::new(FLEET, Health::Yellow, what, "start `keyrotate worker`")
            }
            1 => Finding::green(FLEET, format!("a worker with {slots} slots serves the store `{store}`")),
            n => Finding::green(FLEET, format!("{n} workers with {slots} slots serve the store `{store}`")),
        });
    }
    Ok(findings)
}

fn unreadable(error: &LedgerError) -> Finding {
    let mend = "the user needs the rights that deploy/redis/users.acl gives";
    Finding::new(SECTION, Health::Red, format!("records can't be read: {}", chain(error)), mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_seen_in_both_directions() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(clock(at(102), at(100), at(101)).health, Health::Green);
        let behind = clock(at(70), at(100), at(101));
        assert!(behind.health == Health::Yellow && behind.what.contains("30 s behind"), "{behind:?}");
        let ahead = clock(at(4000), at(100), at(101));
        assert!(ahead.health == Health::Red && ahead.what.contains("ahead of"), "{ahead:?}");
    }

    #[test]
    fn what_is_accepted_by_name_is_yellow() {
        let weakness = Weakness { what: "w".into(), risk: "r", mend: "m", unknown: true };
        let mut config = Config::default();
        assert_eq!(weak(&weakness, &config).health, Health::Red);
        config.redis.accept_unknown_persistence = true;
        assert_eq!(weak(&weakness, &config).health, Health::Yellow);
    }
}
