//! What is secret stays secret, whatever happens and however much is logged: the notify token of the job file, the
//! store's secret key, the API key of the KES. What is no secret and must be there shows that the search finds things.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use flate2::read::MultiGzDecoder;
use keyrotate_tests::prelude::*;

const TOKEN: &str = "kr-token-8c1d5f0e97";
const WRONG_SECRET: &str = "kr-wrong-secret-2b7a90";
/// A key of its own, with which nobody may do anything.
const WRONG_API_KEY: &str = "kes:v1:AAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
/// No secret, but beside the token all the way.
const ENDPOINT: &str = "https://canary.example/hook";

/// Everything that a test's processes said and left behind, by where it stood.
#[derive(Default)]
struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    fn said(&mut self, by: &str, ended: &Ended) {
        self.0.push((format!("stdout of {by}"), ended.stdout.clone().into_bytes()));
        self.0.push((format!("stderr of {by}"), ended.stderr.clone().into_bytes()));
    }

    /// Every file below a folder, packed ones unpacked as well.
    fn files(&mut self, folder: &Path) {
        for path in std::fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                self.files(&path);
            } else if path.is_file() {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &PathBuf) {
        let bytes = std::fs::read(path).expect("it can be read");
        let mut unpacked = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).expect("what is packed is whole");
            self.0.push((format!("{} unpacked", path.display()), unpacked));
        }
        self.0.push((path.display().to_string(), bytes));
    }

    /// Where these bytes stand.
    fn places(&self, bytes: &[u8]) -> Vec<&str> {
        let finder = memchr::memmem::Finder::new(bytes);
        self.0.iter().filter(|(_, text)| finder.find(text).is_some()).map(|(place, _)| place.as_str()).collect()
    }

    fn has(&self, text: &str, place: &str) -> bool {
        self.places(text.as_bytes()).iter().any(|found| found.contains(place))
    }

    /// Where a secret stands, in whatever form.
    fn leaks(&self, secret: &[u8]) -> Vec<(&'static str, &str)> {
        let of_form = |(form, bytes): (&'static str, Vec<u8>)| {
            self.places(&bytes).into_iter().map(|place| (form, place)).collect::<Vec<_>>()
        };
        forms(secret).into_iter().flat_map(of_form).collect()
    }
}

/// The forms in which a program lets a secret out.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let list = format!("{secret:?}");
    vec![
        ("as it is", secret.to_vec()),
        ("hex", hex::encode(secret).into_bytes()),
        ("upper-case hex", hex::encode_upper(secret).into_bytes()),
        ("base64", STANDARD.encode(secret).into_bytes()),
        ("base64 without padding", STANDARD_NO_PAD.encode(secret).into_bytes()),
        ("base64 for URLs", URL_SAFE.encode(secret).into_bytes()),
        ("a list of numbers", list.trim_matches(['[', ']']).as_bytes().to_vec()),
        ("a list without blanks", list.trim_matches(['[', ']']).replace(' ', "").into_bytes()),
    ]
}

/// All that must not be seen, each with its name.
fn secrets(variables: &BTreeMap<String, String>) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("the token", TOKEN.as_bytes().to_vec()),
        ("the wrong secret key", WRONG_SECRET.as_bytes().to_vec()),
        ("the secret key", variables["AWS_SECRET_ACCESS_KEY"].clone().into_bytes()),
    ];
    let api_keys = [
        ("a wrong API key", Some(WRONG_API_KEY)),
        ("the API key", variables.get("MINIO_KMS_KES_API_KEY").map(String::as_str)),
    ];
    for (name, key) in api_keys {
        let Some(text) = key.map(|key| key.trim_start_matches("kes:v1:")) else { continue };
        all.push((name, text.as_bytes().to_vec()));
        // The first byte says of what kind it is; the rest is the private key.
        all.push((name, STANDARD.decode(text).expect("base64")[1..].to_vec()));
    }
    all
}

fn nothing_leaks(left: &Left, variables: &BTreeMap<String, String>) {
    for (name, secret) in secrets(variables) {
        let leaks = left.leaks(&secret);
        assert!(leaks.is_empty(), "{name} stands in {leaks:?}");
    }
}

fn job(stand: &Stand) -> JobFile {
    stand.job().notify(&format!("endpoint: {ENDPOINT}")).notify(&format!("token: Bearer {TOKEN}"))
}

