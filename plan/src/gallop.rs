//! Where to ask about a range of which the keys right before it are known: at once, twice, four times … as far behind them as
//! they are wide. So the end of a dense folder is found in a few questions, however long its name is and however little of
//! the range it takes.

use keyrotate_proto::position::KeyRange;

use crate::midpoint::View;

/// Questions that follow upon each other so fast that they are asked together.
pub const STRIDES: u32 = 8;

/// Texts inside `range`, in order, for [`STRIDES`] strides from the `from`-th on, counted from 0; fewer, or none, where the range
/// or the folder of the last key ends before. `seen` are keys in order, none behind the beginning of the range.
#[must_use]
pub fn gallop(seen: &[&str], range: &KeyRange, from: u32) -> Vec<String> {
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else { return Vec::new() };
    let up = behind_folder(seen, range).or_else(|| range.end.clone());
    let view = View::of(first, up.as_deref(), seen);
    let (low, high, end) = (view.number(first), view.number(last), view.end(up.as_deref()));
    let width = high.saturating_sub(low).max(1);
    let strides = (from..from.saturating_add(STRIDES)).map_while(|n| {
        let stride = width.checked_mul(1_u128.checked_shl(n)?)?;
        high.checked_add(stride).filter(|number| *number < end)
    });
    let texts = strides.filter_map(|number| view.text_inside(number, last, up.as_deref()));
    let mut texts: Vec<String> = texts.filter(|text| inside(text, range)).collect();
    texts.dedup();
    texts
}

/// The first text of a range behind everything in the folder of the last key that was seen; `None` where the range ends before.
#[must_use]
pub fn behind_folder(seen: &[&str], range: &KeyRange) -> Option<String> {
    let folder = &seen.last()?[..seen.last()?.rfind('/')?];
    Some(format!("{folder}0")).filter(|text| inside(text, range))
}

fn inside(text: &str, range: &KeyRange) -> bool {
    *text > *range.start && range.end.as_ref().is_none_or(|end| *text < **end)
}
