//! Which job a start means: a new one, or one that was interrupted or failed.

use jiff::Timestamp;
use keyrotate_checkpoint::Ledger;
use keyrotate_checkpoint::record::{JobRecord, ProbePlace};
use keyrotate_env::Env;
use keyrotate_proto::id::{JobId, Nonce};
use keyrotate_proto::job::Parsed;
use keyrotate_proto::say::chain;
use keyrotate_proto::spec::JobSpec;
use keyrotate_proto::state::JobState;
use keyrotate_store::StoreIdentity;
use keyrotate_telemetry::{Instrument as _, spans};

use crate::failure::Failure;
use crate::files::check_at_start;
use crate::local::{Place, cancel_dead};

/// What the command line says about jobs that are already there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// `--new`
    pub(crate) new: bool,
    /// `--resume JOB`
    pub(crate) resume: Option<JobId>,
    /// `--replace`
    pub(crate) replace: bool,
}

/// What a start does.
#[derive(Debug, PartialEq)]
pub(crate) enum Choice {
    /// A new job.
    Begin,
    /// That one goes on: it was interrupted.
    GoOn(JobId),
    /// That one goes on: it had failed.
    Resume(JobId),
    /// That one is cancelled, then a new one begins.
    Replace(JobId),
    /// Neither: a job that was interrupted stands in the way, of another spec or where a new one is wished for.
    Blocked(Box<JobRecord>),
}

/// Decides; pure. `jobs` are all of this store and bucket.
pub(crate) fn choose(jobs: &[JobRecord], spec: &JobSpec, wish: &Wish) -> Choice {
    if let Some(id) = &wish.resume {
        return match jobs.iter().find(|job| job.id == *id) {
            Some(job) if matches!(job.state, JobState::Failed { .. }) => Choice::Resume(id.clone()),
            Some(job) if !job.state.is_ended() && job.state != JobState::Cancelling => Choice::GoOn(id.clone()),
            _ => Choice::Begin,
        };
    }
    let hash = spec.hash();
    let live = |job: &&JobRecord| !job.state.is_ended();
    let newest = jobs.iter().filter(|job| job.spec_hash == hash).max_by_key(|job| job.created);
    let scope = keyrotate_proto::position::KeyRange::of_prefix(&spec.prefix);
    let same = jobs.iter().filter(live).find(|job| job.spec_hash == hash);
    if let Some(job) = same.or_else(|| jobs.iter().filter(live).find(|job| job.scope().overlaps(&scope))) {
        // One whose cancelling was cut off has only its end before it.
        return match &job.state {
            JobState::Cancelling => Choice::Replace(job.id.clone()),
            _ if wish.replace => Choice::Replace(job.id.clone()),
            _ if job.spec_hash == hash && !wish.new => Choice::GoOn(job.id.clone()),
            _ => Choice::Blocked(Box::new(job.clone())),
        };
    }
    match newest {
        Some(job) if matches!(job.state, JobState::Failed { .. }) && !wish.new => Choice::Resume(job.id.clone()),
        _ => Choice::Begin,
    }
}

/// Does what [`choose`] decided, and gives the job to work on with one line that says so.
pub(crate) async fn settle(
    ledger: &Ledger,
    store: &StoreIdentity,
    parsed: &Parsed,
    wish: &Wish,
    place: &Place,
    env: &Env,
) -> Result<(JobId, String), Failure> {
    let spec = &parsed.spec;
    let broke =
        |e: keyrotate_checkpoint::LedgerError| Failure::broke("the checkpoint", &e, "the state folder may be damaged");
    let jobs = ledger.jobs().await.map_err(broke)?;
    let jobs: Vec<_> = jobs.into_iter().filter(|job| job.store == store.0 && job.spec.bucket == spec.bucket).collect();
    match choose(&jobs, spec, wish) {
        Choice::GoOn(id) => {
            ledger.void_leases(&id).await.map_err(broke)?;
            Ok((id.clone(), format!("job {id} goes on where it was interrupted")))
        }
        Choice::Resume(id) => {
            ledger.resume_job(&id).await.map_err(resume_refused)?;
            ledger.void_leases(&id).await.map_err(broke)?;
            Ok((id.clone(), format!("job {id} had failed and is resumed (`--new` begins afresh)")))
        }
        Choice::Replace(old) => {
            check_at_start(parsed, env.now())?;
            cancel_dead(ledger, &old, place, env).await?;
            let (id, line) = begin(ledger, store, spec, &place.config.probes, env).await?;
            Ok((id, format!("{line}; job {old} is cancelled")))
        }
        Choice::Begin if wish.resume.is_some() => {
            let id = wish.resume.as_ref().map(ToString::to_string).unwrap_or_default();
            Err(Failure::usage(
                format!("no job {id} on this bucket can be resumed"),
                "leave `--resume` out to begin a new one",
            ))
        }
        Choice::Begin => {
            check_at_start(parsed, env.now())?;
            begin(ledger, store, spec, &place.config.probes, env).await
        }
        Choice::Blocked(job) => Err(blocked(&job, spec)),
    }
}

async fn begin(
    ledger: &Ledger,
    store: &StoreIdentity,
    spec: &JobSpec,
    probes: &ProbePlace,
    env: &Env,
) -> Result<(JobId, String), Failure> {
    let now = env.now();
    let id = new_id(env, now);
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let nonce = Nonce(env.random_hex(4));
    let mut job = JobRecord::new(id.clone(), spec.clone(), store.0.clone(), nonce, user, now);
    job.probes = probes.clone();
    // The root of the job's trace.
    let span = spans::submit();
    span.record("job", tracing::field::display(&id));
    job.traceparent = spans::traceparent(&span);
    let refused = |e: keyrotate_checkpoint::LedgerError| Failure::refused(chain(&e), "wait for that job, or cancel it");
    ledger.begin_job(job).instrument(span).await.map_err(refused)?;
    Ok((id.clone(), format!("job {id} begins")))
}