/// The variables of a stand, some of them changed.
fn with(stand: &Stand, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut variables = stand.target.variables().clone();
    variables.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    variables
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_or_written_however_much_is_logged() {
    let stand = Stand::embedded(Mode::minio()).await;
    stand.put_old("k/", 100).await;
    let file = stand.write(&job(&stand)).display().to_string();
    let run = ["run", file.as_str(), "-vv", "--no-wait", "--rate", "50"];
    let mut left = Left::default();
    let loud = ("RUST_LOG", "trace");
    for (by, change) in [
        ("a wrong secret key", ("AWS_SECRET_ACCESS_KEY", WRONG_SECRET)),
        ("a wrong API key", ("MINIO_KMS_KES_API_KEY", WRONG_API_KEY)),
    ] {
        let refused = stand.start_with(&run, &with(&stand, &[loud, change])).end().await.expect(5);
        left.said(by, &refused);
    }
    let written = || stand.target.requests(&["PutObject"]);
    let until_now = written();
    let mut process = stand.start_with(&run, &with(&stand, &[loud]));
    until("it is at work", || process.has_ended() || written() >= until_now + 50).await;
    let killed = process.kill().await;
    assert_eq!(killed.code, None, "{}", killed.stderr);
    left.said("the killed run", &killed);
    left.files(&stand.state());
    let ended = stand.start_with(&run, stand.target.variables()).end().await.expect(0);
    left.said("the last run", &ended);
    let cancel = stand.start_with(&["cancel", &ended.job(), "-vv"], &with(&stand, &[loud])).end().await;
    left.said("a late cancel", &cancel);
    left.files(&stand.state());
    assert_eq!(killed.job(), ended.job());
    nothing_leaks(&left, stand.target.variables());
    // The same search finds what is no secret: in the talk, the record, the summary, and packed in parts.
    for by in ["stderr of a wrong secret key", "stderr of the killed run", "stderr of the last run"] {
        assert!(left.has(&stand.bucket, by), "{by} names the bucket");
    }
    assert!(killed.stderr.contains("TRACE"), "all was logged:\n{}", killed.stderr);
    for place in ["checkpoint", "summary.json"] {
        assert!(left.has(ENDPOINT, place), "{place} names the endpoint: {:?}", left.places(ENDPOINT.as_bytes()));
    }
    assert!(left.has("k/0042", ".csv.gz unpacked"), "{:?}", left.places(b"k/0042"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_kes_the_token_is_sealed_by_a_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;

    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 20).await;
    let mut variables = with(&stand, &[("RUST_LOG", "trace")]);
    variables.retain(|name, _| !name.starts_with("MINIO_KMS_KES_"));
    let file = stand.write(&job(&stand)).display().to_string();
    let ended = stand.start_with(&["run", &file, "-vv"], &variables).end().await.expect(0);
    let mut left = Left::default();
    left.said("the run", &ended);
    left.files(&stand.state());
    nothing_leaks(&left, &variables);
    assert!(left.has(ENDPOINT, "checkpoint") && left.has(ENDPOINT, "summary.json"), "the search finds things");
    let key = left.0.iter().map(|(place, _)| Path::new(place)).find(|path| path.ends_with("secret.key"));
    let mode = key.expect("a key file is made").metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_leaves_no_core_dump() {
    let stand = Stand::embedded(Mode::aws()).await;
    stand.put_old("k/", 20).await;
    let run = stand.begin(&stand.job(), &["--rate", "1"]);
    let limits = format!("/proc/{}/limits", run.id());
    let is_off = |limits: String| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
        line.is_some_and(|line| line.split_whitespace().take(2).all(|limit| limit == "0"))
    };
    until("core dumps are off", || std::fs::read_to_string(&limits).is_ok_and(is_off)).await;
    run.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_that_is_wrong_around_its_token_is_refused_without_it() {
    let stand = Stand::embedded(Mode::aws()).await;
    let secret = format!("Bearer {TOKEN}");
    let wrong = [
        format!("token: [{secret}]"),
        format!("token: {{is: {secret}}}"),
        format!("tokn: {secret}"),
        format!("token: {secret}\ntoken: {secret}"),
        format!("token: \"{secret}\\n\""),
        format!("token: {secret} é"),
        format!("token: '{secret}"),
        format!("token: *{TOKEN}"),
        format!("token: !secret {secret}\n\t"),
    ];
    for line in wrong {
        let job = stand.job().notify(&format!("endpoint: {ENDPOINT}")).notify(&line);
        let file = stand.write(&job).display().to_string();
        for verb in ["validate", "run"] {
            let refused = stand.start(&[verb, &file, "-vv"]).end().await.expect(2);
            let mut left = Left::default();
            left.said(verb, &refused);
            let leaks = left.leaks(TOKEN.as_bytes());
            assert!(leaks.is_empty(), "{line}: {leaks:?}:\n{}{}", refused.stdout, refused.stderr);
            assert!(left.has("job.yaml", "std"), "{line}: it names the file:\n{}", refused.stderr);
        }
    }
}

#[test]
fn the_search_finds_a_secret_in_every_form_and_packed() {
    use std::io::Write as _;

    let dir = tempfile::tempdir().expect("there is room for a temporary folder");
    let secret = b"s3cret\xff\x00";
    for (n, (form, bytes)) in forms(secret).into_iter().enumerate() {
        let folder = dir.path().join(n.to_string());
        std::fs::create_dir_all(folder.join("below")).expect("a folder can be made");
        let text = [b"before ".as_slice(), &bytes, b" behind"].concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&text).expect("memory can be written");
        std::fs::write(folder.join("below/plain"), text).expect("it can be written");
        std::fs::write(folder.join("packed"), packed.finish().expect("it is whole")).expect("it can be written");
        let mut left = Left::default();
        left.files(&folder);
        let found = left.leaks(secret);
        assert!(found.iter().any(|(_, place)| place.ends_with("below/plain")), "{form}: {found:?}");
        assert!(found.iter().any(|(_, place)| place.ends_with("packed unpacked")), "{form}: {found:?}");
    }
}
