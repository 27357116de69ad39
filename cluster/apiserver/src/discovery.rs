//! Discovery: what this server serves, in the legacy form and in the aggregated one.

use crate::accept::media_types;
use crate::config::Build;
use crate::reply::{Body, Reply};
use crate::stored::write;
use api::Status;
use api::resource::{Resource, Subresource, is_review, served};
use http::header;
use serde_json::{Value, json};

/// The version whose API this is.
pub const VERSION: (&str, &str, &str) = ("1", "35", "v1.35.0+seaworthy");

/// The form of discovery that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Legacy,
    /// Aggregated, of this version of `apidiscovery.k8s.io`.
    Aggregated(&'static str),
}

fn form(accept: &str) -> Form {
    let aggregated = |media: &crate::accept::MediaType<'_>| {
        let ours = media.parameter("g") == "apidiscovery.k8s.io" && media.parameter("as") == "APIGroupDiscoveryList";
        ["v2", "v2beta1"].into_iter().find(|version| ours && *version == media.parameter("v"))
    };
    let known = media_types(accept).into_iter().filter(|media| matches!(media.name, "application/json" | "*/*"));
    // The client's first choice that this server has.
    known
        .map(|media| match aggregated(&media) {
            Some(version) => Some(Form::Aggregated(version)),
            None if media.parameter("as").is_empty() => Some(Form::Legacy),
            None => None,
        })
        .find_map(|form| form)
        .unwrap_or(Form::Legacy)
}

/// `/`.
pub fn paths() -> Reply {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, version) in groups_and_versions().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.push(format!("/apis/{group}/{version}"));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    Reply::value(200, &json!({"paths": paths}))
}

/// `/version`. Of upstream's states of the tree, `archive` is that of which no commit is known; whether files were changed
/// since the commit is not looked at, so that none of the other two is claimed then.
pub fn version(build: &Build) -> Reply {
    let (major, minor, version) = VERSION;
    let Build { commit, date } = build;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let body = json!({
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": commit,
        "gitTreeState": if commit.is_empty() { "archive" } else { "" },
        "buildDate": if date.is_empty() { "1970-01-01T00:00:00Z" } else { date },
        "goVersion": "go0",
        "compiler": "rustc",
        "platform": format!("linux/{architecture}"),
    });
    Reply::value(200, &body)
}

/// `/api`.
///
/// # Errors
/// None at present.
pub fn core_versions(accept: &str, none_match: &str) -> Result<Reply, Status> {
    match form(accept) {
        Form::Aggregated(version) => Ok(aggregated(version, |group| group.is_empty(), none_match)),
        Form::Legacy => Ok(tagged(
            &json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            }),
            "application/json",
            none_match,
        )),
    }
}

/// `/apis`.
///
/// # Errors
/// None at present.
pub fn groups(accept: &str, none_match: &str) -> Result<Reply, Status> {
    match form(accept) {
        Form::Aggregated(version) => Ok(aggregated(version, |group| !group.is_empty(), none_match)),
        Form::Legacy => {
            let groups: Vec<Value> = groups_and_versions()
                .filter(|(group, _)| !group.is_empty())
                .map(|(group, version)| legacy_group(group, version))
                .collect();
            let body = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
            Ok(tagged(&body, "application/json", none_match))
        }
    }
}

/// `/apis/GROUP`.
///
/// # Errors
/// 404.
pub fn group(name: &str) -> Result<Reply, Status> {
    let (group, version) = groups_and_versions().find(|(group, _)| *group == name).ok_or_else(nowhere)?;
    let mut body = legacy_group(group, version);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(Reply::value(200, &body))
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
///
/// # Errors
/// 404.
pub fn resources(group: &str, version: &str) -> Result<Reply, Status> {
    let of: Vec<&Resource> = of(group, version).collect();
    if of.is_empty() {
        return Err(nowhere());
    }
    let mut resources = Vec::new();
    for resource in of {
        let mut row = json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": verbs(resource),
        });
        if !resource.short_names.is_empty() {
            row["shortNames"] = resource.short_names.into();
        }
        if !resource.categories.is_empty() {
            row["categories"] = resource.categories.into();
        }
        resources.push(row);
        for below in resource.subresources {
            let (group, version, kind) = kind_of(resource, *below);
            let mut row = json!({
                "name": format!("{}/{}", resource.plural, below.name()),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": verbs_below(*below),
            });
            if group != resource.group || version != resource.version {
                row["group"] = group.into();
                row["version"] = version.into();
            }
            resources.push(row);
        }
    }
    resources.sort_by_key(|row| row["name"].as_str().unwrap_or_default().to_owned());
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut body = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Ok(Reply::value(200, &body))
}

