//! Which store the model plays: every guard and every wrongness is a switch of its own.

use keyrotate_proto::key::KeyName;

const ARN: &str = "arn:aws:kms:";

/// How a store behaves. The four constructors are stores as they were observed; a test changes single switches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Its name: `aws`, `minio`, `moto` or `rgw`.
    pub name: &'static str,

    /// PutObject honours `If-Match` and `If-None-Match: *`. All do.
    pub put_if_match: bool,
    /// CopyObject honours `If-Match` on the destination. Only AWS does.
    pub copy_if_match: bool,
    /// CopyObject honours `x-amz-copy-source-if-match`.
    pub copy_source_if_match: bool,
    /// UploadPartCopy honours `x-amz-copy-source-if-match`.
    pub part_copy_source_if_match: bool,
    /// CompleteMultipartUpload honours `If-Match`.
    pub complete_if_match: bool,

    /// UpdateObjectEncryption is known. Where it is not, the call is taken for a PutObject: it **overwrites the
    /// object with the request's XML and answers 200**.
    pub update_encryption: bool,
    /// A write that asks for no encryption is encrypted with the store's own key, as AWS does since 2023.
    pub encrypts_always: bool,
    /// CopyObject and UploadPartCopy take encrypted objects; else 501.
    pub copies_encrypted: bool,
    /// `aws:kms` without a key id means the default key; else 400.
    pub kms_without_key: bool,
    /// A KMS key that does not exist is accepted without a word; the body then lies in clear.
    pub unknown_keys_accepted: bool,
    /// The KMS key that seals SSE-S3 objects and `aws:kms` without a key id; made at its first use.
    pub default_key: String,
    /// How answers write a key's name.
    pub key_ids: KeyIds,
    /// S3 bucket keys are known and shown.
    pub bucket_keys: bool,
    /// `aws:kms:dsse` may be asked for.
    pub dual_layer: bool,
    /// Every write under SSE-KMS gets a random ETag; else the MD5 of the plaintext.
    pub kms_etag_random: bool,

    /// `metadata=true` on a listing shows encryption, headers and tags.
    pub listing_facts: bool,
    /// Listings show milliseconds; else whole seconds, as HEAD does everywhere.
    pub listing_milliseconds: bool,
    /// A listing of versions leaves out the first version at or behind its key marker, whichever that is.
    pub skips_at_key_marker: bool,

    /// MinIO's replication headers are honoured: version id, date and ETag of the source are kept.
    pub in_place: bool,
    /// In place with a date that is not strictly later than the stored one, the object is **lost**.
    pub date_trap: bool,

    /// A copy of an object onto itself that changes nothing is refused.
    pub refuses_unchanged_self_copy: bool,
    /// CopyObject with directive COPY takes the website redirect along.
    pub copy_keeps_website_redirect: bool,
    /// A self-copy with directive REPLACE that changes only metadata puts the new metadata on whatever body is
    /// there at its end, guarded or not.
    pub torn_metadata_copy: bool,
    /// UploadPartCopy into an upload that was created with a checksum algorithm is refused with 400.
    pub refuses_part_copy_with_checksum: bool,
    /// CopyObject and UploadPartCopy refuse more bytes than this in one call.
    pub copy_limit: u64,
    /// Every part but the last must have as many bytes.
    pub min_part: u64,

    /// Objects have ACLs, which every write resets; else GetObjectAcl is answered 501.
    pub acls: bool,

    /// Which keys are refused.
    pub keys: KeyRules,
    /// Keys that end in `/`: no multipart, no versions, and, encrypted, an ETag in HEAD of another form, the only
    /// one that `If-Match` takes.
    pub odd_directory_keys: bool,
}

/// How a store writes the name of a KMS key in its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyIds {
    /// `arn:aws:kms:NAME`.
    Prefixed,
    /// `arn:aws:kms:REGION:ACCOUNT:key/NAME`, where this is `arn:aws:kms:REGION:ACCOUNT:key/`.
    FullArn(String),
    /// As the request wrote it.
    AsGiven,
}

/// Which object keys a store refuses, besides those over 1,024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRules {
    /// None.
    Any,
    /// What a file system can't hold: `a//b`, `.` and `..` as components, components over 255 bytes.
    FileSystem,
    /// Control characters answer 404 to everything.
    NoControlCharacters,
}

impl Mode {
    /// AWS S3: every guard, UpdateObjectEncryption, full ARNs.
    #[must_use]
    pub fn aws() -> Self {
        Self {
            name: "aws",
            put_if_match: true,
            copy_if_match: true,
            copy_source_if_match: true,
            part_copy_source_if_match: true,
            complete_if_match: true,
            update_encryption: true,
            encrypts_always: true,
            copies_encrypted: true,
            kms_without_key: true,
            unknown_keys_accepted: false,
            default_key: "aws-managed".to_owned(),
            key_ids: KeyIds::FullArn("arn:aws:kms:us-east-1:111122223333:key/".to_owned()),
            bucket_keys: true,
            dual_layer: true,
            kms_etag_random: true,
            listing_facts: false,
            listing_milliseconds: false,
            skips_at_key_marker: false,
            in_place: false,
            date_trap: false,
            refuses_unchanged_self_copy: true,
            copy_keeps_website_redirect: false,
            torn_metadata_copy: false,
            refuses_part_copy_with_checksum: false,
            copy_limit: 5 << 30,
            min_part: 5 << 20,
            acls: false,
            keys: KeyRules::Any,
            odd_directory_keys: false,
        }
    }

