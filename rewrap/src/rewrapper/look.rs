//! Looking: from a line of a listing, or a name, to an outcome or a plan.

use keyrotate_proto::capability::{Proof, Versioning};
use keyrotate_proto::outcome::{FailReason, Outcome, SkipReason, Strategy};
use keyrotate_proto::row::Row;
use keyrotate_store::{Entry, ErrorKind, HeadRequest, ListFrom, ListRequest, ObjectAt, Sse, StoreError, know_newer};
use tokio::time::Instant;

use super::{Rewrapper, Rules, unwritten, wanted};
use crate::choose::{Choice, choose};
use crate::classify::{Doing, Meaning, classify, halt};
use crate::decide::{Decision, decide};
use crate::facts::{Facts, Shown};
use crate::halt::Halt;
use crate::plan::{Look, Plan};
use crate::strategy;

impl Rewrapper {
    /// The row of a listed entry that the listing alone decides; `None` where a look is needed. Asks the store nothing.
    #[must_use]
    pub fn settled_by_listing(&self, entry: &Entry) -> Option<Row> {
        let facts = Facts::listed(&self.rules.spec.bucket, entry);
        match decide(&self.rules, &facts) {
            _ if facts.latest && self.may_be_our_xml(facts.size) => None,
            Decision::Settle(outcome) => Some(unwritten(&facts, outcome, "")),
            Decision::Head | Decision::Tags | Decision::Write(_) => None,
        }
    }

    /// The row of a listed entry that is set aside, since workers came to an end over it. Asks the store nothing.
    #[must_use]
    pub fn set_aside(&self, entry: &Entry) -> Row {
        quarantined(&Facts::listed(&self.rules.spec.bucket, entry))
    }

    /// The same for one that was looked at, in the place of its write.
    #[must_use]
    pub fn set_aside_unwritten(&self, plan: &Plan) -> Row {
        quarantined(&plan.facts)
    }

