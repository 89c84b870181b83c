//! The verbs' two places: a coordinator in this process, and a state folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyrotate_checkpoint::record::{JobRecord, JobResult, ProbePlace};
use keyrotate_checkpoint::transition::job as transition;
use keyrotate_checkpoint::{Ledger, MemoryBackend};
use keyrotate_config::token::{Role, TokenEntry};
use keyrotate_config::{Config, Given, Listen, Secret, Tls};
use keyrotate_coordinator::api::server::{ServeError, Server};
use keyrotate_coordinator::api::{NamedStore, Site};
use keyrotate_env::Env;
use keyrotate_proto::id::Nonce;
use keyrotate_report::root::FolderRoot;
use keyrotate_store::StoreIdentity;
use tokio::time::Instant;

use super::fleet::{Events, Fleet};
use super::folder::Folder;
use super::follow::follow;
use super::*;
use crate::args::StateArgs;
use crate::exit::Exit;
use crate::local;
use crate::state::BucketFolder;

const JOB: &str = "keyrotate: {apiVersion: v1, bucket: bucket, encryption: {key: k}}";

struct Stand {
    ledger: Ledger,
    env: Env,
    dir: tempfile::TempDir,
    token: Secret,
    config: Config,
}

fn token(name: &str, role: Role, env: &Env) -> (Secret, TokenEntry) {
    TokenEntry::make(name.parse().unwrap(), role, Vec::new(), None, env)
}

impl Stand {
    fn new() -> Self {
        let _again = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let env = Env::system();
        let (token, entry) = token("me", Role::Operate, &env);
        let listen = Listen(([127, 0, 0, 1], 0).into());
        let config = Config { listen, tokens: vec![entry], ..Config::default() };
        let ledger = Ledger::new(Arc::new(MemoryBackend::new(env.clone())), env.clone());
        Self { ledger, env, dir: tempfile::tempdir().unwrap(), token, config }
    }

    fn site(&self) -> Site {
        let store = NamedStore { name: "default".into(), identity: Some("s".into()), probes: ProbePlace::default() };
        Site {
            ledger: self.ledger.clone(),
            reports: Arc::new(FolderRoot::new(self.dir.path().join("reports"))),
            reports_at: None,
            dead: None,
            sealer: None,
            allow_private_notify: false,
            stores: vec![store],
            env: self.env.clone(),
        }
    }

    async fn serve(&self) -> Server {
        Server::start(self.site(), &self.config, Given::default()).await.unwrap()
    }

    fn fleet(&self, server: &Server) -> Fleet {
        let config = Config { token: Some(self.token.clone()), ..Config::default() };
        Fleet::new(&server.url(), &config).unwrap()
    }

    async fn end(&self, job: &JobId) {
        self.ledger.update_job(job, transition::cancel).await.unwrap();
        let ended = self.ledger.now().await.unwrap();
        let result = JobResult { counts: Default::default(), ended, report: None };
        self.ledger.end_job(job, &result).await.unwrap();
    }
}

fn submit() -> Ask {
    let body = Some(("application/yaml", JOB.as_bytes().to_vec()));
    Ask { method: "POST", path: "/v1/jobs?confirm=true".into(), body, idempotency_key: None }
}

