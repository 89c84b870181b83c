//! The keys of a KES and everything it does with them, without sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_envelope::secret::{DataKey, Plaintext};
use keyrotate_kms::{Kms, KmsError, KmsErrorKind, Result, SealedKey, Status};
use zeroize::Zeroizing;

use super::policy::Policy;
use super::seal;
use super::shelf::{Shelf, StoredKey};

/// How a KES misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failure {
    /// Not at all.
    #[default]
    None,
    /// Its key store is gone: 502 on every call of a key.
    KeyStore,
    /// 503, as a load balancer before it would say.
    Unavailable,
    /// 403 on every call: whatever policy allowed it is revoked.
    Revoked,
    /// It takes the call and never answers.
    Hang,
    /// It takes no connection, or drops it at once.
    Refuse,
}

/// A KES: its keys, and one node's view of them.
///
/// Clones are the same node. [`KesModel::node`] makes another node on the same keys, with its own cache and failures;
/// [`KesModel::with_policy`] one that answers as to an identity with limited rights.
#[derive(Clone)]
pub struct KesModel {
    env: Env,
    shelf: Arc<Shelf>,
    node: Arc<Node>,
    policy: Option<Arc<Policy>>,
}

/// What belongs to one node and not to the keys.
#[derive(Default)]
struct Node {
    cache: Mutex<BTreeMap<String, (Arc<StoredKey>, Duration)>>,
    /// How long a key is answered from memory; zero asks the shelf each time.
    expiry: Duration,
    failure: Mutex<Failure>,
}

/// A key that was taken away, as a backup of the key store has it.
pub struct Backup {
    name: String,
    key: Arc<StoredKey>,
}

/// What `describe` tells of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it, empty where unknown.
    pub created_by: String,
}

