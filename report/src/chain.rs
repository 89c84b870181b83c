//! Which parts of a shard count: the chain from its newest part back to its first.

use keyrotate_proto::part::{PartHeader, decode_header};
use keyrotate_proto::position::{KeyRange, Position};

use crate::{ReportError, ReportStore};

/// Bytes that hold the header of every part: a key in it has at most 1,024 bytes, which JSON triples.
const HEADER_BYTES: usize = 16 * 1024;

/// A part by name, and what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLink {
    /// Its name in the report store.
    pub name: String,
    /// Its header.
    pub header: PartHeader,
}

/// What a shard's record says of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardParts {
    /// The shard's range; the ranges of a pass are disjoint.
    pub range: KeyRange,
    /// Its newest committed part; `None` before the first.
    pub last_part: Option<String>,
}

/// All parts of a shard in the order of their keys, found from the newest one's name.
///
/// # Errors
/// [`ReportError::BrokenChain`] names the part that does not fit the one before it; a part that is missing or
/// damaged is named as such.
pub async fn chain(store: &dyn ReportStore, last_part: Option<&str>) -> Result<Vec<PartLink>, ReportError> {
    let mut links: Vec<PartLink> = Vec::new();
    let mut next = last_part.map(str::to_owned);
    while let Some(name) = next {
        let link = read_link(store, name).await?;
        match links.last() {
            Some(after) => check_link(&link, after)?,
            None => check_alone(&link)?,
        }
        next = link.header.previous.clone();
        links.push(link);
    }
    links.reverse();
    Ok(links)
}

/// Reads a part's header, as a rule from its first bytes alone.
///
/// # Errors
/// When the part is missing, or has no header of ours.
pub async fn read_header(store: &dyn ReportStore, name: &str) -> Result<PartHeader, ReportError> {
    if let Ok(header) = decode_header(&store.get_start(name, HEADER_BYTES).await?) {
        return Ok(header);
    }
    let bytes = store.get(name).await?;
    decode_header(&bytes).map_err(|source| ReportError::Part { name: name.to_owned(), source })
}

pub(crate) async fn read_link(store: &dyn ReportStore, name: String) -> Result<PartLink, ReportError> {
    let header = read_header(store, &name).await?;
    Ok(PartLink { name, header })
}

/// A position as something that orders: inside one key versions have no order, so all places in it count as one.
pub(crate) fn place(position: &Position) -> (bool, &str, bool) {
    match position {
        Position::Before(key) => (false, key, false),
        Position::After(key, _) => (false, key, true),
        Position::End => (true, "", false),
    }
}

/// What a part must be by itself.
pub(crate) fn check_alone(link: &PartLink) -> Result<(), ReportError> {
    let header = &link.header;
    let what = if header.name() != link.name {
        format!("its header belongs under `{}`", header.name())
    } else if place(&header.to) < place(&header.from) {
        "it ends before it begins".to_owned()
    } else if header.previous.is_none() && !matches!(header.from, Position::Before(_)) {
        "it names no part before it and begins inside a key".to_owned()
    } else {
        return Ok(());
    };
    Err(ReportError::BrokenChain { name: link.name.clone(), what })
}

/// What two parts must be to each other. After a loss of the checkpoint (another nonce) a chain may go on under
/// another shard's number and count anew.
pub(crate) fn check_link(before: &PartLink, after: &PartLink) -> Result<(), ReportError> {
    check_alone(before)?;
    let (a, b) = (&before.header, &after.header);
    let same_nonce = a.epoch.nonce == b.epoch.nonce;
    let what = if (&a.shard.job, a.shard.pass, &a.bucket) != (&b.shard.job, b.shard.pass, &b.bucket) {
        "is of another job, pass or bucket"
    } else if same_nonce && a.shard.shard != b.shard.shard {
        "is of another shard"
    } else if same_nonce && a.epoch.counter > b.epoch.counter {
        "was written under a later lease"
    } else if same_nonce && a.number >= b.number {
        "has no lower number"
    } else if a.to != b.from {
        "does not end where this one begins"
    } else {
        return Ok(());
    };
    let what = format!("the part before it, `{}`, {what}", before.name);
    Err(ReportError::BrokenChain { name: after.name.clone(), what })
}

#[cfg(test)]
mod tests;
