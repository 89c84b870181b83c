//! Text -> a small tree in which every node knows its line and column.
//!
//! What YAML can say and a job file has no use for is refused here in plain words: aliases and anchors (and with
//! them alias bombs), tags, several documents, names that are no text, deep nesting. The tree is built without
//! recursion and never deeper than [`MAX_DEPTH`].

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::findings::{At, Findings, child, item};

/// A job file is at most this long.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Real job files are six levels deep.
const MAX_DEPTH: usize = 32;
/// What YAML gives a meaning to at the beginning of a value.
const SIGNS: &str = "|>@`%&*!";
const QUOTES_HINT: &str = "put it in double quotes";
const ALIAS_HINT: &str = "write the value out; a pattern that begins with `*` needs quotes";
const TOO_DEEP: &str = "the file is nested too deeply";
const DEPTH_HINT: &str = "six levels are all there is";

/// A value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// A single value, as written; `plain` when it has no quotes.
    Scalar { text: String, plain: bool },
    /// Items.
    List(Vec<Node>),
    /// Fields.
    Map(Vec<Field>),
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) node: Node,
}

/// The bytes as text that both readers see alike; `None` when that can't be, with the reason noted.
pub(super) fn text<'a>(bytes: &'a [u8], findings: &mut Findings) -> Option<&'a str> {
    let mut refuse = |line, message: String, hint: &str| {
        findings.error(At { line, column: 1 }, "", message, Some(hint.to_owned()));
        None
    };
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", bytes.len());
        return refuse(1, message, "is this the right file?");
    }
    if bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
        return refuse(1, "the file is UTF-16".into(), "save it as UTF-8");
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            return refuse(line, "the file is not UTF-8 here".into(), "save it as UTF-8");
        }
    };
    if let Some((index, c)) = text.char_indices().find(|(_, c)| is_unreadable(*c)) {
        let line = 1 + text[..index].matches('\n').count();
        let message = format!("the character U+{:04X} stands here", u32::from(c));
        return refuse(line, message, "remove it; inside double quotes it may be written as an escape");
    }
    if let Some(line) = directive_line(text) {
        return refuse(line, "YAML directives (lines with `%`) are not taken".into(), "remove the line");
    }
    Some(text)
}

/// Control characters, and those which YAML 1.1 and 1.2 read differently (line ends NEL, LS, PS; a BOM inside).
fn is_unreadable(c: char) -> bool {
    let control = c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    control || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn directive_line(text: &str) -> Option<usize> {
    let mut lines = text.lines().enumerate();
    let first = lines.find(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    first.filter(|(_, line)| line.starts_with('%')).map(|(n, _)| n + 1)
}

/// The tree of the only document in `text`; `None` when there is none, with the reason noted.
pub(super) fn read(text: &str, findings: &mut Findings) -> Option<Node> {
    let mut builder = Builder { findings, open: Vec::new(), root: None };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let go_on = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => builder.syntax(&error, text),
        };
        if !go_on {
            return None;
        }
    }
    let root = builder.root;
    if root.as_ref().is_none_or(|node| node.kind == Kind::Null) {
        let hint = format!("{} to start from", findings.example);
        findings.error(At::START, "", "the file is empty".into(), Some(hint));
        return None;
    }
    root
}

/// A list or map whose end was not read yet.
struct Open {
    node: Node,
    path: String,
    /// In a map: the name whose value comes next.
    name: Option<(String, At)>,
}

