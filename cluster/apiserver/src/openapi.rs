//! OpenAPI v3, made of the table of resources and the facts of `api::schema`.
//!
//! What `kubectl` reads of it: that a patch knows `fieldValidation` and strategic merge, which paths belong to which kind,
//! and the types with their keys of merging. Descriptions are not served: the facts have none.

use crate::discovery::{VERSION, groups_and_versions, has_deletecollection, hash, kind_of, of, tagged};
use crate::reply::Reply;
use crate::stored::write;
use api::Status;
use api::resource::{Resource, Subresource, is_review, served};
use api::schema::{self, Field, Kind, ListType, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Types that are no objects but have names, by which `kubectl explain` calls them.
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Parameters that are queries: a name and its type.
type Parameters = &'static [(&'static str, &'static str)];

const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: Parameters = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// `/openapi/v3`.
pub fn index() -> Reply {
    let mut paths = Map::new();
    for (group, version) in groups_and_versions() {
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let mut bytes = Vec::new();
        write(&document(group, version), &mut bytes);
        let url = format!("/openapi/v3/{path}?hash={:016X}", hash(&bytes));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    Reply::value(200, &json!({"paths": Value::Object(paths)}))
}

/// The document of a group.
///
/// # Errors
/// 404.
pub fn group(group: &str, version: &str, none_match: &str) -> Result<Reply, Status> {
    if of(group, version).next().is_none() {
        return Err(Status::new(404, "NotFound", "the server could not find the requested resource"));
    }
    Ok(tagged(&document(group, version), "application/json", none_match))
}

fn document(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut types = BTreeMap::new();
    for resource in of(group, version) {
        add_paths(resource, &mut paths);
        for name in type_names(resource) {
            collect(&name, &mut types);
        }
    }
    let mut schemas = scalars();
    schemas.extend(types.into_iter().map(|(name, ty)| (name.to_owned(), object_schema(ty))));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION.2},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn scalars() -> Map<String, Value> {
    let time = || json!({"type": "string", "format": "date-time"});
    let int_or_string = json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]});
    let all = [
        (QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        (TIME, time()),
        (MICRO_TIME, time()),
        (INT_OR_STRING, int_or_string),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// The types that the paths of a resource speak of.
fn type_names(resource: &Resource) -> Vec<String> {
    if is_review(resource) {
        return vec![resource.type_name.to_owned()];
    }
    let mut names = vec![
        resource.type_name.to_owned(),
        format!("{}List", resource.type_name),
        format!("{META}.DeleteOptions"),
        format!("{META}.Patch"),
        format!("{META}.Status"),
        format!("{META}.WatchEvent"),
    ];
    names.extend(resource.subresources.iter().map(|below| type_below(resource, *below).to_owned()));
    names
}

fn type_below(resource: &Resource, below: Subresource) -> &'static str {
    match below {
        Subresource::Status | Subresource::Finalize => resource.type_name,
        Subresource::Scale => "io.k8s.api.autoscaling.v1.Scale",
        Subresource::Binding => "io.k8s.api.core.v1.Binding",
        Subresource::Eviction => "io.k8s.api.policy.v1.Eviction",
    }
}

/// The type and all that it is made of.
fn collect(name: &str, types: &mut BTreeMap<&'static str, &'static Type>) {
    let Some(ty) = schema::find(name).filter(|ty| !types.contains_key(ty.name)) else { return };
    types.insert(ty.name, ty);
    for field in &ty.fields {
        collect_kind(&field.kind, types);
    }
}

fn collect_kind(kind: &Kind, types: &mut BTreeMap<&'static str, &'static Type>) {
    match kind {
        Kind::Object(id) => collect(id.get().name, types),
        Kind::List(element) | Kind::Map(element) => collect_kind(element, types),
        Kind::String
        | Kind::Bytes
        | Kind::Int32
        | Kind::Int64
        | Kind::Bool
        | Kind::Double
        | Kind::Quantity
        | Kind::Time
        | Kind::MicroTime
        | Kind::Duration
        | Kind::IntOrString
        | Kind::Raw
        | Kind::FieldsV1 => {}
    }
}

fn object_schema(ty: &Type) -> Value {
    let mut schema = Map::new();
    let mut properties = Map::new();
    for field in &ty.fields {
        properties.insert(field.name.to_owned(), field_schema(field));
    }
    let required: Vec<&str> = ty.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    schema.insert("type".to_owned(), "object".into());
    if !properties.is_empty() {
        schema.insert("properties".to_owned(), properties.into());
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if ty.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let kinds = group_version_kinds(ty.name);
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
    }
    schema.into()
}

/// The kinds whose type this is.
fn group_version_kinds(type_name: &str) -> Vec<Value> {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut kinds = Vec::new();
    for resource in served() {
        if resource.type_name == type_name {
            kinds.push(kind(resource.group, resource.version, resource.kind));
        } else if type_name.strip_suffix("List") == Some(resource.type_name) {
            kinds.push(kind(resource.group, resource.version, &format!("{}List", resource.kind)));
        }
    }
    match type_name {
        "io.k8s.api.autoscaling.v1.Scale" => kinds.push(kind("autoscaling", "v1", "Scale")),
        "io.k8s.api.core.v1.Binding" => kinds.push(kind("", "v1", "Binding")),
        "io.k8s.api.policy.v1.Eviction" => kinds.push(kind("policy", "v1", "Eviction")),
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status" => kinds.push(kind("", "v1", "Status")),
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions" | "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent" => {
            // Every group has them.
            let name = type_name.rsplit('.').next().unwrap_or_default();
            kinds.extend(groups_and_versions().map(|(group, version)| kind(group, version, name)));
        }
        _ => {}
    }
    kinds
}

