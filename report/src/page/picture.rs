//! Pictures of a report, as SVG that takes its colours from the page's style. Behind each stands a table with the same
//! numbers, for those who can't see it.

use std::collections::BTreeMap;

use super::html::escape;
use super::{grouped, shown};
use crate::finish::{KeyFlow, Timeline};

/// Width of every picture, in units of its own: small, so that its words can be read on a phone.
const WIDTH: f64 = 360.0;
/// Encryptions on one side of a picture; the others are drawn as one.
const NODES: usize = 6;

/// One bar, cut by outcome.
pub(super) fn outcomes(sums: &[(&str, u64)], all: u64) -> String {
    let svg = begin("Outcomes", "How many versions ended how; the table below has the numbers.", 28.0);
    // It has no words that would be stretched, and is as wide as the page.
    let mut svg = svg.replacen("<svg", "<svg preserveAspectRatio=\"none\"", 1);
    let wide = WIDTH - 2.0 * sums.len().saturating_sub(1) as f64;
    let mut x = 0.0;
    for (word, n) in sums {
        let width = (share(*n, all) * wide).max(2.0);
        svg.push_str(&format!(
            "<rect class=\"{word}\" x=\"{x:.1}\" y=\"2\" width=\"{width:.1}\" height=\"24\" rx=\"3\"><title>{word}: {}</title></rect>",
            grouped(*n)
        ));
        x += width + 2.0;
    }
    svg.push_str("</svg>");
    svg
}

/// A column per step.
pub(super) fn over_time(line: &Timeline, from: &str, to: &str) -> String {
    const TOP: f64 = 18.0;
    const TALL: f64 = 96.0;
    let highest = line.steps.iter().map(|step| step.scanned).max().unwrap_or(0).max(1);
    let what = format!("At most {} in one step of {}.", grouped(highest), span(line.step_ms));
    let mut svg = begin("Versions over time", &what, TOP + TALL + 20.0);
    let base = TOP + TALL;
    svg.push_str(&format!(
        "<text class=\"soft\" x=\"0\" y=\"12\">{} per {}</text>",
        grouped(highest),
        span(line.step_ms)
    ));
    svg.push_str(&format!("<path class=\"grid\" d=\"M0 {TOP}H{WIDTH}M0 {base}H{WIDTH}\"/>"));
    let width = WIDTH / line.steps.len().max(1) as f64;
    for (i, step) in line.steps.iter().enumerate().filter(|(_, step)| step.scanned > 0) {
        let x = i as f64 * width;
        for (class, n) in [("other", step.scanned), ("rotated", step.rotated.min(step.scanned))] {
            let tall = share(n, highest) * TALL;
            let (y, wide) = (base - tall, (width - 1.0).max(1.0));
            if n > 0 {
                svg.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\"/>"
                ));
            }
        }
    }
    let y = base + 15.0;
    svg.push_str(&format!(
        "<text class=\"soft\" x=\"0\" y=\"{y}\">{}</text><text class=\"soft end\" x=\"{WIDTH}\" y=\"{y}\">{}</text></svg>",
        escape(from),
        escape(to)
    ));
    svg
}

/// A side of the picture of keys: a name, how many, and where it is drawn.
struct Node {
    name: String,
    versions: u64,
    top: f64,
    tall: f64,
    used: f64,
}

/// Bands from the encryption before to the one after.
pub(super) fn keys(flows: &[KeyFlow]) -> String {
    const HEAD: f64 = 22.0;
    let (before, after) = (names(flows, |flow| &flow.before), names(flows, |flow| &flow.after));
    let mut bands: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for flow in flows {
        *bands.entry((find(&before, &flow.before), find(&after, &flow.after))).or_default() += flow.versions;
    }
    let all = flows.iter().map(|flow| flow.versions).sum::<u64>();
    let tall = 150f64.max(44.0 * before.len().max(after.len()) as f64);
    let (mut left, mut right) = (side(before, all, HEAD, tall), side(after, all, HEAD, tall));
    let said = "Bands from the encryption before to the one after, as thick as there are versions.";
    let mut svg = begin("Keys before and after", said, HEAD + tall + 2.0);
    svg.push_str(&format!(
        "<text class=\"soft\" x=\"0\" y=\"13\">before</text><text class=\"soft end\" x=\"{WIDTH}\" y=\"13\">after</text>"
    ));
    for ((from, to), versions) in bands {
        let (a, b) = (&mut left[from], &mut right[to]);
        let (thick_a, thick_b) = (share(versions, a.versions) * a.tall, share(versions, b.versions) * b.tall);
        let class = if a.name == b.name { "other" } else { "rotated" };
        svg.push_str(&band(class, (a.top + a.used, thick_a), (b.top + b.used, thick_b)));
        a.used += thick_a;
        b.used += thick_b;
    }
    left.iter().for_each(|node| svg.push_str(&drawn(node, false)));
    right.iter().for_each(|node| svg.push_str(&drawn(node, true)));
    svg.push_str("</svg>");
    svg
}

