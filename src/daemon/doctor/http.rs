//! Calls the HTTP API of the server under test, over TCP, TLS or its Unix socket.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST};
use axum::http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::client::{Io, over_tls};
use super::trust::{Seen, Trust};

const LONGEST_ANSWER: usize = 4 << 20;

/// What the API answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Its clock, in seconds since 1970.
    pub(super) date: Option<u64>,
    /// The certificate it showed, over TLS.
    pub(super) seen: Option<Seen>,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Calls `http://…`, `https://…` or the path of a Unix socket.
pub(super) async fn call(
    base: &str,
    (method, path, body): (Method, &str, String),
    key: Option<&str>,
    trust: &Trust,
    patience: Duration,
) -> Result<Answer, Failed> {
    let (stream, host, prefix, seen) = connected(base, trust, patience).await?;
    let mut request = Request::builder().method(method).uri(format!("{prefix}{path}")).header(HOST, host);
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let exchange = exchanged(stream, request.body(Body::from(body))?);
    let answer = tokio::time::timeout(patience, exchange).await.map_err(|_| "no answer in time")??;
    Ok(Answer { seen, ..answer })
}

async fn connected(
    base: &str,
    trust: &Trust,
    patience: Duration,
) -> Result<(Box<dyn Io>, String, String, Option<Seen>), Failed> {
    let (rest, tls) = match (base.strip_prefix("http://"), base.strip_prefix("https://")) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => {
            let stream = UnixStream::connect(Path::new(base)).await?;
            return Ok((Box::new(stream), "turnwell".into(), String::new(), None));
        }
    };
    let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let prefix = prefix.trim_end_matches('/').to_owned();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:{}", if tls { 443 } else { 80 }) };
    let connect = TcpStream::connect(&address);
    let stream = tokio::time::timeout(patience, connect).await.map_err(|_| "no answer to the connection attempt")??;
    if !tls {
        return Ok((Box::new(stream), authority.to_owned(), prefix, None));
    }
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    let (stream, seen) = tokio::time::timeout(patience, over_tls(stream, host, trust, None))
        .await
        .map_err(|_| "no answer to the TLS handshake")??;
    Ok((stream, authority.to_owned(), prefix, seen))
}

async fn exchanged<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Body>,
) -> Result<Answer, Failed> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // when it fails, so does the exchange
    let driver = tokio::spawn(connection);
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let date = parts.headers.get(DATE).and_then(|date| imf_date(date.to_str().ok()?));
        let body = to_bytes(Body::new(body), LONGEST_ANSWER).await?.to_vec();
        Ok(Answer { status: parts.status.as_u16(), body, date, seen: None })
    };
    let answer = exchange.await;
    driver.abort();
    answer
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) in seconds since 1970.
fn imf_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // days since 1970 in the proleptic Gregorian calendar, with years that begin in March
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http() {
        assert_eq!(imf_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(imf_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(imf_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        assert_eq!(imf_date("yesterday"), None);
    }
}
