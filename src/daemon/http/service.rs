//! The accept loops under the routes: a cap on connections, a deadline for a TLS handshake and for a request's head,
//! and an end that does not drag on.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Api;
use super::counts::Handshake;
use super::limits::Source;

/// Connections of one listener at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// For a TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// For the head of a request, and for how long an idle connection is kept.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 16 * 1024;
/// For requests that are under way when the server ends.
const GRACE: Duration = Duration::from_millis(300);
/// After accept failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the API can be called, bound.
pub(in crate::daemon) enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener),
}

/// A connection of one of them.
enum Stream {
    Tcp(TcpStream, Source),
    Tls(TcpStream, Source),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| Stream::Tcp(stream, Source::Address(peer.ip())))
            }
            Listener::Tls(listener) => {
                listener.accept().await.map(|(stream, peer)| Stream::Tls(stream, Source::Address(peer.ip())))
            }
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// The API while it serves.
pub(in crate::daemon) struct Service {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Service {
    /// Serves the API on listeners that are bound.
    pub(in crate::daemon) fn start(listeners: Vec<Listener>, api: Arc<Api>) -> Service {
        let (stop, stopped) = watch::channel(false);
        let site = Site { router: super::router(api.clone()), api, stopped };
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(serve(listener, site.clone()));
        }
        Service { stop, listeners: tasks }
    }

    /// Lets the requests that are under way finish, for a moment.
    pub(in crate::daemon) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Site {
    router: Router,
    api: Arc<Api>,
    stopped: watch::Receiver<bool>,
}

async fn serve(listener: Listener, mut site: Site) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, slot) = tokio::select! {
            _ = site.stopped.changed() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let site = site.clone();
        match stream {
            Stream::Tcp(stream, source) => connections.spawn(connection(stream, source, site, slot)),
            Stream::Tls(stream, source) => connections.spawn(sealed_connection(stream, source, site, slot)),
            Stream::Unix(stream) => connections.spawn(connection(stream, Source::Socket, site, slot)),
        };
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // whatever is left is dropped with the set
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn accept(listener: &Listener, slots: &Arc<Semaphore>) -> (Stream, Option<OwnedSemaphorePermit>) {
    // none only when the semaphore is closed, which it never is
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok(stream) => return (stream, slot),
            Err(error) => {
                tracing::debug!(%error, "the API could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Nothing is read but a handshake until that is over.
async fn sealed_connection(stream: TcpStream, source: Source, mut site: Site, slot: Option<OwnedSemaphorePermit>) {
    let Some(tls) = &site.api.facts.tls else { return };
    let accepted = TlsAcceptor::from(tls.config()).accept(stream);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HANDSHAKE_DEADLINE, accepted) => accepted,
        () = until(&mut site.stopped) => return,
    };
    match accepted {
        Ok(Ok(stream)) => {
            site.api.counts.shook_hands(Handshake::of(stream.get_ref().1.handshake_kind()));
            connection(stream, source, site, slot).await;
        }
        Ok(Err(error)) => {
            site.api.counts.shook_hands(Handshake::Failed);
            tracing::debug!(%error, "a TLS handshake with the API failed");
        }
        Err(_) => site.api.counts.shook_hands(Handshake::TimedOut),
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    source: Source,
    site: Site,
    _slot: Option<OwnedSemaphorePermit>,
) {
    let Site { router, mut stopped, .. } = site;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(source);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MOST_HEADERS)
        .max_header_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection failed");
    }
}

async fn until(stopped: &mut watch::Receiver<bool>) {
    // fails only when the sender is gone, which is the end as well
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
