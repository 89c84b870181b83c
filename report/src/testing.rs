//! Parts made by hand, for the tests of this crate.

use std::sync::Arc;

use jiff::Timestamp;
use keyrotate_proto::capability::FrozenTarget;
use keyrotate_proto::id::{Epoch, JobId, Nonce, PassId, ShardId, ShardRef};
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::{Counts, Outcome};
use keyrotate_proto::part::{PART_VERSION, PartHeader, encode};
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_proto::row::{Row, Seal};
use keyrotate_proto::spec::{Dialect, Filter, JobSpec, Notify, Options, Retry, SPEC_VERSION, Target};
use keyrotate_proto::state::{JobState, PassKind};

use crate::chain::{PartLink, ShardParts};
use crate::finish::FinishInput;
use crate::{MemoryStore, ReportStore};

pub(crate) fn store() -> Arc<dyn ReportStore> {
    Arc::new(MemoryStore::new())
}

pub(crate) fn row(key: &str, version: Option<&str>, outcome: Outcome) -> Row {
    Row {
        key: key.to_owned(),
        version: version.map(str::to_owned),
        version_after: None,
        size: 10,
        outcome,
        strategy: None,
        before: Seal::SseKms(KeyName("old".into())),
        after: Seal::SseKms(KeyName(if matches!(outcome, Outcome::Rotated(_)) { "new" } else { "old" }.into())),
        etag: "e".into(),
        last_modified: Timestamp::UNIX_EPOCH,
        detail: String::new(),
        notes: [].into(),
    }
}

pub(crate) fn range(start: &str, end: Option<&str>) -> KeyRange {
    KeyRange { start: start.to_owned(), end: end.map(str::to_owned) }
}

/// A header; its name follows from pass, shard, nonce, counter and number.
pub(crate) fn header(pass: u32, shard: u32, (nonce, counter): (&str, u64), number: u64) -> PartHeader {
    PartHeader {
        version: PART_VERSION,
        shard: ShardRef { job: JobId::new(1, [0; 10]), pass: PassId(pass), shard: ShardId(shard) },
        kind: Some(PassKind::Walk),
        epoch: Epoch { nonce: Nonce(nonce.to_owned()), counter },
        number,
        from: Position::Before(String::new()),
        to: Position::End,
        counts: Counts::default(),
        replaced: Counts::default(),
        listed: 0,
        previous: None,
        bucket: "b".into(),
        written: i64::try_from(number).ok().and_then(|n| Timestamp::from_second(10 * n).ok()),
    }
}

pub(crate) async fn put(store: &dyn ReportStore, mut header: PartHeader, rows: &[Row]) -> PartLink {
    header.counts = Counts::default();
    rows.iter().for_each(|row| row.count_into(&mut header.counts));
    let name = header.name();
    store.put(&name, encode(&header, rows).unwrap()).await.unwrap();
    PartLink { name, header }
}

/// Writes a shard's rows as parts of `size` rows each.
pub(crate) async fn shard(
    store: &dyn ReportStore,
    pass: u32,
    number: u32,
    range: KeyRange,
    rows: &[Row],
    size: usize,
) -> ShardParts {
    let (mut from, mut last_part) = (Position::Before(range.start.clone()), None);
    let windows: Vec<&[Row]> = rows.chunks(size).collect();
    for (i, window) in windows.iter().enumerate() {
        let mut header = header(pass, number, ("n", 1 + i as u64 / 2), i as u64);
        let last = window.last().unwrap();
        header.from = from;
        header.to = Position::After(last.key.clone(), last.version.clone());
        if i + 1 == windows.len() {
            header.to = range.end_position();
        }
        from = header.to.clone();
        header.previous = last_part;
        last_part = Some(put(store, header, window).await.name);
    }
    ShardParts { range, last_part }
}

/// A completed job.
pub(crate) fn input(passes: Vec<(PassId, Vec<ShardParts>)>) -> FinishInput {
    let key = KeyName("new".into());
    FinishInput {
        under: String::new(),
        job: JobId::new(1, [0; 10]),
        spec: JobSpec {
            version: SPEC_VERSION,
            dialect: Dialect::Minio,
            bucket: "b".into(),
            prefix: String::new(),
            keys: [].into(),
            target: Target::SseKms { key: Some(key.clone()), context: None },
            filter: Filter::default(),
            notify: Some(Notify { endpoint: "https://n.example".into(), token: Some("Bearer s3cr3t".into()) }),
            retry: Retry::default(),
            options: Options::default(),
            manifest: None,
        },
        store: "https://s:9000".into(),
        endpoint: Some("https://s:9000".into()),
        is_minio: true,
        target: Some(FrozenTarget::key(key)),
        state: JobState::Completed,
        started: Timestamp::UNIX_EPOCH,
        ended: Timestamp::from_second(60).unwrap(),
        passes,
        counts: Counts::default(),
        checked: Some((Timestamp::from_second(50).unwrap(), 7)),
        leftovers: vec![("it's".into(), "-u".into())],
        notes: vec!["a note".into()],
    }
}
