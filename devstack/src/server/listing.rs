//! Listings of objects and versions, MinIO's form with metadata included.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use keyrotate_store::{Entry, EntryFacts, ListFrom, ListRequest, Result, Sse, Store};

use super::call::Call;
use super::reply::{Answer, quoted, xml};
use super::text::{Xml, url_encode, xml_date};

/// The most entries that one page has.
const PAGE: u32 = 1000;

/// ListObjects, ListObjectsV2, ListObjectVersions.
pub(super) async fn list(store: &dyn Store, call: &Call) -> Answer {
    let form = match call.operation() {
        "ListObjectsV2" => Form::V2,
        "ListObjectVersions" => Form::Versions,
        _ => Form::V1,
    };
    let asked = Asked {
        form,
        prefix: call.query("prefix").unwrap_or("").to_owned(),
        delimiter: call.query("delimiter").unwrap_or("").to_owned(),
        limit: call.number("max-keys")?.unwrap_or(PAGE).min(PAGE),
        encode: call.query("encoding-type") == Some("url"),
    };
    let page = asked.page(store, call, begin(call, form)?).await?;
    Ok(xml(asked.render(call, &page)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    V1,
    V2,
    Versions,
}

struct Asked {
    form: Form,
    prefix: String,
    delimiter: String,
    limit: u32,
    encode: bool,
}

enum Line {
    Entry(Box<Entry>),
    Prefix(String),
}

#[derive(Default)]
struct Page {
    lines: Vec<Line>,
    next: Option<ListFrom>,
}

/// Where the asked page begins.
fn begin(call: &Call, form: Form) -> Result<ListFrom> {
    let given = |name| call.query(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let after = |name| given(name).map_or(ListFrom::Start, ListFrom::AfterKey);
    Ok(match form {
        Form::V1 => after("marker"),
        Form::V2 => match given("continuation-token") {
            Some(token) => read_token(&token)
                .ok_or_else(|| call.refuse(400, "InvalidArgument", "The continuation token provided is incorrect"))?,
            None => after("start-after"),
        },
        Form::Versions => match (given("key-marker"), given("version-id-marker")) {
            (Some(key), Some(version)) => ListFrom::AfterVersion(key, version),
            (None, Some(_)) => {
                let message = "A version-id marker cannot be specified without a key marker.";
                return Err(call.refuse(400, "InvalidArgument", message));
            }
            (key, None) => key.map_or(ListFrom::Start, ListFrom::AfterKey),
        },
    })
}

/// A place in a listing as an opaque token.
fn token(from: &ListFrom) -> String {
    BASE64URL.encode(match from {
        ListFrom::Start => String::new(),
        ListFrom::AfterKey(key) => format!("k{key}"),
        ListFrom::AfterVersion(key, version) => format!("v{version}/{key}"),
        ListFrom::Token { token, .. } => format!("t{token}"),
    })
}

fn read_token(token: &str) -> Option<ListFrom> {
    let text = String::from_utf8(BASE64URL.decode(token).ok()?).ok()?;
    let kind = text.get(..1)?;
    let rest = text.get(1..)?.to_owned();
    match kind {
        "k" => Some(ListFrom::AfterKey(rest)),
        "v" => rest.split_once('/').map(|(version, key)| ListFrom::AfterVersion(key.to_owned(), version.to_owned())),
        "t" => Some(ListFrom::Token { token: rest, behind: None }),
        _ => None,
    }
}

impl Asked {
    /// One page: without a delimiter one call; with one as many as the roll-up needs, jumping over what is rolled up.
    async fn page(&self, store: &dyn Store, call: &Call, mut from: ListFrom) -> Result<Page> {
        let mut page = Page::default();
        let rolled_up = self.rolled_up_before(&from);
        let mut last_prefix = rolled_up.clone();
        if let Some(prefix) = rolled_up {
            from = behind(&prefix);
        }
        loop {
            let room = self.limit.saturating_sub(u32::try_from(page.lines.len()).unwrap_or(u32::MAX));
            let request = ListRequest {
                bucket: call.target.bucket.clone(),
                prefix: self.prefix.clone(),
                versions: self.form == Form::Versions,
                from: from.clone(),
                limit: room.max(1),
                with_facts: call.query("metadata") == Some("true"),
            };
            let got = store.list(request).await?;
            if room == 0 {
                page.next = (self.limit > 0 && !got.entries.is_empty()).then_some(from);
                return Ok(page);
            }
            let mut next = got.next;
            for entry in got.entries {
                match self.common_prefix(&entry.key) {
                    Some(prefix) if last_prefix.as_ref() == Some(&prefix) => {}
                    Some(prefix) => {
                        next = next.map(|_| behind(&prefix));
                        last_prefix = Some(prefix.clone());
                        page.lines.push(Line::Prefix(prefix));
                        break;
                    }
                    None => page.lines.push(Line::Entry(Box::new(entry))),
                }
            }
            let Some(next) = next else { return Ok(page) };
            if self.delimiter.is_empty() {
                page.next = Some(next);
                return Ok(page);
            }
            from = next;
        }
    }

    /// The common prefix that a marker stands in or is: everything below it was answered before.
    fn rolled_up_before(&self, from: &ListFrom) -> Option<String> {
        match from {
            ListFrom::AfterKey(key) | ListFrom::AfterVersion(key, _) => {
                self.common_prefix(key).filter(|prefix| prefix == key || behind(prefix) == *from)
            }
            ListFrom::Start | ListFrom::Token { .. } => None,
        }
    }

    fn common_prefix(&self, key: &str) -> Option<String> {
        let rest = key.strip_prefix(&self.prefix).filter(|_| !self.delimiter.is_empty())?;
        let end = rest.find(&self.delimiter)? + self.delimiter.len();
        Some(format!("{}{}", self.prefix, &rest[..end]))
    }

    fn name<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        if self.encode { url_encode(text).into() } else { text.into() }
    }

    fn render(&self, call: &Call, page: &Page) -> String {
        let root = if self.form == Form::Versions { "ListVersionsResult" } else { "ListBucketResult" };
        Xml::document(root, |xml| {
            xml.text("Name", &call.target.bucket);
            xml.text("Prefix", self.name(&self.prefix));
            self.render_markers(xml, call, page);
            xml.text("MaxKeys", self.limit.to_string());
            if self.form == Form::V2 {
                xml.text("KeyCount", page.lines.len().to_string());
            }
            if !self.delimiter.is_empty() {
                xml.text("Delimiter", self.name(&self.delimiter));
            }
            if self.encode {
                xml.text("EncodingType", "url");
            }
            xml.text("IsTruncated", page.next.is_some().to_string());
            for line in &page.lines {
                match line {
                    Line::Entry(entry) => self.render_entry(xml, entry),
                    Line::Prefix(prefix) => xml.nest("CommonPrefixes", |xml| xml.text("Prefix", self.name(prefix))),
                }
            }
        })
    }

    fn render_markers(&self, xml: &mut Xml, call: &Call, page: &Page) {
        let mut given = |name: &str, element: &str| {
            if let Some(value) = call.query(name) {
                let value = if name.contains("oken") { value.into() } else { self.name(value) };
                xml.text(element, value);
            }
        };
        match self.form {
            Form::V1 => given("marker", "Marker"),
            Form::V2 => {
                given("continuation-token", "ContinuationToken");
                given("start-after", "StartAfter");
            }
            Form::Versions => {
                given("key-marker", "KeyMarker");
                given("version-id-marker", "VersionIdMarker");
            }
        }
        let (Some(next), Some(last)) = (&page.next, page.lines.last()) else { return };
        let (key, version) = match last {
            Line::Entry(entry) => (entry.key.as_str(), Some(entry.version.as_deref().unwrap_or("null"))),
            Line::Prefix(prefix) => (prefix.as_str(), None),
        };
        match self.form {
            Form::V1 => xml.text("NextMarker", self.name(key)),
            Form::V2 => xml.text("NextContinuationToken", token(next)),
            Form::Versions => {
                xml.text("NextKeyMarker", self.name(key));
                if let Some(version) = version {
                    xml.text("NextVersionIdMarker", version);
                }
            }
        }
    }

    fn render_entry(&self, xml: &mut Xml, entry: &Entry) {
        let element = match (self.form, entry.delete_marker) {
            (Form::Versions, true) => "DeleteMarker",
            (Form::Versions, false) => "Version",
            _ => "Contents",
        };
        xml.nest(element, |xml| {
            xml.text("Key", self.name(&entry.key));
            if self.form == Form::Versions {
                xml.text("VersionId", entry.version.as_deref().unwrap_or("null"));
                xml.text("IsLatest", entry.latest.to_string());
            }
            xml.text("LastModified", xml_date(entry.last_modified));
            if !entry.delete_marker {
                xml.text("ETag", quoted(&entry.etag));
                xml.text("Size", entry.size.to_string());
                xml.text("StorageClass", entry.storage_class.as_deref().unwrap_or("STANDARD"));
            }
            if let Some(facts) = &entry.facts {
                render_facts(xml, facts);
            }
        });
    }
}

/// Behind everything that begins with `prefix`.
fn behind(prefix: &str) -> ListFrom {
    ListFrom::AfterKey(format!("{prefix}{}", char::MAX))
}

/// What MinIO shows of an entry with `metadata=true`: the names are those of its own records.
fn render_facts(xml: &mut Xml, facts: &EntryFacts) {
    xml.nest("UserMetadata", |xml| {
        render_sse(xml, &facts.sse);
        let own = &facts.headers;
        let headers = [
            ("content-type", &own.content_type),
            ("content-encoding", &own.content_encoding),
            ("content-language", &own.content_language),
            ("content-disposition", &own.content_disposition),
            ("cache-control", &own.cache_control),
            ("expires", &own.expires),
            ("x-amz-website-redirect-location", &own.website_redirect),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                xml.text(name, value);
            }
        }
        for (name, value) in &own.metadata {
            xml.text(&format!("X-Amz-Meta-{}", canonical(name)), value);
        }
    });
    if !facts.tags.is_empty() {
        let tags: Vec<_> = facts.tags.iter().map(|(k, v)| format!("{}={}", tag_encode(k), tag_encode(v))).collect();
        xml.text("UserTags", tags.join("&"));
    }
}

fn render_sse(xml: &mut Xml, sse: &Sse) {
    match sse {
        Sse::None | Sse::DualLayer { .. } => {}
        Sse::S3 => xml.text("X-Amz-Server-Side-Encryption", "AES256"),
        Sse::Kms { key, context, .. } => {
            xml.text("X-Amz-Server-Side-Encryption", "aws:kms");
            if let Some(key) = key {
                xml.text("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", &key.0);
            }
            if let Some(context) = context {
                let json = serde_json::to_vec(context).unwrap_or_default();
                let json = base64::engine::general_purpose::STANDARD.encode(json);
                xml.text("X-Amz-Server-Side-Encryption-Context", json);
            }
        }
        Sse::Customer => xml.text("X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256"),
    }
}

fn tag_encode(text: &str) -> String {
    url_encode(text).replace('/', "%2F")
}

/// A header name as Go writes it: `some-name` is `Some-Name`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for from in [
            ListFrom::AfterKey("a/b ü".to_owned()),
            ListFrom::AfterVersion("a/b".to_owned(), "null".to_owned()),
            ListFrom::Token { token: "x".to_owned(), behind: None },
        ] {
            assert_eq!(read_token(&token(&from)), Some(from));
        }
        assert_eq!(read_token("!"), None);
        assert_eq!(read_token(""), None);
    }

    #[test]
    fn metadata_names_are_written_as_go_writes_them() {
        assert_eq!(canonical("some-long_name"), "Some-Long_name");
    }
}
