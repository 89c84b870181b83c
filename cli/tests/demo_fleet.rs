//! The fleet's demo, with the RabbitMQ and Redis of this machine.

mod printed;

use std::process::Command;

use printed::{before_and_after, text};

/// A coordinator and three workers as processes, with a real RabbitMQ and Redis; one worker is killed on the way.
#[test]
fn demo_by_a_fleet() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyrotate"));
    let path = std::env::var("PATH").expect("a PATH, to find the servers");
    let ended = command.args(["demo", "--fleet", "--objects", "600"]).env_clear().env("PATH", path).output();
    let ended = ended.expect("keyrotate can be started");
    let (printed, said) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0), "{printed}{said}");
    assert!(printed.contains("was just killed with SIGKILL"), "{printed}{said}");
    assert_eq!(before_and_after(&printed, "key-a").1, 0, "{printed}{said}");
    assert_eq!(before_and_after(&printed, "key-b").1, 597, "{printed}{said}");
}
