//! A fleet, by its coordinator's API.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use keyrotate_config::Config;
use keyrotate_env::Env;
use keyrotate_kms::refuses_our_certificate;
use keyrotate_proto::api::{JobBrief, JobList, JobStatus};
use keyrotate_proto::id::JobId;
use keyrotate_proto::say::chain;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Identity, Method, Response, Url};
use tokio::sync::mpsc;

use super::{Ask, Jobs, Reply, failure, list_path, read};
use crate::failure::Failure;
use crate::{fleet, say};

/// How long an answer may take; events come for as long as a job takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The stream says something every 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// A submit is sent so often, under one key.
const TRIES: u32 = 4;

/// A coordinator.
pub(crate) struct Fleet {
    url: Url,
    client: Client,
    token: Option<HeaderValue>,
    shows_certificate: bool,
    env: Env,
}

impl Fleet {
    /// At that URL, with token and certificates of the configuration.
    pub(crate) fn new(url: &str, config: &Config) -> Result<Self, Failure> {
        let usual = "write it like `https://keyrotate.example.com:7474`";
        let parsed = Url::parse(url).map_err(|e| Failure::usage(format!("`{url}` is no URL: {e}"), usual))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(Failure::usage(format!("`{url}` is no URL of a coordinator"), usual));
        }
        let mut builder = Client::builder().connect_timeout(CONNECT_WITHIN).http1_only();
        if let Some(path) = &config.ca_bundle {
            let pem = std::fs::read(path).map_err(|e| Failure::io("can't read the certificates in", path, &e))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            let what = || format!("`{}` holds no certificates", path.display());
            let certificates = certificates.map_err(|e| Failure::broke(what(), &e, "give a PEM file as `caBundle`"))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let certificate = fleet::certificate("", config.cert.as_ref(), config.key.as_ref())?;
        if let Some((cert, key)) = &certificate {
            builder = builder.identity(identity(cert, key)?);
        }
        let client = builder.build();
        let client =
            client.map_err(|e| Failure::broke("no HTTP client", &e, "check the certificates of this machine"))?;
        let token = config.token.as_ref().map(|token| HeaderValue::from_str(&format!("Bearer {}", token.expose())));
        let mend = "give it as `keyrotate token new` printed it";
        let mut token = token.transpose().map_err(|_| Failure::usage("the token can't be sent", mend))?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        Ok(Self { url: parsed, client, token, shows_certificate: certificate.is_some(), env: Env::system() })
    }

    async fn send(&self, ask: &Ask) -> Result<Response, reqwest::Error> {
        let base = self.url.as_str().trim_end_matches('/');
        let method = Method::from_bytes(ask.method.as_bytes()).unwrap_or(Method::GET);
        let mut request = self.client.request(method, format!("{base}{}", ask.path));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(key) = &ask.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some((kind, body)) = &ask.body {
            request = request.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        request.send().await
    }

    async fn exchange(&self, ask: &Ask) -> Result<Reply, reqwest::Error> {
        let whole = async {
            let response = self.send(ask).await?;
            let status = response.status().as_u16();
            Ok(Reply { status, body: response.bytes().await?.to_vec() })
        };
        match tokio::time::timeout(ANSWER_WITHIN, whole).await {
            Ok(answer) => answer,
            Err(_) => Ok(Reply { status: 504, body: Vec::new() }),
        }
    }

    /// Asks something that is about no job.
    pub(crate) async fn ask_fleet(&self, ask: &Ask) -> Result<Reply, Failure> {
        self.exchange(ask).await.map_err(|e| self.unreached(e))
    }

    fn unreached(&self, error: reqwest::Error) -> Failure {
        if refuses_our_certificate(&error) {
            let what = match self.shows_certificate {
                true => "does not take the client certificate of `cert`",
                false => "does not let us in without a client certificate",
            };
            return Failure::refused(
                format!("the coordinator at {} {what}: {}", self.url, chain(&error.without_url())),
                "give as `cert` and `key`, or KEYROTATE_CERT and KEYROTATE_KEY, one that its `tls.clientCa` signed",
            );
        }
        let what = format!("can't reach the coordinator at {}: {}", self.url, chain(&error.without_url()));
        Failure::refused(what, "check `KEYROTATE_URL` or `url:`; `--local` looks into the state folder of this machine")
    }

    async fn pause(&self, n: u32) {
        let share = 0.5 + self.env.random_fraction() / 2.0;
        let longest = Duration::from_millis(500) * (1 << n.min(4));
        tokio::time::sleep(longest.min(Duration::from_secs(5)).mul_f64(share)).await;
    }

    /// One stream of events, to its end; whether the job has ended or nobody listens any more.
    async fn listen(&self, job: &JobId, heard: &mpsc::Sender<JobStatus>, fresh: &mut bool) -> Result<bool, Broken> {
        let ask = Ask::get(format!("/v1/jobs/{job}/events"));
        let mut response = self.send(&ask).await.map_err(|error| match refuses_our_certificate(&error) {
            true => Broken::Refused(self.unreached(error)),
            false => Broken::Off,
        })?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.bytes().await.map_err(|_| Broken::Off)?.to_vec();
            let reply = Reply { status, body };
            let passes = status == 429 || status >= 500;
            return Err(if passes { Broken::Off } else { Broken::Refused(failure(&reply, "")) });
        }
        let mut events = Events::default();
        loop {
            let chunk = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(|_| Broken::Off)?;
            let Some(chunk) = chunk.map_err(|_| Broken::Off)? else { return Err(Broken::Off) };
            for data in events.take(&chunk) {
                let Ok(status) = serde_json::from_slice::<JobStatus>(&data) else { continue };
                *fresh = true;
                let ended = status.is_ended();
                if heard.send(status).await.is_err() || ended {
                    return Ok(true);
                }
            }
        }
    }
}

