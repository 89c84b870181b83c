use proptest::prelude::*;

use super::*;

const PREFIXES: [&str; 4] = ["", "a/", "a/b/", "c/"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn claim(n: u8, prefix: &str) -> Claim {
    Claim { job: JobId::new(1, [n; 10]), user: "me".into(), holder: format!("host-{n}"), prefix: prefix.into() }
}

#[test]
fn disjoint_prefixes_are_held_beside_each_other_and_overlapping_ones_are_not() {
    let both = Leases::default().hold(&claim(1, "a/"), at(0)).unwrap().hold(&claim(2, "c/"), at(1)).unwrap();
    assert_eq!(both.entries.len(), 2);
    for prefix in ["", "a", "a/", "a/b"] {
        let other = both.hold(&claim(3, prefix), at(2)).unwrap_err();
        assert_eq!(other.job, claim(1, "").job, "{prefix}");
    }
    assert_eq!(both.left(&claim(2, "").job, at(301)).unwrap(), SignedDuration::from_mins(10));
}

#[test]
fn what_has_run_out_is_in_the_way_for_as_long_as_a_late_write_of_it_may_come() {
    let dead = Leases::default().hold(&claim(1, ""), at(0)).unwrap();
    let free = (LENGTH + SIGNED).as_secs();
    assert!(dead.hold(&claim(2, ""), at(free - 1)).is_err());
    assert_eq!(dead.left(&claim(1, "").job, at(LENGTH.as_secs())), None);
    assert_eq!(dead.hold(&claim(2, ""), at(free)).unwrap().entries.len(), 1, "the dead one is left away");
    assert!(dead.hold(&claim(1, ""), at(free - 1)).is_ok(), "it may go on itself");
}

#[test]
fn the_last_one_says_that_it_goes_and_nobody_comes_meanwhile() {
    let (one, two) = (claim(1, "a/"), claim(2, "c/"));
    let both = Leases::default().hold(&one, at(0)).unwrap().hold(&two, at(0)).unwrap();
    let Leave::Rest(rest) = both.leave(&one.job, at(9)) else { panic!("the other is there") };
    assert_eq!(rest.entries.len(), 1);
    let Leave::Last(leaving) = rest.leave(&two.job, at(9)) else { panic!("it is the last") };
    for n in [1, 2, 3] {
        assert!(leaving.hold(&claim(n, "z/"), at(10)).is_err(), "{n}");
    }
    assert!(leaving.hold(&claim(3, "z/"), at(9 + (LENGTH + SIGNED).as_secs())).is_ok());
    assert_eq!(Leases::default().leave(&one.job, at(9)), Leave::Nothing);
    assert_eq!(rest.leave(&one.job, at(9)), Leave::Nothing, "nothing of it is there");
}

#[test]
fn the_form_on_the_wire_is_kept() {
    let leases = Leases::default().hold(&claim(1, "a/"), at(0)).unwrap();
    let text = r#"{"version":1,"entries":[{"job":"JOB","user":"me","holder":"host-1","prefix":"a/","until":"2027-01-15T08:15:00Z"}]}"#;
    let text = text.replace("JOB", claim(1, "").job.as_str());
    assert_eq!(serde_json::to_string(&leases).unwrap(), text);
    assert_eq!(serde_json::from_str::<Leases>(&text).unwrap(), leases);
}

/// How a write ends.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Heard,
    /// It was done, or refused, and nobody knows.
    Lost,
    /// It arrives later, or never.
    Late,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Read(usize),
    Hold(usize, Answer),
    Leave(usize, Answer),
    /// A write that was on its way arrives.
    Arrive(usize),
    /// The removal arrives.
    Remove(usize),
    Wait(i64),
}

/// What lies in the bucket: its content, and which write made it.
type Object = Option<(Leases, u64)>;

/// A write on its way: over what, and what.
type Sent = (Option<u64>, Leases);

struct Installation {
    claim: Claim,
    read: Option<(Object, i64)>,
    sent: Option<Sent>,
    /// It may begin writes of objects until then.
    until: i64,
    /// What it began may arrive until then; nothing does once it has left.
    late: i64,
    removes_by: Option<i64>,
}

struct World {
    object: Object,
    writes: u64,
    now: i64,
    all: Vec<Installation>,
}