    /// What becomes of one listed entry: settled at once, or it wants a write. Asks the store only for what the
    /// listing could not decide.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn look(&self, entry: &Entry) -> Result<Look, Halt> {
        self.look_at_listed(Facts::listed(&self.rules.spec.bucket, entry)).await
    }

    /// What the store says where it denies one of the calls by which a listed entry is looked at, before it is written too.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn denied(&self, entry: &Entry) -> Result<Option<String>, Halt> {
        match self.look(entry).await? {
            Look::Settled(row) if row.outcome == Outcome::Failed(FailReason::Denied) => Ok(Some(row.detail)),
            Look::Write(plan) if strategy::reads_tags(&self.rules.frozen, &plan) => {
                let read = self.store.tags(&plan.facts.at).await;
                Ok(read.err().filter(|error| error.kind == ErrorKind::Denied).map(|error| error.to_string()))
            }
            _ => Ok(None),
        }
    }

    /// The same where a holder that went without its last word may have had a write of it under way.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn look_in_doubt(&self, entry: &Entry) -> Result<Look, Halt> {
        self.look_at_listed(Facts::listed(&self.rules.spec.bucket, entry).in_doubt()).await
    }

    async fn look_at_listed(&self, mut facts: Facts) -> Result<Look, Halt> {
        let in_place = |proof: &Proof| proof.noncurrent && proof.strategy.is_in_place();
        if !facts.latest && facts.newer.is_none() && self.rules.frozen.proofs.iter().any(in_place) {
            facts.newer = self.find(&facts.at).await?.and_then(|entry| entry.newer);
        }
        match self.settle(facts).await? {
            Step::Look(look) => Ok(look),
            // Somebody wrote after the listing: its date is not the object's any more, which in place must be known.
            Step::Stale(facts) => match self.find(&facts.at).await? {
                Some(fresh) => {
                    let in_doubt = facts.in_doubt;
                    self.look_at(Facts { in_doubt, ..Facts::listed(&self.rules.spec.bucket, &fresh) }).await
                }
                None => Ok(Look::Settled(unwritten(&facts, Outcome::Skipped(SkipReason::Gone), ""))),
            },
        }
    }

    /// The same for a row of an earlier pass or a doubt of `verifying`: by key and version, always by HEAD. Whoever
    /// looks again may have written before.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn look_again(&self, at: &ObjectAt) -> Result<Look, Halt> {
        if !self.wants_listing() {
            let mut facts = Facts::nothing_known(at).in_doubt();
            return match self.head(&mut facts).await? {
                Some(look) => Ok(look),
                None => self.look_at(facts).await,
            };
        }
        match self.find(at).await? {
            Some(entry) => {
                let mut facts = Facts::listed(&self.rules.spec.bucket, &entry).in_doubt();
                if !facts.delete_marker
                    && let Some(gone) = self.head(&mut facts).await?
                {
                    return Ok(gone);
                }
                // Somebody wrote between the two: of theirs is to be known, too, what only a listing shows.
                if facts.listed.is_none() {
                    match self.find(at).await? {
                        Some(fresh) => facts = Facts::listed(&self.rules.spec.bucket, &fresh).in_doubt(),
                        None => return Ok(Look::Settled(unwritten(&facts, Outcome::Skipped(SkipReason::Gone), ""))),
                    }
                }
                self.look_at(facts).await
            }
            None => Ok(Look::Settled(unwritten(&Facts::nothing_known(at), Outcome::Skipped(SkipReason::Gone), ""))),
        }
    }

    /// Settles facts that are as fresh as they get.
    async fn look_at(&self, facts: Facts) -> Result<Look, Halt> {
        match self.settle(facts).await? {
            Step::Look(look) => Ok(look),
            Step::Stale(facts) => match self.settle(*facts).await? {
                Step::Look(look) => Ok(look),
                Step::Stale(facts) => {
                    Ok(Look::Settled(unwritten(&facts, Outcome::Conflict, "it changes all the time")))
                }
            },
        }
    }

    /// Asks and decides until nothing is left to ask.
    async fn settle(&self, mut facts: Facts) -> Result<Step, Halt> {
        let mut headed = false;
        let looked = Instant::now();
        self.trapped_before(&facts).await?;
        loop {
            let ask = match next(&self.rules, &facts) {
                Next::Settle(outcome, why) => return Ok(Step::Look(Look::Settled(unwritten(&facts, outcome, why)))),
                Next::Write { strategy, guarded, borrowed, why } => {
                    let plan = Plan { looked, ..self.plan(facts, strategy, guarded, borrowed, why) };
                    return Ok(Step::Look(Look::Write(Box::new(plan))));
                }
                Next::Ask(ask) => ask,
            };
            let was_listed = facts.listed.is_some();
            if let Some(look) = self.ask(ask, &mut facts).await? {
                return Ok(Step::Look(look));
            }
            if ask == Ask::Head {
                let stale = was_listed && facts.listed.is_none();
                if stale && !headed && self.wants_listing() {
                    return Ok(Step::Stale(Box::new(facts)));
                }
                headed = true;
            }
        }
    }

    /// Asks the store, and adds the answer; gives the outcome where it already is one.
    pub(super) async fn ask(&self, ask: Ask, facts: &mut Facts) -> Result<Option<Look>, Halt> {
        match ask {
            Ask::Head => return self.head(facts).await,
            Ask::Tags => match self.store.tags(&facts.at).await {
                Ok(tags) => facts.tags = Some(tags),
                Err(error) => return self.unread(facts, &error).map(Some),
            },
            Ask::Acl => match self.store.acl(&facts.at).await {
                Ok(acl) => {
                    let owner = self.rules.frozen.acl_owner.as_deref();
                    facts.plain_acl = Some(owner.is_some_and(|owner| acl.is_plain_of(owner)));
                }
                Err(error) => return self.unread(facts, &error).map(Some),
            },
            Ask::Below => facts.covers_null = Some(self.covers_null(&facts.at).await?),
        }
        Ok(None)
    }

    /// Adds what HEAD shows; gives the outcome where it already is one.
    async fn head(&self, facts: &mut Facts) -> Result<Option<Look>, Halt> {
        match self.store.head(HeadRequest::of(&facts.at)).await {
            Ok(object) => {
                facts.add(&object);
                Ok(None)
            }
            Err(error) if error.kind == ErrorKind::CustomerKey => {
                facts.shown = Some(Shown { sse: Sse::Customer, checksums: Some(Vec::new()), ..Shown::default() });
                Ok(None)
            }
            Err(error) => self.unread(facts, &error).map(Some),
        }
    }

    /// What a failed read makes of the object.
    fn unread(&self, facts: &Facts, error: &StoreError) -> Result<Look, Halt> {
        let (outcome, detail) = match classify(error, Doing::Reading) {
            Meaning::Halt(halt) => return Err(halt),
            Meaning::Outcome(outcome) => {
                (outcome, if outcome.wants_retry() { error.to_string() } else { String::new() })
            }
            Meaning::Changed => (Outcome::Conflict, error.to_string()),
        };
        Ok(Look::Settled(unwritten(facts, outcome, detail)))
    }

    fn plan(&self, facts: Facts, strategy: Strategy, guarded: bool, borrowed: bool, why: String) -> Plan {
        let wanted = wanted(&self.rules.frozen.target, &facts, self.rules.spec.options.bucket_key);
        let unreadable = !crate::decide::is_current(&self.rules, &wanted);
        let adds_version = self.adds_version(&facts, strategy);
        let needs_intent = unreadable || adds_version || !guarded || strategy.uploads();
        tracing::debug!(%strategy, %why, "chosen");
        let plan = Plan::new(facts, strategy, wanted, why, self.env.now());
        // No probe is ever locked, since nobody could remove it, and none lies under the target key before.
        let same_key = crate::decide::is_under_target(&self.rules.frozen.target, plan.sse_before());
        let untried = borrowed || same_key || plan.lock.is_locked();
        let loses_checksum = crate::choose::loses_checksum(&self.rules, &plan.facts, strategy);
        Plan { needs_intent, adds_version, guarded, untried, loses_checksum, ..plan }
    }

    /// Whether the write adds a version, and the one that is there stays. In a suspended bucket the version `null` is
    /// replaced.
    fn adds_version(&self, facts: &Facts, strategy: Strategy) -> bool {
        let keeps = match self.rules.frozen.versioning {
            Versioning::Off => false,
            Versioning::Enabled => true,
            Versioning::Suspended => facts.at.version.as_deref() != Some("null"),
        };
        keeps && !strategy.keeps_version()
    }

    /// Whether a name alone is not enough: which version is the newest, the date to the millisecond and an object's
    /// own context stand only in a listing.
    pub(super) fn wants_listing(&self) -> bool {
        let frozen = &self.rules.frozen;
        let in_place = frozen.proofs.iter().any(|proof| proof.strategy.is_in_place());
        frozen.versioning.has_versions() || frozen.listing_facts || in_place
    }

    /// The line of a listing about one object; about the newest version where none is named.
    pub(super) async fn find(&self, at: &ObjectAt) -> Result<Option<Entry>, Halt> {
        let mut versions = self.versions(at).await?;
        Ok(match &at.version {
            Some(id) => versions.into_iter().find(|e| e.version.as_ref() == Some(id)),
            None if versions.is_empty() => None,
            None => Some(versions.swap_remove(0)),
        })
    }

    /// Whether the version `null` of its key lies below a version.
    async fn covers_null(&self, at: &ObjectAt) -> Result<bool, Halt> {
        let null = at.at_version(Some("null".into()));
        let versions = self.versions(&null).await?;
        let is = |id: &Option<String>| versions.iter().position(|entry| entry.version == *id);
        Ok(is(&null.version).is_some_and(|place| is(&at.version).is_none_or(|above| above < place)))
    }

    /// All lines of a listing about one key, down to the named version, newest first.
    pub(super) async fn versions(&self, at: &ObjectAt) -> Result<Vec<Entry>, Halt> {
        let mut from = ListFrom::Start;
        let mut found = Vec::new();
        loop {
            let request = ListRequest {
                bucket: at.bucket.clone(),
                prefix: at.key.clone(),
                versions: self.rules.frozen.versioning.has_versions(),
                from,
                limit: if at.version.is_some() { 100 } else { 2 },
                with_facts: self.rules.frozen.listing_facts,
            };
            let page = self.store.list(request).await.map_err(|e| halt(&e))?;
            for entry in page.entries {
                if entry.key != at.key {
                    return Ok(found);
                }
                let last = at.version.is_none() || entry.version == at.version;
                found.push(entry);
                if last {
                    know_newer(&mut found);
                    return Ok(found);
                }
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(found),
            }
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "one lives at a time, and nearly all of them are looks")]
enum Step {
    Look(Look),
    /// HEAD shows another object than the listing did.
    Stale(Box<Facts>),
}

