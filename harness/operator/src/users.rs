//! What users do: a script in YAML, and doing it.

use crate::wire;
use api::resource;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The longest script that is read.
const MAX_BYTES: usize = 1 << 20;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, from when the cluster serves.
    pub at: Duration,
    method: &'static str,
    path: String,
    document: Option<Value>,
    /// For people.
    pub what: String,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    at: String,
    create: Option<Value>,
    patch: Option<Value>,
    delete: Option<Value>,
}

/// Reads a script. Its steps are in order of time.
///
/// # Errors
/// What is wrong with which step.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let (value, twice) = api::yaml::parse(text.as_bytes(), MAX_BYTES).map_err(|error| error.to_string())?;
    if let Some(twice) = twice {
        return Err(twice);
    }
    let written: Vec<Value> =
        serde_json::from_value(value).map_err(|_| "what users do is a list of steps".to_owned())?;
    let mut steps = Vec::new();
    for (number, value) in (1..).zip(written) {
        steps.push(step(value).map_err(|why| format!("step {number}: {why}"))?);
    }
    if steps.is_empty() {
        return Err("users do nothing, so that an operator has nothing to do".to_owned());
    }
    steps.sort_by_key(|step: &Step| step.at);
    Ok(steps)
}

fn step(value: Value) -> Result<Step, String> {
    let Written { at, create, patch, delete } = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let seconds = at.strip_suffix('s').and_then(|digits| digits.parse::<u64>().ok());
    let at = Duration::from_secs(seconds.ok_or_else(|| format!("`at` is whole seconds such as 20s, not {at:?}"))?);
    let (method, verb, object) = match (create, patch, delete) {
        (Some(object), None, None) => ("POST", "create", object),
        (None, Some(object), None) => ("PATCH", "patch", object),
        (None, None, Some(object)) => ("DELETE", "delete", object),
        _ => return Err("has one of create, patch and delete".to_owned()),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (name, namespace) = (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]));
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let found = resource::find(group, &kind).filter(|found| found.api_version() == version);
    let found = found.ok_or_else(|| format!("{version} {kind} is not a kind that this API server has"))?;
    if name.is_empty() {
        return Err("metadata.name is missing".to_owned());
    }
    let namespace = if namespace.is_empty() { "default" } else { &namespace };
    let path = found.path(namespace, if method == "POST" { "" } else { &name });
    let document = (method != "DELETE").then_some(object);
    Ok(Step { at, method, path, document, what: format!("{verb} {kind} {name}") })
}

impl Step {
    /// Does it, until it is answered. Returns what was answered, in short.
    pub async fn perform(&self) -> String {
        let media = if self.method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let (code, answer) = wire::ask(self.method, &self.path, media, self.document.as_ref()).await;
        match answer["message"].as_str().filter(|_| code >= 400) {
            Some(message) => format!("{code} {message}"),
            None => code.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_in_order_of_time() {
        let steps = parse(
            "- at: 9s\n  delete: {apiVersion: v1, kind: Namespace, metadata: {name: team}}\n\
             - at: 1s\n  create: {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: v}}\n\
             - at: 4s\n  patch: {apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: team}, spec: {replicas: 2}}\n",
        )
        .expect("a script");
        let short: Vec<(u64, &str, &str)> =
            steps.iter().map(|step| (step.at.as_secs(), step.method, step.path.as_str())).collect();
        let expected = [
            (1, "POST", "/api/v1/namespaces/default/configmaps"),
            (4, "PATCH", "/apis/apps/v1/namespaces/team/deployments/d"),
            (9, "DELETE", "/api/v1/namespaces/team"),
        ];
        assert_eq!(short, expected);
        assert_eq!(steps[2].what, "delete Namespace team");
    }

    #[test]
    fn a_mistake_is_told_with_its_step() {
        let wrong = |text: &str| parse(text).expect_err("it is wrong");
        assert_eq!(wrong("[]"), "users do nothing, so that an operator has nothing to do");
        assert_eq!(wrong("a: b"), "what users do is a list of steps");
        assert_eq!(wrong("- at: 2m\n"), "step 1: `at` is whole seconds such as 20s, not \"2m\"");
        assert_eq!(wrong("- at: 2s\n"), "step 1: has one of create, patch and delete");
        assert_eq!(
            wrong("- at: 2s\n  create: {apiVersion: v1, kind: Gadget, metadata: {name: a}}"),
            "step 1: v1 Gadget is not a kind that this API server has"
        );
        assert_eq!(wrong("- at: 2s\n  delete: {apiVersion: v1, kind: Pod}"), "step 1: metadata.name is missing");
        assert!(wrong("- at: 2s\n  remove: {}").starts_with("step 1: unknown field `remove`"));
    }
}
