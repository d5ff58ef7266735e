//! Logs go to standard error, as text or JSON. For the journal each line begins with its priority (sd-daemon(3)), which the
//! journal takes away again, and has no time, which it adds itself.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::config::{LogFormat, LogLevel};

/// Overrides `log.level` in the syntax of `RUST_LOG`: `debug`, `warn,turnwell::net=trace`, …
const VARIABLE: &str = "TURNWELL_LOG";
/// Names the device and inode of the journal's end of standard error (systemd.exec(5)).
const JOURNAL: &str = "JOURNAL_STREAM";

/// Changes the level while the server runs.
pub(super) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts logging; once per process.
    pub(super) fn start(format: LogFormat, level: LogLevel) -> Log {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let lines: Box<dyn Layer<_> + Send + Sync> = match (format, is_journal()) {
            (LogFormat::Json, true) => {
                lines.json().flatten_event(true).without_time().map_event_format(Prioritized).boxed()
            }
            (LogFormat::Json, false) => lines.json().flatten_event(true).boxed(),
            (LogFormat::Text, true) => lines.without_time().map_event_format(Prioritized).boxed(),
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

/// Whether standard error is what the variable names: it may have been inherited by a program whose output goes
/// elsewhere.
fn is_journal() -> bool {
    let about = || File::from(std::io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok();
    std::env::var(JOURNAL)
        .is_ok_and(|named| about().is_some_and(|about| named == format!("{}:{}", about.dev(), about.ino())))
}

/// Writes `<6>` and the like before each line.
struct Prioritized<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // the levels of syslog(3): error, warning, informational, debug
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
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
