//! Single values of a job file: durations, dates, sizes, context, keys.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Time;

use super::tree::clip;
use crate::key::KeyName;
use crate::rates::Days;
use crate::spec::{BodyTransit, BucketKey, FailureThreshold, Location, Loss, Rank, Superseded, VersionPolicy};

/// What is wrong with a value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) hint: String,
}

pub(super) fn bad<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, Bad> {
    Err(Bad { message: message.into(), hint: hint.into() })
}

/// Units of a duration in the order in which they must stand, in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Some 1,900 years: any moment minus this is still a date.
const LONGEST: u64 = 100_000 * 7 * 86_400_000;

/// A length of time: `(#w)(#d)(#h)(#m)(#s)(#ms)`, in this order, at least one part.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    let wrong = |why: &str| bad(format!("`{}` is not a duration", clip(text)), why);
    let usual = "write it like `7d10h31s`: w, d, h, m, s, ms in this order";
    if text.starts_with(['-', '+']) {
        return wrong("a duration has no sign");
    }
    let (mut rest, mut next_unit, mut total) = (text, 0, 0_u64);
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (digits, behind) = rest.split_at(number);
        let unit = behind.len() - behind.trim_start_matches(|c: char| c.is_alphabetic()).len();
        let (unit, behind) = behind.split_at(unit);
        if digits.is_empty() {
            return wrong(if behind.starts_with('.') {
                "a duration has no fractions: `1h30m`, not `1.5h`"
            } else {
                usual
            });
        }
        let Some(index) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return wrong(match unit {
                "" if behind.is_empty() => "the unit is missing: w, d, h, m, s or ms",
                "" if behind.starts_with('.') => "a duration has no fractions: `1h30m`, not `1.5h`",
                "ns" | "us" | "µs" | "μs" => "milliseconds (`ms`) are the smallest unit",
                "M" | "mo" | "month" | "months" | "y" | "Y" | "year" | "years" => {
                    "months and years have no fixed length: give days or weeks"
                }
                _ => usual,
            });
        };
        if index < next_unit {
            return wrong("the units stand in the order w, d, h, m, s, ms, each at most once");
        }
        next_unit = index + 1;
        let part = digits.parse().ok().and_then(|n: u64| n.checked_mul(UNITS[index].1));
        match part.and_then(|part| total.checked_add(part)).filter(|sum| *sum <= LONGEST) {
            Some(sum) => total = sum,
            None => return wrong("it is too long: at most 100000w"),
        }
        rest = behind;
    }
    if next_unit == 0 { wrong(usual) } else { Ok(Duration::from_millis(total)) }
}

/// A moment: `YYYY-MM-DD` (midnight UTC) or RFC 3339.
pub(super) fn date(text: &str) -> Result<Timestamp, Bad> {
    if text == "date" {
        return placeholder(text, "write a date such as 2023-03-02");
    }
    let hint = match (date_shape(text), go_pattern(text)) {
        (Some(full), _) => match full.parse() {
            Ok(moment) => return Ok(moment),
            Err(_) => "there is no such day or time",
        },
        (None, true) => "`Z07:00` is a pattern, not an offset: write `Z` or `+07:00`",
        (None, false) if text.contains('T') => "RFC 3339 looks like `2023-03-02T15:04:05Z` or `…+01:00`",
        (None, false) => "write `YYYY-MM-DD`, or RFC 3339 such as `2023-03-02T15:04:05Z`",
    };
    bad(format!("`{}` is not a date", clip(text)), hint)
}

/// The text as RFC 3339, if it has that shape or is a date alone.
fn date_shape(text: &str) -> Option<String> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape == "0000-00-00" {
        return Some(format!("{text}T00:00:00Z"));
    }
    let rest = shape.strip_prefix("0000-00-00T00:00:00")?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return None,
        None => rest,
    };
    matches!(rest, "Z" | "+00:00" | "-00:00").then(|| text.to_owned())
}

/// Whether this is the form of MinIO's old template, `2023-03-02T15:04:05Z07:00`.
fn go_pattern(text: &str) -> bool {
    text.split_once('Z').is_some_and(|(before, after)| before.contains('T') && after.len() == 5 && after.contains(':'))
}