impl KesModel {
    /// A KES without keys, in memory.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self::on(env, Shelf::in_memory())
    }

    /// A KES whose keys lie in `folder`, one file each. What was acknowledged survives a kill.
    ///
    /// # Errors
    /// The folder can't be made or read, or holds a file that is not a key of ours.
    pub fn open(folder: &Path, env: Env) -> io::Result<Self> {
        Ok(Self::on(env, Shelf::open(folder)?))
    }

    /// Another node on the same keys, which goes on to answer with a key for `cache_expiry` after it was deleted elsewhere.
    #[must_use]
    pub fn node(&self, cache_expiry: Duration) -> Self {
        let node = Node { expiry: cache_expiry, ..Node::default() };
        Self { node: Arc::new(node), policy: None, ..self.clone() }
    }

    /// The same node, as an identity under `policy` sees it.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        Self { policy: Some(Arc::new(policy)), ..self.clone() }
    }

    /// From now on this node misbehaves so.
    pub fn set_failure(&self, failure: Failure) {
        *self.node.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// How this node misbehaves.
    #[must_use]
    pub fn failure(&self) -> Failure {
        *self.node.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key with random material, `created_by` an identity or empty.
    ///
    /// # Errors
    /// The name is not a key's name, or there is one of that name.
    pub fn create(&self, name: &str, created_by: &str) -> Result<()> {
        let mut material = Zeroizing::new([0; 32]);
        self.env.fill(&mut *material);
        self.put("create", name, material, created_by)
    }

    /// Makes a key with given material.
    ///
    /// # Errors
    /// As [`KesModel::create`].
    pub fn import(&self, name: &str, material: Zeroizing<[u8; 32]>, created_by: &str) -> Result<()> {
        self.put("import", name, material, created_by)
    }

    /// Deletes a key; what it sealed is lost, on other nodes once their caches expired.
    ///
    /// # Errors
    /// There is no key of that name.
    pub fn delete_key(&self, name: &str) -> Result<()> {
        check_name("delete", name)?;
        self.forget(name);
        match self.shelf.remove(name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(not_found("delete", name)),
            Err(error) => Err(broken_store("delete", name, "failed to delete key", error)),
        }
    }

    /// Deletes a key, of which there is a backup.
    ///
    /// # Errors
    /// As [`KesModel::delete_key`].
    pub fn take_away(&self, name: &str) -> Result<Backup> {
        let key = self.shelf.get(name).ok_or_else(|| not_found("delete", name))?;
        self.delete_key(name)?;
        Ok(Backup { name: name.to_owned(), key })
    }

    /// Puts a key back, in the place of one that was made anew under its name.
    ///
    /// # Errors
    /// When its file can't be written.
    pub fn put_back(&self, backup: Backup) -> Result<()> {
        let Backup { name, key } = backup;
        if self.shelf.get(&name).is_some() {
            self.delete_key(&name)?;
        }
        match self.shelf.insert(&name, key) {
            Ok(_) => Ok(()),
            Err(error) => Err(broken_store("create", &name, "failed to create key", error)),
        }
    }

    /// Deletes a key and makes a new one under its name: the trap that only a canary sees.
    ///
    /// # Errors
    /// There is no key of that name.
    pub fn recreate(&self, name: &str) -> Result<()> {
        self.delete_key(name)?;
        self.create(name, "")
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shelf.names()
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// There is no key of that name.
    pub fn describe(&self, name: &str) -> Result<Description> {
        let key = self.key("describe", name)?;
        Ok(Description { created_at: key.created_at, created_by: key.created_by.clone() })
    }

    /// 502 while the key store is gone.
    pub(super) fn store_answers(&self, operation: &'static str, name: &str) -> Result<()> {
        let message = match operation {
            "create" | "import" => "failed to create key",
            "delete" => "failed to delete key",
            "list" => "failed to list keys",
            _ => "failed to read key",
        };
        match self.failure() {
            Failure::KeyStore => Err(answer(operation, name, KmsErrorKind::Server, 502, message)),
            _ => Ok(()),
        }
    }

    /// Clock and randomness that it was made with.
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// A fresh data key, without asking the policy or failing as told.
    pub(super) fn generate_now(&self, name: &str, context: &[u8]) -> Result<SealedKey> {
        let key = self.key("generate", name)?;
        let mut plaintext = Zeroizing::new([0; 32]);
        self.env.fill(&mut *plaintext);
        let ciphertext = seal::seal(&self.env, &key.material, &*plaintext, context);
        Ok(SealedKey { plaintext: DataKey::new(plaintext), ciphertext })
    }

    /// Seals bytes of the caller's.
    pub(super) fn encrypt_now(&self, name: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let key = self.key("encrypt", name)?;
        Ok(seal::seal(&self.env, &key.material, plaintext, context))
    }

    /// Opens a ciphertext.
    pub(super) fn decrypt_now(&self, name: &str, ciphertext: &[u8], context: &[u8]) -> Result<Plaintext> {
        let key = self.key("decrypt", name)?;
        let opened = seal::open(&key.material, ciphertext, context).map(Plaintext::new);
        opened.ok_or_else(|| {
            answer("decrypt", name, KmsErrorKind::NotAuthentic, 400, "decryption failed: ciphertext is not authentic")
        })
    }

    /// HMAC-SHA256 under the key's second secret.
    pub(super) fn hmac_now(&self, name: &str, message: &[u8]) -> Result<[u8; 32]> {
        let key = self.key("hmac", name)?;
        let Some(secret) = &key.hmac else {
            return Err(answer("hmac", name, KmsErrorKind::Refused, 409, "key does not support HMAC"));
        };
        Ok(seal::hmac(secret, message))
    }

    fn on(env: Env, shelf: Shelf) -> Self {
        Self { env, shelf: Arc::new(shelf), node: Arc::default(), policy: None }
    }

    fn put(&self, operation: &'static str, name: &str, material: Zeroizing<[u8; 32]>, created_by: &str) -> Result<()> {
        check_name(operation, name)?;
        let mut hmac = Zeroizing::new([0; 32]);
        self.env.fill(&mut *hmac);
        let created_by = created_by.to_owned();
        let key = StoredKey { material, hmac: Some(hmac), created_at: self.env.now(), created_by };
        match self.shelf.insert(name, key) {
            Ok(true) => Ok(()),
            Ok(false) => Err(answer(operation, name, KmsErrorKind::KeyExists, 400, "key already exists")),
            Err(error) => Err(broken_store(operation, name, "failed to create key", error)),
        }
    }

    /// The key by its name, from this node's cache while that is young.
    fn key(&self, operation: &'static str, name: &str) -> Result<Arc<StoredKey>> {
        check_name(operation, name)?;
        let now = self.env.boottime();
        let mut cache = self.node.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, since)) = cache.get(name)
            && now.saturating_sub(*since) < self.node.expiry
        {
            return Ok(Arc::clone(key));
        }
        cache.remove(name);
        let key = self.shelf.get(name).ok_or_else(|| not_found(operation, name))?;
        if !self.node.expiry.is_zero() {
            cache.insert(name.to_owned(), (Arc::clone(&key), now));
        }
        Ok(key)
    }

    fn forget(&self, name: &str) {
        self.node.cache.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What stands before every call through the trait: failures, then rights.
    async fn admit(&self, operation: &'static str, name: &str, path: &str) -> Result<()> {
        match self.failure() {
            Failure::None => {}
            Failure::KeyStore if operation == "status" => {}
            Failure::KeyStore => self.store_answers(operation, name)?,
            Failure::Unavailable => {
                return Err(answer(operation, name, KmsErrorKind::Server, 503, "service unavailable"));
            }
            Failure::Revoked => return Err(not_allowed(operation, name)),
            Failure::Hang => std::future::pending().await,
            Failure::Refuse => {
                return Err(KmsError::new(operation, name, KmsErrorKind::Unreachable, "no connection"));
            }
        }
        match &self.policy {
            Some(policy) if !policy.allows(path) => Err(not_allowed(operation, name)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Kms for KesModel {
    async fn create_key(&self, key: &str) -> Result<()> {
        self.admit("create", key, &format!("/v1/key/create/{key}")).await?;
        self.create(key, "")
    }

    async fn generate(&self, key: &str, context: &[u8]) -> Result<SealedKey> {
        self.admit("generate", key, &format!("/v1/key/generate/{key}")).await?;
        self.generate_now(key, context)
    }

    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        self.admit("encrypt", key, &format!("/v1/key/encrypt/{key}")).await?;
        self.encrypt_now(key, plaintext, context)
    }

    async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[u8]) -> Result<Plaintext> {
        self.admit("decrypt", key, &format!("/v1/key/decrypt/{key}")).await?;
        self.decrypt_now(key, ciphertext, context)
    }

    async fn list_keys(&self, prefix: &str) -> Result<Vec<String>> {
        self.admit("list", "", &format!("/v1/key/list/{prefix}")).await?;
        Ok(self.names().into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    async fn status(&self) -> Result<Status> {
        self.admit("status", "", "/v1/status").await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            keystore_unreachable: self.failure() == Failure::KeyStore,
        })
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for KesModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KesModel").field("keys", &self.names()).finish_non_exhaustive()
    }
}

/// Whether KES takes `name` as the name of a key: 1 to 80 letters, digits, `_` and `-`, no `-` at either end.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    letters && (1..=80).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-') && name != "_"
}

pub(super) fn not_allowed(operation: &'static str, name: &str) -> KmsError {
    answer(operation, name, KmsErrorKind::NotAllowed, 403, "not authorized: insufficient permissions")
}

pub(super) fn check_name(operation: &'static str, name: &str) -> Result<()> {
    if is_key_name(name) {
        return Ok(());
    }
    let message = format!("key name '{name}' is empty, too long or contains invalid characters");
    Err(answer(operation, name, KmsErrorKind::Refused, 400, message))
}

fn not_found(operation: &'static str, name: &str) -> KmsError {
    answer(operation, name, KmsErrorKind::KeyNotFound, 404, "key does not exist")
}

fn broken_store(operation: &'static str, name: &str, message: &str, error: io::Error) -> KmsError {
    KmsError { source: Some(Box::new(error)), ..answer(operation, name, KmsErrorKind::Server, 502, message) }
}

fn answer(op: &'static str, name: &str, kind: KmsErrorKind, status: u16, message: impl Into<String>) -> KmsError {
    KmsError { status: Some(status), ..KmsError::new(op, name, kind, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> KesModel {
        let model = KesModel::new(Env::system());
        model.create("old", "").unwrap();
        model
    }

    #[tokio::test]
    async fn a_key_opens_its_own_and_only_its_own() {
        let kes = model();
        kes.create_key("new").await.unwrap();
        let sealed = kes.generate("old", b"ctx").await.unwrap();
        assert_eq!(sealed.ciphertext.len(), 76);
        let opened = kes.decrypt("old", &sealed.ciphertext, b"ctx").await.unwrap();
        assert_eq!(opened.expose(), sealed.plaintext.expose());
        for (key, context) in [("old", b"".as_slice()), ("new", b"ctx")] {
            let error = kes.decrypt(key, &sealed.ciphertext, context).await.err().unwrap();
            assert_eq!((error.kind, error.status), (KmsErrorKind::NotAuthentic, Some(400)));
        }
        assert_eq!(kes.create_key("new").await.unwrap_err().kind, KmsErrorKind::KeyExists);
        assert_eq!(kes.create_key("a.b").await.unwrap_err().kind, KmsErrorKind::Refused);
        assert_eq!(kes.generate("gone", b"").await.err().unwrap().kind, KmsErrorKind::KeyNotFound);
        assert_eq!(kes.list_keys("n").await.unwrap(), ["new"]);
    }

    #[tokio::test]
    async fn a_key_made_anew_opens_nothing_of_the_one_before() {
        let kes = model();
        let sealed = kes.generate("old", b"").await.unwrap();
        kes.recreate("old").unwrap();
        let error = kes.decrypt("old", &sealed.ciphertext, b"").await.err().unwrap();
        assert_eq!(error.kind, KmsErrorKind::NotAuthentic);
    }

    #[tokio::test]
    async fn a_key_that_is_put_back_opens_what_it_sealed_also_where_one_was_made_anew() {
        let kes = model();
        let sealed = kes.generate("old", b"").await.unwrap();
        for anew in [false, true] {
            let backup = kes.take_away("old").unwrap();
            let error = kes.decrypt("old", &sealed.ciphertext, b"").await.err().unwrap();
            assert_eq!(error.kind, KmsErrorKind::KeyNotFound);
            if anew {
                kes.create("old", "").unwrap();
            }
            kes.put_back(backup).unwrap();
            kes.decrypt("old", &sealed.ciphertext, b"").await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_node_answers_with_a_deleted_key_until_its_cache_expires() {
        let kes = KesModel::new(Env::seeded(1, Timestamp::UNIX_EPOCH));
        kes.create("old", "").unwrap();
        let other = kes.node(Duration::from_secs(30));
        let sealed = other.generate("old", b"").await.unwrap();
        kes.delete_key("old").unwrap();
        tokio::time::sleep(Duration::from_secs(29)).await;
        other.decrypt("old", &sealed.ciphertext, b"").await.unwrap();
        assert_eq!(kes.generate("old", b"").await.err().unwrap().kind, KmsErrorKind::KeyNotFound);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let error = other.decrypt("old", &sealed.ciphertext, b"").await.err().unwrap();
        assert_eq!(error.kind, KmsErrorKind::KeyNotFound);
    }

    #[tokio::test]
    async fn keys_survive_in_their_folder_readable_by_nobody_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let kes = KesModel::open(folder.path(), Env::system()).unwrap();
        kes.create("old", "me").unwrap();
        kes.create("gone", "").unwrap();
        let sealed = kes.generate("old", b"ctx").await.unwrap();
        let mac = kes.hmac_now("old", b"hello").unwrap();
        kes.delete_key("gone").unwrap();
        std::fs::write(folder.path().join("half.new"), b"{").unwrap();

        let again = KesModel::open(folder.path(), Env::system()).unwrap();
        assert_eq!(again.names(), ["old"]);
        assert_eq!(again.describe("old").unwrap(), kes.describe("old").unwrap());
        again.decrypt("old", &sealed.ciphertext, b"ctx").await.unwrap();
        assert_eq!(again.hmac_now("old", b"hello").unwrap(), mac);
        let mode = std::fs::metadata(folder.path().join("old")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn rights_and_failures_are_those_of_the_view_and_the_node() {
        let kes = model();
        let app = kes.with_policy(Policy::vendor_guide());
        app.generate("old", b"").await.unwrap();
        assert_eq!(app.list_keys("").await.unwrap_err().kind, KmsErrorKind::NotAllowed);
        let other = kes.node(Duration::ZERO);
        other.set_failure(Failure::Unavailable);
        assert_eq!(other.generate("old", b"").await.err().unwrap().kind, KmsErrorKind::Server);
        kes.generate("old", b"").await.unwrap();
        kes.set_failure(Failure::KeyStore);
        assert!(app.status().await.unwrap().keystore_unreachable);
    }
}
