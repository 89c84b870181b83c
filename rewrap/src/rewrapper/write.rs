//! Writing: the strategy, a second try where the first was never answered, the read-back by HEAD.

use std::time::Duration;

use keyrotate_proto::outcome::{Evidence, FailReason, Note, Outcome, SkipReason, Strategy};
use keyrotate_proto::row::Row;
use keyrotate_proto::state::StopReason;
use keyrotate_store::{ErrorKind, GetRequest, HeadRequest, Object, ObjectAt, Sse, StoreError, Upload};
use tokio::time::Instant;

use super::{Rewrapper, unwritten, whole};
use crate::bodies;
use crate::classify::{Doing, Meaning, classify, halt};
use crate::facts::{is_marker, parts_of};
use crate::halt::Halt;
use crate::plan::{Interrupted, Look, Plan, Settled, Unread};
use crate::readback::{Expected, Mismatch, ReadBack, Seen, compare};
use crate::strategy::{self, Digest, Sent, Trouble};

/// How often an object that somebody else changes is looked at anew before it is a conflict.
const ROUNDS: u32 = 3;

/// How often a write that was never answered is sent.
const TRIES: u32 = 2;

/// So long one that was throttled is sent again, where the store's own retries give it back at once, and the waits between.
const THROTTLED: Duration = Duration::from_secs(20);
const FIRST_WAIT: Duration = Duration::from_millis(125);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What came of one attempt.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, and nearly all of them are rows")]
pub(super) enum Attempt {
    Settled(Settled),
    /// Somebody else changed the object; our write did not happen, or theirs came after it.
    Changed(String),
}

/// What came of sending.
#[expect(clippy::large_enum_variant, reason = "one lives at a time")]
enum Sending {
    Sent(Box<Sent>),
    Changed(String),
    Ended(Row),
}

/// Whose the object is, after a write that was never answered.
enum Whose {
    Ours(Box<Sent>),
    Old,
    Other(String),
}

impl Rewrapper {
    /// Opens the multipart upload of a plan that needs one, so that its id can stand in the intent before anything is
    /// copied. Does nothing for other plans. Without this call [`Rewrapper::write`] opens it itself, and ends it
    /// itself when the write does not come about.
    ///
    /// # Errors
    /// What says nothing about the object.
    pub async fn open(&self, plan: &mut Plan) -> Result<(), Halt> {
        if !plan.strategy.uploads() || plan.upload.is_some() {
            return Ok(());
        }
        self.may_write()?;
        if let Err(trouble) = strategy::open(self.store.as_ref(), &self.rules.frozen, plan).await {
            plan.unheard_upload = matches!(&trouble, Trouble::Writing(error) if error.kind.is_ambiguous());
            // What it says about the object, the write will find again.
            return only_halt(&trouble);
        }
        plan.upload.iter_mut().for_each(|upload| upload.recorded = true);
        Ok(())
    }

    /// Makes the write.
    ///
    /// # Errors
    /// What says nothing about the object, and what must stop the job; and with it whether the write was made.
    pub async fn write(&self, mut plan: Box<Plan>) -> Result<Settled, Interrupted> {
        for round in 1.. {
            let detail = match self.attempt(&mut plan).await? {
                Attempt::Settled(settled) => return Ok(settled),
                Attempt::Changed(detail) => detail,
            };
            match self.look_again(&plan.facts.at).await? {
                Look::Settled(row) => return Ok(Settled::Row(row)),
                // A plan whose intent was never put down is left to a later pass.
                Look::Write(next) if round >= ROUNDS || next.needs_intent => {
                    return Ok(Settled::Row(unwritten(&next.facts, Outcome::Conflict, detail)));
                }
                Look::Write(next) => plan = next,
            }
        }
        unreachable!("the rounds are bounded")
    }

