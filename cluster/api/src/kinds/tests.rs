//! Tests over all kinds: minimal objects pass, defaults are idempotent, strategies keep what they must, errors are upstream's.

use super::*;
use expect_test::{Expect, expect};
use serde_json::json;

pub(super) fn resource(kind: &str) -> &'static Resource {
    crate::resource::RESOURCES.iter().find(|resource| resource.kind == kind).unwrap()
}

pub(super) fn create(object: &Value) -> Result<Value, Status> {
    prepare_create(resource(object["kind"].as_str().unwrap()), object.clone())
}

/// Changes a created object, and prepares the change.
pub(super) fn change(
    old: &Value,
    subresource: Option<Subresource>,
    change: impl FnOnce(&mut Value),
) -> Result<Value, Status> {
    let mut new = old.clone();
    change(&mut new);
    prepare_update(resource(old["kind"].as_str().unwrap()), new, old, subresource)
}

/// The causes of a refusal, one a line; the message if it has none.
pub(super) fn wrong(result: Result<Value, Status>) -> String {
    let Err(status) = result else { return "ok".to_owned() };
    match &status.details.causes {
        None => format!("{} {}", status.code, status.message),
        Some(causes) => {
            let line = |cause: &crate::meta::v1::StatusCause| {
                format!("{}: {}", cause.field.as_ref().unwrap(), cause.message.as_ref().unwrap())
            };
            causes.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "expect![] makes a value")]
pub(super) fn check(result: Result<Value, Status>, expected: Expect) {
    expected.assert_eq(&wrong(result));
}

/// A node status etc. as JSON text with lines.
#[expect(clippy::needless_pass_by_value, reason = "expect![] makes a value")]
fn check_json(value: &Value, expected: Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

fn pod_spec() -> Value {
    json!({"containers": [{"name": "c", "image": "nginx"}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": pod_spec()})
}

/// The least of every kind.
pub(super) fn minimal() -> Vec<Value> {
    let meta = json!({"name": "a", "namespace": "ns"});
    let global = json!({"name": "a"});
    let selector = json!({"matchLabels": {"app": "a"}});
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}),
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": meta,
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": {"namespace": "ns"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": global}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": global, "status": {"capacity": {"cpu": "4000m"}}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec()}),
        json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": meta, "spec": {"template": template()}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"k": "v"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
            "spec": {"selector": selector, "template": template()}}),
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta,
            "spec": {"selector": selector, "template": template()}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.0.0.1"},
            "spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "ns"}}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta,
            "spec": {"minAvailable": 1, "selector": selector}}),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": global, "value": 7}),
    ]
}

pub(super) fn least(kind: &str) -> Value {
    minimal().into_iter().find(|object| object["kind"] == kind).unwrap()
}

#[test]
fn the_least_of_every_kind_is_valid_and_every_kind_is_tried() {
    for object in minimal() {
        assert_eq!(wrong(create(&object)), "ok", "{object}");
    }
    let tried: std::collections::BTreeSet<String> =
        minimal().iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    assert!(crate::resource::RESOURCES.iter().all(|resource| tried.contains(resource.kind)));
    assert!(crate::resource::RESOURCES.iter().all(|resource| find(resource).is_some()));
}

#[test]
fn defaults_are_idempotent() {
    for object in minimal() {
        let once = create(&object).unwrap();
        assert_eq!(create(&once).unwrap(), once, "{object}");
    }
}

#[test]
fn an_update_without_a_change_changes_nothing() {
    for object in minimal() {
        let stored = create(&object).unwrap();
        assert_eq!(change(&stored, None, |_| {}).unwrap(), stored, "{object}");
        if resource(object["kind"].as_str().unwrap()).subresources.contains(&Subresource::Status) {
            assert_eq!(change(&stored, Some(Subresource::Status), |_| {}).unwrap(), stored, "{object}");
        }
        // What was posted, posted again, says nothing of what the server filled in.
        assert_eq!(change(&stored, None, |new| *new = object.clone()).unwrap(), stored, "{object}");
    }
}