fn field_schema(field: &Field) -> Value {
    let mut schema = kind_schema(&field.kind);
    let Some(map) = schema.as_object_mut() else { return schema };
    // A reference has nothing beside it, so that what is said of this use goes around it.
    if let Some(reference) = map.remove("$ref") {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    if let Some(default) = &field.default {
        map.insert("default".to_owned(), default.clone());
    }
    if !field.enums.is_empty() && matches!(field.kind, Kind::String) {
        map.insert("enum".to_owned(), field.enums.clone().into());
    }
    if matches!(field.kind, Kind::List(_)) {
        let list_type = match field.list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        map.insert("x-kubernetes-list-type".to_owned(), list_type.into());
        if !field.list_map_keys.is_empty() {
            map.insert("x-kubernetes-list-map-keys".to_owned(), field.list_map_keys.clone().into());
        }
    }
    if field.atomic {
        map.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    let strategies = [("merge", field.merge), ("replace", field.replace), ("retainKeys", field.retain_keys)];
    let strategies: Vec<&str> = strategies.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    if !strategies.is_empty() {
        map.insert("x-kubernetes-patch-strategy".to_owned(), strategies.join(",").into());
    }
    if let Some(key) = field.merge_key {
        map.insert("x-kubernetes-patch-merge-key".to_owned(), key.into());
    }
    // Nothing was said of this use: then a plain reference is enough.
    if map.len() == 1
        && let Some(reference) = map.get("allOf").and_then(|all| all.get(0)?.get("$ref")).cloned()
    {
        return json!({"$ref": reference});
    }
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::String | Kind::Duration => json!({"type": "string"}),
        Kind::Quantity => json!({"$ref": reference(QUANTITY)}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Time => json!({"$ref": reference(TIME)}),
        Kind::MicroTime => json!({"$ref": reference(MICRO_TIME)}),
        Kind::IntOrString => json!({"$ref": reference(INT_OR_STRING)}),
        Kind::Raw | Kind::FieldsV1 => json!({"type": "object"}),
        Kind::Object(id) => json!({"$ref": reference(id.get().name)}),
        Kind::List(element) => json!({"type": "array", "items": kind_schema(element)}),
        Kind::Map(element) => json!({"type": "object", "additionalProperties": kind_schema(element)}),
    }
}

fn reference(type_name: &str) -> String {
    format!("#/components/schemas/{type_name}")
}

/// What an operation does, for whom it is described.
struct Operation<'a> {
    action: &'a str,
    kind: (&'a str, &'a str, &'a str),
    parameters: Parameters,
    takes: Option<&'a str>,
    gives: &'a str,
}

impl Operation<'_> {
    fn describe(&self) -> Value {
        let (group, version, kind) = self.kind;
        let parameter = |(name, kind): &(&str, &str)| json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}});
        let code = if self.action == "post" { "201" } else { "200" };
        let answer = content(&["application/json", "application/yaml"], self.gives);
        let mut operation = json!({
            "parameters": self.parameters.iter().map(parameter).collect::<Vec<_>>(),
            "responses": {code: {"description": "OK", "content": answer}},
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if let Some(takes) = self.takes {
            let forms: &[&str] = if self.action == "patch" {
                &[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ]
            } else {
                &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"]
            };
            operation["requestBody"] = json!({"content": content(forms, takes), "required": self.action != "delete"});
        }
        operation
    }
}

