//! Listing pages, read from the raw XML of `ListObjectsV2` and `ListObjectVersions`.
//!
//! The SDK gives versions and delete markers as two lists, which loses the store's order, and drops MinIO's metadata, so
//! the answer is read here. Whatever the bytes are, reading them ends in a page or in [`ErrorKind::Nonsense`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyrotate_proto::key::KeyName;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use super::encode::{bare_etag, form_decoded, parsed_context, tags};
use super::headers::without_chunked;
use crate::{Entry, EntryFacts, ErrorKind, Headers, ListFrom, ListPage, Result, Sse, StoreError, Tags};

/// Reads one page.
pub(super) fn page(operation: &'static str, xml: &[u8]) -> Result<ListPage> {
    let nonsense = |message: String| StoreError::new(operation, ErrorKind::Nonsense, message);
    let text = text(operation, xml)?;
    let mut page = Page::default();
    if let Err(message) = page.read(text) {
        // Where it is the store's error, that says more.
        return Err(fields(operation, xml).err().filter(|error| error.code.is_some()).unwrap_or(nonsense(message)));
    }
    page.finish().map_err(nonsense)
}

/// The text of an answer that may be one of S3.
fn text<'a>(operation: &'static str, xml: &'a [u8]) -> Result<&'a str> {
    if is_web_page(xml) {
        return Err(StoreError::new(operation, ErrorKind::Nonsense, WEB_PAGE));
    }
    let message = "the answer is not UTF-8";
    std::str::from_utf8(xml).map_err(|_| StoreError::new(operation, ErrorKind::Nonsense, message))
}

/// What is said of a web page in the place of an answer.
pub(super) const WEB_PAGE: &str =
    "the answer is a web page, none of S3: something before the store answers, or another server";

/// Whether an answer's body is HTML, as proxies and login pages send it.
pub(super) fn is_web_page(body: &[u8]) -> bool {
    let begins =
        |with: &str| body.trim_ascii_start().get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with.as_bytes()));
    begins("<!doctype html") || begins("<html")
}

/// The status in a bucket's versioning configuration, whose root element stores name differently.
pub(super) fn versioning(operation: &'static str, xml: &[u8]) -> Result<Option<String>> {
    let (root, fields) = document(operation, xml)?;
    if !root.contains("Versioning") {
        let message = "the answer is no versioning configuration";
        return Err(StoreError::new(operation, ErrorKind::Nonsense, message));
    }
    let status = fields.into_iter().find(|(name, _)| name == "Status");
    Ok(status.map(|(_, status)| status.trim().to_owned()).filter(|status| !status.is_empty()))
}

/// The fields of a small answer, whatever its root element is called, since stores differ there: `(path below the root,
/// text)`, in order. A root `Error` is the store's error, also under a good status.
pub(super) fn fields(operation: &'static str, xml: &[u8]) -> Result<Fields> {
    document(operation, xml).map(|(_, fields)| fields)
}

type Fields = Vec<(String, String)>;

/// The name of the root element, and the fields below it.
fn document(operation: &'static str, xml: &[u8]) -> Result<(String, Fields)> {
    let nonsense = |message: &str| StoreError::new(operation, ErrorKind::Nonsense, message);
    let text = text(operation, xml)?;
    // Stores send white space while they work, so that the connection stays.
    let mut reader = Reader::from_str(text.trim_start());
    reader.config_mut().expand_empty_elements = true;
    let (mut path, mut found, mut current) = (Vec::<String>::new(), Vec::new(), String::new());
    let mut root = None;
    loop {
        match reader.read_event().map_err(|_| nonsense("broken XML"))? {
            Event::Start(_) if path.len() >= DEEPEST => return Err(nonsense("nested too deep")),
            Event::Start(start) => {
                path.push(String::from_utf8_lossy(local(start.name().as_ref())).into_owned());
                root.get_or_insert_with(|| path.concat());
                current.clear();
            }
            Event::End(_) => {
                found.push((path.get(1..).unwrap_or_default().join("/"), std::mem::take(&mut current)));
                path.pop();
            }
            Event::Text(text) => current.push_str(&text.decode().map_err(|_| nonsense("not UTF-8"))?),
            Event::GeneralRef(entity) => {
                let name = entity.decode().map_err(|_| nonsense("not UTF-8"))?;
                match entity.resolve_char_ref().map_err(|_| nonsense("a wrong character"))? {
                    Some(character) => current.push(character),
                    None => current.push_str(resolve_predefined_entity(&name).ok_or_else(|| nonsense("an entity"))?),
                }
            }
            Event::DocType(_) => return Err(nonsense("a document type where an answer of S3 was expected")),
            Event::Eof if path.is_empty() => break,
            Event::Eof => return Err(nonsense("the answer ends early")),
            _ => {}
        }
    }
    let get = |name: &str| found.iter().find(|(path, _)| path == name).map_or("", |(_, text)| text.as_str());
    match root {
        None => Err(nonsense("the answer is none of S3")),
        Some(root) if root != "Error" => Ok((root, found)),
        Some(_) => {
            let (code, message) = (get("Code"), get("Message"));
            let kind = super::errors::kind_of(200, Some(code), message);
            // An unknown code under a good status: it may have happened or not.
            let kind = if kind == ErrorKind::Nonsense { ErrorKind::Server } else { kind };
            Err(StoreError::answered(operation, kind, 200, code, message))
        }
    }
}

