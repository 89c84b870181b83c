//! What must hold, said without a word about strategies: one write of ours may change how one version is encrypted, or
//! lay one above it that is the same, and nothing else. What nobody can guard is named here, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use keyrotate_proto::capability::Frozen;
use tokio::time::Instant;

use super::super::bucket::{Version, kept};
use super::super::*;
use super::case::{Case, Goal, Lost};

/// So long after the last look nothing is looked at again before an upload is completed.
const A_WHILE: Duration = Duration::from_secs(1);

/// A call of ours that may have written.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    pub(super) operation: &'static str,
    pub(super) began: Instant,
    /// Whether the store said that it was done.
    pub(super) done: bool,
    /// The version that it names.
    pub(super) version: Option<String>,
    /// Whether the worker was frozen when it was on its way.
    pub(super) late: bool,
    /// What the store lost of it, as it was told to.
    pub(super) forgot: Option<Lost>,
    /// Whether the store compares a condition at its end.
    pub(super) guarded: bool,
    /// The date that it names for the object.
    pub(super) dated: Option<Timestamp>,
}

/// A write of ours that took effect.
#[derive(Clone, Debug, Default)]
pub(super) struct Wrote {
    pub(super) at: u64,
    pub(super) key: String,
    /// The version that it was made from, and the one that it made.
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    /// Whether it lies above the one that it was made from.
    pub(super) added: bool,
    /// Whether the store lost a part of it.
    pub(super) damaged: bool,
    /// Whether it was written over what it was not made from, since nothing guards it.
    pub(super) blind: bool,
    /// What it is excused for. Of a version that was added, only until it is looked at what it lies on.
    pub(super) excuses: Vec<&'static str>,
    /// The tags that it was written with.
    pub(super) tags: Tags,
}

/// What somebody else's change of tags, headers, lock or ACL alone, or of nothing but these, is called where it fell
/// into the moment between our last look at it and our write.
pub(super) const WINDOWS: [&str; 4] =
    ["window: headers", "window: class, redirect or lock", "window: tags", "window: ACL"];

/// The same, while our write was on its way from a worker that was frozen.
pub(super) const LATE: &str = "window: a write that comes late";

/// The same body put again, with the same ETag, in the moment between our last look and our write in place: the date that
/// ours names is the older one then, and MinIO loses the object.
pub(super) const TRAP: &str = "window: same body again, and the object is lost to the trap of the date";

/// Somebody's version, or delete marker, of so soon after the one that is written in its place that it is overtaken, and
/// that came between the listing and the write.
pub(super) const OVERTAKEN: &str = "window: a new version within the milliseconds that a write in place adds";

/// The same, where the listing was of the very second in which the body was put again: HEAD and GET show no more of a date.
pub(super) const SAME_SECOND: &str = "window: same body again, within the second of the listing";

/// What an unguarded write may do, where the job allows it.
pub(super) const UNGUARDED: &str = "unguarded, as the job allows";

#[derive(Clone, Debug)]
struct Said<T> {
    what: T,
    at: u64,
    when: Instant,
    /// An upload may be based on it for so long.
    good_for: Duration,
}

/// Storage class, redirect, lock.
type Given = (Option<String>, Option<String>, Lock);

/// What the store showed us of one version, one after the other.
#[derive(Debug, Default)]
struct Look {
    /// Headers without the redirect, and checksums.
    headers: Vec<Said<(Headers, Vec<Checksum>)>>,
    /// What a CopyObject is told.
    given: Vec<Said<Given>>,
    /// `None`: others than the ones that were seen.
    tags: Vec<Said<Option<Tags>>>,
    grants: Vec<Said<Vec<(String, String)>>>,
}

/// What the store showed us.
#[derive(Debug, Default)]
pub(super) struct Looks {
    of: BTreeMap<(String, Option<String>, By), Look>,
}

/// How something was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// HEAD, tags, ACL.
    Asking,
    /// GET. What an upload in parts is created with was asked for before.
    Get,
    /// CopyObject, which reads the object when it begins.
    Copy,
}

