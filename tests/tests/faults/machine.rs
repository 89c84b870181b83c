//! What only root can do to a machine, undone with its handle: disks that lose their power or their room, and links that
//! break.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::NamedTempFile;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: from now on nothing reaches the image, not even the journal.
const CUT: &str = r#"my $flags = pack("L", 2); open(my $folder, "<", $ARGV[0]) or die $!; ioctl($folder, 0x8004587d, $flags) or die $!"#;

/// A disk of its own, in an image, mounted over a folder.
pub(crate) struct Disk {
    folder: PathBuf,
    image: NamedTempFile,
}

impl Disk {
    /// Mounts an empty one over what is in a folder.
    pub(crate) fn over(folder: &Path, megabytes: u64) -> Self {
        let image = tempfile::Builder::new().prefix("keyrotate-disk-").tempfile();
        let image = image.expect("there is room for a temporary file");
        image.as_file().set_len(megabytes << 20).expect("there is room for a temporary file");
        let disk = Self { folder: folder.to_owned(), image };
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &shown(disk.image.path())]);
        disk.mount();
        disk
    }

    /// Cuts its power: what was not synced is gone, and everything fails until it is [back](Self::power_back).
    pub(crate) fn power_cut(&self) {
        run("perl", &["-e", CUT, &shown(&self.folder)]);
    }

    /// Whoever had files on it must have ended.
    pub(crate) fn power_back(&self) {
        run("umount", &[&shown(&self.folder)]);
        self.mount();
    }

    /// Fills it, but for so many bytes.
    pub(crate) fn fill(&self, but: u64) {
        let mut filler = File::create(self.filler()).expect("the disk can be written");
        let mut written = 0;
        while let Ok(count) = filler.write(&[0; 4096]) {
            written += count as u64;
        }
        filler.set_len(written.saturating_sub(but)).expect("a file can be cut");
    }

    /// Makes room again.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).expect("a filler can be removed");
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    fn mount(&self) {
        run("mount", &["-o", "loop", &shown(self.image.path()), &shown(&self.folder)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still runs there keeps it until he ends; the loop device goes with it.
        let _not_mounted = Command::new("umount").args(["--lazy", "--quiet"]).arg(&self.folder).status();
    }
}

/// A namespace `$1` with one end of a link, `$3`; the other end, `$2`, is here. Loopback addresses lead over it: there is no
/// loopback device there, and both ends let them through.
const LAY: &str = r"
    set -e
    ip netns add $1
    ip link add $2 type veth peer name $3 netns $1
    echo 1 >/proc/sys/net/ipv4/conf/$2/route_localnet
    ip address add $4/30 dev $2
    ip link set $2 up
    nsenter --net=/run/netns/$1 sh -c 'echo 1 >/proc/sys/net/ipv4/conf/$0/route_localnet' $3
    ip -n $1 address add $5/30 dev $3
    ip -n $1 link set $3 up
    ip -n $1 route add 127.0.0.0/8 dev $3 via $4 src $5";

/// The network of one process: a link to this machine, at whose end all loopback addresses are this machine's.
pub(crate) struct Link {
    namespace: String,
    /// As `nsenter` wants it.
    entry: String,
    end: String,
}

impl Link {
    /// Lays one.
    pub(crate) fn lay() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() % 0x1_0000 * 64 + NUMBER.fetch_add(1, Ordering::Relaxed) % 64;
        let namespace = format!("keyrotate-{number}");
        let entry = format!("--net=/run/netns/{namespace}");
        let link = Self { namespace, entry, end: format!("kr{number}") };
        let far = format!("{}far", link.end);
        // Of the network for benchmarks, 198.18.0.0/15, four addresses for each.
        let address = |host: u32| Ipv4Addr::from(0xc612_0000 + number % 0x8000 * 4 + host).to_string();
        run("sh", &["-c", LAY, "sh", &link.namespace, &link.end, &far, &address(1), &address(2)]);
        link
    }

    /// What starts a program at its end.
    pub(crate) fn by(&self) -> [&str; 2] {
        ["nsenter", &self.entry]
    }

    /// Takes it down: nothing comes through, and nobody says so.
    pub(crate) fn down(&self) {
        run("ip", &["link", "set", &self.end, "down"]);
    }

    /// Takes it up again.
    pub(crate) fn up(&self) {
        run("ip", &["link", "set", &self.end, "up"]);
    }

    /// Lets so many kbit/s through to its end.
    pub(crate) fn slow(&self, kilobits: u32) {
        let rate = format!("{kilobits}kbit");
        run(
            "tc",
            &["qdisc", "add", "dev", &self.end, "root", "tbf", "rate", &rate, "burst", "4kb", "latency", "400ms"],
        );
    }

    /// Packets that had to wait because of that.
    pub(crate) fn waited(&self) -> u64 {
        let said = run("tc", &["-s", "qdisc", "show", "dev", &self.end]);
        let count = said.split_once("overlimits ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("tc counts nothing: {said}"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Its other end goes with it.
        let _gone = Command::new("ip").args(["link", "delete", &self.end]).status();
        let _gone = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("`{program}` can't be run: {e}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
