//! How the commands that watch and steer a running server reach it: its HTTP API, over TCP, TLS or the Unix socket.
//!
//! Over TLS the server must show the very certificate that the configuration names; one that is named by `--api` must
//! show one that this machine trusts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{Method, Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::super::config::Config;
use super::super::exit::{self, Failure};
use super::super::trust::{self, Trust};

/// Names the key when `--key-file` does not.
const VARIABLE: &str = "TURNWELL_API_KEY";
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 << 20;

/// Where the server is and with which key to call it.
#[derive(clap::Args)]
pub(super) struct Target {
    /// The API: http://HOST:PORT, https://HOST:PORT or the path of its Unix socket [default: as the configuration says]
    #[arg(long, value_name = "URL|PATH")]
    api: Option<String>,
    /// Trust the certificates in this file, too, when --api is an https:// URL
    #[arg(long, value_name = "FILE", requires = "api")]
    ca: Option<PathBuf>,
    /// A file with an API key of the scope admin [default: $TURNWELL_API_KEY; a trusted socket needs none]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The configuration file [default: $TURNWELL_CONFIG, else /etc/turnwell/turnwell.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Target {
    /// Calls the server and returns what it answered; a refusal is a failure.
    pub(super) fn call(&self, method: &Method, path: &str) -> Result<Value, Failure> {
        let (status, body) = self.ask(method, path)?;
        Target::accepted(status, body)
    }

    /// Calls the server and returns what it answered, refusals included.
    pub(super) fn ask(&self, method: &Method, path: &str) -> Result<(StatusCode, Value), Failure> {
        let (address, trust) = match &self.api {
            Some(address) => (address.clone(), Trust::Roots(self.ca.clone())),
            None => self.configured()?,
        };
        let key = self.key()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::system("cannot call the server", &error))?;
        let exchange = exchange(&address, trust, method, path, key.as_deref());
        let called = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        let failed = |error: &dyn std::fmt::Display| {
            let what = format!("cannot call the server at {address}: {error}");
            Failure::new(exit::UNAVAILABLE, what, "is it running? --api names another address or socket")
        };
        match called {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"no answer in 10 seconds")),
        }
    }

    /// The answer, unless it is a refusal.
    pub(super) fn accepted(status: StatusCode, body: Value) -> Result<Value, Failure> {
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason is given");
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "name a file with a key of the scope admin by --key-file, or put the key into TURNWELL_API_KEY; \
                `turnwell key new --id ops --scope admin` makes one"
            }
            _ => "see docs/api.md for what the code means",
        };
        let code = body["code"].as_str().unwrap_or_default();
        Err(Failure::new(exit::UNAVAILABLE, format!("the server refused: {detail} ({status}, {code})"), remedy))
    }

    fn configured(&self) -> Result<(String, Trust), Failure> {
        let config = Config::load(&super::config_path(self.config.clone()))?;
        if let Some(socket) = &config.fixed.api_socket {
            return Ok((socket.display().to_string(), Trust::Roots(None)));
        }
        let listener = config.fixed.api.first().ok_or_else(|| {
            Failure::new(exit::CONFIG, "api.listen: the API is switched off", "set api.listen or api.socket")
        })?;
        let shown = config.live.api_certificate.as_ref().and_then(|certificate| certificate.first());
        let trust = shown.map_or(Trust::Roots(None), |shown| Trust::Only(shown.clone()));
        Ok((super::dev::url(listener), trust))
    }

    fn key(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.key_file else {
            return Ok(std::env::var(VARIABLE).ok().filter(|key| !key.is_empty()));
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("--key-file: cannot read {}: {error}", path.display());
            Failure::new(exit::USAGE, what, "name a readable file that holds one API key")
        })?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

async fn exchange(
    address: &str,
    trust: Trust,
    method: &Method,
    path: &str,
    key: Option<&str>,
) -> Result<(StatusCode, Value), Box<dyn std::error::Error>> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "turnwell");
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Body::empty())?;
    if let Some(authority) = address.strip_prefix("http://") {
        return send(TcpStream::connect(authority.trim_end_matches('/')).await?, request).await;
    }
    let Some(authority) = address.strip_prefix("https://") else {
        return send(UnixStream::connect(Path::new(address)).await?, request).await;
    };
    let authority: Authority = authority.trim_end_matches('/').parse()?;
    let name = ServerName::try_from(authority.host().trim_matches(['[', ']']).to_owned())?;
    let client = trust::client(trust)?;
    let stream = TcpStream::connect(authority.as_str()).await?;
    send(TlsConnector::from(client).connect(name, stream).await?, request).await
}

async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Body>,
) -> Result<(StatusCode, Value), Box<dyn std::error::Error>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let bytes = to_bytes(Body::new(body), LONGEST_ANSWER).await?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        Ok((parts.status, body))
    };
    tokio::select! {
        answer = exchange => answer,
        // ends first only when it fails, or when the server hangs up
        ended = connection => Err(ended.err().map_or_else(|| "the server hung up".into(), Into::into)),
    }
}
