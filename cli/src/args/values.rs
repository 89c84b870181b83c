//! How single values of the command line are read.

use keyrotate_config::StoreName;
use keyrotate_proto::job;

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

/// More than nothing: a rate of 0 would be read as no limit at all by some and as a standstill by others.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a number per second, more than 0, such as `200`; without the flag there is no limit".into()),
    }
}

/// The same of bytes.
pub(super) fn byte_rate(text: &str) -> Result<f64, String> {
    job::bytes_per_second(text).ok_or_else(|| "bytes per second, more than 0, such as `50MiB`".into())
}

/// Reads a limit; `none` takes it away.
pub(super) fn limit_of<T: Clone + Send + Sync + 'static>(
    read: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Limit<T>, String> + Clone + Send + Sync + 'static {
    move |text| if text == "none" { Ok(Limit(None)) } else { read(text).map(|limit| Limit(Some(limit))) }
}

pub(super) fn permits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(permits) if permits > 0 => Ok(permits),
        _ => Err("a number more than 0, or `none`".into()),
    }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    job::bytes(text).ok_or_else(|| "bytes with a unit, such as `500GiB`".to_owned())
}

pub(super) fn store_name(text: &str) -> Result<String, String> {
    StoreName::try_from(text.to_owned()).map(|name| name.as_str().to_owned())
}

/// The word of a state: letters, so that it can stand in a URL.
pub(super) fn state_word(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    if plain { Ok(text.to_owned()) } else { Err("a state such as `running`, `paused`, `completed`".into()) }
}

/// A folder of its own: everything below it is taken for probes when leftovers are swept.
pub(super) fn probe_prefix(text: &str) -> Result<String, String> {
    let named = text.trim_end_matches('/');
    if named.is_empty() || !text.ends_with('/') || text.starts_with('/') || text.len() > 512 {
        return Err("a folder's name that ends in a slash, such as `.keyrotate/`".into());
    }
    Ok(text.to_owned())
}

/// An entry of a material description.
pub(super) fn entry(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a name and a value, such as `kid=invoices-2026`")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_that_mean_nothing_are_refused() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(probe_prefix("a/b/"), Ok("a/b/".to_owned()));
        for wrong in ["", "/", "x", "/x/", "//"] {
            assert!(probe_prefix(wrong).is_err(), "{wrong}");
        }
    }
}
