//! Multipart uploads.

use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, EncodingType};

use super::call::{Shape, Tap};
use super::encode::{bare_etag, copy_source, form_decoded, quoted};
use super::{S3Store, body, headers, range, xml};
use crate::{
    Body, Checksum, ErrorKind, Guard, InPlace, NewObject, ObjectAt, Part, PartCopyRequest, Result, StoreError, Upload,
    Written,
};

impl S3Store {
    pub(super) async fn begin_upload(&self, at: &ObjectAt, new: &NewObject, place: &InPlace) -> Result<String> {
        let operation = "CreateMultipartUpload";
        let mut lines = headers::of_new(new);
        lines.extend(headers::of_place(place));
        let mut call = self.client.create_multipart_upload().bucket(&at.bucket).key(&at.key);
        if let Some(checksum) = &new.checksum {
            let kind = if checksum.full_object { ChecksumType::FullObject } else { ChecksumType::Composite };
            call = call.checksum_algorithm(ChecksumAlgorithm::from(checksum.algorithm.as_str())).checksum_type(kind);
        }
        let body = Tap::new();
        let shape = Shape::of(lines).query("versionId", at.version.as_deref());
        let shape = shape.take_body(&body, "<InitiateMultipartUploadResult/>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
        let answer = xml::fields(operation, &self.read_body(operation, &body, call).await?)?;
        let id = answer.into_iter().find(|(name, id)| name == "UploadId" && !id.is_empty());
        id.map(|(_, id)| id).ok_or_else(|| nonsense(operation, "no upload id"))
    }

    pub(super) async fn copy_part(&self, request: PartCopyRequest) -> Result<Part> {
        let operation = "UploadPartCopy";
        let PartCopyRequest { upload, number, source, source_if_match, range: bytes } = request;
        let call = self.client.upload_part_copy().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
        let call = call.part_number(part_number(number)).copy_source(copy_source(&source));
        let call = call.set_copy_source_if_match(source_if_match.as_deref().map(quoted));
        let call = call.set_copy_source_range(bytes.map(range)).send();
        let answer = self.call(operation, self.timeouts.store_work, call).await?;
        let etag = answer.copy_part_result.and_then(|result| result.e_tag);
        let etag = etag.as_deref().map(bare_etag).ok_or_else(|| nonsense(operation, "no ETag"))?;
        Ok(Part { number, etag, size: bytes.map_or(0, |(from, to)| to - from), checksum: None })
    }

    pub(super) async fn send_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Body,
        checksum: Option<&str>,
    ) -> Result<Part> {
        let operation = "UploadPart";
        let size = body.len();
        let call = self.client.upload_part().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
        let call = call.part_number(part_number(number)).content_length(size.try_into().unwrap_or(i64::MAX));
        let call = call.set_checksum_algorithm(checksum.map(ChecksumAlgorithm::from));
        let call = call.body(body::to_sdk(operation, body)).customize();
        // Elsewhere the client makes no checksums of its own; it would not make one that is only named, either.
        let calculates = Builder::new().request_checksum_calculation(RequestChecksumCalculation::WhenSupported);
        let call = if checksum.is_some() { call.config_override(calculates) } else { call };
        let answer = self.call(operation, self.timeouts.sending(size), call.send()).await?;
        let etag = answer.e_tag.as_deref().map(bare_etag).ok_or_else(|| nonsense(operation, "no ETag"))?;
        let checksum = checksum.and_then(|algorithm| {
            let value = match algorithm {
                "CRC32" => answer.checksum_crc32,
                "CRC32C" => answer.checksum_crc32_c,
                "CRC64NVME" => answer.checksum_crc64_nvme,
                "SHA1" => answer.checksum_sha1,
                "SHA256" => answer.checksum_sha256,
                _ => None,
            };
            Some(Checksum { algorithm: algorithm.to_owned(), value: value?, full_object: true })
        });
        Ok(Part { number, etag, size, checksum })
    }

