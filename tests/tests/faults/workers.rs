//! A worker that dies at each step of its work, is frozen, or can't go on.

use std::time::Duration;

use keyrotate_tests::bucket;
use keyrotate_tests::prelude::*;
use keyrotate_tests::proxy::{ACK, DELIVER, Deed, Looks, Trap, Way, Weather, amqp, with};
use tokio::process::Command;
use tokio::time::Instant;

use crate::scene::{ALWAYS, Lane, Line, OBJECTS, RATE, Scene, Wires, killed_in, leased, shard_swap};

/// The steps of a worker, and how one is seen on its wires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Delivered,
    LeaseAsked,
    LeaseTaken,
    Listed,
    Looked,
    IntentsWritten,
    WriteSent,
    WriteMade,
    PartSent,
    PartWritten,
    CommitSent,
    CommitMade,
    AckSent,
}

/// A listing of the job's bucket, not of the reports.
fn listing() -> Looks {
    let (lists, of_reports) = (with(&["GET /", "list-type=2"]), with(&["-reports"]));
    Box::new(move |message| lists(message) && !of_reports(message))
}

impl Step {
    /// Taken before any shard was leased by this worker, or once it has work.
    fn is_before_work(self) -> bool {
        matches!(self, Self::LeaseAsked | Self::LeaseTaken)
    }

    /// Of one of many objects.
    fn is_of_an_object(self) -> bool {
        matches!(self, Self::Looked | Self::WriteSent | Self::WriteMade)
    }

    /// The shard that it leased last is not the one that it holds.
    fn is_between_shards(self) -> bool {
        self.is_before_work() || matches!(self, Self::Delivered | Self::AckSent)
    }

    /// A write is announced where it adds a version.
    async fn scene(self, lane: &mut Lane) -> Scene {
        if !matches!(self, Self::IntentsWritten) {
            return lane.scene(Mode::aws()).await;
        }
        let mut scene = lane.scene_with(Mode::rgw(), true, ALWAYS, OBJECTS, &[]).await;
        scene.options(&[RATE, "maxAddedBytes: 1GiB"]);
        scene
    }

    fn lay(self, scene: &Scene, wires: &Wires) -> Trap {
        // In the middle of the first window, which nobody sees from outside.
        let store =
            |deed, looks| scene.store.trap(Way::There, if self.is_of_an_object() { 30 } else { 0 }, deed, looks);
        let redis = |deed| wires.redis.trap(Way::There, 0, deed, shard_swap());
        match self {
            Self::Delivered => wires.rabbitmq.trap(Way::Back, 0, Deed::Pass, amqp(DELIVER.0, DELIVER.1)),
            Self::LeaseAsked | Self::CommitSent => redis(Deed::Hold),
            Self::LeaseTaken | Self::CommitMade => redis(Deed::HoldAnswer),
            Self::IntentsWritten => store(Deed::HoldAnswer, with(&["PUT /", "-reports/jobs/", "/intents/"])),
            Self::Listed => store(Deed::HoldAnswer, listing()),
            Self::Looked => store(Deed::HoldAnswer, with(&["HEAD /", "/k/"])),
            Self::WriteSent => store(Deed::Hold, with(&["PUT /", "/k/", "encryption"])),
            Self::WriteMade => store(Deed::HoldAnswer, with(&["PUT /", "/k/", "encryption"])),
            Self::PartSent => store(Deed::Hold, with(&["PUT /", "-reports/jobs/", "/parts/"])),
            Self::PartWritten => store(Deed::HoldAnswer, with(&["PUT /", "-reports/jobs/", "/parts/"])),
            Self::AckSent => wires.rabbitmq.trap(Way::There, 0, Deed::Hold, amqp(ACK.0, ACK.1)),
        }
    }
}

/// Kills the only worker at a step, when another one is there already. What was on its way arrives after its death.
pub(crate) async fn dies_at(lane: &mut Lane, step: Step) -> Line {
    let scene = step.scene(lane).await;
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let (victim, trap, id);
    if step.is_before_work() {
        // Somebody prepares the job, and is gone before this one is there.
        let first = scene.fleet.worker().await;
        id = scene.submit_and_begin(&coordinator).await;
        first.signal("TERM");
        let _drained = first.end().await.expect(0);
        trap = step.lay(&scene, &wires);
        victim = scene.worker_behind(&wires).await;
    } else if step.is_of_an_object() {
        victim = scene.worker_behind(&wires).await;
        trap = step.lay(&scene, &wires);
        id = scene.submit(&coordinator).await;
    } else {
        victim = scene.worker_behind(&wires).await;
        id = scene.submit_and_begin(&coordinator).await;
        trap = step.lay(&scene, &wires);
    }
    trap.caught().await;
    let other = scene.fleet.worker().await;
    let held = leased(&victim);
    let killed = Instant::now();
    let seen = killed_in(trap, victim).await;
    // What it held when it took the next ticket may be over.
    let takes_over = |shard: &String| step.is_between_shards() || held.contains(shard);
    until("another worker leases what it held", || leased(&other).iter().any(takes_over)).await;
    let back = killed.elapsed();
    scene.close(lane, &coordinator, &id, seen, Some(back)).await
}

