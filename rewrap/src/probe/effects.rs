//! What a rotation sets off in a bucket beside what it writes: in what counts the age of objects, what copies them
//! elsewhere, who is told of writes, and what keeps every new version.

use keyrotate_proto::capability::Frozen;
use keyrotate_proto::estimate::Estimate;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::spec::JobSpec;
use keyrotate_store::{HeadRequest, LifecycleRule, ListFrom, ListRequest, ObjectAt, Reactions, Store};

/// What is known of one thing that may follow from a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing follows.
    None(String),
    /// This follows.
    Some {
        /// What.
        what: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The store does not let us see it.
    Unseen {
        /// What.
        what: &'static str,
        /// The right that shows it.
        right: &'static str,
    },
}

/// What follows from a rotation, as far as the bucket says it. Asks, and writes nothing.
pub async fn ask(store: &dyn Store, spec: &JobSpec, frozen: &Frozen) -> Vec<Effect> {
    let reactions = store.reactions(&spec.bucket).await.unwrap_or_default();
    let facts = if frozen.retains { store.bucket(&spec.bucket).await.ok() } else { None };
    let retention = facts.and_then(|facts| facts.default_retention);
    let mut effects = judge(retention.as_ref(), &reactions, Some(frozen));
    effects.extend(replica(store, spec).await);
    effects
}

/// What follows under a default retention and such reactions, where `frozen` is what was proven, if it was tried.
#[must_use]
pub fn judge(retention: Option<&(String, u32)>, reactions: &Reactions, frozen: Option<&Frozen>) -> Vec<Effect> {
    let mut effects: Vec<Effect> = retention.map(retained).into_iter().collect();
    effects.extend([lifecycle(reactions, frozen), replication(reactions), events(reactions)]);
    effects
}

/// Whether anything follows.
#[must_use]
pub fn follow(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Some { .. }))
}

/// What is said of it before a job begins: a line for each thing that follows, with how much it is about, and one for what
/// can't be seen.
#[must_use]
pub fn notes(effects: &[Effect], scope: Option<Estimate>) -> Vec<String> {
    let scope = scope.map(|scope| format!(" ({scope} in scope)")).unwrap_or_default();
    let (mut notes, mut unseen) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::None(_) => {}
            Effect::Some { what, mend } => notes.push(format!("{what}{scope}; what to do: {mend}")),
            Effect::Unseen { what, right } => unseen.push(format!("{what} ({right})")),
        }
    }
    if !unseen.is_empty() {
        notes.push(format!(
            "what follows from a rotation can't all be seen, for want of a right: {}",
            unseen.join(", ")
        ));
    }
    notes
}

fn retained((mode, days): &(String, u32)) -> Effect {
    Effect::Some {
        what: format!("each new version is kept for {days} days ({mode}): only `update-encryption` is used here"),
        mend: "take the default retention off while the rotation runs; name another bucket as `--probe-bucket`, since probe \
               objects would be kept, too",
    }
}

fn lifecycle(reactions: &Reactions, frozen: Option<&Frozen>) -> Effect {
    let Some(rules) = &reactions.lifecycle else {
        return Effect::Unseen { what: "lifecycle rules", right: "s3:GetLifecycleConfiguration" };
    };
    let by_age: Vec<String> = rules.iter().filter_map(by_age).collect();
    if by_age.is_empty() {
        return Effect::None("no lifecycle rule goes by the age of objects".to_owned());
    }
    let what = format!("lifecycle rules go by age: {}", by_age.join("; "));
    let uses = |wanted: fn(Strategy) -> bool| frozen.is_some_and(|f| f.proofs.iter().any(|p| wanted(p.strategy)));
    let mend = "nothing, if what is rotated may live that much longer: `copy` and `rewrite` give objects a new date, \
                `update-encryption` and `rewrite-in-place` keep it";
    if uses(|strategy| strategy == Strategy::UpdateEncryption) {
        return Effect::None(format!(
            "{what}; dates are kept where `update-encryption` is used, plaintext gets a new one"
        ));
    }
    if uses(Strategy::is_in_place) {
        return Effect::None(format!(
            "{what}; dates are kept, but for a millisecond, where objects are written in place"
        ));
    }
    let anew = if frozen.is_some() { "; the age of each rotated object starts anew" } else { "" };
    Effect::Some { what: format!("{what}{anew}"), mend }
}

fn by_age(rule: &LifecycleRule) -> Option<String> {
    let days = [
        rule.expires.map(|days| format!("expire after {days} days")),
        rule.moves.map(|days| format!("move to another class after {days} days")),
        rule.noncurrent_expires.map(|days| format!("older versions expire after {days} days")),
    ];
    let days: Vec<String> = days.into_iter().flatten().collect();
    let name = if rule.id.is_empty() { String::new() } else { format!("`{}`: ", rule.id) };
    let prefix = if rule.prefix.is_empty() { String::new() } else { format!(" (`{}`)", rule.prefix) };
    (!days.is_empty()).then(|| format!("{name}{}{prefix}", days.join(", ")))
}

