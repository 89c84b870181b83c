//! What must hold on every store, run on the embedded one in its four modes and on moto's server, or, when the
//! environment names a store (`docs/acceptance.md`), on that one alone.
//!
//! Nothing is skipped. What a store can't do stands in `not-run.yaml` with the request that shows it, which is sent in
//! the scenario's stead. The last line says how many scenarios were run, refused and failed.

#![expect(clippy::print_stdout, reason = "a test without libtest's harness prints for itself")]

mod every_kind;
mod not_run;
mod scenarios;
mod whole_job;

use std::process::ExitCode;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use keyrotate_tests::prelude::{Mode, Target};
use keyrotate_tests::target::{MOTO, MOTO_SERVER};

use not_run::NotRun;
use scenarios::{ALL, Scenario, Verdict};

/// Scenarios at the same time.
const AT_ONCE: usize = 2;

/// The sums of the last line.
#[derive(Debug, Default)]
struct Sums {
    run: usize,
    refused: usize,
    failed: usize,
    not_run: usize,
}

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        ALL.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let sums = runtime.block_on(all(&only));
    let Sums { run, refused, failed, not_run } = sums;
    if not_run > 0 {
        println!("{not_run} could not be run, as the stores' answers show (not-run.yaml)");
    }
    println!("acceptance: {run} run, {refused} refused, {failed} failed");
    // A store that refuses everything was not tested, nor was one of which the filter left nothing over.
    if failed > 0 || refused >= run { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn all(only: &[String]) -> Sums {
    let lines: &'static [NotRun] = not_run::read().leak();
    let mut sums = Sums::default();
    if std::env::var(keyrotate_tests::target::ENDPOINT).is_ok_and(|endpoint| !endpoint.is_empty()) {
        match on_its_own(async { Target::external() }).await.flatten() {
            Some(target) => one_store(&Source::Shared(Arc::new(target)), only, lines, false, &mut sums).await,
            None => sums.failed += 1,
        }
        return sums;
    }
    for mode in Mode::all() {
        one_store(&Source::Embedded(mode), only, lines, true, &mut sums).await;
    }
    if wanted(MOTO, only).next().is_none() {
        return sums;
    }
    let moto = async { Target::moto_server(&std::env::var(MOTO_SERVER).expect("KEYROTATE_MOTO_SERVER is set")).await };
    match on_its_own(moto).await {
        Some(target) => one_store(&Source::Shared(Arc::new(target)), only, lines, true, &mut sums).await,
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

    /// What its store is or resembles.
    fn like(&self) -> &str {
        match self {
            Self::Embedded(mode) => mode.name,
            Self::Shared(target) => &target.like,
        }
    }

    async fn target(&self) -> Arc<Target> {
        match self {
            Self::Embedded(mode) => Arc::new(Target::embedded(mode.clone()).await),
            Self::Shared(target) => Arc::clone(target),
        }
    }
}

/// The scenarios on a store that the filters leave over.
fn wanted<'a>(store: &str, only: &'a [String]) -> impl Iterator<Item = &'static Scenario> + 'a {
    let store = store.to_owned();
    ALL.iter().filter(move |scenario| {
        let name = format!("{store} {}", scenario.name);
        only.is_empty() || only.iter().any(|part| name.contains(part))
    })
}

/// Runs the scenarios on one store. `known`: how this store behaves is known, and a refusal is a failure.
async fn one_store(source: &Source, only: &[String], lines: &'static [NotRun], known: bool, sums: &mut Sums) {
    let name = source.name();
    let runs = stream::iter(wanted(&name, only)).map(|scenario| async move {
        let began = tokio::time::Instant::now();
        let target = source.target().await;
        let line = not_run::find(lines, scenario.name, source.like(), &source.name());
        let verdict = match line {
            Some(line) => on_its_own(async move { line.ask(&target).await }).await.map(|()| Verdict::Passed),
            None => on_its_own((scenario.run)(target)).await,
        };
        (scenario, line, verdict, began.elapsed())
    });
    let mut runs = runs.buffer_unordered(AT_ONCE);
    while let Some((scenario, line, verdict, took)) = runs.next().await {
        let word = sums.add(verdict, line, known);
        println!("{name}: {}: {word} ({:.1} s)", scenario.name, took.as_secs_f64());
    }
}

impl Sums {
    /// Counts a scenario; gives the word for it.
    fn add(&mut self, verdict: Option<Verdict>, line: Option<&NotRun>, known: bool) -> String {
        match line {
            Some(_) => self.not_run += 1,
            None => self.run += 1,
        }
        match (verdict, line) {
            (Some(Verdict::Passed), None) => "ok".to_owned(),
            (Some(Verdict::Passed), Some(line)) => format!("not run: {}", line.because),
            (Some(Verdict::Refused(why)), _) => {
                self.refused += 1;
                self.failed += usize::from(known);
                format!("refused: {why}")
            }
            (None, _) => {
                self.failed += 1;
                "FAILED".to_owned()
            }
        }
    }
}

/// Runs it as a task of its own, so that a panic ends it alone; `None` then.
async fn on_its_own<T: Send + 'static>(run: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(run).await.ok()
}
