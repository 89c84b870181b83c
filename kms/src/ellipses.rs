//! MinIO's ranges in lists of endpoints: `https://kes{1...3}:7373`. Read as MinIO's `pkg/ellipses` reads them.

/// More than anybody has; a `{1...999999999}` is a slip of the hand.
pub(crate) const MOST: usize = 256;

/// All texts that a text with ranges stands for. The first range runs fastest.
pub(crate) fn expand(text: &str) -> Result<Vec<String>, String> {
    let wrong =
        || format!("`{text}`: a range looks like {{1...3}} or {{a...f}} (hexadecimal), the smaller number first");
    let mut all = vec![String::new()];
    let mut rest = text;
    while let Some((before, range, after)) = next_range(rest) {
        if before.contains(['{', '}']) {
            return Err(wrong());
        }
        let labels = labels(range).ok_or_else(wrong)?;
        if labels.len() * all.len() > MOST {
            return Err(wrong());
        }
        let with = |label: &String| all.iter().map(|start| format!("{start}{before}{label}")).collect::<Vec<_>>();
        all = labels.iter().flat_map(with).collect();
        rest = after;
    }
    // A brace that is left is a slip, and so are three dots where there is no range at all.
    let is_typo = rest.contains(['{', '}']) || (rest.len() == text.len() && text.contains("..."));
    if is_typo {
        return Err(wrong());
    }
    Ok(all.into_iter().map(|start| start + rest).collect())
}

/// What lies before the first `{FROM...TO}`, the two ends, and what lies behind it.
fn next_range(text: &str) -> Option<(&str, (&str, &str), &str)> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    text.match_indices('{').find_map(|(open, _)| {
        let (inside, after) = text[open + 1..].split_once('}')?;
        let (from, to) = inside.split_once("...")?;
        (digits(from) && digits(to)).then_some((&text[..open], (from, to), after))
    })
}

/// The numbers of a range, as it writes them: hexadecimal where one of its ends is no decimal number, padded to the width
/// of its *last* number where one of them begins with a zero.
fn labels((from, to): (&str, &str)) -> Option<Vec<String>> {
    // Each end for itself: in `10...1f` the first is ten.
    let number = |text: &str| match text.parse::<u64>() {
        Ok(number) => Some((number, false)),
        Err(_) => u64::from_str_radix(text, 16).ok().map(|number| (number, true)),
    };
    let ((first, hex_first), (last, hex_last)) = (number(from)?, number(to)?);
    if first > last || last - first >= MOST as u64 {
        return None;
    }
    let pads = (from.starts_with('0') && from.len() > 1) || to.starts_with('0');
    let width = if pads { to.len() } else { 0 };
    let hex = hex_first || hex_last;
    let label = |n: u64| if hex { format!("{n:0width$x}") } else { format!("{n:0width$}") };
    Some((first..=last).map(label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last text of the vectors in MinIO's own tests, and how many there are.
    #[test]
    fn ranges_are_those_of_minios_own_tests() {
        for (text, first, last, count) in [
            ("{1...64}", "1", "64", 64),
            ("{01...036}", "001", "036", 36),
            ("{001...036}", "001", "036", 36),
            ("{1...a}", "1", "a", 10),
            ("{01...1a}", "01", "1a", 26),
            ("{0f...10e}", "00f", "10e", 256),
            ("{0...9}", "0", "9", 10),
            ("{8...11}", "8", "11", 4),
            ("{08...11}", "08", "11", 4),
            ("{01...100}", "001", "100", 100),
            ("{a...f}", "a", "f", 6),
            ("{10...1f}", "a", "1f", 22),
        ] {
            let expanded = expand(text).unwrap();
            let ends = (expanded[0].as_str(), expanded[expanded.len() - 1].as_str());
            assert_eq!((ends, expanded.len()), ((first, last), count), "{text}");
        }
        let bad = [
            "{1..64}",
            "{1...",
            "...64}",
            "{...}",
            "{-1...1}",
            "{0...-1}",
            "{1...2O}",
            "{64...1}",
            "{1....4}",
            "{4...02}",
            "{f...z}",
            "{{1...4}}",
            "mydisk-{a...z}{1...20}",
            "mydisk-{1...4}{1..2.}",
            "{1..2.}-mydisk-{1...4}",
            "{0...99999999999999999999}",
            "{0...255}{0...255}",
            "{}",
            "a...b",
            "{1...2}}",
        ];
        for bad in bad {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_range_runs_fastest() {
        assert_eq!(expand("a{1...2}-{09...10}.net").unwrap(), ["a1-09.net", "a2-09.net", "a1-10.net", "a2-10.net"]);
        assert_eq!(expand("https://kes:7373").unwrap(), ["https://kes:7373"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[{}.0-9a-g]{0,20}") {
            let _ = expand(&text);
        }
    }
}
