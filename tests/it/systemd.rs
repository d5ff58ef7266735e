//! What systemd sees of the server, on a socket of the test's own.

use crate::served::{LOCAL, Served};

#[test]
fn the_watchdog_is_fed_while_the_workers_answer() {
    let served = Served::start_with(LOCAL, &[("WATCHDOG_USEC", "300000")]);
    for _ in 0..3 {
        served.serve.notified("WATCHDOG=1");
    }
    served.serve.process.signal("HUP");
    let reloading = served.serve.notified("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    served.serve.notified("READY=1");
    served.serve.notified("WATCHDOG=1");
}

#[test]
fn nothing_feeds_a_watchdog_that_nobody_asked_for() {
    let mut served = Served::start(LOCAL);
    served.serve.process.signal("TERM");
    assert!(served.serve.process.wait().0.success());
    assert!(!served.serve.rest().contains("WATCHDOG"));
}
