//! What the roles of a fleet, and the verbs that look after it, take.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keyrotate_config::token::{Role, Scope, TokenName};

use super::Output;

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List them, with the reasons.
    List(DlqListArgs),
    /// Have fresh tickets sent for the shards that still want one, and take the dead letters away.
    Requeue(DlqRequeueArgs),
}

/// The fleet.
#[derive(Clone, Debug, Args)]
pub(crate) struct FleetArgs {
    /// The fleet's coordinator [env: KEYROTATE_URL, or `url` of the configuration]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DlqListArgs {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DlqRequeueArgs {
    /// Which ones: their ids, as `dlq list` shows them.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
    /// Also take away what is no ticket of keyrotate's, for good.
    #[arg(long)]
    pub(crate) drop: bool,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ResealArgs {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token; prints it once, and the line for `tokens:` in the coordinator's configuration.
    New(TokenNewArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TokenNewArgs {
    /// Who holds it: the USER of his jobs.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: TokenName,
    /// What he may do.
    #[arg(long, value_enum)]
    pub(crate) role: RoleArg,
    /// To jobs on this bucket, or its keys that begin with this prefix, alone; may be given several times.
    #[arg(long, value_name = "BUCKET[/PREFIX]")]
    pub(crate) scope: Vec<Scope>,
    /// Days until it expires; never unless given.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) expires: Option<u32>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What the holder of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Look.
    View,
    /// Submit jobs and tell them what to do.
    Operate,
    /// Look after the fleet, too.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::View => Self::View,
            RoleArg::Operate => Self::Operate,
            RoleArg::Admin => Self::Admin,
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CoordinatorArgs {
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:7474]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WorkerArgs {
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HealthArgs {
    /// What to ask, such as `http://127.0.0.1:7474/readyz`.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
}
