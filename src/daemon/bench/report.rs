//! What a run found, as text and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::args::{Mode, Pace, Plan, Transport};
use super::histogram::Histogram;

/// A run's result. Figures that the mode does not have are absent.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) mode: Mode,
    pub(super) transport: Transport,
    pub(super) indications: bool,
    pub(super) server: String,
    pub(super) clients: usize,
    pub(super) peers: u32,
    pub(super) payload: u16,
    pub(super) burst: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<f64>,
    /// How long it took to allocate and connect all clients.
    pub(super) setup_seconds: f64,
    #[serde(flatten)]
    pub(super) found: Found,
}

/// What was counted and measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Found {
    /// From the first packet sent to the last one received.
    pub(super) seconds: f64,
    /// Packets (requests, round trips, cycles) that were begun.
    pub(super) offered: u64,
    /// Those that arrived (were answered, came back, ended well).
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) loss_percent: f64,
    pub(super) per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) round_trip: Option<RoundTrip>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_process: Option<ServerCost>,
    /// CPU time of this process per packet delivered.
    pub(super) generator_cpu_us: f64,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct RoundTrip {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// The server's process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct ServerCost {
    /// CPU time per packet delivered.
    pub(super) cpu_us: f64,
    /// CPU time in all.
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    /// How much the resident memory grew, for each allocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_per_allocation: Option<f64>,
}

#[allow(clippy::cast_precision_loss, reason = "counts that fit into 52 bits")]
impl Found {
    /// The figures that follow from the counts.
    pub(super) fn new(offered: u64, delivered: u64, elapsed: Duration, generator: Duration) -> Found {
        let lost = offered.saturating_sub(delivered);
        let seconds = elapsed.as_secs_f64();
        Found {
            seconds,
            offered,
            delivered,
            lost,
            loss_percent: if offered == 0 { 0.0 } else { lost as f64 * 100.0 / offered as f64 },
            per_second: if seconds > 0.0 { delivered as f64 / seconds } else { 0.0 },
            round_trip: None,
            server_process: None,
            generator_cpu_us: micros_each(generator, delivered),
        }
    }
}

impl RoundTrip {
    /// `None` when nothing came back.
    pub(super) fn new(times: &Histogram) -> Option<RoundTrip> {
        let micros = |share| times.quantile(share).map(|duration| duration.as_secs_f64() * 1e6);
        Some(RoundTrip {
            p50_us: micros(0.5)?,
            p90_us: micros(0.9)?,
            p99_us: micros(0.99)?,
            max_us: times.longest().as_secs_f64() * 1e6,
        })
    }
}

/// Microseconds for each of `count`; 0 when there are none.
#[allow(clippy::cast_precision_loss, reason = "counts that fit into 52 bits")]
pub(super) fn micros_each(time: Duration, count: u64) -> f64 {
    if count == 0 { 0.0 } else { time.as_secs_f64() * 1e6 / count as f64 }
}

impl Report {
    pub(super) fn new(plan: &Plan, setup: Duration, found: Found) -> Report {
        let (window, rate) = match plan.pace {
            Pace::Window(window) => (Some(window), None),
            Pace::Rate(rate) => (None, Some(rate)),
        };
        Report {
            mode: plan.args.mode,
            transport: plan.args.transport,
            indications: plan.args.indications,
            server: plan.server.to_string(),
            clients: plan.clients,
            peers: plan.args.peers,
            payload: plan.args.payload,
            burst: plan.burst,
            window,
            rate,
            setup_seconds: setup.as_secs_f64(),
            found,
        }
    }

    /// One line.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let found = &self.found;
        let (what, each) = self.nouns();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<12}{value}");
        };
        line("load", self.load());
        line("set-up", format!("{:.3} s", self.setup_seconds));
        line(what, format!("{} of {} in {:.2} s", found.delivered, found.offered, found.seconds));
        line("lost", format!("{} ({:.3} %)", found.lost, found.loss_percent));
        line("rate", format!("{:.0} {what} a second", found.per_second));
        if let Some(times) = found.round_trip {
            let RoundTrip { p50_us, p90_us, p99_us, max_us } = times;
            line("round trip", format!("p50 {p50_us:.0} µs, p90 {p90_us:.0}, p99 {p99_us:.0}, max {max_us:.0}"));
        }
        if let Some(cost) = found.server_process {
            line("server", format!("{:.2} µs of CPU {each}, {:.3} s in all", cost.cpu_us, cost.cpu_seconds));
            let growth = cost.bytes_per_allocation.map(|bytes| format!(", {:.2} KiB an allocation", bytes / 1024.0));
            let resident = cost.resident_bytes / 1024;
            line("memory", format!("{resident} KiB resident{}", growth.unwrap_or_default()));
        }
        line("generator", format!("{:.2} µs of CPU {each}", found.generator_cpu_us));
        out
    }

    fn nouns(&self) -> (&'static str, &'static str) {
        match self.mode {
            Mode::Binding | Mode::Forged => ("requests", "a request"),
            Mode::PingPong => ("trips", "a round trip"),
            Mode::Allocate => ("cycles", "a cycle"),
            Mode::Hold => ("allocations", "an allocation"),
            Mode::ClientToPeer | Mode::PeerToClient | Mode::Both | Mode::RelayToRelay => ("packets", "a packet"),
        }
    }

    fn load(&self) -> String {
        let name = serde_json::to_string(&self.mode).unwrap_or_default();
        let frames = if self.indications { ", indications" } else { "" };
        let pace = match (self.rate, self.window) {
            (Some(rate), _) => format!("{rate:.0} a second"),
            (None, Some(window)) => format!("{window} under way"),
            (None, None) => String::new(),
        };
        let (clients, payload, burst) = (self.clients, self.payload, self.burst);
        let sizes = match self.mode {
            Mode::Binding | Mode::Forged | Mode::Allocate | Mode::Hold => String::new(),
            Mode::PingPong => format!(", {payload} bytes"),
            Mode::ClientToPeer | Mode::PeerToClient | Mode::Both | Mode::RelayToRelay => {
                format!(", {payload} bytes, bursts of {burst}, {pace}")
            }
        };
        format!("{}{frames}: {clients} clients{sizes}", name.trim_matches('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_counts() {
        let found = Found::new(1000, 900, Duration::from_secs(2), Duration::from_millis(9));
        assert_eq!((found.lost, found.loss_percent, found.per_second), (100, 10.0, 450.0));
        assert!((found.generator_cpu_us - 10.0).abs() < 1e-9);
        let nothing = Found::new(0, 0, Duration::ZERO, Duration::ZERO);
        assert_eq!((nothing.loss_percent, nothing.per_second, nothing.generator_cpu_us), (0.0, 0.0, 0.0));
    }

    #[test]
    fn absent_figures_are_absent() {
        let found = serde_json::to_value(Found::new(1, 1, Duration::from_secs(1), Duration::ZERO)).unwrap();
        assert!(found.get("round_trip").is_none() && found.get("server_process").is_none());
        assert!(RoundTrip::new(&Histogram::new()).is_none());
    }
}
