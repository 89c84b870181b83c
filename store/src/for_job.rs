//! Which job requests are made for, so that whoever reads a store's access log finds it there: the `User-Agent` ends in
//! `keyrotate-job/JOB`.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    static JOB: String;
}

/// Does `work`: the requests in it are made for that job. Tasks that it spawns are not part of it.
pub async fn for_job<T>(job: String, work: impl Future<Output = T>) -> T {
    JOB.scope(job, work).await
}

/// Adds the job to what the SDK says of itself. That header is not signed.
#[derive(Debug)]
pub(crate) struct SaysJob;

impl Intercept for SaysJob {
    fn name(&self) -> &'static str {
        "keyrotate-job"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(job) = JOB.try_with(String::clone) else { return Ok(()) };
        let headers = context.request_mut().headers_mut();
        let agent = headers.get("user-agent").unwrap_or_default().to_owned();
        headers.try_insert("user-agent", format!("{agent} keyrotate-job/{job}").trim().to_owned())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::s3::{S3Config, S3Store};
    use crate::{HeadRequest, ObjectAt, Store as _};

    #[tokio::test]
    async fn the_user_agent_names_program_version_and_job() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        let store =
            S3Store::connect(S3Config { endpoint, ..S3Config::default() }.with_keys("id", "secret")).await.unwrap();
        let head = HeadRequest::of(&ObjectAt { bucket: "b".into(), key: "k".into(), version: None });
        let asked = tokio::spawn(for_job("01m80khdbhdmdvx72mhfk8cdj4".into(), async move { store.head(head).await }));
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 65_536];
        let length = stream.read(&mut request).await.unwrap();
        drop(stream);
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let agent = request.lines().find(|line| line.starts_with("user-agent:")).unwrap();
        assert!(agent.contains(concat!("app/keyrotate-", env!("CARGO_PKG_VERSION"))), "{agent}");
        assert!(agent.ends_with(" keyrotate-job/01m80khdbhdmdvx72mhfk8cdj4"), "{agent}");
        asked.abort();
    }
}
