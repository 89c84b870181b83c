use keyrotate_proto::id::JobId;

use super::*;
use crate::ReportStore;
use crate::finish::{FinishInput, KeyFlow, OldKey, Sample, Step, Timeline, finish};
use crate::store::MemoryStore;
use crate::testing::{input, range, row, shard};

/// Everything that somebody else may name, with names that would do harm.
async fn hostile() -> (Summary, Manifest, Vec<u8>) {
    let store: std::sync::Arc<dyn ReportStore> = std::sync::Arc::new(MemoryStore::new());
    let skipped = Outcome::Skipped(SkipReason::SseC);
    let rows = [row("a", None, Outcome::Rotated(keyrotate_proto::outcome::Evidence::Key)), row("b", None, skipped)];
    let parts = shard(&*store, 1, 0, range("", None), &rows, 1).await;
    let input = FinishInput { passes: vec![(keyrotate_proto::id::PassId(1), vec![parts])], ..input(Vec::new()) };
    let mut summary = finish(&store, input).await.unwrap();
    let bad = "<script>alert('x')</script>\u{1b}[2J\u{202e}&\"";
    (summary.bucket, summary.prefix, summary.store) = (bad.into(), bad.into(), bad.into());
    summary.failed.push(Sample {
        key: bad.into(),
        version: Some(bad.into()),
        outcome: "failed".into(),
        reason: "store".into(),
        detail: bad.into(),
    });
    summary.key_flows.push(KeyFlow { before: bad.into(), after: bad.into(), versions: 1, bytes: 1 });
    summary.old_keys[0].key = bad.into();
    summary.notes.push(bad.into());
    summary.leftover_uploads[0].command = bad.into();
    let bytes = store.get("manifest.json").await.unwrap();
    (summary, serde_json::from_slice(&bytes).unwrap(), bytes)
}

#[tokio::test]
async fn names_of_others_are_only_ever_text() {
    let (summary, manifest, bytes) = hostile().await;
    let page = Page::new(&summary, &manifest, &bytes);
    let (html, text) = (page.html(), page.text());
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&#39;x&#39;)"));
    for c in ['\u{1b}', '\u{202e}'] {
        assert!(!html.contains(c) && !text.contains(c));
    }
    assert!(!html.contains("http-equiv=\"refresh") && !html.contains(" src=") && !html.contains("url("));
    assert!(html.contains("default-src &#39;none&#39;"));
}

#[tokio::test]
async fn the_page_says_all_that_an_auditor_asks() {
    let (summary, manifest, bytes) = hostile().await;
    let page = Page::new(&summary, &manifest, &bytes);
    let manifest_hash = crate::finish::sha256(&bytes);
    for shown in [page.html(), page.text()] {
        let wanted =
            ["Scope", "New key", "Old keys", "Started", "Ended", "Verified", "sse-c", "not needed in this scope"];
        for word in
            wanted.into_iter().chain([manifest_hash.as_str(), &manifest.summary.sha256, &manifest.parts[0].sha256])
        {
            assert!(shown.contains(word), "{word} is not in\n{shown}");
        }
    }
    assert_eq!(page.html().matches("<svg").count(), 3);
    assert_eq!(page.html(), page.html());
}

#[tokio::test]
async fn a_page_of_a_huge_job_or_an_old_writer_stays_a_page() {
    let (mut summary, mut manifest, bytes) = hostile().await;
    let old = summary.old_keys[0].clone();
    summary.old_keys = (0..10_000).map(|n| OldKey { key: format!("key-{n}"), ..old.clone() }).collect();
    let flow = summary.key_flows[0].clone();
    summary.key_flows = (0..1_000).map(|n| KeyFlow { before: format!("key-{n}"), ..flow.clone() }).collect();
    manifest.report = vec![manifest.summary.clone(); 5_000];
    summary.timeline = Some(Timeline { step_ms: 60_000, steps: vec![Step { scanned: u64::MAX, rotated: 7 }; 60] });
    let page = Page::new(&summary, &manifest, &bytes);
    assert!(page.html().len() < 500_000 && page.html().contains("9,800 more"));
    assert!(page.text().contains("9,800 more"));
    (summary.key_flows, summary.timeline, summary.verified, summary.counts) = Default::default();
    summary.scanned = 0;
    let page = Page::new(&summary, &manifest, &bytes);
    assert!(!page.html().contains("<svg"));
    assert_eq!(summary.job, JobId::new(1, [0; 10]));
}

#[test]
fn figures_can_be_read() {
    assert_eq!(shown("a\nb\u{202e}c✓"), "a\\u{a}b\\u{202e}c✓");
}
