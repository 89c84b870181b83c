//! Processes under measurement, looked at from outside while they work.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::Error;
use crate::server::{Requests, Server};

/// How often they are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Linux counts CPU in these, whatever the kernel's own tick is.
const TICK: f64 = 0.01;

/// A look.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Seconds since the work began.
    pub(crate) at: f64,
    /// CPU seconds that they have used since then.
    pub(crate) cpu: f64,
    /// CPU seconds that RabbitMQ and Redis have used since then.
    pub(crate) brokers: f64,
    /// CPU seconds that the machine has used since then, for whomever.
    pub(crate) machine: f64,
    /// Requests that the store has counted since then.
    pub(crate) requests: Requests,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Looks, the last one at the end.
    pub(crate) samples: Vec<Sample>,
    /// Largest resident memory of a client, in KiB.
    pub(crate) peak_kib: u64,
    /// When `run` first said each of its states.
    pub(crate) states: Vec<(f64, String)>,
    /// CPU seconds that the store used meanwhile.
    pub(crate) server_cpu: f64,
}

/// Time and CPU of a stretch of work.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spent {
    /// Objects done in it.
    pub(crate) objects: f64,
    /// Seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of who does the work.
    pub(crate) cpu: f64,
    /// CPU seconds of RabbitMQ and Redis.
    pub(crate) brokers: f64,
    /// CPU seconds of the whole machine.
    pub(crate) machine: f64,
}

impl Spent {
    /// Objects per second.
    pub(crate) fn rate(&self) -> f64 {
        self.objects / self.seconds.max(1e-9)
    }

    /// CPU milliseconds per object.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.cpu * 1000.0 / self.objects.max(1e-9)
    }

    /// The same of RabbitMQ and Redis.
    pub(crate) fn brokers_ms(&self) -> f64 {
        self.brokers * 1000.0 / self.objects.max(1e-9)
    }

    /// How busy the machine's cores were, from 0 to 1.
    pub(crate) fn busy(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.machine / (self.seconds.max(1e-9) * float(cores as u64))
    }
}

/// Somebody's work, from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    before: Requests,
    server_before: f64,
    machine_before: f64,
    seen: Seen,
}

impl Watch {
    /// The work begins.
    pub(crate) fn begin(server: &mut Server) -> Result<Self, Error> {
        let before = server.requests()?;
        let (server_before, machine_before) = (cpu_of(server.id()), machine_cpu()?);
        Ok(Self { began: Instant::now(), before, server_before, machine_before, seen: Seen::default() })
    }

    /// When it began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Notes a look: the CPU seconds of who does the work and of RabbitMQ and Redis since it began.
    pub(crate) fn note(&mut self, server: &mut Server, cpu: f64, brokers: f64) -> Result<(), Error> {
        let mut requests = server.requests()?;
        requests.iter_mut().for_each(|(name, count)| *count -= self.before.get(name).unwrap_or(&0));
        let at = self.began.elapsed().as_secs_f64();
        let machine = machine_cpu()? - self.machine_before;
        self.seen.samples.push(Sample { at, cpu, brokers, machine, requests });
        Ok(())
    }

    /// Notes how much memory a client has used at most.
    pub(crate) fn note_peak(&mut self, kib: u64) {
        self.seen.peak_kib = self.seen.peak_kib.max(kib);
    }

    /// What was seen so far.
    pub(crate) fn last(&self) -> Option<&Sample> {
        self.seen.samples.last()
    }

    /// All that was seen.
    pub(crate) fn end(mut self, server: &Server) -> Seen {
        self.seen.server_cpu = cpu_of(server.id()) - self.server_before;
        self.seen
    }
}

impl Seen {
    /// The whole of it, over so many objects.
    pub(crate) fn whole(&self, objects: u64) -> Spent {
        let end = self.samples.last();
        end.map_or_else(Spent::default, |end| end.spent(float(objects)))
    }

