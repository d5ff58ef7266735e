//! One URL at one address: each step in turn, what it showed, and what was found.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::finding::{Finding, shown};
use super::super::hints;
use super::super::login::Login;
use super::super::report::Outcome;
use super::super::trust::{self, Trust};
use super::super::uri::{Transport, Uri};
use super::conn::Channel;
use super::judge;
use super::link::{Link, OpenError};
use super::session::{Caller, NoAllocation, Passage, Session};
use crate::daemon::unix_now;

/// What is tried.
#[derive(Clone)]
pub(super) struct Plan<'a> {
    pub(super) uri: &'a Uri,
    pub(super) server: SocketAddr,
    pub(super) login: Option<&'a Login>,
    /// A shared secret that the server may have, to explain refusals with.
    pub(super) secret: Option<&'a str>,
    pub(super) trust: &'a Trust,
    pub(super) patience: Duration,
}

/// What came of it.
pub(super) struct Trial {
    pub(super) steps: Vec<(&'static str, Outcome)>,
    pub(super) findings: Vec<Finding>,
    pub(super) reached: Reached,
}

/// Whether anything answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Yes,
    /// Nothing did, and in words why.
    No(String),
    /// This machine has no route to such addresses.
    NoRoute,
}

/// Addresses that no relay should lead to: loopback, cloud metadata, private networks.
const FORBIDDEN: [&str; 8] = [
    "127.255.255.254",
    "169.254.169.254",
    "10.255.255.254",
    "172.31.255.254",
    "192.168.255.254",
    "::1",
    "fe80::fefe",
    "fd00::fefe",
];

impl Trial {
    fn pass(&mut self, step: &'static str, detail: impl Into<String>) {
        self.steps.push((step, Outcome::Passed(detail.into())));
    }

    fn fail(&mut self, step: &'static str, detail: impl Into<String>) {
        self.steps.push((step, Outcome::Failed(detail.into())));
    }

