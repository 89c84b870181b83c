//! Logs, on standard error: for people or as JSON, each line with what it is about.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{DefaultFields, Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::about::About;
use crate::spans::TARGET;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{}` is no format of logs: `text` or `json`", text.escape_debug())),
        }
    }
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// The layer that writes them.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(verbose: u8, format: LogFormat) -> Boxed<S> {
    let level = match verbose {
        // What lapin says, keyrotate says in its own words; what s3s says, it answers.
        0 => {
            "keyrotate=warn,keyrotate_worker=warn,keyrotate_coordinator=warn,keyrotate_queue=warn,keyrotate_telemetry=warn,lapin=off,s3s=off,error"
        }
        1 => "keyrotate=debug,keyrotate_worker=debug,keyrotate_coordinator=debug,keyrotate_rewrap=debug,warn",
        _ => "trace,hyper=info,h2=info,rustls=info,aws_smithy_runtime=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // What our spans are about stands at the end of each line.
    let not_ours = filter_fn(|what| !what.is_span() || what.target() != TARGET);
    // With a hint, so that the other filter's stands: what nobody wants is not asked about then.
    let filter = filter.and(not_ours.with_max_level_hint(LevelFilter::TRACE));
    let colours = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => {
            let inner = Format::default().with_ansi(colours);
            let layer = layer.fmt_fields(DefaultFields::new()).event_format(Lines { inner, format });
            Box::new(layer.with_filter(filter))
        }
        LogFormat::Json => {
            let inner = Format::default().json().flatten_event(true).with_span_list(false).with_current_span(false);
            let layer = layer.fmt_fields(JsonFields::new()).event_format(Lines { inner, format });
            Box::new(layer.with_filter(filter))
        }
    }
}

/// Lines as `inner` makes them, with what they are about at their end.
struct Lines<F> {
    inner: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with(&line, &About::of(event), self.format)?)
    }
}

/// A line with something more at its end. The values are ids: there is nothing to escape.
fn with(line: &str, about: &About, format: LogFormat) -> Result<String, fmt::Error> {
    let line = line.trim_end_matches('\n');
    let mut more = String::new();
    match format {
        LogFormat::Text => {
            more.push_str(line);
            for (name, value) in about.fields() {
                write!(more, " {name}={value}")?;
            }
        }
        LogFormat::Json => {
            more.push_str(line.strip_suffix('}').unwrap_or(line));
            for (name, value) in about.fields() {
                write!(more, ",\"{name}\":\"{value}\"")?;
            }
            more.push('}');
        }
    }
    more.push('\n');
    Ok(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_what_it_is_about() {
        let about = About { job: Some("j1".into()), trace_id: Some("ab".into()), span_id: None };
        assert_eq!(with("WARN x\n", &about, LogFormat::Text).unwrap(), "WARN x job=j1 trace_id=ab\n");
        let json = with("{\"level\":\"WARN\"}\n", &about, LogFormat::Json).unwrap();
        assert_eq!(json, "{\"level\":\"WARN\",\"job\":\"j1\",\"trace_id\":\"ab\"}\n");
        assert_eq!(with("{\"a\":{}}\n", &About::default(), LogFormat::Json).unwrap(), "{\"a\":{}}\n");
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("`text` or `json`"));
    }
}
