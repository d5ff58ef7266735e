//! The end of a server that has calls: they run on, new ones are refused, and it ends with the last or in time.

use std::time::Instant;

use crate::served::{LOCAL, Served};
use crate::sessions::run;
use crate::support::PATIENCE;

fn with_timeout(timeout: &str) -> String {
    format!("{LOCAL}[server]\ndrain-timeout = \"{timeout}\"\n")
}

impl Served {
    /// Waits until it is not ready, and says why.
    fn draining(&self) {
        let start = Instant::now();
        loop {
            let (status, body) = self.server.ask("GET", "/readyz", None);
            if status == 503 {
                assert_eq!(body["code"], "draining", "{body}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{body}");
        }
    }
}

#[test]
fn calls_run_to_their_end_and_new_ones_are_refused() {
    let mut served = Served::start(&with_timeout("10m"));
    run(async {
        let calls = [served.call("alice").await.expect("a call"), served.call("bob").await.expect("a call")];
        served.server.wait_for_metric("turnwell_allocations{transport=\"udp\",family=\"ipv4\"}", 2);
        assert_eq!(served.server.ask("GET", "/readyz", None).0, 200);
        let carol = served.server.mint("carol");
        served.serve.process.signal("TERM");
        served.serve.notified("STOPPING=1");
        served.draining();
        assert!(served.call_with(&carol).await.is_err_and(|error| error.contains("508")));
        let status = served.serve.notified_with("EXTEND_TIMEOUT_USEC=");
        assert!(status.contains("STATUS=draining: 2 allocations"), "{status}");
        let [alice, bob] = calls;
        alice.echo(5, 20).await;
        alice.hang_up().await;
        bob.echo(5, 20).await;
        assert_eq!(served.server.sessions().len(), 1);
        bob.hang_up().await;
    });
    let (status, _) = served.serve.process.wait();
    assert!(status.success(), "{status}");
}

#[test]
fn new_calls_are_sent_to_the_alternate_while_the_server_drains() {
    let served = Served::start(&format!("{}alternate = [\"192.0.2.1:3478\"]\n", with_timeout("10m")));
    run(async {
        let call = served.call("alice").await.expect("a call, as nothing drains");
        let bob = served.server.mint("bob");
        served.serve.process.signal("TERM");
        served.draining();
        assert!(served.call_with(&bob).await.is_err_and(|error| error.contains("300")));
        call.echo(3, 20).await;
    });
}

#[test]
fn what_is_left_at_the_deadline_is_cut_off() {
    let mut served = Served::start(&with_timeout("2s"));
    run(async {
        let call = served.call("alice").await.expect("a call");
        let told = Instant::now();
        served.serve.process.signal("TERM");
        served.draining();
        call.echo(5, 20).await;
        let (status, _) = served.serve.process.wait();
        assert!(status.success(), "{status}");
        // not before its time; how long after is the machine's affair
        assert!(told.elapsed().as_secs() >= 2, "{:?}", told.elapsed());
        println!("ended {:?} after SIGTERM with a drain-timeout of 2 s", told.elapsed());
    });
    assert!(served.serve.process.log().contains("cut off"));
}

#[test]
fn a_second_term_or_an_interrupt_or_no_timeout_ends_at_once() {
    for (timeout, signals) in
        [("10m", &["TERM", "TERM"][..]), ("10m", &["TERM", "INT"]), ("10m", &["INT"]), ("0s", &["TERM"])]
    {
        let mut served = Served::start(&with_timeout(timeout));
        run(async {
            let _call = served.call("alice").await.expect("a call");
            for (number, signal) in signals.iter().enumerate() {
                if number > 0 {
                    served.draining();
                }
                served.serve.process.signal(signal);
            }
            let (status, _) = served.serve.process.wait();
            assert!(status.success(), "{timeout} {signals:?}: {status}");
        });
    }
}

#[test]
fn usr1_drains_without_an_end_and_the_timeout_can_be_reloaded() {
    let mut served = Served::start(&with_timeout("10m"));
    run(async {
        let call = served.call("alice").await.expect("a call");
        let bob = served.server.mint("bob");
        served.serve.process.signal("USR1");
        served.draining();
        assert!(served.call_with(&bob).await.is_err());
        call.echo(3, 20).await;
        served.rewrite(&with_timeout("0s"));
        assert_eq!(served.reload().0, 200);
        assert!(served.call_with(&bob).await.is_err(), "a reload does not end the drain");
        served.serve.process.signal("TERM");
        let (status, _) = served.serve.process.wait();
        assert!(status.success(), "{status}");
    });
}
