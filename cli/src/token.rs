//! `token new`: makes a token for the coordinator, without asking it.

use jiff::{SignedDuration, Timestamp};
use keyrotate_config::token::TokenEntry;
use keyrotate_env::Env;

use crate::args::{Output, TokenNewArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::say;

/// Prints a fresh token, once, and the line that makes a coordinator know it.
#[expect(clippy::print_stdout, reason = "the token is the output")]
pub(crate) fn new(args: TokenNewArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let expires = args.expires.map(|days| expiry(env.now(), days)).transpose()?;
    let (token, entry) = TokenEntry::make(args.name, args.role.into(), args.scope, expires, &env);
    if args.output == Output::Json {
        println!("{:#}", serde_json::json!({ "token": token.expose(), "line": entry.line() }));
        return Ok(Exit::Completed);
    }
    say("The token, shown only now (KEYROTATE_TOKEN, or a file that KEYROTATE_TOKEN_FILE names):");
    println!("{}", token.expose());
    say("The line for `tokens:` in the coordinator's configuration, read without a restart:");
    println!("{}", entry.line());
    Ok(Exit::Completed)
}

fn expiry(now: Timestamp, days: u32) -> Result<Timestamp, Failure> {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    whole
        .checked_add(SignedDuration::from_hours(24 * i64::from(days)))
        .map_err(|_| Failure::usage(format!("{days} days are too long"), "leave `--expires` out: for ever"))
}