    /// MinIO: no destination guard on CopyObject, the XML trap, in-place writes with the trap of the date.
    #[must_use]
    pub fn minio() -> Self {
        Self {
            name: "minio",
            copy_if_match: false,
            update_encryption: false,
            encrypts_always: false,
            default_key: "minio-default-key".to_owned(),
            key_ids: KeyIds::Prefixed,
            bucket_keys: false,
            dual_layer: false,
            listing_facts: true,
            listing_milliseconds: true,
            in_place: true,
            date_trap: true,
            refuses_unchanged_self_copy: false,
            torn_metadata_copy: true,
            refuses_part_copy_with_checksum: true,
            acls: false,
            keys: KeyRules::FileSystem,
            odd_directory_keys: true,
            ..Self::aws()
        }
    }

    /// moto's server: guards only PutObject, takes any key name for a KMS key, lists versions with gaps.
    #[must_use]
    pub fn moto() -> Self {
        Self {
            name: "moto",
            copy_if_match: false,
            copy_source_if_match: false,
            part_copy_source_if_match: false,
            complete_if_match: false,
            update_encryption: false,
            encrypts_always: false,
            unknown_keys_accepted: true,
            default_key: "moto-default-key".to_owned(),
            key_ids: KeyIds::AsGiven,
            kms_etag_random: false,
            refuses_unchanged_self_copy: false,
            copy_keeps_website_redirect: true,
            acls: false,
            skips_at_key_marker: true,
            keys: KeyRules::NoControlCharacters,
            ..Self::aws()
        }
    }

    /// Ceph RGW: encrypted objects can't be copied, a KMS key must be named.
    #[must_use]
    pub fn rgw() -> Self {
        Self {
            name: "rgw",
            copy_if_match: false,
            update_encryption: false,
            encrypts_always: false,
            copies_encrypted: false,
            kms_without_key: false,
            default_key: "rgw-default-key".to_owned(),
            key_ids: KeyIds::AsGiven,
            bucket_keys: false,
            dual_layer: false,
            kms_etag_random: false,
            listing_milliseconds: true,
            ..Self::aws()
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|mode| mode.name == name)
    }

    /// All four.
    #[must_use]
    pub fn all() -> [Self; 4] {
        [Self::aws(), Self::minio(), Self::moto(), Self::rgw()]
    }

    /// A key as this store's answers write it.
    #[must_use]
    pub fn show_key(&self, given: &str) -> KeyName {
        let bare = self.kms_name(given);
        KeyName(match &self.key_ids {
            KeyIds::Prefixed => format!("{ARN}{bare}"),
            KeyIds::FullArn(stem) => format!("{stem}{bare}"),
            KeyIds::AsGiven => given.to_owned(),
        })
    }

    /// The name of the key in the KMS for one that a request names. A full ARN of another region or account stays
    /// whole, and no KMS knows it.
    #[must_use]
    pub fn kms_name<'a>(&self, given: &'a str) -> &'a str {
        if let KeyIds::FullArn(stem) = &self.key_ids {
            return given.strip_prefix(stem.as_str()).unwrap_or(given);
        }
        match given.strip_prefix(ARN) {
            Some(rest) => rest.rsplit([':', '/']).next().unwrap_or(rest),
            None => given,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_each_store_shows_them() {
        let show = |mode: Mode, given: &str| mode.show_key(given).0;
        assert_eq!(show(Mode::minio(), "k"), "arn:aws:kms:k");
        assert_eq!(show(Mode::minio(), "arn:aws:kms:k"), "arn:aws:kms:k");
        assert_eq!(show(Mode::aws(), "k"), "arn:aws:kms:us-east-1:111122223333:key/k");
        assert_eq!(show(Mode::aws(), "arn:aws:kms:us-east-1:111122223333:key/k"), show(Mode::aws(), "k"));
        assert_eq!(show(Mode::moto(), "arn:aws:kms:k"), "arn:aws:kms:k");
        assert_eq!(show(Mode::moto(), "k"), "k");
    }

    #[test]
    fn a_foreign_arn_names_no_key_of_ours() {
        let foreign = "arn:aws:kms:eu-west-1:111122223333:key/k";
        assert_eq!(Mode::aws().kms_name(foreign), foreign);
        assert_eq!(Mode::moto().kms_name(foreign), "k");
    }

    #[test]
    fn every_mode_is_found_by_its_name() {
        for mode in Mode::all() {
            assert_eq!(Mode::named(mode.name), Some(mode.clone()));
        }
        assert_eq!(Mode::named("azure"), None);
    }
}
