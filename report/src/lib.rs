//! The report store: parts, intents, and what is read back from them.
