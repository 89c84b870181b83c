//! What may happen to a shard: lease, renew, commit, give back, finish, split, expire, abandon.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_env::Safeguard;
use keyrotate_proto::id::{Epoch, ShardId, ShardRef};
use keyrotate_proto::outcome::Counts;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::state::PassKind;

use super::{Refusal, may_lease, order, within};
use crate::record::{Asked, JobRecord, MAX_AHEAD, MAX_CHARGES, PassRecord, ShardRecord, ShardState};

/// Somebody asks for a lease.
#[derive(Clone, Debug)]
pub struct LeaseAsk<'a> {
    /// Who.
    pub owner: &'a str,
    /// Random, for this ask only.
    pub token: &'a str,
    /// The epoch that the ticket carries.
    pub ticket_epoch: &'a Epoch,
    /// Whether the broker says that the ticket was delivered before.
    pub redelivered: bool,
    /// How long.
    pub ttl: Duration,
}

/// What a holder shows with everything it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The epoch of its lease.
    pub epoch: Epoch,
    /// The random word of its lease.
    pub token: String,
}

/// What a window made of the shard. All values are the shard's totals after it, so that committing it twice counts
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Everything up to here has a row in a part.
    pub cursor: Position,
    /// Sum of all rows of the shard.
    pub counts: Counts,
    /// Sum of all earlier rows that they replace.
    pub replaced: Counts,
    /// See [`ShardRecord::listed`].
    pub listed: u64,
    /// Name of the shard's last part.
    pub last_part: Option<String>,
    /// How many parts the shard has.
    pub parts: u64,
}

impl Commit {
    /// A commit that changes nothing yet.
    #[must_use]
    pub fn of(record: &ShardRecord) -> Self {
        Self {
            cursor: record.cursor.clone(),
            counts: record.counts.clone(),
            replaced: record.replaced.clone(),
            listed: record.listed,
            last_part: record.last_part.clone(),
            parts: record.parts,
        }
    }

    /// Whether the record already says just this.
    fn stands_in(&self, record: &ShardRecord) -> bool {
        self.cursor == record.cursor
            && self.counts == record.counts
            && self.replaced == record.replaced
            && self.listed == record.listed
            && self.last_part == record.last_part
            && self.parts == record.parts
    }
}

/// Characters of a reason that a record keeps.
const LONGEST_WHY: usize = 500;

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// The slice is over, or something outside keeps it from going on: charges nothing.
    GivenBack,
    /// It ran out, or the process is gone: charges the shard unless it got on.
    Lost,
    /// The source itself could not be listed, and why: charges the shard; the third time it is abandoned.
    Unlisted(&'a str),
}

/// Gives the shard to somebody: epoch + 1.
///
/// # Errors
/// When it is over, held by a lease that stands, or the job's state or pass does not allow it.
pub fn lease(job: &JobRecord, shard: &ShardRecord, ask: &LeaseAsk<'_>, now: Timestamp) -> Result<ShardRecord, Refusal> {
    let pass = open_pass(job, shard)?;
    if shard.state.is_over() {
        return Err(Refusal::ShardOver);
    }
    if !may_lease(&job.state, pass.kind) {
        return Err(Refusal::WrongState { state: job.state.word(), what: "lease" });
    }
    if pass.kind.has_rows() && !job.scope().covers(&shard.range) {
        return Err(Refusal::OutOfScope);
    }
    if let Some(at) = pass.not_before.filter(|at| now < *at) {
        return Err(Refusal::NotBefore(at));
    }
    let mut next = match &shard.state {
        ShardState::Leased { until, token, .. } if token != ask.token => {
            let fenced = shard.is_fenced_off(job);
            if now <= *until && !fenced && !holder_is_gone(job, shard, ask) {
                return Err(Refusal::Held { until: *until });
            }
            in_doubt(ended(shard, if fenced { End::GivenBack } else { End::Lost }))
        }
        ShardState::Leased { .. } => return Ok(shard.clone()),
        _ => shard.clone(),
    };
    if next.state.is_over() {
        return Err(Refusal::ShardOver);
    }
    next.epoch = Epoch { nonce: job.nonce.clone(), counter: shard.epoch.counter + 1 };
    next.state = ShardState::Leased {
        owner: ask.owner.to_owned(),
        token: ask.token.to_owned(),
        until: later(now, ask.ttl),
        progressed: false,
    };
    next.ticket_out_until = None;
    next.last_holder = Some(ask.owner.to_owned());
    Ok(next)
}

