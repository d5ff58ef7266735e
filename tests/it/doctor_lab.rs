//! `turnwell doctor` across a network: NAT, firewall, load balancer, two families, certificates; and nothing to complain
//! about when all is well.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::doctor::{Said, config};
use crate::lab::{CLIENT, Lab, PUBLIC};
use crate::support::{Folder, Serve};

const SECRET: &str = "c2VjcmV0LXNlY3JldA==";

/// A server at an address of the lab, with more configuration.
fn serve(lab: &Lab, address: &str, more: &str) -> (Serve, Folder) {
    let folder = folder(address, more);
    (lab.serve(&folder.config()), folder)
}

fn folder(address: &str, more: &str) -> Folder {
    let folder = Folder::with(&config(address, more).replace("{udp}", "3478").replace("{tcp}", "3478"));
    folder.write("secret", SECRET, 0o600);
    folder
}

fn said(mut command: Command, args: &[&str]) -> Said {
    command.args(["doctor", "--json"]).args(args);
    if !args.contains(&"--timeout") {
        command.args(["--timeout", "1"]);
    }
    Said::of(&command.output().expect("a program to run"))
}

/// The doctor on the side of clients, with the right secret.
fn client(lab: &Lab, folder: &Folder, urls: &[&str], more: &[&str]) -> Said {
    let secret = folder.path("secret");
    let mut args = vec!["--secret-file", text(&secret)];
    urls.iter().for_each(|url| args.extend(["--url", *url]));
    args.extend(more);
    said(lab.turnwell("c"), &args)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Certificates as an authority makes them: its own, an intermediate one, the server's.
pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    pub(crate) middle: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(authority("root"), key()).expect("a root");
        let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).expect("an authority");
        Pki { root, middle }
    }

    /// Writes a certificate for a name that is valid until the end of a year, with or without the intermediate one.
    pub(crate) fn write(&self, folder: &Folder, name: &str, until: i32, whole: bool) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        params.distinguished_name.push(DnType::CommonName, name);
        let leaf = params.signed_by(&key, &self.middle).expect("a certificate");
        let middle = if whole { self.middle.pem() } else { String::new() };
        folder.write("chain.pem", &format!("{}{middle}", leaf.pem()), 0o644);
        folder.write("key.pem", &key.serialize_pem(), 0o600);
        folder.write("root.pem", &self.root.pem(), 0o644);
    }
}

const TLS: &str = "[tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";
const TURNS: &str = "turns:turn.example.org:5349?transport=tcp";

fn with_tls(address: &str) -> Folder {
    let folder = folder(address, TLS);
    let text = std::fs::read_to_string(folder.config()).expect("the configuration");
    let text = text.replace("[listen]\n", &format!("[listen]\ntls = [\"{address}:5349\"]\n"));
    folder.write(
        "turnwell.toml",
        &text.replace("workers = 1\n", "workers = 1\npublic-host = \"turn.example.org\"\n"),
        0o600,
    );
    folder
}

#[test]
fn a_healthy_server_gives_none_over_every_transport_and_family() {
    let Some(lab) = Lab::new("11.0.0") else { return };
    let folder = with_tls("11.0.0.2");
    let config = std::fs::read_to_string(folder.config()).expect("the configuration");
    let dual = config.replace("udp = [\"11.0.0.2:3478\"]", "udp = [\"11.0.0.2:3478\", \"[2600:11::2]:3478\"]");
    let dual = dual.replace("tcp = [\"11.0.0.2:3478\"]", "tcp = [\"11.0.0.2:3478\", \"[2600:11::2]:3478\"]");
    let dual = dual.replace("tls = [\"11.0.0.2:5349\"]", "tls = [\"11.0.0.2:5349\", \"[2600:11::2]:5349\"]");
    folder.write("turnwell.toml", &dual, 0o600);
    Pki::new().write(&folder, "turn.example.org", 4000, true);
    lab.hosts("11.0.0.2 turn.example.org\n2600:11::2 turn.example.org\n");
    let _serve = lab.serve(&folder.config());
    let (root, path) = (folder.path("root.pem"), folder.config());
    let examined = said(lab.turnwell("s"), &["--config", text(&path), "--ca", text(&root)]);
    examined.found(&[], 0, "");
    let probed = ["--config", text(&path), "--ca", text(&root), "--stun", "11.0.0.2"];
    said(lab.turnwell("s"), &probed).found(&[], 0, "");
    let urls = ["turn:turn.example.org", "turn:turn.example.org?transport=tcp", TURNS];
    // IPv6 on a new link may take a second to begin
    let tried = client(&lab, &folder, &urls, &["--ca", text(&root), "--timeout", "5"]);
    tried.found(&[], 0, "");
    let steps = tried.json["steps"].as_array().expect("steps");
    let passed = |name: &str| steps.iter().filter(|step| step["name"] == name && step["result"] == "passed").count();
    for step in ["stun", "allocate", "relay", "ports", "peers"] {
        assert_eq!(passed(step), 6, "{step}: {:#}", tried.json);
    }
    assert_eq!(passed("certificate"), 2);
}

