//! The buckets, filled from outside: one request after the other, each with what the store said of it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::BucketVersioningStatus;
use futures::stream::{self, StreamExt};
use keyrotate_env::Env;
use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;
use keyrotate_tests::raw::{Answer, Raw};

use super::kinds::{CUSTOMER, Headers, KINDS, Kind, Place, Step};
use super::table::Table;
use crate::scenarios::large;

/// Requests at the same time.
const AT_ONCE: usize = 8;

/// One bucket and what was put into it.
pub(super) struct World {
    pub(super) stand: Stand,
    all: Vec<Made>,
}

/// One kind of object as it came to lie there.
pub(super) struct Made {
    kind: &'static Kind,
    pub(super) key: String,
    /// The versions that were made, the newest one first.
    pub(super) versions: Vec<String>,
    /// Nothing is put there.
    unfit: bool,
    /// What the store said to what it refused.
    refused: Vec<String>,
}

impl World {
    pub(super) async fn fill(place: Place, target: Arc<Target>) -> Self {
        let name = target.new_bucket_name();
        let locks = matches!(place, Place::Locked | Place::Forced);
        match locks {
            true => bucket::create_with_locks(&target.client, &name).await,
            false => bucket::create(&target.client, &name, false).await,
        }
        let stand = Stand::in_bucket(target, name, place != Place::Plain);
        let kinds = KINDS.iter().filter(|kind| kind.place == place);
        let store = stand.target.name.clone();
        let made = |kind: &'static Kind| {
            let how = kind.unfit.filter(|(unfit, _)| *unfit == store).map(|(_, how)| format!("not put: {how}"));
            Made {
                kind,
                key: kind.key(),
                versions: Vec::new(),
                unfit: how.is_some(),
                refused: how.into_iter().collect(),
            }
        };
        let mut all: Vec<Made> = kinds.map(made).collect();
        for round in 0..all.iter().map(|made| made.kind.rounds.len()).max().unwrap_or(0) {
            let status = match (place, round) {
                (Place::Versioned | Place::Suspended, 1) => Some(BucketVersioningStatus::Enabled),
                (Place::Suspended, 2) => Some(BucketVersioningStatus::Suspended),
                _ => None,
            };
            if let Some(status) = status {
                bucket::set_versioning(stand.client(), &stand.bucket, status).await;
            }
            // Further apart than what a write in its place has room in.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let steps = all.into_iter().map(|made| made.next(&stand, round));
            all = stream::iter(steps).buffered(AT_ONCE).collect().await;
        }
        Self { stand, all }
    }

    /// Of each kind that is known by an answer other than HEAD's: whether that answer shows it.
    pub(super) async fn shown(&self) -> Vec<(&'static str, bool)> {
        let mut all = Vec::new();
        for made in &self.all {
            let Some((get, piece)) = made.kind.shown else { continue };
            let raw = request(get.replace("{key}", &encoded(&made.key)));
            let answer = raw.send(self.stand.client(), &self.stand.bucket).await;
            all.push((made.kind.name, answer.text.contains(piece)));
        }
        all
    }

    /// The lines of the table, with what became of the versions of each kind.
    pub(super) fn table(&self, became: impl Fn(&Made) -> Vec<String>) -> Table {
        let line = |made: &Made| {
            let refused = made.refused.iter().cloned();
            let became = if made.versions.is_empty() { Vec::new() } else { became(made) };
            (made.kind.name, refused.chain(became).collect::<Vec<_>>())
        };
        self.all.iter().map(line).collect()
    }
}

impl Made {
    /// With what happens to it in a round.
    async fn next(mut self, stand: &Stand, round: usize) -> Self {
        if self.unfit {
            return self;
        }
        let place = encoded(&self.key);
        let raw = match self.kind.rounds.get(round) {
            None | Some(Step::Wait) => return self,
            Some(Step::Parts) => return self.uploaded(stand, false).await,
            Some(Step::PartsWithChecksum) => return self.uploaded(stand, true).await,
            Some(Step::Seal) if stand.target.stack().is_some() => {
                stand.seed_sse_c(&self.key, self.kind.body).await;
                return self.made(String::new());
            }
            Some(Step::Seal) => put(place, &[CUSTOMER], self.kind.body, stand),
            Some(Step::Put(headers)) => put(place, headers, self.kind.body, stand),
            Some(Step::Delete) => request(format!("DELETE {place}")),
            Some(Step::Acl) => {
                let headers = [("x-amz-acl".to_owned(), "public-read".to_owned())].into();
                Raw { headers, ..request(format!("PUT {place}?acl")) }
            }
        };
        let answer = raw.send(stand.client(), &stand.bucket).await;
        match answer.status {
            200..300 if matches!(self.kind.rounds.get(round), Some(Step::Acl)) => self,
            200..300 => self.made(version_of(&answer)),
            _ => {
                self.refused.push(format!("refused: {}", said(&answer)));
                self
            }
        }
    }

    async fn uploaded(self, stand: &Stand, checksum: bool) -> Self {
        let one = large(stand, &self.key, 5);
        let one = if checksum { one.with_sha256() } else { one };
        let version = bucket::put_parts(stand.client(), &stand.bucket, one, 5 << 20).await;
        self.made(version)
    }

    /// With one more version; `null` takes the place of any other `null`.
    fn made(mut self, version: String) -> Self {
        self.versions.retain(|other| *other != version);
        self.versions.insert(0, version);
        self
    }
}

fn request(request: String) -> Raw {
    Raw { request, headers: Default::default(), body: String::new() }
}

fn put(place: String, headers: &[Headers], body: &str, stand: &Stand) -> Raw {
    let until = Env::system().now() + jiff::SignedDuration::from_hours(24);
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let filled = |value: &str| {
        let value = value.replace("{old}", &stand.target.old_key).replace("{new}", &stand.target.new_key);
        value.replace("{until}", &until)
    };
    let headers = headers.iter().copied().flatten().map(|(name, value)| ((*name).to_owned(), filled(value)));
    Raw { headers: headers.collect(), body: body.to_owned(), ..request(format!("PUT {place}")) }
}

/// A key in a path: all but letters, digits and `-._~/` is escaped.
fn encoded(key: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(byte).collect()
}

/// The version that a write made; empty without versions.
fn version_of(answer: &Answer) -> String {
    let header = answer.text.lines().find_map(|line| line.strip_prefix("x-amz-version-id: "));
    header.filter(|id| *id != "null").unwrap_or_default().to_owned()
}

/// Status and code of a refusal.
fn said(answer: &Answer) -> String {
    let code = answer.text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    format!("{} {}", answer.status, code.map_or("", |(code, _)| code)).trim_end().to_owned()
}
