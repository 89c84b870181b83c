//! Stored bytes: written once, read at any place.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use keyrotate_env::Env;

use super::object::Blob;
use super::synthetic::generated_bytes;

/// Bodies larger than this lie in files of their own, where there is a folder.
const IN_MEMORY: usize = 1 << 20;

/// Takes stored bytes one after the other; moves them into a file when they get many.
pub(super) struct BlobWriter {
    folder: Option<PathBuf>,
    name: String,
    memory: Vec<u8>,
    file: Option<File>,
}

impl BlobWriter {
    pub(super) fn new(folder: Option<PathBuf>, env: &Env) -> Self {
        Self { folder, name: env.random_hex(16), memory: Vec::new(), file: None }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.memory.extend_from_slice(bytes);
            return self.spill();
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }

    /// What was written; an abandoned writer's file is removed when the folder is opened the next time.
    pub(super) fn finish(self) -> Blob {
        match self.file {
            Some(_) => Blob::File(self.name),
            None => Blob::Memory(self.memory.into()),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        if self.memory.len() <= IN_MEMORY {
            return Ok(());
        }
        let mut file = File::create_new(folder.join(&self.name))?;
        file.write_all(&std::mem::take(&mut self.memory))?;
        self.file = Some(file);
        Ok(())
    }
}

/// Stored bytes, open for reading: they stay readable when the object is removed meanwhile.
#[derive(Debug)]
pub(super) enum BlobReader {
    Memory(Bytes),
    File(File),
    Generated(u64),
}

impl BlobReader {
    pub(super) fn open(folder: Option<&PathBuf>, blob: &Blob) -> io::Result<Self> {
        Ok(match (blob, folder) {
            (Blob::Memory(bytes), _) => Self::Memory(bytes.clone()),
            (Blob::Generated(seed), _) => Self::Generated(*seed),
            (Blob::File(name), Some(folder)) => Self::File(File::open(folder.join(name))?),
            (Blob::File(_), None) => return Err(io::ErrorKind::NotFound.into()),
        })
    }

    pub(super) fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let range = from..from.saturating_add(length);
                if range.end > bytes.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes.slice(range)) }
            }
            Self::File(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, from)?;
                Ok(bytes.into())
            }
            Self::Generated(seed) => Ok(generated_bytes(*seed, from, length)),
        }
    }
}
