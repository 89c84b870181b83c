//! Reports of jobs: what failed, the summary, the files.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::api::{FailedPage, FailedRow, ReportFile, ReportFiles};
use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Outcome;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::finish::{FileEntry, Manifest};
use keyrotate_report::rows::LastRows;
use serde::Deserialize;
use tokio::time::Instant;

use super::door::Caller;
use super::jobs::{bad, query};
use super::problem::{Kind, Problem};
use super::{Answer, Api};
use crate::finish::parts_of;

/// Rows of a page.
const PAGE: usize = 100;
/// A page is cut short after that time: among millions of rows few may be bad.
const LOOK_FOR: Duration = Duration::from_secs(5);
const SUMMARY: &str = "summary.json";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FailedQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/jobs/{id}/failed`
pub(crate) async fn failed(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<Json<FailedPage>> {
    let query: FailedQuery = query(&uri)?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, 10 * PAGE);
    let job = api.job(&caller, &id).await?;
    let whole = KeyRange { start: String::new(), end: None };
    let mut rows = LastRows::open(api.site.reports.of(&job.id)?, api.passes(&job).await?, whole);
    if let Some(after) = &query.after {
        rows.seek(&position(after)?);
    }
    let mut page = FailedPage { rows: Vec::new(), next: None };
    let began = Instant::now();
    while let Some(found) = rows.next_key().await? {
        let last = found.rows.last().map(|last| Position::After(found.key.clone(), last.row.version.clone()));
        let bad = found.rows.into_iter().map(|last| last.row).filter(|row| is_bad(row.outcome));
        page.rows.extend(bad.map(|row| FailedRow {
            key: row.key,
            version: row.version,
            outcome: row.outcome.word().to_owned(),
            reason: row.outcome.reason().to_owned(),
            detail: row.detail,
        }));
        if page.rows.len() >= limit || began.elapsed() > LOOK_FOR {
            page.next = last.as_ref().map(cursor);
            break;
        }
    }
    Ok(Json(page))
}

/// `GET /v1/jobs/{id}/report`
pub(crate) async fn summary(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let job = api.job(&caller, &id).await?;
    let name = valid_summary(&job)?;
    let bytes = api.site.reports.of(&job.id)?.get(name).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// `GET /v1/jobs/{id}/report/files`
pub(crate) async fn files(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<ReportFiles>> {
    let job = api.job(&caller, &id).await?;
    let files = entries(api.manifest(&job).await?).map(|FileEntry { name, bytes, rows, sha256 }| ReportFile {
        name,
        bytes,
        rows,
        sha256,
    });
    Ok(Json(ReportFiles { files: files.collect() }))
}

/// `GET /v1/jobs/{id}/report/files/{name}`: a file that the manifest names, and no other.
pub(crate) async fn file(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path((id, name)): Path<(String, String)>,
) -> Answer<Response> {
    let job = api.job(&caller, &id).await?;
    let named = entries(api.manifest(&job).await?).find(|entry| entry.name == name);
    let entry = named.ok_or_else(|| {
        let what = format!("the report has no file `{}`", name.escape_debug());
        Problem::new(Kind::NotFound, what, "`GET …/report/files` lists them")
    })?;
    let kind = if entry.name.ends_with(".gz") { "application/gzip" } else { "application/json" };
    let bytes = api.site.reports.of(&job.id)?.get(&entry.name).await?;
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}

impl Api {
    /// All passes with rows: from the report once it is there, since the checkpoint forgets shards of ended jobs.
    async fn passes(&self, job: &JobRecord) -> Answer<Vec<(PassId, Vec<ShardParts>)>> {
        if valid_summary(job).is_err() {
            return Ok(parts_of(&self.site.ledger, job).await?);
        }
        let mut passes: Vec<(PassId, Vec<ShardParts>)> = Vec::new();
        for chain in self.manifest(job).await?.chains {
            let parts = ShardParts { range: chain.range, last_part: chain.last_part };
            match passes.iter_mut().find(|(pass, _)| *pass == chain.pass) {
                Some((_, shards)) => shards.push(parts),
                None => passes.push((chain.pass, vec![parts])),
            }
        }
        Ok(passes)
    }

    async fn manifest(&self, job: &JobRecord) -> Answer<Manifest> {
        let under = valid_summary(job)?.strip_suffix(SUMMARY).unwrap_or_default();
        let bytes = self.site.reports.of(&job.id)?.get(&format!("{under}manifest.json")).await?;
        let damaged = |e: serde_json::Error| Problem::new(Kind::Broken, format!("the manifest: {e}"), "it is damaged");
        serde_json::from_slice(&bytes).map_err(damaged)
    }
}

/// Name of the summary that counts.
fn valid_summary(job: &JobRecord) -> Answer<&str> {
    let name = job.result.as_ref().and_then(|result| result.report.as_deref());
    name.ok_or_else(|| {
        let what = format!("the job is {} and has no report yet", job.state.word());
        Problem::new(Kind::NotFound, what, "it is written when the job ends")
    })
}

fn entries(manifest: Manifest) -> impl Iterator<Item = FileEntry> {
    std::iter::once(manifest.summary).chain(manifest.report).chain(manifest.parts)
}

fn is_bad(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_) | Outcome::Conflict) || outcome.is_exception()
}

/// A place in the rows as a word for a URL.
fn cursor(position: &Position) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

fn position(cursor: &str) -> Answer<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let position = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    position.ok_or_else(|| bad("`after` is no `next` of a page before"))
}