fn replication(reactions: &Reactions) -> Effect {
    match reactions.replication.as_deref() {
        None => Effect::Unseen { what: "replication", right: "s3:GetReplicationConfiguration" },
        Some([]) => Effect::None("it is not replicated".to_owned()),
        Some(to) => Effect::Some {
            what: format!("it is replicated to {}: each rotated object is replicated again", to.join(", ")),
            mend: "plan for that traffic (`--rate` slows the rotation down); replicas elsewhere have keys of their own",
        },
    }
}

fn events(reactions: &Reactions) -> Effect {
    match reactions.events.as_deref() {
        None => Effect::Unseen { what: "event notifications", right: "s3:GetBucketNotification" },
        Some([]) => Effect::None("nobody is told of events".to_owned()),
        Some(to) => Effect::Some {
            what: format!("events go to {}: each rotated object may send one", to.join(", ")),
            mend: "tell whoever listens, or slow the rotation down with `--rate`",
        },
    }
}

/// Whether what lies here came from another bucket, by the first object of the scope.
async fn replica(store: &dyn Store, spec: &JobSpec) -> Option<Effect> {
    let (bucket, prefix) = (spec.bucket.clone(), spec.prefix.clone());
    let first = ListRequest { bucket, prefix, versions: false, from: ListFrom::Start, limit: 1, with_facts: false };
    let first = store.list(first).await.ok()?.entries.into_iter().next()?;
    let object = store.head(HeadRequest::of(&ObjectAt::current(&spec.bucket, &first.key))).await.ok()?;
    object.replica.then(|| Effect::Some {
        what: "objects here are replicas of another bucket's: what is rotated here stays as it is there, and the next write \
               there is replicated under the key that its replication rule names"
            .to_owned(),
        mend: "rotate the other bucket too, and change the key that the replication rule names",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::frozen;
    use keyrotate_proto::capability::{Proof, SourceKind};

    fn rules() -> Reactions {
        let rule =
            LifecycleRule { id: "old".into(), prefix: "logs/".into(), expires: Some(30), ..LifecycleRule::default() };
        Reactions { lifecycle: Some(vec![rule]), replication: Some(vec![]), events: Some(vec![]), server: None }
    }

    fn proven(strategy: Strategy) -> Frozen {
        let (source, keeps) = (SourceKind::SseKms, BTreeSet::new());
        let proof = Proof { strategy, source, multipart: false, guarded: true, keeps, noncurrent: false };
        Frozen { proofs: vec![proof], ..frozen() }
    }

    #[test]
    fn whether_an_age_starts_anew_depends_on_what_writes() {
        let said = |frozen: Option<Frozen>| judge(None, &rules(), frozen.as_ref()).remove(0);
        let rule = "lifecycle rules go by age: `old`: expire after 30 days (`logs/`)";
        for (strategy, kept) in [
            (
                Strategy::UpdateEncryption,
                "; dates are kept where `update-encryption` is used, plaintext gets a new one",
            ),
            (Strategy::RewriteInPlace, "; dates are kept, but for a millisecond, where objects are written in place"),
        ] {
            assert_eq!(said(Some(proven(strategy))), Effect::None(format!("{rule}{kept}")));
        }
        for strategy in [Strategy::Copy, Strategy::Rewrite] {
            let Effect::Some { what, .. } = said(Some(proven(strategy))) else { panic!("{strategy}") };
            assert_eq!(what, format!("{rule}; the age of each rotated object starts anew"));
        }
        let Effect::Some { what, .. } = said(None) else { panic!("nothing was proven") };
        assert_eq!(what, rule);
        let off = Reactions { lifecycle: Some(vec![LifecycleRule::default()]), ..rules() };
        assert!(matches!(judge(None, &off, None)[0], Effect::None(_)), "a rule that goes by nothing of ours");
    }

    #[test]
    fn what_is_hidden_is_named_with_the_right_that_shows_it() {
        let rights: Vec<_> = judge(None, &Reactions::default(), None)
            .into_iter()
            .map(|effect| match effect {
                Effect::Unseen { right, .. } => right,
                other => panic!("{other:?}"),
            })
            .collect();
        let all = ["s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:GetBucketNotification"];
        assert_eq!(rights, all);
    }

    #[test]
    fn a_note_says_how_much_it_is_about_and_what_is_hidden_is_one() {
        let to = Reactions { replication: Some(vec!["copies".into()]), ..rules() };
        let effects = judge(Some(&("GOVERNANCE".into(), 7)), &to, Some(&proven(Strategy::UpdateEncryption)));
        assert!(follow(&effects));
        let notes = notes(&effects, Some(Estimate { objects: 1_200, bytes: 3 << 30 }));
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("each new version is kept for 7 days (GOVERNANCE)"), "{notes:?}");
        let size = "each rotated object is replicated again (~1,200 objects with ~3.0 GiB in scope); what to do: plan";
        assert!(notes[1].contains(size), "{notes:?}");
        let hidden = judge(None, &Reactions::default(), None);
        assert!(!follow(&hidden));
        let notes = super::notes(&hidden, None);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("event notifications (s3:GetBucketNotification)"), "{notes:?}");
    }
}
