//! The faults, in the order of the table.

use futures::future::BoxFuture;
use keyrotate_devstack::kes::Failure;
use keyrotate_tests::prelude::Mode;

use crate::checkpoint::{self, Hand, Keeps, Moment};
use crate::coordinators;
use crate::network::{self, Peer, Ways};
use crate::night::{self, Outage};
use crate::queue::{self, Loss};
use crate::scene::{Lane, Line};
use crate::store::{self, Loss as KeyLoss};
use crate::workers;

/// One fault.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Who it happens to.
    pub(crate) whom: &'static str,
    /// What happens.
    pub(crate) what: &'static str,
    /// What was counted, so that it is known to have happened.
    pub(crate) effect: &'static str,
    pub(crate) run: for<'a> fn(&'a mut Lane) -> BoxFuture<'a, Line>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{}: {}", self.whom, self.what)
    }
}

macro_rules! row {
    ($whom:literal, $what:literal, $effect:literal, $module:ident :: $run:ident ( $($argument:expr),* )) => {
        Row { whom: $whom, what: $what, effect: $effect, run: |lane| Box::pin($module::$run(lane $(, $argument)*)) }
    };
}

pub(crate) fn rows() -> Vec<Row> {
    [longest(), of_workers(), of_coordinators(), of_rabbitmq(), of_redis(), of_wires(), of_stores()].concat()
}

/// Those that wait for minutes, begun first.
fn longest() -> Vec<Row> {
    vec![
        row!("wire to the store", "half open", "connections made again", network::is_half_open(Peer::Store)),
        row!("RabbitMQ", "killed with 9,000 tickets in it", "tickets in it", queue::is_killed_with_a_backlog()),
        row!("Redis", "no memory left for ten seconds", "writes refused", checkpoint::is_meddled_with(Hand::Memory)),
        row!("worker", "killed by each look at one object", "deaths", workers::is_killed_by_one_object()),
        row!("KES", "down", "the job paused", store::has_no_kes(Failure::Refuse)),
        row!("KES", "its key store is gone", "the job paused", store::has_no_kes(Failure::KeyStore)),
        row!("KES", "its policy is revoked", "the job paused", store::has_no_kes(Failure::Revoked)),
        row!("KES", "the old key is deleted, and brought back", "objects failed", store::loses_a_key(KeyLoss::OldKey)),
        row!(
            "KES",
            "the target key is deleted, and brought back",
            "the job paused",
            store::loses_a_key(KeyLoss::TargetKey)
        ),
        row!(
            "KES",
            "the target key is deleted and made anew under its name, and brought back",
            "looks at it in vain",
            store::loses_a_key(KeyLoss::MadeAnew)
        ),
        row!(
            "KES",
            "the target key is made anew when all is written, and brought back",
            "the job was stopped by its canary",
            store::has_another_key_at_last()
        ),
        row!("store", "gone", "the job paused", store::is_gone()),
        row!("worker", "has a sliver of one core for 65 s", "seconds waited for a core", workers::is_starved()),
        row!(
            "worker",
            "frozen in a write until its shard was done by another and written by somebody, then woken",
            "writes that arrived and were refused",
            workers::wakes_up_after_its_lease()
        ),
        row!(
            "wire to Redis",
            "deaf until a worker's leases are over",
            "messages held back",
            network::is_deaf_beyond_the_lease()
        ),
    ]
}

/// Those that want root, or a long time: `./test night`.
pub(crate) fn night() -> Vec<Row> {
    vec![
        row!(
            "RabbitMQ",
            "closes the channel of a ticket that it waited 10 s for",
            "channels closed",
            night::waits_no_longer()
        ),
        row!(
            "Redis, fsync everysec",
            "its power is cut when a window is committed",
            "restarts noticed, bytes of its log lost",
            night::power_is_cut_under_redis(Keeps::EverySecond)
        ),
        row!(
            "Redis, fsync always",
            "its power is cut when a window is committed",
            "restarts noticed",
            night::power_is_cut_under_redis(Keeps::Always)
        ),
        row!(
            "RabbitMQ",
            "its power is cut under a publish",
            "broken connections",
            night::power_is_cut_under_rabbitmq()
        ),
        row!(
            "Redis, fsync everysec",
            "its disk is full for ten seconds",
            "writes refused",
            night::disk_of_redis_is_full(Keeps::EverySecond)
        ),
        row!(
            "Redis, fsync always",
            "its disk is full, and it ends",
            "restarts noticed",
            night::disk_of_redis_is_full(Keeps::Always)
        ),
        row!("RabbitMQ", "its disk is nearly full", "publishers blocked", night::disk_of_rabbitmq_is_nearly_full()),
        row!(
            "RabbitMQ",
            "its disk is full, and its queue breaks",
            "errors of its log",
            night::disk_of_rabbitmq_is_full()
        ),
        row!("link of a worker", "down for 40 s", "connections given up", night::link_is_down(Outage::Short)),
        row!(
            "link of a worker",
            "down until its leases are over",
            "connections given up",
            night::link_is_down(Outage::BeyondTheLease)
        ),
        row!("link of a worker", "down, and it dies unheard", "shards leased again", night::dies_unheard()),
        row!("link of a worker", "has 256 kbit/s", "packets that waited", night::link_is_slow()),
    ]
}

