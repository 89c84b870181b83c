//! A guess at how much lies somewhere, and how it is said.

use std::fmt;

use crate::say::{grouped, rounded};

/// How much lies in a scope, guessed from some of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Objects.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.objects == 1 { "" } else { "s" };
        write!(f, "~{} object{plural} with ~{}", grouped(rounded(self.objects)), size(self.bytes))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a guess, for the eye")]
fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut left = bytes as f64 / 1024.0;
    let mut unit = 0;
    while left >= 1000.0 && unit + 1 < units.len() {
        left /= 1024.0;
        unit += 1;
    }
    if left < 10.0 { format!("{left:.1} {}", units[unit]) } else { format!("{left:.0} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_marked_and_has_two_digits() {
        let said = |objects, bytes| Estimate { objects, bytes }.to_string();
        assert_eq!(said(0, 0), "~0 objects with ~0 bytes");
        assert_eq!(said(1, 1023), "~1 object with ~1023 bytes");
        assert_eq!(said(99, 1024), "~99 objects with ~1.0 KiB");
        assert_eq!(said(1_987, 15 << 20), "~2,000 objects with ~15 MiB");
        assert_eq!(said(12_345_678, 3 << 40), "~12,000,000 objects with ~3.0 TiB");
        assert_eq!(said(u64::MAX, u64::MAX), "~18,000,000,000,000,000,000 objects with ~16 EiB");
    }
}
