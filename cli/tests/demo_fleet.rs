//! The fleet's demo, with the RabbitMQ and Redis of this machine.

use std::process::Command;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it prints UTF-8")
}

/// The last two columns of the demo's table for one kind of encryption: how many before, how many after.
fn before_and_after(printed: &str, encryption: &str) -> (u64, u64) {
    let line =
        printed.lines().find(|line| line.split_whitespace().next().is_some_and(|first| first.ends_with(encryption)));
    let line = line.unwrap_or_else(|| panic!("no line of `{encryption}` in\n{printed}"));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

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
