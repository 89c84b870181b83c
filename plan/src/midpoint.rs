//! A text about half way between two texts, counted in the characters that keys use at each place.

use std::collections::BTreeSet;

use keyrotate_proto::position::is_askable;

/// Fewer keys than these with the same beginning do not tell what characters come after it.
const ENOUGH_PEERS: usize = 4;

/// Numbers stay below this, so that sums of two fit.
const LIMIT: u128 = 1 << 120;

/// Keys are at most so long on every store.
const LONGEST: usize = 1100;

/// What may stand at one place: the end of the key first, then characters in order.
type Alphabet = Vec<Option<char>>;

/// A text strictly between `low` and `up` (`None`: no bound) in the order of bytes, about half way in the alphabets
/// that `keys` (sorted) use; `None` where these leave no room.
pub(super) fn midpoint(low: &str, up: Option<&str>, keys: &[&str]) -> Option<String> {
    let view = View::of(low, up, keys);
    let (from, to) = (view.number(low), view.end(up));
    let middle = from + to.checked_sub(from)? / 2;
    if middle == from {
        return None;
    }
    let text = text(middle, &view.alphabets);
    let between = |text: &str| text > low && up.is_none_or(|up| text < up);
    shortened(&view.beginning, &text, between).and_then(|text| askable(text, between))
}

/// The text, or one near it, that every store begins a listing behind. `None` where there is none near; the question is
/// then another.
fn askable(text: String, between: impl Fn(&str) -> bool) -> Option<String> {
    if is_askable(&text) {
        return Some(text);
    }
    let first_bad = text.char_indices().map(|(i, c)| &text[..i + c.len_utf8()]).find(|head| !is_askable(head))?;
    let tries = [format!("{first_bad}m"), format!("{}m", first_bad.trim_end_matches(['/', '.']))];
    tries.into_iter().find(|text| is_askable(text) && between(text))
}

/// When nothing lies between `asked` and `found`: which share of what can lie between `low` and `up` lies below.
pub(super) fn share_below(low: &str, up: Option<&str>, asked: &str, found: &str, keys: &[&str]) -> f64 {
    let view = View::of(low, up, keys);
    let to = view.end(up);
    #[expect(clippy::cast_precision_loss, reason = "a guess")]
    let width = |from: u128, to: u128| to.saturating_sub(from) as f64;
    let (below, above) = (width(view.number(low), view.number(asked)), width(view.number(found), to));
    if below + above > 0.0 { below / (below + above) } else { 0.5 }
}

/// How two texts are counted: the characters that both begin with, then the alphabet of each place.
pub(super) struct View {
    beginning: Vec<char>,
    alphabets: Vec<Alphabet>,
}

impl View {
    pub(super) fn of(low: &str, up: Option<&str>, keys: &[&str]) -> Self {
        let low: Vec<char> = low.chars().collect();
        let up: Option<Vec<char>> = up.map(|up| up.chars().collect());
        let common = up.as_ref().map_or(0, |up| low.iter().zip(up).take_while(|(a, b)| a == b).count());
        let alphabets = alphabets(&low, up.as_deref(), common, keys);
        Self { beginning: low[..common].to_vec(), alphabets }
    }

    /// The number of `up`; without one, behind all others.
    pub(super) fn end(&self, up: Option<&str>) -> u128 {
        up.map_or_else(|| self.size(), |up| self.number(up))
    }

    /// The text of a number, where it lies between `low` and `up` and every store begins a listing behind it.
    pub(super) fn text_inside(&self, number: u128, low: &str, up: Option<&str>) -> Option<String> {
        let between = |text: &str| text > low && up.is_none_or(|up| text < up);
        let text: String = self.beginning.iter().chain(&text(number, &self.alphabets)).collect();
        if between(&text) { askable(text, between) } else { None }
    }

    fn size(&self) -> u128 {
        self.alphabets.iter().map(|alphabet| alphabet.len() as u128).product()
    }

    /// A text that begins with `beginning`, as a number.
    pub(super) fn number(&self, text: &str) -> u128 {
        let chars: Vec<char> = text.chars().skip(self.beginning.len()).collect();
        number(&chars, &self.alphabets)
    }
}

