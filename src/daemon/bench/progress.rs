//! One line on a terminal that says how far a run is. Silent when standard error is no terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const WIDTH: usize = 30;
const INTERVAL: Duration = Duration::from_millis(200);

/// The line.
pub(super) struct Progress {
    shown: bool,
    next: Instant,
}

impl Progress {
    /// Shown only when a human looks.
    pub(super) fn new() -> Progress {
        Progress { shown: stderr().is_terminal(), next: Instant::now() }
    }

    /// Redraws at most five times a second.
    pub(super) fn show(&mut self, now: Instant, what: &str, share: f64, figure: impl FnOnce() -> String) {
        if self.shown && now >= self.next {
            self.next = now + INTERVAL;
            // A terminal that is gone is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[K{} {}", bar(what, share), figure());
        }
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "0 to WIDTH")]
fn bar(what: &str, share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * WIDTH as f64).round() as usize;
    format!("{what:<10} [{}{}] {:3.0} %", "#".repeat(full), ".".repeat(WIDTH - full), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar("x", 0.0), format!("x          [{}]   0 %", ".".repeat(30)));
        assert_eq!(bar("x", 0.5), format!("x          [{}{}]  50 %", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar("x", 2.0), format!("x          [{}] 100 %", "#".repeat(30)));
    }
}