/// Elements deeper than any listing has.
const DEEPEST: usize = 16;

type Parsed<T> = std::result::Result<T, String>;

/// A page while it is read. Depth 1 is the root, 2 its fields and entries, 3 the fields of an entry, 4 its metadata.
#[derive(Default)]
struct Page {
    depth: usize,
    seen_root: bool,
    text: String,
    entries: Vec<Raw>,
    fields: BTreeMap<String, String>,
    in_metadata: bool,
}

/// One entry as it stands in the XML.
#[derive(Default)]
struct Raw {
    kind: Kind,
    fields: Vec<(String, String)>,
    metadata: Option<Vec<(String, String)>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Current,
    Version,
    DeleteMarker,
}

impl Page {
    fn read(&mut self, text: &str) -> Parsed<()> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        loop {
            match reader.read_event().map_err(|error| format!("broken XML: {error}"))? {
                Event::Start(start) => self.open(start.name().as_ref())?,
                Event::End(end) => self.close(end.name().as_ref()),
                Event::Text(text) => self.text.push_str(&text.decode().map_err(|error| error.to_string())?),
                Event::CData(text) => self.text.push_str(&text.decode().map_err(|error| error.to_string())?),
                Event::GeneralRef(entity) => {
                    let name = entity.decode().map_err(|error| error.to_string())?;
                    match entity.resolve_char_ref().map_err(|error| error.to_string())? {
                        Some(character) => self.text.push(character),
                        None => self.text.push_str(resolve_predefined_entity(&name).ok_or("an unknown XML entity")?),
                    }
                }
                Event::DocType(_) => return Err("a document type where a listing was expected".into()),
                Event::Eof if self.depth == 0 && self.seen_root => return Ok(()),
                Event::Eof => return Err("the listing ends early".into()),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
        }
    }

    fn open(&mut self, name: &[u8]) -> Parsed<()> {
        self.depth += 1;
        self.text.clear();
        let name = local(name);
        match self.depth {
            1 if self.seen_root || !matches!(name, b"ListBucketResult" | b"ListVersionsResult") => {
                return Err(format!("`{}` where a listing was expected", String::from_utf8_lossy(name)));
            }
            1 => self.seen_root = true,
            2 => {
                let kind = match name {
                    b"Contents" => Kind::Current,
                    b"Version" => Kind::Version,
                    b"DeleteMarker" => Kind::DeleteMarker,
                    _ => return Ok(()),
                };
                self.entries.push(Raw { kind, ..Raw::default() });
            }
            3 => self.in_metadata = name == b"UserMetadata",
            DEEPEST.. => return Err("the listing is nested too deep".into()),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, name: &[u8]) {
        let text = std::mem::take(&mut self.text);
        let entry = |name: &[u8]| matches!(name, b"Contents" | b"Version" | b"DeleteMarker");
        match self.depth {
            2 if !entry(local(name)) => {
                self.fields.insert(String::from_utf8_lossy(local(name)).into_owned(), text);
            }
            3 if self.in_metadata => {
                self.in_metadata = false;
                if let Some(entry) = self.entries.last_mut() {
                    entry.metadata.get_or_insert_default();
                }
            }
            3 => {
                if let Some(entry) = self.entries.last_mut() {
                    entry.fields.push((String::from_utf8_lossy(local(name)).into_owned(), text));
                }
            }
            4 if self.in_metadata => {
                if let Some(entry) = self.entries.last_mut() {
                    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                    entry.metadata.get_or_insert_default().push((name, text));
                }
            }
            _ => {}
        }
        self.depth -= 1;
    }

    fn finish(mut self) -> Parsed<ListPage> {
        let url = self.fields.get("EncodingType").is_some_and(|encoding| encoding == "url");
        let decode = |text: &str| match url {
            true => form_decoded(text).ok_or_else(|| format!("`{text}` is no encoded key")),
            false => Ok(text.to_owned()),
        };
        let entries = std::mem::take(&mut self.entries);
        let entries = entries.into_iter().map(|raw| raw.entry(&decode)).collect::<Parsed<Vec<_>>>()?;
        let field = |name: &str| self.fields.get(name).filter(|value| !value.is_empty());
        let next = match field("IsTruncated").map(String::as_str) {
            Some("true") => {
                Some(match (field("NextContinuationToken"), field("NextKeyMarker"), field("NextVersionIdMarker")) {
                    (Some(token), _, _) => {
                        let behind = entries.last().map(|entry| entry.key.clone());
                        ListFrom::Token { token: token.clone(), behind }
                    }
                    (None, Some(key), Some(version)) => ListFrom::AfterVersion(decode(key)?, version.clone()),
                    (None, Some(key), None) => ListFrom::AfterKey(decode(key)?),
                    (None, None, _) => return Err("the listing goes on, but does not say where".into()),
                })
            }
            Some("false") => None,
            _ => return Err("the listing does not say whether it goes on".into()),
        };
        Ok(ListPage::of(entries, next))
    }
}

fn local(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b':').next().unwrap_or(name)
}

