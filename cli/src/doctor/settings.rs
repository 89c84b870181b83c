//! The variables that others than keyrotate have set: for S3, for KES, for mc. Secrets are named and never shown.

use super::Finding;

const SECTION: &str = "configuration";

/// Shown with their values.
const OPEN: &[&str] = &[
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "MC_CONFIG_DIR",
    "MINIO_KMS_KES_ENDPOINT",
    "MINIO_KMS_KES_KEY_NAME",
    "MINIO_KMS_KES_CERT_FILE",
    "MINIO_KMS_KES_KEY_FILE",
    "MINIO_KMS_KES_CAPATH",
];

/// Only said to be there.
const SECRET: &[&str] =
    &["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MINIO_KMS_KES_API_KEY", "MINIO_KMS_KES_KEY_PASSWORD"];

/// What the name of an alias of mc stands behind.
const ALIAS: &str = "MC_HOST_";

/// A line for each that is set; `names` are those of all variables.
pub(super) fn examine(names: &[String], lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let open = OPEN.iter().filter_map(|name| get(name).map(|value| format!("{name} is `{}`", without_login(&value))));
    let id = get("AWS_ACCESS_KEY_ID").map(|id| format!("AWS_ACCESS_KEY_ID is `{}`", shortened(&id)));
    let secret = SECRET.iter().filter_map(|name| get(name).map(|_| format!("{name} is set (hidden)")));
    let aliases = names.iter().filter(|name| name.starts_with(ALIAS)).filter_map(|name| Some((name, get(name)?)));
    let aliases = aliases.map(|(name, value)| format!("{name} is `{}`", without_login(&value)));
    open.chain(id).chain(secret).chain(aliases).map(|line| Finding::green(SECTION, line)).collect()
}

/// Enough of an access key to know it by.
pub(super) fn shortened(id: &str) -> String {
    let head: String = id.chars().take(4).collect();
    match id.chars().count() {
        0..16 => format!("{head}…"),
        length => format!("{head}…{}", id.chars().skip(length - 4).collect::<String>()),
    }
}

/// An address without the name and password that do not belong into it.
fn without_login(value: &str) -> String {
    let text: String = value.chars().filter(|c| !c.is_control()).collect();
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}…{}", &text[..scheme + 3], &text[at..]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let set = [
            ("AWS_ENDPOINT_URL", "https://me:s3cret@h:9000"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
            ("MINIO_KMS_KES_API_KEY", "kes:v1:s3cret"),
            ("MC_HOST_prod", "https://id:s3cret@h:9000"),
        ];
        let names = set.map(|(name, _)| name.to_owned());
        let found = examine(&names, &|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()));
        let lines: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            lines,
            [
                "AWS_ENDPOINT_URL is `https://…@h:9000`",
                "AWS_ACCESS_KEY_ID is `AKIA…MPLE`",
                "AWS_SECRET_ACCESS_KEY is set (hidden)",
                "MINIO_KMS_KES_API_KEY is set (hidden)",
                "MC_HOST_prod is `https://…@h:9000`",
            ]
        );
        assert_eq!(shortened("minioadmin"), "mini…");
    }
}