impl World {
    fn new(prefixes: &[usize]) -> Self {
        let one = |(n, prefix): (u8, &usize)| Installation {
            claim: claim(n, PREFIXES[*prefix]),
            read: None,
            sent: None,
            until: 0,
            late: 0,
            removes_by: None,
        };
        Self { object: None, writes: 0, now: 1, all: (0..).zip(prefixes).map(one).collect() }
    }

    fn swap(&mut self, (over, next): Sent) -> bool {
        if self.object.as_ref().map(|(_, write)| *write) != over {
            return false;
        }
        self.writes += 1;
        self.object = Some((next, self.writes));
        true
    }

    /// Whether it was written and the writer knows.
    fn send(&mut self, n: usize, sent: Sent, answer: Answer) -> bool {
        match answer {
            Answer::Heard => self.swap(sent),
            Answer::Lost => {
                self.swap(sent);
                false
            }
            Answer::Late => {
                self.all[n].sent = Some(sent);
                false
            }
        }
    }

    fn begins_to_write(&mut self, n: usize, until: i64) {
        if until <= self.now {
            return;
        }
        for (other, one) in self.all.iter().enumerate().filter(|(other, _)| *other != n) {
            let (a, b) = (&self.all[n].claim.prefix, &one.claim.prefix);
            let overlap = a.starts_with(b.as_str()) || b.starts_with(a.as_str());
            assert!(!overlap || one.late <= self.now, "{n} and {other} write both at {}", self.now);
        }
        let one = &mut self.all[n];
        one.until = one.until.max(until);
        one.late = one.late.max(until + SIGNED.as_secs());
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Wait(seconds) => self.now += seconds,
            Op::Read(n) => {
                let object = self.object.clone();
                // Another process of the same job may have written it.
                let leases = object.as_ref().map(|(leases, _)| leases);
                if let Some(left) = leases.and_then(|leases| leases.left(&self.all[n].claim.job, at(self.now))) {
                    self.begins_to_write(n, self.now + left.as_secs());
                }
                self.all[n].read = Some((object, self.now));
            }
            Op::Hold(n, answer) => {
                let Some((object, read_at)) = self.all[n].read.take() else { return };
                let (leases, over) = object.map_or((Leases::default(), None), |(l, write)| (l, Some(write)));
                let Ok(next) = leases.hold(&self.all[n].claim, at(read_at)) else { return };
                if self.send(n, (over, next), answer) {
                    self.begins_to_write(n, read_at + LENGTH.as_secs());
                }
            }
            Op::Leave(n, answer) => {
                // Whoever leaves has written all that it had to.
                (self.all[n].until, self.all[n].late) = (0, 0);
                let Some((object, read_at)) = self.all[n].read.take() else { return };
                let (leases, over) = object.map_or((Leases::default(), None), |(l, write)| (l, Some(write)));
                match leases.leave(&self.all[n].claim.job, at(read_at)) {
                    Leave::Nothing => {}
                    Leave::Rest(rest) => drop(self.send(n, (over, rest), answer)),
                    Leave::Last(leaving) => {
                        if self.send(n, (over, leaving), answer) {
                            self.all[n].removes_by = Some(read_at + (LENGTH + SIGNED).as_secs());
                        }
                    }
                }
            }
            Op::Arrive(n) => {
                if let Some(sent) = self.all[n].sent.take() {
                    self.swap(sent);
                }
            }
            // Whatever is there: no store takes a condition with it.
            Op::Remove(n) => {
                if self.all[n].removes_by.take().is_some_and(|by| self.now < by) {
                    self.object = None;
                }
            }
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let answer = || prop_oneof![4 => Just(Answer::Heard), 1 => Just(Answer::Lost), 1 => Just(Answer::Late)];
    let n = || 0..3_usize;
    let op = prop_oneof![
        6 => n().prop_map(Op::Read),
        6 => (n(), answer()).prop_map(|(n, answer)| Op::Hold(n, answer)),
        2 => (n(), answer()).prop_map(|(n, answer)| Op::Leave(n, answer)),
        1 => n().prop_map(Op::Arrive),
        2 => n().prop_map(Op::Remove),
        4 => (0..1_200_i64).prop_map(Op::Wait),
    ];
    prop::collection::vec(op, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever is lost, late, or removed at the wrong moment: of two installations whose keys overlap never both write,
    /// nor does one while something of the other may still come.
    #[test]
    fn two_never_write_at_once(prefixes in prop::collection::vec(0..PREFIXES.len(), 3), ops in ops()) {
        let mut world = World::new(&prefixes);
        ops.into_iter().for_each(|op| world.act(op));
    }
}