/// A name that no other job has.
pub(crate) fn new_id(env: &Env, now: Timestamp) -> JobId {
    let mut random = [0; 10];
    env.fill(&mut random);
    JobId::new(u64::try_from(now.as_millisecond()).unwrap_or(0), random)
}

fn resume_refused(error: keyrotate_checkpoint::LedgerError) -> Failure {
    Failure::refused(chain(&error), "`--new` begins a new job")
}

fn blocked(job: &JobRecord, spec: &JobSpec) -> Failure {
    let differs = match difference(&job.spec, spec) {
        none if none.is_empty() => String::new(),
        fields => format!(", and the file is another now:\n{fields}"),
    };
    let what = format!("job {} was interrupted on these objects{differs}", job.id);
    let mend = format!(
        "`--resume {}` goes on with the job as it was begun, `--replace` cancels it and begins this one",
        job.id
    );
    Failure::refused(what, mend)
}

/// The fields that differ, one line each.
fn difference(old: &JobSpec, new: &JobSpec) -> String {
    let flat = |spec: &JobSpec| {
        let mut fields = Vec::new();
        flatten("", &serde_json::to_value(spec).unwrap_or_default(), &mut fields);
        fields.retain(|(name, _)| name != "notify.token");
        fields
    };
    let (old, new) = (flat(old), flat(new));
    let value = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|(n, _)| n == name).map_or("nothing".to_owned(), |(_, value)| value.clone())
    };
    let mut names: Vec<_> = old.iter().chain(&new).map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    let differs = names.iter().filter(|name| value(&old, name) != value(&new, name));
    let lines = differs.map(|name| format!("    {name}: {} → {}", value(&old, name), value(&new, name)));
    lines.collect::<Vec<_>>().join("\n")
}

fn flatten(at: &str, value: &serde_json::Value, fields: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                flatten(&at, value, fields);
            }
        }
        other => fields.push((at.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyrotate_proto::spec::{Dialect, Filter, Options, Retry, SPEC_VERSION, Target};
    use keyrotate_proto::state::{Phase, StopReason};

    fn spec(prefix: &str) -> JobSpec {
        JobSpec {
            version: SPEC_VERSION,
            dialect: Dialect::Aistor,
            bucket: "b".into(),
            prefix: prefix.into(),
            keys: [].into(),
            target: Target::SseKms { key: None, context: None },
            filter: Filter::default(),
            notify: None,
            retry: Retry::default(),
            options: Options::default(),
            manifest: None,
        }
    }

    fn job(n: u8, prefix: &str, state: JobState) -> JobRecord {
        let at = Timestamp::from_second(i64::from(n)).unwrap();
        let id = JobId::new(u64::from(n), [n; 10]);
        let mut job = JobRecord::new(id, spec(prefix), "s".into(), Nonce("n".into()), String::new(), at);
        job.state = state;
        job
    }

    #[test]
    fn what_a_start_means() {
        let running = || JobState::Live { phase: Phase::Running };
        let failed = || JobState::Failed { reason: StopReason::ObjectsLeft, detail: String::new() };
        let none = Wish::default();
        let id = |n: u8| JobId::new(u64::from(n), [n; 10]);
        assert_eq!(choose(&[], &spec(""), &none), Choice::Begin);
        assert_eq!(choose(&[job(1, "", running())], &spec(""), &none), Choice::GoOn(id(1)));
        assert_eq!(choose(&[job(1, "", JobState::Completed)], &spec(""), &none), Choice::Begin);
        let jobs = [job(1, "", JobState::Completed), job(2, "", failed())];
        assert_eq!(choose(&jobs, &spec(""), &none), Choice::Resume(id(2)));
        assert_eq!(choose(&jobs, &spec(""), &Wish { new: true, ..none.clone() }), Choice::Begin);
        let jobs = [job(1, "", failed()), job(2, "", JobState::Completed)];
        assert_eq!(choose(&jobs, &spec(""), &none), Choice::Begin, "only the newest counts");
        let jobs = [job(1, "a/", running())];
        assert!(matches!(choose(&jobs, &spec(""), &none), Choice::Blocked(_)));
        assert_eq!(choose(&jobs, &spec("b/"), &none), Choice::Begin);
        let interrupted = [job(1, "", running())];
        let new = Wish { new: true, ..none.clone() };
        assert!(matches!(choose(&interrupted, &spec(""), &new), Choice::Blocked(_)), "`--new` is not passed over");
        let replace = Wish { replace: true, ..none.clone() };
        assert_eq!(choose(&interrupted, &spec(""), &replace), Choice::Replace(id(1)));
        let cancelling = [job(1, "", JobState::Cancelling)];
        assert_eq!(choose(&cancelling, &spec(""), &none), Choice::Replace(id(1)), "never goes on");
        assert_eq!(choose(&cancelling, &spec("x"), &none), Choice::Replace(id(1)));
        assert_eq!(choose(&cancelling, &spec(""), &Wish { resume: Some(id(1)), ..none.clone() }), Choice::Begin);
        assert_eq!(choose(&jobs, &spec(""), &Wish { replace: true, ..none.clone() }), Choice::Replace(id(1)));
        assert_eq!(choose(&jobs, &spec(""), &Wish { resume: Some(id(1)), ..none.clone() }), Choice::GoOn(id(1)));
        assert_eq!(difference(&spec("a/"), &spec("")), "    prefix: \"a/\" → \"\"");
    }
}
