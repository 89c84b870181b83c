//! `doctor`: looks at everything that a rotation stands on and says what to do about what it does not like. All that it
//! writes are probe objects of its own, which it removes.

mod bucket;
mod kes;
mod rabbitmq;
mod redis;
mod settings;
mod store;
mod strategies;

use std::fmt;
use std::io::IsTerminal as _;

use console::Style;
use keyrotate_config::{Config, Given, Loaded};
use keyrotate_env::Env;
use keyrotate_kms::Kms;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;
use crate::wrap::wrapped;

/// Columns of the page.
const WIDTH: usize = 80;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Health {
    /// As it should be.
    Green,
    /// It works, but not as well as it could; or it could not be seen.
    Yellow,
    /// A rotation or a fleet would not start, or lose something.
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
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// What it belongs to: `configuration`, `kes`, `store`, `bucket`, `strategies`, `rabbitmq`, `redis`,
    /// `fleet`.
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
#[derive(Serialize, JsonSchema)]
pub(crate) struct Findings {
    /// The worst of them.
    health: Health,
    findings: Vec<Finding>,
}

/// Looks at all of it. Ends as a refused start does where something is red.
pub(crate) async fn examine(args: DoctorArgs) -> Result<Exit, Failure> {
    let env = Env::system();
    let loaded = crate::config::read(&Given::here(args.config.clone(), Vec::new()))?;
    let config = &loaded.config;
    let mut findings = configuration(&loaded);
    let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    findings.extend(settings::examine(&names, &|name| std::env::var(name).ok()));
    // Side by side: what does not answer is waited for.
    let ((kes, store), fleet) = tokio::join!(rotation(&args, config, &env), fleet(args.scope.is_some(), config, &env));
    findings.extend(kes);
    findings.extend(store);
    findings.extend(fleet);
    let health = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Green);
    let findings = Findings { health, findings };
    print(args.output, &findings, || shown(&findings.findings, colours()))?;
    Ok(if health == Health::Red { Exit::Refused } else { Exit::Completed })
}

/// KES, and the store where a bucket is named.
async fn rotation(args: &DoctorArgs, config: &Config, env: &Env) -> (Vec<Finding>, Vec<Finding>) {
    let client = match crate::connect::kes_client(env) {
        Ok(client) => client,
        Err(failure) => return (vec![Finding::of(kes::SECTION, &failure)], Vec::new()),
    };
    let key = args.key.clone().or_else(crate::connect::default_key);
    let Some(scope) = &args.scope else {
        let hint = "no bucket is named: `keyrotate doctor ALIAS/BUCKET` looks at a store and a bucket, too";
        return (kes::examine(client.as_ref(), key.as_deref()).await, vec![Finding::green(store::SECTION, hint)]);
    };
    tokio::join!(
        kes::examine(client.as_ref(), key.as_deref()),
        store::examine(args, scope, config, client.as_ref().map(|client| client as &dyn Kms), env)
    )
}

/// RabbitMQ and Redis. Whoever rotates on one machine has none of them, and needs none.
async fn fleet(one_machine: bool, config: &Config, env: &Env) -> Vec<Finding> {
    let (rabbitmq, redis) = (config.rabbitmq.url.is_some(), config.redis.url.is_some());
    let optional = one_machine || !(rabbitmq || redis || config.reports.bucket.is_some());
    let unneeded = |section| vec![Finding::green(section, "not configured: needed for a fleet only")];
    let (rabbitmq, redis) = tokio::join!(
        async { if rabbitmq || !optional { rabbitmq::examine(config, env).await } else { unneeded("rabbitmq") } },
        async { if redis || !optional { redis::examine(config, env).await } else { unneeded("redis") } },
    );
    [rabbitmq, redis].concat()
}

/// Whether health is shown in colours.
fn colours() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    wanted && std::io::stdout().is_terminal()
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
fn shown(findings: &[Finding], colours: bool) -> String {
    let (mut lines, mut section) = (Vec::new(), "");
    for finding in findings {
        if finding.section != section {
            section = finding.section;
            lines.push(section.to_owned());
        }
        let word = style(finding.health).force_styling(colours).apply_to(format!("{:<7}", finding.health));
        lines.push(format!("  {word}{}", wrapped(&finding.what, 9, WIDTH)));
        if !finding.mend.is_empty() {
            lines.push(format!("         → {}", wrapped(&finding.mend, 11, WIDTH)));
        }
    }
    lines.join("\n")
}

fn style(health: Health) -> Style {
    match health {
        Health::Green => Style::new().green(),
        Health::Yellow => Style::new().yellow(),
        Health::Red => Style::new().red(),
    }
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
        let text = shown(&configuration(&loaded), false);
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
        assert_eq!(shown(&findings, false), text);
    }
}
