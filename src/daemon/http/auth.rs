//! Who may call: whoever presents one of the API keys, for what its scopes allow, as often as its rate allows.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap};

use super::limits::Source;
use super::problem::{Code, Problem};
use super::{Api, Minting};
use crate::daemon::config::{Client, Scope};

impl Api {
    /// Accepts `Authorization: Bearer KEY`.
    pub(super) fn bearer(&self, request: &Request, scope: Scope) -> Result<Arc<Client>, Problem> {
        let minting = self.minting();
        let keys = presented(request.headers()).into_iter();
        self.authorize(&minting, source(request.extensions()), keys, scope)
    }

    /// Accepts the first known one of these keys.
    pub(super) fn authorize<'a>(
        &self,
        minting: &Minting,
        source: Source,
        mut keys: impl Iterator<Item = &'a str>,
        scope: Scope,
    ) -> Result<Arc<Client>, Problem> {
        let mut any = false;
        let found = keys.find_map(|key| {
            any = true;
            minting.rules.keys.find(key)
        });
        let client = match found {
            Some(client) => client.clone(),
            None if source == Source::Socket && minting.rules.socket_trusted && !any => minting.socket.clone(),
            None => return Err(self.refusal(minting, source, any)),
        };
        self.limits.request(&client.id, client.rate).map_err(|wait| {
            let detail = format!("this key makes more than {} requests in a second (its rate)", client.rate);
            Problem::new(Code::RateLimited, detail).retry_after(wait)
        })?;
        if !client.may(scope) {
            let detail = format!("this needs a key with the scope {:?}", scope.name());
            return Err(Problem::new(Code::ForbiddenScope, detail));
        }
        Ok(client)
    }

    fn refusal(&self, minting: &Minting, source: Source, presented: bool) -> Problem {
        if let Err(wait) = self.limits.failure(source, minting.rules.failure_rate) {
            let detail = "too many requests without a valid key come from this address";
            return Problem::new(Code::RateLimited, detail).retry_after(wait);
        }
        let detail = match (minting.rules.keys.is_empty(), presented) {
            (true, _) => "the server has no API key: set api.clients, api.keys or api.key-files",
            (false, true) => "the API key is not known here",
            (false, false) => "send an API key in the header `Authorization: Bearer KEY`, or as this path documents",
        };
        Problem::new(Code::Unauthorized, detail)
    }
}

/// The key in the Authorization header (RFC 6750 §2.1; the scheme's case does not matter).
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| key.trim())
}

/// Where a request comes from; set by the accept loop.
pub(super) fn source(extensions: &Extensions) -> Source {
    extensions.get().copied().unwrap_or(Source::Address(std::net::Ipv4Addr::LOCALHOST.into()))
}
