//! `turnwell status`, `kick` and `drain`: a running server, seen and steered from the command line.

use axum::http::Method;
use serde_json::Value;

use super::super::exit::Failure;
use super::call::Target;

/// Show the running sessions
#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// Those of this user only
    #[arg(long)]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// End a session, named as `turnwell status` does; the client may start another one
#[derive(clap::Args)]
pub(super) struct KickArgs {
    /// The session
    id: String,
    #[command(flatten)]
    target: Target,
}

/// Refuse new sessions from now on; the running ones go on
#[derive(clap::Args)]
pub(super) struct DrainArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let user = args.user.as_deref().map(|user| format!("&user={}", percent(user))).unwrap_or_default();
    let answer = args.target.call(&Method::GET, &format!("/v1/sessions?limit=10000{user}"))?;
    if args.json {
        super::print(&super::json(&answer)?);
        return Ok(());
    }
    let sessions = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<[String; 8]> = sessions.iter().map(row).collect();
    super::print(&table(&rows));
    let more = if answer["truncated"] == true { "more than " } else { "" };
    super::print(&format!("{more}{} sessions", sessions.len()));
    Ok(())
}

pub(super) fn kick(args: &KickArgs) -> Result<(), Failure> {
    args.target.call(&Method::DELETE, &format!("/v1/sessions/{}", percent(&args.id))).map(|_| ())
}

pub(super) fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let answer = args.target.call(&Method::POST, "/v1/drain")?;
    if args.json {
        super::print(&super::json(&answer)?);
    } else {
        super::print(&format!("draining; {} allocations run on", answer["allocations"]));
    }
    Ok(())
}

const HEAD: [&str; 8] = ["ID", "USER", "CLIENT", "RELAYED", "VIA", "AGE", "SENT", "RECEIVED"];

fn row(session: &Value) -> [String; 8] {
    let text = |name: &str| session[name].as_str().unwrap_or_default().escape_debug().to_string();
    let amount = |name: &str| {
        let amount = &session[name];
        format!("{} / {}", amount["packets"], bytes(amount["bytes"].as_u64().unwrap_or_default()))
    };
    let age = session["ageSeconds"].as_f64().unwrap_or_default();
    [
        text("id"),
        text("user"),
        text("client"),
        text("relayed"),
        text("transport"),
        format!("{}:{:02}", (age / 60.0) as u64, (age % 60.0) as u64),
        amount("sent"),
        amount("received"),
    ]
}

/// Columns as wide as their widest cell.
fn table(rows: &[[String; 8]]) -> String {
    let widths = std::array::from_fn::<usize, 8, _>(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = HEAD.map(str::to_owned);
    std::iter::once(&head).chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < units.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A text inside a URL.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let session = json!({
            "id": "0-1-2f", "user": "a\u{1b}[31m", "client": "192.0.2.1:5", "relayed": "192.0.2.2:6",
            "transport": "udp", "ageSeconds": 75.5,
            "sent": { "packets": 10, "bytes": 999 }, "received": { "packets": 2, "bytes": 1_234_567 },
        });
        let text = table(&[row(&session)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "0-1-2f  a\\u{1b}[31m  192.0.2.1:5  192.0.2.2:6  udp  1:15  10 / 999 B  2 / 1.2 MB");
        assert_eq!(lines[0].find("CLIENT"), lines[1].find("192.0.2.1"));
    }

    #[test]
    fn urls_hold_any_name() {
        assert_eq!(percent("a b/c&d=é"), "a%20b%2Fc%26d%3D%C3%A9");
    }
}
