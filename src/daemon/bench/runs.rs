//! The modes, from the first socket to the report.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::args::{Mode, Pace, Plan};
use super::client::{Client, Step, frame_to_peer};
use super::error::BenchError;
use super::load::{Arrival, Load, Parts};
use super::ping::Game;
use super::process::Process;
use super::progress::Progress;
use super::report::{Found, Report, RoundTrip, ServerCost, micros_each};
use super::setup::{self, MISMATCH, assign_neighbours, assign_peers, connect, open_clients, open_link, open_peers};
use super::transact::{self, Ids, Next, Outcome};
use crate::net::sys::thread_cpu_time;
use crate::wire::{Class, Method};

/// Allocations that are made before memory is measured, so that what grows once is not counted for each.
const FIRST_ALLOCATIONS: usize = 32;

/// Clients to peers, peers to clients, or both.
pub(super) fn relay(plan: &Plan) -> Result<Report, BenchError> {
    let (progress, begun) = (&mut Progress::new(), Instant::now());
    let mut clients = open_clients(plan, plan.clients)?;
    let peers = open_peers(plan, &clients)?;
    setup::allocate(plan, &mut clients, progress)?;
    assign_peers(&mut clients, &peers);
    connect(plan, &mut clients, progress)?;
    let set_up = begun.elapsed();
    let payload = payload(plan);
    let up = plan.args.mode != Mode::PeerToClient;
    let load = Load::new(Parts {
        clients: &clients,
        peers: &peers,
        frames: if up { frames(plan, &clients, &payload) } else { Vec::new() },
        payload: &payload,
        arrival: Arrival::Payload,
        down: plan.args.mode != Mode::ClientToPeer,
        burst: plan.burst,
        pace: plan.pace,
    })?;
    let found = stages(plan, load, progress)?;
    setup::release(plan, &mut clients)?;
    Ok(Report::new(plan, set_up, found))
}

/// Client to client, through two allocations.
pub(super) fn relay_to_relay(plan: &Plan) -> Result<Report, BenchError> {
    let (progress, begun) = (&mut Progress::new(), Instant::now());
    let mut clients = open_clients(plan, plan.clients)?;
    setup::allocate(plan, &mut clients, progress)?;
    assign_neighbours(&mut clients);
    connect(plan, &mut clients, progress)?;
    let set_up = begun.elapsed();
    let payload = payload(plan);
    let load = Load::new(Parts {
        clients: &clients,
        peers: &[],
        frames: frames(plan, &clients, &payload),
        payload: &payload,
        arrival: Arrival::Payload,
        down: false,
        burst: plan.burst,
        pace: plan.pace,
    })?;
    let found = stages(plan, load, progress)?;
    setup::release(plan, &mut clients)?;
    Ok(Report::new(plan, set_up, found))
}

/// The same request again and again, from many sources: Binding, or an Allocate that nobody has signed.
pub(super) fn requests(plan: &Plan) -> Result<Report, BenchError> {
    let progress = &mut Progress::new();
    let begun = Instant::now();
    let (step, arrival) = match plan.args.mode {
        Mode::Forged => (Step::Allocate, Arrival::Response(Class::Error, Method::ALLOCATE)),
        _ => (Step::Binding, Arrival::Response(Class::Success, Method::BINDING)),
    };
    let mut clients = open_clients(plan, plan.clients)?;
    transact::run(&mut clients, plan.args.parallel as usize, &mut |_, last| match last {
        None => Ok(Next::Ask(step)),
        // The forgery has learned realm and nonce.
        Some((Step::Allocate, Outcome::Refused(401))) => Ok(Next::Finish),
        Some((step, outcome)) => outcome.expect(step, &plan.args.server).map(|()| Next::Finish),
    })?;
    let set_up = begun.elapsed();
    let mut ids = Ids::new()?;
    let request = |client: &Client| {
        let mut bytes = Vec::new();
        client.request(step, ids.next(), &mut bytes);
        bytes
    };
    let load = Load::new(Parts {
        clients: &clients,
        peers: &[],
        frames: clients.iter().map(request).collect(),
        payload: &[],
        arrival,
        down: false,
        burst: plan.burst,
        pace: plan.pace,
    })?;
    let found = stages(plan, load, progress)?;
    Ok(Report::new(plan, set_up, found))
}