    async fn attempt(&self, plan: &mut Box<Plan>) -> Result<Attempt, Interrupted> {
        let updates = plan.strategy == Strategy::UpdateEncryption;
        let first_update = if updates { self.first_updates.turn().await } else { None };
        let first_untried = if plan.untried { self.first_untried.turn().await } else { None };
        let one_by_one = first_update.is_some() || first_untried.is_some();

        let sampled = self.sample.takes(&self.rules, &self.env, plan.strategy, plan.facts.size);
        plan.hashes = sampled && plan.strategy.puts();
        let mut before = None;
        if sampled && !plan.hashes {
            match self.digest(&plan.facts.at, plan.facts.guard(), Doing::Reading).await? {
                Ok(digest) => before = Some(digest),
                // In its archive the store can change its key, and nobody can read it.
                Err(Meaning::Outcome(Outcome::Skipped(SkipReason::Archived))) if updates => {}
                Err(meaning) => {
                    self.end_upload(plan).await;
                    return Ok(match meaning {
                        Meaning::Outcome(outcome) => row(unwritten(&plan.facts, outcome, "its body can't be read")),
                        _ => Attempt::Changed("it changed after it was looked at".into()),
                    });
                }
            }
        }
        let sent = match self.send(plan).await? {
            Sending::Sent(sent) => sent,
            Sending::Changed(detail) => return Ok(Attempt::Changed(detail)),
            Sending::Ended(ended) => return Ok(row(ended)),
        };
        plan.written = Some(Instant::now());
        before = before.or(sent.digest);
        let by_page = self.rules.frozen.listing_facts
            && !(one_by_one || plan.adds_version || is_marker(plan.key()))
            && before.is_none();
        if by_page {
            let unread = Unread { plan: plan.clone(), expected: sent.expected };
            return Ok(Attempt::Settled(Settled::Unread(Box::new(unread))));
        }
        let confirmed = self.confirm(plan, &sent.expected, before).await;
        let attempt = confirmed.map_err(|halt| Interrupted::after(halt, plan, &sent.expected))?;
        if let Attempt::Settled(Settled::Row(Row { outcome: Outcome::Rotated(_), .. })) = &attempt {
            if updates {
                self.first_updates.right();
            }
            if plan.untried {
                self.first_untried.right();
            }
        }
        Ok(attempt)
    }

    /// Sends, and decides about a write that was never answered by looking.
    async fn send(&self, plan: &mut Plan) -> Result<Sending, Halt> {
        let mut last = None;
        let (mut tries, began, mut wait) = (0, Instant::now(), FIRST_WAIT);
        while tries < TRIES {
            self.may_write()?;
            let trouble = match strategy::run(self.store.as_ref(), &self.rules.frozen, plan, None).await {
                Ok(sent) => return Ok(Sending::Sent(Box::new(sent))),
                Err(trouble) => trouble,
            };
            let kind = if let Trouble::Writing(error) = &trouble { Some(error.kind) } else { None };
            // Of a write that was throttled it is not certain either that it was not done.
            let throttled = kind == Some(ErrorKind::Throttled);
            let unanswered = throttled || kind.is_some_and(ErrorKind::is_ambiguous);
            if unanswered || plan.unanswered > 0 {
                match self.whose(plan).await? {
                    Whose::Ours(sent) => return Ok(Sending::Sent(sent)),
                    Whose::Other(detail) => return self.give_up(plan, Trouble::Changed(detail)).await,
                    Whose::Old => {}
                }
            }
            if !unanswered || throttled && began.elapsed() >= THROTTLED {
                return self.give_up(plan, trouble).await;
            }
            if throttled {
                tokio::time::sleep(wait).await;
                wait = LONGEST_WAIT.min(wait * 2);
            } else {
                tries += 1;
            }
            plan.unanswered += 1;
            if plan.strategy.is_in_place() && plan.wanted == Sse::S3 {
                let detail = "a write of ours was not answered, and a second one would not refuse it";
                return self.give_up(plan, Trouble::Changed(detail.into())).await;
            }
            last = Some(trouble);
        }
        let last = last.unwrap_or_else(|| Trouble::Changed("it was never sent".into()));
        self.give_up(plan, last).await
    }

    /// Ends an attempt that wrote nothing, and its upload.
    async fn give_up(&self, plan: &mut Plan, trouble: Trouble) -> Result<Sending, Halt> {
        let ended = self.what_ended(plan, trouble).await;
        // Where the slice is given back, the next holder goes on with an upload that it can know of. No one else would.
        let goes_on = ended.is_err() && plan.upload.as_ref().is_some_and(|upload| upload.recorded);
        if !goes_on {
            self.end_upload(plan).await;
        }
        ended
    }

    /// Ends the plan's upload, where it has one.
    async fn end_upload(&self, plan: &mut Plan) {
        if let Some(upload) = plan.upload.take() {
            let (bucket, key) = (plan.facts.at.bucket.clone(), plan.facts.at.key.clone());
            self.abort(&Upload { bucket, key, id: upload.id }).await;
        }
    }

