//! The store that a test works on, and what a child process must know to reach it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use keyrotate_devstack::model::{Mode, StoreModel};
use keyrotate_devstack::server::Faults;
use keyrotate_devstack::stack::{DevStack, StackConfig};

use crate::wait::until;

/// Names this variable's endpoint, the suite works there and nowhere else.
pub const ENDPOINT: &str = "KEYROTATE_ACCEPTANCE_ENDPOINT";
/// The path of moto's server.
pub const MOTO_SERVER: &str = "KEYROTATE_MOTO_SERVER";

/// The name of the target that is moto's server.
pub const MOTO: &str = "moto's server";

/// The operations that write an object.
pub const WRITES: [&str; 4] = ["PutObject", "CopyObject", "UpdateObjectEncryption", "CompleteMultipartUpload"];

/// A store.
#[derive(Debug)]
pub struct Target {
    /// Its name in messages.
    pub name: String,
    /// The mode of the embedded store that it behaves like.
    pub like: String,
    /// A client with nothing of keyrotate in it.
    pub client: Client,
    /// The key that objects are under.
    pub old_key: String,
    /// The key that they shall be under.
    pub new_key: String,
    variables: BTreeMap<String, String>,
    stack: Option<DevStack>,
    _moto: Option<Moto>,
}

impl Target {
    /// The embedded store and KES, in this process.
    ///
    /// # Panics
    /// When they can't be started.
    pub async fn embedded(mode: Mode) -> Self {
        let name = mode.name;
        let stack = DevStack::start(StackConfig::new(mode)).await.expect("the embedded stack starts");
        let variables = stack.variables();
        let client = client(&variables);
        let keys = ("key-a".to_owned(), "key-b".to_owned());
        let (name, like) = (format!("embedded {name}"), name.to_owned());
        Self { name, like, client, old_key: keys.0, new_key: keys.1, variables, stack: Some(stack), _moto: None }
    }

    /// moto's server, a process of its own. It has no KES.
    ///
    /// # Panics
    /// When it can't be started.
    pub async fn moto_server(path: &str) -> Self {
        let moto = Moto::start(path).await;
        let pairs = [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", moto.port)),
            ("AWS_ACCESS_KEY_ID", "moto".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "moto-secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        let variables: BTreeMap<_, _> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let client = client(&variables);
        let keys = ("key-a".to_owned(), "key-b".to_owned());
        let (name, like) = (MOTO.to_owned(), "moto".to_owned());
        Self { name, like, client, old_key: keys.0, new_key: keys.1, variables, stack: None, _moto: Some(moto) }
    }

    /// The store that the environment names, `None` when it names none.
    ///
    /// # Panics
    /// When it names one and leaves out what is needed to use it.
    #[must_use]
    pub fn external() -> Option<Self> {
        let endpoint = variable(ENDPOINT)?;
        let need = |name: &str| variable(name).unwrap_or_else(|| panic!("{ENDPOINT} is set, but {name} is not"));
        let names = std::env::vars().filter(|(name, _)| {
            name.starts_with("MINIO_KMS_KES_") || name == "AWS_CA_BUNDLE" || name == "AWS_SESSION_TOKEN"
        });
        let mut variables: BTreeMap<_, _> = names.collect();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            variables.insert(name.to_owned(), need(name));
        }
        variables.insert("AWS_ENDPOINT_URL".to_owned(), endpoint.clone());
        let region = variable("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
        variables.insert("AWS_REGION".to_owned(), region);
        Some(Self {
            name: endpoint,
            like: need("KEYROTATE_ACCEPTANCE_LIKE"),
            client: client(&variables),
            old_key: need("KEYROTATE_ACCEPTANCE_OLD_KEY"),
            new_key: need("KEYROTATE_ACCEPTANCE_NEW_KEY"),
            variables,
            stack: None,
            _moto: None,
        })
    }

    /// The environment of a child that shall use it.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The embedded stack behind it.
    #[must_use]
    pub fn stack(&self) -> Option<&DevStack> {
        self.stack.as_ref()
    }

    /// The store behind the embedded server.
    ///
    /// # Panics
    /// When the target is not embedded.
    #[must_use]
    pub fn model(&self) -> &StoreModel {
        self.stack.as_ref().expect("an embedded target").model()
    }

    /// The switches of the embedded server.
    ///
    /// # Panics
    /// When the target is not embedded.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.stack.as_ref().expect("an embedded target").s3().faults()
    }

    /// How many requests of these operations the embedded server has seen.
    #[must_use]
    pub fn requests(&self, operations: &[&str]) -> u64 {
        let seen = self.faults().requests();
        operations.iter().map(|operation| seen.get(operation).copied().unwrap_or(0)).sum()
    }

    /// A bucket name that no other test uses.
    #[must_use]
    pub fn new_bucket_name(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("keyrotate-test-{}-{number}", std::process::id())
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A client for the store that these variables name.
#[must_use]
pub fn client(variables: &BTreeMap<String, String>) -> Client {
    let of = |name: &str| variables.get(name).cloned();
    let need = |name: &str| of(name).unwrap_or_default();
    let token = of("AWS_SESSION_TOKEN");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(need("AWS_ENDPOINT_URL"))
        .credentials_provider(Credentials::new(
            need("AWS_ACCESS_KEY_ID"),
            need("AWS_SECRET_ACCESS_KEY"),
            token,
            None,
            "tests",
        ))
        .region(Region::new(need("AWS_REGION")))
        .retry_config(RetryConfig::disabled())
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// A running moto server. It is killed when dropped.
#[derive(Debug)]
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// moto can't be told to take a free port and say which: one is asked for, and another if somebody was faster.
    async fn start(path: &str) -> Self {
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
            let port = free.expect("there is a free port").port();
            let mut command = Command::new(path);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut moto = Self { child: child.unwrap_or_else(|e| panic!("`{path}` can't be run: {e}")), port };
            let answers = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            until("moto's server listens", || moto.ended() || answers()).await;
            if !moto.ended() {
                return moto;
            }
        }
        panic!("`{path}` ended five times before it listened");
    }

    fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