/// The alphabet of each place from `common` on, as many places as fit a number below [`LIMIT`].
fn alphabets(low: &[char], up: Option<&[char]>, common: usize, keys: &[&str]) -> Vec<Alphabet> {
    let beginning: String = low[..common].iter().collect();
    let first = keys.partition_point(|key| *key < beginning.as_str());
    let after = first + keys[first..].partition_point(|key| key.starts_with(&beginning));
    let peers = if after - first >= ENOUGH_PEERS { &keys[first..after] } else { keys };
    let peers: Vec<Vec<char>> = peers.iter().map(|key| key.chars().take(LONGEST).collect()).collect();
    let mut alphabets = Vec::new();
    let mut size: u128 = 1;
    for place in common..LONGEST {
        let at = |text: &[char]| (place <= text.len()).then(|| text.get(place).copied());
        let mut seen: BTreeSet<Option<char>> = peers.iter().filter_map(|peer| at(peer)).collect();
        widen(&mut seen);
        seen.extend(at(low).into_iter().chain(up.and_then(at)));
        if seen.is_empty() || size >= LIMIT / seen.len() as u128 {
            break;
        }
        size *= seen.len() as u128;
        alphabets.push(seen.into_iter().collect());
    }
    alphabets
}

/// Adds what probably stands at a place too: all digits where there is one, the rest of hex or of the letters where
/// there are several; and one character behind all, so that what lies behind is found.
fn widen(seen: &mut BTreeSet<Option<char>>) {
    let chars: Vec<char> = seen.iter().flatten().copied().collect();
    let count = |class: fn(&char) -> bool| chars.iter().filter(|c| class(c)).count();
    let digits = count(char::is_ascii_digit);
    let mut add = |range: std::ops::RangeInclusive<char>| seen.extend(range.map(Some));
    if digits > 0 {
        add('0'..='9');
    }
    for (first, last_hex, last) in [('a', 'f', 'z'), ('A', 'F', 'Z')] {
        let letters = chars.iter().filter(|c| (first..=last).contains(*c)).count();
        let beyond_hex = chars.iter().any(|c| *c > last_hex && *c <= last);
        if letters > 0 && digits > 0 && !beyond_hex {
            add(first..=last_hex);
        } else if letters >= 4 {
            add(first..=last);
        }
    }
    if seen.len() > 1 {
        widen_behind(seen);
    }
}

/// Behind all that was seen: the next character. In a script other than ASCII also what lies between those seen, and
/// a few characters further and further away, as nothing tells how far it goes.
fn widen_behind(seen: &mut BTreeSet<Option<char>>) {
    let Some(last) = seen.last().copied().flatten() else { return };
    let further = |by: u32| u32::from(last).checked_add(by).and_then(char::from_u32).map(Some);
    seen.extend(further(1));
    if last.is_ascii() {
        return;
    }
    seen.extend((1..10).filter_map(|step| further(1 << (2 * step))));
    let script: Vec<char> = seen.iter().flatten().copied().filter(|c| !c.is_ascii() && *c <= last).collect();
    if script.len() >= ENOUGH_PEERS && u32::from(last) - u32::from(script[0]) < 1024 {
        seen.extend((script[0]..=last).map(Some));
    }
}

/// A text as a number whose digits are its characters' places in the alphabets.
fn number(text: &[char], alphabets: &[Alphabet]) -> u128 {
    let mut number = 0;
    for (place, alphabet) in alphabets.iter().enumerate() {
        let symbol = text.get(place).copied();
        // Behind its end a text has the lowest digit everywhere.
        let digit = if place > text.len() { 0 } else { alphabet.partition_point(|s| *s < symbol) };
        number = number * alphabet.len() as u128 + digit as u128;
    }
    number
}

/// The characters of a number; where a text would end before its number does, the next character stands instead.
fn text(number: u128, alphabets: &[Alphabet]) -> Vec<char> {
    let mut sizes = vec![1u128; alphabets.len() + 1];
    for (i, alphabet) in alphabets.iter().enumerate().rev() {
        sizes[i] = sizes[i + 1] * alphabet.len() as u128;
    }
    let mut rest = number;
    let mut text = Vec::new();
    for (alphabet, size) in alphabets.iter().zip(&sizes[1..]) {
        let digit = usize::try_from(rest / size).unwrap_or(0);
        rest %= size;
        match alphabet.get(digit).copied().flatten().or_else(|| alphabet.get(1).copied().flatten()) {
            Some(c) if rest > 0 || digit > 0 || alphabet[digit].is_some() => text.push(c),
            _ => break,
        }
    }
    text
}

/// The shortest beginning of `text` that fits, and two characters more where that fits too: cuts look round.
fn shortened(beginning: &[char], text: &[char], fits: impl Fn(&str) -> bool) -> Option<String> {
    let cut = |n: usize| beginning.iter().chain(&text[..n.min(text.len())]).collect::<String>();
    let shortest = (1..=text.len()).find(|n| fits(&cut(*n)))?;
    Some(cut(shortest + 2)).filter(|text| fits(text)).or_else(|| Some(cut(shortest)))
}
