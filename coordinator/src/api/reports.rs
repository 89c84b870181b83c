//! Reports of jobs: what failed, the summary, the page, the files.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{StreamExt as _, stream};
use keyrotate_checkpoint::record::JobRecord;
use keyrotate_proto::api::{FailedPage, FailedRow, ReportFile, ReportFiles};
use keyrotate_proto::forecast::{FORECAST, Forecast};
use keyrotate_proto::id::PassId;
use keyrotate_proto::position::{KeyRange, Position};
use keyrotate_report::chain::ShardParts;
use keyrotate_report::finish::{FileEntry, Manifest, Summary};
use keyrotate_report::page::{POLICY, Page};
use keyrotate_report::rows::LastRows;
use keyrotate_report::store::check_name;
use keyrotate_report::{ReportError, ReportStore, sheet};
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
        let bad = found.rows.into_iter().map(|last| last.row).filter(|row| row.outcome.is_bad());
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

/// `GET /v1/jobs/{id}/forecast`
pub(crate) async fn forecast(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<Forecast>> {
    let job = api.job(&caller, &id).await?;
    if !job.dry_run {
        let what = "the job is no dry run: nothing was foretold";
        return Err(Problem::new(Kind::NotFound, what, "submit its file with `dryRun=true`"));
    }
    let bytes = api.site.reports.of(&job.id)?.get(FORECAST).await?;
    let forecast = serde_json::from_slice(&bytes);
    Ok(Json(forecast.map_err(|e| ReportError::Damaged { name: FORECAST.to_owned(), what: e.to_string() })?))
}

/// How a report is shown.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Text,
    Html,
    Csv,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReportQuery {
    format: Format,
}

/// `GET /v1/jobs/{id}/report`
pub(crate) async fn report(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<Response> {
    let query: ReportQuery = query(&uri)?;
    let job = api.job(&caller, &id).await?;
    let reports = api.site.reports.of(&job.id)?;
    let bytes = reports.get(valid_summary(&job)?).await?;
    match query.format {
        Format::Json => return Ok(typed("application/json", bytes)),
        Format::Csv => return Ok(typed("text/csv; charset=utf-8", rows(reports, api.manifest(&job).await?.0.report))),
        Format::Text | Format::Html => {}
    }
    let summary: Summary = serde_json::from_slice(&bytes).map_err(|e| damaged("the summary", &e))?;
    let (manifest, manifest_bytes) = api.manifest(&job).await?;
    let page = Page::new(&summary, &manifest, &manifest_bytes);
    if let Format::Text = query.format {
        return Ok(typed("text/plain; charset=utf-8", page.text()));
    }
    let mut shown = typed("text/html; charset=utf-8", page.html());
    shown.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    shown.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(shown)
}

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

/// All last rows, safe for a spreadsheet: one file of theirs in memory, the next when the listener has taken that. What
/// breaks on the way cuts the stream off.
fn rows(reports: Arc<dyn ReportStore>, files: Vec<FileEntry>) -> Body {
    let unpacked = stream::iter(files.into_iter().enumerate()).then(move |(i, file)| {
        let reports = Arc::clone(&reports);
        async move {
            let packed = reports.get(&file.name).await?;
            let mut text = Vec::new();
            sheet::unpack(&file.name, &packed, i == 0, &mut text)?;
            Ok::<_, ReportError>(text)
        }
    });
    Body::from_stream(unpacked)
}

/// `GET /v1/jobs/{id}/report/files`
pub(crate) async fn files(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Json<ReportFiles>> {
    let job = api.job(&caller, &id).await?;
    let (manifest, bytes) = api.manifest(&job).await?;
    let files = std::iter::once(own_entry(&job, &bytes)?)
        .chain(entries(manifest))
        .map(|FileEntry { name, bytes, rows, sha256 }| ReportFile { name, bytes, rows, sha256 });
    Ok(Json(ReportFiles { files: files.collect() }))
}

/// `GET /v1/jobs/{id}/report/files/{name}`: the manifest, a file that it names, or a part, and no other.
pub(crate) async fn file(
    State(api): State<Arc<Api>>,
    caller: Extension<Caller>,
    Path((id, name)): Path<(String, String)>,
) -> Answer<Response> {
    let job = api.job(&caller, &id).await?;
    let (manifest, bytes) = api.manifest(&job).await?;
    let own = own_entry(&job, &bytes)?;
    // The parts have no other rows than the report; which of them count is in the files that list them.
    let is_part = name.starts_with("parts/") && check_name(&name).is_ok();
    let named = std::iter::once(own).chain(entries(manifest)).map(|entry| entry.name).find(|known| *known == name);
    let name = named.or_else(|| is_part.then(|| name.clone())).ok_or_else(|| {
        let what = format!("the report has no file `{}`", name.escape_debug());
        Problem::new(Kind::NotFound, what, "`GET …/report/files` lists them")
    })?;
    let kind = if name.ends_with(".gz") { "application/gzip" } else { "application/json" };
    Ok(typed(kind, api.site.reports.of(&job.id)?.get(&name).await?))
}

impl Api {
    /// All passes with rows: from the report once it is there, since the checkpoint forgets shards of ended jobs.
    async fn passes(&self, job: &JobRecord) -> Answer<Vec<(PassId, Vec<ShardParts>)>> {
        if valid_summary(job).is_err() {
            return Ok(parts_of(&self.site.ledger, job).await?);
        }
        Ok(self.manifest(job).await?.0.passes())
    }

    /// The manifest and its bytes.
    async fn manifest(&self, job: &JobRecord) -> Answer<(Manifest, Vec<u8>)> {
        let bytes = self.site.reports.of(&job.id)?.get(&manifest_name(job)?).await?;
        Ok((serde_json::from_slice(&bytes).map_err(|e| damaged("the manifest", &e))?, bytes))
    }
}

fn damaged(what: &str, error: &serde_json::Error) -> Problem {
    Problem::new(Kind::Broken, format!("{what}: {error}"), "it is damaged")
}

fn manifest_name(job: &JobRecord) -> Answer<String> {
    Ok(Manifest::name_beside(valid_summary(job)?))
}

/// The manifest as a file like those that it names.
fn own_entry(job: &JobRecord, bytes: &[u8]) -> Answer<FileEntry> {
    Ok(FileEntry::of(&manifest_name(job)?, bytes, 0))
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

/// A place in the rows as a word for a URL.
fn cursor(position: &Position) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

fn position(cursor: &str) -> Answer<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let position = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    position.ok_or_else(|| bad("`after` is no `next` of a page before"))
}