#[test]
fn a_row_has_a_cell_for_every_column() {
    let now = Timestamp::UNIX_EPOCH;
    for object in minimal() {
        let stored = create(&object).unwrap();
        let resource = resource(object["kind"].as_str().unwrap());
        assert_eq!(row(resource, &stored, now).len(), columns(resource).len(), "{object}");
        let unreadable =
            json!({"metadata": {"name": "a"}, "spec": 1, "data": 1, "value": "x", "endpoints": 1, "type": 1});
        assert_eq!(row(resource, &unreadable, now).len(), columns(resource).len(), "{object}");
        assert!(check_field(resource, "metadata.name").is_ok());
    }
}

#[test]
fn a_kind_without_a_row_has_metadata_status_and_generation() {
    static WIDGET: Resource = Resource {
        group: "example.com",
        version: "v1",
        kind: "Widget",
        plural: "widgets",
        singular: "widget",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[Subresource::Status],
        type_name: "com.example.v1.Widget",
    };
    let posted =
        json!({"kind": "Widget", "metadata": {"name": "w", "namespace": "ns"}, "spec": {"a": 1}, "status": {"b": 1}});
    let stored = prepare_create(&WIDGET, posted).unwrap();
    check_json(
        &stored,
        expect![[r#"
            {
              "kind": "Widget",
              "metadata": {
                "generation": 1,
                "name": "w",
                "namespace": "ns"
              },
              "spec": {
                "a": 1
              }
            }"#]],
    );
    let mut new = stored.clone();
    new["spec"]["a"] = 2.into();
    new["status"] = json!({"b": 2});
    let updated = prepare_update(&WIDGET, new.clone(), &stored, None).unwrap();
    assert_eq!((&updated["metadata"]["generation"], updated.get("status")), (&json!(2), None));
    let updated = prepare_update(&WIDGET, new, &stored, Some(Subresource::Status)).unwrap();
    assert_eq!((&updated["metadata"]["generation"], &updated["spec"]["a"]), (&json!(1), &json!(1)));
    assert_eq!(updated["status"]["b"], 2);
    check(
        prepare_create(&WIDGET, json!({"metadata": {"name": "W"}})),
        expect![[r#"
            metadata.name: Invalid value: "W": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.namespace: Required value"#]],
    );
}

#[test]
fn metadata_is_checked() {
    let mut object = least("ConfigMap");
    object["metadata"] = json!({
        "name": "a",
        "namespace": "ns",
        "labels": {"/x": "ok", "k": "-bad"},
        "finalizers": ["mine", "orphan", "foregroundDeletion"],
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true},
            {"apiVersion": "apps/", "kind": "ReplicaSet", "name": "r", "uid": "", "controller": true},
        ],
    });
    check(
        create(&object),
        expect![[r#"
            metadata.labels: Invalid value: "/x": prefix part must be non-empty
            metadata.labels: Invalid value: "-bad": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.ownerReferences.apiVersion: Invalid value: "apps/": version must not be empty
            metadata.ownerReferences.uid: Invalid value: "": must not be empty
            metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Pod","name":"p","uid":"1"},{"apiVersion":"apps/","controller":true,"kind":"ReplicaSet","name":"r","uid":""}]: Only one reference can have Controller set to true. Found "true" in references for Pod/p and ReplicaSet/r
            metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
            metadata.finalizers: Invalid value: ["mine","orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#]],
    );
    object["metadata"] = json!({"generateName": "a-", "annotations": {"a": "x".repeat(300_000)}, "namespace": "ns"});
    check(
        create(&object),
        expect![[r"
            metadata.name: Required value: name or generateName is required
            metadata.annotations: Too long: may not be more than 262144 bytes"]],
    );
}

#[test]
fn an_update_keeps_and_guards_identity() {
    let mut stored = create(&least("ConfigMap")).unwrap();
    stored["metadata"]["uid"] = "u1".into();
    stored["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    stored["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
    stored["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    let bare = change(&stored, None, |new| new["metadata"] = json!({"name": "a"})).unwrap();
    assert_eq!(bare, stored);
    check(
        change(&stored, None, |new| {
            new["metadata"]["name"] = "b".into();
            new["metadata"]["uid"] = "u2".into();
            new["metadata"]["finalizers"] = json!(["x.io/z", "x.io/y"]);
            new["metadata"]["deletionGracePeriodSeconds"] = 5.into();
        }),
        expect![[r#"
            metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x.io/y", "x.io/z"}
            metadata.name: Invalid value: "b": field is immutable
            metadata.uid: Invalid value: "u2": field is immutable
            metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable"#]],
    );
}

#[test]
fn wrong_types_are_bad_requests() {
    let mut object = least("Deployment");
    object["spec"]["replicas"] = "x".into();
    check(
        create(&object),
        expect![[
            r#"400 Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go value of type int32"#
        ]],
    );
    let mut object = least("Pod");
    object["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1x"}});
    check(
        create(&object),
        expect![[
            r#"400 Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
        ]],
    );
    assert_eq!(prepare_create(resource("Pod"), json!([1])).unwrap_err().code, 400);
}

#[test]
fn times_keep_their_form() {
    let mut object = least("Lease");
    object["spec"] = json!({"renewTime": "2026-01-01T00:00:00.000000Z", "acquireTime": "2026-01-01T00:00:00.120000Z"});
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let stored = create(&object).unwrap();
    assert_eq!(stored["spec"]["renewTime"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(stored["spec"]["acquireTime"], "2026-01-01T00:00:00.120000Z");
    assert_eq!(stored["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
}

#[test]
fn the_types_of_comparisons_are_known() {
    for object in minimal() {
        let stored = create(&object).unwrap();
        let decoded =
            schema::decode(schema::find(resource(object["kind"].as_str().unwrap()).type_name).unwrap(), stored);
        assert!(decoded.unwrap().unknown.is_empty());
    }
    for name in [
        "apps.v1.DeploymentSpec",
        "apps.v1.ReplicaSetSpec",
        "core.v1.PodSpec",
        "core.v1.ReplicationControllerSpec",
        "networking.v1.ParentReference",
        "policy.v1.PodDisruptionBudgetSpec",
    ] {
        assert!(schema::find(&format!("io.k8s.api.{name}")).is_some(), "{name}");
    }
    assert!(schema::find(meta::LABEL_SELECTOR).is_some());
}

#[test]
fn unknown_fields_are_dropped_and_quantities_made_canonical() {
    let mut object = least("Node");
    object["unknown"] = 1.into();
    object["status"]["capacity"]["memory"] = "1024Ki".into();
    let stored = create(&object).unwrap();
    assert!(stored.get("unknown").is_none());
    assert_eq!(stored["status"]["capacity"], json!({"cpu": "4", "memory": "1Mi"}));
    assert_eq!(stored["status"]["allocatable"], stored["status"]["capacity"]);
}

#[test]
fn deployments_have_defaults_and_count_changes_of_spec_and_annotations() {
    let stored = create(&least("Deployment")).unwrap();
    check_json(
        &stored["spec"],
        expect![[r#"
            {
              "progressDeadlineSeconds": 600,
              "replicas": 1,
              "revisionHistoryLimit": 10,
              "selector": {
                "matchLabels": {
                  "app": "a"
                }
              },
              "strategy": {
                "rollingUpdate": {
                  "maxSurge": "25%",
                  "maxUnavailable": "25%"
                },
                "type": "RollingUpdate"
              },
              "template": {
                "metadata": {
                  "labels": {
                    "app": "a"
                  }
                },
                "spec": {
                  "containers": [
                    {
                      "image": "nginx",
                      "imagePullPolicy": "Always",
                      "name": "c",
                      "resources": {},
                      "terminationMessagePath": "/dev/termination-log",
                      "terminationMessagePolicy": "File"
                    }
                  ],
                  "dnsPolicy": "ClusterFirst",
                  "restartPolicy": "Always",
                  "schedulerName": "default-scheduler",
                  "securityContext": {},
                  "terminationGracePeriodSeconds": 30
                }
              }
            }"#]],
    );
    let generation = |change: Result<Value, Status>| change.unwrap()["metadata"]["generation"].clone();
    assert_eq!(stored["metadata"]["generation"], 1);
    assert_eq!(generation(change(&stored, None, |new| new["spec"]["replicas"] = 0.into())), 2);
    assert_eq!(generation(change(&stored, None, |new| new["metadata"]["annotations"] = json!({"a": "b"}))), 2);
    assert_eq!(generation(change(&stored, None, |new| new["metadata"]["labels"] = json!({"a": "b"}))), 1);
    assert_eq!(generation(change(&stored, None, |new| new["metadata"]["generation"] = 9.into())), 1);
    let status = change(&stored, Some(Subresource::Status), |new| {
        new["status"]["replicas"] = 3.into();
        new["spec"]["replicas"] = 9.into();
        new["metadata"]["labels"] = json!({"a": "b"});
    });
    let status = status.unwrap();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(3)));
    assert!(status["metadata"].get("labels").is_none());
    let spec = change(&status, None, |new| new["status"] = json!({"replicas": 7})).unwrap();
    assert_eq!(spec["status"]["replicas"], 3);
}

#[test]
fn deployments_are_checked() {
    let mut object = least("Deployment");
    object["spec"]["replicas"] = (-1).into();
    object["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
    object["spec"]["template"]["metadata"]["labels"]["app"] = "b".into();
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    object["spec"]["minReadySeconds"] = 600.into();
    check(
        create(&object),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"#]],
    );
    object = least("Deployment");
    object["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "x", "maxUnavailable": "101%"}});
    object["spec"].as_object_mut().unwrap().remove("selector");
    check(
        create(&object),
        expect![[r#"
            spec.selector: Required value
            spec.selector: Invalid value: {}: empty selector is invalid for deployment
            spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#]],
    );
    let stored = create(&least("Deployment")).unwrap();
    check(
        change(&stored, None, |new| {
            new["spec"]["selector"]["matchLabels"] = json!({"app": "b"});
            new["spec"]["template"]["metadata"]["labels"]["app"] = "b".into();
        }),
        expect![[r#"spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable"#]],
    );
    check(
        change(&stored, Some(Subresource::Status), |new| {
            new["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3});
        }),
        expect![[r"
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas"]],
    );
}

#[test]
fn replication_controllers_take_selector_and_labels_from_their_template() {
    let stored = create(&least("ReplicationController")).unwrap();
    assert_eq!(stored["spec"]["selector"], json!({"app": "a"}));
    assert_eq!(stored["metadata"]["labels"], json!({"app": "a"}));
    check(
        create(
            &json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "a", "namespace": "n"}}),
        ),
        expect![[r"
            spec.selector: Required value
            spec.template: Required value"]],
    );
}

#[test]
fn scale_reads_and_sets_replicas() {
    let mut stored = create(&least("Deployment")).unwrap();
    stored["status"]["replicas"] = 2.into();
    stored["metadata"]["resourceVersion"] = "7".into();
    let resource = resource("Deployment");
    let mut scaled = scale::get(resource, &stored).unwrap();
    check_json(
        &scaled,
        expect![[r#"
            {
              "apiVersion": "autoscaling/v1",
              "kind": "Scale",
              "metadata": {
                "name": "a",
                "namespace": "ns",
                "resourceVersion": "7"
              },
              "spec": {
                "replicas": 1
              },
              "status": {
                "replicas": 2,
                "selector": "app=a"
              }
            }"#]],
    );
    scaled["spec"]["replicas"] = 5.into();
    let mut new = stored.clone();
    scale::apply(resource, &scaled, &mut new).unwrap();
    let new = prepare_update(resource, new, &stored, Some(Subresource::Scale)).unwrap();
    assert_eq!((&new["spec"]["replicas"], &new["metadata"]["generation"]), (&json!(5), &json!(2)));
    scaled["spec"]["replicas"] = (-5).into();
    let refused = scale::apply(resource, &scaled, &mut stored).unwrap_err();
    assert_eq!(
        refused.message,
        r#"Scale.autoscaling "a" is invalid: spec.replicas: Invalid value: -5: must be greater than or equal to 0"#
    );
    assert_eq!(scale::apply(super::tests::resource("Pod"), &scaled, &mut stored).unwrap_err().code, 500);
}

#[test]
fn fields_are_selected_by_label_and_unknown_labels_refused() {
    let pod =
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}});
    let fields = selectable_fields(resource("Pod"), &pod);
    let shown: Vec<String> = fields.iter().map(|(label, value)| format!("{label}={value}")).collect();
    assert_eq!(
        shown.join(" "),
        "metadata.name=p metadata.namespace=n spec.host=x spec.hostNetwork=false spec.nodeName=x spec.restartPolicy= \
         spec.schedulerName= spec.serviceAccountName= status.nominatedNodeName= status.phase=Running status.podIP= \
         status.podIPs="
    );
    assert_eq!(check_field(resource("Pod"), "spec.foo").unwrap_err(), "field label not supported: spec.foo");
    assert_eq!(
        check_field(resource("Lease"), "spec.foo").unwrap_err(),
        r#""spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace""#
    );
    assert_eq!(field(resource("Node"), "spec.unschedulable", &json!({})).unwrap(), "false");
    assert_eq!(field(resource("ReplicaSet"), "status.replicas", &json!({})).unwrap(), "0");
    let event = json!({"reportingComponent": "kubelet", "involvedObject": {"name": "p"}});
    assert_eq!(field(resource("Event"), "source", &event).unwrap(), "kubelet");
    assert_eq!(field(resource("Event"), "involvedObject.name", &event).unwrap(), "p");
    assert_eq!(field(resource("Event"), "message", &event), None);
}

#[test]
fn namespaces_carry_their_name_and_finalizer() {
    let stored = create(&least("Namespace")).unwrap();
    check_json(
        &stored,
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Namespace",
              "metadata": {
                "labels": {
                  "kubernetes.io/metadata.name": "a"
                },
                "name": "a"
              },
              "spec": {
                "finalizers": [
                  "kubernetes"
                ]
              },
              "status": {
                "phase": "Active"
              }
            }"#]],
    );
    let kept = change(&stored, None, |new| new["spec"]["finalizers"] = json!([])).unwrap();
    assert_eq!(kept, stored);
    let finalized = change(&stored, Some(Subresource::Finalize), |new| new["spec"]["finalizers"] = json!([])).unwrap();
    assert_eq!(finalized["spec"]["finalizers"], json!([]));
    check(
        change(&stored, Some(Subresource::Status), |new| new["status"]["phase"] = "Terminating".into()),
        expect![[
            r#"status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty"#
        ]],
    );
}

#[test]
fn nodes_get_their_network_once_and_taints_are_unique() {
    let stored = create(&least("Node")).unwrap();
    let networked = change(&stored, None, |new| new["spec"]["podCIDR"] = "10.1.0.0/24".into()).unwrap();
    assert_eq!(networked["spec"]["podCIDRs"], json!(["10.1.0.0/24"]));
    check(
        change(&networked, None, |new| {
            new["spec"]["podCIDR"] = "10.2.0.0/24".into();
            new["spec"]["podCIDRs"] = json!(["10.2.0.0/24"]);
            new["spec"]["taints"] = json!([{"key": "k", "effect": "NoExecute"}, {"key": "k", "effect": "NoExecute"}, {"key": "k", "effect": "x"}]);
        }),
        expect![[r#"
            metadata.taints[1]: Duplicate value: {"effect":"NoExecute","key":"k"}: taints must be unique by key and effect pair
            metadata.taints[2].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#]],
    );
    check(
        change(&stored, Some(Subresource::Status), |new| {
            new["status"]["addresses"] =
                json!([{"type": "InternalIP", "address": "1"}, {"type": "InternalIP", "address": "1"}]);
            new["status"]["capacity"]["pods"] = "-1".into();
        }),
        expect![[r#"
            status.capacity.pods: Invalid value: "-1": must be greater than or equal to 0
            status.addresses[1]: Duplicate value: {"address":"1","type":"InternalIP"}"#]],
    );
}

#[test]
fn data_is_checked_and_frozen() {
    let mut object = least("ConfigMap");
    object["data"] = json!({"a/b": "x", "k": "x"});
    object["binaryData"] = json!({"k": "eA=="});
    check(
        create(&object),
        expect![[r#"
            data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            binaryData[k]: Invalid value: "k": duplicate of key present in data"#]],
    );
    object["data"] = json!({"x": "x".repeat(2_000_000)});
    check(create(&object), expect!["[]: Too long: may not be more than 1048576 bytes"]);
    object = least("ConfigMap");
    object["immutable"] = true.into();
    object["data"] = json!({"k": "v"});
    let stored = create(&object).unwrap();
    check(
        change(&stored, None, |new| {
            new["immutable"] = false.into();
            new["data"]["k"] = "w".into();
        }),
        expect![[r"
            immutable: Forbidden: field is immutable when `immutable` is set
            data: Forbidden: field is immutable when `immutable` is set"]],
    );
    let secret = create(&least("Secret")).unwrap();
    assert_eq!((&secret["data"], &secret["type"]), (&json!({"k": "dg=="}), &json!("Opaque")));
    check(
        change(&secret, None, |new| new["type"] = "kubernetes.io/tls".into()),
        expect![[r#"
            type: Invalid value: "kubernetes.io/tls": field is immutable
            data[tls.crt]: Required value
            data[tls.key]: Required value"#]],
    );
}

#[test]
fn services_have_defaults() {
    let stored = create(&least("Service")).unwrap();
    check_json(
        &stored["spec"],
        expect![[r#"
            {
              "internalTrafficPolicy": "Cluster",
              "ipFamilies": [
                "IPv4"
              ],
              "ipFamilyPolicy": "SingleStack",
              "ports": [
                {
                  "port": 80,
                  "protocol": "TCP",
                  "targetPort": 80
                }
              ],
              "sessionAffinity": "None",
              "type": "ClusterIP"
            }"#]],
    );
    let mut object = least("Service");
    object["spec"]["type"] = "LoadBalancer".into();
    object["spec"]["sessionAffinity"] = "ClientIP".into();
    let stored = create(&object).unwrap();
    assert_eq!(stored["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(stored["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(stored["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
}

#[test]
fn services_are_checked() {
    let mut object = least("Service");
    object["metadata"]["name"] = "1a".into();
    object["spec"]["clusterIP"] = "10.96.0.300".into();
    object["spec"]["externalIPs"] = json!(["127.0.0.1"]);
    object["spec"]["ports"] = json!([{"port": 80, "nodePort": 30000}, {"port": 80, "name": "a", "protocol": "X"}, {"port": 0, "name": "a", "targetPort": "no--name"}]);
    check(
        create(&object),
        expect![[r#"
            metadata.name: Invalid value: "1a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.ports[0].name: Required value
            spec.ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
            spec.ports[2].name: Duplicate value: "a"
            spec.ports[2].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[2].targetPort: Invalid value: "no--name": must not contain consecutive hyphens
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.clusterIPs[0]: Invalid value: "10.96.0.300": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#]],
    );
    object = least("Service");
    object["spec"] = json!({"type": "ExternalName"});
    check(create(&object), expect!["spec.externalName: Required value"]);
    object["spec"] = json!({});
    check(create(&object), expect!["spec.ports: Required value"]);
    object["spec"] = json!({"clusterIP": "None"});
    check(create(&object), expect!["ok"]);
}

#[test]
fn services_keep_what_was_allocated() {
    let mut object = least("Service");
    object["spec"]["type"] = "NodePort".into();
    let mut stored = create(&object).unwrap();
    stored["spec"]["clusterIP"] = "10.96.0.7".into();
    stored["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
    stored["spec"]["ports"][0]["nodePort"] = 30_001.into();
    assert_eq!(change(&stored, None, |new| *new = object.clone()).unwrap(), stored);
    check(
        change(&stored, None, |new| new["spec"]["clusterIP"] = "10.96.0.8".into()),
        expect![[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set"#]],
    );
    let plain = change(&stored, None, |new| new["spec"]["type"] = "ClusterIP".into()).unwrap();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    assert!(plain["spec"].get("externalTrafficPolicy").is_none());
    assert_eq!(plain["spec"]["clusterIP"], "10.96.0.7");
    let external = change(&stored, None, |new| {
        new["spec"]["type"] = "ExternalName".into();
        new["spec"]["externalName"] = "example.com".into();
    });
    let external = external.unwrap();
    assert!(external["spec"].get("clusterIP").is_none() && external["spec"].get("ipFamilies").is_none());
}

#[test]
fn slices_have_one_type_of_address_and_a_bound() {
    let stored = create(&least("EndpointSlice")).unwrap();
    assert_eq!(stored["ports"][0], json!({"name": "", "port": 80, "protocol": "TCP"}));
    let changed = change(&stored, None, |new| new["endpoints"][0]["conditions"]["ready"] = true.into()).unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    check(
        change(&stored, None, |new| {
            new["addressType"] = "IPv6".into();
            new["endpoints"] = json!([{"addresses": ["10.0.0.1"]}, {"addresses": []}]);
            new["ports"] = json!([{"port": 1}, {"port": 2}]);
        }),
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "10.0.0.1": must be a valid IPv6 address
            endpoints[1].addresses: Required value: must contain at least 1 address
            ports[1].name: Duplicate value: ""
            addressType: Invalid value: "IPv6": field is immutable"#]],
    );
    let at = |ip: &str| change(&stored, None, |new| new["endpoints"] = json!([{"addresses": [ip]}]));
    check(
        at("127.0.1.1"),
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "127.0.1.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#]],
    );
    assert!(at("127.64.0.2").is_ok(), "pods of hollow nodes are there");
    let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
    check(
        change(&stored, None, |new| new["endpoints"] = many.into()),
        expect!["endpoints: Too many: 1001: must have at most 1000 items"],
    );
    let mut endpoints = least("Endpoints");
    endpoints["subsets"] = json!([{}, {"addresses": [{"ip": "x"}], "ports": [{"port": 1}, {"port": 2, "name": "b"}]}]);
    check(
        create(&endpoints),
        expect![[r#"
            subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`
            subsets[1].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[1].ports[0].name: Required value"#]],
    );
}

#[test]
fn addresses_have_canonical_names_and_an_owner_for_good() {
    let mut object = least("IPAddress");
    object["metadata"]["name"] = "FD00::1".into();
    object.as_object_mut().unwrap().remove("spec");
    check(
        create(&object),
        expect![[r#"
            metadata.name: Invalid value: "FD00::1": must be a canonical format IP address
            spec.parentRef: Required value"#]],
    );
    let stored = create(&least("IPAddress")).unwrap();
    check(
        change(&stored, None, |new| new["spec"]["parentRef"]["name"] = "b".into()),
        expect![[
            r#"spec.parentRef: Invalid value: {"name":"b","namespace":"ns","resource":"services"}: field is immutable"#
        ]],
    );
}

#[test]
fn budgets_classes_leases_and_events_are_checked() {
    let mut object = least("PodDisruptionBudget");
    object["spec"] = json!({"minAvailable": -1, "maxUnavailable": "200%"});
    check(
        create(&object),
        expect![[r#"
            spec: Invalid value: {"maxUnavailable":"200%","minAvailable":-1}: minAvailable and maxUnavailable cannot be both set
            spec.minAvailable: Invalid value: -1: must be greater than or equal to 0
            spec.maxUnavailable: Invalid value: "200%": must not be greater than 100%"#]],
    );
    object = least("PriorityClass");
    object["value"] = 1_000_000_001.into();
    check(create(&object), expect!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]);
    object["metadata"]["name"] = "system-node-critical".into();
    check(
        create(&object),
        expect![
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000"
        ],
    );
    let stored = create(&least("PriorityClass")).unwrap();
    check(
        change(&stored, None, |new| new["value"] = 8.into()),
        expect!["value: Forbidden: may not be changed in an update."],
    );
    object = least("Lease");
    object["spec"] = json!({"leaseDurationSeconds": 0, "leaseTransitions": -1});
    check(
        create(&object),
        expect![[r"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"]],
    );
    object = least("Event");
    object["involvedObject"]["namespace"] = "other".into();
    check(
        create(&object),
        expect![[r#"involvedObject.namespace: Invalid value: "other": does not match event.namespace"#]],
    );
}

#[test]
fn rows_are_those_of_kubectl() {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let shown = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let cells = row(resource(object["kind"].as_str().unwrap()), &object, now);
        cells
            .iter()
            .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let mut lines: Vec<String> = minimal().iter().map(|object| shown(&create(object).unwrap())).collect();
    let mut service = create(&least("Service")).unwrap();
    service["spec"] = json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.9"], "externalIPs": ["1.2.3.4"],
        "selector": {"a": "b"}, "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]});
    service["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "lb"}]}});
    lines.push(shown(&service));
    let mut slice = create(&least("EndpointSlice")).unwrap();
    slice["endpoints"] = json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]},
        {"addresses": ["10.0.0.4"]}, {"addresses": ["10.0.0.5"]}]);
    lines.push(shown(&slice));
    let mut node = create(&least("Node")).unwrap();
    node["metadata"]["labels"] = json!({"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""});
    node["spec"]["unschedulable"] = true.into();
    node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": "10.9.0.1"}]);
    node["status"]["nodeInfo"]["kubeletVersion"] = "v1.35.0".into();
    lines.push(shown(&node));
    let mut event = create(&least("Event")).unwrap();
    event["lastTimestamp"] = "2026-01-01T00:59:00Z".into();
    event["firstTimestamp"] = "2026-01-01T00:50:00Z".into();
    event["involvedObject"] = json!({"kind": "Pod", "name": "p"});
    event["source"] = json!({"component": "kubelet", "host": "n1"});
    event["message"] = " hello\n".into();
    event["count"] = 3.into();
    lines.push(shown(&event));
    expect![[r"
        a | 0 | 60m
        a | 10.0.0.1:80 | 60m
        <unknown> |  |  |  |  |  |  | <unknown> | 1 | a
        a | Active | 60m
        a | Unknown | <none> | 60m |  | <none> | <none> | <unknown> | <unknown> | <unknown>
        a | 0/1 | Pending | 0 | 60m | <none> | <none> | <none> | <none>
        a | 1 | 0 | 0 | 60m | c | nginx | app=a
        a | Opaque | 1 | 60m
        a | ClusterIP | <none> | <none> | 80/TCP | 60m | <none>
        a | 0 | 60m
        a | 0/1 | 0 | 0 | 60m | c | nginx | app=a
        a | 1 | 0 | 0 | 60m | c | nginx | app=a
        a |  | 60m
        a | IPv4 | 80 | 10.0.0.1 | 60m
        10.0.0.1 | services/ns/a | 60m
        a | 1 | N/A | 0 | 60m
        a | 7 | false | 60m | PreemptLowerPriority
        a | LoadBalancer | 10.0.0.9 | lb,1.2.3.4 | 80:30080/TCP,53/UDP | 60m | a=b
        a | IPv4 | 80 | 10.0.0.1,10.0.0.2,10.0.0.3 + 2 more... | 60m
        a | Ready,SchedulingDisabled | edge,worker | 60m | v1.35.0 | 10.9.0.1 | <none> | <unknown> | <unknown> | <unknown>
        60s |  |  | pod/p |  | kubelet, n1 | hello | 10m | 3 | a"]]
    .assert_eq(&lines.join("\n"));
}

/// A document's fields in their order, as JSON.
fn in_order(object: &Value) -> String {
    let map = object.as_object().unwrap();
    let first = ["apiVersion", "kind", "metadata"];
    let rest = map.keys().map(String::as_str).filter(|key| !first.contains(key));
    let fields: Vec<String> = first.into_iter().chain(rest).map(|key| format!("{key:?}:{}", map[key])).collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn documents_say_what_values_say() {
    let status = json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.2",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-02T03:04:05Z"}]});
    let mut subjects = minimal();
    let mut pod = subjects.iter().find(|object| object["kind"] == "Pod").unwrap().clone();
    pod["metadata"]["labels"] = json!({"b": "1", "a": "2"});
    pod["spec"] = json!({"nodeName": "n", "containers": [{"name": "c", "image": "nginx", "env": [{"name": "A", "value": "b\n"}],
        "resources": {"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"cpu": "100m"}},
        "livenessProbe": {"httpGet": {"port": 80}}, "ports": [{"containerPort": 80, "hostPort": 81}]}]});
    subjects.push(pod);
    for object in subjects {
        let of = resource(object["kind"].as_str().unwrap());
        let created = prepare_create(of, object.clone()).unwrap();
        let mut document = Vec::new();
        create_document(of, &object, &mut document).unwrap();
        let mut expected = created.clone();
        expected["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        assert_eq!(String::from_utf8(document.clone()).unwrap(), in_order(&expected));
        for subresource in [None, Some(Subresource::Status)] {
            let mut new = created.clone();
            new["metadata"]["annotations"] = json!({"x": "y"});
            new["metadata"]["resourceVersion"] = "7".into();
            if of.kind == "Pod" {
                new["status"] = status.clone();
            }
            let expected = prepare_update(of, new.clone(), &created, subresource);
            let check = |_: &ObjectMeta| Ok(());
            let mut out = Vec::new();
            let update = Update { new: &new, old: &document, subresource, check: &check };
            let told = update_document(of, &update, &mut out);
            match expected {
                Ok(mut expected) => {
                    expected["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                    assert_eq!(String::from_utf8(out).unwrap(), in_order(&expected));
                    assert_eq!(told, Ok(false));
                }
                Err(status) => assert_eq!(told, Err(status)),
            }
        }
    }
}
