//! From a request's encryption to an object key, and from an object to its bytes.

use std::sync::PoisonError;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use keyrotate_envelope::secret::DataKey;
use keyrotate_kms::KmsErrorKind;
use keyrotate_store::{Body, Result, Sse};

use super::blob::{BlobReader, BlobWriter};
use super::bucket::BucketSettings;
use super::checksum::Hasher;
use super::crypto::{self, BodyCipher, CHUNK, Seal};
use super::errors;
use super::inner::{Found, Inner};
use super::object::{Content, Segment};

/// Bodies up to this many bytes are answered in memory, larger ones as a stream.
const WHOLE: u64 = 1 << 20;
const SALT: usize = 16;

/// Encryption of an object to be written.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// As answers will show it, context included.
    pub(super) sse: Sse,
    /// The key in the KMS; `None`: plaintext.
    pub(super) kms_key: Option<String>,
}

/// An object key, open and sealed; nothing of both for bytes in clear.
pub(super) type Keys = (Option<Seal>, Option<DataKey>);

/// A part that was taken in.
pub(super) struct Taken {
    pub(super) segment: Segment,
    pub(super) md5: Vec<u8>,
    /// Raw checksums in the order of the algorithms that were asked for.
    pub(super) checksums: Vec<Vec<u8>>,
}

impl Inner {
    /// What a request's encryption means here.
    pub(super) fn wanted(&self, op: &'static str, settings: &BucketSettings, asked: &Sse) -> Result<Wanted> {
        let asked = match (asked, &settings.default_sse) {
            (Sse::None, Some(default)) => default,
            (Sse::None, None) if self.mode.encrypts_always => &Sse::S3,
            (asked, _) => asked,
        };
        let key_of = |key: &Option<keyrotate_proto::key::KeyName>| match key {
            Some(key) if !key.0.is_empty() => Ok(key.0.clone()),
            _ if self.mode.kms_without_key => Ok(self.mode.default_key.clone()),
            _ => Err(errors::refused(
                op,
                "InvalidArgument",
                "Server Side Encryption with KMS managed key requires HTTP \
                                     header x-amz-server-side-encryption-aws-kms-key-id",
            )),
        };
        let kms_name = |given: &str| Some(self.mode.kms_name(given).to_owned());
        match asked {
            Sse::None => Ok(Wanted { sse: Sse::None, kms_key: None }),
            Sse::S3 => Ok(Wanted { sse: Sse::S3, kms_key: Some(self.mode.default_key.clone()) }),
            Sse::Kms { key, context, bucket_key } => {
                let given = key_of(key)?;
                let bucket_key = bucket_key.filter(|&on| on && self.mode.bucket_keys);
                let sse = Sse::Kms { key: Some(self.mode.show_key(&given)), context: context.clone(), bucket_key };
                Ok(Wanted { sse, kms_key: kms_name(&given) })
            }
            Sse::DualLayer { key } if self.mode.dual_layer => {
                let given = key_of(key)?;
                Ok(Wanted { sse: Sse::DualLayer { key: Some(self.mode.show_key(&given)) }, kms_key: kms_name(&given) })
            }
            Sse::DualLayer { .. } | Sse::Customer => Err(errors::not_implemented(op)),
        }
    }

    /// A new object key for an object, sealed by the KMS.
    pub(super) async fn new_keys(&self, op: &'static str, wanted: &Wanted, bucket: &str, key: &str) -> Result<Keys> {
        let object_key = crypto::random_key(&self.env);
        let seal = self.seal(op, wanted, bucket, key, &object_key).await?;
        let object_key = seal.is_some().then_some(object_key);
        Ok((seal, object_key))
    }

    /// Seals an object key under a fresh data key of the KMS; `None` where it stays in clear.
    pub(super) async fn seal(
        &self,
        op: &'static str,
        wanted: &Wanted,
        bucket: &str,
        key: &str,
        object_key: &DataKey,
    ) -> Result<Option<Seal>> {
        let Some(kms_key) = &wanted.kms_key else { return Ok(None) };
        let user = if let Sse::Kms { context, .. } = &wanted.sse { context.as_ref() } else { None };
        let context = crypto::context_of(bucket, key, user);
        self.make_default_key(op, kms_key).await?;
        let fresh = match self.kms.generate(kms_key, context.as_bytes()).await {
            Ok(fresh) => fresh,
            Err(error) if error.kind == KmsErrorKind::KeyNotFound && self.mode.unknown_keys_accepted => {
                return Ok(None);
            }
            Err(error) => return Err(errors::kms(op, &self.mode, error)),
        };
        let seal = Seal::new(kms_key, context, (&fresh.plaintext, fresh.ciphertext), object_key, &self.env);
        seal.map(Some).ok_or_else(|| errors::internal(op, "sealing failed"))
    }