    /// Ends an upload of ours.
    pub(super) async fn abort(&self, upload: &Upload) {
        if let Err(error) = self.store.abort_upload(upload).await {
            // The store's own words may name the object.
            tracing::warn!(kind = error.kind.word(), "an upload of ours could not be aborted");
            tracing::debug!(%error, "an upload of ours could not be aborted");
        }
    }

    /// What an attempt that wrote nothing says about the object.
    async fn what_ended(&self, plan: &Plan, trouble: Trouble) -> Result<Sending, Halt> {
        let (error, doing) = match trouble {
            Trouble::Changed(detail) => return Ok(Sending::Changed(detail)),
            Trouble::Reading(error) => (error, Doing::Reading),
            Trouble::Writing(error) => (error, Doing::Writing),
        };
        let ended = |outcome: Outcome| {
            let strategy = Some(plan.strategy).filter(|_| outcome.wants_retry());
            Row { strategy, ..unwritten(&plan.facts, outcome, error.to_string()) }
        };
        if doing == Doing::Writing && error.kind == ErrorKind::KmsKeyNotFound && self.source_key_is_gone(plan).await {
            return Ok(Sending::Ended(ended(Outcome::Failed(FailReason::KeyGone))));
        }
        match classify(&error, doing) {
            Meaning::Halt(halt) => Err(halt),
            Meaning::Changed => Ok(Sending::Changed(error.to_string())),
            Meaning::Outcome(outcome) => Ok(Sending::Ended(ended(outcome))),
        }
    }

    /// A copy needs both keys, and the store does not say which one it misses.
    async fn source_key_is_gone(&self, plan: &Plan) -> bool {
        let range = (plan.facts.size > 0).then_some((0, 1));
        let read = self.store.get(GetRequest { range, ..GetRequest::of(&plan.facts.at) }).await;
        matches!(read, Err(error) if error.kind == ErrorKind::KmsKeyNotFound)
    }

    /// Looks whose the object is, after a write that was never answered.
    async fn whose(&self, plan: &Plan) -> Result<Whose, Halt> {
        let mut expected = strategy::expected_unanswered(plan);
        let at = self.place_after(plan, &expected);
        let seen = match self.seen(&at).await? {
            Ok(seen) => seen,
            Err(error) => {
                self.trap(plan, false).await?;
                return Ok(Whose::Other(error.to_string()));
            }
        };
        if plan.strategy.is_in_place() {
            // The date to the millisecond tells ours from all others.
            let date = self.find(&plan.facts.at).await?.map(|e| e.last_modified);
            if date.is_some() && date == plan.facts.listed {
                return Ok(Whose::Old);
            }
            if date != strategy::next_date(plan) {
                return Ok(Whose::Other("somebody wrote while a write of ours was not answered".into()));
            }
        } else if is_old(plan, &seen) {
            // The version is as it was, and yet a new one of XML may lie above it.
            self.trap(plan, false).await?;
            return Ok(Whose::Old);
        }
        // A listing does not show these, so of them nothing is known that could be compared.
        if plan.facts.shown.as_ref().is_some_and(|shown| !shown.by_head()) {
            expected.headers.expires.clone_from(&seen.headers.expires);
            expected.headers.website_redirect.clone_from(&seen.headers.website_redirect);
        }
        match compare(plan.key(), &expected, &seen) {
            Ok(_) => {
                expected.etag = Some(seen.etag);
                expected.version = seen.version;
                Ok(Whose::Ours(Box::new(Sent { expected, digest: None })))
            }
            Err(Mismatch::Replaced(what) | Mismatch::Wrong(what) | Mismatch::Tags(what)) => {
                self.trap(plan, true).await?;
                Ok(Whose::Other(what))
            }
        }
    }