impl Looks {
    fn of(&mut self, at: &ObjectAt, by: By) -> (&mut Look, Instant) {
        let look = self.of.entry((at.key.clone(), at.version.clone(), by)).or_default();
        (look, Instant::now())
    }

    pub(super) fn headed(&mut self, at: u64, object_at: &ObjectAt, object: &Object, by: By) {
        let (look, when) = self.of(object_at, by);
        let headers = Headers { website_redirect: None, ..object.headers.clone() };
        look.headers.push(Said { what: (headers, object.checksums.clone()), at, when, good_for: A_WHILE });
        // These a copy is told.
        if by == By::Copy {
            return;
        }
        let given = (class(object), object.headers.website_redirect.clone(), object.lock.clone());
        look.given.push(Said { what: given, at, when, good_for: A_WHILE });
        let count = object.tag_count.unwrap_or(0) as usize;
        let known = look.tags.last().and_then(|said| said.what.as_ref()).is_some_and(|tags| tags.len() == count);
        if !known || count == 0 {
            look.tags.push(Said { what: (count == 0).then(Vec::new), at, when, good_for: A_WHILE });
        }
    }

    pub(super) fn tagged(&mut self, at: u64, object_at: &ObjectAt, tags: &Tags, by: By) {
        let (look, when) = self.of(object_at, by);
        look.tags.push(Said { what: Some(tags.clone()), at, when, good_for: A_WHILE });
    }

    pub(super) fn granted(&mut self, at: u64, object_at: &ObjectAt, acl: &Acl) {
        let (look, when) = self.of(object_at, By::Asking);
        look.grants.push(Said { what: acl.grants.clone(), at, when, good_for: A_WHILE });
    }

