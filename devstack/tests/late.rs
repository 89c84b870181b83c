//! A write that arrives long after it was asked whether it may begin dies with its signature.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keyrotate_devstack::kes::KesModel;
use keyrotate_devstack::model::{BucketSettings, Mode, StoreModel};
use keyrotate_devstack::server::{S3Server, S3ServerConfig};
use keyrotate_env::Env;
use keyrotate_store::s3::{S3Config, S3Store};
use keyrotate_store::wrap::fenced::{Deadline, Fenced};
use keyrotate_store::{
    Body, ErrorKind, Guard, HeadRequest, InPlace, NewObject, ObjectAt, PutRequest, Result, Store, Written,
};

const LEASE: Duration = Duration::from_secs(3600);

/// Makes a write under a lease of a process that was frozen for so long between the question and the sending.
async fn write_late(store: &impl Store, frozen: SignedDuration) -> Result<Written> {
    let env = Env::seeded(1, Env::system().now() - frozen);
    let lease = Deadline::new(env.clone(), env.boottime() + LEASE, LEASE);
    lease.bounds(write(store)).await
}

async fn write(store: &impl Store) -> Result<Written> {
    let at = ObjectAt::current("bucket", "k");
    let request = PutRequest { at, new: NewObject::default(), guard: Guard::None, place: InPlace::default() };
    store.put(request, Body::Bytes("body".into())).await
}

#[tokio::test]
async fn a_write_is_as_old_as_the_question_whether_it_may_begin() {
    let env = Env::system();
    let model = StoreModel::new(Mode::minio(), Arc::new(KesModel::new(env.clone())), env);
    model.create_bucket("bucket", BucketSettings::plain()).unwrap();
    let config = S3ServerConfig {
        addr: "127.0.0.1:0".parse().unwrap(),
        access_key: "access".to_owned(),
        secret_key: "secret".to_owned(),
        region: "us-east-1".to_owned(),
    };
    let server = S3Server::start(model.clone(), config).await.unwrap();
    let config = S3Config { endpoint: Some(server.endpoint()), ..S3Config::default() }.with_keys("access", "secret");
    let store = Fenced::new(S3Store::connect(config).await.unwrap());

    let head = || model.head(HeadRequest::of(&ObjectAt::current("bucket", "k")));
    let error = write_late(&store, SignedDuration::from_mins(16)).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::ClockSkew, Some(403)), "{error}");
    assert_eq!(head().await.unwrap_err().kind, ErrorKind::NotFound, "it was written all the same");
    write_late(&store, SignedDuration::from_mins(14)).await.unwrap();
    head().await.unwrap();
    write(&store).await.unwrap();
}
