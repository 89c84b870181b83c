//! What lies between a process and a server: a TCP proxy that is a clear wire until a test makes it slow, deaf or gone,
//! or lays a trap for a certain message. A trap that caught its message says so and holds the wire, so that a test knows
//! at which step of its work a process is, without a word of test code in what is shipped.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BUFFER: usize = 64 << 10;
/// What a test gives a process to reach its step. Jobs of these tests last seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the process to the server.
    There,
    /// From the server to the process.
    Back,
}

/// How the wire is, for all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// As if there were none.
    #[default]
    Clear,
    /// Nothing comes through in these directions; it waits, as in a network that sends it again. New connections are made
    /// and hear nothing.
    Deaf {
        /// From the process to the server.
        there: bool,
        /// From the server to the process.
        back: bool,
    },
    /// Connections break and new ones are refused.
    Refusing,
    /// Late, and in small pieces.
    Slow {
        /// Before each piece; every other one takes twice that.
        latency: Duration,
        /// Bytes of a piece.
        piece: usize,
    },
}

/// What is done about a message.
pub enum Deed {
    /// It waits, and all behind it.
    Hold,
    /// It goes through; whatever the server says from then on waits.
    HoldAnswer,
    /// It goes through, changed.
    Change(fn(&mut [u8])),
    /// It goes through.
    Pass,
}

/// What a trap waits for.
pub type Looks = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A proxy to one port of this machine. Gone with its handle, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepts: JoinHandle<()>,
}

struct Shared {
    upstream: u16,
    weather: watch::Sender<Weather>,
    /// Grows when all connections shall break; the second number when they shall be forgotten.
    broken: watch::Sender<(u64, u64)>,
    traps: Mutex<Vec<Arc<Armed>>>,
    connections: AtomicU64,
    held_back: AtomicU64,
}

struct Armed {
    way: Way,
    looks: Looks,
    left: AtomicUsize,
    deed: Deed,
    message: Mutex<Vec<u8>>,
    caught: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

/// A trap that was laid.
pub struct Trap {
    armed: Arc<Armed>,
}

/// One connection: its two pumps share what a trap wants of them.
struct Wire {
    shared: Arc<Shared>,
    /// Answers wait for this trap.
    answers: watch::Sender<Option<Arc<Armed>>>,
    reset: watch::Sender<bool>,
}

/// What ended a pump.
enum End {
    Closed,
    Reset,
    Forgotten,
}

impl Proxy {
    /// One that leads to `upstream`.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared {
            upstream,
            weather: watch::Sender::default(),
            broken: watch::Sender::default(),
            traps: Mutex::default(),
            connections: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        });
        let accepts = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepts }
    }

    /// Where it listens, on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A URL with this proxy's port in the place of the server's.
    ///
    /// # Panics
    /// When the server's is not in it.
    #[must_use]
    pub fn on_the_way(&self, url: &str) -> String {
        let (server, own) = (format!("127.0.0.1:{}", self.shared.upstream), format!("127.0.0.1:{}", self.port));
        assert!(url.contains(&server), "{url} does not lead to {server}");
        url.replace(&server, &own)
    }

    /// Changes how the wire is.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.shared.broken.send_modify(|(resets, _)| *resets += 1);
    }

    /// Forgets every connection, as a host that is gone does: neither side hears of it.
    pub fn forget(&self) {
        self.shared.broken.send_modify(|(_, lost)| *lost += 1);
    }

    /// Lays a trap for the message after the first `skip` of its kind.
    pub fn trap(&self, way: Way, skip: usize, deed: Deed, looks: Looks) -> Trap {
        let (caught, released) = (watch::Sender::default(), watch::Sender::default());
        let (left, message) = (AtomicUsize::new(skip), Mutex::default());
        let armed = Arc::new(Armed { way, looks, left, deed, message, caught, released });
        self.shared.traps.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&armed));
        Trap { armed }
    }

    /// Connections that were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Messages that had to wait, came late, or went nowhere.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.shared.held_back.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
        self.reset();
    }
}

impl Trap {
    /// Waits until its message came by.
    ///
    /// # Panics
    /// When it does not come within a minute.
    pub async fn caught(&self) {
        let mut caught = self.armed.caught.subscribe();
        let came = tokio::time::timeout(PATIENCE, caught.wait_for(|caught| *caught)).await;
        assert!(came.is_ok(), "waited {PATIENCE:?} in vain for the message of a trap");
    }

    /// Whether its message came by.
    #[must_use]
    pub fn has_caught(&self) -> bool {
        *self.armed.caught.borrow()
    }

    /// What it caught, as it was.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        self.armed.message.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets through what waits.
    pub fn release(&self) {
        self.armed.released.send_replace(true);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.release();
    }
}

impl Armed {
    /// Whether this is the message; says so where it is.
    fn catches(&self, way: Way, message: &[u8]) -> bool {
        if self.way != way || *self.caught.borrow() || *self.released.borrow() || !(self.looks)(message) {
            return false;
        }
        let none_left = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, none_left).is_err()
    }

    async fn is_released(&self) {
        let mut released = self.released.subscribe();
        let _dropped = released.wait_for(|released| *released).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((process, _)) = listener.accept().await {
        if *shared.weather.borrow() == Weather::Refusing {
            let _refused = process.set_zero_linger();
            continue;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)).await else {
            let _refused = process.set_zero_linger();
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let _nodelay = (process.set_nodelay(true), server.set_nodelay(true));
        let (answers, reset) = (watch::Sender::default(), watch::Sender::default());
        let wire = Arc::new(Wire { shared: Arc::clone(&shared), answers, reset });
        let ((from_process, to_process), (from_server, to_server)) = (process.into_split(), server.into_split());
        tokio::spawn(Arc::clone(&wire).run(Way::There, from_process, to_server));
        tokio::spawn(wire.run(Way::Back, from_server, to_process));
    }
}

