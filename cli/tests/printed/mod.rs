//! What the executable printed, for the tests that run it.

/// What a process wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it prints UTF-8")
}

/// The last two columns of the demo's table for one kind of encryption: how many before, how many after.
pub(crate) fn before_and_after(printed: &str, encryption: &str) -> (u64, u64) {
    let line =
        printed.lines().find(|line| line.split_whitespace().next().is_some_and(|first| first.ends_with(encryption)));
    let line = line.unwrap_or_else(|| panic!("no line of `{encryption}` in\n{printed}"));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}
