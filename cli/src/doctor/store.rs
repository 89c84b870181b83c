//! The store: whether it answers, as whom, its clock; then its bucket, and what is proven there on objects of our own.

use jiff::{SignedDuration, Timestamp};
use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use keyrotate_proto::capability::Frozen;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::say::chain;
use keyrotate_proto::spec::JobSpec;
use keyrotate_queue::DEFAULT_STORE;
use keyrotate_rewrap::probe::{self, ProbeSettings};
use keyrotate_store::retry::{RetryPolicy, Retrying};
use keyrotate_store::s3::{S3Config, S3Store};
use keyrotate_store::wrap::measured::Measured;
use keyrotate_store::{Store, StoreIdentity};

use super::bucket::{self, Seen};
use super::settings::shortened;
use super::{Finding, Health, strategies};
use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::scope::ScopeArg;
use crate::state::{self, BucketFolder};
use crate::{census, choose, connect, say};

pub(super) const SECTION: &str = "store";

/// Clocks that differ by more are worth a line; by more than the second a rotation is refused, since the store refuses
/// requests that are 15 minutes off.
const SKEW: SignedDuration = SignedDuration::from_secs(30);
const LARGE_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Somebody waits for the answer.
const IMPATIENT: RetryPolicy = RetryPolicy {
    tries: 3,
    total: std::time::Duration::from_secs(10),
    first_wait: std::time::Duration::from_millis(100),
    longest_wait: std::time::Duration::from_secs(2),
    longest_throttled_wait: std::time::Duration::from_secs(2),
    budget: 100,
};

pub(super) async fn examine(
    args: &DoctorArgs,
    scope: &ScopeArg,
    config: &Config,
    kms: Option<&dyn Kms>,
    env: &Env,
) -> Vec<Finding> {
    let (store, mut findings) = match reached(scope, config, env).await {
        Ok(reached) => reached,
        Err(failure) => return vec![Finding::of(SECTION, &failure)],
    };
    let facts = match store.bucket(&scope.bucket).await {
        Ok(facts) => facts,
        Err(error) => {
            let what = format!("asking for the bucket `{}`: {}", scope.bucket, chain(&error));
            let mend = "check the bucket's name, the endpoint, the credentials and their rights";
            findings.push(Finding::new(SECTION, Health::Red, what, mend));
            return findings;
        }
    };
    findings.extend(facts.server_date.map(|theirs| clock(theirs, env.now())));
    // What can't be seen is said there.
    let reactions = store.reactions(&scope.bucket).await.unwrap_or_default();
    let spec = match scope.job(args.key.as_deref()) {
        Ok(parsed) => parsed.spec,
        Err(failure) => {
            findings.push(Finding::of(SECTION, &failure));
            return findings;
        }
    };
    let proven = match args.no_probes {
        true => None,
        false => Some(proven(args, scope, config, &store, kms, &spec, env).await),
    };
    let frozen = proven.as_ref().and_then(|proven| proven.as_ref().ok());
    findings.extend(frozen.and_then(|frozen| kept(args, store.identity(), &scope.bucket, frozen, env)));
    let default_key = args.key.clone().or_else(connect::default_key).map(KeyName);
    findings.extend(bucket::judged(&Seen {
        scope,
        facts: &facts,
        reactions: &reactions,
        frozen,
        key: default_key.as_ref(),
    }));
    findings.extend(match &proven {
        None => vec![strategies::unknown()],
        Some(Err(refusal)) => vec![Finding::new(strategies::SECTION, Health::Red, &refusal.what, &refusal.mend)],
        Some(Ok(frozen)) => strategies::judged(frozen, &spec, env.now()),
    });
    findings
}

/// A client of the store, and what it is.
async fn reached(
    scope: &ScopeArg,
    config: &Config,
    env: &Env,
) -> Result<(Retrying<Measured<S3Store>>, Vec<Finding>), Failure> {
    let (settings, from) = match scope.store.as_deref() {
        None => (S3Config::default(), "AWS_*".to_owned()),
        Some(name) => {
            let ours = config.stores.keys().any(|known| known.as_str() == name);
            let from = if ours { format!("`stores.{name}`") } else { format!("mc's alias `{name}`") };
            (connect::named(name, config)?, from)
        }
    };
    let keys = if settings.credentials.is_some() { from.clone() } else { chain_of_aws() };
    let s3 = S3Store::connect(settings).await;
    let s3 = s3.map_err(|e| Failure::refused(format!("no store: {}", chain(&e)), format!("see what {from} says")))?;
    let findings = vec![
        Finding::green(SECTION, format!("{} (from {from})", s3.identity().0)),
        Finding::green(SECTION, format!("credentials `{}` (from {keys})", shortened(s3.access_key_id()))),
    ];
    Ok((Retrying::new(Measured::new(DEFAULT_STORE, s3), IMPATIENT, env.clone()), findings))
}

/// Where credentials come from that nobody gave us.
fn chain_of_aws() -> String {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match set("AWS_ACCESS_KEY_ID") && set("AWS_SECRET_ACCESS_KEY") {
        true => "AWS_ACCESS_KEY_ID".to_owned(),
        false => "a profile, or what this machine is given".to_owned(),
    }
}

/// Keeps what was proven for a census, which tries nothing. It can do without.
fn kept(args: &DoctorArgs, store: &StoreIdentity, bucket: &str, frozen: &Frozen, env: &Env) -> Option<Finding> {
    let folder = state::root(&args.state).map(|root| BucketFolder::of(&root, store, bucket));
    let kept = folder.and_then(|folder| census::remember(&folder, args.key.as_deref(), frozen, env.now()));
    kept.err().map(|failure| Finding { health: Health::Yellow, ..Finding::of(SECTION, &failure) })
}

/// How far the store's clock is from ours.
fn clock(theirs: Timestamp, ours: Timestamp) -> Finding {
    let skew = ours.duration_since(theirs).abs();
    if skew <= SKEW {
        return Finding::green(SECTION, "its clock and this machine's agree");
    }
    let health = if skew > LARGE_SKEW { Health::Red } else { Health::Yellow };
    let what = format!("the clocks differ by {} s: this machine says {ours}, the store {theirs}", skew.as_secs());
    Finding::new(SECTION, health, what, "let both follow NTP: the store refuses requests that are 15 minutes off")
}

/// What a job's `prepare` pass would find: the same code, with a name of our own.
async fn proven(
    args: &DoctorArgs,
    scope: &ScopeArg,
    config: &Config,
    store: &dyn Store,
    kms: Option<&dyn Kms>,
    spec: &JobSpec,
    env: &Env,
) -> Result<Frozen, probe::Refusal> {
    let (prefix, bucket) = (args.probe_prefix.clone(), args.probe_bucket.clone());
    let place = connect::probe_place(scope.store.as_deref(), prefix, bucket, config);
    let settings = ProbeSettings {
        prefix: place.prefix,
        probe_bucket: place.bucket,
        default_key: connect::default_key().map(KeyName),
        ..ProbeSettings::new(choose::new_id(env, env.now()))
    };
    let bucket = settings.probe_bucket.as_deref().unwrap_or(&scope.bucket);
    say(&format!("writing probe objects below `{}` in the bucket `{bucket}`, and removing them", settings.prefix));
    probe::prepare(store, kms, spec, &settings, env).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_yellow_at_half_a_minute_and_red_at_five() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (theirs, health) in
            [(1000, Health::Green), (969, Health::Yellow), (1100, Health::Yellow), (600, Health::Red)]
        {
            assert_eq!(clock(at(theirs), at(1000)).health, health, "{theirs}");
        }
    }
}