    fn skip(&mut self, step: &'static str, why: impl Into<String>) {
        self.steps.push((step, Outcome::Skipped(why.into())));
    }

    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

pub(super) async fn run(plan: &Plan<'_>) -> Trial {
    let mut trial = Trial { steps: Vec::new(), findings: Vec::new(), reached: Reached::Yes };
    match caller(plan, plan.login).await {
        Ok(caller) => {
            certificate(plan, &caller, &mut trial);
            stun(plan, caller, &mut trial).await;
        }
        Err(error) => not_opened(plan, error, &mut trial).await,
    }
    trial
}

async fn caller(plan: &Plan<'_>, login: Option<&Login>) -> Result<Caller, OpenError> {
    let link = Link::open(plan.uri.transport, plan.server, &plan.uri.host, plan.trust, plan.patience).await?;
    let (username, password) =
        login.map(|login| (login.username.as_str(), login.password.as_str())).unwrap_or_default();
    let channel = Channel::new(link, username, password);
    let failed = |error: turn::Error| OpenError::Connect(std::io::Error::other(error.to_string()));
    Caller::new(channel, login).await.map_err(failed)
}

fn certificate(plan: &Plan<'_>, caller: &Caller, trial: &mut Trial) {
    let Some(seen) = &caller.channel.link.seen else { return };
    match trust::judged(&seen.chain, &seen.verdict, &plan.uri.host) {
        None => trial.pass("certificate", format!("a chain of {}, for {}", seen.chain.len(), shown(&plan.uri.host))),
        Some(finding) => {
            trial.fail("certificate", finding.saw.clone());
            trial.find(finding);
        }
    }
}

async fn stun(plan: &Plan<'_>, caller: Caller, trial: &mut Trial) {
    let began = Instant::now();
    let mapped = caller.binding(plan.patience).await;
    match mapped {
        Some(mapped) => {
            trial.pass("stun", format!("{:.1} ms, seen as {mapped}", began.elapsed().as_secs_f64() * 1e3));
            if let Some(finding) = judge::source(plan.server, caller.channel.link.local, mapped) {
                trial.find(finding);
            }
        }
        None if plan.uri.relays && plan.login.is_some() => trial.skip("stun", "no answer to a Binding request"),
        None => return silent(plan, &caller.channel, trial).await,
    }
    if !plan.uri.relays {
        return;
    }
    match plan.login {
        Some(login) => allocate(plan, login, caller, mapped, trial).await,
        None => trial.skip("allocate", "there is no credential: give --secret-file, or --user and --password-file"),
    }
}

async fn allocate(plan: &Plan<'_>, login: &Login, caller: Caller, mapped: Option<SocketAddr>, trial: &mut Trial) {
    let (channel, began) = (caller.channel.clone(), Instant::now());
    let session = match caller.allocate(plan.patience).await {
        Ok(session) => session,
        Err(NoAllocation::Silent) if mapped.is_none() && !channel.journal().answered => {
            trial.steps.retain(|(step, _)| *step != "stun");
            return silent(plan, &channel, trial).await;
        }
        Err(why) => return not_allocated(plan, login, &why, trial).await,
    };
    let software = channel.journal().software.clone().map(|name| format!(", by {}", shown(&name))).unwrap_or_default();
    trial.pass(
        "allocate",
        format!("{:.1} ms, relayed at {}{software}", began.elapsed().as_secs_f64() * 1e3, session.relayed),
    );
    let external = judge::relayed(plan.server, session.relayed);
    let is_reachable = external.is_none();
    external.into_iter().for_each(|finding| trial.find(finding));
    own(plan, login, &session, trial).await;
    match mapped {
        Some(mapped) if mapped.ip() == session.relayed.ip() => {
            trial.skip("ports", "this machine is the server: try from another one");
        }
        Some(mapped) if is_reachable => outside(plan, &session, mapped, trial).await,
        Some(_) => trial.skip("ports", "the relayed address is not one that others reach"),
        None => trial.skip("ports", "the server did not say from where it sees us"),
    }
    open(plan, &session, trial).await;
    session.close().await;
}

/// Through the relay to another allocation of ours.
async fn own(plan: &Plan<'_>, login: &Login, session: &Session, trial: &mut Trial) {
    let second = match caller(plan, Some(login)).await {
        Ok(caller) => caller.allocate(plan.patience).await,
        Err(error) => return trial.skip("relay", format!("there is no second connection: {error:?}")),
    };
    let second = match second {
        Ok(second) => second,
        Err(NoAllocation::Refused(refusal)) => {
            trial.skip("relay", format!("no second allocation: {} {}", refusal.code, shown(&refusal.reason)));
            return trial.find(judge::refused(&refusal, login, plan.server));
        }
        Err(why) => return trial.skip("relay", format!("no second allocation: {why:?}")),
    };
    match session.exchange(&second, plan.patience).await {
        Passage::Through => trial.pass("relay", "data both ways between two allocations"),
        passage => {
            trial.fail("relay", "no data between two allocations of this server");
            trial.find(judge::own_relay(&passage, session.relayed, second.relayed));
        }
    }
    second.close().await;
}

/// To the relayed address from outside, and back.
async fn outside(plan: &Plan<'_>, session: &Session, mapped: SocketAddr, trial: &mut Trial) {
    match session.outside(mapped.ip(), plan.patience).await {
        Passage::Through => trial.pass("ports", "data both ways with a peer outside the server"),
        Passage::Untried(why) => trial.skip("ports", why),
        Passage::Refused(refusal) => match judge::peer_refused(&refusal, mapped.ip()) {
            (true, finding) => {
                trial.skip("ports", format!("the server relays to no peer at {}", mapped.ip()));
                trial.find(finding);
            }
            (false, finding) => {
                trial.fail("ports", finding.saw.clone());
                trial.find(finding);
            }
        },
        passage => {
            let finding = judge::ports(&passage, session.relayed);
            trial.fail("ports", finding.saw.clone());
            trial.find(finding);
        }
    }
}

/// Where the relay must not lead.
async fn open(plan: &Plan<'_>, session: &Session, trial: &mut Trial) {
    let forbidden = FORBIDDEN.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    let mut reached = Vec::new();
    for ip in forbidden.filter(|ip| ip.is_ipv4() == session.relayed.is_ipv4() && *ip != session.relayed.ip()) {
        match session.may_reach(ip, plan.patience).await {
            Some(true) => reached.push(ip),
            Some(false) => {}
            None => return trial.skip("peers", "no answer to CreatePermission"),
        }
    }
    match judge::open(&reached, session.relayed.ip()) {
        None => trial.pass("peers", "private, loopback and metadata addresses are refused"),
        Some(finding) => {
            trial.fail("peers", finding.saw.clone());
            trial.find(finding);
        }
    }
}

async fn not_allocated(plan: &Plan<'_>, login: &Login, why: &NoAllocation, trial: &mut Trial) {
    let finding = match why {
        NoAllocation::Refused(refusal) if refusal.code == 401 => {
            trial.fail("allocate", format!("401 {} for {:?}", shown(&refusal.reason), shown(&login.username)));
            let hint = hint(plan, login).await;
            return trial.find(judge::unauthorized(refusal, login, unix_now(), hint.as_ref()));
        }
        NoAllocation::Refused(refusal) => judge::refused(refusal, login, plan.server),
        NoAllocation::Anonymous => judge::anonymous(),
        NoAllocation::NoChallenge(refusal) => judge::no_challenge(refusal.as_ref()),
        NoAllocation::Unsigned => judge::unsigned(),
        NoAllocation::Silent => judge::silent_after_challenge(),
        NoAllocation::Failed(error) => judge::failed(error),
    };
    trial.fail("allocate", finding.saw.clone());
    trial.find(finding);
}

/// What would have been right, when that can be told.
pub(super) enum Hint {
    /// The password was made of the secret in this way.
    Made(&'static str),
    /// The server takes the secret in this form.
    Takes(&'static str),
    /// The server takes the secret, with a time stamp far ahead: its clock is ahead.
    ClockAhead,
}

async fn hint(plan: &Plan<'_>, login: &Login) -> Option<Hint> {
    let secret = login.secret.as_ref().map(|secret| secret.as_str()).or(plan.secret)?;
    if login.secret.is_none()
        && let Some(words) = hints::made(secret, &login.username, &login.password)
    {
        return Some(Hint::Made(words));
    }
    // What this server would have taken; each try is one more allocation that it refuses.
    let far = Login::until(secret, "doctor", unix_now() + 10 * 366 * 86_400)?;
    if accepts(plan, &far).await {
        return Some(Hint::ClockAhead);
    }
    for variant in hints::variants(secret) {
        let fresh = Login::minted(secret, "doctor", unix_now())?;
        let login = Login::fixed(&fresh.username, &variant.password(&fresh.username));
        if accepts(plan, &login).await {
            return Some(Hint::Takes(variant.words));
        }
    }
    None
}

async fn accepts(plan: &Plan<'_>, login: &Login) -> bool {
    let Ok(caller) = caller(plan, Some(login)).await else { return false };
    match caller.allocate(plan.patience).await {
        Ok(session) => {
            session.close().await;
            true
        }
        Err(_) => false,
    }
}

/// Nothing answers on an open link: find out what is there instead.
async fn silent(plan: &Plan<'_>, channel: &Channel, trial: &mut Trial) {
    let (strays, foreign, broken) = {
        let journal = channel.journal();
        (journal.strays.clone(), journal.foreign.clone(), journal.broken.clone())
    };
    if let Some(finding) = foreign.as_deref().and_then(|bytes| judge::foreign(bytes, plan.server)) {
        trial.fail("stun", finding.saw.clone());
        return trial.find(finding);
    }
    if plan.uri.transport == Transport::Tcp && answers(plan, Transport::Tls).await {
        trial.fail("stun", "the port speaks TLS");
        return trial.find(judge::tls_there(plan.server));
    }
    let why = match (strays.first(), plan.uri.transport) {
        (Some(stray), _) => format!("the answer came from {stray} instead"),
        (None, Transport::Udp) if is_refused(plan).await => "nothing listens there (ICMP port unreachable)".into(),
        (None, Transport::Udp) => "no answer over UDP".into(),
        (None, Transport::Tcp | Transport::Tls) => match broken {
            Some(error) => format!("the connection ended: {}", shown(&error)),
            None => "connected, but no answer to STUN".into(),
        },
    };
    trial.fail("stun", why.clone());
    trial.reached = Reached::No(why);
}

/// Whether the kernel hears that no socket is bound to the port.
async fn is_refused(plan: &Plan<'_>) -> bool {
    let asked = async {
        let local = super::link::local_ip(plan.server).await?;
        let socket = tokio::net::UdpSocket::bind((local, 0)).await?;
        socket.connect(plan.server).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    let answer = tokio::time::timeout(Duration::from_millis(500), asked).await;
    matches!(answer, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Whether the same address and port answer over another transport.
async fn answers(plan: &Plan<'_>, transport: Transport) -> bool {
    let uri = Uri { transport, ..plan.uri.clone() };
    let other = Plan { uri: &uri, ..plan.clone() };
    match caller(&other, None).await {
        Ok(caller) => caller.binding(plan.patience).await.is_some(),
        Err(_) => false,
    }
}

async fn not_opened(plan: &Plan<'_>, error: OpenError, trial: &mut Trial) {
    let why = match error {
        OpenError::NoRoute(error) => {
            trial.skip("connect", format!("this machine cannot reach such an address: {error}"));
            trial.reached = Reached::NoRoute;
            return;
        }
        OpenError::Connect(error) => format!("the connection is refused: {error}"),
        OpenError::ConnectTimeout => "no answer to the connection attempt".into(),
        OpenError::HandshakeTimeout if answers(plan, Transport::Tcp).await => {
            trial.fail("tls", "the port speaks without TLS");
            return trial.find(judge::plain_there(plan.server));
        }
        OpenError::HandshakeTimeout => "no answer to the TLS handshake".into(),
        OpenError::Handshake(_) if answers(plan, Transport::Tcp).await => {
            trial.fail("tls", "the port speaks without TLS");
            return trial.find(judge::plain_there(plan.server));
        }
        OpenError::Handshake(error) => {
            if let Some(finding) = judge::handshake(&error, &plan.uri.host) {
                trial.fail("tls", finding.saw.clone());
                return trial.find(finding);
            }
            format!("the TLS handshake failed: {}", shown(&error.to_string()))
        }
    };
    trial.fail("connect", why.clone());
    trial.reached = Reached::No(why);
}
