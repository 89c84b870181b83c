//! What another version of keyrotate wrote into a record stays there when this one writes the record again.
//!
//! While a fleet is upgraded, old and new processes swap the same records. A field that the newer one added is unknown
//! here: read into our types and written back, it would be gone. So it is taken over from the bytes that were read. What
//! is in these and not in what we make of them is unknown to us, or is left out because it has its default: either
//! may stand in the new bytes where those have nothing of that name.

use serde_json::Value;

use crate::record::Record;

/// How a record reads here, written again: equal to its bytes unless another version wrote them.
pub(super) type Reread = fn(&[u8]) -> Option<Vec<u8>>;

/// See [`Reread`].
pub(super) fn reread<R: Record>(bytes: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<R>(bytes).and_then(|record| serde_json::to_vec(&record)).ok()
}

/// `new`, and in it what `old` has that `reread` did not understand.
pub(super) fn with_unknown(old: &[u8], reread: Reread, new: Vec<u8>) -> Vec<u8> {
    let Some(understood) = reread(old).filter(|again| again != old) else { return new };
    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let (Some(old), Some(understood), Some(mut whole)) = (value(old), value(&understood), value(&new)) else {
        return new;
    };
    keep(&old, &understood, &mut whole);
    serde_json::to_vec(&whole).unwrap_or(new)
}

/// Fields of maps; items of lists by their place, for lists only grow.
fn keep(old: &Value, understood: &Value, new: &mut Value) {
    match (old, understood, new) {
        (Value::Object(old), Value::Object(understood), Value::Object(new)) => {
            for (name, value) in old {
                match (understood.get(name), new.get_mut(name)) {
                    (Some(understood), Some(new)) => keep(value, understood, new),
                    (None, None) => {
                        new.insert(name.clone(), value.clone());
                    }
                    _ => {}
                }
            }
        }
        (Value::Array(old), Value::Array(understood), Value::Array(new)) => {
            old.iter().zip(understood).zip(new).for_each(|((old, understood), new)| keep(old, understood, new));
        }
        _ => {}
    }
}
