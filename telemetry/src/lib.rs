//! What keyrotate tells about itself while it works: logs, traces and metrics. Nothing here may hold the work up, and
//! nothing here names an object: keys are users' data.

mod about;
pub mod listen;
mod logs;
pub mod metrics;
pub mod names;
pub mod spans;
mod traces;

pub use logs::LogFormat;
pub use metrics::metrics;
pub use names::Role;
pub use tracing::Instrument;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::traces::Traces;

/// What a process tells, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// 0: logs what went wrong; 1: what is done; from 2 on everything. `RUST_LOG` says it more finely.
    pub verbose: u8,
    /// How log lines look.
    pub format: LogFormat,
    /// The name of the service in traces, unless `OTEL_SERVICE_NAME` gives another; `None`: no traces from here.
    pub service: Option<&'static str>,
}

/// Telemetry at work.
#[derive(Debug)]
#[must_use = "what it has not sent by its end is lost"]
pub struct Telemetry {
    traces: Option<Traces>,
}

/// Logs to standard error from now on, and sends traces where `OTEL_*` names a collector. Called once, outside of any
/// runtime, when rustls has its provider.
pub fn start(settings: Settings) -> Telemetry {
    let (traces, trouble) = match settings.service.map(traces::start) {
        Some(Ok(traces)) => (traces, None),
        Some(Err(trouble)) => (None, Some(trouble)),
        None => (None, None),
    };
    let layer = traces.as_ref().map(Traces::layer);
    Registry::default()
        .with(about::layer(traces.is_some()))
        .with(layer)
        .with(logs::layer(settings.verbose, settings.format))
        .init();
    if let Some(error) = trouble {
        tracing::error!(error, "no traces: what OTEL_* says can't be used");
    }
    Telemetry { traces }
}

impl Telemetry {
    /// Sends what is left, for a moment. Not within a runtime.
    pub fn end(self) {
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}
