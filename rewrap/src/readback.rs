//! Read-back.

/// What a written object must show.
#[derive(Clone, Debug)]
pub(crate) struct Expected {}
