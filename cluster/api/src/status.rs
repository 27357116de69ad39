//! `Status`: how the API says that something went wrong, with upstream's codes and reasons.

use crate::meta::v1::{self, StatusCause, StatusDetails};
use crate::resource::Resource;
use std::fmt;

/// A failure as the API answers it: HTTP code, machine-readable reason, message for people, details.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Upstream's `metav1.StatusReason`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// Group (not shown for the core group), kind or resource, name, causes, seconds after which to try again.
    pub details: Box<StatusDetails>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One thing that is wrong with a field; upstream's `field.Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `spec.containers[0].name`.
    pub field: String,
    /// Upstream's cause, such as `FieldValueRequired`.
    pub reason: &'static str,
    /// Upstream's text: `Required value: ...`, `Invalid value: "x": ...`.
    pub message: String,
}

impl FieldError {
    /// A value is missing.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self { field: field.into(), reason: "FieldValueRequired", message }
    }
    /// A value is wrong. `value` as JSON shows it: text in quotes.
    pub fn invalid(field: impl Into<String>, value: impl fmt::Display, why: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueInvalid", message: format!("Invalid value: {value}: {why}") }
    }
    /// A value is none of those allowed. `value` as JSON shows it.
    pub fn not_supported(field: impl Into<String>, value: impl fmt::Display, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|text| format!("{text:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Self { field: field.into(), reason: "FieldValueNotSupported", message }
    }
    /// A value stands twice. `value` as JSON shows it.
    pub fn duplicate(field: impl Into<String>, value: impl fmt::Display) -> Self {
        Self { field: field.into(), reason: "FieldValueDuplicate", message: format!("Duplicate value: {value}") }
    }
    /// A value may not be there.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { field: field.into(), reason: "FieldValueForbidden", message: format!("Forbidden: {why}") }
    }
    /// A value is too long, in bytes.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self { field: field.into(), reason: "FieldValueTooLong", message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Status {
    /// Any failure, without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default() }
    }
    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }
    /// 401: nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }
    /// 403: not allowed.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", resource.qualified())
        } else {
            format!("{} {name:?} is forbidden: {why}", resource.qualified())
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }
    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", resource.qualified())).about(resource, name)
    }
    /// 409: an object of this name exists.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }
    /// 409: the object is not what the caller believes it to be.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(resource, name)
    }
    /// 410: the version asked for is gone.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }
    /// 422: fields are wrong; never called without errors.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        let group_kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let mut status = Self::new(422, "Invalid", format!("{group_kind} {name:?} is invalid: {text}"));
        let cause = |error: &FieldError| StatusCause {
            field: Some(error.field.clone()),
            message: Some(error.message.clone()),
            reason: Some(error.reason.to_owned()),
        };
        status.details = Box::new(StatusDetails {
            group: (!resource.group.is_empty()).then(|| resource.group.to_owned()),
            kind: Some(resource.kind.to_owned()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            causes: Some(errors.iter().map(cause).collect()),
            ..StatusDetails::default()
        });
        status
    }
    /// 429: not now.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: i32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details.retry_after_seconds = Some(retry_after_s);
        status
    }
    /// 500: this server's fault.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }
    /// 503: nobody can do it now; it had no effect.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }
    /// 504: it may have had an effect.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// The same with details of what it is about.
    pub fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details.group = (!resource.group.is_empty()).then(|| resource.group.to_owned());
        self.details.kind = Some(resource.plural.to_owned());
        self.details.name = (!name.is_empty()).then(|| name.to_owned());
        self
    }

    /// The same with one more cause.
    pub fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.details.causes.get_or_insert_default().push(StatusCause {
            field: (!field.is_empty()).then(|| field.to_owned()),
            message: Some(message.to_owned()),
            reason: Some(reason.to_owned()),
        });
        self
    }

    /// As the wire has it.
    pub fn body(&self) -> v1::Status {
        v1::Status {
            code: Some(i32::from(self.code)),
            details: (*self.details != StatusDetails::default()).then(|| (*self.details).clone()),
            message: Some(self.message.clone()),
            metadata: v1::ListMeta::default(),
            reason: Some(self.reason.to_owned()),
            status: Some("Failure".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::find;
    use expect_test::{Expect, expect};

    fn check(status: &Status, expect: Expect) {
        expect.assert_eq(&serde_json::to_string(&status.body()).expect("plain JSON"));
    }

    #[test]
    fn failures_read_as_upstream_s() {
        let pod = find("", "Pod").expect("served");
        let deployment = find("apps", "Deployment").expect("served");
        check(
            &Status::not_found(deployment, "a"),
            expect![[
                r#"{"apiVersion":"v1","kind":"Status","code":404,"details":{"group":"apps","kind":"deployments","name":"a"},"message":"deployments.apps \"a\" not found","metadata":{},"reason":"NotFound","status":"Failure"}"#
            ]],
        );
        assert_eq!(Status::already_exists(pod, "a").message, "pods \"a\" already exists");
        assert_eq!(Status::forbidden(pod, "", "no").message, "pods is forbidden: no");
        assert_eq!(Status::conflict(pod, "a", "stale").message, "Operation cannot be fulfilled on pods \"a\": stale");
        assert_eq!(
            Status::too_many_requests("later", 3).body().details.and_then(|details| details.retry_after_seconds),
            Some(3)
        );
        assert_eq!(Status::bad_request("x").body().details, None);
    }

    #[test]
    fn every_wrong_field_is_a_cause() {
        let deployment = find("apps", "Deployment").expect("served");
        let errors = [
            FieldError::required("spec.a", ""),
            FieldError::invalid("spec.b", -1, "must be positive"),
            FieldError::not_supported("spec.c", "\"x\"", &["y", "z"]),
        ];
        let one = Status::invalid(deployment, "d", &errors[..1]);
        assert_eq!(one.message, "Deployment.apps \"d\" is invalid: spec.a: Required value");
        let status = Status::invalid(deployment, "d", &errors);
        expect![[r#"Deployment.apps "d" is invalid: [spec.a: Required value, spec.b: Invalid value: -1: must be positive, spec.c: Unsupported value: "x": supported values: "y", "z"]"#]]
            .assert_eq(&status.message);
        let reasons: Vec<_> =
            status.details.causes.iter().flatten().filter_map(|cause| cause.reason.as_deref()).collect();
        assert_eq!(reasons, ["FieldValueRequired", "FieldValueInvalid", "FieldValueNotSupported"]);
        assert_eq!(status.clone().cause("StaleFence", "old", "").details.causes.map(|causes| causes.len()), Some(4));
    }
}
