//! `/v1/reload`: what SIGHUP does, with an answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Api;
use super::openapi::{ProblemBody, Refused};
use super::problem::{Code, Problem};
use crate::daemon::config::{self, Scope};
use crate::daemon::reload::ReloadError;

/// The configuration has been read again and is in force.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Reloaded {
    /// Keys that changed but need a restart; they keep their old values.
    restart: Vec<&'static str>,
}

/// Reads the configuration again.
#[utoipa::path(post, path = "/v1/reload", tag = "server", responses((status = 200, description = "In force", body = Reloaded), (status = 409, description = "There is no file to read again", body = ProblemBody, content_type = "application/problem+json"), (status = 422, description = "It is wrong, and nothing has changed; `problems` says file, line, key, what and remedy", body = ProblemBody, content_type = "application/problem+json"), Refused), security(("key" = [])))]
pub(super) async fn reload(State(api): State<Arc<Api>>, request: Request) -> Result<Json<Reloaded>, Problem> {
    api.bearer(&request, Scope::Admin)?;
    let busy = || Problem::new(Code::Busy, "too many reloads are under way: try again");
    let (sender, receiver) = oneshot::channel();
    api.facts.reloads.try_send(sender).map_err(|_| busy())?;
    match receiver.await.map_err(|_| busy())? {
        Ok(restart) => Ok(Json(Reloaded { restart })),
        Err(ReloadError::NoFile) => {
            let detail = "this server was started without a configuration file: `turnwell dev` is started anew instead";
            Err(Problem::new(Code::NotReloadable, detail))
        }
        Err(ReloadError::Config(error)) => {
            let problems: Vec<Value> = error.problems.iter().map(view).collect();
            let detail = "the configuration is wrong; the old one stays in force";
            Err(Problem::new(Code::InvalidConfiguration, detail).with("problems", problems.into()))
        }
    }
}

fn view(problem: &config::Problem) -> Value {
    json!({
        "variable": problem.variable,
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
        "what": problem.what,
        "remedy": problem.remedy,
    })
}
