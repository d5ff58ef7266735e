//! Logs go to standard error, as text or JSON; the journal adds the time itself.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::config::{LogFormat, LogLevel};

/// Overrides `log.level` in the syntax of `RUST_LOG`: `debug`, `warn,turnwell::net=trace`, …
const VARIABLE: &str = "TURNWELL_LOG";

/// Changes the level while the server runs.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts logging; once per process.
    pub(super) fn start(format: LogFormat, level: LogLevel) -> Log {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let journal = std::env::var_os("JOURNAL_STREAM").is_some();
        let lines: Box<dyn Layer<_> + Send + Sync> = match (format, journal) {
            (LogFormat::Json, _) => lines.json().flatten_event(true).boxed(),
            (LogFormat::Text, true) => lines.without_time().boxed(),
            (LogFormat::Text, false) => lines.boxed(),
        };
        // fails only when logging was started before, and then it goes on as it is
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Log { filter: handle }
    }

    /// Changes the level.
    pub(super) fn set_level(&self, level: LogLevel) {
        // fails only when the subscriber is gone, and with it the log
        let _ = self.filter.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let configured = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "warn,turnwell=info",
        LogLevel::Debug => "warn,turnwell=debug",
        LogLevel::Trace => "warn,turnwell=trace",
    };
    match std::env::var(VARIABLE).map(EnvFilter::try_new) {
        Ok(Ok(filter)) => filter,
        Ok(Err(error)) => {
            eprintln!("turnwell: {VARIABLE} is ignored: {error}");
            EnvFilter::new(configured)
        }
        Err(_) => EnvFilter::new(configured),
    }
}