fn aggregated(version: &'static str, wanted: impl Fn(&str) -> bool, none_match: &str) -> Reply {
    let items: Vec<Value> = groups_and_versions()
        .filter(|(group, _)| wanted(group))
        .map(|(group, served)| {
            let resources: Vec<Value> = of(group, served).map(aggregated_resource).collect();
            json!({
                "metadata": {"name": group, "creationTimestamp": null},
                "versions": [{"version": served, "freshness": "Current", "resources": resources}],
            })
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    tagged(&body, content_type, none_match)
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let mut below: Vec<Subresource> = resource.subresources.to_vec();
    below.sort_by_key(|below| below.name());
    let subresources: Vec<Value> = below
        .into_iter()
        .map(|below| {
            json!({
                "subresource": below.name(),
                "responseKind": kind(kind_of(resource, below)),
                "verbs": verbs_below(below),
            })
        })
        .collect();
    let mut row = json!({
        "resource": resource.plural,
        "responseKind": kind((resource.group, resource.version, resource.kind)),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        row["shortNames"] = resource.short_names.into();
    }
    if !resource.categories.is_empty() {
        row["categories"] = resource.categories.into();
    }
    if !subresources.is_empty() {
        row["subresources"] = subresources.into();
    }
    row
}

/// A document with a tag by which a client that has it already need not be sent it again.
pub fn tagged(body: &Value, content_type: &'static str, none_match: &str) -> Reply {
    let mut bytes = Vec::new();
    write(body, &mut bytes);
    let tag = format!("\"{:016x}\"", hash(&bytes));
    if none_match.split(',').any(|known| known.trim() == tag) {
        let reply = Reply { code: 304, headers: http::HeaderMap::new(), body: Body::Whole(None) };
        return reply.with_header(header::ETAG, &tag);
    }
    Reply::document(200, content_type, bytes).with_header(header::ETAG, &tag).with_header(header::VARY, "Accept")
}

/// FNV-1a: tells documents apart, no more.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Every group with its version, each once, in the order of the table.
pub fn groups_and_versions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |resource: &'static Resource| (resource.group, resource.version);
    let first =
        move |place: usize, resource: &'static Resource| !served().take(place).any(|other| of(other) == of(resource));
    served().enumerate().filter(move |(place, resource)| first(*place, resource)).map(move |(_, resource)| of(resource))
}

/// The resources of a group.
pub fn of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Resource> + 'a {
    served().filter(move |resource| resource.group == group && resource.version == version)
}

/// Group, version and kind of what lies below an object.
pub fn kind_of(resource: &Resource, below: Subresource) -> (&'static str, &'static str, &'static str) {
    match below {
        Subresource::Status | Subresource::Finalize => (resource.group, resource.version, resource.kind),
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Binding => ("", "v1", "Binding"),
        Subresource::Eviction => ("policy", "v1", "Eviction"),
    }
}

/// Whether a collection can be deleted as a whole: every one but that of namespaces.
pub fn has_deletecollection(resource: &Resource) -> bool {
    resource.kind != "Namespace"
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if is_review(resource) {
        &["create"]
    } else if has_deletecollection(resource) {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    } else {
        &["create", "delete", "get", "list", "patch", "update", "watch"]
    }
}

fn verbs_below(below: Subresource) -> &'static [&'static str] {
    match below {
        Subresource::Status | Subresource::Scale => &["get", "patch", "update"],
        Subresource::Binding | Subresource::Eviction => &["create"],
        Subresource::Finalize => &["update"],
    }
}

fn legacy_group(group: &str, version: &str) -> Value {
    let served = json!({"groupVersion": format!("{group}/{version}"), "version": version});
    json!({"name": group, "versions": [served], "preferredVersion": served})
}

fn nowhere() -> Status {
    Status::new(404, "NotFound", "the server could not find the requested resource")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(reply: Reply) -> Value {
        let Body::Whole(Some(bytes)) = reply.body else { panic!("it has a body") };
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn kubectl_finds_the_aggregated_form_and_older_clients_the_legacy_one() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let reply = groups(kubectl, "").unwrap();
        assert_eq!(
            reply.headers[header::CONTENT_TYPE],
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let tag = reply.headers[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(body(reply)["items"][0]["metadata"]["name"], "apps");
        assert_eq!(groups(kubectl, &tag).unwrap().code, 304);
        assert_eq!(body(groups("application/json", "").unwrap())["kind"], "APIGroupList");
    }

    #[test]
    fn drain_finds_eviction_with_its_own_group() {
        let list = body(resources("", "v1").unwrap());
        let rows = list["resources"].as_array().unwrap();
        let eviction = rows.iter().find(|row| row["name"] == "pods/eviction").unwrap();
        assert_eq!((&eviction["group"], &eviction["version"]), (&json!("policy"), &json!("v1")));
        assert!(resources("", "v2").is_err());
    }
}