/// A worker that is frozen in the middle of a write, whose shard another one takes and ends, whose object somebody
/// overwrites then, and which wakes up: its write reaches the store and is refused there.
pub(crate) async fn wakes_up_after_its_lease(lane: &mut Lane) -> Line {
    let by_copy = Mode { update_encryption: false, ..Mode::aws() };
    let mut scene = lane.scene(by_copy).await;
    scene.options(&["rate: 20"]);
    let coordinator = scene.fleet.coordinator().await;
    let wires = scene.wires().await;
    let zombie = scene.worker_behind(&wires).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let trap = scene.store.trap(Way::There, 0, Deed::Hold, with(&["PUT /", "/k/", "x-amz-copy-source"]));
    trap.caught().await;
    zombie.signal("STOP");
    let frozen = Instant::now();
    let held = leased(&zombie);
    let other = scene.fleet.worker().await;
    until("its shard is leased by another", || held.iter().any(|shard| leased(&other).contains(shard))).await;
    let back = frozen.elapsed();
    let _ended = scene.fleet.end(&coordinator, &id).await.expect_completed();

    let key = key_of(&trap.message());
    let (client, bucket) = (scene.fleet.stand.client(), &scene.fleet.stand.bucket);
    bucket::put(client, bucket, Put::under(&scene.fleet.stand.target.old_key, &key, "somebody's")).await;
    let copied = || scene.fleet.stand.target.requests(&["CopyObject", "UploadPartCopy"]);
    let (before, copies) = (scene.fleet.stand.snapshot().await, copied());
    trap.release();
    zombie.signal("CONT");
    let refused = || {
        let said = zombie.stderr();
        ["the lease ran out under the work", "ended without its last word"]
            .iter()
            .map(|what| said.matches(what).count())
            .sum::<usize>()
    };
    let arrived = || copied() - copies;
    until("the woken worker hears that it holds nothing", || refused() > 0).await;
    until("its write arrives", || arrived() > 0).await;
    let arrived = arrived();
    // Its lease was taken early, since all its writes are guarded: until it hears so it may look again, and bring what
    // somebody wrote under the new key. No body of anybody is another one.
    let now = scene.fleet.stand.snapshot().await;
    let is_another =
        |version: &&(String, String)| now.get(*version).map(|seen| &seen.content) != Some(&before[*version].content);
    let changed: Vec<_> = before.keys().filter(is_another).collect();
    assert!(changed.is_empty() && now.len() == before.len(), "of {key} it wrote after it woke: {changed:?}");
    scene.expect.touched.insert(key);
    scene.expect.writes_again = true;
    scene.close(lane, &coordinator, &id, arrived, Some(back)).await
}

/// The key that a request is about: `METHOD /BUCKET/KEY?QUERY`.
fn key_of(request: &[u8]) -> String {
    let line = String::from_utf8_lossy(request).lines().next().unwrap_or_default().to_owned();
    let path = line.split(' ').nth(1).and_then(|path| path.split('?').next()).unwrap_or_default().to_owned();
    path.splitn(3, '/').nth(2).unwrap_or_default().to_owned()
}

/// Told to stop under load; told twice; told with a store that does not answer.
pub(crate) async fn is_told_to_stop(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker().await;
    let id = scene.submit_and_begin(&coordinator).await;
    let told = Instant::now();
    worker.signal("TERM");
    let _drained = worker.end().await.expect(0);
    assert!(told.elapsed() < Duration::from_secs(25), "{:?}", told.elapsed());
    // The store is deaf now.
    let worker = scene.fleet.worker().await;
    scene.goes_on(&coordinator, &id).await;
    scene.store.set(Weather::Deaf { there: true, back: true });
    until("it waits for the store", || scene.store.held_back() > 0).await;
    let told = Instant::now();
    worker.signal("TERM");
    let _in_time = worker.end().await;
    assert!(told.elapsed() < Duration::from_secs(30), "{:?}", told.elapsed());
    scene.store.set(Weather::Clear);
    let _other = scene.fleet.worker().await;
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, 2, Some(back)).await
}

