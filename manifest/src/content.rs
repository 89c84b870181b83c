//! The bytes of one file, wherever it lies, in blocks of a few MiB: a few of them are in memory, and any can be read again,
//! as Parquet is read from its end. An object is read by the ETag that it had when it was opened, so that what was checked
//! is what is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use keyrotate_store::{GetRequest, HeadRequest, ObjectAt, Store, StoreError};
use md5::{Digest as _, Md5};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Handle;

use crate::error::{ManifestError, Result};
use crate::origin::Origin;

/// Bytes of a block.
const BLOCK: u64 = 4 << 20;

/// Blocks in memory: the columns of a Parquet file are read side by side.
const KEPT: usize = 8;

/// An open file of a manifest. Reading blocks the thread.
#[derive(Clone, Debug)]
pub(crate) struct Content(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    length: u64,
    source: Source,
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
    /// Why a block could not be read: on its way through a decoder it becomes one error among many.
    failed: Mutex<Option<ManifestError>>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Object { store: Arc<dyn Store>, at: ObjectAt, etag: String, runtime: Handle },
}

impl Content {
    pub(crate) fn open(origin: &Origin) -> Result<Self> {
        let name = origin.name();
        let (length, source) = match origin {
            Origin::File(path) => {
                let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
                let (about, file) = opened.map_err(|e| unread(&name, &e))?;
                if !about.is_file() {
                    return Err(ManifestError::bad(format!("`{name}` is no file"), "name a file"));
                }
                (about.len(), Source::File(file))
            }
            Origin::Object { store, bucket, key, runtime } => {
                let at = ObjectAt::current(bucket, key);
                let head = runtime.block_on(store.head(HeadRequest::of(&at)));
                let head = head.map_err(|error| ManifestError::Store { name: name.clone(), source: error.into() })?;
                let source = Source::Object { store: Arc::clone(store), at, etag: head.etag, runtime: runtime.clone() };
                (head.size, source)
            }
        };
        Ok(Self(Arc::new(Inner { name, length, source, blocks: Mutex::default(), failed: Mutex::default() })))
    }

    /// As people know it.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn length(&self) -> u64 {
        self.0.length
    }

    /// From a place on.
    pub(crate) fn reader(&self, at: u64) -> Reader {
        Reader { content: self.clone(), at }
    }

    /// All of a small file.
    pub(crate) fn whole(&self, most: u64) -> Result<Vec<u8>> {
        if self.length() > most {
            let what = format!("`{}` has {} bytes: no such file has more than {most}", self.name(), self.length());
            return Err(ManifestError::bad(what, "is it the right file?"));
        }
        let mut bytes = Vec::new();
        self.reader(0).read_to_end(&mut bytes).map_err(|e| self.broke(&e))?;
        Ok(bytes)
    }

    /// Lower-case hex MD5 of all of it.
    pub(crate) fn md5(&self) -> Result<String> {
        let mut hash = Md5::new();
        for n in 0..self.length().div_ceil(BLOCK) {
            hash.update(self.block(n).map_err(|e| self.broke(&e))?);
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// What an error of whoever read from it means: what broke below, else that the file is damaged.
    pub(crate) fn broke(&self, error: &dyn std::error::Error) -> ManifestError {
        let below = lock(&self.0.failed).take();
        below.unwrap_or_else(|| {
            let what = format!("`{}` can't be read: {error}", self.name());
            ManifestError::bad(what, "it is damaged, or not of the format that the job file says")
        })
    }

    fn block(&self, n: u64) -> io::Result<Bytes> {
        let mut blocks = lock(&self.0.blocks);
        if let Some((_, bytes)) = blocks.iter().find(|(number, _)| *number == n) {
            return Ok(bytes.clone());
        }
        let (from, to) = (n * BLOCK, ((n + 1) * BLOCK).min(self.length()));
        let bytes = self.0.source.read(from, to).map_err(|error| {
            let text = io::Error::other(error.to_string());
            let failed = match error {
                Unread::File(error) => unread(self.name(), &error),
                Unread::Object(source) => ManifestError::Store { name: self.name().to_owned(), source },
            };
            lock(&self.0.failed).get_or_insert(failed);
            text
        })?;
        if blocks.len() >= KEPT {
            blocks.pop_front();
        }
        blocks.push_back((n, bytes.clone()));
        Ok(bytes)
    }
}

#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    File(io::Error),
    #[error(transparent)]
    Object(Box<StoreError>),
}

impl Source {
    fn read(&self, from: u64, to: u64) -> std::result::Result<Bytes, Unread> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
                file.read_exact_at(&mut bytes, from).map_err(Unread::File)?;
                Ok(bytes.into())
            }
            Self::Object { store, at, etag, runtime } => {
                let request = GetRequest { at: at.clone(), if_match: Some(etag.clone()), range: Some((from, to)) };
                runtime
                    .block_on(async { store.get(request).await?.1.collect().await })
                    .map_err(|error| Unread::Object(error.into()))
            }
        }
    }
}

fn unread(name: &str, error: &io::Error) -> ManifestError {
    ManifestError::bad(format!("`{name}` can't be read: {error}"), "does it lie there, and may it be read?")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads on from a place.
#[derive(Debug)]
pub(crate) struct Reader {
    content: Content,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.content.length() || into.is_empty() {
            return Ok(0);
        }
        let block = self.content.block(self.at / BLOCK)?;
        let there = block.get(usize::try_from(self.at % BLOCK).unwrap_or(0)..).unwrap_or_default();
        let length = there.len().min(into.len());
        into[..length].copy_from_slice(&there[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Length for Content {
    fn len(&self) -> u64 {
        self.length()
    }
}

impl ChunkReader for Content {
    type T = Reader;

    fn get_read(&self, start: u64) -> ParquetResult<Reader> {
        Ok(self.reader(start))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length()) {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}, of {}", self.length())));
        }
        let mut bytes = vec![0; length];
        self.reader(start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