    pub(super) async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let operation = "ListParts";
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let after = parts.last().map(|part| part.number.to_string());
            let call = self.client.list_parts().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
            let body = Tap::new();
            let shape = Shape::default().take_body(&body, "<ListPartsResult/>");
            let call = call.set_part_number_marker(after).customize().interceptor(shape).send();
            let call = async { self.call(operation, self.timeouts.call, call).await.map(|_| ()) };
            let answer = xml::fields(operation, &self.read_body(operation, &body, call).await?)?;
            let before = parts.len();
            let mut part = Part::default();
            let mut truncated = false;
            for (name, text) in answer {
                match name.as_str() {
                    "Part/PartNumber" => {
                        part.number = text.parse().map_err(|_| nonsense(operation, "no part number"))?;
                    }
                    "Part/ETag" => part.etag = bare_etag(&text),
                    "Part/Size" => part.size = text.parse().map_err(|_| nonsense(operation, "no part size"))?,
                    "Part" if part.number == 0 || part.etag.is_empty() => {
                        return Err(nonsense(operation, "a part without number or ETag"));
                    }
                    "Part" => parts.push(std::mem::take(&mut part)),
                    "IsTruncated" => truncated = text == "true",
                    name => {
                        if let Some(algorithm) = name.strip_prefix("Part/Checksum").filter(|_| !text.is_empty()) {
                            let algorithm = algorithm.to_owned();
                            part.checksum = Some(Checksum { algorithm, value: text, full_object: true });
                        }
                    }
                }
            }
            if !truncated {
                return Ok(parts);
            }
            if parts.len() == before {
                return Err(nonsense(operation, "no more parts, but says that there are some"));
            }
        }
    }

    pub(super) async fn finish_upload(
        &self,
        upload: &Upload,
        parts: &[Part],
        guard: &Guard,
        place: &InPlace,
    ) -> Result<Written> {
        let operation = "CompleteMultipartUpload";
        let part = |part: &Part| {
            let done = CompletedPart::builder().part_number(part_number(part.number)).e_tag(quoted(&part.etag));
            match &part.checksum {
                Some(Checksum { algorithm, value, .. }) => match algorithm.as_str() {
                    "CRC32" => done.checksum_crc32(value),
                    "CRC32C" => done.checksum_crc32_c(value),
                    "CRC64NVME" => done.checksum_crc64_nvme(value),
                    "SHA1" => done.checksum_sha1(value),
                    "SHA256" => done.checksum_sha256(value),
                    _ => done,
                },
                None => done,
            }
            .build()
        };
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.iter().map(part).collect())).build();
        let mut lines = headers::of_place(place);
        lines.extend(headers::of_guard(guard));
        let call = self.client.complete_multipart_upload().bucket(&upload.bucket).key(&upload.key);
        let call = call.upload_id(&upload.id).multipart_upload(parts);
        let (kept, body) = (Tap::new(), Tap::new());
        let shape = Shape::of(lines)
            .query("versionId", place.version.as_deref())
            .keep_headers(&kept)
            .take_body(&body, "<CompleteMultipartUploadResult/>");
        let call = call.customize().interceptor(shape).send();
        let call = async { self.call(operation, self.timeouts.store_work, call).await.map(|_| ()) };
        let answer = self.read_body_within(operation, self.timeouts.store_work, &body, call).await?;
        let etag = xml::fields(operation, &answer)?.into_iter().find(|(name, _)| name == "ETag");
        let etag = etag.map(|(_, etag)| bare_etag(&etag)).ok_or_else(|| nonsense(operation, "no ETag"))?;
        let version = kept.take().and_then(|headers| headers.get("x-amz-version-id").map(ToOwned::to_owned));
        Ok(Written { etag: Some(etag), version })
    }

    pub(super) async fn drop_upload(&self, upload: &Upload) -> Result<()> {
        let call = self.client.abort_multipart_upload().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
        match self.call("AbortMultipartUpload", self.timeouts.call, call.send()).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn list_uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>> {
        let operation = "ListMultipartUploads";
        let mut uploads = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let call = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
            let call = call.encoding_type(EncodingType::Url).set_key_marker(key.take()).set_upload_id_marker(id.take());
            let answer = self.call(operation, self.timeouts.call, call.send()).await?;
            let encoded = answer.encoding_type == Some(EncodingType::Url);
            let decode = |text: String| match encoded {
                true => form_decoded(&text).ok_or_else(|| nonsense(operation, "no readable key")),
                false => Ok(text),
            };
            let before = uploads.len();
            for upload in answer.uploads.unwrap_or_default() {
                let (Some(key), Some(id)) = (upload.key, upload.upload_id) else {
                    return Err(nonsense(operation, "an upload without key or id"));
                };
                uploads.push(Upload { bucket: bucket.to_owned(), key: decode(key)?, id });
            }
            key = answer.next_key_marker.filter(|key| !key.is_empty()).map(decode).transpose()?;
            id = answer.next_upload_id_marker.filter(|id| !id.is_empty());
            if answer.is_truncated != Some(true) {
                return Ok(uploads);
            }
            if key.is_none() || uploads.len() == before {
                return Err(nonsense(operation, "no more uploads, but says that there are some"));
            }
        }
    }
}

fn part_number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn nonsense(operation: &'static str, what: &str) -> StoreError {
    StoreError::new(operation, ErrorKind::Nonsense, format!("the answer has {what}"))
}