    /// Whether the last look at a part of the key showed this. Of an upload: any that was not too long before its end.
    fn showed<'a, T: 'a>(
        &'a self,
        key: &str,
        landing: &Landing,
        part: impl Fn(&'a Look) -> &'a Vec<Said<T>>,
        is: impl Fn(&Said<T>) -> bool,
    ) -> bool {
        let of_key = |by| self.of.iter().filter(move |((k, _, b), _)| k == key && *b == by);
        let all = |by| of_key(by).flat_map(|(_, look)| part(look));
        let last = |by| all(by).max_by_key(|said| said.at);
        let also = match landing.operation {
            "CompleteMultipartUpload" => {
                return all(By::Asking).any(|said| said.when + said.good_for >= landing.began && is(said));
            }
            "CopyObject" => By::Copy,
            _ => By::Get,
        };
        last(By::Asking).into_iter().chain(last(also)).max_by_key(|said| said.at).is_some_and(is)
    }
}

fn class(object: &Object) -> Option<String> {
    object.storage_class.clone().filter(|class| class != "STANDARD")
}

/// What came of a call of ours.
pub(super) enum Verdict {
    Nothing,
    /// A write, and what it is excused for.
    Wrote(Wrote, Vec<&'static str>),
    /// The object is lost, and why that is excused.
    Lost(&'static str),
    /// A version that we added was taken away again: which.
    Withdrew(Option<String>),
    /// The version that one of ours replaced was deleted, as the job asks.
    Expired,
    Harm(String),
}

/// Judges what a call of ours made of a key, which somebody else changed last at `theirs`.
pub(super) fn judge(
    (case, frozen): (&Case, &Frozen),
    (looks, ours): (&Looks, &[Wrote]),
    landing: &Landing,
    (key, at, now, theirs): (&str, u64, Timestamp, Option<u64>),
    before: &[Version],
    after: &[Version],
) -> Verdict {
    if before == after {
        // The same content under the same key, in the same second: nobody can tell it from what was there.
        let newest = before.first().filter(|_| landing.done).map(|newest| newest.id.clone());
        let ids = newest.map(|newest| landing.version.clone().or(newest));
        return ids.map_or(Verdict::Nothing, |id| {
            let (from, to) = (id.clone(), id);
            let wrote = Wrote { at, key: key.to_owned(), from, to, ..Wrote::default() };
            Verdict::Wrote(wrote, Vec::new())
        });
    }
    if landing.operation == "DeleteObject"
        && let Some(gone) = taken_away(before, after)
        && let Some(verdict) = deleted(case, ours, gone, before, now)
    {
        return verdict;
    }
    let harm = |what: &str| {
        let ids = |versions: &[Version]| -> Vec<String> {
            let word = |v: &Version| if v.marker { "-" } else { "" };
            versions.iter().map(|v| format!("{}{}", word(v), v.id.as_deref().unwrap_or("the one"))).collect()
        };
        let (operation, from, to) = (landing.operation, ids(before), ids(after));
        Verdict::Harm(format!("{operation} of `{key}`: {what}: {from:?} became {to:?}"))
    };
    let (old, new, added) = match step(before, after) {
        Ok(step) => step,
        Err(_) if case.job.unguarded && !landing.guarded => {
            let (from, to) = (None, after.first().and_then(|v| v.id.clone()));
            let wrote = Wrote { at, key: key.to_owned(), from, to, blind: true, ..Wrote::default() };
            return Verdict::Wrote(wrote, vec![UNGUARDED]);
        }
        Err(_) if is_overtaken(landing, before, after) => {
            let (from, to) = (landing.version.clone(), landing.version.clone());
            let wrote = Wrote { at, key: key.to_owned(), from, to, ..Wrote::default() };
            return Verdict::Wrote(wrote, vec![OVERTAKEN]);
        }
        Err(what) => match trapped(looks, landing, key, theirs, before, after) {
            Some(excuse) => return Verdict::Lost(excuse),
            None => return harm(what),
        },
    };
    let (from, to) = (old.id.clone(), new.id.clone());
    let mut wrote = Wrote { at, key: key.to_owned(), from, to, added, tags: new.tags.clone(), ..Wrote::default() };
    if landing.operation == "UpdateObjectEncryption" && !only_key_differs(old, new) {
        return harm("more than its key changed");
    }
    let mut excuses = Vec::new();
    if let Err(what) = content((case, frozen), looks, (key, now), landing, old, new, &mut excuses) {
        if !case.job.unguarded || landing.guarded {
            return harm(&what);
        }
        excuses.push(UNGUARDED);
        wrote.blind = true;
    }
    let forgot = excuses.len();
    excuses.retain(|excuse| *excuse != FORGOTTEN);
    wrote.damaged = forgot != excuses.len();
    Verdict::Wrote(wrote, excuses)
}

/// What is to be said of a version that we deleted by its id: nothing good, where it is neither one that we added nor one
/// that such a one replaced, in a job that asks for that.
fn deleted(case: &Case, ours: &[Wrote], gone: &Version, before: &[Version], now: Timestamp) -> Option<Verdict> {
    if let Some(wrote) = ours.iter().rfind(|wrote| (wrote.added || wrote.blind) && wrote.to == gone.id) {
        // Over a version or delete marker of somebody's it goes whatever was done to it.
        let below = before.iter().skip_while(|version| version.id != gone.id).nth(1);
        let over_its_own = wrote.added && below.is_some_and(|below| below.id == wrote.from);
        return Some(match over_its_own && wrote.tags != gone.tags {
            true => Verdict::Harm(format!("what somebody did to a version of ours is gone: {:?}", gone.tags)),
            false => Verdict::Withdrew(gone.id.clone()),
        });
    }
    let locked = gone.object.as_ref().is_none_or(|object| object.lock.standing(now).is_locked());
    let same = |wrote: &Wrote| before.iter().any(|version| version.id == wrote.to && version.body == gone.body);
    let replaced = |wrote: &Wrote| wrote.added && !wrote.damaged && wrote.from == gone.id && same(wrote);
    (case.job.expire && !locked && ours.iter().any(replaced)).then_some(Verdict::Expired)
}

/// The one version that is gone, where nothing else is another.
fn taken_away<'a>(before: &'a [Version], after: &[Version]) -> Option<&'a Version> {
    let gone = before.iter().find(|version| after.iter().all(|left| left.id != version.id))?;
    before.iter().filter(|version| version.id != gone.id).eq(after).then_some(gone)
}

const FORGOTTEN: &str = "the store forgot it";

/// The version that was written, before and after; or the one below and the one added.
fn step<'a>(
    before: &'a [Version],
    after: &'a [Version],
) -> std::result::Result<(&'a Version, &'a Version, bool), &'static str> {
    let ids = |versions: &[Version]| -> Vec<Option<String>> { versions.iter().map(|v| v.id.clone()).collect() };
    let is_marker = "a delete marker was written, or what was deleted is back";
    if ids(before) == ids(after) {
        let mut differing = before.iter().zip(after).filter(|(old, new)| old != new);
        return match (differing.next(), differing.next()) {
            (Some((old, new)), _) if old.marker || new.marker => Err(is_marker),
            (Some((old, new)), None) => Ok((old, new, false)),
            _ => Err("more than one version changed"),
        };
    }
    match (before, after) {
        ([], _) => Err("what was deleted is back"),
        ([old, ..], [new, rest @ ..]) if rest == before => match old.marker || new.marker {
            true => Err(is_marker),
            false => Ok((old, new, true)),
        },
        _ => Err("versions are gone, in another order, or not where they were"),
    }
}

