//! The folder of a store: one append-only journal, and a file per large body.
//!
//! A line of the journal is the CRC-32 of its text in hex, a space, the changes of one step as JSON, a line feed. It
//! is written before the answer, so what was acknowledged is there after kill -9. A torn tail (its answer was never
//! given) is cut off when the folder is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::state::{Change, State};

const JOURNAL: &str = "journal";
const BODIES: &str = "bodies";

/// The open folder.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    bodies: PathBuf,
    sync: bool,
    /// A write that failed half-way leaves a torn line: nothing may follow it.
    broken: bool,
}

impl Journal {
    /// Opens a folder, replays its journal, writes it anew without what is gone, and removes bodies that nothing
    /// names any more.
    pub(super) fn open(folder: &Path, sync: bool) -> io::Result<(Self, State)> {
        let (bodies, path) = (folder.join(BODIES), folder.join(JOURNAL));
        fs::create_dir_all(&bodies)?;
        let state = replay(&path)?;
        let compact = folder.join("journal.new");
        let mut file = BufWriter::new(File::create(&compact)?);
        for change in state.changes() {
            file.write_all(&line(std::slice::from_ref(&change))?)?;
        }
        file.flush()?;
        file.get_ref().sync_data()?;
        fs::rename(&compact, &path)?;
        remove_orphans(&bodies, &state)?;
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok((Self { file, bodies, sync, broken: false }, state))
    }

    /// Where large bodies lie.
    pub(super) fn bodies(&self) -> &PathBuf {
        &self.bodies
    }

    /// Writes the changes of one step: all of them or, after a crash, none.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the journal failed"));
        }
        let written = line(changes).and_then(|line| self.file.write_all(&line));
        self.broken = written.is_err();
        written?;
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Removes a body that nothing names any more.
    pub(super) fn remove_body(&self, name: &str) {
        // What stays is removed when the folder is opened the next time.
        let _ = fs::remove_file(self.bodies.join(name));
    }
}

fn line(changes: &[Change]) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(changes)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

/// What a line says; `None` for a torn one.
fn read_line(line: &[u8]) -> Option<Vec<Change>> {
    let line = line.strip_suffix(b"\n")?;
    let (crc, json) = (line.get(..8)?, line.get(9..)?);
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn replay(path: &Path) -> io::Result<State> {
    let mut state = State::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
        Err(error) => return Err(error),
    };
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        let Some(changes) = read_line(&line) else { break };
        changes.into_iter().for_each(|change| state.apply(change));
        line.clear();
    }
    Ok(state)
}

fn remove_orphans(bodies: &Path, state: &State) -> io::Result<()> {
    let known = state.files();
    for entry in fs::read_dir(bodies)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !known.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
