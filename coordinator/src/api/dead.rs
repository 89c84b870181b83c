//! Dead letters: what no worker could work on. Nobody publishes one again as it is: its shard is made to want a ticket,
//! which the coordinator that leads hears of at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::Uri;
use keyrotate_proto::api::{DeadLetter as Shown, DeadLetterList, RequeueRequest, Requeued};
use keyrotate_queue::DeadLetter;
use serde::Deserialize;

use super::jobs::{bad, query, whole};
use super::{Answer, Api};

/// Letters of a page.
const PAGE: usize = 100;
/// So many are settled at a time: the rest is asked for again.
const MOST: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeadQuery {
    limit: Option<usize>,
}

/// `GET /v1/dlq`
pub(crate) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer<Json<DeadLetterList>> {
    let query: DeadQuery = query(&uri)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, 10 * PAGE);
    let mut letters = api.dead_letters(limit + 1).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let shown = |letter: DeadLetter| Shown {
        id: letter.id,
        reason: letter.reason,
        queue: letter.queue,
        shard: letter.ticket.map(|ticket| ticket.shard.to_string()),
        bytes: letter.bytes as u64,
    };
    Ok(Json(DeadLetterList { letters: letters.into_iter().map(shown).collect(), more }))
}

/// `POST /v1/dlq/requeue`
pub(crate) async fn requeue(
    State(api): State<Arc<Api>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Json<Requeued>> {
    let asked: RequeueRequest = serde_json::from_slice(&whole(body)?).map_err(|e| bad(format!("the body: {e}")))?;
    if asked.ids.is_empty() != asked.all {
        return Err(bad("give either `ids`, or `all` as true"));
    }
    let mut missing: BTreeSet<String> = asked.ids.into_iter().collect();
    let (mut done, mut settled, mut kept) = (Requeued::default(), BTreeSet::new(), BTreeSet::new());
    for letter in api.dead_letters(MOST).await? {
        let named = missing.remove(&letter.id) || settled.contains(&letter.id) || kept.contains(&letter.id);
        if !named && !asked.all {
            continue;
        }
        match &letter.ticket {
            Some(ticket) if api.site.ledger.forget_ticket(&ticket.shard).await? => done.requeued += 1,
            Some(_) => done.not_wanted += 1,
            None if asked.drop => done.dropped += 1,
            None => {
                done.kept += 1;
                kept.insert(letter.id);
                continue;
            }
        }
        settled.insert(letter.id);
    }
    // One name may be that of several: what stays keeps the others of its name.
    settled.retain(|id| !kept.contains(id));
    if let Some(dead) = api.site.dead.as_ref().filter(|_| !settled.is_empty()) {
        // Only now: whoever is cut off before asks for the same once more.
        dead.remove(&settled).await?;
    }
    done.missing = missing.into_iter().collect();
    Ok(Json(done))
}

impl Api {
    async fn dead_letters(&self, most: usize) -> Answer<Vec<DeadLetter>> {
        match &self.site.dead {
            Some(dead) => Ok(dead.list(most).await?),
            None => Ok(Vec::new()),
        }
    }
}