/// Whether the standing lease's holder lost its connection: the broker delivers again the very ticket that it took
/// the lease with. Only where every write is guarded, for it may still be writing.
fn holder_is_gone(job: &JobRecord, shard: &ShardRecord, ask: &LeaseAsk<'_>) -> bool {
    ask.redelivered
        && !job.spec.options.allow_unguarded
        && ask.ticket_epoch.nonce == shard.epoch.nonce
        && ask.ticket_epoch.counter + 1 == shard.epoch.counter
}

/// Makes the lease longer, if the job's state still allows the work. `got_on`: a part of a recorded upload was added
/// under it, which is progress although the cursor stands.
///
/// # Errors
/// When the lease is not the newest, or ran out.
pub fn renew(
    job: &JobRecord,
    shard: &ShardRecord,
    fence: &Fence,
    got_on: bool,
    ttl: Duration,
    now: Timestamp,
) -> Result<ShardRecord, Refusal> {
    check(job, shard, fence, now)?;
    let next = extended(job, shard, ttl, now);
    Ok(if got_on { progressed(next) } else { next })
}

/// Records a window: the only way a cursor moves.
///
/// # Errors
/// When the lease is not the newest or ran out, the cursor goes back or leaves the range, or the counts do not
/// follow from the parts.
pub fn commit(
    job: &JobRecord,
    shard: &ShardRecord,
    fence: &Fence,
    commit: &Commit,
    ttl: Duration,
    now: Timestamp,
) -> Result<ShardRecord, Refusal> {
    check(job, shard, fence, now)?;
    if commit.stands_in(shard) {
        return Ok(extended(job, shard, ttl, now));
    }
    if order(&commit.cursor, &shard.cursor) == Some(Ordering::Less) {
        return Err(Refusal::CursorBack);
    }
    if !within(&commit.cursor, &shard.range) && Safeguard::End.stands() {
        return Err(Refusal::CursorOutside);
    }
    check_counts(shard, commit)?;
    let mut next = extended(job, shard, ttl, now);
    if commit.cursor != shard.cursor {
        next = progressed(next);
    }
    next.cursor = commit.cursor.clone();
    next.counts = commit.counts.clone();
    next.replaced = commit.replaced.clone();
    next.listed = commit.listed;
    next.last_part.clone_from(&commit.last_part);
    next.parts = commit.parts;
    Ok(next)
}

fn check_counts(shard: &ShardRecord, commit: &Commit) -> Result<(), Refusal> {
    let new_part = commit.parts > shard.parts;
    let same_rows = commit.counts == shard.counts && commit.replaced == shard.replaced;
    let fewer = commit.counts.scanned() < shard.counts.scanned()
        || commit.replaced.scanned() < shard.replaced.scanned()
        || commit.listed < shard.listed;
    let named = commit.last_part != shard.last_part && commit.last_part.is_some();
    if fewer || commit.parts < shard.parts || new_part != named || !(new_part || same_rows) {
        return Err(Refusal::Counts);
    }
    // A cursor that stands still has no new rows.
    if commit.cursor == shard.cursor && !same_rows { Err(Refusal::Counts) } else { Ok(()) }
}