const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// How large a body may pass: bytes with or without a unit, or `any`.
pub(super) fn body_transit(text: &str) -> Result<BodyTransit, Bad> {
    if text == "any" {
        return Ok(BodyTransit::Any);
    }
    match bytes(text) {
        Some(size) => Ok(BodyTransit::UpTo(size)),
        None => bad(
            format!("`{}` is not a size", clip(text)),
            "bytes with a unit such as `64KiB`, `1MiB`, `5GB`; `0` for none, `any` for all",
        ),
    }
}

/// A number of bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<u64, Bad> {
    bytes(text).map_or_else(
        || bad(format!("`{}` is not a size", clip(text)), "bytes with a unit such as `500GiB`; `0` for none"),
        Ok,
    )
}

/// Reads a number of bytes, with or without a unit: `5GB`, `64KiB`, `0`.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    let factor = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    digits.parse().ok().zip(factor).and_then(|(n, factor): (u64, u64)| n.checked_mul(factor))
}

/// Which versions are in scope.
pub(super) fn versions(text: &str) -> Result<VersionPolicy, Bad> {
    match text {
        "all" => Ok(VersionPolicy::All),
        "current" => Ok(VersionPolicy::Current),
        _ => bad(format!("`{}` names no versions", clip(text)), "`all` or `current`"),
    }
}

/// Something that an object may lose.
pub(super) fn loss(text: &str) -> Result<Loss, Bad> {
    match text {
        "checksum" => Ok(Loss::Checksum),
        "parts" => Ok(Loss::Parts),
        _ => bad(format!("`{}` is nothing that an object may lose", clip(text)), "`checksum` or `parts`"),
    }
}

/// What becomes of a version that a new one replaces.
pub(super) fn superseded(text: &str) -> Result<Superseded, Bad> {
    match text {
        "keep" => Ok(Superseded::Keep),
        "expire" => Ok(Superseded::Expire),
        _ => bad(format!("`{}` is nothing that becomes of a superseded version", clip(text)), "`keep` or `expire`"),
    }
}

/// Which objects get an S3 bucket key.
pub(super) fn bucket_key(text: &str) -> Result<BucketKey, Bad> {
    match text {
        "keep" => Ok(BucketKey::Keep),
        "on" => Ok(BucketKey::On),
        "off" => Ok(BucketKey::Off),
        _ => bad(format!("`{}` says nothing about a bucket key", clip(text)), "`keep`, `on` or `off`"),
    }
}

/// Where a manifest lies.
pub(super) fn location(text: &str) -> Result<Location, Bad> {
    let hint = "`s3://BUCKET/KEY` on the job's store, or the path of a file";
    match (text.strip_prefix("s3://"), text.split_once("://")) {
        (Some(place), _) => match place.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Location::Object { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => bad(format!("`{}` names no object", clip(text)), hint),
        },
        (None, Some(_)) => bad(format!("`{}` is no place that keyrotate reads from", clip(text)), hint),
        (None, None) => Ok(Location::File(text.to_owned())),
    }
}

/// What a manifest is written in.
pub(super) fn manifest_format(text: &str) -> Result<ManifestFormat, Bad> {
    match text {
        "csv" => Ok(ManifestFormat::Csv),
        "inventory" => Ok(ManifestFormat::Inventory),
        _ => bad(
            format!("`{}` is not a format of manifests", clip(text)),
            "`csv` for a list, `inventory` for `manifest.json` of S3 Inventory, whose data files are CSV or Parquet",
        ),
    }
}

/// See [`crate::spec::Manifest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManifestFormat {
    Csv,
    Inventory,
}

/// A share from 0 to 1, also in per cent.
pub(super) fn share(text: &str) -> Result<f64, Bad> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    match decimal(number).map(|n| n / scale) {
        Some(share) if share <= 1.0 => Ok(share),
        _ => bad(format!("`{}` is not a share", clip(text)), "from 0 to 1, such as `0.001`, or `0.1%`; `0` for none"),
    }
}

/// How many may fail: a number, a share, or both; `none` for any.
pub(super) fn failure_threshold(text: &str) -> Result<FailureThreshold, Bad> {
    let mut read = FailureThreshold { count: None, share: None };
    if text == "none" {
        return Ok(read);
    }
    for piece in text.split(',').map(str::trim) {
        let count = piece.parse().ok().filter(|_| piece.bytes().all(|b| b.is_ascii_digit()));
        match (count, piece.strip_suffix('%').and_then(|_| share(piece).ok())) {
            (Some(count), _) if read.count.is_none() => read.count = Some(count),
            (None, Some(share)) if read.share.is_none() => read.share = Some(share),
            _ => {
                let hint = "a number of versions such as `1000`, a share such as `1%`, `1000, 1%` for both, or `none`";
                return bad(format!("`{}` is not a threshold", clip(text)), hint);
            }
        }
    }
    Ok(read)
}

