//! `report`: a job's report as a page, as rows, as files; and the proof of such files, which asks nobody.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use keyrotate_proto::api::ReportFile;
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use keyrotate_report::finish::{FileEntry, Manifest, check_folder, listed_parts};
use keyrotate_report::{ReportError, sheet};

use super::verbs::{id, write, write_to};
use super::{Client, open};
use crate::args::{Format, ReportArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::say;

/// Shows, fetches or checks a report.
pub(crate) async fn report(args: ReportArgs) -> Result<Exit, Failure> {
    if let Some(dir) = &args.check {
        return check(dir).await;
    }
    let (jobs, job) = (open(&args.place)?, id(args.job.as_deref().unwrap_or_default())?);
    let client = Client(&*jobs);
    match (&args.out, args.format) {
        (Some(dir), None) => fetch_all(&client, &job, dir).await?,
        (Some(dir), Some(format)) => {
            let path = dir.join(file_name(format));
            let mut out = BufWriter::new(create(&path)?);
            show(&client, &job, format, &mut out).await?;
            out.flush().map_err(|e| Failure::io("can't write", &path, &e))?;
            say(&path.display().to_string());
        }
        (None, format) => show(&client, &job, format.unwrap_or(Format::Text), &mut std::io::stdout()).await?,
    }
    Ok(Exit::Completed)
}

fn file_name(format: Format) -> &'static str {
    match format {
        Format::Text => "report.txt",
        Format::Html => "report.html",
        Format::Json => "summary.json",
        Format::Csv => "rows.csv",
    }
}

async fn show(client: &Client<'_>, job: &JobId, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    let bytes = match format {
        Format::Csv => return rows(client, job, out).await,
        Format::Text => client.report(job, "text").await?,
        Format::Html => client.report(job, "html").await?,
        Format::Json => client.report(job, "json").await?,
    };
    write_to(out, "the output", &bytes)
}

/// All last rows, file by file: one of them is in memory.
async fn rows(client: &Client<'_>, job: &JobId, out: &mut dyn Write) -> Result<(), Failure> {
    let files = client.files(job).await?.files;
    for (i, file) in files.iter().filter(|file| is_rows(&file.name)).enumerate() {
        let packed = client.file(job, &file.name).await?;
        match sheet::unpack(&file.name, &packed, i == 0, out) {
            Err(ReportError::Store { source, .. }) if is_broken_pipe(&*source) => return Ok(()),
            Err(error) => return Err(damaged(&error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// `…report/00001.csv.gz`, but not the lists of parts.
fn is_rows(name: &str) -> bool {
    let file = name.rsplit_once("report/").map_or("", |(_, file)| file);
    file.ends_with(".csv.gz") && !file.starts_with("parts-")
}

fn damaged(error: &ReportError) -> Failure {
    Failure::failed(chain(error), "the report is damaged: `keyrotate report --check DIR` says what else of it is")
}

/// All files as they are, the parts that they were made of, and the page.
async fn fetch_all(client: &Client<'_>, job: &JobId, dir: &Path) -> Result<(), Failure> {
    let mut manifest: Option<Manifest> = None;
    for file in client.files(job).await?.files {
        let bytes = fetch(client, job, dir, &file).await?;
        if file.name.ends_with("manifest.json") {
            manifest = serde_json::from_slice(&bytes).ok();
        }
    }
    let manifest = manifest.ok_or_else(|| {
        Failure::refused("the report has no manifest that can be read", "are keyrotate here and there of one version?")
    })?;
    let mut parts = 0;
    for list in &manifest.parts {
        let bytes = client.file(job, &list.name).await?;
        for part in listed_parts(list, &bytes).map_err(|e| damaged(&e))? {
            put(dir, &part.name, &client.file(job, &part.name).await?)?;
            parts += 1;
        }
    }
    let page = put(dir, "report.html", &client.report(job, "html").await?)?;
    let dir = dir.display();
    say(&format!("{parts} parts below {dir}/parts; `keyrotate report --check {dir}` proves them all"));
    write(format!("{}\n", page.display()).as_bytes())
}

async fn fetch(client: &Client<'_>, job: &JobId, dir: &Path, file: &ReportFile) -> Result<Vec<u8>, Failure> {
    let bytes = client.file(job, &file.name).await?;
    let path = put(dir, &file.name, &bytes)?;
    say(&format!("{}  {} bytes", path.display(), file.bytes));
    let entry = FileEntry::of(&file.name, &bytes, file.rows);
    if entry.sha256 == file.sha256 {
        return Ok(bytes);
    }
    Err(damaged(&ReportError::damaged(&file.name, "its hash is not what the coordinator says")))
}

/// The names come over the network: no path of them leads out of the folder.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    if keyrotate_report::store::check_name(name).is_err() {
        let what = format!("the report names a file `{}`", name.escape_debug());
        return Err(Failure::refused(what, "that is no name of a report's file: do not trust this coordinator"));
    }
    let path = dir.join(name);
    create(&path)?.write_all(bytes).map_err(|e| Failure::io("can't write", &path, &e))?;
    Ok(path)
}

fn create(path: &Path) -> Result<std::fs::File, Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("can't make the folder", folder, &e))?;
    std::fs::File::create(path).map_err(|e| Failure::io("can't write", path, &e))
}

/// Everything that is wrong, a line each.
async fn check(dir: &Path) -> Result<Exit, Failure> {
    match check_folder(dir).await {
        Ok(checked) => {
            let (rows, files, parts) = (checked.rows, checked.files, checked.parts);
            let said = format!(
                "{}: all is as it was written\n  rows: {rows}, files: {files}, parts: {parts}; hashes, sums and chains agree\n",
                dir.display()
            );
            write(said.as_bytes())?;
            Ok(Exit::Completed)
        }
        Err(faults) => {
            let lines: String = faults.iter().map(|fault| format!("{}\n", chain(fault))).collect();
            write(lines.as_bytes())?;
            let what = format!("{}: {} not as it was written", dir.display(), things(faults.len()));
            Err(Failure::failed(
                what,
                "fetch it again with `keyrotate report JOB --out DIR` and compare; who changed it?",
            ))
        }
    }
}

fn things(n: usize) -> String {
    if n == 1 { "one thing is".to_owned() } else { format!("{n} things are") }
}