/// What to do about a version next, as far as its facts tell.
pub(super) enum Next {
    Settle(Outcome, String),
    Write { strategy: Strategy, guarded: bool, borrowed: bool, why: String },
    Ask(Ask),
}

/// What to ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Head,
    Tags,
    Acl,
    Below,
}

/// Decides and chooses; pure.
pub(super) fn next(rules: &Rules, facts: &Facts) -> Next {
    match decide(rules, facts) {
        Decision::Settle(outcome) => Next::Settle(outcome, String::new()),
        Decision::Head => Next::Ask(Ask::Head),
        Decision::Tags => Next::Ask(Ask::Tags),
        Decision::Write(kind) => match choose(rules, facts, kind) {
            Choice::Head => Next::Ask(Ask::Head),
            Choice::Acl => Next::Ask(Ask::Acl),
            Choice::Below => Next::Ask(Ask::Below),
            Choice::Skip { reason, why } => Next::Settle(Outcome::Skipped(reason), why),
            Choice::Use { strategy, guarded, borrowed, why } => Next::Write { strategy, guarded, borrowed, why },
        },
    }
}

fn quarantined(facts: &Facts) -> Row {
    let reason = FailReason::Quarantined;
    unwritten(facts, Outcome::Failed(reason), reason.explain())
}