/// The one word about checksums.
pub(super) fn checksums(text: &str) -> Result<(), Bad> {
    match text {
        "require" => Ok(()),
        _ => bad(
            format!("`{}` is no word about checksums", clip(text)),
            "`require`; to let objects lose theirs, say `acceptLoss: [checksum]`",
        ),
    }
}

/// Whether somebody else must confirm.
pub(super) fn approval(text: &str) -> Result<bool, Bad> {
    match text {
        "required" => Ok(true),
        "none" => Ok(false),
        _ => bad(format!("`{}` is no approval", clip(text)), "`required` or `none`"),
    }
}

/// See [`Rank::priority`].
pub(super) fn priority(text: &str) -> Result<i32, Bad> {
    match text.parse() {
        Ok(priority) if Rank::is_priority(priority) && !text.starts_with('+') => Ok(priority),
        _ => bad(format!("`{}` is not a priority", clip(text)), "a whole number from -100 to 100; 0 for most jobs"),
    }
}

/// See [`Rank::weight`].
pub(super) fn weight(text: &str) -> Result<u32, Bad> {
    match text.parse() {
        Ok(weight) if Rank::is_weight(weight) && !text.starts_with('+') => Ok(weight),
        _ => bad(format!("`{}` is not a weight", clip(text)), "a whole number from 1 to 1000; 1 for most jobs"),
    }
}

/// Objects per second, more than none.
pub(super) fn rate(text: &str) -> Result<f64, Bad> {
    match decimal(text.strip_suffix("/s").unwrap_or(text)) {
        Some(rate) if rate > 0.0 => Ok(rate),
        _ => bad(
            format!("`{}` is not a rate", clip(text)),
            "objects per second, more than 0, such as `200`; without the field there is no limit",
        ),
    }
}

/// Reads bytes per second, more than none: `50MiB`, `50MiB/s`.
#[must_use]
pub fn bytes_per_second(text: &str) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    bytes(text.strip_suffix("/s").unwrap_or(text)).filter(|rate| *rate > 0).map(|rate| rate as f64)
}

/// See [`bytes_per_second`].
pub(super) fn byte_rate(text: &str) -> Result<f64, Bad> {
    bytes_per_second(text).map_or_else(
        || {
            bad(
                format!("`{}` is not a rate of bytes", clip(text)),
                "bytes per second, more than 0, such as `50MiB`; without the field there is no limit",
            )
        },
        Ok,
    )
}

/// Calls to the KMS per second, more than none.
pub(super) fn kms_rate(text: &str) -> Result<f64, Bad> {
    let wrong = |bad: Bad| Bad { hint: bad.hint.replace("objects", "calls to the KMS"), ..bad };
    rate(text).map_err(wrong)
}

/// A time of the day, to the minute.
pub(super) fn time_of_day(text: &str) -> Result<Time, Bad> {
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let read = || {
        let (hour, minute) = text.split_once(':').filter(|(hour, minute)| digits(hour) && digits(minute))?;
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    };
    read()
        .map_or_else(|| bad(format!("`{}` is no time of the day", clip(text)), "write it from `00:00` to `23:59`"), Ok)
}

/// See [`Days`].
pub(super) fn days(text: &str) -> Result<Days, Bad> {
    text.parse().or_else(|wrong: String| bad(wrong, "mon, tue, wed, thu, fri, sat, sun: `mon-fri`, `sat,sun`"))
}

/// What a time zone looks like.
pub(super) const ZONES: &str = "name one of the time zone database, such as `Europe/Zurich`, or `UTC`";

/// The name of a time zone that is known here.
pub(super) fn zone(text: &str) -> Result<String, Bad> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => bad(format!("`{}` is no time zone", clip(text)), ZONES),
    }
}

/// Digits with at most one point between them: no sign, no exponent, no infinity.
fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 15 && part.bytes().all(|b| b.is_ascii_digit());
    if digits(whole) && digits(fraction) { text.parse().ok() } else { None }
}

