//! Writes the TOML: section by section, each value with the line that it came from where that helps.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::Entry;
use super::options::{Fate, fate};

/// coturn's defaults.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
const LOWEST: u16 = 49_152;
const HIGHEST: u16 = 65_535;
/// `limits.bandwidth-per-user` where nothing is written, in bits in a second.
const USER_BITS: u64 = 500_000_000;
/// The highest bit rate that can be written.
const MOST_BITS: u64 = 1_000_000_000_000;

/// What the entries say, with questions to ask of it, and the text that comes of it.
struct Import<'a> {
    entries: &'a [Entry<'a>],
    text: String,
    /// What could not be carried over: line, name, words.
    told: Vec<(usize, String, String)>,
}

/// The whole configuration.
pub(super) fn toml(entries: &[Entry<'_>]) -> String {
    let mut import = Import { entries, text: String::new(), told: Vec::new() };
    import.comment(
        "Written by `turnwell import-coturn`. config/reference.toml explains every key; `turnwell check-config FILE`",
    );
    import.comment(
        "says whether this file is valid, `turnwell doctor` whether the server will be reached. What could not be",
    );
    import.comment(
        "carried over stands at the end. If it holds a secret: chmod 640, and the group of the server's user.",
    );
    import.server();
    import.listen();
    import.tls();
    import.relay();
    import.credentials();
    import.lifetimes();
    import.limits();
    import.peers();
    import.log();
    import.rest();
    import.text.trim_end().to_owned()
}

impl<'a> Import<'a> {
    fn line(&mut self, text: &str) {
        // writing to a String cannot fail
        let _ = writeln!(self.text, "{text}");
    }

    fn comment(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }

    fn section(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    fn tell(&mut self, entry: &Entry<'_>, words: impl Into<String>) {
        self.told.push((entry.line, entry.name.to_owned(), words.into()));
    }

    fn all(&self, name: &str) -> Vec<Entry<'a>> {
        self.entries.iter().filter(|entry| entry.name == name).cloned().collect()
    }

    /// The last one counts.
    fn last(&self, name: &str) -> Option<Entry<'a>> {
        self.all(name).pop()
    }

    /// Whether a flag is set; `flag=0` and the like unset it.
    fn flag(&self, name: &str) -> bool {
        let off = ["0", "no", "off", "false"];
        self.last(name).is_some_and(|entry| !off.contains(&entry.value.to_ascii_lowercase().as_str()))
    }

    /// The values of an option, each as a type; what is none is told.
    fn values<T: FromStr>(&mut self, name: &str) -> Vec<(Entry<'a>, T)> {
        let mut found = Vec::new();
        for entry in self.all(name) {
            match entry.value.parse() {
                Ok(value) => found.push((entry, value)),
                Err(_) => self.tell(&entry, "the value cannot be read, and is left out"),
            }
        }
        found
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.values(name).pop().map(|(_, value)| value)
    }

    fn server(&mut self) {
        self.section("server");
        if let Some(realm) = self.last("realm") {
            self.line(&format!("realm = {}", quoted(realm.value)));
        }
        let threads = [self.number::<usize>("relay-threads"), self.number("cpus")];
        match threads.into_iter().flatten().next() {
            Some(0) => self.line("workers = 1"),
            Some(count) => self.line(&format!("workers = {}", count.min(1024))),
            None => {}
        }
        self.comment(
            "The name by which clients reach this server, for the URLs of the credentials that the API mints:",
        );
        self.comment("public-host = \"turn.example.org\"");
        self.alternates();
    }

    /// Where new clients are sent. One that is named twice is told twice as often, there as here.
    fn alternates(&mut self) {
        let mut found: Vec<SocketAddr> = Vec::new();
        for entry in self.all("alternate-server") {
            let bare = entry.value.trim_start_matches('[').trim_end_matches(']');
            let without_port = || bare.parse().ok().map(|ip| SocketAddr::new(ip, PORT));
            match entry.value.parse().ok().or_else(without_port) {
                Some(server) => found.push(server),
                None => {
                    self.tell(&entry, "this is no address: names are not looked up, write server.alternate yourself")
                }
            }
        }
        if !found.is_empty() {
            self.comment("Clients over TLS are sent there as well, and speak TLS there.");
            self.line(&format!("alternate = {}\nredirect = \"always\"", list(&found)));
        }
    }

    fn ips(&mut self) -> Vec<IpAddr> {
        let listed: Vec<IpAddr> = self.values("listening-ip").into_iter().map(|(_, ip)| ip).collect();
        if listed.is_empty() { vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] } else { listed }
    }

    fn has_tls(&self) -> bool {
        self.last("cert").is_some() && self.last("pkey").is_some() && !self.flag("no-tls")
    }

    fn listen(&mut self) {
        let ips = self.ips();
        let port = self.number("listening-port").unwrap_or(PORT);
        let tls_port = self.number("tls-listening-port").unwrap_or(TLS_PORT);
        let aux: Vec<SocketAddr> = self.values("aux-server").into_iter().map(|(_, address)| address).collect();
        let proxied: Option<u16> = self.number("tcp-proxy-port");
        let at = |port: u16| ips.iter().map(move |ip| SocketAddr::new(*ip, port));
        let plain: Vec<SocketAddr> = at(port).chain(aux.iter().copied()).collect();
        let streams: Vec<SocketAddr> = plain.iter().copied().chain(at(tls_port)).collect();
        self.section("listen");
        if let Some(entry) = self.last("no-udp").filter(|_| self.flag("no-udp")) {
            self.line(&format!("udp = [\"127.0.0.1:{port}\"]"));
            self.tell(&entry, "there is always a UDP listener: here it is on loopback alone");
        } else {
            self.line(&format!("udp = {}", list(&plain)));
        }
        match (self.has_tls(), self.flag("no-tcp")) {
            (true, false) => {
                self.comment("coturn takes TCP and TLS on both ports.");
                self.line(&format!("auto = {}", list(&streams)));
            }
            (true, true) => self.line(&format!("tls = {}", list(&at(tls_port).collect::<Vec<_>>()))),
            (false, false) => self.line(&format!("tcp = {}", list(&plain))),
            (false, true) => {}
        }
        if let Some(size) = self.number::<u64>("sock-buf-size").filter(|size| (1..=i32::MAX as u64).contains(size)) {
            self.line(&format!("receive-buffer = \"{size}B\"\nsend-buffer = \"{size}B\""));
        }
        if let Some((entry, port)) = self.last("tcp-proxy-port").zip(proxied) {
            self.tell(
                &entry,
                format!(
                    "PROXY headers are taken from networks, not on a port: add port {port} to listen.tcp or auto and the \
                    load balancer's networks to streams.proxies (docs/proxies.md)"
                ),
            );
        }
    }

    fn tls(&mut self) {
        let (Some(cert), Some(key), true) = (self.last("cert"), self.last("pkey"), self.has_tls()) else { return };
        self.section("tls");
        self.comment("The chain from the server's own certificate on, and its key: readable by the server's user, not by everybody.");
        self.line(&format!("certificate = {}\nkey = {}", quoted(cert.value), quoted(key.value)));
        for entry in [cert, key] {
            if !entry.value.starts_with('/') {
                self.tell(
                    &entry,
                    "a relative path starts at the folder of this file: correct it if the file is elsewhere",
                );
            }
        }
    }

    fn relay(&mut self) {
        self.section("relay");
        let (low, high) = (self.number("min-port").unwrap_or(LOWEST), self.number("max-port").unwrap_or(HIGHEST));
        self.line(&format!("ports = \"{}-{}\"", low.min(high).max(1), high.max(low)));
        let mut relays: Vec<IpAddr> = self.values("relay-ip").into_iter().map(|(_, ip)| ip).collect();
        relays.dedup();
        let external = self.external(&relays);
        if !relays.is_empty() {
            let missing: Vec<IpAddr> =
                external.iter().map(|(local, _)| *local).filter(|ip| !relays.contains(ip)).collect();
            relays.extend(missing);
            self.line(&format!("addresses = {}", list(&relays)));
        }
        if !external.is_empty() {
            let pair = |(local, public): &(IpAddr, IpAddr)| format!("{{ local = \"{local}\", public = \"{public}\" }}");
            let pairs: Vec<String> = external.iter().map(pair).collect();
            self.line(&format!("external = [{}]", pairs.join(", ")));
        }
        let family = self.last("allocation-default-address-family");
        match family.as_ref().map(|entry| entry.value) {
            Some("ipv4") => self.line("default-family = \"ipv4\""),
            Some("keep") => self.line("default-family = \"client\""),
            Some(other) => {
                let words =
                    format!("{other:?} is not offered: without a wish a client gets the family of its connection");
                family.iter().for_each(|entry| self.tell(entry, words.clone()));
            }
            None if self.flag("keep-address-family") => self.line("default-family = \"client\""),
            None => {}
        }
        if self.flag("rfc5766-channel-numbers") {
            self.line("channel-numbers = \"rfc5766\"");
        }
    }

    /// The mappings of `external-ip`; the form without a private address needs to know the only one that there is.
    fn external(&mut self, relays: &[IpAddr]) -> Vec<(IpAddr, IpAddr)> {
        let listening: Vec<IpAddr> = self.values("listening-ip").into_iter().map(|(_, ip)| ip).collect();
        let mut found: Vec<(IpAddr, IpAddr)> = Vec::new();
        for entry in self.all("external-ip") {
            let (public, local) = match entry.value.split_once('/') {
                Some((public, local)) => (public.trim(), Some(local.trim())),
                None => (entry.value, None),
            };
            let Ok(public) = public.parse::<IpAddr>() else {
                self.tell(&entry, "this is no address: names are not looked up, write relay.external yourself");
                continue;
            };
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == public.is_ipv4() && !ip.is_unspecified();
            let local = match local {
                Some(local) => local.parse::<IpAddr>().ok(),
                None => relays.iter().find(of_family).or_else(|| listening.iter().find(of_family)).copied(),
            };
            match local {
                Some(local) if local == public => {}
                Some(local) if local.is_ipv4() == public.is_ipv4() => {
                    if !found.iter().any(|(known, _)| *known == local) {
                        found.push((local, public));
                    }
                }
                Some(_) | None => self.tell(
                    &entry,
                    format!(
                        "the address on this machine is not named: complete \
                        relay.external = [{{ local = \"ADDRESS OF THIS MACHINE\", public = \"{public}\" }}]"
                    ),
                ),
            }
        }
        found
    }

    fn credentials(&mut self) {
        self.section("credentials");
        let (secrets, users) = (self.all("static-auth-secret"), self.all("user"));
        // coturn has either; Turnwell has both at once
        let by_secret = self.flag("use-auth-secret") || !secrets.is_empty();
        if !secrets.is_empty() {
            self.comment("Safer: each secret in a file of its own (chmod 640), named by secret-files = [\"secret\"].");
            let all: Vec<String> =
                secrets.iter().filter(|entry| !entry.value.is_empty()).map(|entry| quoted(entry.value)).collect();
            self.line(&format!("secrets = [{}]", all.join(", ")));
        }
        let stun_only = self.flag("stun-only");
        if stun_only {
            self.comment("stun-only: without a secret and without a user TURN is refused and STUN answered.");
        } else if by_secret && secrets.is_empty() {
            self.comment("coturn has its secrets in a database: write them into files and name those here.");
            self.comment("secret-files = [\"secret\"]");
        } else if !by_secret && users.is_empty() {
            self.comment("coturn lets everybody relay when nothing is configured. Here TURN is refused without a secret or a user:");
            self.comment("secret-files = [\"secret\"]");
        }
        self.users(&users);
        for name in ["no-auth", "stun-only"] {
            if let Some(entry) = self.last(name).filter(|_| self.flag(name)) {
                let words = match name {
                    "no-auth" => "nobody relays without a credential here: an open relay is abused within days",
                    _ => "leave out secrets and users, and TURN is refused: see [credentials]",
                };
                self.tell(&entry, words);
            }
        }
        if let Some(entry) = self.last("rest-api-separator").filter(|entry| entry.value != ":") {
            self.tell(&entry, "the separator in time-limited user names is the colon");
        }
    }

    fn users(&mut self, users: &[Entry<'a>]) {
        let mut seen: Vec<&str> = Vec::new();
        let mut lines = Vec::new();
        for entry in users {
            let Some((name, password)) =
                entry.value.split_once(':').filter(|(name, word)| !name.is_empty() && !word.is_empty())
            else {
                self.tell(entry, "this is not NAME:PASSWORD, and is left out");
                continue;
            };
            if seen.contains(&name) {
                self.tell(entry, "the user is there twice; the first one is kept");
                continue;
            }
            seen.push(name);
            let key = password
                .strip_prefix("0x")
                .filter(|key| key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()));
            lines.push(match key {
                Some(key) => format!("  {{ name = {}, key = {} }},", quoted(name), quoted(key)),
                None => format!("  {{ name = {}, password = {} }},", quoted(name), quoted(password)),
            });
        }
        if !lines.is_empty() {
            self.line(&format!("users = [\n{}\n]", lines.join("\n")));
        }
    }

    fn lifetimes(&mut self) {
        let maximum = self.number::<u32>("max-allocate-lifetime").filter(|seconds| *seconds > 0);
        let nonce = self.last("stale-nonce");
        let all = [
            ("maximum", maximum),
            ("default", maximum.filter(|seconds| *seconds < 600)),
            ("permission", self.number("permission-lifetime").filter(|seconds| *seconds > 0)),
            ("channel", self.number("channel-lifetime").filter(|seconds| *seconds > 0)),
            ("nonce", nonce.as_ref().and_then(|entry| entry.value.parse().ok()).filter(|seconds| *seconds > 0)),
        ];
        if all.iter().any(|(_, seconds)| seconds.is_some()) {
            self.section("lifetimes");
        }
        for (name, seconds) in all {
            if let Some(seconds) = seconds {
                self.line(&format!("{name} = \"{seconds}s\""));
            }
        }
        if let Some(entry) = nonce.filter(|entry| entry.value == "0") {
            self.tell(&entry, "a nonce always ends: after lifetimes.nonce, an hour by default");
        }
    }

    fn limits(&mut self) {
        let all =
            [("allocations-per-user", self.number::<u32>("user-quota")), ("allocations", self.number("total-quota"))];
        self.section("limits");
        if all.iter().any(|(_, count)| count.is_none()) {
            self.comment("coturn has no limit where none is set; here there are 100 allocations per user and 16000 in all, 0 = no limit.");
        }
        for (name, count) in all {
            if let Some(count) = count {
                self.line(&format!("{name} = {count}"));
            }
        }
        if let Some(bytes) = self.number::<u64>("max-bps") {
            let bits = bytes.saturating_mul(8);
            self.comment("max-bps counts bytes in a second, and these are bits; both count each way by itself.");
            self.line(&format!("bandwidth-per-allocation = \"{}\"", bit_rate(bits)));
            if bits == 0 || bits > USER_BITS {
                self.comment("coturn has no limit for all of a user's sessions together; here it is 500Mbit unless:");
                self.line("bandwidth-per-user = \"0\"");
            }
        }
        self.comment("Prosody and Jitsi name everybody by the bare time stamp, each second another user: then only this one holds.");
        self.comment("allocations-per-source = 1000");
    }

    fn peers(&mut self) {
        self.section("peers");
        self.comment(
            "coturn relays to private, carrier-grade and multicast ranges unless they are denied; here they are denied",
        );
        self.comment("unless they are allowed. If peers stand in this server's own network, name that network:");
        self.comment("allow = [\"10.0.0.0/8\"]");
        let (allow, deny) = (self.ranges("allowed-peer-ip"), self.ranges("denied-peer-ip"));
        if !allow.is_empty() {
            self.comment("The most specific range wins here, whichever list it is in; in coturn `allowed` wins.");
            self.line(&format!("allow = {}", list(&allow)));
        }
        if !deny.is_empty() {
            self.line(&format!("deny = {}", list(&deny)));
        }
        if let Some(entry) = self.last("allow-loopback-peers").filter(|_| self.flag("allow-loopback-peers")) {
            self.tell(
                &entry,
                "clients would reach this machine's own services: add 127.0.0.0/8 and ::1/128 to peers.allow only for tests",
            );
        }
    }

    /// Ranges `first-last` as the prefixes that make them up.
    fn ranges(&mut self, name: &str) -> Vec<IpNet> {
        let mut found: Vec<IpNet> = Vec::new();
        for entry in self.all(name) {
            let value = entry.value.split_once('?').map_or(entry.value, |(value, _)| value);
            let (first, last) = value.split_once('-').unwrap_or((value, value));
            let nets: Vec<IpNet> = match (first.trim().parse(), last.trim().parse()) {
                (Ok(IpAddr::V4(first)), Ok(IpAddr::V4(last))) if first <= last => {
                    Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
                }
                (Ok(IpAddr::V6(first)), Ok(IpAddr::V6(last))) if first <= last => {
                    Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
                }
                (_, _) => value.parse::<IpNet>().into_iter().map(|net| net.trunc()).collect(),
            };
            if nets.is_empty() {
                self.tell(&entry, "this is no range of addresses, and is left out");
            }
            found.extend(nets);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn log(&mut self) {
        let level = self.last("log-min-level");
        let level = match level.as_ref().map(|entry| entry.value.to_ascii_lowercase()).as_deref() {
            Some("error") => Some("error"),
            Some("warning" | "warn") => Some("warn"),
            Some("debug") => Some("debug"),
            _ if self.flag("Verbose") => Some("debug"),
            Some(_) | None => None,
        };
        if let Some(level) = level {
            self.section("log");
            self.line(&format!("level = \"{level}\""));
        }
    }

    /// What is not carried over, in the order of the lines.
    fn rest(&mut self) {
        for entry in self.entries {
            match fate(entry.name) {
                Some(Fate::Carried | Fate::Same) => {}
                Some(Fate::Told(words)) => self.tell(entry, words),
                None => self.tell(entry, "this option is not known: see whether coturn has it, and what it is for"),
            }
        }
        if self.told.is_empty() {
            return;
        }
        self.line("\n# Not carried over:");
        let mut told = std::mem::take(&mut self.told);
        told.sort();
        for (line, name, words) in told {
            // names come from the file: nothing in them may end the comment
            self.comment(&format!("line {line}: {}: {words}", name.escape_debug()));
        }
    }
}

/// A rate in the largest unit that it is a whole number of; none above what a key takes.
fn bit_rate(bits: u64) -> String {
    if bits == 0 || bits > MOST_BITS {
        return "0".into();
    }
    let units = [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1000, "kbit")];
    match units.iter().find(|(unit, _)| bits.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bits / unit),
        None => format!("{bits}bit"),
    }
}

fn list<T: std::fmt::Display>(all: &[T]) -> String {
    let quoted: Vec<String> = all.iter().map(|one| format!("\"{one}\"")).collect();
    let line = format!("[{}]", quoted.join(", "));
    if line.len() <= 100 { line } else { format!("[\n  {},\n]", quoted.join(",\n  ")) }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
