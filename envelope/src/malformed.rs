//! What is wrong with an envelope.

/// Why what is stored is no envelope that any client's rules allow. Nothing is guessed about such a one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Names of two formats stand side by side.
    #[error("it has `{0}` beside `{1}`, which no client writes together")]
    Mixed(&'static str, &'static str),
    /// A name that the format needs is not there, or its value is empty.
    #[error("it has no `{0}`")]
    Missing(&'static str),
    /// A value is not standard base64 with padding.
    #[error("`{0}` is not base64")]
    Base64(&'static str),
    /// A decoded value has another length than the format says.
    #[error("`{0}` has {1} bytes")]
    Length(&'static str, usize),
    /// A way to wrap that no client knows, or not in this format.
    #[error("`{0}` names no way to wrap a data key that this format knows")]
    Wrap(&'static str),
    /// A content algorithm that no client knows.
    #[error("`{0}` names no content algorithm that this format knows")]
    Content(&'static str),
    /// A tag length that does not go with the content algorithm.
    #[error("`x-amz-tag-len` does not go with the content algorithm")]
    TagLength,
    /// A description or context that is no JSON object of text, or names something twice.
    #[error("`{0}` is not a JSON object of text")]
    Description(&'static str),
    /// A context that does not name the content algorithm that the object names.
    #[error("the context in `{0}` does not name the content algorithm of the object")]
    Context(&'static str),
    /// An instruction file that is no JSON object of text, or names something twice.
    #[error("the instruction file is not a JSON object of text")]
    File,
    /// An instruction file that holds what belongs to the object.
    #[error("the instruction file holds `{0}`, which belongs to the object")]
    FileHolds(&'static str),
    /// Text that comes back mangled from metadata.
    #[error("`{0}` in metadata is not ASCII, which clients do not read alike")]
    NotAscii(&'static str),
}

impl Malformed {
    /// The kind of defect, one word.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Mixed(..) => "mixed",
            Self::Missing(_) => "missing",
            Self::Base64(_) => "base64",
            Self::Length(..) => "length",
            Self::Wrap(_) => "wrap",
            Self::Content(_) => "content",
            Self::TagLength => "tag-length",
            Self::Description(_) => "description",
            Self::Context(_) => "context",
            Self::File => "file",
            Self::FileHolds(_) => "file-holds",
            Self::NotAscii(_) => "not-ascii",
        }
    }
}