/// An encryption context: base64 of a JSON object of strings. An empty one is none.
pub(super) fn context(text: &str) -> Result<Option<BTreeMap<String, String>>, Bad> {
    if is_placeholder(text) {
        return placeholder(text, "write base64 of a JSON object of strings, or remove the line");
    }
    let hint =
        "it is base64 of a JSON object of strings, such as `echo -n '{\"team\":\"billing\"}' | base64 -w0` prints";
    let Ok(json) = STANDARD.decode(text) else {
        return bad("is not base64", hint);
    };
    let fields = match serde_json::from_slice(&json) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) => return bad("holds JSON, but not an object", hint),
        Err(_) => return bad("is base64, but not of JSON", hint),
    };
    let mut context = BTreeMap::new();
    for (name, value) in fields {
        let serde_json::Value::String(value) = value else {
            return bad(format!("`{}` in it is not a string", clip(&name)), "every value of a context is a string");
        };
        context.insert(name, value);
    }
    Ok((!context.is_empty()).then_some(context))
}

/// A KMS key's name, without MinIO's `arn:aws:kms:`; an empty one is none.
pub(super) fn key(text: &str) -> Result<Option<KeyName>, Bad> {
    if is_placeholder(text) {
        return placeholder(text, "write the name of the KMS key");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return bad(format!("`{}` is not a key's name: it has blanks in it", clip(text)), "remove them");
    }
    if text.len() > 2048 {
        return bad("is too long for a key's name", "at most 2048 characters");
    }
    let name = KeyName(text.to_owned()).bare().to_owned();
    match (text.is_empty(), name.is_empty()) {
        (true, _) => Ok(None),
        (false, true) => bad("only the prefix `arn:aws:kms:` stands here", "write the key's name behind it"),
        (false, false) => Ok(Some(KeyName(name))),
    }
}

/// A bucket's name.
pub(super) fn bucket(text: &str) -> Result<String, Bad> {
    if text == "BUCKET" || is_placeholder(text) {
        return placeholder(text, "write the bucket's name");
    }
    let called = clip(text);
    if text.contains('/') {
        return bad(
            format!("`{called}` is not a bucket's name"),
            "the name alone; what follows it belongs in `prefix`",
        );
    }
    if text.len() < 3 || text.len() > 255 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return bad(format!("`{called}` is not a bucket's name"), "3 to 63 letters, digits, dots and hyphens");
    }
    Ok(text.to_owned())
}

/// A prefix of object keys.
pub(super) fn prefix(text: &str) -> Result<String, Bad> {
    if text == "PREFIX" || is_placeholder(text) {
        return placeholder(text, "write the prefix of the objects' keys, or remove the line for all");
    }
    if text.len() > 1024 {
        return bad("is longer than any object's key", "at most 1024 bytes");
    }
    Ok(text.to_owned())
}

/// Whether the value is a template's `<something>`.
pub(super) fn is_placeholder(text: &str) -> bool {
    text.len() > 2 && text.starts_with('<') && text.ends_with('>')
}