    /// The stretch in which requests of `operation` went from 2 % to 98 % of `objects`, those before the work (probes)
    /// left out: beginning and end of a run are not in it.
    pub(crate) fn steady(&self, operation: &str, objects: u64) -> Spent {
        let of = |sample: &Sample| sample.requests.get(operation).copied().unwrap_or(0);
        let others = self.samples.last().map_or(0, of).saturating_sub(objects);
        let done = |sample: &Sample| of(sample).saturating_sub(others);
        let (low, high) = (objects / 50, objects - objects / 50);
        let first = self.samples.iter().find(|sample| done(sample) >= low);
        let last = self.samples.iter().find(|sample| done(sample) >= high);
        let (Some(first), Some(last)) = (first, last) else { return Spent::default() };
        last.since(first, float(done(last) - done(first)))
    }

    /// From the moment when `run` said `from` to the one when it said `to` (or its end): to a tenth of a second.
    pub(crate) fn between(&self, from: &str, to: &str, objects: u64) -> Spent {
        let end = self.samples.last().map_or(0.0, |sample| sample.at);
        let said = |word: &str| self.states.iter().find(|(_, state)| state == word).map(|(at, _)| *at);
        let (from, to) = (said(from).unwrap_or(end), said(to).unwrap_or(end));
        let look = |at: f64| self.samples.iter().find(|sample| sample.at >= at).or(self.samples.last());
        let (Some(first), Some(last)) = (look(from), look(to)) else { return Spent::default() };
        Spent { seconds: to - from, ..last.since(first, float(objects)) }
    }

    /// Requests to the store, by operation.
    pub(crate) fn requests(&self) -> Requests {
        self.samples.last().map(|sample| sample.requests.clone()).unwrap_or_default()
    }
}

impl Sample {
    fn spent(&self, objects: f64) -> Spent {
        let Self { at, cpu, brokers, machine, .. } = *self;
        Spent { objects, seconds: at, cpu, brokers, machine }
    }

    fn since(&self, first: &Self, objects: f64) -> Spent {
        let (all, before) = (self.spent(objects), first.spent(0.0));
        Spent {
            objects,
            seconds: all.seconds - before.seconds,
            cpu: all.cpu - before.cpu,
            brokers: all.brokers - before.brokers,
            machine: all.machine - before.machine,
        }
    }
}

/// A count as a number to divide.
#[expect(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// CPU seconds of a process, and whether it has ended.
pub(crate) fn cpu(id: u32) -> Option<(f64, bool)> {
    let stat = Stat::of(id)?;
    Some((stat.cpu, stat.ended))
}

/// CPU seconds of a process; 0 where there is none.
pub(crate) fn cpu_of(id: u32) -> f64 {
    cpu(id).map_or(0.0, |(cpu, _)| cpu)
}

/// CPU seconds of all processes of a group.
pub(crate) fn cpu_of_group(group: u32) -> Result<f64, Error> {
    let ids = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(ids.filter_map(Stat::of).filter(|stat| stat.group == group).map(|stat| stat.cpu).sum())
}

struct Stat {
    cpu: f64,
    ended: bool,
    group: u32,
}

impl Stat {
    fn of(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before the last parenthesis may have spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |i: usize| fields.get(i)?.parse::<u32>().ok();
        let cpu = (f64::from(number(11)?) + f64::from(number(12)?)) * TICK;
        Some(Self { cpu, ended: matches!(fields.first(), Some(&"Z")), group: number(2)? })
    }
}

/// CPU seconds that the machine has used since its start: all but idle and waiting for disks.
fn machine_cpu() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().ok_or("/proc/stat is empty")?.split_whitespace().skip(1);
    let ticks: Vec<f64> = all.map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal; guests are in the first two.
    let busy = ticks.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, ticks)| ticks);
    Ok(busy.sum::<f64>() * TICK)
}

/// Largest resident memory that a process has had, in KiB.
pub(crate) fn peak_kib(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

/// What changed from one count to another.
pub(crate) fn less(more: &Requests, less: &Requests) -> BTreeMap<String, f64> {
    let count = |requests: &Requests, name: &str| float(requests.get(name).copied().unwrap_or(0));
    let names = more.keys().chain(less.keys());
    names.map(|name| (name.clone(), count(more, name) - count(less, name))).filter(|(_, count)| *count != 0.0).collect()
}