/// Finding 1, from outside and on the server; with the mapping all is well.
#[test]
fn a_missing_external_address_behind_a_nat_is_named_with_both() {
    let Some(lab) = Lab::new("10.1.0") else { return };
    lab.nat("10.1.0.2");
    let url = format!("turn:{PUBLIC}");
    {
        let (_serve, folder) = serve(&lab, "10.1.0.2", "");
        client(&lab, &folder, &[&url], &[]).found(
            &["external-address"],
            78,
            "reached at 11.0.0.9, but it relays at 10.1.0.2",
        );
    }
    // a STUN server outside: the other side's
    let (_outside, _folder) = {
        let folder = folder(CLIENT, "");
        let mut command = lab.turnwell("c");
        command.arg("serve").arg("--config").arg(folder.config());
        let serve = Serve::spawn(command);
        serve.notified("READY=1");
        (serve, folder)
    };
    let examine = |folder: &Folder| said(lab.turnwell("s"), &["--config", text(&folder.config()), "--stun", CLIENT]);
    examine(&folder("10.1.0.2", "")).found(
        &["external-address"],
        78,
        "see this machine as 11.0.0.9, but it relays at 10.1.0.2",
    );
    let mapped = format!("[relay]\nexternal = [{{ local = \"10.1.0.2\", public = \"{PUBLIC}\" }}]\n");
    let map = |folder: Folder| {
        let text = std::fs::read_to_string(folder.config()).expect("the configuration");
        folder.write("turnwell.toml", &text.replace("[relay]\n", &mapped), 0o600);
        folder
    };
    let folder = map(folder("10.1.0.2", ""));
    examine(&folder).found(&[], 0, "");
    let _serve = lab.serve(&folder.config());
    client(&lab, &folder, &[&url], &[]).found(&[], 0, "");
}

/// Finding 2, in both directions.
#[test]
fn relay_ports_that_a_firewall_closes_are_named() {
    for (rule, words) in [
        ("add rule ip t forth udp dport 20000-29999 drop", "does not arrive"),
        ("add rule ip t forth udp sport 20000-29999 drop", "none comes back"),
    ] {
        let Some(lab) = Lab::new("11.0.0") else { return };
        lab.rules(&[rule]);
        let (_serve, folder) = serve(&lab, "11.0.0.2", "");
        client(&lab, &folder, &["turn:11.0.0.2"], &[]).found(&["relay-ports"], 69, words);
    }
}

/// Finding 4.
#[test]
fn a_client_with_a_private_address_is_told_that_this_is_normal() {
    let Some(lab) = Lab::new("11.0.0") else { return };
    lab.run("c", "ip address add 10.9.0.2/24 dev eth0").expect("an address");
    lab.run("r", "ip address add 10.9.0.1/24 dev toc").expect("an address");
    lab.run("c", "ip route replace default via 10.9.0.1 src 10.9.0.2").expect("a route");
    let (_serve, folder) = serve(&lab, "11.0.0.2", "");
    client(&lab, &folder, &["turn:11.0.0.2"], &[]).found(&["private-peer"], 0, "403");
}

/// Findings 14 and 15: somebody in between puts an address of its own.
#[test]
fn source_addresses_that_a_bridge_or_a_balancer_hides_are_named() {
    for (network, ids, words) in [
        ("172.17.0", ["bridge", "private-peer"], "172.17.0.1, the gateway of a container bridge"),
        ("10.1.0", ["hidden-sources", "private-peer"], "10.1.0.1, a private address"),
    ] {
        let Some(lab) = Lab::new(network) else { return };
        let server = format!("{network}.2");
        lab.nat(&server);
        lab.run("r", "nft add rule ip t post oifname tos masquerade").expect("a rule");
        let folder = folder(&server, "");
        let text = std::fs::read_to_string(folder.config()).expect("the configuration");
        let mapped = format!("[relay]\nexternal = [{{ local = \"{server}\", public = \"{PUBLIC}\" }}]\n");
        folder.write("turnwell.toml", &text.replace("[relay]\n", &mapped), 0o600);
        let _serve = lab.serve(&folder.config());
        client(&lab, &folder, &[&format!("turn:{PUBLIC}")], &[]).found(&ids, 1, words);
    }
}

/// Finding 11.
#[test]
fn each_fault_of_a_certificate_is_named() {
    let Some(lab) = Lab::new("11.0.0") else { return };
    lab.hosts("11.0.0.2 turn.example.org other.example.org\n");
    let pki = Pki::new();
    let folder = with_tls("11.0.0.2");
    let (root, path) = (folder.path("root.pem"), folder.config());
    let examine = || said(lab.turnwell("s"), &["--config", text(&path), "--ca", text(&root)]);
    pki.write(&folder, "turn.example.org", 2020, true);
    examine().found(&["certificate"], 78, "has expired");
    pki.write(&folder, "else.example.org", 4000, true);
    examine().found(&["certificate"], 78, "not for turn.example.org");
    pki.write(&folder, "turn.example.org", 4000, false);
    examine().found(&["certificate"], 78, "nothing that leads to a trusted one");
    {
        let _serve = lab.serve(&path);
        client(&lab, &folder, &[TURNS], &["--ca", text(&root)]).found(
            &["certificate"],
            78,
            "one certificate, issued by CN=middle",
        );
    }
    pki.write(&folder, "turn.example.org", 4000, true);
    let _serve = lab.serve(&path);
    let other = "turns:other.example.org:5349?transport=tcp";
    client(&lab, &folder, &[other], &["--ca", text(&root)]).found(
        &["certificate"],
        78,
        "does not name other.example.org",
    );
    client(&lab, &folder, &[TURNS], &[]).found(&["certificate"], 78, "does not trust");
    client(&lab, &folder, &[TURNS], &["--ca", text(&root)]).found(&[], 0, "");
}

/// Finding 16: an AAAA record without IPv6 behind it.
#[test]
fn an_address_record_that_leads_nowhere_is_named() {
    let Some(lab) = Lab::new("11.0.0") else { return };
    lab.hosts("11.0.0.2 turn.example.org\n2600:11::2 turn.example.org\n");
    let (_serve, folder) = serve(&lab, "11.0.0.2", "");
    for url in ["turn:turn.example.org", "turn:turn.example.org?transport=tcp"] {
        let said = client(&lab, &folder, &[url], &[]);
        said.found(&["family"], 69, "answers at 11.0.0.2, but not at 2600:11::2");
    }
}
