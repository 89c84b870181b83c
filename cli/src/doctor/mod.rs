//! `doctor`: looks at everything that a fleet stands on, changes nothing, and says what to do about what it does not like.

mod rabbitmq;
mod redis;

use std::fmt;

use keyrotate_config::{Given, Loaded};
use keyrotate_env::Env;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Health {
    /// As it should be.
    Green,
    /// It works, but not as well as it could; or it could not be seen.
    Yellow,
    /// A fleet would not start, or lose work.
    Red,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// What it belongs to: `configuration`, `rabbitmq`, `redis`, `fleet`.
    pub(crate) section: &'static str,
    /// How good it is.
    pub(crate) health: Health,
    /// What was found.
    pub(crate) what: String,
    /// What to do about it; empty where nothing is.
    pub(crate) mend: String,
}

impl Finding {
    fn new(section: &'static str, health: Health, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { section, health, what: what.into(), mend: mend.into() }
    }

    fn green(section: &'static str, what: impl Into<String>) -> Self {
        Self::new(section, Health::Green, what, "")
    }

    /// What kept a verb from its work keeps a fleet from it, too.
    fn of(section: &'static str, failure: &Failure) -> Self {
        Self::new(section, Health::Red, failure.what(), failure.mend())
    }
}

/// Everything that was found.
#[derive(Serialize)]
struct Findings {
    /// The worst of them.
    health: Health,
    findings: Vec<Finding>,
}

/// Looks at all of it. Ends as a refused start does where something is red.
pub(crate) async fn examine(args: DoctorArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let loaded = crate::config::read(&Given::here(args.config, Vec::new()))?;
    let mut findings = configuration(&loaded);
    // Side by side: what does not answer is waited for.
    let (rabbitmq, redis) = tokio::join!(rabbitmq::examine(&loaded.config, &env), redis::examine(&loaded.config, &env));
    findings.extend(rabbitmq);
    findings.extend(redis);
    let health = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Green);
    let findings = Findings { health, findings };
    print(args.output, &findings, || shown(&findings.findings))?;
    Ok(if health == Health::Red { Exit::Refused } else { Exit::Completed })
}

/// Where each setting came from; never what it says, which may be a secret.
fn configuration(loaded: &Loaded) -> Vec<Finding> {
    const SECTION: &str = "configuration";
    let file = match &loaded.file {
        Some(file) => format!("`{}` was read", file.display()),
        None => "there is no configuration file".to_owned(),
    };
    let sources = loaded.sources.iter();
    let settings = sources.map(|(field, source)| Finding::green(SECTION, format!("`{field}` from {source}")));
    std::iter::once(Finding::green(SECTION, file)).chain(settings).collect()
}

/// A heading for each section, a line for each finding, and below it what to do.
fn shown(findings: &[Finding]) -> String {
    let (mut lines, mut section) = (Vec::new(), "");
    for finding in findings {
        if finding.section != section {
            section = finding.section;
            lines.push(section.to_owned());
        }
        lines.push(format!("  {:<7}{}", finding.health, finding.what));
        if !finding.mend.is_empty() {
            lines.push(format!("         → {}", finding.mend));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn sources_are_shown_and_secrets_are_not() {
        let variables = [("KEYROTATE_REDIS_URL", "redis://me:s3cret@h"), ("KEYROTATE_REDIS_PREFIX", "team")];
        let variables: BTreeMap<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let loaded = keyrotate_config::load(&Given { variables, ..Given::default() }).unwrap();
        let text = shown(&configuration(&loaded));
        assert!(text.contains("`redis.url` from KEYROTATE_REDIS_URL") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn each_line_says_how_good_and_what_to_do() {
        let findings = [
            Finding::green("rabbitmq", "RabbitMQ 3.10.8"),
            Finding::new("redis", Health::Red, "appendonly is no", "set `appendonly yes`"),
        ];
        let text =
            "rabbitmq\n  green  RabbitMQ 3.10.8\nredis\n  red    appendonly is no\n         → set `appendonly yes`";
        assert_eq!(shown(&findings), text);
    }
}
