//! Bodies on their way in, checked against what the request says of them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::Stream;
use keyrotate_store::{ErrorKind, Result, StoreError};
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};

use super::call::CHECKSUMS;

/// What a request says of its body.
pub(super) struct Expected {
    /// `Content-MD5`.
    pub(super) md5: Option<String>,
    /// A checksum in a header: its algorithm and value.
    pub(super) checksum: Option<(String, String)>,
    /// The algorithm of a checksum that follows the body.
    pub(super) trailer: Option<&'static str>,
}

/// The body of a request as a stream that ends in an error unless length, MD5 and checksum are right.
pub(super) fn checked(
    operation: &'static str,
    body: s3s::Body,
    length: u64,
    expected: Expected,
    trailers: Option<TrailingHeaders>,
) -> Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + Sync>> {
    let algorithm = expected.trailer.or(expected.checksum.as_ref().map(|(algorithm, _)| algorithm.as_str()));
    let hasher = hasher(algorithm.unwrap_or(""));
    let md5 = expected.md5.is_some().then(Md5::new);
    Box::pin(Checked { operation, body, missing: length, expected, trailers, hasher, md5, held: None, done: false })
}

/// A header that came behind the body, once the body was read to its end.
pub(super) fn trailer(trailers: Option<&TrailingHeaders>, header: &str) -> Option<String> {
    let value = trailers?.read(|trailers| trailers.get(header).cloned())??;
    value.to_str().ok().map(str::to_owned)
}

fn hasher(algorithm: &str) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    match algorithm {
        "CRC32" => hasher.crc32 = Some(Crc32::new()),
        "CRC32C" => hasher.crc32c = Some(Crc32c::new()),
        "CRC64NVME" => hasher.crc64nvme = Some(Crc64Nvme::new()),
        "SHA1" => hasher.sha1 = Some(Sha1::new()),
        "SHA256" => hasher.sha256 = Some(Sha256::new()),
        _ => {}
    }
    hasher
}

struct Checked {
    operation: &'static str,
    body: s3s::Body,
    missing: u64,
    expected: Expected,
    trailers: Option<TrailingHeaders>,
    hasher: ChecksumHasher,
    md5: Option<Md5>,
    held: Option<Bytes>,
    done: bool,
}

impl Checked {
    fn refuse(&self, code: &str, message: &str) -> StoreError {
        StoreError::answered(self.operation, ErrorKind::Refused, 400, code, message)
    }

    fn take(&mut self, bytes: &Bytes) -> Result<()> {
        self.hasher.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        let missing = self.missing.checked_sub(bytes.len() as u64);
        self.missing = missing.ok_or_else(|| self.refuse("IncompleteBody", "the body is longer than was said"))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.missing > 0 {
            return Err(self.refuse("IncompleteBody", "The request body terminated unexpectedly"));
        }
        let md5 = self.md5.take().map(|md5| BASE64.encode(md5.finalize()));
        if md5 != self.expected.md5 {
            return Err(self.refuse("BadDigest", "The Content-MD5 you specified did not match what we received."));
        }
        let sums = std::mem::take(&mut self.hasher).finalize();
        let sums = [
            sums.checksum_crc32,
            sums.checksum_crc32c,
            sums.checksum_crc64nvme,
            sums.checksum_sha1,
            sums.checksum_sha256,
        ];
        let found = sums.into_iter().flatten().next();
        if found != self.expected_checksum() {
            return Err(self.refuse("BadDigest", "The checksum you specified did not match what we received."));
        }
        Ok(())
    }

    fn expected_checksum(&self) -> Option<String> {
        let Some(algorithm) = self.expected.trailer else {
            return self.expected.checksum.as_ref().map(|(_, value)| value.clone());
        };
        let (_, header) = CHECKSUMS.iter().find(|(name, _)| *name == algorithm)?;
        trailer(self.trailers.as_ref(), header)
    }
}

impl Stream for Checked {
    type Item = Result<Bytes>;

    /// The last bytes are held back until the checks are done, so that a reader who stops at the length has them too.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.done {
            let checked = match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.take(&bytes).map(|()| self.held.replace(bytes)),
                Some(Err(broken)) => Err(self.refuse("IncompleteBody", &format!("the body broke off: {broken}"))),
                None => {
                    self.done = true;
                    self.finish().map(|()| self.held.take())
                }
            };
            self.done |= checked.is_err();
            if let Some(item) = checked.transpose() {
                return Poll::Ready(Some(item));
            }
        }
        Poll::Ready(None)
    }
}