/// Ends a lease before the shard is worked through. A shard that this lease no longer holds stays as it is.
///
/// # Errors
/// When the lease is not the newest.
pub fn give_back(job: &JobRecord, shard: &ShardRecord, fence: &Fence, end: End<'_>) -> Result<ShardRecord, Refusal> {
    check_fence(job, shard, fence)?;
    Ok(ended(shard, end))
}

/// Ends a shard that is worked through.
///
/// # Errors
/// When the lease is not the newest or ran out, or the cursor is not at the end.
pub fn finish(job: &JobRecord, shard: &ShardRecord, fence: &Fence, now: Timestamp) -> Result<ShardRecord, Refusal> {
    // Its lease is gone with the first answer: who made the shard's last lease may hear it again.
    if shard.state == ShardState::Done && shard.epoch == fence.epoch {
        return Ok(shard.clone());
    }
    check(job, shard, fence, now)?;
    if shard.cursor != shard.range.end_position() {
        return Err(Refusal::NotAtEnd);
    }
    let mut next = shard.clone();
    next.state = ShardState::Done;
    next.asked = None;
    next.charges = 0;
    Ok(next)
}

/// Takes the lease of a holder that is gone: after its time, or, with `now` unknown, by whoever knows that no holder
/// lives (the owner of a local lock).
#[must_use]
pub fn void(shard: &ShardRecord, now: Option<Timestamp>) -> ShardRecord {
    match &shard.state {
        ShardState::Leased { until, .. } if now.is_none_or(|now| now > *until) => in_doubt(ended(shard, End::Lost)),
        _ => shard.clone(),
    }
}

/// A ticket for the shard was confirmed by the broker. It may have been taken before that was heard: a shard that was
/// leased since has none out.
#[must_use]
pub fn ticket_published(shard: &ShardRecord, ticket_epoch: &Epoch, until: Timestamp) -> ShardRecord {
    let mut next = shard.clone();
    if shard.state == ShardState::Waiting && shard.epoch == *ticket_epoch {
        next.ticket_out_until = Some(until);
    }
    next
}

/// Asks something of the shard's holder; nothing where nobody holds it.
#[must_use]
pub fn ask(shard: &ShardRecord, asked: Asked) -> ShardRecord {
    let mut next = shard.clone();
    next.asked = Some(asked).filter(|_| matches!(shard.state, ShardState::Leased { .. }));
    next
}

/// Where a shard is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cuts<'a> {
    /// Keys in order: each is the first one of a new shard.
    pub at: &'a [String],
    /// Its holder has begun with nothing behind this.
    pub begun_to: &'a Position,
    /// Whether earlier holders may have put intents down for keys behind the first cut.
    pub intents: bool,
}

/// Its holder splits it: the shard keeps what lies before the first cut, new shards, numbered from `first` on, get a piece
/// each.
///
/// # Errors
/// When the lease is not the newest or ran out, or the cuts are not in order, or not all between what is begun and the end.
pub fn split(
    job: &JobRecord,
    shard: &ShardRecord,
    fence: &Fence,
    cuts: Cuts<'_>,
    first: ShardId,
    now: Timestamp,
) -> Result<(ShardRecord, Vec<ShardRecord>), Refusal> {
    check(job, shard, fence, now)?;
    let Cuts { at: cuts, begun_to, intents } = cuts;
    let behind = |place: &Position, cut: &String| place.key().is_some_and(|key| key < cut.as_str());
    let in_range = |cut: &String| *cut > shard.range.start && shard.range.contains(cut);
    let may_cut = |cut: &String| in_range(cut) && behind(&shard.cursor, cut) && behind(begun_to, cut);
    let Some(kept_end) = cuts.first().filter(|_| cuts.is_sorted_by(|a, b| a < b) && cuts.iter().all(may_cut)) else {
        return Err(Refusal::BadSplit);
    };
    let mut kept = shard.clone();
    kept.range.end = Some(kept_end.clone());
    (kept.asked, kept.charges, kept.unlisted, kept.unlisted_why) = (None, 0, 0, None);
    let ends = cuts[1..].iter().cloned().map(Some).chain([shard.range.end.clone()]);
    let rest = cuts.iter().cloned().zip(ends).zip(first.0..).map(|((start, end), number)| {
        let id = ShardRef { shard: ShardId(number), ..shard.shard.clone() };
        let mut new = ShardRecord::new(id, KeyRange { start, end }, shard.epoch.nonce.clone());
        if kept.doubted_to > kept.listed {
            new.doubted_to = MAX_AHEAD;
        }
        if intents {
            new.cut_from = shard.cut_from.iter().copied().chain([shard.shard.shard]).collect();
        }
        new
    });
    let rest = rest.collect();
    Ok((kept, rest))
}