#[tokio::test]
async fn a_job_of_a_fleet_is_begun_looked_at_and_told_what_to_do() {
    let stand = Stand::new();
    let server = stand.serve().await;
    let fleet = stand.fleet(&server);
    let client = Client(&fleet);
    let job = client.submit(submit(), "job.yaml").await.unwrap().id;
    let listed = fleet.list(None).await.unwrap();
    assert_eq!((listed.len(), &listed[0].id, listed[0].user.as_str()), (1, &job, "me"));
    assert!(show::list(&listed).starts_with("ID ") && show::list(&listed).contains("queued"));
    assert_eq!(fleet.list(Some("running")).await.unwrap(), []);
    assert_eq!(client.tell(&job, "pause").await.unwrap().job.state, "paused");
    assert!(show::line(&client.status(&job).await.unwrap()).starts_with("paused  (operator: by me)"));
    assert_eq!(client.tell(&job, "resume").await.unwrap().job.state, "queued");
    let change = LimitsChange { rate: Some(Some(3.0)), priority: Some(4), ..LimitsChange::default() };
    assert_eq!(client.limit(&job, &change).await.unwrap().limits.rate, Some(3.0));
    let none = LimitsChange { rate: Some(None), ..LimitsChange::default() };
    let limits = client.limit(&job, &none).await.unwrap().limits;
    assert_eq!((limits.rate, limits.priority), (None, 4));
    assert!(show::description(&client.describe(&job).await.unwrap()).contains("bucket/"));
    assert_eq!(client.failed(&job, None).await.unwrap().rows, []);
    let refused = client.report(&job, "text").await.unwrap_err();
    assert_eq!(refused.exit(), Exit::Usage);
    fleet.cancel(&job).await.unwrap();
    assert_eq!(client.status(&job).await.unwrap().job.state, "cancelling");
    server.shutdown().await;
}

#[tokio::test]
async fn what_goes_wrong_is_said_with_its_exit_code() {
    let stand = Stand::new();
    let server = stand.serve().await;
    let fleet = stand.fleet(&server);
    let wrong = Ask { body: Some(("application/yaml", b"keyrotate:\n  buckt: b\n".to_vec())), ..submit() };
    let failure = Client(&fleet).submit(wrong, "my.yaml").await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    let said = failure.to_string();
    assert!(said.contains("my.yaml:2: keyrotate.buckt: unknown field `buckt` (did you mean `bucket`?)"), "{said}");
    let nobody = JobId::new(9, [9; 10]);
    let failure = Client(&fleet).status(&nobody).await.unwrap_err();
    assert_eq!((failure.exit(), failure.to_string().contains("there is no job")), (Exit::Usage, true));
    let job = Client(&fleet).submit(submit(), "").await.unwrap().id;
    assert_eq!(Client(&fleet).tell(&job, "confirm").await.unwrap_err().exit(), Exit::Refused);
    let stranger = Fleet::new(&server.url(), &Config::default()).unwrap();
    let failure = Client(&stranger).status(&job).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Refused);
    assert!(failure.to_string().contains("shows no token"), "{failure}");
    assert!(Fleet::new("ftp://x", &Config::default()).is_err());
    let url = server.url();
    server.shutdown().await;
    let failure = Client(&Fleet::new(&url, &Config::default()).unwrap()).status(&job).await.unwrap_err();
    assert!(failure.to_string().contains("can't reach the coordinator at http://127.0.0.1:"), "{failure}");
}

#[tokio::test]
async fn who_follows_a_job_is_cut_off_and_comes_back() {
    let mut stand = Stand::new();
    let server = stand.serve().await;
    stand.config.listen = Listen(server.addr());
    let fleet = stand.fleet(&server);
    let job = Client(&fleet).submit(submit(), "").await.unwrap().id;
    let followed = follow(&fleet, &job, JobStatus::is_ended);
    let rest = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.shutdown().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let again = stand.serve().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stand.end(&job).await;
        again
    };
    let both = async { tokio::join!(followed, rest) };
    let (last, _again) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    assert_eq!(last.unwrap().job.state, "cancelled");
}

#[test]
fn events_come_whole_however_the_stream_is_cut() {
    let stream = b": hello\n\nevent: status\nid: 1\ndata: {\"a\":1}\n\nevent: end\r\ndata:{\"b\":\r\ndata: 2}\r\n\r\n";
    for cut in 0..stream.len() {
        let mut events = Events::default();
        let mut all = events.take(&stream[..cut]);
        all.extend(events.take(&stream[cut..]));
        assert_eq!(all, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()], "{cut}");
    }
}

fn certificate(dir: &Path, name: &str) -> Tls {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, path) = (params.self_signed(&key).unwrap().pem(), dir.join("key.pem"));
    std::fs::write(&path, key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), &cert).unwrap();
    std::fs::write(dir.join(name), cert).unwrap();
    Tls { cert: dir.join("cert.pem"), key: path, client_ca: None }
}