fn content(forms: &[&str], type_name: &str) -> Value {
    let schema = json!({"schema": {"$ref": reference(type_name)}});
    forms.iter().map(|form| ((*form).to_owned(), schema.clone())).collect::<Map<_, _>>().into()
}

fn add_paths(resource: &Resource, paths: &mut Map<String, Value>) {
    let list = format!("{}List", resource.type_name);
    let (options, status) = (format!("{META}.DeleteOptions"), format!("{META}.Status"));
    let patch = format!("{META}.Patch");
    let kind = (resource.group, resource.version, resource.kind);
    let own = resource.type_name;
    let operation = |action, parameters, takes, gives| Operation { action, kind, parameters, takes, gives }.describe();
    let collection = resource.path("{namespace}", "");
    if is_review(resource) {
        paths.insert(collection, json!({"post": operation("post", WRITE, Some(own), own)}));
        return;
    }
    let one = resource.path("{namespace}", "{name}");
    let mut of_all = json!({
        "get": operation("list", LIST, None, &list),
        "post": operation("post", WRITE, Some(own), own),
        "parameters": in_path(resource, false),
    });
    if has_deletecollection(resource) {
        of_all["delete"] = operation("deletecollection", DELETE, Some(&options), &status);
    }
    paths.insert(collection, of_all);
    if resource.namespaced {
        // Over all namespaces.
        paths.insert(resource.path("", ""), json!({"get": operation("list", LIST, None, &list)}));
    }
    let of_one = json!({
        "get": operation("get", &[], None, own),
        "put": operation("put", WRITE, Some(own), own),
        "patch": operation("patch", PATCH, Some(&patch), own),
        "delete": operation("delete", DELETE, Some(&options), &status),
        "parameters": in_path(resource, true),
    });
    paths.insert(one.clone(), of_one);
    for below in resource.subresources {
        let ty = type_below(resource, *below);
        let operation = |action, parameters, takes| {
            Operation { action, kind: kind_of(resource, *below), parameters, takes, gives: ty }.describe()
        };
        let mut described = match below {
            Subresource::Status | Subresource::Scale => json!({
                "get": operation("get", &[], None),
                "put": operation("put", WRITE, Some(ty)),
                "patch": operation("patch", PATCH, Some(&patch)),
            }),
            Subresource::Binding | Subresource::Eviction => json!({"post": operation("post", WRITE, Some(ty))}),
            Subresource::Finalize => json!({"put": operation("put", WRITE, Some(ty))}),
        };
        described["parameters"] = in_path(resource, true);
        paths.insert(format!("{one}/{}", below.name()), described);
    }
}

fn in_path(resource: &Resource, name: bool) -> Value {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters = Vec::new();
    if name {
        parameters.push(parameter("name"));
    }
    if resource.namespaced {
        parameters.push(parameter("namespace"));
    }
    parameters.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference within a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn what_documents_refer_to_is_in_them() {
        for (group, version) in groups_and_versions() {
            let document = document(group, version);
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(document["components"]["schemas"].get(name).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn kubectl_finds_what_it_looks_for() {
        let document = document("apps", "v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "fieldValidation"));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let schemas = &document["components"]["schemas"];
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        let surge = &schemas["io.k8s.api.apps.v1.RollingUpdateDeployment"]["properties"]["maxSurge"];
        assert_eq!(surge["$ref"], reference(INT_OR_STRING));
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0];
        assert_eq!((&deployment["group"], &deployment["kind"]), (&json!("apps"), &json!("Deployment")));
    }
}
