//! What happens at which call of a case.

use std::cell::Cell;

use keyrotate_devstack::model::Faults;

use super::super::*;
use super::case::{At, Deed, Op, Side, What, When, Whose};
use super::stage::{FROZEN, Log, Stage, WRITES};

/// Lets each op happen at its call.
pub(super) fn arm(stage: &Arc<Stage>, faults: &Faults) {
    let counter = Arc::clone(stage);
    let counts = move |call: &Call<'_>| {
        let mut log = counter.log();
        log.calls += 1;
        log.writes += u64::from(WRITES.contains(&call.operation));
        log.answer_is_lost = false;
        call.key.clone_into(&mut log.key);
        if log.thaws_at.is_some_and(|at| at <= log.calls) {
            log.thaws_at = None;
            counter.thaws.notify_one();
        }
        false
    };
    faults.add(Rule::when(counts, Action::FailBefore(ErrorKind::Nonsense)));
    for op in &stage.case.ops {
        let (here, at, what) = (Arc::clone(stage), op.at, op.what.clone());
        let meets = move |call: &Call<'_>| {
            let mut log = here.log();
            let meets = match at {
                At::Call(n) => log.calls == n,
                At::Write(n) => log.writes == n && WRITES.contains(&call.operation),
            };
            if meets {
                note(&mut log, call, &what);
            }
            meets
        };
        faults.add(Rule::when(meets, action(stage, op)).times(1));
    }
}

/// What of an op the log must know before the call.
fn note(log: &mut Log, call: &Call<'_>, what: &What) {
    let (operation, key) = (call.operation, call.key.to_owned());
    if let What::Theirs(..) = what {
        return;
    }
    log.tell(format!("{operation} `{key}` meets {what:?}"));
    let word = match what {
        What::Fails(Side::Before, _) => "fails before",
        What::Fails(Side::Behind, _) => "fails behind",
        What::Dies(Side::Before) => "dies before",
        What::Dies(Side::Behind) => "dies behind",
        What::Freezes(_) => "freezes",
        What::LeaseEnds => "lease ends",
        What::Slow => "slow",
        What::Forgets(_) => "forgets",
        What::Theirs(..) => unreachable!("it is counted when it was done"),
    };
    log.count(format!("op: {word}"));
    match what {
        What::Fails(..) => log.faults.push((operation, key.clone())),
        What::Freezes(calls) => {
            log.thaws_at = Some(log.calls + calls);
            log.frozen.insert(key.clone());
        }
        What::Slow => log.slow = true,
        What::Forgets(lost) => log.forgets = Some(*lost),
        _ => {}
    }
    log.answer_is_lost |= matches!(what, What::Fails(Side::Behind, _) | What::Dies(Side::Behind));
    if operation == "AbortMultipartUpload" && matches!(what, What::Fails(..) | What::Dies(_)) {
        log.unended.insert(key);
    }
}

fn action(stage: &Arc<Stage>, op: &Op) -> Action {
    match &op.what {
        What::Fails(Side::Before, kind) => Action::FailBefore(*kind),
        What::Fails(Side::Behind, kind) => Action::FailAfter(*kind),
        What::Dies(side) => {
            let stage = Arc::clone(stage);
            let deed: Deeds = Arc::new(move || {
                let stage = Arc::clone(&stage);
                async move {
                    // The next one is at work already behind one that was frozen.
                    if !FROZEN.with(Cell::get) {
                        stage.gone.notify_one();
                    }
                    std::future::pending().await
                }
                .boxed()
            });
            match side {
                Side::Before => Action::Before(deed),
                Side::Behind => Action::After(deed),
            }
        }
        What::Freezes(_) => {
            let stage = Arc::clone(stage);
            Action::Before(Arc::new(move || {
                let stage = Arc::clone(&stage);
                async move {
                    if !FROZEN.with(|frozen| frozen.replace(true)) {
                        stage.gone.notify_one();
                        stage.thaws.notified().await;
                    }
                }
                .boxed()
            }))
        }
        What::LeaseEnds => {
            let stage = Arc::clone(stage);
            Action::Before(Arc::new(move || {
                stage.log().lease_over = true;
                async {}.boxed()
            }))
        }
        // The log knows, and the store below does it.
        What::Slow | What::Forgets(_) => Action::Delay(std::time::Duration::ZERO),
        What::Theirs(when, whose, deed) => theirs(stage, *when, *whose, deed.clone()),
    }
}

type Deeds = Arc<dyn Fn() -> futures::future::BoxFuture<'static, ()> + Send + Sync>;

fn theirs(stage: &Arc<Stage>, when: When, whose: Whose, deed: Deed) -> Action {
    let stage = Arc::clone(stage);
    let act: Deeds = Arc::new(move || {
        let (stage, deed) = (Arc::clone(&stage), deed.clone());
        let key = match whose {
            Whose::Named(key) => key.to_owned(),
            Whose::AtWork => stage.log().key.clone(),
        };
        if key.is_empty() {
            return async {}.boxed();
        }
        async move {
            match deed {
                Deed::Swap(n) => {
                    let Some(there) = stage.takes_away(&key, n).await else { return };
                    tokio::spawn(async move { stage.gives_back(&key, there).await });
                }
                deed if when == When::Within => drop(tokio::spawn(async move { stage.theirs(&key, &deed).await })),
                deed => stage.theirs(&key, &deed).await,
            }
        }
        .boxed()
    });
    if when == When::Behind { Action::After(act) } else { Action::Before(act) }
}
