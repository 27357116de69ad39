//! The environment of a container: values, the downward API, ConfigMaps and Secrets.

use api::ObjectExt;
use api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use client::Client;
use std::collections::BTreeMap;

/// What a container's environment is, after everything that it refers to was fetched.
///
/// # Errors
/// What is missing, as upstream says it.
pub(super) async fn resolve(
    client: &Client,
    pod: &Pod,
    container: &Container,
    addresses: Addresses<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut put = |key: &str, value: String| env.insert(format!("{prefix}{key}"), value);
        if let Some(reference) = &source.config_map_ref {
            for (key, value) in config_map(client, pod, &reference.name, reference.optional).await?.unwrap_or_default()
            {
                put(&key, value);
            }
        } else if let Some(reference) = &source.secret_ref {
            for (key, value) in secret(client, pod, &reference.name, reference.optional).await?.unwrap_or_default() {
                put(&key, value);
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let EnvVar { name, value, value_from } = variable;
        let value = match (value, value_from) {
            (Some(value), _) => Some(expand(value, &env)),
            (None, Some(source)) => from(client, pod, container, source, addresses).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(name.clone(), value);
        }
    }
    Ok(env)
}

/// Addresses that the downward API tells.
#[derive(Clone, Copy)]
pub(super) struct Addresses<'a> {
    pub(super) pod: &'a str,
    pub(super) node: &'a str,
}

async fn from(
    client: &Client,
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    addresses: Addresses<'_>,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return downward(pod, &field.field_path, addresses).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        let (list, name) = resource.resource.split_once('.').unwrap_or(("limits", &resource.resource));
        let resources = container.resources.clone().unwrap_or_default();
        let amounts = if list == "requests" { resources.requests } else { resources.limits };
        let amount = amounts.unwrap_or_default().get(name).map_or(0, |text| crate::resources::amount("", &text.0));
        return Ok(Some(amount.to_string()));
    }
    if let Some(key) = &source.config_map_key_ref {
        let data = config_map(client, pod, &key.name, key.optional).await?;
        let value = data.and_then(|data| data.get(&key.key).cloned());
        return missing(value, key.optional, || {
            format!("couldn't find key {} in ConfigMap {}/{}", key.key, pod.namespace(), key.name)
        });
    }
    if let Some(key) = &source.secret_key_ref {
        let data = secret(client, pod, &key.name, key.optional).await?;
        let value = data.and_then(|data| data.get(&key.key).cloned());
        return missing(value, key.optional, || {
            format!("couldn't find key {} in Secret {}/{}", key.key, pod.namespace(), key.name)
        });
    }
    Ok(None)
}

fn missing(value: Option<String>, optional: Option<bool>, why: impl Fn() -> String) -> Result<Option<String>, String> {
    if value.is_none() && optional != Some(true) { Err(why()) } else { Ok(value) }
}

fn downward(pod: &Pod, path: &str, addresses: Addresses<'_>) -> Result<String, String> {
    let spec = pod.spec.as_ref();
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']").map(str::to_owned);
    if let Some(key) = keyed("metadata.labels['") {
        return Ok(pod.labels().get(&key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Ok(pod.annotations().get(&key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => addresses.node.to_owned(),
        "status.podIP" | "status.podIPs" => addresses.pod.to_owned(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

async fn config_map(
    client: &Client,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<BTreeMap<String, String>>, String> {
    match client.get::<ConfigMap>(pod.namespace(), name).await {
        Ok(found) => Ok(Some(found.data.unwrap_or_default())),
        Err(error) if error.is_not_found() && optional == Some(true) => Ok(None),
        Err(error) if error.is_not_found() => Err(format!("configmap \"{name}\" not found")),
        Err(error) => Err(error.to_string()),
    }
}

async fn secret(
    client: &Client,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<BTreeMap<String, String>>, String> {
    match client.get::<Secret>(pod.namespace(), name).await {
        Ok(found) => {
            let data = found.data.unwrap_or_default().into_iter();
            Ok(Some(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()))
        }
        Err(error) if error.is_not_found() && optional == Some(true) => Ok(None),
        Err(error) if error.is_not_found() => Err(format!("secret \"{name}\" not found")),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts earlier variables in the place of `$(NAME)`; `$$` stands for a dollar, and what is not known stays.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('$') {
            expanded.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = more;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_upstream_has_them() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand("x$(A)y $(B) $$(A) $ $A", &env), "x1y $(B) $(A) $ $A");
    }
}