    /// Reads back by HEAD, and the body where it was hashed before.
    pub(super) async fn confirm(
        &self,
        plan: &Plan,
        expected: &Expected,
        before: Option<Digest>,
    ) -> Result<Attempt, Halt> {
        let at = self.place_after(plan, expected);
        let mut seen = match self.seen(&at).await? {
            Ok(seen) => seen,
            Err(error) => {
                self.trap(plan, false).await?;
                return Ok(Attempt::Changed(error.to_string()));
            }
        };
        if expected.tags.as_ref().is_some_and(|sent| !sent.is_empty()) {
            match self.store.tags(&at).await {
                Ok(tags) => seen.tags = Some(tags),
                Err(error) => return self.unconfirmed(plan, &error),
            }
        }
        let proof = match compare(plan.key(), expected, &seen) {
            Ok(proof) => proof,
            Err(mismatch) => {
                self.trap(plan, true).await?;
                return Ok(differs(plan, &seen, mismatch));
            }
        };
        if let Some(before) = before
            && let Some(other) = self.same_body(plan, &at, &seen, before).await?
        {
            return Ok(other);
        }
        let rotated = rotated(plan, expected, &seen, &proof);
        if plan.adds_version {
            self.added(plan, expected.tags.as_ref(), &seen, rotated).await.map(row)
        } else {
            Ok(row(rotated))
        }
    }

    /// The body after the write, against its hash before; gives an outcome where there is no comparison to be had.
    async fn same_body(
        &self,
        plan: &Plan,
        at: &ObjectAt,
        seen: &Seen,
        before: Digest,
    ) -> Result<Option<Attempt>, Halt> {
        for tries in 1..=TRIES {
            let error = match bodies::digest(self.store.as_ref(), at, &seen.etag).await {
                Ok(after) if after == before => return Ok(None),
                // Of such a key it may be one that somebody put for a moment.
                Ok(_) if is_marker(&at.key) && tries < TRIES => continue,
                Ok(_) => {
                    let what = named(plan.strategy, at, "its body differs before and after");
                    return Err(self.stop(StopReason::BodyChanged, what));
                }
                Err(error) => error,
            };
            match classify(&error, Doing::Writing) {
                Meaning::Halt(halt) => return Err(halt),
                // Somebody else wrote after us: there is nothing left to compare.
                Meaning::Changed => return Ok(None),
                Meaning::Outcome(_) if error.kind.is_transient() => self.is_up(at).await?,
                Meaning::Outcome(_) => break,
            }
        }
        let failed = Outcome::Failed(FailReason::ReadBack);
        Ok(Some(row(written(plan, seen, failed, "its body can't be read after the write".into()))))
    }

    /// Whether it is the object that can't be read, or the store that does not answer: that says nothing about it.
    async fn is_up(&self, at: &ObjectAt) -> Result<(), Halt> {
        match self.store.head(HeadRequest::of(at)).await {
            Err(error) if error.kind.is_transient() => Err(halt(&error)),
            _ => Ok(()),
        }
    }

    /// Where the object stands after the write.
    fn place_after(&self, plan: &Plan, expected: &Expected) -> ObjectAt {
        let version =
            if plan.strategy.keeps_version() { plan.facts.at.version.clone() } else { expected.version.clone() };
        let versioned = self.rules.frozen.versioning.has_versions();
        plan.facts.at.at_version(version.filter(|_| versioned))
    }

    async fn seen(&self, at: &ObjectAt) -> Result<Result<Seen, StoreError>, Halt> {
        Ok(self.headed(at).await?.map(Seen::headed))
    }

    /// What HEAD shows, or why it shows nothing of the object.
    pub(super) async fn headed(&self, at: &ObjectAt) -> Result<Result<Object, StoreError>, Halt> {
        match self.store.head(HeadRequest::of(at)).await {
            Ok(object) => Ok(Ok(object)),
            Err(error) => match classify(&error, Doing::Reading) {
                Meaning::Halt(halt) => Err(halt),
                _ => Ok(Err(error)),
            },
        }
    }

    fn unconfirmed(&self, plan: &Plan, error: &StoreError) -> Result<Attempt, Halt> {
        match classify(error, Doing::Reading) {
            Meaning::Halt(halt) => Err(halt),
            Meaning::Outcome(Outcome::Failed(_)) => {
                let failed = Outcome::Failed(FailReason::ReadBack);
                Ok(row(Row { strategy: Some(plan.strategy), ..unwritten(&plan.facts, failed, error.to_string()) }))
            }
            _ => Ok(Attempt::Changed(error.to_string())),
        }
    }

    async fn digest(&self, at: &ObjectAt, etag: &str, doing: Doing) -> Result<Result<Digest, Meaning>, Halt> {
        match bodies::digest(self.store.as_ref(), at, etag).await {
            Ok(digest) => Ok(Ok(digest)),
            Err(error) => match classify(&error, doing) {
                Meaning::Halt(halt) => Err(halt),
                meaning => Ok(Err(meaning)),
            },
        }
    }
}

