//! The only coordinator dies at each step of its work, and another one takes over.

use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{ACK, Deed, PUBLISH, Trap, Way, amqp, with};
use tokio::time::Instant;

use crate::scene::{Lane, Line, Scene, Wires, killed_in, shard_swap};

/// The steps of a coordinator, and how one is seen on its wires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    JobWritten,
    ShardsSent,
    ShardsWritten,
    TicketSent,
    TicketConfirmed,
    TicketNoted,
    LastShardSeen,
    ReportSent,
    ReportWritten,
    EndSent,
    EndWritten,
}

impl Step {
    fn lay(self, scene: &Scene, wires: &Wires) -> Trap {
        let redis = |deed, looks| wires.redis.trap(Way::There, 0, deed, looks);
        match self {
            Self::JobWritten => redis(Deed::HoldAnswer, with(&[":index", ":r:job/", ":r:live/"])),
            Self::ShardsSent => redis(Deed::Hold, shard_swap()),
            Self::ShardsWritten => redis(Deed::HoldAnswer, shard_swap()),
            Self::TicketSent => wires.rabbitmq.trap(Way::There, 0, Deed::Hold, amqp(PUBLISH.0, PUBLISH.1)),
            Self::TicketConfirmed => wires.rabbitmq.trap(Way::Back, 0, Deed::Hold, amqp(ACK.0, ACK.1)),
            // Behind the first tickets: what is changed of a shard now is that its ticket is out.
            Self::TicketNoted => wires.redis.trap(Way::There, 6, Deed::HoldAnswer, shard_swap()),
            Self::LastShardSeen => redis(Deed::HoldAnswer, with(&[":index", "verifying"])),
            Self::ReportSent => scene.store.trap(Way::There, 0, Deed::Hold, with(&["PUT /", "summary.json"])),
            Self::ReportWritten => scene.store.trap(Way::There, 0, Deed::HoldAnswer, with(&["PUT /", "summary.json"])),
            Self::EndSent => redis(Deed::Hold, with(&[":index", ":r:settling/"])),
            Self::EndWritten => redis(Deed::HoldAnswer, with(&[":index", ":r:settling/"])),
        }
    }
}

pub(crate) async fn dies_at(lane: &mut Lane, step: Step) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    scene.options(&["rate: 120"]);
    let wires = scene.wires().await;
    let victim = scene.coordinator_behind(&wires).await;
    let _workers = scene.fleet.workers(2).await;
    until("it leads", || victim.leads()).await;
    scene.fleet.stand.read_on();
    let trap = step.lay(&scene, &wires);
    let job = scene.job();
    // Whoever does not hear that his job begins says it again, under the same word.
    let word = [("Idempotency-Key", "once")];
    let submitted =
        if matches!(step, Step::JobWritten) { None } else { Some(scene.fleet.submit_with(&victim, &job, &word).await) };
    let asked = submitted.is_none().then(|| {
        let url = format!("{}/v1/jobs", victim.url);
        let request =
            scene.fleet.client.post(url).header("content-type", "application/yaml").header(word[0].0, word[0].1);
        tokio::spawn(request.body(job.text()).send())
    });
    trap.caught().await;
    let seen = killed_in(trap, victim.process).await;
    if let Some(asked) = asked {
        let answer = asked.await.expect("a request is no panic");
        assert!(answer.is_err(), "it was killed before it answered");
    }
    let killed = Instant::now();
    let other = scene.fleet.coordinator().await;
    until("another one leads", || other.leads()).await;
    let back = killed.elapsed();
    let id = match submitted {
        Some(id) => id,
        None => scene.fleet.submit_with(&other, &job, &word).await,
    };
    scene.close(lane, &other, &id, seen, Some(back)).await
}
