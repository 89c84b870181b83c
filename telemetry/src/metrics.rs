//! Metrics of this process, for Prometheus to fetch.
//!
//! One set for the process, made of [`crate::names`] when it is first touched: what counts stands at every depth of the
//! house, and a handle passed down to all of it would say nothing more. A counter is one atomic addition for whoever took
//! its handle before.

use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::TypedMetric;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::names::{self, Name, Role, Values};

/// What `Content-Type` the text has.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the buckets of calls, in seconds: from a store next door to one that hangs.
const CALLS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// The metrics of this process.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

type Labels = Vec<(&'static str, String)>;

/// A metric with labels.
#[derive(Debug)]
pub struct Many<M> {
    name: &'static Name,
    family: Family<Labels, M, fn() -> M>,
}

impl<M: Clone> Many<M> {
    /// The series with these values of its labels, in their order. A handle to keep where it is used often.
    #[must_use]
    pub fn with(&self, values: &[&str]) -> M {
        self.family.get_or_create_owned(&self.labels(values))
    }

    /// Takes a series out.
    pub fn remove(&self, values: &[&str]) {
        self.family.remove(&self.labels(values));
    }

    /// Takes all series out.
    pub fn clear(&self) {
        self.family.clear();
    }

    fn labels(&self, values: &[&str]) -> Labels {
        debug_assert_eq!(values.len(), self.name.labels.len(), "{}", self.name.name);
        let pairs = self.name.labels.iter().zip(values);
        let label = |((label, bound), value): (&(&'static str, Values), &&str)| {
            let listed = |values: &[&str]| values.contains(value);
            debug_assert!(!matches!(bound, Values::These(all) if !listed(all)), "{}: {label}={value}", self.name.name);
            (*label, (*value).to_owned())
        };
        pairs.map(label).collect()
    }

    /// Every series whose labels' values are all listed.
    fn touch(&self) {
        let mut rows: Vec<Vec<&str>> = vec![Vec::new()];
        for (_, values) in self.name.labels {
            let Values::These(all) = values else { return };
            let longer = |row: &Vec<&'static str>| {
                all.iter().map(|value| [row.as_slice(), &[*value]].concat()).collect::<Vec<_>>()
            };
            rows = rows.iter().flat_map(longer).collect();
        }
        rows.iter().for_each(|row| drop(self.with(row)));
    }
}

macro_rules! metrics {
    ($($(#[$meta:meta])* $field:ident: $kind:ty = $make:ident($name:ident);)*) => {
        /// All metrics of a process.
        #[derive(Debug)]
        pub struct Metrics {
            book: Book,
            roles: OnceLock<&'static [Role]>,
            at_scrape: Mutex<Vec<AtScrape>>,
            $(#[doc = concat!("`", stringify!($name), "`")] pub $field: $kind,)*
        }

        impl Metrics {
            /// All of them at their beginning.
            #[must_use]
            pub fn new() -> Self {
                let mut book = Book::default();
                Self { $($field: book.$make(&names::$name),)* book, roles: OnceLock::new(), at_scrape: Mutex::default() }
            }
        }
    };
}

metrics! {
    build_info: Many<Gauge> = gauges(BUILD_INFO);
    connected: Many<Gauge> = gauges(CONNECTED);
    store_connected: Many<Gauge> = gauges(STORE_CONNECTED);
    rabbitmq_blocked: Gauge = gauge(RABBITMQ_BLOCKED);
    store_call: Many<Histogram> = histograms(STORE_CALL);
    store_errors: Many<Counter> = counters(STORE_ERRORS);
    kes_call: Many<Histogram> = histograms(KES_CALL);
    kes_errors: Many<Counter> = counters(KES_ERRORS);
    redis_call: Many<Histogram> = histograms(REDIS_CALL);
    retries: Many<Counter> = counters(RETRIES);
    spans_lost: Counter = counter(SPANS_LOST);
    objects: Many<Counter> = counters(OBJECTS);
    verified: Counter = counter(VERIFIED);
    rotated_bytes: Counter = counter(ROTATED_BYTES);
    permits: Gauge = gauge(PERMITS);
    permits_in_use: Gauge = gauge(PERMITS_IN_USE);
    slots: Gauge = gauge(SLOTS);
    leases: Gauge = gauge(LEASES);
    leases_given: Counter = counter(LEASES_GIVEN);
    lease_refusals: Many<Counter> = counters(LEASE_REFUSALS);
    leases_lost: Many<Counter> = counters(LEASES_LOST);
    slices: Many<Counter> = counters(SLICES);
    tickets_taken: Counter = counter(TICKETS_TAKEN);
    redeliveries: Counter = counter(REDELIVERIES);
    tickets_rejected: Counter = counter(TICKETS_REJECTED);
    leader: Gauge = gauge(LEADER);
    jobs: Many<Gauge> = gauges(JOBS);
    workers: Many<Gauge> = gauges(WORKERS);
    worker_slots: Many<Gauge> = gauges(WORKER_SLOTS);
    tickets_out: Many<Gauge> = gauges(TICKETS_OUT);
    tickets_published: Many<Counter> = counters(TICKETS_PUBLISHED);
    shards_leased: Many<Gauge> = gauges(SHARDS_LEASED);
    shards_waiting: Many<Gauge> = gauges(SHARDS_WAITING);
    oldest_waiting: Many<Gauge> = gauges(OLDEST_WAITING);
    dead_letters: Many<Gauge> = gauges(DEAD_LETTERS);
    job_objects: Many<Gauge> = gauges(JOB_OBJECTS);
    job_bytes: Many<Gauge> = gauges(JOB_BYTES);
    job_shards: Many<Gauge> = gauges(JOB_SHARDS);
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets gauges from what they are about, whenever somebody fetches them.
struct AtScrape(Box<dyn Fn(&Metrics) + Send + Sync>);

impl std::fmt::Debug for AtScrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtScrape")
    }
}

impl Metrics {
    /// Has `look` set its gauges whenever they are fetched, rather than at each change.
    pub fn at_scrape(&self, look: impl Fn(&Self) + Send + Sync + 'static) {
        self.at_scrape.lock().unwrap_or_else(PoisonError::into_inner).push(AtScrape(Box::new(look)));
    }

    /// Says what this process is: it shows the metrics of these roles from now on, and its version.
    pub fn play(&self, roles: &'static [Role], name: &str) {
        // Once is enough.
        let _again = self.roles.set(roles);
        self.build_info.with(&[env!("CARGO_PKG_VERSION"), name]).set(1);
    }

    /// What the process shows, as text of [`CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        self.text_of(self.roles.get().copied().unwrap_or(&[Role::Coordinator, Role::Worker]))
    }

    fn text_of(&self, roles: &[Role]) -> String {
        self.at_scrape.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|look| look.0(self));
        let mut text = String::new();
        for (shown_by, registry) in &self.book.shelves {
            if shown_by.iter().any(|role| roles.contains(role)) {
                // Writing into a string does not fail.
                let _written = encode_registry(&mut text, registry);
            }
        }
        let _written = encode_eof(&mut text);
        text
    }
}

/// Registries, by the roles that show what is in them.
#[derive(Debug, Default)]
struct Book {
    shelves: Vec<(&'static [Role], Registry)>,
}

impl Book {
    fn counter(&mut self, name: &'static Name) -> Counter {
        self.register(name, Counter::default())
    }

    fn gauge(&mut self, name: &'static Name) -> Gauge {
        self.register(name, Gauge::default())
    }

    fn counters(&mut self, name: &'static Name) -> Many<Counter> {
        let many = self.many(name, Counter::default);
        many.touch();
        many
    }

    /// Not touched: a gauge that nobody has set says nothing.
    fn gauges(&mut self, name: &'static Name) -> Many<Gauge> {
        self.many(name, Gauge::default)
    }

    fn histograms(&mut self, name: &'static Name) -> Many<Histogram> {
        let many = self.many(name, || Histogram::new(CALLS));
        many.touch();
        many
    }

    fn many<M>(&mut self, name: &'static Name, make: fn() -> M) -> Many<M>
    where
        M: Clone + EncodeMetric + TypedMetric + Send + Sync + std::fmt::Debug + 'static,
    {
        Many { name, family: self.register(name, Family::new_with_constructor(make)) }
    }

    fn register<M: Metric + Clone>(&mut self, name: &'static Name, metric: M) -> M {
        let index = self.shelves.iter().position(|(roles, _)| *roles == name.roles).unwrap_or_else(|| {
            self.shelves.push((name.roles, Registry::default()));
            self.shelves.len() - 1
        });
        let registry = &mut self.shelves[index].1;
        // The library puts both endings on again.
        let plain = name.name.strip_suffix("_total").unwrap_or(name.name);
        match (plain.strip_suffix("_seconds"), plain.strip_suffix("_bytes")) {
            (Some(plain), _) => registry.register_with_unit(plain, name.help, Unit::Seconds, metric.clone()),
            (_, Some(plain)) => registry.register_with_unit(plain, name.help, Unit::Bytes, metric.clone()),
            _ => registry.register(plain, name.help, metric.clone()),
        }
        metric
    }
}

#[cfg(test)]
mod tests;