#[tokio::test]
async fn certificate_and_tokens_are_read_again_when_they_change() {
    let mut stand = Stand::new();
    let dir = stand.dir.path().to_owned();
    stand.config.tls = Some(certificate(&dir, "first.pem"));
    let file = dir.join("config.yaml");
    std::fs::write(&file, format!("tokens:\n{}\n", stand.config.tokens[0].line())).unwrap();
    let given = Given { file: Some(file.clone()), ..Given::default() };
    let server = Server::start(stand.site(), &stand.config, given).await.unwrap();
    let fleet = |ca: &str, token: &Secret| {
        let (ca_bundle, token) = (Some(dir.join(ca)), Some(token.clone()));
        Fleet::new(&server.url(), &Config { ca_bundle, token, ..Config::default() }).unwrap()
    };
    assert_eq!(fleet("first.pem", &stand.token).list(None).await.unwrap(), []);
    let (fresh, entry) = token("other", Role::View, &stand.env);
    certificate(&dir, "second.pem");
    std::fs::write(&file, format!("tokens:\n{}\n", entry.line())).unwrap();
    let began = Instant::now();
    while fleet("second.pem", &fresh).list(None).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing was read again");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(fleet("second.pem", &stand.token).list(None).await.unwrap_err().to_string().contains("not known"));
    assert!(fleet("first.pem", &fresh).list(None).await.unwrap_err().to_string().contains("can't reach"));
    // What can't be read changes nothing.
    std::fs::write(&file, "tokens: [").unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(fleet("second.pem", &fresh).list(None).await.unwrap(), []);
    server.shutdown().await;
}

/// An authority, `NAME.ca`, and a client certificate that it signed: `NAME.pem` with its key in `NAME.key`.
fn client_certificate(dir: &Path, name: &str) {
    let keys = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
    let [mut authority, mut client] = ["authority", "client"].map(|of| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} {of}"));
        params
    });
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let signed = client.signed_by(&keys[1], &rcgen::Issuer::from_params(&authority, &keys[0])).unwrap();
    std::fs::write(dir.join(format!("{name}.ca")), authority.self_signed(&keys[0]).unwrap().pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.pem")), signed.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), keys[1].serialize_pem()).unwrap();
}

#[tokio::test]
async fn only_clients_that_the_named_authority_signed_are_let_in() {
    let mut stand = Stand::new();
    let dir = stand.dir.path().to_owned();
    let trusted = dir.join("clients.pem");
    let trust = |name: &str| std::fs::copy(dir.join(format!("{name}.ca")), &trusted).unwrap();
    for name in ["old", "new"] {
        client_certificate(&dir, name);
    }
    trust("old");
    stand.config.tls = Some(Tls { client_ca: Some(trusted.clone()), ..certificate(&dir, "server.pem") });
    let server = stand.serve().await;
    let shown = |name: Option<&str>, token: Option<Secret>| {
        let file = |end| name.map(|name| dir.join(format!("{name}.{end}")));
        let (ca_bundle, cert, key) = (Some(dir.join("server.pem")), file("pem"), file("key"));
        Fleet::new(&server.url(), &Config { ca_bundle, cert, key, token, ..Config::default() }).unwrap()
    };
    let as_me = |name| shown(name, Some(stand.token.clone()));
    let refused = |failure: Failure, why: &str| {
        let said = failure.to_string();
        assert_eq!(failure.exit(), Exit::Refused, "{said}");
        assert!(said.contains(why) && said.contains(&server.url()) && said.contains("KEYROTATE_CERT"), "{said}");
    };

    refused(as_me(None).list(None).await.unwrap_err(), "without a client certificate");
    refused(as_me(Some("new")).list(None).await.unwrap_err(), "does not take");
    assert_eq!(as_me(Some("old")).list(None).await.unwrap(), []);
    // Nothing is tried again that would be refused again.
    let job = JobId::new(1, [7; 10]);
    let (hearing, _heard) = mpsc::channel(1);
    let nameless = as_me(None);
    let watched = tokio::time::timeout(Duration::from_secs(5), nameless.watch(&job, hearing));
    refused(watched.await.unwrap().unwrap_err(), "without a client certificate");
    refused(nameless.submit(submit()).await.unwrap_err(), "without a client certificate");
    // Whoever is let in still needs a token.
    assert!(shown(Some("old"), None).list(None).await.unwrap_err().to_string().contains("token"));

    trust("new");
    let began = Instant::now();
    while as_me(Some("new")).list(None).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the authority was not read again");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    refused(as_me(Some("old")).list(None).await.unwrap_err(), "does not take");
    server.shutdown().await;

    std::fs::write(&trusted, "").unwrap();
    let unusable = Server::start(stand.site(), &stand.config, Given::default()).await.unwrap_err();
    assert!(unusable.to_string().contains("clients.pem") && unusable.remedy().contains("tls.clientCa"), "{unusable}");
}

