//! What every back-end must do, as one suite that all of them run.