pub(super) fn placeholder<T>(text: &str, hint: &str) -> Result<T, Bad> {
    bad(format!("`{}` is a placeholder left from a template", clip(text)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(result: Result<impl std::fmt::Debug, Bad>) -> String {
        result.unwrap_err().hint
    }

    #[test]
    fn durations_follow_the_grammar() {
        let ms = |text: &str| duration(text).unwrap().as_millis();
        assert_eq!(ms("7d10h31s"), (7 * 86_400 + 36_000 + 31) * 1000);
        assert_eq!(ms("84h"), 84 * 3_600_000);
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("500ms"), 500);
        assert_eq!(ms("1w1d1h1m1s1ms"), 694_861_001);
        assert_eq!(ms("168h0m0s"), 604_800_000);
        assert_eq!(ms("1m1ms"), 60_001);
        assert_eq!(ms("0s"), 0);
        assert!(hint(duration("1.5h")).contains("fractions"));
        assert!(hint(duration("-1h")).contains("sign"));
        assert!(hint(duration("500")).contains("unit is missing"));
        assert!(hint(duration("1s1m")).contains("order"));
        assert!(hint(duration("1h1h")).contains("once"));
        assert!(hint(duration("1y")).contains("years"));
        assert!(hint(duration("5us")).contains("smallest"));
        assert!(hint(duration("99999999999999999999w")).contains("too long"));
        assert!(hint(duration("18446744073709551615ms1ms")).contains("too long"));
        for text in ["", "7 days", "d", "7d ", " 7d", "٣d", "7D", "1h-30m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates_are_days_or_rfc_3339() {
        let at = |text: &str| date(text).unwrap().to_string();
        assert_eq!(at("2023-03-02"), "2023-03-02T00:00:00Z");
        assert_eq!(at("2023-03-02T15:04:05Z"), "2023-03-02T15:04:05Z");
        assert_eq!(at("2023-03-02T15:04:05.25+07:00"), "2023-03-02T08:04:05.25Z");
        assert!(hint(date("2023-03-02T15:04:05Z07:00")).contains("pattern"));
        assert!(hint(date("2023-02-30")).contains("no such"));
        assert!(hint(date("2023-03-02T25:04:05Z")).contains("no such"));
        assert!(date("date").unwrap_err().message.contains("placeholder"));
        for text in ["", "02.03.2023", "2023-03-02 10:00:00", "2023-03-02T10:00Z", "2023-03-02T10:00:00", "20230302"] {
            assert!(date(text).is_err(), "{text}");
        }
        assert!(date("2023-03-02T10:00:00Z[Europe/Berlin]").is_err());
    }

    #[test]
    fn sizes_shares_and_rates() {
        assert_eq!(body_transit("0"), Ok(BodyTransit::UpTo(0)));
        assert_eq!(body_transit("1MiB"), Ok(BodyTransit::UpTo(1 << 20)));
        assert_eq!(body_transit("5GB"), Ok(BodyTransit::UpTo(5_000_000_000)));
        assert_eq!(body_transit("any"), Ok(BodyTransit::Any));
        for text in ["", "-1", "1 MiB", "MiB", "1.5MiB", "99999999999TiB", "all"] {
            assert!(body_transit(text).is_err(), "{text}");
        }
        assert_eq!(share("0.001"), Ok(0.001));
        assert_eq!(share("100%"), Ok(1.0));
        assert_eq!(share("0"), Ok(0.0));
        for text in ["", "1.1", "-0", "NaN", "inf", "1e-3", "101%", ".5", "%", "1."] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!((priority("-100"), priority("7"), weight("1"), weight("1000")), (Ok(-100), Ok(7), Ok(1), Ok(1000)));
        assert_eq!((approval("required"), approval("none")), (Ok(true), Ok(false)));
        assert!(approval("true").is_err() && approval("").is_err());
        for no in ["", "101", "-101", "+1", "1.0", "high"] {
            assert!(priority(no).is_err(), "{no}");
        }
        for no in ["", "0", "1001", "-1", "+1", "1.5"] {
            assert!(weight(no).is_err(), "{no}");
        }
        assert_eq!(rate("200"), Ok(200.0));
        assert_eq!(rate("0.5/s"), Ok(0.5));
        assert!(rate("0").is_err() && rate("-1").is_err() && rate("inf").is_err());
    }

    #[test]
    fn contexts_are_json_objects_of_strings() {
        let of = |json: &str| context(&STANDARD.encode(json));
        assert_eq!(of(r#"{"b":"2","a":"1"}"#).unwrap().unwrap().into_keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(of("{}"), Ok(None));
        assert!(of(r#"{"a":1}"#).unwrap_err().message.contains("`a`"));
        assert!(of("[]").is_err() && of("{").is_err());
        assert!(context("{\"a\":\"b\"}").is_err());
        assert!(context("<new-kms-key-context>").unwrap_err().message.contains("placeholder"));
    }

    #[test]
    fn keys_and_buckets() {
        assert_eq!(key("arn:aws:kms:my-key"), Ok(Some(KeyName("my-key".into()))));
        assert_eq!(key(""), Ok(None));
        let full = "arn:aws:kms:eu-west-1:123456789012:key/11-22";
        assert_eq!(key(full), Ok(Some(KeyName(full.into()))));
        assert!(key("arn:aws:kms:").is_err() && key(" a").is_err() && key("<new-kms-key>").is_err());
        assert!(bucket("s3://b/a").unwrap_err().hint.contains("prefix"));
        assert!(bucket("BUCKET").unwrap_err().message.contains("placeholder"));
        assert!(bucket("").is_err() && bucket("a b").is_err() && bucket("my-bucket").is_ok());
    }
}