impl Wire {
    async fn run(self: Arc<Self>, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut broken, mut reset) = (self.shared.broken.subscribe(), self.reset.subscribe());
        let at_first = *broken.borrow_and_update();
        let mut weather = self.shared.weather.subscribe();
        let end = tokio::select! {
            end = self.pump(way, &mut from, &mut to) => end,
            _ = weather.wait_for(|weather| *weather == Weather::Refusing) => End::Reset,
            _ = reset.wait_for(|reset| *reset) => End::Reset,
            now = broken.wait_for(|now| *now != at_first) => match now {
                Ok(now) if now.1 > at_first.1 => End::Forgotten,
                _ => End::Reset,
            },
        };
        match end {
            End::Closed => drop(to.shutdown().await),
            End::Reset => {
                self.reset.send_replace(true);
                let _gone = (from.as_ref().set_zero_linger(), to.as_ref().set_zero_linger());
            }
            // Until the tests end: nobody on either side hears anything.
            End::Forgotten => {
                self.shared.held_back.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
        }
    }

    async fn pump(&self, way: Way, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> End {
        let mut buffer = vec![0; BUFFER];
        loop {
            let message = match from.read(&mut buffer).await {
                Ok(0) => return End::Closed,
                Ok(length) => &mut buffer[..length],
                Err(_) => return End::Reset,
            };
            self.trapped(way, message).await;
            if way == Way::Back {
                self.wait_for_the_trap().await;
            }
            if self.through_the_weather(way, message, to).await.is_err() {
                return End::Reset;
            }
        }
    }

    /// Does what a trap wants of a message.
    async fn trapped(&self, way: Way, message: &mut [u8]) {
        let traps = self.shared.traps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(trap) = traps.iter().find(|trap| trap.catches(way, message)) else { return };
        *trap.message.lock().unwrap_or_else(PoisonError::into_inner) = message.to_vec();
        match trap.deed {
            Deed::HoldAnswer => drop(self.answers.send_replace(Some(Arc::clone(trap)))),
            Deed::Change(change) => change(message),
            Deed::Hold | Deed::Pass => {}
        }
        trap.caught.send_replace(true);
        if matches!(trap.deed, Deed::Hold) {
            trap.is_released().await;
        }
    }

    async fn wait_for_the_trap(&self) {
        let waits_for = self.answers.borrow().clone();
        if let Some(trap) = waits_for {
            trap.is_released().await;
        }
    }

    async fn through_the_weather(&self, way: Way, message: &[u8], to: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let deaf = |weather: &Weather| matches!(*weather, Weather::Deaf { there, back } if if way == Way::There { there } else { back });
        let mut weather = self.shared.weather.subscribe();
        if deaf(&weather.borrow_and_update()) {
            self.shared.held_back.fetch_add(1, Ordering::Relaxed);
            let _dropped = weather.wait_for(|weather| !deaf(weather)).await;
        }
        let now = *self.shared.weather.borrow();
        let Weather::Slow { latency, piece } = now else { return to.write_all(message).await };
        for (number, piece) in message.chunks(piece).enumerate() {
            self.shared.held_back.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(latency * if number % 2 == 0 { 1 } else { 2 }).await;
            to.write_all(piece).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Trap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trap").field("caught", &self.has_caught()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hold => "Hold",
            Self::HoldAnswer => "HoldAnswer",
            Self::Change(_) => "Change",
            Self::Pass => "Pass",
        })
    }
}

/// A message with all of these in it.
#[must_use]
pub fn with(all: &'static [&'static str]) -> Looks {
    Box::new(move |message| all.iter().all(|one| memchr::memmem::find(message, one.as_bytes()).is_some()))
}

/// The place of an AMQP 0-9-1 method in a message: a method frame is 1, two bytes of channel, four of length, two of
/// class, two of method (section 2.3.5 of the specification).
#[must_use]
pub fn amqp_method(message: &[u8], class: u16, method: u16) -> Option<usize> {
    let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
    memchr::memmem::find_iter(message, &wanted).find(|&at| at >= 7 && message[at - 7] == 1)
}

/// A message with this AMQP method in it.
#[must_use]
pub fn amqp(class: u16, method: u16) -> Looks {
    Box::new(move |message| amqp_method(message, class, method).is_some())
}

/// `basic.publish`: class and method, as the others here.
pub const PUBLISH: (u16, u16) = (60, 40);
/// `basic.return`
pub const RETURN: (u16, u16) = (60, 50);
/// `basic.deliver`
pub const DELIVER: (u16, u16) = (60, 60);
/// `channel.close`
pub const CLOSE: (u16, u16) = (20, 40);
/// `basic.ack`, in both directions: of a delivery, and of a publish.
pub const ACK: (u16, u16) = (60, 80);
