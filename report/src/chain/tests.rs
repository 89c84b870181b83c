use keyrotate_proto::id::PassId;
use keyrotate_proto::outcome::Outcome;

use super::*;
use crate::testing::{put, range, row, shard, store};

async fn three_parts() -> (std::sync::Arc<dyn ReportStore>, Vec<PartLink>) {
    let store = store();
    let rows: Vec<_> = (0..6).map(|n| row(&format!("k{n}"), None, Outcome::Current)).collect();
    let parts = shard(&*store, 1, 4, range("", None), &rows, 2).await;
    let links = chain(&*store, parts.last_part.as_deref()).await.unwrap();
    (store, links)
}

#[tokio::test]
async fn a_chain_is_found_from_its_end() {
    let (store, links) = three_parts().await;
    assert_eq!(links.iter().map(|link| link.header.number).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(chain(&*store, None).await.unwrap(), []);
    let missing = chain(&*store, Some("parts/p001/s000004/n-000009-000009.csv.gz")).await;
    assert!(matches!(missing, Err(ReportError::NotFound(_))));
}

#[tokio::test]
async fn a_broken_chain_names_the_part() {
    type Harm = fn(&mut PartHeader);
    let harms: [(&str, Harm); 5] = [
        ("shard", |h| h.shard.shard.0 = 9),
        ("begins", |h| h.to = Position::After("k9".into(), None)),
        ("lease", |h| h.epoch.counter = 7),
        ("number", |h| h.number = 2),
        ("pass", |h| h.shard.pass = PassId(2)),
    ];
    for (word, harm) in harms {
        let (store, links) = three_parts().await;
        let mut before = links[1].header.clone();
        harm(&mut before);
        let before = put(&*store, before, &[]).await;
        let mut last = links[2].header.clone();
        last.previous = Some(before.name);
        let last = put(&*store, last, &[]).await;
        let error = chain(&*store, Some(&last.name)).await.unwrap_err();
        assert!(
            matches!(&error, ReportError::BrokenChain { name, what } if *name == last.name && what.contains(word)),
            "{word}: {error}"
        );
    }
}
