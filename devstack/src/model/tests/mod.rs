//! Tests of the store model: what stores do, by mode, and what must hold in any of them.

mod copies;
mod encryption;
mod faults;
mod folder;
mod guards;
mod history;
mod in_place;
mod listing;
mod multipart;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use keyrotate_env::Env;
use keyrotate_envelope::secret::{DataKey, Plaintext};
use keyrotate_kms::{Kms, KmsError, KmsErrorKind, SealedKey, Status};
use keyrotate_proto::key::KeyName;
use keyrotate_store::*;
use zeroize::Zeroizing;

use super::*;

/// A KMS of a few lines: keys by name, each sealing with AES-GCM.
#[derive(Debug, Default)]
pub(super) struct TinyKms(Mutex<BTreeMap<String, [u8; 32]>>);

impl TinyKms {
    pub(super) fn delete(&self, key: &str) {
        assert!(self.0.lock().unwrap().remove(key).is_some());
    }

    fn cipher(&self, operation: &'static str, key: &str) -> keyrotate_kms::Result<Aes256Gcm> {
        let missing = || KmsError::new(operation, key, KmsErrorKind::KeyNotFound, "key does not exist");
        let material = *self.0.lock().unwrap().get(key).ok_or_else(missing)?;
        Ok(Aes256Gcm::new(&material.into()))
    }
}

#[async_trait]
impl Kms for TinyKms {
    async fn create_key(&self, key: &str) -> keyrotate_kms::Result<()> {
        let mut material = [0; 32];
        Env::system().fill(&mut material);
        let mut keys = self.0.lock().unwrap();
        if keys.contains_key(key) {
            return Err(KmsError::new("create", key, KmsErrorKind::KeyExists, "key already exists"));
        }
        keys.insert(key.to_owned(), material);
        Ok(())
    }

    async fn generate(&self, key: &str, context: &[u8]) -> keyrotate_kms::Result<SealedKey> {
        let cipher = self.cipher("generate", key)?;
        let (mut plain, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
        Env::system().fill(&mut *plain);
        Env::system().fill(&mut nonce);
        let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: &*plain, aad: context }).unwrap();
        Ok(SealedKey { plaintext: DataKey::new(plain), ciphertext: [&nonce[..], &sealed].concat() })
    }

    async fn encrypt(&self, key: &str, plaintext: &[u8], context: &[u8]) -> keyrotate_kms::Result<Vec<u8>> {
        let (cipher, mut nonce) = (self.cipher("encrypt", key)?, [0; 12]);
        Env::system().fill(&mut nonce);
        let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: plaintext, aad: context }).unwrap();
        Ok([&nonce[..], &sealed].concat())
    }

    async fn decrypt(&self, key: &str, ciphertext: &[u8], context: &[u8]) -> keyrotate_kms::Result<Plaintext> {
        let cipher = self.cipher("decrypt", key)?;
        let nonce = <[u8; 12]>::try_from(&ciphertext[..12]).unwrap();
        let opened = cipher.decrypt(&Nonce::from(nonce), Payload { msg: &ciphertext[12..], aad: context });
        let wrong = |_| KmsError::new("decrypt", key, KmsErrorKind::NotAuthentic, "ciphertext is not authentic");
        Ok(Plaintext::new(Zeroizing::new(opened.map_err(wrong)?)))
    }

    async fn list_keys(&self, _: &str) -> keyrotate_kms::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    async fn status(&self) -> keyrotate_kms::Result<Status> {
        Ok(Status { version: "tiny".to_owned(), keystore_unreachable: false })
    }
}

pub(super) struct World {
    pub(super) model: StoreModel,
    pub(super) kms: Arc<TinyKms>,
    pub(super) env: Env,
}

pub(super) fn key(name: &str) -> Sse {
    Sse::Kms { key: Some(KeyName(name.to_owned())), context: None, bucket_key: None }
}

pub(super) fn at(name: &str) -> ObjectAt {
    ObjectAt::current("b", name)
}

pub(super) fn under(sse: Sse) -> NewObject {
    NewObject { sse, ..NewObject::default() }
}

pub(super) fn start() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// A store with one bucket `b` and the keys `old` and `new`; parts may be small.
pub(super) async fn world(mode: Mode, settings: BucketSettings) -> World {
    let (kms, env) = (Arc::new(TinyKms::default()), Env::seeded(1, start()));
    kms.create_key("old").await.unwrap();
    kms.create_key("new").await.unwrap();
    let model = StoreModel::new(Mode { min_part: 1, ..mode }, kms.clone(), env.clone());
    model.create_bucket("b", settings).unwrap();
    World { model, kms, env }
}

impl World {
    pub(super) async fn put(&self, name: &str, sse: Sse, body: &'static str) -> Written {
        self.put_new(name, under(sse), body).await
    }

    pub(super) async fn put_new(&self, name: &str, new: NewObject, body: &'static str) -> Written {
        self.try_put(at(name), new, Guard::None, InPlace::default(), body).await.unwrap()
    }

    pub(super) async fn try_put(
        &self,
        at: ObjectAt,
        new: NewObject,
        guard: Guard,
        place: InPlace,
        body: &'static str,
    ) -> Result<Written> {
        self.model.put(PutRequest { at, new, guard, place }, Bytes::from_static(body.as_bytes()).into()).await
    }

    pub(super) async fn head(&self, at: &ObjectAt) -> Object {
        self.model.head(HeadRequest::of(at)).await.unwrap()
    }

    pub(super) async fn body(&self, at: &ObjectAt) -> Result<Bytes> {
        self.model.get(GetRequest::of(at)).await?.1.collect().await
    }

    /// Onto itself, directive COPY, under another key.
    pub(super) fn copy_of(&self, name: &str, sse: Sse) -> CopyRequest {
        CopyRequest {
            source: at(name),
            source_if_match: None,
            to: name.to_owned(),
            guard: Guard::None,
            sse,
            directive: Directive::Copy,
            storage_class: None,
            lock: Lock::default(),
            website_redirect: None,
        }
    }

    pub(super) async fn list(&self, versions: bool, from: ListFrom, limit: u32) -> ListPage {
        let (bucket, prefix) = ("b".to_owned(), String::new());
        let request = ListRequest { bucket, prefix, versions, from, limit, with_facts: true };
        self.model.list(request).await.unwrap()
    }

    pub(super) async fn entries(&self, versions: bool) -> Vec<Entry> {
        self.list(versions, ListFrom::Start, 1000).await.entries
    }
}

pub(super) async fn later(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

pub(super) fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.unwrap_err().kind
}

pub(super) fn if_match(etag: &str) -> Guard {
    Guard::IfMatch(etag.to_owned())
}

pub(super) fn bad() -> Guard {
    if_match("00000000000000000000000000000000")
}
