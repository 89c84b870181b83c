//! The configuration as verbs read it.

use std::path::PathBuf;

use keyrotate_config::{Config, ConfigError, Given, Loaded};
use keyrotate_proto::say::chain;

use crate::failure::Failure;
use crate::say;

/// Reads it; what should be looked at is said.
pub(crate) fn load(file: Option<PathBuf>, flags: Vec<(&'static str, String, &'static str)>) -> Result<Config, Failure> {
    read(&Given::here(file, flags)).map(|loaded| loaded.config)
}

/// The same, and where it was read.
pub(crate) fn read(given: &Given) -> Result<Loaded, Failure> {
    let loaded = keyrotate_config::load(given).map_err(|error| match &error {
        ConfigError::Unreadable { .. } => Failure::usage(chain(&error), "name another one as `--config FILE`"),
        ConfigError::Wrong(_) => {
            Failure::usage(format!("the configuration is wrong:\n{error}"), "mend the lines above")
        }
    })?;
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    Ok(loaded)
}