/// The kind of the shard's pass.
///
/// # Errors
/// When the job has no such pass or it is closed.
pub fn kind(job: &JobRecord, shard: &ShardRecord) -> Result<PassKind, Refusal> {
    open_pass(job, shard).map(|pass| pass.kind)
}

fn open_pass<'a>(job: &'a JobRecord, shard: &ShardRecord) -> Result<&'a PassRecord, Refusal> {
    if job.state.is_ended() {
        return Err(Refusal::JobOver(job.state.word()));
    }
    let id = shard.shard.pass;
    job.pass(id).filter(|pass| pass.open).ok_or(Refusal::NoPass(id))
}

fn check_fence(job: &JobRecord, shard: &ShardRecord, fence: &Fence) -> Result<(), Refusal> {
    open_pass(job, shard)?;
    if !Safeguard::Fence.stands() {
        return Ok(());
    }
    let ours = matches!(&shard.state, ShardState::Leased { token, .. } if *token == fence.token);
    if ours && shard.epoch == fence.epoch && job.nonce == fence.epoch.nonce { Ok(()) } else { Err(Refusal::Stale) }
}

fn check(job: &JobRecord, shard: &ShardRecord, fence: &Fence, now: Timestamp) -> Result<(), Refusal> {
    check_fence(job, shard, fence)?;
    match &shard.state {
        ShardState::Leased { until, .. } if now <= *until => Ok(()),
        _ if !Safeguard::Fence.stands() => Ok(()),
        _ => Err(Refusal::Expired),
    }
}

fn extended(job: &JobRecord, shard: &ShardRecord, ttl: Duration, now: Timestamp) -> ShardRecord {
    let mut next = shard.clone();
    let allowed = kind(job, shard).is_ok_and(|kind| may_lease(&job.state, kind));
    if let ShardState::Leased { until, .. } = &mut next.state
        && allowed
    {
        *until = later(now, ttl).max(*until);
    }
    next
}

/// Whoever holds it got on: its end charges nothing, and earlier charges are forgiven.
fn progressed(mut shard: ShardRecord) -> ShardRecord {
    if let ShardState::Leased { progressed, .. } = &mut shard.state {
        *progressed = true;
    }
    (shard.charges, shard.unlisted, shard.unlisted_why) = (0, 0, None);
    shard
}

fn ended(shard: &ShardRecord, end: End<'_>) -> ShardRecord {
    let ShardState::Leased { progressed, .. } = &shard.state else { return shard.clone() };
    let mut next = shard.clone();
    if end != End::GivenBack && !progressed {
        next.charges += 1;
    }
    if let End::Unlisted(why) = end {
        next.unlisted += u32::from(!progressed);
        next.unlisted_why = Some(why.chars().take(LONGEST_WHY).collect());
    }
    next.state = if next.unlisted >= MAX_CHARGES { ShardState::Abandoned } else { ShardState::Waiting };
    next.asked = None;
    next
}

/// Whoever held it may live, and write what it had in hand.
fn in_doubt(mut shard: ShardRecord) -> ShardRecord {
    shard.doubted_to = shard.listed + MAX_AHEAD;
    shard
}

pub(super) fn later(now: Timestamp, ttl: Duration) -> Timestamp {
    now.checked_add(ttl).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
