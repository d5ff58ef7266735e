//! The accept loops under the routes: a cap on connections, a deadline for a request's head, and an end that does not
//! drag on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::Api;

/// Connections of one listener at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// For the head of a request, and for how long an idle connection is kept.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
const MOST_HEADERS: usize = 64;
const LONGEST_HEAD: usize = 16 * 1024;
/// For requests that are under way when the server ends.
const GRACE: Duration = Duration::from_millis(300);
/// After accept failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The API while it serves.
pub(in crate::daemon) struct Service {
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Service {
    /// Serves the API on listeners that are bound.
    pub(in crate::daemon) fn start(listeners: Vec<TcpListener>, api: Arc<Api>) -> Service {
        let (stop, stopped) = watch::channel(false);
        let router = super::router(api);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(serve(listener, router.clone(), stopped.clone()));
        }
        Service { stop, listeners: tasks }
    }

    /// Lets the requests that are under way finish, for a moment.
    pub(in crate::daemon) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.listeners.join_next().await.is_some() {}
    }
}

async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, slot) = tokio::select! {
            _ = stopped.changed() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, router.clone(), stopped.clone(), slot));
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // whatever is left is dropped with the set
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // none only when the semaphore is closed, which it never is
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::debug!(%error, "the API could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    _slot: Option<OwnedSemaphorePermit>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(MOST_HEADERS)
        .max_header_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
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
