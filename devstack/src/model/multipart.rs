//! Multipart uploads.

use futures::StreamExt as _;
use keyrotate_store::{
    Body, Checksum, Guard, InPlace, NewObject, ObjectAt, Part, PartCopyRequest, Result, Upload, Written,
};

use super::checksum::{self, Hasher};
use super::errors;
use super::inner::Inner;
use super::object::{Content, Segment};
use super::seal::Taken;
use super::state::{Change, OpenPart, OpenUpload};
use super::write::{Landing, verify};

const MAX_PARTS: u32 = 10_000;

impl Inner {
    pub(super) async fn create_upload(&self, at: &ObjectAt, new: &NewObject) -> Result<String> {
        let op = "CreateMultipartUpload";
        self.count(op);
        if self.is_odd(&at.key) {
            return Err(errors::refused(op, "XMinioInvalidObjectName", "Object name contains unsupported characters."));
        }
        if new.checksum.as_ref().is_some_and(|sent| Hasher::named(&sent.algorithm).is_none()) {
            return Err(errors::refused(op, "InvalidRequest", "Checksum algorithm provided is unsupported."));
        }
        let (mut content, _) = self.new_content(op, at, new).await?;
        content.checksums = new.checksum.iter().cloned().collect();
        content.multipart = true;
        let id = self.env.random_hex(24);
        let version = at.version.clone().filter(|_| self.mode.in_place);
        let (bucket, key, created) = (at.bucket.clone(), at.key.clone(), self.env.now());
        let upload = OpenUpload { bucket, key, version, content, parts: [].into(), created };
        self.lock().commit(op, vec![Change::Upload { id: id.clone(), upload }])?;
        Ok(id)
    }

    pub(super) async fn upload_part(&self, upload: &Upload, number: u32, body: Body) -> Result<Part> {
        let op = "UploadPart";
        self.count(op);
        let open = self.open_upload(op, upload)?;
        self.take_part(op, upload, &open, number, body).await
    }

    pub(super) async fn copy_part(&self, request: PartCopyRequest) -> Result<Part> {
        let op = "UploadPartCopy";
        self.count(op);
        let open = self.open_upload(op, &request.upload)?;
        if self.mode.refuses_part_copy_with_checksum && !open.content.checksums.is_empty() {
            return Err(errors::refused(op, "InvalidArgument", "The upload was created with another checksum"));
        }
        let found = self.find(op, &request.source)?;
        let guard = request.source_if_match.as_deref().filter(|_| self.mode.part_copy_source_if_match);
        let (from, to) = request.range.unwrap_or((0, found.content.size));
        self.check_source(op, &found.content, guard, &open.content.sse, to.saturating_sub(from))?;
        if to > found.content.size || from > to {
            return Err(errors::refused(op, "InvalidArgument", "Range specified is not valid for source object"));
        }
        let path = format!("{}/{}", request.source.bucket, request.source.key);
        let body = self.read(op, &path, found, (from, to)).await?;
        tokio::task::yield_now().await;
        self.take_part(op, &request.upload, &open, request.number, body).await
    }

