//! See `targets::job_file`.

#![no_main]

#[expect(dead_code, reason = "the other targets")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::job_file(bytes));
