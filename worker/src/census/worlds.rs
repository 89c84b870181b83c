//! What would be proven in a bucket, where nobody has tried it: one guess for each kind of store that is known.

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyrotate_proto::capability::{
    FROZEN_VERSION, Frozen, FrozenTarget, LeasePlace, Proof, Property, SourceKind, Versioning,
};
use keyrotate_proto::forecast::Basis;
use keyrotate_proto::key::KeyName;
use keyrotate_proto::outcome::Strategy;
use keyrotate_proto::spec::JobSpec;
use keyrotate_rewrap::probe;
use keyrotate_store::BucketFacts;

use super::Question;

/// What is or would be proven.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) basis: Basis,
    /// When it was proven.
    pub(crate) proven: Option<Timestamp>,
    pub(crate) frozen: Frozen,
}

/// The worlds that a bucket may be in, at least one. What the doctor proved leaves no other, as long as the bucket's
/// versioning is still what it was.
pub(crate) fn of(
    question: &Question,
    facts: &BucketFacts,
    target: Option<&FrozenTarget>,
    server: Option<&str>,
    identity: &str,
) -> Vec<World> {
    // An object is never under a key without a name, so that with no target nothing is `current`.
    let nobody = FrozenTarget::key(KeyName(String::new()));
    let target = target.cloned().unwrap_or(nobody);
    let proven = question.proven.as_ref().filter(|(frozen, _)| frozen.versioning == facts.versioning);
    if let Some((frozen, at)) = proven {
        let frozen = Frozen { target, retains: facts.default_retention.is_some(), ..frozen.clone() };
        return vec![World { basis: Basis::Proven, proven: Some(*at), frozen }];
    }
    let is_minio = server.is_some_and(|name| name.starts_with("MinIO"));
    let bases: &[Basis] = match (identity.starts_with("aws:"), is_minio) {
        (true, _) => &[Basis::UpdateEncryption],
        (_, true) => &[Basis::InPlace],
        _ => &[Basis::UpdateEncryption, Basis::InPlace, Basis::RewriteOnly],
    };
    let world = |basis: &Basis| World {
        basis: *basis,
        proven: None,
        frozen: guess(*basis, facts, target.clone(), &question.spec),
    };
    bases.iter().map(world).collect()
}

/// What is proven on such stores today.
fn guess(basis: Basis, facts: &BucketFacts, target: FrozenTarget, spec: &JobSpec) -> Frozen {
    use SourceKind::{Plaintext, SseKms, SseS3};
    let (kinds, strategies): (&[SourceKind], &[(Strategy, bool)]) = match basis {
        // AWS encrypts whatever it is given, so that no probe is plaintext.
        Basis::UpdateEncryption => (
            &[SseS3, SseKms],
            &[
                (Strategy::UpdateEncryption, true),
                (Strategy::Copy, true),
                (Strategy::CopyMultipart, true),
                (Strategy::Rewrite, true),
                (Strategy::RewriteMultipart, true),
            ],
        ),
        Basis::InPlace => (
            &[Plaintext, SseS3, SseKms],
            &[
                (Strategy::Copy, false),
                (Strategy::CopyMultipart, true),
                (Strategy::Rewrite, true),
                (Strategy::RewriteInPlace, true),
                (Strategy::CopyMultipartInPlace, true),
                (Strategy::RewriteMultipartInPlace, true),
                (Strategy::RewriteMultipart, true),
            ],
        ),
        Basis::RewriteOnly | Basis::Proven => {
            (&[Plaintext, SseS3, SseKms], &[(Strategy::Rewrite, true), (Strategy::RewriteMultipart, true)])
        }
    };
    let mut proofs = Vec::new();
    for &source in kinds {
        for multipart in [false, true] {
            let tried = strategies.iter().filter(|(strategy, _)| !multipart || probe::is_for_parts(*strategy, spec));
            proofs.extend(tried.map(|&(strategy, guarded)| Proof {
                strategy,
                source,
                multipart,
                guarded,
                keeps: kept(strategy, multipart),
                noncurrent: facts.versioning == Versioning::Enabled
                    && (strategy == Strategy::UpdateEncryption || strategy == Strategy::RewriteInPlace && !multipart),
            }));
        }
    }
    Frozen {
        version: FROZEN_VERSION,
        target,
        versioning: facts.versioning,
        // A listing never shows locks.
        listing_facts: basis == Basis::InPlace && !facts.lock_enabled,
        tags_announced: true,
        probed: kinds.iter().copied().collect(),
        same_bucket: true,
        proofs,
        notes: Vec::new(),
        new_objects: None,
        acl_owner: None,
        retains: facts.default_retention.is_some(),
        lease: LeasePlace::default(),
        canary: None,
        canaries: [].into(),
    }
}

/// What a probe keeps under a strategy.
fn kept(strategy: Strategy, multipart: bool) -> BTreeSet<Property> {
    let checksum = match strategy {
        Strategy::UpdateEncryption | Strategy::Rewrite | Strategy::RewriteInPlace => true,
        Strategy::Copy => !multipart,
        Strategy::RewriteMultipart | Strategy::RewriteMultipartInPlace => multipart,
        Strategy::CopyMultipart | Strategy::CopyMultipartInPlace => false,
    };
    let parts = multipart && (strategy.uploads() || strategy == Strategy::UpdateEncryption);
    let always = [Property::Metadata, Property::WebsiteRedirect, Property::Tags];
    let some = [(checksum, Property::Checksum), (parts, Property::Parts)];
    always.into_iter().chain(some.into_iter().filter_map(|(kept, property)| kept.then_some(property))).collect()
}
