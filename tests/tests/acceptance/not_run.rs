//! What is not run on which store, and the requests that show why: `not-run.yaml`.

use std::collections::BTreeMap;

use keyrotate_tests::bucket;
use keyrotate_tests::prelude::{Mode, Target};
use keyrotate_tests::raw::Raw;
use keyrotate_tests::target::MOTO;
use serde::Deserialize;

use crate::scenarios::ALL;

/// One line of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotRun {
    scenario: String,
    stores: Vec<String>,
    /// Why, for people.
    pub(crate) because: String,
    #[serde(default)]
    before: Vec<Raw>,
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    answer: Wanted,
}

/// The answer that shows it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    status: u16,
    shows: Vec<String>,
    #[serde(default)]
    hides: Vec<String>,
}

/// The whole file.
///
/// # Panics
/// When it can't be read, or names what does not exist.
pub(crate) fn read() -> Vec<NotRun> {
    let lines: Vec<NotRun> = serde_yaml::from_str(include_str!("not-run.yaml")).expect("not-run.yaml can be read");
    for line in &lines {
        let known = ALL.iter().any(|scenario| scenario.name == line.scenario);
        assert!(known, "not-run.yaml names `{}`, which is no scenario", line.scenario);
        for store in &line.stores {
            let known = Mode::named(store).is_some() || store == MOTO;
            assert!(known, "not-run.yaml names `{store}`, which is no kind of store");
        }
    }
    lines
}

/// The line for a scenario on a store of that kind or of that name.
pub(crate) fn find<'a>(lines: &'a [NotRun], scenario: &str, like: &str, name: &str) -> Option<&'a NotRun> {
    lines
        .iter()
        .find(|line| line.scenario == scenario && line.stores.iter().any(|store| store == like || store == name))
}

/// The upload that an answer opened.
fn upload_in(text: &str) -> Option<&str> {
    text.split_once("<UploadId>")?.1.split_once("</UploadId>").map(|(id, _)| id)
}

impl NotRun {
    /// Sends the request and holds the answer against the file.
    ///
    /// # Panics
    /// When it is another one, with all of it.
    pub(crate) async fn ask(&self, target: &Target) {
        let name = target.new_bucket_name();
        bucket::create(&target.client, &name, false).await;
        let mut upload = String::new();
        for raw in &self.before {
            let raw = Raw { request: raw.request.replace("{upload}", &upload), ..raw.clone() };
            let answer = raw.send(&target.client, &name).await;
            assert!(answer.status < 300, "`{}` before it: {answer:?}", raw.request);
            upload = upload_in(&answer.text).map_or(upload, str::to_owned);
        }
        let raw = Raw { request: self.request.clone(), headers: self.headers.clone(), body: String::new() };
        let answer = raw.send(&target.client, &name).await;
        let holds = |piece: &String| answer.text.contains(piece.as_str());
        let same = answer.status == self.answer.status
            && self.answer.shows.iter().all(holds)
            && !self.answer.hides.iter().any(holds);
        assert!(
            same,
            "`{}` is not answered as not-run.yaml says: let `{}` run on {} and take the line out.\n{}\n{}",
            self.request, self.scenario, target.name, answer.status, answer.text
        );
    }
}
