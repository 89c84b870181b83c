//! The shared suite on a file, and what only a file has.

use super::*;
use crate::conformance;

async fn open(path: &Path) -> Arc<dyn Backend> {
    // A transaction that was under way when its backend was dropped may hold the file a moment longer.
    for _ in 0..200 {
        match FileBackend::open(path, Env::system()).await {
            Ok(backend) => return Arc::new(backend),
            Err(BackendError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the file stays in use")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    conformance::all(|| {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.path().join(n.to_string());
        async move { open(&path).await }
    })
    .await;
}

#[tokio::test]
async fn records_survive_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let reopen = |old| {
        drop(old);
        let path = path.clone();
        async move { open(&path).await }
    };
    conformance::survives(open(&path).await, reopen).await;
}

#[tokio::test]
async fn a_second_opening_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let _first = open(&path).await;
    let second = FileBackend::open(&path, Env::system()).await;
    assert!(matches!(second, Err(BackendError::InUse(name)) if name.ends_with("db")));
}

#[tokio::test]
async fn a_file_of_another_kind_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::write(&path, b"somebody's letters".repeat(500)).unwrap();
    assert!(matches!(FileBackend::open(&path, Env::system()).await, Err(BackendError::Damaged(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's letters".repeat(500));
}

#[tokio::test]
async fn a_swap_whose_asker_is_gone_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(&folder.path().join("db")).await;
    for n in 0..50_u8 {
        let write = Swap { writes: vec![(RecordKey(n.to_string()), Some(vec![n]))], ..Swap::default() };
        let _ = tokio::time::timeout(Duration::from_micros(u64::from(n) * 20), backend.swap(write)).await;
    }
    let last = Swap { writes: vec![(RecordKey("last".into()), Some(vec![]))], ..Swap::default() };
    let answer = tokio::time::timeout(Duration::from_secs(30), backend.swap(last)).await.unwrap().unwrap();
    assert!(matches!(answer, SwapAnswer::Done { .. }));
}

/// Not a test: prints commits per second. `cargo test -p keyrotate-checkpoint --release -- --ignored --nocapture speed`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement is for people")]
async fn speed() {
    let folder = tempfile::tempdir_in(std::env::var_os("SPEED_DIR").unwrap_or_else(|| ".".into())).unwrap();
    for committers in [1, 8, 32] {
        let backend = open(&folder.path().join(committers.to_string())).await;
        let env = Env::system();
        let begin = env.boottime();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..committers {
            let (backend, env) = (Arc::clone(&backend), env.clone());
            tasks.spawn(async move {
                let (key, mut done) = (RecordKey(format!("shard/{n}")), 0_u32);
                while env.boottime() - begin < Duration::from_secs(4) {
                    let before = backend.read(std::slice::from_ref(&key)).await.unwrap().records[0].clone();
                    let expect = vec![(key.clone(), before.map(|stored| stored.revision))];
                    let writes = vec![(key.clone(), Some(vec![b'x'; 900]))];
                    backend.swap(Swap { expect, writes, ..Swap::default() }).await.unwrap();
                    done += 1;
                }
                done
            });
        }
        let total: u32 = tasks.join_all().await.into_iter().sum();
        let seconds = (env.boottime() - begin).as_secs_f64();
        println!("{committers:3} committers: {:.0} commits/s", f64::from(total) / seconds);
    }
}
