//! What keeps a fleet from doing harm, by name, so that a simulation can take one away and show what for it is there.
//!
//! Each stands in the code where it works, in the one line that asks [`Safeguard::stands`]. Without the feature
//! `simulation`, which nothing but tests turns on, that is the constant `true`.

/// A safeguard that a simulation can take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// Who changes a shard's record shows the newest lease of it, which has not run out.
    Fence,
    /// The cursor stands only where everything before it has an outcome.
    Cursor,
    /// A holder keeps to the end of its shard, which may have come nearer since it began.
    End,
    /// Writes that nobody could read off the object later are put down before they are made.
    Intents,
    /// A write takes effect only on what was looked at.
    Etag,
    /// What was leased before the checkpoint lost or forgot anything is void.
    Nonce,
}

#[cfg(not(feature = "simulation"))]
impl Safeguard {
    /// Whether it stands.
    #[must_use]
    pub const fn stands(self) -> bool {
        true
    }
}

#[cfg(feature = "simulation")]
mod away {
    use std::cell::Cell;

    use super::Safeguard;

    thread_local! {
        static AWAY: Cell<Option<Safeguard>> = const { Cell::new(None) };
    }

    impl Safeguard {
        /// Whether it stands, on this thread.
        #[must_use]
        pub fn stands(self) -> bool {
            AWAY.get() != Some(self)
        }

        /// Does something without it: on this thread, to its end, and all others stand.
        pub fn without<T>(self, run: impl FnOnce() -> T) -> T {
            struct Back;
            impl Drop for Back {
                fn drop(&mut self) {
                    AWAY.set(None);
                }
            }
            AWAY.set(Some(self));
            let _back = Back;
            run()
        }
    }
}