fn of_workers() -> Vec<Row> {
    use workers::Step;
    vec![
        row!("worker", "killed when a ticket has come", "died there", workers::dies_at(Step::Delivered)),
        row!("worker", "killed when it asks for a lease", "died there", workers::dies_at(Step::LeaseAsked)),
        row!(
            "worker",
            "killed when it has a lease and does not know",
            "died there",
            workers::dies_at(Step::LeaseTaken)
        ),
        row!("worker", "killed when it lists", "died there", workers::dies_at(Step::Listed)),
        row!("worker", "killed when it looks at an object", "died there", workers::dies_at(Step::Looked)),
        row!("worker", "killed when its intents are written", "died there", workers::dies_at(Step::IntentsWritten)),
        row!("worker", "killed when a write is on its way", "died there", workers::dies_at(Step::WriteSent)),
        row!("worker", "killed when a write is made and not answered", "died there", workers::dies_at(Step::WriteMade)),
        row!("worker", "killed when a part is on its way", "died there", workers::dies_at(Step::PartSent)),
        row!("worker", "killed when a part is written", "died there", workers::dies_at(Step::PartWritten)),
        row!("worker", "killed when a commit is on its way", "died there", workers::dies_at(Step::CommitSent)),
        row!(
            "worker",
            "killed when a commit is made and not answered",
            "died there",
            workers::dies_at(Step::CommitMade)
        ),
        row!("worker", "killed when it acknowledges a ticket", "died there", workers::dies_at(Step::AckSent)),
        row!(
            "worker",
            "told to stop under load, and with a store that is deaf",
            "stopped in time",
            workers::is_told_to_stop()
        ),
        row!("worker", "24 open files at most, no folder for temporary ones", "files open", workers::has_few_files()),
        row!(
            "objects",
            "overwritten and deleted meanwhile",
            "writes and deletes",
            workers::works_among_writers(Mode::aws())
        ),
        row!(
            "objects",
            "the same, where writes are in place",
            "writes and deletes",
            workers::works_among_writers(Mode::minio())
        ),
    ]
}

fn of_coordinators() -> Vec<Row> {
    use coordinators::Step;
    vec![
        row!(
            "coordinator",
            "killed when a job is written and not answered",
            "died there",
            coordinators::dies_at(Step::JobWritten)
        ),
        row!(
            "coordinator",
            "killed when shards are on their way to Redis",
            "died there",
            coordinators::dies_at(Step::ShardsSent)
        ),
        row!("coordinator", "killed when shards are written", "died there", coordinators::dies_at(Step::ShardsWritten)),
        row!(
            "coordinator",
            "killed when a ticket is on its way",
            "died there",
            coordinators::dies_at(Step::TicketSent)
        ),
        row!(
            "coordinator",
            "killed when a ticket is confirmed and it does not know",
            "died there",
            coordinators::dies_at(Step::TicketConfirmed)
        ),
        row!(
            "coordinator",
            "killed when it has noted a ticket",
            "died there",
            coordinators::dies_at(Step::TicketNoted)
        ),
        row!(
            "coordinator",
            "killed when the last shard is done",
            "died there",
            coordinators::dies_at(Step::LastShardSeen)
        ),
        row!(
            "coordinator",
            "killed when the report is on its way",
            "died there",
            coordinators::dies_at(Step::ReportSent)
        ),
        row!(
            "coordinator",
            "killed when the report is written",
            "died there",
            coordinators::dies_at(Step::ReportWritten)
        ),
        row!(
            "coordinator",
            "killed when the job's end is on its way",
            "died there",
            coordinators::dies_at(Step::EndSent)
        ),
        row!(
            "coordinator",
            "killed when the job's end is written",
            "died there",
            coordinators::dies_at(Step::EndWritten)
        ),
    ]
}

fn of_rabbitmq() -> Vec<Row> {
    vec![
        row!("RabbitMQ", "killed under a publish and under workers", "broken connections", queue::is_killed()),
        row!("RabbitMQ", "stopped and started", "broken connections", queue::lets_go(Loss::Restart)),
        row!("RabbitMQ", "closes all connections", "broken connections", queue::lets_go(Loss::AllClosed)),
        row!("RabbitMQ", "its queue is deleted", "times it was missed", queue::lets_go(Loss::Deleted)),
        row!("RabbitMQ", "its queue is emptied", "tickets lost", queue::lets_go(Loss::Purged)),
        row!(
            "RabbitMQ",
            "the user's rights are taken, and given back",
            "refusals heard",
            queue::lets_go(Loss::Revoked)
        ),
        row!("RabbitMQ", "its queue is full", "tickets refused", queue::is_full()),
        row!("RabbitMQ", "it has no memory left", "publishers blocked", queue::lets_go(Loss::Blocked)),
        row!("RabbitMQ", "closes a channel for a wrong acknowledgement", "channels closed", queue::closes_a_channel()),
        row!(
            "RabbitMQ",
            "delivers again what a worker still works on",
            "broken connections, shards leased again",
            queue::delivers_again_under_the_first()
        ),
        row!(
            "RabbitMQ",
            "the queue is gone under a message on its way",
            "messages returned",
            queue::has_no_way_to_the_queue()
        ),
        row!("tickets", "that are none", "dead letters", queue::has_strange_messages()),
        row!("tickets", "three times, and after their job's end", "leases refused", queue::doubles_tickets()),
    ]
}