fn row(row: Row) -> Attempt {
    Attempt::Settled(Settled::Row(row))
}

/// Halts where the trouble does; what it says about an object is not asked here.
pub(super) fn only_halt(trouble: &Trouble) -> Result<(), Halt> {
    let (error, doing) = match trouble {
        Trouble::Changed(_) => return Ok(()),
        Trouble::Reading(error) => (error, Doing::Reading),
        Trouble::Writing(error) => (error, Doing::Writing),
    };
    match classify(error, doing) {
        Meaning::Halt(halt) => Err(halt),
        _ => Ok(()),
    }
}

/// Whether the object is as it was before a write that was never answered.
fn is_old(plan: &Plan, seen: &Seen) -> bool {
    let facts = &plan.facts;
    let same_version = facts.at.version.is_none() || seen.version.is_none() || facts.at.version == seen.version;
    let same_seal = facts.seal() == seen.sse.seal();
    let same_etag = facts.guard() == seen.etag;
    same_version && same_seal && same_etag && facts.last_modified.as_second() == seen.last_modified.as_second()
}

/// What a read-back that differs makes of the object.
fn differs(plan: &Plan, seen: &Seen, mismatch: Mismatch) -> Attempt {
    match mismatch {
        Mismatch::Replaced(what) => Attempt::Changed(what),
        // Nothing came of the write, whatever its answer said: a later pass may try it again.
        Mismatch::Wrong(what) if is_old(plan, seen) && plan.wanted.seal() != plan.facts.seal() => {
            let row = unwritten(&plan.facts, Outcome::Failed(FailReason::Store), format!("after a good answer {what}"));
            Attempt::Settled(Settled::Row(Row { strategy: Some(plan.strategy), ..row }))
        }
        Mismatch::Wrong(what) => row(written(plan, seen, Outcome::Failed(FailReason::ReadBack), what)),
        Mismatch::Tags(what) => row(written(plan, seen, Outcome::Conflict, what)),
    }
}

/// A row `rotated`, which only a proof makes.
pub(super) fn rotated(plan: &Plan, expected: &Expected, seen: &Seen, proof: &ReadBack) -> Row {
    let mut row = written(plan, seen, proof.outcome(), String::new());
    let had_checksum = plan.facts.shown.as_ref().is_some_and(|s| s.checksums.iter().flatten().count() > 0);
    row.notes.extend((plan.loses_checksum && had_checksum).then_some(Note::ChecksumLost));
    let other_parts = plan.facts.is_multipart() && plan.facts.parts() != parts_of(&seen.etag);
    row.notes.extend(other_parts.then_some(Note::PartsLost));
    // Listings show the ETag that the write answered, HEAD of a directory marker another one.
    if let Some(etag) = &expected.etag {
        row.etag.clone_from(etag);
    }
    row
}

/// What the row of a write will be that nobody has read back yet, if the object is as it was written.
pub(crate) fn presumed(plan: &Plan, expected: &Expected) -> Row {
    let after = expected.version.clone().filter(|after| plan.facts.at.version.as_ref().is_some_and(|b| b != after));
    let unwritten = unwritten(&plan.facts, Outcome::Rotated(Evidence::Write), "");
    Row {
        version_after: after,
        size: expected.size,
        strategy: Some(plan.strategy),
        after: expected.sse.seal(),
        etag: expected.etag.clone().unwrap_or_else(|| unwritten.etag.clone()),
        ..unwritten
    }
}

/// A row of an object that was written.
fn written(plan: &Plan, seen: &Seen, outcome: Outcome, detail: String) -> Row {
    let version_after = seen.version.clone().filter(|after| plan.facts.at.version.as_ref().is_some_and(|b| b != after));
    Row {
        version_after,
        size: seen.size,
        outcome,
        strategy: Some(plan.strategy),
        after: seen.sse.seal(),
        etag: seen.etag.clone(),
        last_modified: whole(seen.last_modified),
        detail,
        ..unwritten(&plan.facts, outcome, "")
    }
}

pub(super) fn named(strategy: Strategy, at: &ObjectAt, what: &str) -> String {
    let version = at.version.as_ref().map(|v| format!(" version {v}")).unwrap_or_default();
    format!("{}/{}{version}, written by {strategy}: {what}", at.bucket, at.key)
}