/// An object whose look kills every worker: its shard is split down to it, its row says so, the rest is rotated.
pub(crate) async fn is_killed_by_one_object(lane: &mut Lane) -> Line {
    const POISON: &str = "k/0002";
    let mut scene = lane.scene_with(Mode::aws(), false, ALWAYS, 4, &[]).await;
    scene.options(&["rate: 200"]);
    let coordinator = scene.fleet.coordinator().await;
    scene.fleet.stand.read_on();
    let lay = || scene.store.trap(Way::There, 0, Deed::Hold, with(&["HEAD /", "/k/0002"]));
    let mut trap = lay();
    let mut worker = scene.fleet.worker().await;
    let once = scene.job().retry("attempts: 1");
    let id = scene.fleet.submit(&coordinator, &once).await;
    let mut deaths = 0;
    loop {
        let status = scene.fleet.status(&coordinator, &id).await.unwrap_or_default();
        if matches!(status["state"].as_str(), Some("completed" | "failed" | "cancelled")) {
            break;
        }
        if trap.has_caught() {
            deaths += killed_in(trap, worker).await;
            assert!(deaths < 60, "{status}");
            trap = lay();
            worker = scene.fleet.worker().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = scene.fleet.end(&coordinator, &id).await.expect(4);
    let report = scene.fleet.stand.report(&ended);
    let row = report.of(POISON).next().expect("it has a row").clone();
    assert_eq!(row["outcome"], "failed", "{row:?}");
    assert_eq!(report.count("rotated") + report.count("current"), 3, "{}", report.summary);
    trap.release();
    scene.expect.touched.insert(POISON.to_owned());
    // Nothing kills the second one.
    let id = scene.fleet.submit(&coordinator, &scene.job()).await;
    let again = scene.fleet.end(&coordinator, &id).await.expect(0);
    assert_eq!(scene.fleet.stand.report(&again).count("rotated"), 1);
    scene.expect = Expect::default();
    scene.close(lane, &coordinator, &id, deaths, None).await
}

/// Few files may be open, and the folder for temporary ones can't be written: it says so or does without; nothing spins.
pub(crate) async fn has_few_files(lane: &mut Lane) -> Line {
    let scene = lane.scene(Mode::aws()).await;
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker_with(&[("TMPDIR", "/proc"), ("KEYROTATE_WORKER_PERMITS", "64")]).await;
    let limited = format!("prlimit --pid {} --nofile=24:24", worker.id());
    let set = std::process::Command::new("sh").args(["-c", &limited]).status();
    assert!(set.expect("sh can be run").success(), "{limited}");
    let id = scene.submit_and_begin(&coordinator).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.id())).map_or(0, Iterator::count);
    // What was open already stays so.
    assert!((16..32).contains(&open), "{open} files are open: the limit is no limit");
    scene.close(lane, &coordinator, &id, open as u64, None).await
}

/// Others leave it a sliver of one core, for as long as a lease lasts: it keeps its leases and its connections.
pub(crate) async fn is_starved(lane: &mut Lane) -> Line {
    let mut scene = lane.scene(Mode::aws()).await;
    scene.options(&["rate: 2"]);
    let coordinator = scene.fleet.coordinator().await;
    let worker = scene.fleet.worker_by(&["nice", "-n", "10", "taskset", "--cpu-list", "0"]).await;
    let id = scene.submit_and_begin(&coordinator).await;
    let before = waited_for_a_core(&worker);
    {
        // Behind all other rows.
        let busy = ["-n", "15", "taskset", "--cpu-list", "0", "sh", "-c", "while :; do :; done"];
        let busy = || Command::new("nice").args(busy).kill_on_drop(true).spawn().expect("nice can be run");
        let _busy: Vec<_> = (0..16).map(|_| busy()).collect();
        tokio::time::sleep(Duration::from_secs(65)).await;
    }
    let seen = waited_for_a_core(&worker) - before;
    for lost in ["is lost", "the lease ran out", "the checkpoint does not"] {
        assert!(!worker.stderr().contains(lost), "{}", worker.stderr());
    }
    scene.fleet.limit(&coordinator, &id, r#"{"rate": 200}"#).await;
    let back = scene.goes_on(&coordinator, &id).await;
    scene.close(lane, &coordinator, &id, seen.as_secs(), Some(back)).await
}

/// How long all threads of a process were ready and not let run: the second figure of their `schedstat`.
fn waited_for_a_core(process: &Process) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).expect("it runs");
    let figures = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    figures.filter_map(|text| text.split(' ').nth(1)?.parse().ok()).map(Duration::from_nanos).sum()
}

/// Somebody overwrites and deletes objects while two workers write them.
pub(crate) async fn works_among_writers(lane: &mut Lane, mode: Mode) -> Line {
    let mut scene = lane.scene(mode).await;
    let coordinator = scene.fleet.coordinator().await;
    let _workers = scene.fleet.workers(2).await;
    let of = |offset: usize| move |number: usize| format!("k/{:04}", number * 7 + offset);
    let (overwritten, deleted): (Vec<_>, Vec<_>) = ((0..20).map(of(0)).collect(), (0..20).map(of(3)).collect());
    scene.expect.touched = overwritten.iter().chain(&deleted).cloned().collect();
    scene.expect.writes_again = true;
    let id = scene.submit_and_begin(&coordinator).await;
    let writer = Writer::start(&scene.fleet.stand, overwritten);
    let (client, bucket) = (scene.fleet.stand.client(), &scene.fleet.stand.bucket);
    for key in &deleted {
        bucket::delete(client, bucket, key).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let written = writer.stop().await;
    let mut ended = scene.fleet.end(&coordinator, &id).await;
    if ended.code == Some(4) {
        // What was written all the time may be in conflict after the last pass, and has another one.
        scene.fleet.tell(&coordinator, &id, "resume").await;
        ended = scene.fleet.end(&coordinator, &id).await;
    }
    for key in &deleted {
        assert!(bucket::get(client, bucket, key, None).await.is_err(), "{key} was deleted: {}", ended.stdout);
    }
    scene.close(lane, &coordinator, &id, written.writes + deleted.len() as u64, None).await
}