/// The commonest names with their numbers; the last is that of all others, where there are too many.
fn names(flows: &[KeyFlow], of: fn(&KeyFlow) -> &String) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<&String, u64> = BTreeMap::new();
    for flow in flows {
        *sums.entry(of(flow)).or_default() += flow.versions;
    }
    let mut names: Vec<_> = sums.into_iter().map(|(name, n)| (name.clone(), n)).collect();
    names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if names.len() > NODES {
        let rest = names.split_off(NODES - 1);
        names.push((format!("{} others", rest.len()), rest.iter().map(|(_, n)| n).sum()));
    }
    names
}

fn find(names: &[(String, u64)], name: &str) -> usize {
    names.iter().position(|(known, _)| known == name).unwrap_or(names.len() - 1)
}

/// Each as tall as its share, but tall enough for its words.
fn side(names: Vec<(String, u64)>, all: u64, top: f64, tall: f64) -> Vec<Node> {
    const LEAST: f64 = 36.0;
    const GAP: f64 = 6.0;
    let free = tall - (LEAST + GAP) * names.len() as f64 + GAP;
    let mut y = top;
    let place = |(name, versions): (String, u64)| {
        let node = Node { name, versions, top: y, tall: LEAST + share(versions, all) * free, used: 0.0 };
        y += node.tall + GAP;
        node
    };
    names.into_iter().map(place).collect()
}

fn band(class: &str, (y1, thick1): (f64, f64), (y2, thick2): (f64, f64)) -> String {
    let (left, right, middle) = (8.0, WIDTH - 8.0, WIDTH / 2.0);
    let (end1, end2) = (y1 + thick1, y2 + thick2);
    format!(
        "<path class=\"band {class}\" d=\"M{left} {y1:.1}C{middle} {y1:.1} {middle} {y2:.1} {right} {y2:.1}V{end2:.1}\
         C{middle} {end2:.1} {middle} {end1:.1} {left} {end1:.1}Z\"/>"
    )
}

fn drawn(node: &Node, right: bool) -> String {
    let (bar, x, class) = if right { (WIDTH - 6.0, WIDTH - 12.0, " class=\"end\"") } else { (0.0, 12.0, "") };
    let soft = if right { "soft end" } else { "soft" };
    let y = node.top + node.tall / 2.0;
    format!(
        "<rect class=\"bar\" x=\"{bar}\" y=\"{:.1}\" width=\"6\" height=\"{:.1}\" rx=\"2\"/>\
         <text{class} x=\"{x}\" y=\"{:.1}\">{}</text><text class=\"{soft}\" x=\"{x}\" y=\"{:.1}\">{}</text>",
        node.top,
        node.tall,
        y - 3.0,
        escape(&short(&shown(&node.name))),
        y + 12.0,
        grouped(node.versions)
    )
}

/// A name's both ends, which tell it best from others.
fn short(name: &str) -> String {
    const LONGEST: usize = 22;
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= LONGEST {
        return name.to_owned();
    }
    let (start, end) = (&chars[..11], &chars[chars.len() - 10..]);
    start.iter().chain(['…'].iter()).chain(end).collect()
}

fn begin(title: &str, said: &str, height: f64) -> String {
    let id: String = title.to_lowercase().replace(' ', "-");
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{}</desc>",
        escape(said)
    )
}

fn share(n: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{:.1} s", ms as f64 / 1e3),
        120_000..7_200_000 => format!("{:.1} min", ms as f64 / 6e4),
        _ => format!("{:.1} h", ms as f64 / 3.6e6),
    }
}