/// What excuses that a write in place fell into the trap of the date: that somebody put the same body again and we could
/// not see it any more.
fn trapped(
    looks: &Looks,
    landing: &Landing,
    key: &str,
    theirs: Option<u64>,
    before: &[Version],
    after: &[Version],
) -> Option<&'static str> {
    let ([newest, rest @ ..], Some(dated)) = (before, landing.dated) else { return None };
    if newest.marker || rest != after {
        return None;
    }
    let unseen = |said: &Said<_>| theirs.is_some_and(|theirs| said.at < theirs);
    if landing.late && theirs.is_some() {
        return Some(TRAP);
    }
    if looks.showed(key, landing, |look| &look.headers, unseen) {
        return Some(TRAP);
    }
    (theirs.is_some() && newest.date.as_second() == dated.as_second()).then_some(SAME_SECOND)
}

/// Whether a version that was written in its place came to lie above what was put on it just now. What would tell that from
/// an older one, whose date the listing showed, is when the listing was made.
fn is_overtaken(landing: &Landing, before: &[Version], after: &[Version]) -> bool {
    let (Some(dated), [newest, ..], [first, ..]) = (landing.dated, before, after) else { return false };
    let ids = |versions: &[Version]| versions.iter().map(|v| v.id.clone()).collect::<BTreeSet<_>>();
    ids(before) == ids(after) && newest.date <= dated && first.date == dated && first.id == landing.version
}

/// UpdateObjectEncryption touches nothing else.
fn only_key_differs(old: &Version, new: &Version) -> bool {
    let with_sse = |version: &Version| {
        let object = version.object.clone().map(|object| Object { sse: Sse::None, ..object });
        Version { object, ..version.clone() }
    };
    with_sse(old) == with_sse(new)
}

