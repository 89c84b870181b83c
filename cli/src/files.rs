//! `generate` and `validate`: job files without a store.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_proto::job::{self, ParseOptions, Parsed, Problem};
use keyrotate_proto::spec::Dialect;

use crate::args::{DialectArg, GenerateArgs, ValidateArgs};
use crate::exit::Exit;
use crate::failure::Failure;

/// Longest job file that is looked at: no reader takes more.
const LONGEST: u64 = 1 << 20;

/// Prints a job file to fill in.
#[expect(clippy::print_stdout, reason = "the template is the output")]
pub(crate) fn generate(args: &GenerateArgs) -> Result<Exit, Failure> {
    let dialect = match args.dialect {
        DialectArg::Aistor => Dialect::Aistor,
        DialectArg::Minio => Dialect::Minio,
        DialectArg::MinioFlat => Dialect::MinioFlat,
    };
    print!("{}", job::template(dialect));
    Ok(Exit::Completed)
}

/// Says what a job file will do, or everything that is wrong with it.
#[expect(clippy::print_stdout, reason = "the description is the output")]
pub(crate) fn validate(args: &ValidateArgs) -> Result<Exit, Failure> {
    let Some(file) = args.file.as_deref().filter(|_| !args.schema) else {
        println!("{:#}", job::schema());
        return Ok(Exit::Completed);
    };
    let config = crate::config::load(args.config.clone(), Vec::new())?;
    let parsed = read(file, config.notify.allow_private)?;
    let mut lines = job::describe(&parsed.spec);
    if !parsed.buckets.is_empty() {
        let names: Vec<_> = parsed.buckets.iter().map(ToString::to_string).collect();
        lines.insert(0, ("buckets".to_owned(), format!("{}: a job for each", names.join(", "))));
    }
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    for (what, how) in lines {
        println!("{what:width$}  {how}");
    }
    for problem in parsed.warnings.iter().chain(&parsed.at_start(Env::system().now())) {
        println!("warning: {problem}");
    }
    Ok(Exit::Completed)
}

/// Reads and parses a job file. `allow_private_notify`: whether it may name private addresses.
pub(crate) fn read(path: &Path, allow_private_notify: bool) -> Result<Parsed, Failure> {
    parse(&text(path)?, path, ParseOptions { allow_private_notify, scope: None })
}

/// What is in a job file; `-` is standard input.
pub(crate) fn text(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
    };
    let failed = |e| Failure::usage(format!("can't read `{}`: {e}", path.display()), "give the path of a job file");
    read.map(|_| bytes).map_err(failed)
}

/// Parses what is in that job file.
pub(crate) fn parse(text: &[u8], path: &Path, options: ParseOptions<'_>) -> Result<Parsed, Failure> {
    let name = path.display().to_string();
    job::parse_with(text, &name, options).map_err(|errors| {
        let mend = "`keyrotate generate` prints a file to fill in, `keyrotate validate` checks one";
        Failure::usage(format!("`{name}` is no job file:\n{errors}"), mend)
    })
}

/// What can match nothing now is an error at the start of a job. One that goes on keeps the time of its own start.
pub(crate) fn check_at_start(parsed: &Parsed, now: Timestamp) -> Result<(), Failure> {
    let problems = parsed.at_start(now);
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    Err(Failure::usage(lines.join("\n"), "with these filters the job would find nothing to do"))
}