fn of_redis() -> Vec<Row> {
    use Keeps::{Always, EverySecond, Nothing};
    vec![
        row!(
            "Redis, fsync always",
            "killed when a lease is taken",
            "restarts noticed",
            checkpoint::is_killed(Always, Moment::Lease)
        ),
        row!(
            "Redis, fsync always",
            "killed when a window is committed",
            "restarts noticed",
            checkpoint::is_killed(Always, Moment::Commit)
        ),
        row!(
            "Redis, fsync always",
            "killed when a plan is written",
            "restarts noticed",
            checkpoint::is_killed(Always, Moment::Plan)
        ),
        row!(
            "Redis, fsync everysec",
            "killed when a window is committed",
            "restarts noticed",
            checkpoint::is_killed(EverySecond, Moment::Commit)
        ),
        row!(
            "Redis, no AOF",
            "killed when a window is committed",
            "jobs lost and begun again",
            checkpoint::is_killed(Nothing, Moment::Commit)
        ),
        row!("Redis", "FLUSHALL", "keys flushed", checkpoint::is_meddled_with(Hand::Everything)),
        row!("Redis", "DEL of a job's record", "records deleted", checkpoint::is_meddled_with(Hand::TheJob)),
        row!("Redis", "SCRIPT FLUSH", "flushes", checkpoint::is_meddled_with(Hand::Scripts)),
        row!(
            "Redis",
            "rolled back with no coordinator there, under a worker that wakes up",
            "outcomes taken back, refusals heard",
            checkpoint::is_rolled_back()
        ),
    ]
}

fn of_wires() -> Vec<Row> {
    vec![
        row!(
            "wire to Redis",
            "deaf in both directions",
            "messages held back",
            network::is_deaf(Peer::Redis, Ways::Both)
        ),
        row!("wire to Redis", "deaf towards Redis", "messages held back", network::is_deaf(Peer::Redis, Ways::There)),
        row!(
            "wire to Redis",
            "deaf towards the worker",
            "messages held back",
            network::is_deaf(Peer::Redis, Ways::Back)
        ),
        row!(
            "wire to RabbitMQ",
            "deaf in both directions",
            "messages held back",
            network::is_deaf(Peer::RabbitMq, Ways::Both)
        ),
        row!(
            "wire to RabbitMQ",
            "deaf towards RabbitMQ",
            "messages held back",
            network::is_deaf(Peer::RabbitMq, Ways::There)
        ),
        row!(
            "wire to RabbitMQ",
            "deaf towards the worker",
            "messages held back",
            network::is_deaf(Peer::RabbitMq, Ways::Back)
        ),
        row!(
            "wire to the store",
            "deaf in both directions",
            "messages held back",
            network::is_deaf(Peer::Store, Ways::Both)
        ),
        row!(
            "wire to the store",
            "deaf towards the store",
            "messages held back",
            network::is_deaf(Peer::Store, Ways::There)
        ),
        row!(
            "wire to the store",
            "deaf towards workers",
            "messages held back",
            network::is_deaf(Peer::Store, Ways::Back)
        ),
        row!("wire to Redis", "cut five times", "connections made again", network::is_cut(Peer::Redis)),
        row!("wire to RabbitMQ", "cut five times", "connections made again", network::is_cut(Peer::RabbitMq)),
        row!("wire to the store", "cut five times", "connections made again", network::is_cut(Peer::Store)),
        row!("wire to Redis", "half open", "connections made again", network::is_half_open(Peer::Redis)),
        row!("wire to RabbitMQ", "half open", "connections made again", network::is_half_open(Peer::RabbitMq)),
        row!("all wires", "40 and 80 ms late, in pieces of 700 bytes", "pieces late", network::is_slow()),
        row!("wire to RabbitMQ", "silent when a worker starts", "messages held back", network::is_silent_at_first()),
    ]
}

fn of_stores() -> Vec<Row> {
    vec![
        row!("store", "four writes take 30 s", "writes delayed", store::is_slow()),
        row!("store", "a body stops in the middle", "bodies stopped", store::stops_in_a_body()),
        row!("store", "503 to everything for 20 s", "503s", store::is_busy()),
        row!(
            "store",
            "writes, and drops the answer",
            "answers dropped",
            store::does_it_and_is_not_heard(Mode::aws(), false)
        ),
        row!("store", "the same in place", "answers dropped", store::does_it_and_is_not_heard(Mode::minio(), false)),
        row!("store", "the same with versions", "answers dropped", store::does_it_and_is_not_heard(Mode::rgw(), true)),
        row!(
            "collector of traces",
            "takes connections and says nothing",
            "connections",
            store::has_a_silent_collector()
        ),
    ]
}