/// Round trips.
pub(super) fn ping_pong(plan: &Plan) -> Result<Report, BenchError> {
    let (progress, begun) = (&mut Progress::new(), Instant::now());
    let mut clients = open_clients(plan, plan.clients)?;
    let peers = open_peers(plan, &clients)?;
    setup::allocate(plan, &mut clients, progress)?;
    assign_peers(&mut clients, &peers);
    connect(plan, &mut clients, progress)?;
    let set_up = begun.elapsed();
    let mut game = Game::new(plan, &clients, &peers)?;
    game.stage(plan.warm_up, u64::MAX, progress)?;
    let meter = Meter::start(plan)?;
    let trips = game.stage(plan.time, plan.packets, progress)?;
    let mut found = meter.stop(trips.offered, trips.times.count(), trips.elapsed)?;
    found.round_trip = RoundTrip::new(&trips.times);
    setup::release(plan, &mut clients)?;
    Ok(Report::new(plan, set_up, found))
}

/// Allocate, CreatePermission, Refresh to nothing, each time as a new client: the first Allocate is challenged.
pub(super) fn allocate(plan: &Plan) -> Result<Report, BenchError> {
    let progress = &mut Progress::new();
    let mut clients = open_clients(plan, plan.clients)?;
    let peers = open_peers(plan, &clients)?;
    assign_peers(&mut clients, &peers);
    cycles(plan, &mut clients, plan.warm_up, u64::MAX, progress)?;
    let meter = Meter::start(plan)?;
    let begun = Instant::now();
    let count = cycles(plan, &mut clients, plan.time, plan.packets, progress)?;
    let found = meter.stop(count.begun, count.ended_well, begun.elapsed())?;
    Ok(Report::new(plan, Duration::ZERO, found))
}

#[derive(Default)]
struct Cycles {
    begun: u64,
    ended_well: u64,
}

fn cycles(
    plan: &Plan,
    clients: &mut [Client],
    time: Duration,
    most: u64,
    progress: &mut Progress,
) -> Result<Cycles, BenchError> {
    let start = Instant::now();
    let mut count = Cycles::default();
    let first_failure = &mut None;
    transact::run(clients, clients.len(), &mut |client, last| {
        let next = match (last, client.peer) {
            (Some((Step::Allocate, Outcome::Refused(MISMATCH))), _) => {
                *client = client.renewed(open_link(plan)?);
                Some(Step::Allocate)
            }
            (Some((Step::Allocate, Outcome::Done)), Some(peer)) => Some(Step::Permission(peer)),
            (Some((Step::Permission(_), Outcome::Done)), _) => Some(Step::Release),
            (Some((Step::Release, Outcome::Done)), _) => {
                count.ended_well += 1;
                None
            }
            (Some((step, outcome)), _) => {
                first_failure.get_or_insert((step, outcome));
                None
            }
            (None, _) => None,
        };
        if let Some(step) = next {
            return Ok(Next::Ask(step));
        }
        let now = Instant::now();
        let share = (now - start).as_secs_f64() / time.as_secs_f64();
        progress.show(now, "allocating", share, || format!("{} cycles", count.ended_well));
        if now - start >= time || count.begun >= most {
            return Ok(Next::Finish);
        }
        if let Some(due) = due(plan.pace, count.begun, start).filter(|due| *due > now) {
            return Ok(Next::Wait(due));
        }
        count.begun += 1;
        *client = client.renewed(open_link(plan)?);
        Ok(Next::Ask(Step::Allocate))
    })?;
    progress.clear();
    match *first_failure {
        Some((step, outcome)) if count.ended_well == 0 => outcome.expect(step, &plan.args.server).map(|()| count),
        _ => Ok(count),
    }
}

