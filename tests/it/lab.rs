//! Three network namespaces: clients, the Internet between, the server. Made as root and gone with the test; where that
//! cannot be, the test says so past the capture of its output.
//!
//! ```text
//!  client 12.0.0.2, 2600:12::2 ── router, 11.0.0.9 as the NAT's address ── server NETWORK.2, 2600:11::2
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{Serve, TURNWELL};

/// The address of clients.
pub(crate) const CLIENT: &str = "12.0.0.2";
/// What a NAT in front of the server shows.
pub(crate) const PUBLIC: &str = "11.0.0.9";

/// The namespaces; removed when dropped.
pub(crate) struct Lab {
    tag: String,
    /// Where clients find names; `ip netns exec` puts it over /etc/hosts.
    etc: PathBuf,
}

impl Lab {
    /// With the server in `network`, the first three numbers of its addresses. None where there are no namespaces.
    pub(crate) fn new(network: &str) -> Option<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("twd{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { etc: format!("/etc/netns/{tag}c").into(), tag };
        match lab.build(network) {
            Ok(()) => Some(lab),
            Err(error) => {
                crate::common::skip(&format!("no network namespaces here: {error}"));
                None
            }
        }
    }

    fn build(&self, network: &str) -> io::Result<()> {
        let tag = &self.tag;
        for name in ["c", "r", "s"] {
            run("ip", &["netns", "add", &format!("{tag}{name}")])?;
            self.run(name, "ip link set lo up")?;
            // addresses are good at once: nobody else can have them
            for scope in ["all", "default"] {
                self.set(name, &format!("ipv6/conf/{scope}/accept_dad"), "0")?;
            }
        }
        for (name, near, far, v4, v6) in [("c", "2", "1", "12.0.0", "2600:12::"), ("s", "2", "1", network, "2600:11::")]
        {
            let (space, router) = (format!("{tag}{name}"), format!("{tag}r"));
            let link = format!("link add eth0 netns {space} type veth peer name to{name} netns {router}");
            run("ip", &link.split(' ').collect::<Vec<_>>())?;
            for (at, device, last) in [(name, "eth0".to_owned(), near), ("r", format!("to{name}"), far)] {
                self.run(at, &format!("ip address add {v4}.{last}/24 dev {device}"))?;
                self.run(at, &format!("ip address add {v6}{last}/64 dev {device} nodad"))?;
                self.run(at, &format!("ip link set {device} up"))?;
            }
            self.run(name, &format!("ip route add default via {v4}.{far}"))?;
            self.run(name, &format!("ip -6 route add default via {v6}{far}"))?;
        }
        self.run("r", &format!("ip address add {PUBLIC}/32 dev lo"))?;
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            self.set("r", key, "1")?;
        }
        Ok(())
    }

    fn set(&self, name: &str, key: &str, value: &str) -> io::Result<()> {
        let write = format!("echo {value} > /proc/sys/net/{key}");
        run("ip", &["netns", "exec", &format!("{}{name}", self.tag), "sh", "-c", &write])
    }

    /// Runs a command in `c`, `r` or `s`.
    pub(crate) fn run(&self, name: &str, line: &str) -> io::Result<()> {
        let space = format!("{}{name}", self.tag);
        run("ip", &[&["netns", "exec", &space], &line.split(' ').collect::<Vec<_>>()[..]].concat())
    }

    /// Rules of the router's firewall, one a line.
    pub(crate) fn rules(&self, rules: &[&str]) {
        let all = [
            "add table ip t",
            "add chain ip t pre { type nat hook prerouting priority -100 ; }",
            "add chain ip t post { type nat hook postrouting priority 100 ; }",
            "add chain ip t forth { type filter hook forward priority 0 ; }",
        ];
        for rule in all.iter().chain(rules) {
            self.run("r", &format!("nft {rule}")).unwrap_or_else(|error| panic!("{rule}: {error}"));
        }
    }

    /// The router as a NAT that shows the server's address as [`PUBLIC`].
    pub(crate) fn nat(&self, server: &str) {
        self.rules(&[
            &format!("add rule ip t pre ip daddr {PUBLIC} dnat to {server}"),
            &format!("add rule ip t post ip saddr {server} oifname toc snat to {PUBLIC}"),
        ]);
    }

    /// Names for clients.
    pub(crate) fn hosts(&self, text: &str) {
        fs::create_dir_all(&self.etc).expect("a folder under /etc/netns");
        fs::write(self.etc.join("hosts"), text).expect("names");
    }

    /// `turnwell` with the network of `c` or `s`.
    pub(crate) fn turnwell(&self, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{name}", self.tag), TURNWELL]);
        command
    }

    /// A server that is ready.
    pub(crate) fn serve(&self, config: &std::path::Path) -> Serve {
        let mut command = self.turnwell("s");
        command.arg("serve").arg("--config").arg(config);
        let serve = Serve::spawn(command);
        serve.notified("READY=1");
        serve
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["c", "r", "s"] {
            // one that was never made is not there
            let _ = run("ip", &["netns", "del", &format!("{}{name}", self.tag)]);
        }
        let _ = fs::remove_dir_all(&self.etc);
    }
}

fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
}
