//! `turnwell import-coturn`: configurations as products' guides make people write them; what comes out passes
//! `check-config`.

use rcgen::generate_simple_self_signed;

use crate::support::{Folder, PATIENCE, TURNWELL};

/// Imports, checks the result with the program, and returns it.
fn imported(conf: &str) -> String {
    let folder = Folder::with("");
    let made = generate_simple_self_signed(["turn.example.org".to_owned()]).expect("a certificate");
    folder.write("chain.pem", &made.cert.pem(), 0o644);
    folder.write("key.pem", &made.signing_key.serialize_pem(), 0o600);
    let at = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    let conf = conf.replace("{chain}", &at("chain.pem")).replace("{key}", &at("key.pem"));
    folder.write("turnserver.conf", &conf, 0o600);
    let run = |args: &[&str]| {
        let mut command = assert_cmd::Command::new(TURNWELL);
        command.args(args).timeout(PATIENCE).output().expect("a program to run")
    };
    let output = run(&["import-coturn", &at("turnserver.conf")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let toml = String::from_utf8(output.stdout).expect("UTF-8");
    folder.write("turnwell.toml", &toml, 0o600);
    let checked = run(&["check-config", &at("turnwell.toml")]);
    assert!(checked.status.success(), "{}\n{toml}", String::from_utf8_lossy(&checked.stderr));
    toml
}

#[track_caller]
fn has(toml: &str, lines: &[&str]) {
    for line in lines {
        assert!(toml.contains(line), "no {line:?} in\n{toml}");
    }
}

/// What a Matrix homeserver's operator has: a secret, ranges that are denied, limits, a NAT.
#[test]
fn synapse() {
    let toml = imported(
        "# TURN for the homeserver\nuse-auth-secret\nstatic-auth-secret=b0mb \"quoted\" #sec\nrealm=matrix.example.org\n\
         no-tcp-relay\ndenied-peer-ip=10.0.0.0-10.255.255.255\ndenied-peer-ip=192.168.0.0-192.168.255.255\n\
         denied-peer-ip=172.16.0.0-172.31.255.255\nno-multicast-peers\ndenied-peer-ip=0.0.0.0-0.255.255.255\n\
         denied-peer-ip=fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff\ndenied-peer-ip=100.64.0.0-100.127.255.255\n\
         allowed-peer-ip=10.0.0.1\nuser-quota=12\ntotal-quota=1200\nno-tlsv1\nno-tlsv1_1\ncert={chain}\npkey={key}\n\
         external-ip=203.0.113.7/10.0.0.5\nmin-port=49152\nmax-port=50000\nlog-file=/var/log/turn.log\nno-cli\n",
    );
    has(
        &toml,
        &[
            "realm = \"matrix.example.org\"",
            "auto = [\"0.0.0.0:3478\", \"[::]:3478\", \"0.0.0.0:5349\", \"[::]:5349\"]",
            "secrets = ['b0mb \"quoted\" #sec']",
            "ports = \"49152-50000\"",
            "external = [{ local = \"10.0.0.5\", public = \"203.0.113.7\" }]",
            "allocations-per-user = 12\nallocations = 1200",
            "allow = [\"10.0.0.1/32\"]",
            "\"10.0.0.0/8\"",
            "\"fe80::/10\"",
            "chmod 640",
            "# line 23: log-file: the log goes to standard error",
        ],
    );
    assert!(!toml.contains("no-cli") && !toml.contains("no-multicast"), "what is so anyway needs no word:\n{toml}");
}

/// A chat server's guide: one secret, everything on one address, logs switched off.
#[test]
fn nextcloud_talk() {
    let toml = imported(
        "listening-port=3478\nfingerprint\nuse-auth-secret\nstatic-auth-secret=0123456789abcdef\nrealm=cloud.example.org\n\
         total-quota=0\nbps-capacity=0\nstale-nonce\nno-multicast-peers\nno-tls\nno-dtls\nlistening-ip=192.0.2.5\n\
         max-bps=125000\nsimple-log\n",
    );
    has(
        &toml,
        &[
            "udp = [\"192.0.2.5:3478\"]\ntcp = [\"192.0.2.5:3478\"]",
            "secrets = [\"0123456789abcdef\"]",
            "allocations = 0",
            "# line 2: fingerprint: an answer has FINGERPRINT when its request has",
            "# line 7: bps-capacity: there is no limit of all bandwidth together",
            "bandwidth-per-allocation = \"1Mbit\"",
        ],
    );
    assert!(!toml.contains("[tls]") && !toml.contains("[lifetimes]"), "{toml}");
    assert!(!toml.contains("bandwidth-per-user ="), "the limit of a user is above that of an allocation:\n{toml}");
}

/// One that points to others, and limits: bytes there are bits here.
#[test]
fn a_balancer_and_its_limits() {
    let toml = imported(
        "static-auth-secret=s\nalternate-server=192.0.2.8\nalternate-server=192.0.2.9:3479\nalternate-server=[2001:db8::8]:3478\n\
         alternate-server=2001:db8::9\nalternate-server=192.0.2.8\nalternate-server=turn2.example.org\n\
         tls-alternate-server=192.0.2.8:5349\nmax-bps=100000001\nunauthorized-ratelimit\nunauthorized-ratelimit-rps=10\n",
    );
    has(
        &toml,
        &[
            "alternate = [\"192.0.2.8:3478\", \"192.0.2.9:3479\", \"[2001:db8::8]:3478\", \"[2001:db8::9]:3478\", \"192.0.2.8:3478\"]\n\
             redirect = \"always\"",
            "# line 7: alternate-server: this is no address",
            "# line 8: tls-alternate-server: there is one list, server.alternate",
            "bandwidth-per-allocation = \"800000008bit\"",
            "bandwidth-per-user = \"0\"",
            "# line 11: unauthorized-ratelimit-rps: limits.unauthenticated-replies",
        ],
    );
    let toml = imported("static-auth-secret=s\nmax-bps=0\n");
    has(&toml, &["bandwidth-per-allocation = \"0\"", "bandwidth-per-user = \"0\""]);
    let toml = imported("static-auth-secret=s\nmax-bps=64K\n");
    has(&toml, &["# line 2: max-bps: the value cannot be read"]);
}

/// A conference server's package: another port, aux listener on 443, denied ranges, no standard output.
#[test]
fn jitsi() {
    let toml = imported(
        "use-auth-secret\nkeep-address-family\nstatic-auth-secret=jitsisecret\nrealm=meet.example.org\ncert={chain}\npkey={key}\n\
         no-multicast-peers\nno-cli\nno-loopback-peers\nno-tcp-relay\nno-tcp\nlistening-port=3478\ntls-listening-port=5349\n\
         no-tlsv1\nno-tlsv1_1\ncipher-list=ECDHE-ECDSA-AES128-GCM-SHA256\ndenied-peer-ip=127.0.0.0-127.255.255.255\n\
         denied-peer-ip=240.0.0.0-255.255.255.255\nsyslog\nexternal-ip=203.0.113.9\nstale-nonce=0\n",
    );
    has(
        &toml,
        &[
            "default-family = \"client\"",
            "tls = [\"0.0.0.0:5349\", \"[::]:5349\"]",
            "\"240.0.0.0/4\"",
            "# line 20: external-ip: the address on this machine is not named",
            "# line 21: stale-nonce: a nonce always ends",
            "# line 16: cipher-list: TLS 1.2 and 1.3",
        ],
    );
}

#[test]
fn static_users_of_both_kinds_and_every_other_value() {
    let toml = imported(
        "lt-cred-mech\nuser=alice:wonder:land\nuser=bob:0x0123456789abcdef0123456789abcdef\nuser=alice:again\nuser=broken\n\
         relay-ip=192.0.2.5\nexternal-ip=203.0.113.7\nrelay-threads=0\nmax-allocate-lifetime=300\npermission-lifetime=200\n\
         stale-nonce=600\nsock-buf-size=100000\nrfc5766-channel-numbers\nVerbose\naux-server=192.0.2.5:443\nallow-loopback-peers\n",
    );
    has(
        &toml,
        &[
            "{ name = \"alice\", password = \"wonder:land\" },",
            "{ name = \"bob\", key = \"0123456789abcdef0123456789abcdef\" },",
            "# line 4: user: the user is there twice",
            "# line 5: user: this is not NAME:PASSWORD",
            "addresses = [\"192.0.2.5\"]",
            "external = [{ local = \"192.0.2.5\", public = \"203.0.113.7\" }]",
            "workers = 1",
            "maximum = \"300s\"\ndefault = \"300s\"\npermission = \"200s\"",
            "nonce = \"600s\"",
            "receive-buffer = \"100000B\"",
            "channel-numbers = \"rfc5766\"",
            "level = \"debug\"",
            "\"192.0.2.5:443\"",
            "# line 16: allow-loopback-peers: ",
        ],
    );
    assert!(!toml.contains("again"), "{toml}");
}

#[test]
fn an_open_relay_does_not_stay_one_and_what_nobody_knows_is_named_with_its_line() {
    let toml = imported("no-auth\nno-udp\nfrobnicate=yes\nmin-port=x\nredis-statsdb=\"ip=127.0.0.1\"\nstun-only=0\n");
    has(
        &toml,
        &[
            "# line 1: no-auth: nobody relays without a credential",
            "# line 3: frobnicate: this option is not known",
            "# line 4: min-port: the value cannot be read",
            "# line 5: redis-statsdb: counters are at /metrics",
            "udp = [\"127.0.0.1:3478\"]",
        ],
    );
    assert!(!toml.contains("secrets = "), "{toml}");
    imported("");
}

/// Every option that coturn itself lists is known.
#[test]
fn every_option_that_coturn_lists_is_known() {
    let Ok(output) = std::process::Command::new("turnserver").arg("-h").output() else {
        return crate::common::skip("there is no coturn (turnserver)");
    };
    let help = [output.stdout, output.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let words = help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(|line| {
        let head: Vec<&str> =
            line.split_whitespace().take_while(|word| word.starts_with('-') || *word == ",").collect();
        head
    });
    let long = words.filter_map(|word| word.trim_end_matches(',').strip_prefix("--"));
    let name = |word: &str| word.split(['=', '<', '[']).next().unwrap_or_default().to_owned();
    let options: Vec<String> = long.map(name).filter(|name| !name.is_empty() && name != "version").collect();
    assert!(options.len() > 80, "{options:?}");
    let folder = Folder::with("");
    folder.write("turnserver.conf", &options.join("\n"), 0o600);
    let mut command = assert_cmd::Command::new(TURNWELL);
    let output = command.arg("import-coturn").arg(folder.path("turnserver.conf")).output().expect("a program to run");
    let toml = String::from_utf8_lossy(&output.stdout).into_owned();
    let unknown: Vec<&str> = toml.lines().filter(|line| line.contains("not known")).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn a_file_that_is_not_there_is_66() {
    let mut command = assert_cmd::Command::new(TURNWELL);
    let output = command.args(["import-coturn", "/nonexistent/turnserver.conf"]).output().expect("a program to run");
    assert_eq!(output.status.code(), Some(66));
}
