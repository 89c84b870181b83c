//! What lies in the buckets, and by which requests it comes there.

use keyrotate_tests::target::MOTO;

use Step::{Acl, Delete, Parts, PartsWithChecksum, Put, Seal, Wait};

/// Headers of a request. `{old}` and `{new}` stand for keys, `{until}` for a date that is to come.
pub(crate) type Headers = &'static [(&'static str, &'static str)];

/// One kind of object: a key with its versions.
pub(crate) struct Kind {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// In which bucket.
    pub(crate) place: Place,
    /// What happens to the key in each round.
    pub(crate) rounds: &'static [Step],
    /// Its key, where it matters.
    key: Option<&'static str>,
    /// What a PUT sends.
    pub(crate) body: &'static str,
    /// A store that takes it and can't show it to anybody, and how so: nothing is put there.
    pub(crate) unfit: Option<(&'static str, &'static str)>,
    /// What no HEAD shows: a GET (`{key}` stands for the key), and what its answer has while it is as it was.
    pub(crate) shown: Option<(&'static str, &'static str)>,
}

/// The buckets. Each has a job of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Without versions.
    Plain,
    /// Without versions in the first round, with versions from then on.
    Versioned,
    /// The same, and suspended from the third round on.
    Suspended,
    /// With object lock.
    Locked,
    /// The same, and the job says `forceEncryptLocked`.
    Forced,
}

impl Place {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Plain, Self::Versioned, Self::Suspended, Self::Locked, Self::Forced];
}

/// What happens to a key.
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// It is put with these headers.
    Put(&'static [Headers]),
    /// It is put with [`CUSTOMER`], by its model where an embedded store does not take that over HTTP.
    Seal,
    /// It is uploaded in two parts, under the old key.
    Parts,
    /// The same with a checksum.
    PartsWithChecksum,
    /// Everybody may read it.
    Acl,
    /// It is deleted.
    Delete,
}

impl Kind {
    /// Its key.
    pub(crate) fn key(&self) -> String {
        let named = || self.name.replace(", ", "--").replace(' ', "-");
        self.key.map_or_else(named, |key| key.replace("{long}", &"k".repeat(204)))
    }

