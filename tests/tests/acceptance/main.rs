//! What must hold on every store, run on the embedded one in its four modes, on moto's server when a filter names it,
//! or, when the environment names a store (`docs/acceptance.md`), on that one alone.
//!
//! Nothing is skipped. The last line says how many scenarios were run, refused and failed.

#![expect(clippy::print_stdout, reason = "a test without libtest's harness prints for itself")]

mod scenarios;

use std::process::ExitCode;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use keyrotate_tests::prelude::{Mode, Target};
use keyrotate_tests::target::MOTO_SERVER;

use scenarios::{ALL, Scenario, Verdict};

/// Scenarios at the same time.
const AT_ONCE: usize = 2;

/// The sums of the last line.
#[derive(Debug, Default)]
struct Sums {
    run: usize,
    refused: usize,
    failed: usize,
}

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        ALL.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let sums = runtime.block_on(all(&only));
    let Sums { run, refused, failed } = sums;
    println!("acceptance: {run} run, {refused} refused, {failed} failed");
    // A store that refuses everything was not tested, nor was one of which the filter left nothing over.
    if failed > 0 || refused >= run { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn all(only: &[String]) -> Sums {
    let external = std::env::var(keyrotate_tests::target::ENDPOINT).is_ok_and(|endpoint| !endpoint.is_empty());
    let mut sums = Sums::default();
    if external {
        let Some(target) = on_its_own(async { Target::external() }).await.flatten() else {
            sums.failed += 1;
            return sums;
        };
        one_store(&Source::Shared(Arc::new(target)), only, false, &mut sums).await;
        return sums;
    }
    for mode in Mode::all() {
        one_store(&Source::Embedded(mode), only, true, &mut sums).await;
    }
    // Objects as moto's server shows them are not all rotated yet: it is worked on when a filter names it.
    if !only.iter().any(|part| part.starts_with("moto's server")) {
        return sums;
    }
    let moto = async { Target::moto_server(&std::env::var(MOTO_SERVER).expect("KEYROTATE_MOTO_SERVER is set")).await };
    match on_its_own(moto).await {
        Some(target) => one_store(&Source::Shared(Arc::new(target)), only, true, &mut sums).await,
        None => sums.failed += 1,
    }
    sums
}

/// Where scenarios get their store from.
#[derive(Debug)]
enum Source {
    /// A new one for each: the old key is deleted at the end.
    Embedded(Mode),
    /// One for all.
    Shared(Arc<Target>),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Embedded(mode) => format!("embedded {}", mode.name),
            Self::Shared(target) => target.name.clone(),
        }
    }

    async fn run(&self, scenario: &Scenario) -> Option<Verdict> {
        let run = scenario.run;
        match self {
            Self::Embedded(mode) => {
                let mode = mode.clone();
                on_its_own(async move { run(Arc::new(Target::embedded(mode).await)).await }).await
            }
            Self::Shared(target) => on_its_own(run(Arc::clone(target))).await,
        }
    }
}

/// Runs the scenarios on one store. `known`: how this store behaves is known, and a refusal is a failure.
async fn one_store(source: &Source, only: &[String], known: bool, sums: &mut Sums) {
    let wanted = |scenario: &&Scenario| {
        let name = format!("{} {}", source.name(), scenario.name);
        only.is_empty() || only.iter().any(|part| name.contains(part))
    };
    let runs = stream::iter(ALL.iter().filter(wanted)).map(|scenario| async move {
        let began = tokio::time::Instant::now();
        let verdict = source.run(scenario).await;
        (scenario, verdict, began.elapsed())
    });
    let mut runs = runs.buffer_unordered(AT_ONCE);
    while let Some((scenario, verdict, took)) = runs.next().await {
        sums.run += 1;
        let word = match verdict {
            Some(Verdict::Passed) => "ok".to_owned(),
            Some(Verdict::Refused(why)) => {
                sums.refused += 1;
                sums.failed += usize::from(known);
                format!("refused: {why}")
            }
            None => {
                sums.failed += 1;
                "FAILED".to_owned()
            }
        };
        println!("{}: {}: {word} ({:.1} s)", source.name(), scenario.name, took.as_secs_f64());
    }
}

/// Runs it as a task of its own, so that a panic ends it alone; `None` then.
async fn on_its_own<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(run).await.ok()
}
