//! Long lines of talk, cut between words.

/// In lines of at most so many letters, those after the first indented. What stands between backticks is to be copied, and
/// stays in one line.
pub(crate) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let (mut out, mut column) = (String::new(), indent);
    for piece in pieces(text) {
        let length = piece.chars().count();
        if !out.is_empty() && column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if !out.is_empty() {
            out.push(' ');
            column += 1;
        }
        out.push_str(&piece);
        column += length;
    }
    out
}

/// Words, and what stands between backticks as one.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut quoted = false;
    for word in text.split(' ') {
        match pieces.last_mut().filter(|_| quoted) {
            Some(piece) => piece.extend([" ", word]),
            None => pieces.push(word.to_owned()),
        }
        quoted ^= word.matches('`').count() % 2 == 1;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_commands_in_one_line() {
        assert_eq!(wrapped("a bb ccc dddd", 2, 8), "a bb\n  ccc\n  dddd");
        assert_eq!(wrapped("see `aws s3 ls --all` then", 0, 10), "see\n`aws s3 ls --all`\nthen");
    }
}
