//! RabbitMQ: killed, emptied, cut off, full; and tickets that are doubled, foreign or no tickets at all.

use std::time::Duration;

use keyrotate_env::Env;
use keyrotate_proto::ticket::Ticket;
use keyrotate_queue::rabbit::{RabbitConfig, RabbitQueue};
use keyrotate_queue::{DEFAULT_STORE, Queue as _, Route};
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{ACK, CLOSE, Deed, PUBLISH, RETURN, Way, amqp, amqp_method};
use tokio::time::Instant;

use crate::machine::Disk;
use crate::scene::{ALWAYS, Lane, Line, OBJECTS, Scene, leased};

const TICKETS: &str = "keyrotate.tickets.default";

/// Killed while a coordinator waits for a confirm and workers have tickets.
pub(crate) async fn is_killed(lane: &mut Lane) -> Line {
    let scene = with_waiting_tickets(lane).await;
    dies_under_a_publish(lane, scene).await
}

/// Killed when it has confirmed a ticket and the coordinator does not know; where it has a disk of its own, that loses its
/// power first.
pub(crate) async fn dies_under_a_publish(lane: &mut Lane, mut scene: Scene) -> Line {
    let wires = scene.wires().await;
    let coordinator = scene.coordinator_behind(&wires).await;
    let workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let trap = wires.rabbitmq.trap(Way::Back, 0, Deed::Hold, amqp(ACK.0, ACK.1));
    trap.caught().await;
    scene.disk.iter().for_each(Disk::power_cut);
    scene.fleet.rabbitmq.kill().expect("RabbitMQ is killed");
    trap.release();
    let lost =
        || workers.iter().filter(|worker| worker.stderr().contains("the connection to RabbitMQ is lost")).count();
    until("the workers see it", || lost() == 2).await;
    let seen = 1 + lost() as u64;
    scene.disk.iter().for_each(Disk::power_back);
    scene.fleet.rabbitmq.restart().await.expect("RabbitMQ starts again");
    let back = lease_anew(&workers).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// From now until one of them leases by a new ticket.
pub(crate) async fn lease_anew(workers: &[Process]) -> Duration {
    let leases = || workers.iter().map(|worker| leased(worker).len()).sum::<usize>();
    let (since, held) = (Instant::now(), leases());
    until("somebody leases by a new ticket", || leases() > held).await;
    since.elapsed()
}

/// Killed with thousands of tickets in it, which are all there again, and none of which is needed.
pub(crate) async fn is_killed_with_a_backlog(lane: &mut Lane) -> Line {
    const BACKLOG: usize = 9_000;
    let mut scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker().await;
    let id = scene.submit_and_begin(&coordinator).await;
    worker.signal("STOP");
    let queue = queue(&scene);
    let one = take(&queue).await;
    let route = Route::to(DEFAULT_STORE);
    for _ in 0..BACKLOG / 100 {
        let hundred = (0..100).map(|_| queue.publish(&one, &route));
        for published in futures::future::join_all(hundred).await {
            published.expect("RabbitMQ takes it");
        }
    }
    scene.fleet.rabbitmq.kill().expect("RabbitMQ is killed");
    scene.fleet.rabbitmq.restart().await.expect("RabbitMQ starts again");
    drop(queue);
    let since = Instant::now();
    worker.signal("CONT");
    let back = scene.goes_on(&coordinator, &id).await.max(since.elapsed());
    scene.close(lane, &coordinator, &id, BACKLOG as u64, Some(back)).await
}

/// How RabbitMQ or whoever runs it lets go of somebody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Stopped and started again.
    Restart,
    /// All connections are closed, with a reason.
    AllClosed,
    /// The queue is deleted.
    Deleted,
    /// The queue is emptied.
    Purged,
    /// The user may not do anything any more, and may again after a while.
    Revoked,
    /// It has no memory left for messages, and takes none until it has.
    Blocked,
}