#[test]
fn a_client_certificate_comes_with_its_key() {
    let stand = Stand::new();
    let dir = stand.dir.path();
    client_certificate(dir, "me");
    let with = |cert: &str, key: Option<&str>| {
        let (cert, key) = (Some(dir.join(cert)), key.map(|key| dir.join(key)));
        Fleet::new("https://k.example", &Config { cert, key, ..Config::default() }).map(drop)
    };
    with("me.pem", Some("me.key")).unwrap();
    for (cert, key, said) in [
        ("me.pem", None, "`cert` and `key`"),
        ("none.pem", Some("me.key"), "none.pem"),
        ("me.ca", Some("me.pem"), "no certificate and its key"),
    ] {
        let failure = with(cert, key).unwrap_err().to_string();
        assert!(failure.contains(said), "{failure}");
    }
}

#[tokio::test]
async fn nobody_serves_everybody() {
    let mut stand = Stand::new();
    stand.config.tokens.clear();
    stand.config.listen = Listen(([0, 0, 0, 0], 0).into());
    let refused = Server::start(stand.site(), &stand.config, Given::default()).await.unwrap_err();
    assert!(matches!(refused, ServeError::Open(_)));
    assert!(refused.remedy().contains("keyrotate token new"));
    stand.config.listen = Listen(([127, 0, 0, 1], 0).into());
    let server = stand.serve().await;
    let open = Fleet::new(&server.url(), &Config::default()).unwrap();
    assert_eq!(open.list(None).await.unwrap(), []);
    server.shutdown().await;
}

#[tokio::test]
async fn jobs_of_the_state_folder_answer_to_the_same_verbs() {
    let (dir, env) = (tempfile::tempdir().unwrap(), Env::system());
    let mut jobs = Vec::new();
    for (n, bucket) in ["one", "two"].into_iter().enumerate() {
        let folder = BucketFolder::of(dir.path(), &StoreIdentity("s".into()), bucket);
        std::fs::create_dir_all(folder.path()).unwrap();
        let ledger = local::open_ledger(&folder, &env).await.unwrap();
        let spec = keyrotate_proto::job::parse(JOB.as_bytes(), "").unwrap().spec;
        let id = JobId::new(u64::try_from(n).unwrap(), [7; 10]);
        let job = JobRecord::new(id.clone(), spec, "s".into(), Nonce("n".into()), "me".into(), env.now());
        ledger.begin_job(job).await.unwrap();
        jobs.push(id);
    }
    let folder = Folder::open(&StateArgs { state: Some(dir.path().to_owned()) }, Default::default()).unwrap();
    let client = Client(&folder);
    let listed: Vec<_> = folder.list(None).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(listed, jobs);
    assert_eq!(client.tell(&jobs[1], "pause").await.unwrap().job.state, "paused");
    assert_eq!(client.status(&jobs[1]).await.unwrap().job.state, "paused");
    assert_eq!(client.status(&jobs[0]).await.unwrap().job.state, "queued");
    assert_eq!(client.tell(&jobs[1], "resume").await.unwrap().job.state, "queued");
    assert_eq!(client.describe(&jobs[0]).await.unwrap().status.job.user, "me");
    for failure in [
        client.status(&JobId::new(9, [9; 10])).await.unwrap_err(),
        client.submit(submit(), "").await.unwrap_err(),
        client.limit(&jobs[0], &LimitsChange::default()).await.unwrap_err(),
    ] {
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
    }
}
