//! Reasons, in one table each: what rows, states and messages call them, what they mean, and what to do about them.
//! `keyrotate explain` and `docs/reasons.md` are made of the same words.

/// Declares an enum of reasons: each with its stable name, a sentence that says what is so, and one that says what to do,
/// empty where nothing is.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal, $explain:literal, $mend:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $(#[doc = $explain] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name, as rows and messages show it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// One sentence for people.
            #[must_use]
            pub fn explain(self) -> &'static str {
                match self { $(Self::$variant => $explain),* }
            }

            /// What to do about it; empty where nothing is.
            #[must_use]
            pub fn mend(self) -> &'static str {
                match self { $(Self::$variant => $mend),* }
            }

            /// The reason of that name.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use reasons;
