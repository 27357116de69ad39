//! What can become of a request, as far as its sender can act on it.

use api::Status;
use api::meta::v1;

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The API server answered that it failed.
    #[error("{0}")]
    Status(Box<Status>),
    /// No API server took the request: it certainly had no effect.
    #[error("no API server can be reached: {0}")]
    Unreachable(String),
    /// A write may have had its effect, or may have it yet.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The answer is not what the API promises. A write may have had its effect.
    #[error("the answer cannot be understood: {0}")]
    Malformed(String),
}

impl Error {
    /// The answer of the API server, if there was one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            Error::Unreachable(_) | Error::Unknown(_) | Error::Malformed(_) => None,
        }
    }

    /// The HTTP code of the answer; 0 if there was none.
    pub fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// An object of this name exists.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason == "AlreadyExists")
    }

    /// The object is not what the writer believed it to be.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason != "AlreadyExists")
    }

    /// The version asked for is gone: list anew.
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }

    /// Somebody with a newer epoch has written: the writer leads no more.
    pub fn is_stale_fence(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.causes.as_deref()).unwrap_or_default();
        causes.iter().any(|cause| cause.reason.as_deref() == Some(STALE_FENCE))
    }

    /// Whether a write may have had its effect, or may have it yet.
    pub fn is_unknown(&self) -> bool {
        match self {
            Error::Unknown(_) | Error::Malformed(_) => true,
            Error::Status(_) | Error::Unreachable(_) => false,
        }
    }
}

/// Reason of the cause by which the API server says that a write's epoch is over.
pub const STALE_FENCE: &str = "StaleFence";

/// Upstream's reasons, and the codes for which each is the usual one.
const REASONS: &[(u16, &str)] = &[
    (400, "BadRequest"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (405, "MethodNotAllowed"),
    (406, "NotAcceptable"),
    (409, "Conflict"),
    (409, "AlreadyExists"),
    (410, "Gone"),
    (410, "Expired"),
    (413, "RequestEntityTooLarge"),
    (415, "UnsupportedMediaType"),
    (422, "Invalid"),
    (429, "TooManyRequests"),
    (500, "InternalError"),
    (500, "ServerTimeout"),
    (500, "StoreReadError"),
    (503, "ServiceUnavailable"),
    (504, "Timeout"),
];

/// The reason that a body names, or the usual one of its code.
fn reason(code: u16, text: &str) -> &'static str {
    let named = REASONS.iter().find(|(_, known)| *known == text);
    named.or_else(|| REASONS.iter().find(|(usual, _)| *usual == code)).map_or("", |(_, known)| known)
}

/// The failure that an answer of `code` with `body` tells of.
pub(crate) fn status_of(code: u16, body: &[u8]) -> Status {
    /// How much of a body that is no Status is worth showing.
    const SHOWN: usize = 256;
    match serde_json::from_slice::<v1::Status>(body) {
        Ok(status) => from_wire(code, status),
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
            Status::new(code, reason(code, ""), text)
        }
    }
}

/// The failure that a Status on the wire stands for. Its own code counts where the answer's own says nothing.
pub(crate) fn from_wire(code: u16, status: v1::Status) -> Status {
    let own = status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
    let code = if code >= 400 { code } else { own };
    Status {
        code,
        reason: reason(code, status.reason.as_deref().unwrap_or_default()),
        message: status.message.unwrap_or_default(),
        details: Box::new(status.details.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(code: u16, body: &str, expected: Expect) {
        let status = status_of(code, body.as_bytes());
        let error = Error::Status(Box::new(status.clone()));
        let found = [
            ("not found", error.is_not_found()),
            ("exists", error.is_already_exists()),
            ("conflict", error.is_conflict()),
            ("expired", error.is_expired()),
            ("stale", error.is_stale_fence()),
        ];
        let is: Vec<&str> = found.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        expected.assert_eq(&format!("{} {:?} {:?} {is:?}", status.code, status.reason, status.message));
    }

    #[test]
    fn a_status_keeps_its_reason_and_its_code() {
        let body =
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"gone","reason":"NotFound","code":404}"#;
        check(404, body, expect![[r#"404 "NotFound" "gone" ["not found"]"#]]);
        check(409, r#"{"reason":"AlreadyExists"}"#, expect![[r#"409 "AlreadyExists" "" ["exists"]"#]]);
        check(410, r#"{"reason":"Expired","code":410}"#, expect![[r#"410 "Expired" "" ["expired"]"#]]);
    }

    #[test]
    fn a_stale_epoch_is_told_from_other_conflicts() {
        let body = r#"{"reason":"Conflict","details":{"causes":[{"reason":"StaleFence"}]}}"#;
        check(409, body, expect![[r#"409 "Conflict" "" ["conflict", "stale"]"#]]);
    }

    #[test]
    fn what_is_no_status_still_becomes_one() {
        check(502, "bad gateway", expect![[r#"502 "" "bad gateway" []"#]]);
        check(404, "404 page not found", expect![[r#"404 "NotFound" "404 page not found" ["not found"]"#]]);
    }
}