struct Builder<'a> {
    findings: &'a mut Findings,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_> {
    /// Takes one event; `false` when nothing sensible can follow.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let at = At { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let hint = "MinIO would read the first and ignore the others: give each its own file";
                self.refuse(at, "the file holds more than one document (after `---`)", hint)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                true
            }
            Event::Alias(_) => {
                self.note(at, "aliases (`*name`) are not taken", ALIAS_HINT);
                self.scalar(at, Kind::Null, "*")
            }
            Event::Scalar(value, style, anchor, tag) => {
                self.plain_yaml(at, anchor, tag.is_some());
                let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if block && value.lines().any(|line| line.starts_with('\t')) {
                    // The two readers do not agree whether that is text or a mistake.
                    self.note(at, "a line of this text begins with a tab", "use double quotes, and `\\t` for the tab");
                }
                let plain = style == ScalarStyle::Plain;
                if let Some(sign) = value.chars().next().filter(|c| plain && SIGNS.contains(*c)) {
                    self.note(at, &needs_quotes(sign), QUOTES_HINT);
                }
                let kind = if plain && matches!(&*value, "" | "~" | "null" | "Null" | "NULL") {
                    Kind::Null
                } else {
                    Kind::Scalar { text: value.clone().into_owned(), plain }
                };
                self.scalar(at, kind, &value)
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, anchor, tag.is_some(), Kind::List(Vec::new())),
            Event::MappingStart(anchor, tag) => self.begin(at, anchor, tag.is_some(), Kind::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.put(open.node);
                }
                true
            }
        }
    }

    fn plain_yaml(&mut self, at: At, anchor: usize, tagged: bool) {
        if anchor > 0 {
            self.note(at, "anchors (`&name`) are not taken", "remove it, and write the value out where it is used");
        }
        if tagged {
            self.note(at, "YAML tags (`!name`, `!!str`) are not taken", "remove it; quote the value to make it text");
        }
    }

    fn scalar(&mut self, at: At, kind: Kind, text: &str) -> bool {
        if let Some(open) = self.open.last_mut()
            && matches!(open.node.kind, Kind::Map(_))
            && open.name.is_none()
        {
            open.name = Some((text.to_owned(), at));
            if kind == Kind::Null {
                return self.refuse(at, "a field without a name stands here", "write `name: value`");
            }
            return true;
        }
        self.put(Node { at, kind });
        true
    }

    fn begin(&mut self, at: At, anchor: usize, tagged: bool, kind: Kind) -> bool {
        self.plain_yaml(at, anchor, tagged);
        if self.open.last().is_some_and(|open| matches!(open.node.kind, Kind::Map(_)) && open.name.is_none()) {
            return self.refuse(
                at,
                "a list or map stands where a field's name is expected",
                "is it a template's `{{ }}`?",
            );
        }
        if self.open.len() >= MAX_DEPTH {
            return self.refuse(at, TOO_DEEP, DEPTH_HINT);
        }
        let path = self.path();
        self.open.push(Open { node: Node { at, kind }, path, name: None });
        true
    }

    /// Adds a finished value to what is open, or makes it the root.
    fn put(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(fields) => {
                let Some((name, at)) = open.name.take() else { return };
                if let Some(first) = fields.iter().find(|field| field.name == name) {
                    let message = format!("`{}` is given twice, first in line {}", clip(&name), first.at.line);
                    let path = child(&open.path, &name);
                    self.findings.error(at, &path, message, Some("keep one of them".into()));
                } else {
                    fields.push(Field { name, at, node });
                }
            }
            Kind::Null | Kind::Scalar { .. } => {}
        }
    }

    /// Path of the value that comes next.
    fn path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(Open { path, name: Some((name, _)), .. }) => child(path, name),
            Some(Open { path, node: Node { kind: Kind::List(items), .. }, .. }) => item(path, items.len()),
            Some(Open { path, .. }) => path.clone(),
        }
    }

    fn note(&mut self, at: At, message: &str, hint: &str) {
        let path = self.path();
        self.findings.error(at, &path, message.to_owned(), Some(hint.to_owned()));
    }

    fn refuse(&mut self, at: At, message: &str, hint: &str) -> bool {
        self.note(at, message, hint);
        false
    }

    fn syntax(&mut self, error: &ScanError, text: &str) -> bool {
        let marker = error.marker();
        let at = At { line: marker.line().max(1), column: marker.col() + 1 };
        if error.info().contains("anchor") || error.info().contains("alias") {
            return self.refuse(at, "aliases (`*name`) are not taken", ALIAS_HINT);
        }
        if error.info().contains("recursion limit") {
            return self.refuse(at, TOO_DEEP, DEPTH_HINT);
        }
        match sign_before(text, at) {
            Some('&' | '*') => return self.refuse(at, "aliases (`*name`) are not taken", ALIAS_HINT),
            Some(sign) => return self.refuse(at, &needs_quotes(sign), QUOTES_HINT),
            None => {}
        }
        let path = self.path();
        self.findings.error(at, &path, format!("this is not YAML: {}", error.info()), syntax_hint(text, at.line));
        false
    }
}

fn needs_quotes(sign: char) -> String {
    format!("a value that begins with `{sign}` needs quotes")
}

/// The sign that begins the word in which reading came to its end.
fn sign_before(text: &str, at: At) -> Option<char> {
    let line = text.lines().nth(at.line - 1)?;
    let end = line.char_indices().nth(at.column - 1).map_or(line.len(), |(end, _)| end);
    let word = line[..end].rsplit([' ', '\t', '[', '{', ',']).next()?;
    word.chars().next().filter(|c| SIGNS.contains(*c))
}

/// What usually makes a line unreadable.
pub(super) fn syntax_hint(text: &str, line: usize) -> Option<String> {
    let near = text.lines().skip(line.saturating_sub(2)).take(2);
    let tab = near.into_iter().any(|l| l[..l.len() - l.trim_start().len()].contains('\t'));
    let hint = if tab {
        "a tab stands at the beginning of the line: indent with spaces"
    } else {
        "look at quotes, colons and indentation of this line and the one before"
    };
    Some(hint.to_owned())
}

/// Foreign text for a message: short, and without control characters.
pub(super) fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short.replace("\\'", "'").replace("\\\"", "\"")
}