/// Whether the object is under the wanted key, and in all else as it was.
fn content(
    (case, frozen): (&Case, &Frozen),
    looks: &Looks,
    (key, now): (&str, Timestamp),
    landing: &Landing,
    old: &Version,
    new: &Version,
    excuses: &mut Vec<&'static str>,
) -> std::result::Result<(), String> {
    let (Some(had), Some(has)) = (&old.object, &new.object) else { return Err("nobody can read it".into()) };
    if !is_wanted(case, &has.sse) {
        return Err(format!("it shows {}", has.sse.seal()));
    }
    let was_locked = had.lock.standing(now).is_locked();
    if was_locked && !case.job.force_locked {
        let unlocked = |(_, _, lock): &(_, _, Lock)| !lock.standing(now).is_locked();
        match landing.late || looks.showed(key, landing, |look| &look.given, |said| unlocked(&said.what)) {
            true => excuses.push(WINDOWS[1]),
            false => return Err("it was locked".into()),
        }
    }
    let (then, now_is) = (kept(old), kept(new));
    // Nobody can read what lies in an archive.
    let other_body = then.body.is_some() && now_is.body.is_some() && then.body != now_is.body;
    if other_body || had.size != has.size {
        return Err("another body".into());
    }
    // What was put at once may come back as an upload of one part.
    let parts = |version: &Version| version.parts.map(|(first, count)| (first, count.unwrap_or(1)));
    if parts(&then) != parts(&now_is) && !case.job.loses.contains(&Loss::Parts) {
        return Err(format!("parts {:?} became {:?}", then.parts, now_is.parts));
    }
    // A listing that is not read for facts shows us no context.
    let knows_context = frozen.listing_facts && case.job.goal == Goal::Kms;
    if knows_context && old.context.is_some() && old.context != new.context {
        return Err(format!("context {:?} became {:?}", old.context, new.context));
    }
    let mut differs = |same: bool, forgot: bool, shown: bool, window: usize, what: String| match () {
        () if same => Ok(()),
        () if forgot => {
            excuses.push(FORGOTTEN);
            Ok(())
        }
        () if landing.late => {
            excuses.push(LATE);
            Ok(())
        }
        () if shown => {
            excuses.push(WINDOWS[window]);
            Ok(())
        }
        () => Err(what),
    };
    let bare = |object: &Object| Headers { website_redirect: None, ..object.headers.clone() };
    let loses_sum = case.job.loses.contains(&Loss::Checksum);
    // Where its loss is accepted, the store may have made one of another kind.
    let sums = |had: &[Checksum], has: &[Checksum]| had == has || loses_sum;
    let forgot = landing.forgot == Some(Lost::Metadata) && has.headers.metadata.is_empty();
    let what = format!("headers {:?} {:?} became {:?} {:?}", had.headers, had.checksums, has.headers, has.checksums);
    let same = bare(had) == bare(has) && sums(&had.checksums, &has.checksums);
    let is = |(headers, shown): &(Headers, Vec<Checksum>)| *headers == bare(has) && sums(shown, &has.checksums);
    differs(same, forgot, looks.showed(key, landing, |look| &look.headers, |said| is(&said.what)), 0, what)?;

    let given = |object: &Object| (class(object), object.headers.website_redirect.clone(), object.lock.standing(now));
    let is = |(class, redirect, lock): &Given| (class.clone(), redirect.clone(), lock.standing(now)) == given(has);
    let what = format!("class, redirect and lock {:?} became {:?}", given(had), given(has));
    differs(
        given(had) == given(has),
        false,
        looks.showed(key, landing, |look| &look.given, |said| is(&said.what)),
        1,
        what,
    )?;

    let forgot = landing.forgot == Some(Lost::Tags) && new.tags.is_empty();
    let shown = looks.showed(key, landing, |look| &look.tags, |said| said.what.as_ref() == Some(&new.tags));
    differs(old.tags == new.tags, forgot, shown, 2, format!("tags {:?} became {:?}", old.tags, new.tags))?;

    let is = |grants: &Vec<(String, String)>| grants.iter().cloned().collect::<BTreeSet<_>>() == new.grants;
    let shown = looks.showed(key, landing, |look| &look.grants, |said| is(&said.what));
    differs(old.grants == new.grants, false, shown, 3, format!("ACL {:?} became {:?}", old.grants, new.grants))
}

/// Whether that is the encryption that the job is after.
pub(super) fn is_wanted(case: &Case, sse: &Sse) -> bool {
    match case.job.goal {
        Goal::SseS3 => *sse == Sse::S3,
        Goal::Kms | Goal::Context => {
            matches!(sse, Sse::Kms { key: Some(key), .. } if key.same_key(&case.mode.show_key(NEW)))
        }
    }
}
