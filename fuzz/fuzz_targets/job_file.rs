//! The job file: no bytes make the parser panic, and what it refuses it refuses with a place and in one line.
//!
//! The samples of the tests are the seeds; what is found goes into the first folder:
//!
//! ```text
//! mkdir -p fuzz/corpus/job_file
//! cargo +nightly fuzz run job_file fuzz/corpus/job_file proto/tests/samples/valid proto/tests/samples/invalid
//! ```
//!
//! Without cargo-fuzz and a nightly compiler (a C++ compiler is needed for libFuzzer):
//!
//! ```text
//! cd fuzz
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing" \
//!   cargo build --target "$(rustc -vV | sed -n 's/^host: //p')"
//! target/*/debug/job_file corpus/job_file ../proto/tests/samples/valid ../proto/tests/samples/invalid
//! ```

#![no_main]

use keyrotate_proto::job;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match job::parse(bytes, "fuzz") {
    Ok(parsed) => {
        let start = "2026-11-21T00:00:00Z".parse().expect("a fixed date");
        assert!(parsed.at_start(start).iter().all(|problem| problem.line > 0));
        assert!(!job::describe(&parsed.spec).is_empty());
        assert_eq!(parsed.spec.hash().len(), 64);
    }
    Err(errors) => {
        assert!(!errors.0.is_empty());
        assert!(errors.0.iter().all(|problem| problem.line > 0 && problem.column > 0));
        assert_eq!(errors.to_string().lines().count(), errors.0.len());
    }
});
