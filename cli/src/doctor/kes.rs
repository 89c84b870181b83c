//! KES: whether it answers, each call that we make there with the line of its policy, and the target key.

use keyrotate_kms::{KesClient, Kms, KmsError, KmsErrorKind};
use keyrotate_proto::say::chain;

use super::{Finding, Health};

pub(super) const SECTION: &str = "kes";

/// Sealed and opened again, to see whether a key works.
const CONTEXT: &[u8] = b"keyrotate doctor";

/// What is only wanted by `key list` and `key create`, not by a rotation.
const CONVENIENCE: &str = "a rotation does not need it";

pub(super) async fn examine(client: Option<&KesClient>, key: Option<&str>) -> Vec<Finding> {
    let Some(client) = client else {
        let what = "none is named (MINIO_KMS_KES_ENDPOINT): the store's own KMS is asked to prove the key";
        return vec![Finding::green(SECTION, what)];
    };
    let endpoints = client.config().endpoints.join(", ");
    let mut findings = vec![Finding::green(SECTION, format!("our identity at {endpoints} is {}", client.identity()))];
    findings.extend(calls(client, key).await);
    findings
}

/// Every call, tried without leaving anything behind.
async fn calls(kes: &dyn Kms, key: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match kes.status().await {
        Ok(status) if status.keystore_unreachable => {
            let what = format!("KES {} answers, but does not reach its key store", status.version);
            findings.push(Finding::new(
                SECTION,
                Health::Red,
                what,
                "look at the key store that KES is configured with",
            ));
        }
        Ok(status) => findings.push(Finding::green(SECTION, format!("/v1/status: KES {} answers", status.version))),
        Err(error) if error.kind == KmsErrorKind::NotAllowed => findings.push(refused(&error, "/v1/status", false)),
        // What can't be reached is said once.
        Err(error) => {
            findings.push(Finding::new(SECTION, Health::Red, chain(&error), error.remedy().unwrap_or_default()));
            return findings;
        }
    }
    findings.extend(match key {
        Some(key) => of_key(kes, key).await,
        None => {
            let what = "/v1/key/generate/* and /v1/key/decrypt/* were not tried: no key is named";
            vec![Finding::new(
                SECTION,
                Health::Yellow,
                what,
                "name the target as `--key KEY`, or set MINIO_KMS_KES_KEY_NAME",
            )]
        }
    });
    findings.push(match kes.list_keys("").await {
        Ok(keys) => Finding::green(SECTION, format!("/v1/key/list/*: {} keys are seen", keys.len())),
        Err(error) => refused(&error, "/v1/key/list/*", false),
    });
    findings
        .push(Finding::green(SECTION, format!("/v1/key/create/* was not tried, it would make a key; {CONVENIENCE}")));
    findings
}

/// Whether data keys can be made and opened under the key.
async fn of_key(kes: &dyn Kms, key: &str) -> Vec<Finding> {
    let (generate, decrypt) = (format!("/v1/key/generate/{key}"), format!("/v1/key/decrypt/{key}"));
    let sealed = match kes.generate(key, CONTEXT).await {
        Ok(sealed) => sealed,
        Err(error) if error.kind == KmsErrorKind::KeyNotFound => {
            let what = format!("{generate}: there is no key `{key}`");
            return vec![Finding::new(SECTION, Health::Red, what, format!("`keyrotate key create {key}`"))];
        }
        Err(error) => return vec![refused(&error, &generate, true)],
    };
    let opened = match kes.decrypt(key, &sealed.ciphertext, CONTEXT).await {
        Ok(opened) if opened.expose() == sealed.plaintext.expose() => Finding::green(SECTION, decrypt),
        Ok(_) => {
            let what = format!("{decrypt}: it opened to something else than was sealed");
            Finding::new(SECTION, Health::Red, what, "find out who answers at MINIO_KMS_KES_ENDPOINT")
        }
        Err(error) => refused(&error, &decrypt, true),
    };
    vec![Finding::green(SECTION, generate), opened]
}

/// A call that went wrong: red where a rotation needs it.
fn refused(error: &KmsError, line: &str, needed: bool) -> Finding {
    let health = if needed { Health::Red } else { Health::Yellow };
    let why = if needed { String::new() } else { format!(" ({CONVENIENCE})") };
    let mend = match error.kind {
        KmsErrorKind::NotAllowed => format!("add to the policy of our identity: `allow: [\"{line}\"]`"),
        _ => error.remedy().unwrap_or_default(),
    };
    Finding::new(SECTION, health, format!("{line}: {}{why}", chain(error)), mend)
}

#[cfg(test)]
mod tests {
    use keyrotate_devstack::kes::KesModel;
    use keyrotate_env::Env;

    use super::*;

    #[tokio::test]
    async fn every_call_is_named_with_its_policy_line() {
        let kes = KesModel::new(Env::system());
        kes.create_key("there").await.unwrap();
        let of = async |key| calls(&kes, key).await;
        let there = of(Some("there")).await;
        assert!(there.iter().all(|finding| finding.health == Health::Green), "{there:?}");
        for line in ["/v1/status", "/v1/key/generate/there", "/v1/key/decrypt/there", "/v1/key/list/*"] {
            assert!(there.iter().any(|finding| finding.what.starts_with(line)), "{line}");
        }
        let gone = of(Some("gone")).await;
        assert!(gone.iter().any(|f| f.health == Health::Red && f.mend == "`keyrotate key create gone`"), "{gone:?}");
        assert!(of(None).await.iter().any(|finding| finding.health == Health::Yellow));
        assert_eq!(kes.list_keys("").await.unwrap(), ["there"], "nothing was made");
    }

    #[test]
    fn a_refusal_says_the_line_that_is_missing() {
        let error = KmsError::new("generate", "k", KmsErrorKind::NotAllowed, "no");
        let needed = refused(&error, "/v1/key/generate/k", true);
        assert!(
            needed.health == Health::Red && needed.mend.ends_with("`allow: [\"/v1/key/generate/k\"]`"),
            "{needed:?}"
        );
        assert_eq!(refused(&error, "/v1/key/list/*", false).health, Health::Yellow);
    }
}
