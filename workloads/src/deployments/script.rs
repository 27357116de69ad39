//! Users who do what they are told beforehand: the writes of another trial, each at its time and in order.

use super::Setting;
use super::user::{RETRY, send};
use client::Client;
use http::Method;
use record::{Answer, EffectiveWrite, UserWrite};
use std::time::Duration;

/// What cannot be done within so many attempts is given up: an object in the way is deleted long before.
const ATTEMPTS: u32 = 60;

/// Makes all writes, and records of each how it ended.
pub(super) async fn perform_all(setting: &Setting, api: &Client, script: &[EffectiveWrite]) {
    for write in script {
        let early = write.at_ns.saturating_sub(setting.recorder.now_ns());
        rt::time::sleep(Duration::from_nanos(early)).await;
        let invoked_ns = setting.recorder.now_ns();
        let outcome = insist(api, write).await;
        setting.recorder.wrote(UserWrite {
            invoked_ns,
            completed_ns: setting.recorder.now_ns(),
            what: write.what.to_owned(),
            object: write.object.clone(),
            outcome,
        });
    }
}

/// Tries until it is done.
async fn insist(api: &Client, write: &EffectiveWrite) -> Answer {
    // Every script names one of the methods of HTTP.
    let method = Method::from_bytes(write.method.as_bytes()).unwrap_or_default();
    let mut attempt = 1;
    loop {
        let outcome = send(api, method.clone(), &write.path, write.content_type, &write.body).await;
        if matches!(outcome, Answer::Ok { .. }) || attempt == ATTEMPTS {
            return outcome;
        }
        attempt += 1;
        rt::time::sleep(RETRY).await;
    }
}
