//! What the verbs beside jobs take: looking, keys, job files, the demo, manuals.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{entry, probe_prefix};
use super::{Output, StateArgs};
use crate::scope::ScopeArg;

#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The bucket to rotate: `ALIAS/BUCKET[/PREFIX]`, or `s3://BUCKET[/PREFIX]` on the store that AWS_* name.
    #[arg(value_name = "ALIAS/BUCKET")]
    pub(crate) scope: Option<ScopeArg>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// The target key [default: as of a job without one, the store's own default]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Write no probe objects; what the store can do is then not known.
    #[arg(long)]
    pub(crate) no_probes: bool,
    /// Key prefix of the probe objects in the bucket [default: the configuration's for that store, else `.keyrotate/`]
    #[arg(long, value_name = "PREFIX", value_parser = probe_prefix)]
    pub(crate) probe_prefix: Option<String>,
    /// Make the probe objects in this bucket instead; `update-encryption` is then never used.
    #[arg(long, value_name = "BUCKET")]
    pub(crate) probe_bucket: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// See whether a key works: have KES seal something under it, and open it again.
    Status(KeyStatusArgs),
    /// Make a key.
    Create(KeyCreateArgs),
    /// List the names of keys.
    List(KeyListArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyStatusArgs {
    /// Its name [default: MINIO_KMS_KES_KEY_NAME]
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyCreateArgs {
    /// Its name.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyListArgs {
    /// Only those that begin so.
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// What to do with a keyring.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyringVerb {
    /// Make an AES-256 wrapping key and add it. Only KES sees it in clear.
    New(KeyringNewArgs),
    /// Add a wrapping key that clients have used so far: AES-256 or an RSA private key.
    Import(KeyringImportArgs),
    /// Show what a keyring has; nothing of that is secret.
    List(KeyringListArgs),
    /// See that a key can be opened, or hand it out for the configuration of clients.
    Open(KeyringOpenArgs),
}

/// Which key of which keyring.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyringPlace {
    /// The keyring file; made where there is none.
    #[arg(value_name = "KEYRING")]
    pub(crate) file: PathBuf,
    /// What job files will call the key.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The key on KES that seals it.
    #[arg(long, value_name = "KES_KEY")]
    pub(crate) key: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyringNewArgs {
    #[command(flatten)]
    pub(crate) place: KeyringPlace,
    /// What clients find it by: an entry of its material description. Once for each [default: kid=NAME]
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    pub(crate) description: Vec<(String, String)>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyringImportArgs {
    #[command(flatten)]
    pub(crate) place: KeyringPlace,
    /// The file with the key: 32 bytes, hex or base64, or PKCS#8 in PEM or DER; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// What clients find it by: an entry of its material description. Once for each [default: none, as clients do]
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    pub(crate) description: Vec<(String, String)>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyringListArgs {
    /// The keyring file.
    #[arg(value_name = "KEYRING")]
    pub(crate) file: PathBuf,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeyringOpenArgs {
    /// The keyring file.
    #[arg(value_name = "KEYRING")]
    pub(crate) file: PathBuf,
    /// Which key.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Write the key in clear to this new file, which only you can read; `-` for standard output, if that is no terminal.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Whose dialect to write.
    #[arg(long, value_enum, default_value_t = DialectArg::Aistor)]
    pub(crate) dialect: DialectArg,
}

/// A dialect that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DialectArg {
    /// AIStor: always SSE-KMS, plaintext too.
    Aistor,
    /// MinIO since 2023: `encryption.type`.
    Minio,
    /// MinIO's first form, without the `keyrotate:` level.
    MinioFlat,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE", required_unless_present = "schema")]
    pub(crate) file: Option<PathBuf>,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// Print the JSON Schema of job files instead, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PermissionsArgs {
    /// The job file; `-` for standard input.
    #[arg(value_name = "JOB_FILE")]
    pub(crate) file: PathBuf,
    #[arg(from_global)]
    pub(crate) config: Option<PathBuf>,
    /// Whose policy to print.
    #[arg(long, value_enum, default_value_t = PolicyArg::Aws)]
    pub(crate) format: PolicyArg,
}

/// A policy that can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    /// For the identity that rotates, on AWS and most other stores.
    #[value(name = "aws-policy")]
    Aws,
    /// For `mc admin policy create`.
    #[value(name = "minio-policy")]
    Minio,
    /// For the configuration of KES.
    #[value(name = "kes-policy")]
    Kes,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// As it was shown, such as `sse-c`, `skipped/sse-c` or `exit 3`; all of them without it.
    #[arg(value_name = "REASON")]
    pub(crate) word: Vec<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many objects.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) objects: u32,
    /// As which store the embedded one behaves.
    #[arg(long, value_enum, default_value_t = ModeArg::Aws)]
    pub(crate) mode: ModeArg,
    /// By a fleet: a coordinator and three workers, with RabbitMQ and Redis of this machine, which must be installed.
    #[arg(long)]
    pub(crate) fleet: bool,
    /// Keep store, keys and report in this folder, to look at afterwards.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// As which store the embedded one behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// All guards, UpdateObjectEncryption.
    Aws,
    /// MinIO: in place, listing with metadata, no guard on CopyObject's destination.
    Minio,
    /// moto's server.
    Moto,
    /// Ceph RGW: only GET + PUT.
    Rgw,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DevstackArgs {
    /// Where the store keeps what it acknowledged; a temporary folder without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// As which store it behaves.
    #[arg(long, value_enum, default_value_t = ModeArg::Aws)]
    pub(crate) mode: ModeArg,
    /// Buckets to make, if they are not there.
    #[arg(long, value_name = "NAME")]
    pub(crate) bucket: Vec<String>,
    /// Put that many objects of every kind into the last of the buckets, if it is empty.
    #[arg(long, value_name = "N", requires = "bucket")]
    pub(crate) objects: Option<u64>,
    /// Where the store listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) s3: SocketAddr,
    /// Where the KES listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) kes: SocketAddr,
    /// The name that others reach them under.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// The API key that the KES lets in; one of its own without it.
    #[arg(long, value_name = "KEY")]
    pub(crate) kes_api_key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell's.
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all verbs into this folder, such as `/usr/local/share/man/man1`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
