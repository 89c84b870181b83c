//! The ways to change a key, each on the store where `run` chooses it.

use std::fmt::Write as _;

use keyrotate_devstack::model::SyntheticKeys;

use crate::bare::Call;
use crate::server::{ServeArgs, objects};

/// Every object begins under this key, or in plaintext.
pub(crate) const OLD: &str = "key-a";
/// And is wanted under this one.
pub(crate) const NEW: &str = "key-b";

/// One strategy on one store.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// The store's mode.
    pub(crate) mode: &'static str,
    /// Whether the store guards no copy but the multipart form.
    pub(crate) unguarded_copy: bool,
    /// Whether the objects are plaintext before.
    pub(crate) plaintext: bool,
    /// Whether the bucket keeps versions.
    pub(crate) versions: bool,
    /// Lines below `options` of the job file.
    pub(crate) options: &'static [&'static str],
    /// Store calls per object that it should take, listings apart.
    pub(crate) calls: u32,
    /// The request that writes.
    pub(crate) write: &'static str,
    /// The same calls as the bare loop makes them.
    pub(crate) bare: &'static [Call],
    /// HEAD (where there must be one) and the write, nothing read back.
    pub(crate) least: &'static [Call],
}

const fn case(name: &'static str, mode: &'static str, write: &'static str, calls: u32) -> Case {
    let (options, bare, least): (&[&str], &[Call], &[Call]) = (&[], &[], &[]);
    let (unguarded_copy, plaintext, versions) = (false, false, false);
    Case { name, mode, unguarded_copy, plaintext, versions, options, calls, write, bare, least }
}

/// All of them.
pub(crate) const CASES: [Case; 9] = [
    Case {
        bare: &[Call::Head, Call::Update, Call::Head],
        least: &[Call::Head, Call::Update],
        ..case("update-encryption", "aws", "UpdateObjectEncryption", 3)
    },
    Case {
        plaintext: true,
        bare: &[Call::Head, Call::Copy, Call::Head],
        least: &[Call::Head, Call::Copy],
        ..case("copy", "aws", "CopyObject", 3)
    },
    Case {
        plaintext: true,
        versions: true,
        bare: &[Call::Head, Call::Copy, Call::Head, Call::Versions, Call::Head],
        least: &[Call::Head, Call::Copy],
        ..case("copy to a new version", "aws", "CopyObject", 4)
    },
    Case {
        options: &["bodyTransit: any"],
        bare: &[Call::Head, Call::Rewrite, Call::Head],
        least: &[Call::Head, Call::Rewrite],
        ..case("rewrite", "rgw", "PutObject", 4)
    },
    Case {
        unguarded_copy: true,
        options: &["bodyTransit: 0"],
        bare: &[Call::Head, Call::Multipart, Call::Head],
        least: &[Call::Head, Call::Multipart],
        ..case("multipart form, 1 part", "aws", "CompleteMultipartUpload", 6)
    },
    Case {
        bare: &[Call::InPlace],
        least: &[Call::InPlace],
        ..case("rewrite in place, listing shows facts", "minio", "PutObject", 2)
    },
    Case {
        versions: true,
        bare: &[Call::VersionInPlace],
        least: &[Call::VersionInPlace],
        ..case("rewrite of a version in place, listing shows facts", "minio", "PutObject", 2)
    },
    Case {
        options: &["inPlace: false"],
        bare: &[Call::Rewrite],
        least: &[Call::Rewrite],
        ..case("rewrite, listing shows facts", "minio", "PutObject", 2)
    },
    Case {
        options: &["bodyTransit: 0"],
        bare: &[Call::Head, Call::Multipart],
        least: &[Call::Head, Call::Multipart],
        ..case("multipart form, 1 part, listing shows facts", "minio", "CompleteMultipartUpload", 4)
    },
];

impl Case {
    /// The store.
    pub(crate) fn store(&self) -> ServeArgs {
        ServeArgs { mode: self.mode.to_owned(), unguarded_copy: self.unguarded_copy }
    }

    /// So many objects as they are before.
    pub(crate) fn objects(&self, count: u64) -> SyntheticKeys {
        SyntheticKeys { versions: self.versions, ..objects(count, (!self.plaintext).then_some(OLD)) }
    }
}

/// A job file that takes everything in a bucket to [`NEW`].
pub(crate) fn job_file(bucket: &str, options: &[&str], filter: &[&str]) -> String {
    let mut text = format!("keyrotate:\n  apiVersion: v1\n  bucket: {bucket}\n  encryption:\n    key: {NEW}\n");
    let mut section = |head: &str, indent: &str, lines: &[&str]| {
        if !lines.is_empty() {
            let _never = writeln!(text, "{head}");
            let lines: Vec<_> = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
            text.push_str(&lines.concat());
        }
    };
    section("  flags:\n    filter:", "      ", filter);
    section("  options:", "    ", options);
    text
}
