//! What `prepare` found, in words.

use std::collections::BTreeMap;

use keyrotate_proto::capability::{Frozen, FrozenTarget};

/// What `prepare` found, a line each: the target as every write names it, what is used to write, and what did not work.
#[must_use]
pub fn findings(frozen: &Frozen) -> Vec<String> {
    let target = match &frozen.target {
        FrozenTarget::SseS3 => "SSE-S3, the store's own key".to_owned(),
        FrozenTarget::SseKms { key, context, keys } => {
            let each = keys.iter().map(|(old, new)| format!("`{new}` for `{old}`")).collect::<Vec<_>>().join(", ");
            let named = if keys.is_empty() { format!("`{key}`") } else { each };
            let context = if context.is_some() { ", with the file's context" } else { "" };
            format!("SSE-KMS under {named}{context}")
        }
    };
    let mut proven: BTreeMap<_, bool> = BTreeMap::new();
    for proof in &frozen.proofs {
        *proven.entry(proof.strategy.as_str()).or_default() |= proof.guarded;
    }
    let proven = proven
        .iter()
        .map(|(name, guarded)| if *guarded { (*name).to_owned() } else { format!("{name} (not guarded)") });
    let proven = proven.collect::<Vec<_>>().join(", ");
    let mut lines = vec![format!("target: {target}"), format!("proven on probe objects: {proven}")];
    lines.extend(frozen.said().map(|note| format!("note: {note}")));
    lines
}
