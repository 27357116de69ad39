//! Writes as requests.

use crate::options::DeleteOptions;
use crate::write::{Verb, Write};
use api::resource::Subresource;
use bytes::Bytes;
use http::Method;
use serde::Serialize;
use std::sync::Arc;

/// Media type of objects.
pub const JSON: &str = "application/json";
/// Media type of merge patches.
pub const MERGE_PATCH: &str = "application/merge-patch+json";

/// A request, not yet to anybody.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// Doing it twice is as doing it once: it may be repeated when its outcome is unknown.
    pub(crate) repeatable: bool,
}

impl Call {
    pub(crate) fn new(method: Method, path: String, content_type: &'static str, body: Bytes) -> Self {
        Self { method, path, content_type, body, repeatable: false }
    }
}

/// The request that performs a write.
pub(crate) fn call_of(write: &Write) -> Call {
    let path = |name: &str, subresource: Option<Subresource>| {
        let path = write.resource.path(&write.namespace, name);
        subresource.map_or(path.clone(), |subresource| path + "/" + subresource.name())
    };
    let name = write.name.as_str();
    match &write.verb {
        Verb::Create { body, .. } => Call::new(Method::POST, path("", None), JSON, bytes(body)),
        Verb::Update { body, subresource } => Call::new(Method::PUT, path(name, *subresource), JSON, bytes(body)),
        Verb::Patch { body, subresource } => {
            Call::new(Method::PATCH, path(name, *subresource), MERGE_PATCH, bytes(body))
        }
        Verb::Delete { uid, resource_version, grace_s, propagation } => {
            let options = DeleteOptions {
                uid: uid.clone(),
                resource_version: resource_version.clone(),
                grace_s: *grace_s,
                propagation: *propagation,
            };
            // An object of the same name that came later has another UID.
            let repeatable = uid.is_some();
            Call { repeatable, ..Call::new(Method::DELETE, path(name, None), JSON, delete_body(&options)) }
        }
        Verb::CreateSubresource { body, subresource } => {
            Call::new(Method::POST, path(name, Some(*subresource)), JSON, bytes(body))
        }
    }
}

fn bytes(body: &Arc<str>) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireDelete<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preconditions: Option<WirePreconditions<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_policy: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePreconditions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

/// `DeleteOptions` as JSON.
pub(crate) fn delete_body(options: &DeleteOptions) -> Bytes {
    let (uid, resource_version) = (options.uid.as_deref(), options.resource_version.as_deref());
    let some = uid.is_some() || resource_version.is_some();
    let body = WireDelete {
        api_version: "v1",
        kind: "DeleteOptions",
        grace_period_seconds: options.grace_s,
        preconditions: some.then_some(WirePreconditions { resource_version, uid }),
        propagation_policy: options.propagation.map(|policy| policy.name()),
    };
    serde_json::to_vec(&body).expect("a struct of text and numbers has a form in JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Propagation;
    use api::ObjectMeta;
    use api::core::v1::{Namespace, Pod};
    use expect_test::{Expect, expect};

    fn check(write: &Write, expected: Expect) {
        let call = call_of(write);
        let body = String::from_utf8_lossy(&call.body);
        let again = if call.repeatable { "again " } else { "" };
        expected.assert_eq(&format!("{again}{} {} {}\n{body}", call.method, call.path, call.content_type));
    }

    fn meta(namespace: Option<&str>) -> ObjectMeta {
        let namespace = namespace.map(str::to_owned);
        ObjectMeta { name: Some("a".into()), namespace, uid: Some("u".into()), ..ObjectMeta::default() }
    }

    #[test]
    fn each_verb_is_a_request() {
        let pod = Pod { metadata: meta(Some("default")), ..Pod::default() };
        check(
            &Write::create(&pod),
            expect![[r#"
                POST /api/v1/namespaces/default/pods application/json
                {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"default","uid":"u"}}"#]],
        );
        check(
            &Write::update_status(&pod),
            expect![[r#"
                PUT /api/v1/namespaces/default/pods/a/status application/json
                {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"default","uid":"u"}}"#]],
        );
        check(
            &Write::patch(&pod, &serde_json::json!({"metadata": {"labels": {"a": null}}})),
            expect![[r#"
                PATCH /api/v1/namespaces/default/pods/a application/merge-patch+json
                {"metadata":{"labels":{"a":null}}}"#]],
        );
        check(
            &Write::create_subresource(&pod, Subresource::Binding, &serde_json::json!({})),
            expect![[r#"
                POST /api/v1/namespaces/default/pods/a/binding application/json
                {}"#]],
        );
    }

    #[test]
    fn a_delete_may_be_repeated_if_it_names_a_uid() {
        let namespace = Namespace { metadata: meta(None), ..Namespace::default() };
        let delete = Write::delete(&namespace).with_grace(0).with_propagation(Propagation::Foreground);
        check(
            &delete,
            expect![[r#"
                again DELETE /api/v1/namespaces/a application/json
                {"apiVersion":"v1","kind":"DeleteOptions","gracePeriodSeconds":0,"preconditions":{"uid":"u"},"propagationPolicy":"Foreground"}"#]],
        );
        let mut unnamed = namespace;
        unnamed.metadata.uid = None;
        check(
            &Write::delete(&unnamed),
            expect![[r#"
                DELETE /api/v1/namespaces/a application/json
                {"apiVersion":"v1","kind":"DeleteOptions"}"#]],
        );
    }
}