    /// The object key of a seal: asks the KMS every time, so that a key that is gone is gone at once.
    pub(super) async fn open_seal(&self, op: &'static str, seal: Option<&Seal>) -> Result<Option<DataKey>> {
        let Some(seal) = seal else { return Ok(None) };
        let opened = self.kms.decrypt(&seal.kms_key, &seal.data_key, seal.context.as_bytes()).await;
        let data_key = opened.map_err(|error| errors::kms(op, &self.mode, error))?.into_data_key();
        let object_key = data_key.and_then(|data_key| seal.open(&data_key));
        object_key.map(Some).ok_or_else(|| errors::internal(op, "the object key does not open"))
    }

    /// Takes a part's bytes in: hashed, sealed, stored.
    pub(super) async fn take(
        &self,
        op: &'static str,
        path: &str,
        body: Body,
        object_key: Option<&DataKey>,
        algorithms: &[String],
    ) -> Result<Taken> {
        let size = body.len();
        let mut salt = vec![0; SALT];
        self.env.fill(&mut salt);
        let broken = || errors::internal(op, "the body can't be sealed");
        let cipher = BodyCipher::new(object_key, &salt, path, size).ok_or_else(broken)?;
        let mut md5 = hasher(op, "MD5")?;
        let mut hashers = algorithms.iter().map(|name| hasher(op, name)).collect::<Result<Vec<_>>>()?;
        let mut sink =
            Sink { writer: BlobWriter::new(self.bodies.clone(), &self.env), cipher, index: 0, pending: Vec::new() };
        let mut stream = body.into_stream();
        let mut seen = 0;
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            seen += bytes.len() as u64;
            md5.update(&bytes);
            hashers.iter_mut().for_each(|hasher| hasher.update(&bytes));
            sink.push(&bytes).map_err(|error| errors::internal(op, &error.to_string()))?;
        }
        if seen != size {
            return Err(errors::refused(op, "IncompleteBody", "You did not provide the number of bytes that you said"));
        }
        let blob = sink.finish().map_err(|error| errors::internal(op, &error.to_string()))?;
        let checksums = hashers.into_iter().map(Hasher::finish).collect();
        Ok(Taken { segment: Segment { size, salt, blob }, md5: md5.finish(), checksums })
    }

    /// Bytes `range` of what was found.
    pub(super) async fn read(&self, op: &'static str, path: &str, found: Found, range: (u64, u64)) -> Result<Body> {
        let object_key = self.open_seal(op, found.content.seal.as_ref()).await?;
        body_of(slices(op, path, found.content, found.readers, object_key.as_ref(), range)?, op, range)
    }

    /// Bytes `range` of something that is no object yet.
    pub(super) async fn read_content(
        &self,
        op: &'static str,
        path: &str,
        content: Content,
        range: (u64, u64),
    ) -> Result<Body> {
        let object_key = self.open_seal(op, content.seal.as_ref()).await?;
        let readers = self.readers(op, &content)?;
        body_of(slices(op, path, content, readers, object_key.as_ref(), range)?, op, range)
    }

    /// The bytes of a content, open for reading.
    pub(super) fn readers(&self, op: &'static str, content: &Content) -> Result<Vec<BlobReader>> {
        let open = |segment: &Segment| BlobReader::open(self.bodies.as_ref(), &segment.blob);
        let readers = content.segments.iter().map(open).collect::<std::io::Result<Vec<_>>>();
        readers.map_err(|error| errors::internal(op, &error.to_string()))
    }

    /// The default key is made at its first use, as a store makes it when it starts.
    async fn make_default_key(&self, op: &'static str, key: &str) -> Result<()> {
        let made = || self.default_key_made.lock().unwrap_or_else(PoisonError::into_inner);
        if key != self.mode.default_key || *made() {
            return Ok(());
        }
        match self.kms.create_key(key).await {
            Err(error) if error.kind != KmsErrorKind::KeyExists => Err(errors::kms(op, &self.mode, error)),
            _ => {
                *made() = true;
                Ok(())
            }
        }
    }
}