    const fn at(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    const fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    const fn unfit(self, store: &'static str, how: &'static str) -> Self {
        Self { unfit: Some((store, how)), ..self }
    }

    const fn shown(self, get: &'static str, piece: &'static str) -> Self {
        Self { shown: Some((get, piece)), ..self }
    }
}

const fn kind(name: &'static str, place: Place, rounds: &'static [Step]) -> Kind {
    Kind { name, place, rounds, key: None, body: "body", unfit: None, shown: None }
}

const fn plain(name: &'static str, rounds: &'static [Step]) -> Kind {
    kind(name, Place::Plain, rounds)
}

const fn odd_key(name: &'static str, key: &'static str) -> Kind {
    plain(name, &[Put(&[OLD])]).at(key)
}

const fn versioned(name: &'static str, rounds: &'static [Step]) -> Kind {
    kind(name, Place::Versioned, rounds)
}

const fn suspended(name: &'static str, rounds: &'static [Step]) -> Kind {
    kind(name, Place::Suspended, rounds)
}

const fn locked(name: &'static str, rounds: &'static [Step]) -> Kind {
    kind(name, Place::Locked, rounds)
}

const fn forced(name: &'static str, rounds: &'static [Step]) -> Kind {
    kind(name, Place::Forced, rounds)
}

const SSE: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const STORAGE: &str = "x-amz-storage-class";

const S3: Headers = &[(SSE, "AES256")];
const OLD: Headers = &[(SSE, "aws:kms"), (KMS_KEY, "{old}")];
const NEW: Headers = &[(SSE, "aws:kms"), (KMS_KEY, "{new}")];
const DEFAULT: Headers = &[(SSE, "aws:kms")];
const TWO_LAYERS: Headers = &[(SSE, "aws:kms:dsse"), (KMS_KEY, "{old}")];
const BUCKET_KEY: Headers = &[("x-amz-server-side-encryption-bucket-key-enabled", "true")];
/// `{"team":"red"}`
const CONTEXT: Headers = &[("x-amz-server-side-encryption-context", TEAM_RED)];
const TEAM_RED: &str = "eyJ0ZWFtIjoicmVkIn0=";
/// A key that its owner alone has.
pub(crate) const CUSTOMER: Headers = &[
    ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-server-side-encryption-customer-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    ("x-amz-server-side-encryption-customer-key-md5", "hRasmdxgYDKV3nvbahU1MA=="),
];
const STANDARD: Headers = &[
    ("content-type", "text/html; charset=utf-8"),
    ("content-encoding", "identity"),
    ("content-language", "de, en"),
    ("content-disposition", "attachment; filename=\"a b.html\""),
    ("cache-control", "no-cache, max-age=60"),
    ("expires", "Wed, 21 Oct 2065 07:28:00 GMT"),
];
const METADATA: Headers = &[
    ("x-amz-meta-class", "a"),
    ("x-amz-meta-note", "=?UTF-8?B?w7w=?="),
    ("x-amz-meta-spaced", "two  spaces"),
    ("x-amz-meta-with-dashes", "a=b; c=\"d\""),
];
const TAGS: Headers = &[("x-amz-tagging", "team=red&a%20b=%2B%C3%BC&empty=")];
const REDIRECT: Headers = &[("x-amz-website-redirect-location", "/elsewhere")];
/// A store takes a lock only with a digest of the body.
const DIGEST: Headers = &[("content-md5", "hBotaJrYa9FhFEdFPCLG/A==")];
const GOVERNANCE: Headers =
    &[("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", "{until}")];
const COMPLIANCE: Headers =
    &[("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", "{until}")];
const HOLD: Headers = &[("x-amz-object-lock-legal-hold", "ON")];

/// All of them. Names are of the table, and of keys where none is given.
pub(crate) const KINDS: &[Kind] = &[
    plain("put without encryption", &[Put(&[])]),
    plain("sse-s3", &[Put(&[S3])]),
    plain("sse-kms", &[Put(&[OLD])]),
    plain("sse-kms, the store's default key", &[Put(&[DEFAULT])]),
    plain("sse-kms, the target key", &[Put(&[NEW])]),
    plain("sse-kms, bucket key", &[Put(&[OLD, BUCKET_KEY])]),
    plain("sse-kms, context of its own", &[Put(&[OLD, CONTEXT])])
        .shown("GET ?list-type=2&metadata=true&prefix={key}", "X-Amz-Server-Side-Encryption-Context"),
    plain("sse-c", &[Seal]),
    plain("dual-layer", &[Put(&[TWO_LAYERS])]),
    plain("no bytes", &[Put(&[OLD])]).body(""),
    plain("standard headers", &[Put(&[OLD, STANDARD])]),
    plain("metadata", &[Put(&[OLD, METADATA])]),
    plain("tags", &[Put(&[OLD, TAGS])]),
    plain("website redirect", &[Put(&[OLD, REDIRECT])]),
    plain("headers, metadata, tags without encryption", &[Put(&[STANDARD, METADATA, TAGS, REDIRECT])]),
    plain("everybody may read it", &[Put(&[OLD]), Acl]).shown("GET {key}?acl", "AllUsers"),
    plain("CRC32", &[Put(&[OLD, &[("x-amz-checksum-crc32", "26gLsg==")]])]),
    plain("CRC32C", &[Put(&[OLD, &[("x-amz-checksum-crc32c", "Jj/JUA==")]])]),
    plain("CRC64NVME", &[Put(&[OLD, &[("x-amz-checksum-crc64nvme", "mI+Ji1NHP80=")]])]),
    plain("SHA1", &[Put(&[OLD, &[("x-amz-checksum-sha1", "Agg/RXngimEkJcDBoX7ket14O5Q=")]])]),
    plain("SHA256", &[Put(&[OLD, &[("x-amz-checksum-sha256", "Iw2DWNyOiJC0xY3utikS7i8gNXrpKlzIYbmOaP4xrLU=")]])]),
    plain("STANDARD_IA", &[Put(&[OLD, &[(STORAGE, "STANDARD_IA")]])]),
    plain("INTELLIGENT_TIERING", &[Put(&[OLD, &[(STORAGE, "INTELLIGENT_TIERING")]])]),
    plain("GLACIER_IR", &[Put(&[OLD, &[(STORAGE, "GLACIER_IR")]])]),
    plain("GLACIER", &[Put(&[OLD, &[(STORAGE, "GLACIER")]])]),
    plain("DEEP_ARCHIVE", &[Put(&[OLD, &[(STORAGE, "DEEP_ARCHIVE")]])]),
    plain("DEEP_ARCHIVE without encryption", &[Put(&[&[(STORAGE, "DEEP_ARCHIVE")]])]),
    plain("a class of a remote tier", &[Put(&[OLD, &[(STORAGE, "COLD")]])]),
    plain("in two parts", &[Parts]),
    plain("in two parts, with a checksum", &[PartsWithChecksum]),
    plain("directory marker", &[Put(&[OLD])]).at("dir/").body(""),
    plain("directory marker with bytes", &[Put(&[OLD])]).at("full/"),
    odd_key("key with spaces", " a b "),
    odd_key("key with a plus", "a+b"),
    odd_key("key with a percent sign", "100%"),
    odd_key("key with an escape", "a%2Fb%00"),
    odd_key("key with a question mark", "a?versionId=b"),
    odd_key("key with a hash", "a#b"),
    odd_key("key with marks of XML", "<Key>&amp;\"'</Key>"),
    odd_key("key with marks of CSV", "\"a\",=1;|`$(b)"),
    odd_key("key in many scripts", "ü/日本語/𝄞\u{10FFFF}"),
    odd_key("key with a control character", "a\u{1}b").unfit(MOTO, "its listing of versions is no XML then"),
    odd_key("key with a line break", "a\r\nb"),
    odd_key("key with two slashes", "a//b"),
    odd_key("key with a slash in front", "/a"),
    odd_key("key with dots", "a/../b/./c"),
    odd_key("key of dots", "../.."),
    odd_key("key of 1,024 bytes", "{long}/{long}/{long}/{long}/{long}"),
    versioned("three versions", &[Wait, Put(&[OLD, TAGS]), Put(&[OLD, METADATA]), Put(&[OLD])]),
    versioned("versions of all kinds", &[Wait, Put(&[]), Put(&[S3]), Put(&[DEFAULT]), Put(&[NEW]), Put(&[OLD])]),
    versioned("of before versioning", &[Put(&[OLD])]),
    versioned("of before versioning, below another", &[Put(&[OLD]), Put(&[OLD])]),
    versioned("versions in two parts", &[Wait, Parts, PartsWithChecksum]),
    versioned("noncurrent in two parts", &[Wait, Parts, Put(&[OLD])]),
    versioned("archived below another", &[Wait, Put(&[OLD, &[(STORAGE, "GLACIER")]]), Put(&[OLD])]),
    versioned("deleted", &[Wait, Put(&[OLD]), Delete]),
    versioned("deleted and put again", &[Wait, Put(&[OLD]), Delete, Put(&[OLD])]),
    versioned("directory marker, versioned", &[Put(&[OLD]), Put(&[OLD])]).at("versioned/"),
    suspended("suspended, null", &[Wait, Wait, Put(&[OLD])]),
    suspended("suspended, null above a version", &[Wait, Put(&[OLD]), Put(&[OLD])]),
    suspended("suspended, a version", &[Wait, Put(&[OLD])]),
    suspended("suspended, a version above null", &[Put(&[OLD]), Put(&[OLD])]),
    suspended("suspended, deleted", &[Wait, Put(&[OLD]), Delete]),
    locked("governance", &[Put(&[OLD, GOVERNANCE, DIGEST])]),
    locked("compliance", &[Put(&[OLD, COMPLIANCE, DIGEST])]),
    locked("legal hold", &[Put(&[OLD, HOLD, DIGEST])]),
    locked("governance and legal hold", &[Put(&[OLD, GOVERNANCE, HOLD, DIGEST])]),
    locked("locked, put without encryption", &[Put(&[GOVERNANCE, DIGEST])]),
    locked("locked, below another", &[Put(&[OLD, COMPLIANCE, DIGEST]), Put(&[OLD])]),
    locked("not locked, in a bucket with locks", &[Put(&[OLD])]),
    forced("governance, forceEncryptLocked", &[Put(&[OLD, GOVERNANCE, DIGEST])]),
    forced("compliance, forceEncryptLocked", &[Put(&[OLD, COMPLIANCE, DIGEST])]),
    forced("legal hold, forceEncryptLocked", &[Put(&[OLD, HOLD, DIGEST])]),
    forced("locked, put without encryption, forceEncryptLocked", &[Put(&[GOVERNANCE, DIGEST])]),
    forced("locked, below another, forceEncryptLocked", &[Put(&[OLD, COMPLIANCE, DIGEST]), Put(&[OLD])]),
];
