//! Aliases of `mc`: stores that somebody has set up already, in `MC_HOST_<alias>` or in mc's configuration file.

use std::path::PathBuf;

use keyrotate_store::s3::{Credentials, S3Config};
use serde::Deserialize;

use crate::failure::Failure;

/// mc's configuration file, of which only the aliases are read.
#[derive(Deserialize)]
struct McConfig {
    #[serde(default)]
    aliases: std::collections::BTreeMap<String, Alias>,
}

/// A store as mc knows it.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alias {
    url: String,
    #[serde(default)]
    access_key: String,
    #[serde(default)]
    secret_key: String,
    #[serde(default)]
    session_token: Option<String>,
}

/// How to reach the store of that alias; `None`: mc knows no such alias.
pub(crate) fn find(name: &str) -> Result<Option<S3Config>, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let of_mc = format!("MC_HOST_{name}");
    let alias = match variable(&of_mc) {
        Some(value) => Some(of_variable(&value).ok_or_else(|| {
            Failure::usage(format!("`{of_mc}` is no alias"), "write it as http[s]://ACCESS:SECRET@HOST[:PORT]")
        })?),
        None => of_file(name, variable("MC_CONFIG_DIR"), variable("HOME"))?,
    };
    let Some(alias) = alias else { return Ok(None) };
    if alias.access_key.is_empty() || alias.secret_key.is_empty() {
        let mend = format!("mc alias set {name} {} ACCESS SECRET", alias.url);
        return Err(Failure::usage(format!("mc's alias `{name}` has no keys"), mend));
    }
    Ok(Some(alias.config()))
}

/// `SCHEME://ACCESS:SECRET[:TOKEN]@HOST[:PORT]`, nothing in it encoded.
fn of_variable(value: &str) -> Option<Alias> {
    let (scheme, rest) = value.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let (keys, host) = rest.rsplit_once('@').filter(|(_, host)| !host.is_empty())?;
    let (access_key, rest) = keys.split_once(':')?;
    let (secret_key, token) = rest.split_once(':').map_or((rest, None), |(secret, token)| (secret, Some(token)));
    Some(Alias {
        url: format!("{scheme}://{host}"),
        access_key: access_key.to_owned(),
        secret_key: secret_key.to_owned(),
        session_token: token.map(str::to_owned),
    })
}

fn of_file(name: &str, folder: Option<String>, home: Option<String>) -> Result<Option<Alias>, Failure> {
    let usual = || home.iter().flat_map(|home| [".mc", ".mcli"].map(|folder| PathBuf::from(home).join(folder)));
    let folders: Vec<PathBuf> = folder.map(PathBuf::from).map_or_else(|| usual().collect(), |folder| vec![folder]);
    for file in folders.into_iter().map(|folder| folder.join("config.json")).filter(|file| file.exists()) {
        let bytes = std::fs::read(&file).map_err(|e| Failure::io("can't read mc's configuration", &file, &e))?;
        let config: McConfig = serde_json::from_slice(&bytes).map_err(|e| {
            let what = format!("mc's configuration `{}` can't be read: {e}", file.display());
            Failure::usage(what, "`mc alias list` says what mc thinks of it")
        })?;
        if let Some(alias) = config.aliases.get(name) {
            return Ok(Some(alias.clone()));
        }
    }
    Ok(None)
}

impl Alias {
    fn config(&self) -> S3Config {
        let host = self.url.split_once("://").map_or("", |(_, host)| host.trim_end_matches('/'));
        // AWS is known by its account, not by an address.
        let is_aws = host == "amazonaws.com" || host.ends_with(".amazonaws.com");
        let credentials = Credentials::new(&self.access_key, &self.secret_key, self.session_token.clone(), None, "mc");
        S3Config {
            endpoint: (!is_aws).then(|| self.url.clone()),
            credentials: Some(credentials),
            ..S3Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_as_mc_reads_it() {
        let parts = |value: &str| {
            of_variable(value).map(|alias| (alias.url, alias.access_key, alias.secret_key, alias.session_token))
        };
        let of = |url: &str, access: &str, secret: &str, token: Option<&str>| {
            Some((url.to_owned(), access.to_owned(), secret.to_owned(), token.map(str::to_owned)))
        };
        assert_eq!(parts("http://a:b@127.0.0.1:9000"), of("http://127.0.0.1:9000", "a", "b", None));
        assert_eq!(parts("https://a:b/@c:t:u@h"), of("https://h", "a", "b/@c", Some("t:u")));
        for wrong in ["", "a:b@h", "ftp://a:b@h", "http://h", "http://a@h", "http://a:b@"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_is_found_where_mc_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join(".mcli")).unwrap();
        let text = r#"{"version": "10", "aliases": {"prod": {"url": "https://s3.eu-west-1.amazonaws.com", "accessKey": "a",
            "secretKey": "s", "api": "s3v4", "path": "auto"}}}"#;
        std::fs::write(home.join(".mcli/config.json"), text).unwrap();
        let home = Some(home.display().to_string());
        let alias = of_file("prod", None, home.clone()).unwrap().unwrap();
        assert_eq!(alias.config().endpoint, None, "AWS has no endpoint");
        assert!(of_file("prd", None, home.clone()).unwrap().is_none());
        let elsewhere = Some(dir.path().display().to_string());
        assert!(of_file("prod", elsewhere.clone(), home.clone()).unwrap().is_none());
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(of_file("prod", elsewhere, home).is_err());
    }
}
