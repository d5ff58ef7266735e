//! Starts `turnwell` as a child process, waits for its readiness, and ends it by its id.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub(crate) const TURNWELL: &str = env!("CARGO_BIN_EXE_turnwell");
/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What it took the quickest of three times: one is easily held up by the machine, all three by the program alone.
pub(crate) fn quickest(mut one: impl FnMut() -> Duration) -> Duration {
    let [first, second, third] = [(); 3].map(|()| one());
    first.min(second).min(third)
}

/// A child process whose log is kept; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
}

/// What came on standard error, and whether it has ended; with whoever waits for more.
#[derive(Default)]
struct Log(Mutex<(String, bool)>, Condvar);

impl Log {
    /// Reads to the end; wakes those who wait at each line.
    fn read(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).0.push_str(&String::from_utf8_lossy(&line));
            self.1.notify_all();
            line.clear();
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.1.notify_all();
    }

    /// The whole text once it is so, or has ended, or patience has; and whether it is so.
    fn when(&self, is_so: impl Fn(&str) -> bool) -> (String, bool) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(held, PATIENCE, |(text, ended)| !is_so(text) && !*ended);
        let text = waited.unwrap_or_else(PoisonError::into_inner).0.0.clone();
        let is_so = is_so(&text);
        (text, is_so)
    }
}

impl Process {
    /// Starts a program, and reads its log.
    pub(crate) fn start(command: &mut Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a program to start");
        let stderr = child.stderr.take().expect("its standard error");
        let log = Arc::new(Log::default());
        thread::spawn({
            let log = log.clone();
            move || log.read(stderr)
        });
        Process { child, log }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// What has been read of its log up to now: whole lines. Once it was waited for, all of it.
    pub(crate) fn log(&self) -> String {
        self.log.when(|_| true).0
    }

    /// Waits until it has logged this; returns the whole log.
    pub(crate) fn logged(&self, text: &str) -> String {
        self.log_when(|log| log.contains(text))
    }

    /// Waits until its log is so; returns the whole of it.
    pub(crate) fn log_when(&self, is_so: impl Fn(&str) -> bool) -> String {
        let (log, is_so) = self.log.when(is_so);
        assert!(is_so, "{log}");
        log
    }

    /// Sends a signal: `TERM`, `HUP`, …
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it has ended; kills it when that takes too long. Says how long it took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let (ended, waiting) = mpsc::channel::<()>();
        let id = self.id();
        let guard = thread::spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                signal(id, "KILL");
            }
        });
        let status = self.child.wait().expect("an exit status");
        let took = start.elapsed();
        drop(ended);
        guard.join().expect("the guard");
        // to the end of the log
        self.log.when(|_| false);
        (status, took)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // fails when it has ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of process {}\n{}---", self.id(), self.log());
        }
    }
}

fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {id}");
}

/// A `turnwell dev --json` that is ready.
pub(crate) struct Dev {
    pub(crate) process: Process,
    /// The line that it printed.
    pub(crate) ready: Value,
}

impl Dev {
    /// Starts on loopback with free ports; flags that are given replace these.
    pub(crate) fn start(flags: &[&str]) -> Dev {
        let mut command = Command::new(TURNWELL);
        command.args(["dev", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
        for (flag, value) in [("--listen", "127.0.0.1:0"), ("--api", "127.0.0.1:0"), ("--relay-ports", "20000-29999")] {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let mut process = Process::start(command.args(flags));
        let mut line = String::new();
        let stdout = process.child.stdout.take().expect("its standard output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", process.log()));
        Dev { process, ready }
    }

    /// A text of the ready line: `api`, `api_key`, `secret`, `realm`.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    /// The first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.ready["listen"][0].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    /// An URL of the API.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.text("api"))
    }

    /// Ends it as an operator would; says how it ended and how long that took.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Duration) {
        self.process.signal("TERM");
        self.process.wait()
    }
}

/// A folder with a configuration, for `turnwell serve`.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    /// A folder that has this as `turnwell.toml`, readable by its owner only.
    pub(crate) fn with(config: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        folder.write("turnwell.toml", config, 0o600);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("turnwell.toml")
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("its mode");
    }
}

/// A `turnwell serve` with the end of systemd's notification socket that systemd would hold.
pub(crate) struct Serve {
    pub(crate) process: Process,
    /// Read by a thread, as systemd does: a full socket would stop the server.
    notifications: Mutex<mpsc::Receiver<String>>,
    _folder: tempfile::TempDir,
}

impl Serve {
    /// Starts with this configuration; not yet ready.
    pub(crate) fn start(config: &Path) -> Serve {
        Serve::start_with(config, &[])
    }

    /// The same, with variables in its environment.
    pub(crate) fn start_with(config: &Path, environment: &[(&str, &str)]) -> Serve {
        let mut command = Command::new(TURNWELL);
        command.arg("serve").arg("--config").arg(config);
        command.envs(environment.iter().copied());
        Serve::spawn(command)
    }

    /// Starts by a command that leads to `turnwell serve`; not yet ready.
    pub(crate) fn spawn(mut command: Command) -> Serve {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let (sender, notifications) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        command.env("NOTIFY_SOCKET", path);
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        Serve { process, notifications: Mutex::new(notifications), _folder: folder }
    }

    /// Waits for a notification that has this line, such as `READY=1`; returns the whole of it.
    pub(crate) fn notified(&self, line: &str) -> String {
        self.notification(line, |text| text.lines().any(|other| other == line))
    }

    /// The same for the beginning of a line.
    pub(crate) fn notified_with(&self, start: &str) -> String {
        self.notification(start, |text| text.lines().any(|line| line.starts_with(start)))
    }

    /// What was said and not waited for.
    pub(crate) fn rest(&self) -> String {
        self.notifications.lock().expect("the messages").try_iter().collect()
    }

    fn notification(&self, line: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let text = self.notifications.lock().expect("the messages").recv_timeout(PATIENCE);
            let text = text.unwrap_or_else(|error| panic!("no {line}: {error}\n{}", self.process.log()));
            if is_wanted(&text) {
                return text;
            }
        }
    }
}

/// An HTTP client for which a status is not an error.
pub(crate) fn http() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

/// A port that nothing here has, for UDP and for TCP, nor the one after it; never the same twice.
///
/// From a range that neither relays nor port 0 draw from. Nothing is bound to find out: a program that another test
/// starts at that moment would have the socket too, for as long as its start takes.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let is_taken = |port: u16| tables.iter().flatten().any(|table| table.contains(&format!(":{port:04X} ")));
    loop {
        let step = (std::process::id() * 64).wrapping_add(NEXT.fetch_add(2, Ordering::Relaxed)) % 9_998;
        let port = 10_000 + u16::try_from(step & !1).expect("a port");
        if !is_taken(port) && !is_taken(port + 1) {
            return port;
        }
    }
}
