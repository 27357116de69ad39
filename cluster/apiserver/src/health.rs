//! Health: whether the server lives, and whether it is of use.

use crate::core::Core;
use crate::query::Query;
use crate::reply::Reply;

/// What is asked for liveness, and for readiness besides.
const CHECKS: [&str; 2] = ["ping", "store"];

/// `/healthz`, `/livez`, `/readyz`, as a whole or one check of it.
pub fn answer(core: &Core, endpoint: &str, check: &str, query: &Query) -> Reply {
    let asked: Vec<&str> = match check {
        "" if endpoint == "livez" => vec!["ping"],
        "" => CHECKS.to_vec(),
        one => match CHECKS.into_iter().find(|known| *known == one) {
            Some(known) => vec![known],
            None => return Reply::text(404, "404 page not found\n".to_owned()),
        },
    };
    let excluded = query.all("exclude");
    let mut out = String::new();
    let mut failed = false;
    for check in asked.iter().filter(|check| !excluded.iter().any(|name| name == *check)) {
        // Without a leader nothing can be read or written through this server.
        if *check != "store" || core.store.is_connected() {
            out.push_str(&format!("[+]{check} ok\n"));
        } else {
            mark::sometimes!("server is not ready");
            failed = true;
            out.push_str(&format!("[-]{check} failed: reason withheld\n"));
        }
    }
    match (failed, query.has("verbose") || !check.is_empty()) {
        (true, _) => Reply::text(500, format!("{out}{endpoint} check failed\n")),
        (false, true) if check.is_empty() => Reply::text(200, format!("{out}{endpoint} check passed\n")),
        (false, _) => Reply::text(200, "ok".to_owned()),
    }
}