    pub(super) fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let op = "ListParts";
        self.count(op);
        let open = self.open_upload(op, upload)?;
        let part = |(number, part): (&u32, &OpenPart)| Part {
            number: *number,
            etag: part.etag.clone(),
            size: part.segment.size,
            checksum: checksum_of(&open, part),
        };
        Ok(open.parts.iter().map(part).collect())
    }

    pub(super) async fn complete_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        let op = "CompleteMultipartUpload";
        self.count(op);
        let open = self.open_upload(op, upload)?;
        let chosen = self.chosen_parts(op, &open, parts)?;
        let mut content = open.content.clone();
        content.checksums = self.upload_checksum(op, upload, &open.content, &chosen).await?.into_iter().collect();
        verify(op, open.content.checksums.first(), &content.checksums)?;
        content.etag = etag_of_parts(op, &chosen)?;
        content.segments = chosen.into_iter().map(|part| part.segment).collect();
        content.size = content.segments.iter().map(|segment| segment.size).sum();
        let at = ObjectAt { bucket: open.bucket, key: open.key, version: open.version };
        let guard = if self.mode.complete_if_match { guard } else { &Guard::None };
        let ends_upload = Some(upload.id.as_str());
        let landing = Landing { guards_current: true, ends_upload, ..Landing::new(op, &at, guard, place) };
        let mut core = self.lock();
        let unchanged = core.state.uploads.get(&upload.id).is_some_and(|now| same_parts(now, parts));
        if !unchanged {
            return Err(errors::no_such_upload(op));
        }
        self.land(&mut core, &landing, content)
    }

    pub(super) fn abort_upload(&self, upload: &Upload) -> Result<()> {
        let op = "AbortMultipartUpload";
        self.count(op);
        let mut core = self.lock();
        core.bucket(op, &upload.bucket)?;
        if core.state.uploads.get(&upload.id).is_none_or(|open| !is_of(open, upload)) {
            return Ok(());
        }
        core.commit(op, vec![Change::EndUpload { id: upload.id.clone() }])
    }

    /// Open uploads, in the order of their keys, then of their creation.
    pub(super) fn list_uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        let op = "ListMultipartUploads";
        self.count(op);
        let core = self.lock();
        core.bucket(op, bucket)?;
        let mine = |open: &OpenUpload| open.bucket == bucket && open.key.starts_with(prefix);
        let mut uploads: Vec<_> = core.state.uploads.iter().filter(|(_, open)| mine(open)).collect();
        uploads.sort_by(|(_, a), (_, b)| (&a.key, a.created).cmp(&(&b.key, b.created)));
        let upload = |(id, open): (&String, &OpenUpload)| Upload {
            bucket: open.bucket.clone(),
            key: open.key.clone(),
            id: id.clone(),
        };
        Ok(uploads.into_iter().map(upload).collect())
    }

    async fn take_part(
        &self,
        op: &'static str,
        upload: &Upload,
        open: &OpenUpload,
        number: u32,
        body: Body,
    ) -> Result<Part> {
        if number == 0 || number > MAX_PARTS {
            let message = "Part number must be an integer between 1 and 10000, inclusive";
            return Err(errors::refused(op, "InvalidArgument", message));
        }
        let object_key = self.open_seal(op, open.content.seal.as_ref()).await?;
        let algorithms: Vec<String> = open.content.checksums.iter().map(|c| c.algorithm.clone()).collect();
        let path = format!("{}/{}", open.bucket, open.key);
        let Taken { segment, md5, checksums } = self.take(op, &path, body, object_key.as_ref(), &algorithms).await?;
        let etag = self.etag(&open.content.sse, &md5);
        let size = segment.size;
        let part = OpenPart { etag: etag.clone(), segment, checksum: checksums.into_iter().next() };
        let mut core = self.lock();
        if !core.state.uploads.contains_key(&upload.id) {
            return Err(errors::no_such_upload(op));
        }
        let checksum = checksum_of(open, &part);
        core.commit(op, vec![Change::Part { upload: upload.id.clone(), number, part }])?;
        Ok(Part { number, etag, size, checksum })
    }

    fn open_upload(&self, op: &'static str, upload: &Upload) -> Result<OpenUpload> {
        let core = self.lock();
        core.bucket(op, &upload.bucket)?;
        let open = core.state.uploads.get(&upload.id).filter(|open| is_of(open, upload));
        open.cloned().ok_or_else(|| errors::no_such_upload(op))
    }

    /// The parts that a completion names, checked.
    fn chosen_parts(&self, op: &'static str, open: &OpenUpload, named: &[Part]) -> Result<Vec<OpenPart>> {
        if named.is_empty() {
            return Err(errors::refused(op, "MalformedXML", "The list of parts is empty"));
        }
        if !named.is_sorted_by(|a, b| a.number < b.number) {
            return Err(errors::refused(op, "InvalidPartOrder", "The list of parts was not in ascending order."));
        }
        if !same_parts(open, named) {
            let message = "One or more of the specified parts could not be found.";
            return Err(errors::refused(op, "InvalidPart", message));
        }
        let chosen: Vec<OpenPart> = named.iter().filter_map(|part| open.parts.get(&part.number).cloned()).collect();
        let (_, but_last) = chosen.split_last().ok_or_else(|| errors::no_such_upload(op))?;
        if but_last.iter().any(|part| part.segment.size < self.mode.min_part) {
            let message = "Your proposed upload is smaller than the minimum allowed object size.";
            return Err(errors::refused(op, "EntityTooSmall", message));
        }
        Ok(chosen)
    }

    /// The checksum that the upload was created with, over its bytes or over its parts'.
    async fn upload_checksum(
        &self,
        op: &'static str,
        upload: &Upload,
        content: &Content,
        parts: &[OpenPart],
    ) -> Result<Option<Checksum>> {
        let Some(asked) = content.checksums.first() else { return Ok(None) };
        if !asked.full_object {
            let raw: Vec<Vec<u8>> = parts.iter().filter_map(|part| part.checksum.clone()).collect();
            return Ok(checksum::of_parts(&asked.algorithm, &raw));
        }
        let segments: Vec<Segment> = parts.iter().map(|part| part.segment.clone()).collect();
        let size = segments.iter().map(|segment| segment.size).sum();
        let whole = Content { segments, size, ..content.clone() };
        let path = format!("{}/{}", upload.bucket, upload.key);
        let mut stream = self.read_content(op, &path, whole, (0, size)).await?.into_stream();
        let Some(mut hasher) = Hasher::named(&asked.algorithm) else { return Ok(None) };
        while let Some(bytes) = stream.next().await {
            hasher.update(&bytes?);
        }
        Ok(Some(checksum::of_whole(&asked.algorithm, &hasher.finish())))
    }
}

/// A part's own checksum, where the upload was created with one.
fn checksum_of(open: &OpenUpload, part: &OpenPart) -> Option<Checksum> {
    let algorithm = open.content.checksums.first()?.algorithm.clone();
    Some(checksum::of_whole(&algorithm, part.checksum.as_ref()?))
}

fn is_of(open: &OpenUpload, upload: &Upload) -> bool {
    open.bucket == upload.bucket && open.key == upload.key
}

fn same_parts(open: &OpenUpload, named: &[Part]) -> bool {
    named.iter().all(|part| open.parts.get(&part.number).is_some_and(|has| has.etag == part.etag))
}

fn etag_of_parts(op: &'static str, parts: &[OpenPart]) -> Result<String> {
    let raw: Vec<u8> = parts.iter().flat_map(|part| hex::decode(&part.etag).unwrap_or_default()).collect();
    let md5 = checksum::digest("MD5", &raw).ok_or_else(|| errors::internal(op, "no MD5"))?;
    Ok(format!("{}-{}", hex::encode(md5), parts.len()))
}
