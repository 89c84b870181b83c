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
    let lines = job::describe(&parsed.spec);
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    for (what, how) in lines {
        println!("{what:width$}  {how}");
    }
    for problem in parsed.warnings.iter().chain(&parsed.at_start(Env::system().now())) {
        println!("warning: {problem}");
    }
    Ok(Exit::Completed)
}

/// Reads and parses a job file; `-` is standard input. `allow_private_notify`: whether it may name private addresses.
pub(crate) fn read(path: &Path, allow_private_notify: bool) -> Result<Parsed, Failure> {
    let mut bytes = Vec::new();
    let limit = 1 << 20;
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|e| Failure::usage(format!("can't read `{}`: {e}", path.display()), "give the path of a job file"))?;
    let name = path.display().to_string();
    let options = ParseOptions { allow_private_notify };
    job::parse_with(&bytes, &name, options).map_err(|errors| {
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