/// When the `begun`-th cycle may begin, when there is a rate.
#[allow(clippy::cast_precision_loss, reason = "counts")]
fn due(pace: Pace, begun: u64, start: Instant) -> Option<Instant> {
    match pace {
        Pace::Rate(rate) => Some(start + Duration::from_secs_f64(begun as f64 / rate)),
        Pace::Window(_) => None,
    }
}

/// Allocations that are only held.
pub(super) fn hold(plan: &Plan) -> Result<Report, BenchError> {
    let progress = &mut Progress::new();
    let mut first = open_clients(plan, FIRST_ALLOCATIONS)?;
    let peers = open_peers(plan, &first)?;
    hold_more(plan, &mut first, progress, &peers)?;
    let mut clients = open_clients(plan, plan.clients)?;
    let process = plan.args.pid.map(Process::new).transpose()?;
    let before = process.map(Process::resident).transpose()?;
    let meter = Meter::start(plan)?;
    let begun = Instant::now();
    hold_more(plan, &mut clients, progress, &peers)?;
    let set_up = begun.elapsed();
    let count = clients.len() as u64;
    let mut found = meter.stop(count, count, set_up)?;
    std::thread::sleep(plan.time.min(LONGEST_HOLD));
    #[allow(clippy::cast_precision_loss, reason = "bytes of memory")]
    if let (Some(process), Some(before), Some(cost)) = (process, before, &mut found.server_process) {
        cost.resident_bytes = process.resident()?;
        cost.bytes_per_allocation = Some((cost.resident_bytes as f64 - before as f64) / count as f64);
    }
    setup::release(plan, &mut clients)?;
    setup::release(plan, &mut first)?;
    Ok(Report::new(plan, set_up, found))
}

/// Allocations end after ten minutes.
const LONGEST_HOLD: Duration = Duration::from_secs(240);

fn hold_more(
    plan: &Plan,
    clients: &mut [Client],
    progress: &mut Progress,
    peers: &[setup::Peer],
) -> Result<(), BenchError> {
    setup::allocate(plan, clients, progress)?;
    assign_peers(clients, peers);
    connect(plan, clients, progress)
}

/// The warm-up, then the measured stage.
fn stages(plan: &Plan, mut load: Load<'_>, progress: &mut Progress) -> Result<Found, BenchError> {
    if !plan.warm_up.is_zero() {
        load.stage("warm-up", plan.warm_up, u64::MAX, progress)?;
    }
    let meter = Meter::start(plan)?;
    let tally = load.stage("load", plan.time, plan.packets, progress)?;
    meter.stop(tally.offered, tally.delivered, tally.elapsed)
}

/// CPU time of the server and of this process, from start to stop.
struct Meter {
    process: Option<(Process, Duration)>,
    ours: Duration,
}

impl Meter {
    fn start(plan: &Plan) -> Result<Meter, BenchError> {
        let process = plan.args.pid.map(Process::new).transpose()?;
        let process = process.map(|process| Ok((process, process.cpu_time()?))).transpose()?;
        Ok(Meter { process, ours: thread_cpu_time() })
    }

    fn stop(self, offered: u64, delivered: u64, elapsed: Duration) -> Result<Found, BenchError> {
        let ours = thread_cpu_time().saturating_sub(self.ours);
        let mut found = Found::new(offered, delivered, elapsed, ours);
        if let Some((process, before)) = self.process {
            let used = process.cpu_time()?.saturating_sub(before);
            found.server_process = Some(ServerCost {
                cpu_us: micros_each(used, delivered),
                cpu_seconds: used.as_secs_f64(),
                resident_bytes: process.resident()?,
                bytes_per_allocation: None,
            });
        }
        Ok(found)
    }
}

/// Recognisable bytes of the wanted length.
fn payload(plan: &Plan) -> Vec<u8> {
    b"turnwell bench ".iter().copied().cycle().take(usize::from(plan.args.payload)).collect()
}

fn frames(plan: &Plan, clients: &[Client], payload: &[u8]) -> Vec<Vec<u8>> {
    let peer = |client: &Client| client.peer.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    clients.iter().map(|client| frame_to_peer(peer(client), plan.args.indications, payload)).collect()
}