pub(crate) async fn lets_go(lane: &mut Lane, loss: Loss) -> Line {
    let scene = with_waiting_tickets(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let one_slot = [("KEYROTATE_WORKER_SLOTS", "1")];
    let workers = [scene.fleet.worker_with(&one_slot).await, scene.fleet.worker_with(&one_slot).await];
    let id = scene.submit_and_begin(&coordinator).await;
    let said = |what: &str| {
        let all = workers.iter().chain([&coordinator.process]);
        all.map(|process| process.stderr().matches(what).count() as u64).sum::<u64>()
    };
    let ctl = async |arguments: &[&str]| {
        scene.fleet.rabbitmq.ctl(arguments).await.unwrap_or_else(|e| panic!("{arguments:?}: {e}"))
    };
    let user = ["keyrotate", "^keyrotate(\\..*)?$", "^keyrotate(\\..*)?$", "^keyrotate(\\..*)?$"];
    let lost = "the connection to RabbitMQ is lost";
    let seen = match loss {
        Loss::Restart => {
            ctl(&["stop_app"]).await;
            until("all of them see it", || said(lost) >= 3).await;
            ctl(&["start_app"]).await;
            said(lost)
        }
        Loss::AllClosed => {
            ctl(&["close_all_connections", "somebody closes them"]).await;
            until("all of them see it", || said(lost) >= 3).await;
            said(lost)
        }
        Loss::Deleted => {
            ctl(&["delete_queue", TICKETS]).await;
            let missed = || said("lacks our queue") + said("taking tickets was interrupted");
            until("somebody declares it again", || missed() > 0).await;
            missed()
        }
        Loss::Purged => {
            let _lost = take(&queue(&scene)).await;
            ctl(&["purge_queue", TICKETS]).await;
            1
        }
        Loss::Revoked => {
            ctl(&["set_permissions", user[0], "^$", "^$", "^$"]).await;
            ctl(&["close_all_connections", "somebody closes them"]).await;
            until("all of them see it", || said("ACCESS_REFUSED") + said("access") >= 1).await;
            let refused = said("ACCESS_REFUSED") + said("access");
            ctl(&[&["set_permissions"], &user[..]].concat()).await;
            refused
        }
        Loss::Blocked => {
            ctl(&["set_vm_memory_high_watermark", "0.000001"]).await;
            until("whoever publishes hears it", || said("takes no more on this connection") > 0).await;
            ctl(&["set_vm_memory_high_watermark", "0.6"]).await;
            until("and that it is over", || said("RabbitMQ takes more again") > 0).await;
            said("takes no more on this connection")
        }
    };
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// It has room for one ticket, and nobody takes any.
pub(crate) async fn is_full(lane: &mut Lane) -> Line {
    let scene = with_waiting_tickets(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker_with(&[("KEYROTATE_WORKER_SLOTS", "1")]).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let queue = queue(&scene);
    let ticket = take(&queue).await;
    let policy = r#"{"max-length": 1, "overflow": "reject-publish", "delivery-limit": 50}"#;
    let set = ["set_policy", "small", "^keyrotate\\.tickets\\.", policy, "--priority", "20", "--apply-to", "queues"];
    scene.fleet.rabbitmq.ctl(&set).await.expect("RabbitMQ does it");
    worker.signal("STOP");
    // One lies there, and one may be on its way to whoever is frozen.
    let mut refused = 0;
    for _ in 0..6 {
        refused += u64::from(queue.publish(&ticket, &Route::to(DEFAULT_STORE)).await.is_err());
    }
    scene.fleet.rabbitmq.ctl(&["clear_policy", "small"]).await.expect("RabbitMQ does it");
    worker.signal("CONT");
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, refused, Some(back)).await
}

/// More shards than a slot or two can work on at a time.
pub(crate) async fn with_waiting_tickets(lane: &mut Lane) -> Scene {
    let mut scene = lane.scene_with(Mode::aws(), false, ALWAYS, 3 * OBJECTS, &[]).await;
    scene.options(&["rate: 60"]);
    scene
}

/// A channel breaks under the only worker: it acknowledges what RabbitMQ never gave it. It hears of the job after this one, too.
pub(crate) async fn closes_a_channel(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let _worker = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let trap = wires.rabbitmq.trap(Way::There, 0, Deed::Change(wrong_tag), amqp(ACK.0, ACK.1));
    let closed = wires.rabbitmq.trap(Way::Back, 0, Deed::Pass, amqp(CLOSE.0, CLOSE.1));
    trap.caught().await;
    closed.caught().await;
    let back = scene.goes_on(&coordinator, &id).await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    let next = scene.fleet.submit(&coordinator, &scene.job()).await;
    let _ended = scene.fleet.end(&coordinator, &next).await.expect_completed();
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}

/// The delivery tag of an acknowledgement, eight bytes behind its method.
fn wrong_tag(message: &mut [u8]) {
    if let Some(at) = amqp_method(message, ACK.0, ACK.1) {
        message[at + 4..at + 12].copy_from_slice(&999_999_u64.to_be_bytes());
    }
}

/// The connection breaks under a worker that works on, whose ticket is delivered to another one meanwhile.
pub(crate) async fn delivers_again_under_the_first(lane: &mut Lane) -> Line {
    let scene = with_waiting_tickets(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let first = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let held = leased(&first);
    let other = scene.fleet.worker().await;
    let since = Instant::now();
    wires.rabbitmq.reset();
    until("it sees it", || first.stderr().contains("the connection to RabbitMQ is lost")).await;
    until("the other one works", || !leased(&other).is_empty()).await;
    let back = since.elapsed();
    let again = leased(&other).iter().filter(|shard| held.contains(shard)).count() as u64;
    scene.close(lane, &coordinator, &id, 1 + again, Some(back)).await
}

/// Messages that are no tickets, and tickets that are nobody's.
pub(crate) async fn has_strange_messages(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker().await;
    let id = scene.submit_and_begin(&coordinator).await;
    let large = "x".repeat(1 << 20);
    let strange = ["", "{", "[]", r#"{"version":999}"#, "null", "\u{0}", large.as_str()];
    for payload in strange {
        scene.fleet.publish_raw(TICKETS, payload).await;
    }
    until("each of them is put aside", || worker.stderr().matches("a message is no ticket").count() >= strange.len())
        .await;
    scene.dead = strange.len() as u64;
    scene.close(lane, &coordinator, &id, strange.len() as u64, None).await
}

/// A ticket comes three times, and three times more after its job has ended.
pub(crate) async fn doubles_tickets(lane: &mut Lane) -> Line {
    let scene = with_waiting_tickets(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker_with(&[("KEYROTATE_WORKER_SLOTS", "1")]).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let queue = queue(&scene);
    let ticket = take(&queue).await;
    let again = async || {
        for _ in 0..3 {
            queue.publish(&ticket, &Route::to(DEFAULT_STORE)).await.expect("RabbitMQ takes it");
        }
    };
    again().await;
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();
    again().await;
    until("somebody refuses them", || worker.stderr().matches("no lease").count() >= 3).await;
    let refused = worker.stderr().matches("no lease").count() as u64;
    drop(queue);
    scene.close(lane, &coordinator, &id, refused, None).await
}

/// A message that no queue takes comes back, and is no ticket that is out.
pub(crate) async fn has_no_way_to_the_queue(lane: &mut Lane) -> Line {
    let scene = with_waiting_tickets(lane).await;
    let wires = scene.wires().await;
    let coordinator = scene.coordinator_behind(&wires).await;
    let _workers = scene.fleet.workers(2).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let returned = wires.rabbitmq.trap(Way::Back, 0, Deed::Pass, amqp(RETURN.0, RETURN.1));
    let published = wires.rabbitmq.trap(Way::There, 0, Deed::Hold, amqp(PUBLISH.0, PUBLISH.1));
    published.caught().await;
    scene.fleet.rabbitmq.ctl(&["delete_queue", TICKETS]).await.expect("RabbitMQ does it");
    published.release();
    returned.caught().await;
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, 1, Some(back)).await
}

pub(crate) fn queue(scene: &Scene) -> RabbitQueue {
    let config = RabbitConfig::parse(&scene.fleet.rabbitmq.url("/")).expect("an address");
    RabbitQueue::new(config, Env::system())
}

/// A ticket that waits, acknowledged: for everybody else it is lost.
pub(crate) async fn take(queue: &RabbitQueue) -> Ticket {
    let mut consumer = queue.consume(1, &[DEFAULT_STORE.to_owned()]).await.expect("RabbitMQ answers");
    let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
    let delivery = next.expect("a ticket comes").expect("RabbitMQ gives it").expect("the queue is open");
    let ticket = delivery.ticket().clone();
    delivery.ack().await.expect("RabbitMQ hears it");
    ticket
}