/// A client certificate and its key, of PEM files.
fn identity(cert: &Path, key: &Path) -> Result<Identity, Failure> {
    let mut pem = Vec::new();
    for path in [cert, key] {
        pem.extend(std::fs::read(path).map_err(|e| Failure::io("can't read the client certificate in", path, &e))?);
        pem.push(b'\n');
    }
    let what = || format!("`{}` and `{}` hold no certificate and its key", cert.display(), key.display());
    Identity::from_pem(&pem).map_err(|e| Failure::broke(what(), &e, "give PEM files as `cert` and `key`"))
}

/// Why a stream ended too early.
enum Broken {
    /// It was cut off.
    Off,
    /// It will be refused again.
    Refused(Failure),
}

#[async_trait]
impl Jobs for Fleet {
    fn place(&self) -> String {
        format!("fleet {}", self.url)
    }

    async fn ask(&self, _job: &JobId, ask: Ask) -> Result<Reply, Failure> {
        self.ask_fleet(&ask).await
    }

    async fn submit(&self, mut ask: Ask) -> Result<Reply, Failure> {
        // The same key each time: an answer that was lost does not begin a second job.
        let key = self.env.random_hex(16);
        ask.idempotency_key = ask.idempotency_key.or(Some(key));
        for tries in 0.. {
            match self.exchange(&ask).await {
                Ok(reply) if tries + 1 < TRIES && matches!(reply.status, 502..=504) => {}
                Ok(reply) => return Ok(reply),
                Err(error) if error.is_connect() || refuses_our_certificate(&error) || tries + 1 >= TRIES => {
                    return Err(self.unreached(error));
                }
                Err(_) => {}
            }
            self.pause(tries).await;
        }
        unreachable!("the loop ends by returning")
    }

    async fn list(&self, state: Option<&str>) -> Result<Vec<JobBrief>, Failure> {
        let (mut all, mut page) = (Vec::new(), None);
        loop {
            let reply = self.exchange(&Ask::get(list_path(state, page.as_ref()))).await;
            let next: JobList = read(reply.map_err(|e| self.unreached(e))?, "")?;
            all.extend(next.jobs.iter().cloned());
            if next.next.is_none() {
                return Ok(all);
            }
            page = Some(next);
        }
    }

    async fn watch(&self, job: &JobId, heard: mpsc::Sender<JobStatus>) -> Result<(), Failure> {
        let mut cut_off = 0;
        loop {
            let mut fresh = false;
            match self.listen(job, &heard, &mut fresh).await {
                Ok(_) => return Ok(()),
                Err(Broken::Refused(failure)) => return Err(failure),
                Err(Broken::Off) if heard.is_closed() => return Ok(()),
                Err(Broken::Off) => {}
            }
            cut_off = if fresh { 0 } else { cut_off + 1 };
            if cut_off == 1 {
                say("cut off from the coordinator; trying again until it answers");
            }
            self.pause(cut_off).await;
        }
    }

    async fn cancel(&self, job: &JobId) -> Result<(), Failure> {
        let reply = self.ask(job, Ask::post(format!("/v1/jobs/{job}/cancel"))).await?;
        super::good(reply, "").map(drop)
    }
}

/// Server-sent events out of pieces of a stream: the data of each that has some.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

impl Events {
    pub(super) fn take(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for byte in chunk {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if line.is_empty() && !self.data.is_empty() {
                        whole.push(std::mem::take(&mut self.data));
                    } else if let Some(data) = line.strip_prefix(b"data:") {
                        self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
                    }
                }
                b'\r' => {}
                byte => self.line.push(*byte),
            }
        }
        whole
    }
}
