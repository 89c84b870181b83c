//! Bodies between the SDK and [`Body`]: streamed, of known length, read once.

use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use http_body::{Frame, SizeHint};

use super::errors::from_body;
use crate::{Body, ErrorKind, Result, StoreError};

/// As the SDK sends it. A body in memory is signed; a stream is sent as `UNSIGNED-PAYLOAD`, since nothing of it is
/// known before it has passed.
pub(super) fn to_sdk(operation: &'static str, body: Body) -> ByteStream {
    match body {
        Body::Bytes(bytes) => ByteStream::from(bytes),
        Body::Stream { length, stream } => {
            // Whoever adds a checksum behind it asks once more after its end.
            let stream = Box::pin(stream.fuse());
            ByteStream::new(SdkBody::from_body_1_x(Sized { operation, left: length, stream }))
        }
    }
}

/// As an answer gives it, `length` bytes.
pub(super) fn from_sdk(operation: &'static str, length: u64, body: ByteStream) -> Body {
    let stream = stream::unfold((body, length), move |(mut body, left)| async move {
        let chunk = match body.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 <= left => Ok(chunk),
            Some(Ok(_)) => Err(wrong_length(operation, "is longer than promised")),
            Some(Err(error)) => Err(from_body(operation, error)),
            None if left == 0 => return None,
            None => Err(wrong_length(operation, "ended early")),
        };
        match chunk {
            Ok(chunk) => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), (body, left)))
            }
            // Nothing comes after an error.
            Err(error) => Some((Err(error), (ByteStream::from_static(b""), 0))),
        }
    });
    Body::Stream { length, stream: Box::pin(stream) }
}

fn wrong_length(operation: &'static str, what: &str) -> StoreError {
    StoreError::new(operation, ErrorKind::Cut, format!("the body {what}"))
}

/// A stream that says its length and keeps to it, so that a broken source can never become a shorter object.
struct Sized {
    operation: &'static str,
    left: u64,
    stream: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + Sync>>,
}

impl http_body::Body for Sized {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let operation = self.operation;
        self.stream.as_mut().poll_next(cx).map(|chunk| match chunk {
            Some(Ok(chunk)) => Some(match self.left.checked_sub(chunk.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Ok(Frame::data(chunk))
                }
                None => Err(wrong_length(operation, "is longer than promised")),
            }),
            Some(Err(error)) => Some(Err(error)),
            None if self.left == 0 => None,
            None => Some(Err(wrong_length(operation, "ended early"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(chunks: &'static [&'static str]) -> Pin<Box<dyn Stream<Item = Result<Bytes>> + Send + Sync>> {
        Box::pin(stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))))
    }

    async fn through(length: u64, chunks: &'static [&'static str]) -> Result<Bytes> {
        let sent = to_sdk("PutObject", Body::Stream { length, stream: stream(chunks) });
        from_sdk("GetObject", length, sent).collect().await
    }

    #[tokio::test]
    async fn a_stream_passes_whole_or_ends_in_an_error() {
        assert_eq!(through(6, &["ab", "", "cdef"]).await.unwrap(), "abcdef");
        assert_eq!(through(0, &[]).await.unwrap(), "");
        assert_eq!(through(7, &["ab", "cdef"]).await.unwrap_err().kind, ErrorKind::Cut);
        assert_eq!(through(3, &["ab", "cdef"]).await.unwrap_err().kind, ErrorKind::Cut);
    }

    #[tokio::test]
    async fn a_body_that_has_ended_can_be_asked_again() {
        let once = stream::unfold(true, |first| async move { first.then(|| (Ok(Bytes::from_static(b"ab")), false)) });
        let mut sent = to_sdk("UploadPart", Body::Stream { length: 2, stream: Box::pin(once) });
        assert!(sent.next().await.is_some());
        assert!(sent.next().await.is_none() && sent.next().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_of_another_length_is_an_error() {
        for (length, body) in [(5, "four"), (3, "four")] {
            let body = from_sdk("GetObject", length, ByteStream::from(body.as_bytes().to_vec()));
            assert_eq!(body.collect().await.unwrap_err().kind, ErrorKind::Cut);
        }
    }
}
