//! One object that is larger than a copy may be, in parts: how fast, and in how much memory.

use keyrotate_devstack::model::SyntheticKeys;
use serde::Serialize;
use serde_json::json;

use super::{Bench, Part, bare, middle};
use crate::Error;
use crate::bare::Call;
use crate::server::{ServeArgs, Server, objects};
use crate::strategy::OLD;
use crate::watch::{Seen, Spent, float};

/// Bytes of each part, and of the object that the large one's memory is held against.
const PART: u64 = 64 << 20;

/// A way to write it.
struct Way {
    name: &'static str,
    mode: &'static str,
    /// Under what it is before: a store that changes keys alone is not to do so here.
    before: Option<&'static str>,
    /// The request that makes a part.
    write: &'static str,
    bare: Call,
}

const WAYS: [Way; 2] = [
    Way {
        name: "parts copied by the store",
        mode: "aws",
        before: None,
        write: "UploadPartCopy",
        bare: Call::PartsCopied,
    },
    Way {
        name: "parts through keyrotate",
        mode: "rgw",
        before: Some(OLD),
        write: "UploadPart",
        bare: Call::PartsThrough,
    },
];

/// One round.
#[derive(Debug, Serialize)]
struct Round {
    /// The loop with the same calls, while it makes parts.
    bare: Spent,
    /// `run` while it makes parts.
    run: Spent,
    /// `run` from its start to its end.
    whole: Spent,
    /// The same with the body hashed before and after.
    hashed: Spent,
    /// Largest memory of `run` over an object of one part.
    small_kib: u64,
    /// Over the large one.
    large_kib: u64,
    /// Over the large one, its body hashed before and after.
    hashed_kib: u64,
}

impl Bench {
    /// An object of so many bytes, by each way.
    pub(crate) async fn large(&self, bytes: u64) -> Result<Part, Error> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for way in &WAYS {
            let mut rounds = Vec::new();
            for _ in 0..self.rounds {
                rounds.push(self.large_once(way, bytes).await?);
            }
            rows.push(row(way, &rounds));
            all.push(json!({ "way": way.name, "mode": way.mode, "bytes": bytes, "part": PART, "rounds": rounds }));
        }
        let title =
            format!("One object of {} MiB in parts of {} MiB, median of {}", mib(bytes), mib(PART), self.rounds);
        let columns = vec![
            "how (store)",
            "bare MiB/s",
            "run MiB/s",
            "run/bare",
            "bare CPU s/GiB",
            "run CPU s/GiB",
            "run s",
            "bodies hashed s",
            "peak MiB of one part",
            "peak MiB",
            "bodies hashed peak MiB",
        ];
        Ok(Part { title, columns, rows, json: json!(all) })
    }

    async fn large_once(&self, way: &Way, bytes: u64) -> Result<Round, Error> {
        let parts = bytes.div_ceil(PART);
        let bare = bare_once(way, bytes).await?;
        let small = self.run_once(way, PART, "0").await?;
        let large = self.run_once(way, bytes, "0").await?;
        let hashed = self.run_once(way, bytes, "100%").await?;
        Ok(Round {
            bare: bare.steady(way.write, parts),
            run: large.steady(way.write, parts),
            whole: large.whole(parts),
            hashed: hashed.whole(parts),
            small_kib: small.peak_kib,
            large_kib: large.peak_kib,
            hashed_kib: hashed.peak_kib,
        })
    }

    async fn run_once(&self, way: &Way, bytes: u64, verified: &str) -> Result<Seen, Error> {
        let mut server = way.server()?;
        let bucket = server.bucket_of(way.object(bytes))?;
        let options = ["bodyTransit: any".to_owned(), format!("verifyBodies: \"{verified}\"")];
        self.run(&mut server, &bucket, &options.each_ref().map(String::as_str), &[]).await
    }
}

/// A store of its own for each: what is written stays in its memory.
async fn bare_once(way: &Way, bytes: u64) -> Result<Seen, Error> {
    let mut server = way.server()?;
    let bucket = server.bucket_of(way.object(bytes))?;
    bare(&mut server, &bucket, 1, &[Call::Head, way.bare, Call::Head]).await
}

impl Way {
    fn server(&self) -> Result<Server, Error> {
        Server::start(&ServeArgs { mode: self.mode.to_owned(), unguarded_copy: false })
    }

    fn object(&self, bytes: u64) -> SyntheticKeys {
        SyntheticKeys { sizes: (bytes, bytes), part: Some(PART), ..objects(1, self.before) }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn rate(spent: &Spent) -> f64 {
    spent.rate() * float(mib(PART))
}

/// CPU seconds for each GiB.
fn cpu(spent: &Spent) -> f64 {
    spent.cpu_ms() / 1000.0 * float((1 << 30) / PART)
}

fn row(way: &Way, rounds: &[Round]) -> Vec<String> {
    let count = |pick: fn(&Round) -> f64| format!("{:.0}", middle(rounds, pick));
    let exact = |pick: fn(&Round) -> f64| format!("{:.2}", middle(rounds, pick));
    vec![
        format!("{} ({})", way.name, way.mode),
        count(|round| rate(&round.bare)),
        count(|round| rate(&round.run)),
        exact(|round| rate(&round.run) / rate(&round.bare)),
        exact(|round| cpu(&round.bare)),
        exact(|round| cpu(&round.run)),
        exact(|round| round.whole.seconds),
        exact(|round| round.hashed.seconds),
        count(|round| float(round.small_kib) / 1024.0),
        count(|round| float(round.large_kib) / 1024.0),
        count(|round| float(round.hashed_kib) / 1024.0),
    ]
}
