//! `reseal`: secrets in the records of a fleet's jobs are sealed anew.

use keyrotate_proto::api::Resealed;

use crate::args::ResealArgs;
use crate::dlq::fleet;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jobs::verbs::print;
use crate::jobs::{Ask, read};

/// Has the coordinator do it.
pub(crate) async fn reseal(args: ResealArgs) -> Result<Exit, Failure> {
    let ask = Ask { method: "POST", path: "/v1/reseal".into(), body: None, idempotency_key: None };
    let done: Resealed = read(fleet(&args.fleet)?.ask_fleet(&ask).await?, "")?;
    print(args.output, &done, || said(&done))?;
    Ok(if done.failed.is_empty() { Exit::Completed } else { Exit::Exceptions })
}

fn said(done: &Resealed) -> String {
    let sealed = match done.resealed {
        0 if done.failed.is_empty() => "no record holds a secret".to_owned(),
        1 => "1 secret sealed anew".to_owned(),
        n => format!("{n} secrets sealed anew"),
    };
    let failed = done.failed.iter().map(|one| format!("job {}: {}", one.job, one.why));
    std::iter::once(sealed).chain(failed).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use keyrotate_proto::api::Unsealed;
    use keyrotate_proto::id::JobId;

    use super::*;

    #[test]
    fn what_failed_is_named() {
        assert_eq!(said(&Resealed::default()), "no record holds a secret");
        let failed = vec![Unsealed { job: JobId::new(1, [1; 10]), why: "it does not open".into() }];
        let text = said(&Resealed { resealed: 2, kept: 0, failed });
        assert!(text.starts_with("2 secrets sealed anew\njob 0") && text.ends_with(": it does not open"), "{text}");
    }
}