fn hasher(op: &'static str, algorithm: &str) -> Result<Hasher> {
    let unknown = || errors::refused(op, "InvalidRequest", "Checksum algorithm provided is unsupported.");
    Hasher::named(algorithm).ok_or_else(unknown)
}

/// Cuts what comes into chunks and seals them.
struct Sink {
    writer: BlobWriter,
    cipher: BodyCipher,
    index: u64,
    pending: Vec<u8>,
}

impl Sink {
    fn push(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while self.pending.len() + bytes.len() >= CHUNK {
            let (head, rest) = bytes.split_at(CHUNK - self.pending.len());
            self.pending.extend_from_slice(head);
            self.flush()?;
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let sealed = self.cipher.seal(self.index, &self.pending);
        self.index += 1;
        self.pending.clear();
        self.writer.write(&sealed.ok_or_else(|| std::io::Error::other("sealing failed"))?)
    }

    fn finish(mut self) -> std::io::Result<super::object::Blob> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok(self.writer.finish())
    }
}

/// The bytes of slices, opened at once or, when there are many, one chunk after the other.
fn body_of(slices: Vec<Slice>, op: &'static str, (from, to): (u64, u64)) -> Result<Body> {
    let length = to - from;
    let pieces = slices.into_iter().flat_map(Slice::pieces);
    if length > WHOLE {
        let stream = stream::iter(pieces.map(move |piece| piece.open(op)));
        return Ok(Body::Stream { length, stream: Box::pin(stream) });
    }
    let pieces = pieces.map(|piece| piece.open(op)).collect::<Result<Vec<_>>>()?;
    Ok(match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => one.into(),
        Err(many) => Bytes::from(many.concat()).into(),
    })
}

/// Bytes wanted of one part.
struct Slice {
    reader: std::sync::Arc<(BlobReader, BodyCipher)>,
    size: u64,
    from: u64,
    to: u64,
}

/// Bytes wanted of one chunk.
struct Piece {
    source: std::sync::Arc<(BlobReader, BodyCipher)>,
    index: u64,
    /// Plaintext bytes of the whole chunk.
    length: usize,
    from: usize,
    to: usize,
}

/// Which bytes of which parts make up a range of the object.
fn slices(
    op: &'static str,
    path: &str,
    content: Content,
    readers: Vec<BlobReader>,
    object_key: Option<&DataKey>,
    (from, to): (u64, u64),
) -> Result<Vec<Slice>> {
    let (mut slices, mut begin) = (Vec::new(), 0);
    for (segment, reader) in content.segments.into_iter().zip(readers) {
        let end = begin + segment.size;
        if from < end && begin < to {
            let cipher = BodyCipher::new(object_key, &segment.salt, path, segment.size);
            let cipher = cipher.ok_or_else(|| errors::internal(op, "the body can't be opened"))?;
            let (from, to) = (from.max(begin) - begin, to.min(end) - begin);
            slices.push(Slice { reader: (reader, cipher).into(), size: segment.size, from, to });
        }
        begin = end;
    }
    Ok(slices)
}

impl Slice {
    fn pieces(self) -> impl Iterator<Item = Piece> + Send + Sync {
        let chunk = CHUNK as u64;
        let within = |bytes: u64| usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK);
        (self.from / chunk..self.to.div_ceil(chunk)).map(move |index| {
            let begin = index * chunk;
            let length = within(self.size - begin);
            let (from, to) = (within(self.from.saturating_sub(begin)), within(self.to - begin).min(length));
            Piece { source: self.reader.clone(), index, length, from, to }
        })
    }
}

impl Piece {
    fn open(self, op: &'static str) -> Result<Bytes> {
        let (reader, cipher) = &*self.source;
        let place = self.index * cipher.stored_chunk() as u64;
        let stored = reader.read(place, cipher.stored_len(self.length));
        let stored = stored.map_err(|error| errors::internal(op, &error.to_string()))?;
        let chunk = cipher.open(self.index, stored);
        chunk
            .map(|chunk| chunk.slice(self.from..self.to))
            .ok_or_else(|| errors::internal(op, "the body is not authentic"))
    }
}