impl Raw {
    fn entry(mut self, decode: &dyn Fn(&str) -> Parsed<String>) -> Parsed<Entry> {
        let delete_marker = self.kind == Kind::DeleteMarker;
        let key = decode(&self.field("Key").ok_or("an entry without a key")?)?;
        let what = |field: &str| format!("the entry of `{key}` has no readable {field}");
        let version = self.field("VersionId").filter(|_| self.kind != Kind::Current);
        if version.is_none() && self.kind != Kind::Current {
            return Err(what("VersionId"));
        }
        let size = match self.field("Size") {
            Some(size) => size.parse().map_err(|_| what("Size"))?,
            None if delete_marker => 0,
            None => return Err(what("Size")),
        };
        let last_modified: Timestamp =
            self.field("LastModified").and_then(|date| date.parse().ok()).ok_or_else(|| what("LastModified"))?;
        let latest = self.kind == Kind::Current || self.field("IsLatest").is_some_and(|latest| latest == "true");
        let etag = self.field("ETag").map(|etag| bare_etag(&etag)).unwrap_or_default();
        let storage_class = self.field("StorageClass").filter(|class| !class.is_empty() && class != "STANDARD");
        let user_tags = self.field("UserTags");
        let metadata = self.metadata.filter(|_| !delete_marker);
        let facts = match metadata {
            None => None,
            Some(lines) => facts(lines, user_tags.as_deref()).map(Box::new),
        };
        let newer = None;
        Ok(Entry { key, version, latest, delete_marker, size, etag, last_modified, storage_class, newer, facts })
    }

    fn field(&mut self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(at).1)
    }
}

/// What MinIO's metadata says; `None` where it says something that this code does not understand: HEAD knows.
fn facts(lines: Vec<(String, String)>, user_tags: Option<&str>) -> Option<EntryFacts> {
    let tags = user_tags.map_or_else(|| Some(Tags::new()), tags)?;
    let mut headers = Headers::default();
    let (mut algorithm, mut key, mut context, mut customer) = (None, None, None, false);
    for (name, value) in lines {
        match name.as_str() {
            "x-amz-server-side-encryption" => algorithm = Some(value),
            "x-amz-server-side-encryption-aws-kms-key-id" => key = Some(KeyName(value)).filter(|key| !key.0.is_empty()),
            "x-amz-server-side-encryption-context" => context = Some(parsed_context(&value)?),
            "x-amz-server-side-encryption-customer-algorithm" => customer = true,
            "content-type" => headers.content_type = Some(value),
            "content-encoding" => headers.content_encoding = without_chunked(&value),
            "content-language" => headers.content_language = Some(value),
            "content-disposition" => headers.content_disposition = Some(value),
            "cache-control" => headers.cache_control = Some(value),
            "expires" => headers.expires = Some(value),
            "x-amz-website-redirect-location" => headers.website_redirect = Some(value),
            other => {
                if let Some(name) = other.strip_prefix("x-amz-meta-") {
                    headers.metadata.insert(name.to_owned(), value);
                }
            }
        }
    }
    let sse = match algorithm.as_deref() {
        _ if customer => Sse::Customer,
        None if key.is_some() => return None,
        None => Sse::None,
        Some("AES256") => Sse::S3,
        Some("aws:kms") => Sse::Kms { key, context, bucket_key: None },
        Some("aws:kms:dsse") => Sse::DualLayer { key },
        Some(_) => return None,
    };
    Some(EntryFacts { sse, headers, tags })
}

#[cfg(test)]
mod tests;
