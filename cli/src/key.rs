//! `key`: keys on the KES that the environment names.

use std::sync::Arc;

use keyrotate_env::Env;
use keyrotate_kms::{Kms, KmsError, KmsErrorKind};
use keyrotate_proto::say::chain;
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{KeyCreateArgs, KeyListArgs, KeyStatusArgs};
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;

/// Sealed and opened again, to see whether a key works.
const CONTEXT: &[u8] = b"keyrotate key status";

/// How a key does.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyStatus {
    /// Its name.
    key: String,
    /// Why KES makes no data keys under it, if it does not.
    encryption_error: Option<String>,
    /// Why KES does not open what is sealed under it, if it does not.
    decryption_error: Option<String>,
    /// What to do about it.
    mend: Option<String>,
}

/// Asks for a data key under the key and has it opened again. Ends as refused where that does not work.
pub(crate) async fn status(args: KeyStatusArgs) -> Result<Exit, Failure> {
    let default = || {
        connect::default_key().ok_or_else(|| {
            Failure::usage(
                "no key is named, and the environment has no default",
                "name one, or set MINIO_KMS_KES_KEY_NAME",
            )
        })
    };
    let key = args.key.map_or_else(default, Ok)?;
    let status = status_of(kes()?.as_ref(), key).await;
    let works = status.encryption_error.is_none() && status.decryption_error.is_none();
    print(args.output, &status, || shown(&status))?;
    Ok(if works { Exit::Completed } else { Exit::Refused })
}

/// Makes a key.
pub(crate) async fn create(args: KeyCreateArgs) -> Result<Exit, Failure> {
    let made = kes()?.create_key(&args.key).await;
    made.map_err(|error| match error.kind {
        KmsErrorKind::KeyExists => Failure::refused(
            format!("there is a key `{}` already", args.key),
            "take another name; a key is never replaced",
        ),
        _ => broke(&error),
    })?;
    print(args.output, &serde_json::json!({ "created": args.key }), || format!("created the key `{}`", args.key))?;
    Ok(Exit::Completed)
}

/// Lists the names of keys.
pub(crate) async fn list(args: KeyListArgs) -> Result<Exit, Failure> {
    let keys = kes()?.list_keys(args.prefix.as_deref().unwrap_or_default()).await.map_err(|error| broke(&error))?;
    print(args.output, &keys, || if keys.is_empty() { "no keys".to_owned() } else { keys.join("\n") })?;
    Ok(Exit::Completed)
}

async fn status_of(kes: &dyn Kms, key: String) -> KeyStatus {
    let fine = |key| KeyStatus { key, encryption_error: None, decryption_error: None, mend: None };
    let sealed = match kes.generate(&key, CONTEXT).await {
        Ok(sealed) => sealed,
        Err(error) => {
            let not_tried = Some("there is nothing to open".to_owned());
            let mend = match error.kind {
                KmsErrorKind::KeyNotFound => Some(format!("keyrotate key create {key}")),
                _ => error.remedy(),
            };
            return KeyStatus { encryption_error: Some(chain(&error)), decryption_error: not_tried, mend, ..fine(key) };
        }
    };
    match kes.decrypt(&key, &sealed.ciphertext, CONTEXT).await {
        Ok(opened) if opened.expose() == sealed.plaintext.expose() => fine(key),
        Ok(_) => {
            KeyStatus { decryption_error: Some("it opened to something else than was sealed".into()), ..fine(key) }
        }
        Err(error) => KeyStatus { decryption_error: Some(chain(&error)), mend: error.remedy(), ..fine(key) },
    }
}

fn shown(status: &KeyStatus) -> String {
    let line = |what: &str, error: &Option<String>| match error {
        None => format!("   - {what} ✔"),
        Some(why) => format!("   - {what} ✗ ({why})"),
    };
    let mut lines = vec![format!("Key: {}", status.key)];
    lines.extend([line("Encryption", &status.encryption_error), line("Decryption", &status.decryption_error)]);
    lines.extend(status.mend.as_ref().map(|mend| format!("  → {mend}")));
    lines.join("\n")
}

pub(crate) fn kes() -> Result<Arc<dyn Kms>, Failure> {
    connect::kes(&Env::system())?.ok_or_else(|| {
        Failure::refused("the environment names no KES", "set MINIO_KMS_KES_ENDPOINT and its companions as for MinIO")
    })
}

pub(crate) fn broke(error: &KmsError) -> Failure {
    Failure::refused(chain(error), error.remedy().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use keyrotate_devstack::kes::KesModel;

    use super::*;

    #[tokio::test]
    async fn a_key_works_or_says_why_not() {
        let kes = KesModel::new(Env::system());
        kes.create_key("there").await.unwrap();
        let there = shown(&status_of(&kes, "there".into()).await);
        assert_eq!(there, "Key: there\n   - Encryption ✔\n   - Decryption ✔");
        let gone = shown(&status_of(&kes, "gone".into()).await);
        assert!(gone.contains("- Encryption ✗ (") && gone.ends_with("  → keyrotate key create gone"), "{gone}");
    }
}
