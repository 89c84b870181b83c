//! Stores on which nothing but GET + PUT changes a key: every body passes through a worker, whatever its size, so the
//! operator is asked once whether it may. A limit in the file is an answer too: what is larger is skipped and listed.

use keyrotate_proto::capability::Frozen;
use keyrotate_proto::estimate::Estimate;
use keyrotate_proto::spec::{BodyTransit, JobSpec};

use super::Refusal;

/// Whether whatever may be used here takes the body through a worker.
#[must_use]
pub fn only_rewrite(frozen: &Frozen, spec: &JobSpec) -> bool {
    let mut usable = frozen.proofs.iter().filter(|p| p.guarded || spec.options.allow_unguarded);
    usable.all(|p| p.strategy.moves_bodies())
}

/// Notes how much lies in scope on such a store.
///
/// # Errors
/// When the file does not let bodies pass, or does not say.
pub fn must_pass(frozen: &mut Frozen, spec: &JobSpec, scope: Estimate) -> Result<(), Refusal> {
    let only = "only GET + PUT changes an object's key on this store, so bodies must pass through keyrotate";
    let limit = BodyTransit::UNSAID >> 20;
    match spec.options.body_transit {
        BodyTransit::UpTo(0) => Err(Refusal::new(
            format!("{only}, which the file forbids (`bodyTransit: 0`): {scope} in scope"),
            "set `bodyTransit: any`",
        )),
        BodyTransit::Unsaid => Err(Refusal::new(
            format!("{only}: {scope} in scope"),
            format!(
                "set `bodyTransit: any`; or name a limit such as `bodyTransit: {limit}MiB`, and what is larger is skipped and \
                 listed"
            ),
        )),
        BodyTransit::UpTo(limit) => {
            let skipped = format!("those over {limit} bytes (`bodyTransit`) are skipped and listed");
            frozen.notes.push(format!("{only}: {scope} in scope; {skipped}"));
            Ok(())
        }
        BodyTransit::Any => {
            frozen.notes.push(format!("{only}: {scope} in scope"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, spec};
    use keyrotate_devstack::model::Mode;
    use keyrotate_proto::capability::Versioning;
    use keyrotate_proto::spec::Options;

    const SCOPE: Estimate = Estimate { objects: 1_200, bytes: 3 << 30 };

    fn with(body_transit: BodyTransit, allow_unguarded: bool) -> JobSpec {
        JobSpec { options: Options { body_transit, allow_unguarded, ..spec().options }, ..spec() }
    }

    #[tokio::test(start_paused = true)]
    async fn only_where_nothing_else_is_proven_and_guarded() {
        for (mode, guarded, unguarded) in [
            (Mode::aws(), false, false),
            (Mode::minio(), false, false),
            (Mode::moto(), true, false),
            (Mode::rgw(), true, true),
        ] {
            let name = mode.name;
            let frozen = World::new(mode, Versioning::Off).await.prepare(&spec()).await;
            assert_eq!(only_rewrite(&frozen, &with(BodyTransit::Unsaid, false)), guarded, "{name}");
            assert_eq!(only_rewrite(&frozen, &with(BodyTransit::Unsaid, true)), unguarded, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_operator_is_asked_once_and_a_limit_is_an_answer() {
        let proven = World::new(Mode::rgw(), Versioning::Off).await.prepare(&spec()).await;
        let asked = |transit| {
            let mut frozen = proven.clone();
            must_pass(&mut frozen, &with(transit, false), SCOPE).map(|()| frozen).map_err(|refusal| refusal.to_string())
        };
        for transit in [BodyTransit::Unsaid, BodyTransit::UpTo(0)] {
            let refusal = asked(transit).unwrap_err();
            assert!(refusal.contains("~1,200 objects with ~3.0 GiB in scope"), "{refusal}");
            assert!(refusal.contains("set `bodyTransit: any`"), "{refusal}");
        }
        for transit in [BodyTransit::UpTo(64 << 20), BodyTransit::Any] {
            let note = asked(transit).unwrap().notes.pop().unwrap();
            assert!(note.contains("~1,200 objects with ~3.0 GiB in scope"), "{note}");
            assert_eq!(note.contains("those over 67108864 bytes"), transit != BodyTransit::Any, "{note}");
        }
    }
}
