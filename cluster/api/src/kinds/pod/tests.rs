//! Pods: defaults, what is refused, what may change, what a table shows.

use super::super::tests::{change, check, create, least, resource, wrong};
use super::super::{Subresource, bind, row};
use crate::Timestamp;
use crate::status::Status;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

fn pod(spec: Value) -> Value {
    let mut pod = least("Pod");
    pod["spec"] = spec;
    pod
}

fn with(change: impl FnOnce(&mut Value)) -> Result<Value, Status> {
    let mut pod = least("Pod");
    change(&mut pod);
    create(&pod)
}

#[test]
fn every_default_of_a_full_pod_is_filled_in() {
    let posted = pod(json!({
        "hostNetwork": true,
        "serviceAccount": "robot",
        "nodeName": "",
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "h", "hostPath": {"path": "/x"}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
        "initContainers": [{"name": "i", "image": "reg:5000/a@sha256:0"}],
        "containers": [{
            "name": "c",
            "image": "reg:5000/a:1",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": {"limits": {"cpu": "1000m", "memory": "1.5Gi"}, "requests": {"cpu": "0.0001"}},
            "livenessProbe": {"httpGet": {"port": 80}},
            "readinessProbe": {"grpc": {"port": 80}, "periodSeconds": 5},
            "lifecycle": {"preStop": {"httpGet": {"port": "web"}}},
        }],
    }));
    let stored = create(&posted).unwrap();
    expect![[r#"
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "generation": 1,
            "name": "a",
            "namespace": "ns"
          },
          "spec": {
            "containers": [
              {
                "env": [
                  {
                    "name": "N",
                    "valueFrom": {
                      "fieldRef": {
                        "apiVersion": "v1",
                        "fieldPath": "metadata.name"
                      }
                    }
                  }
                ],
                "image": "reg:5000/a:1",
                "imagePullPolicy": "IfNotPresent",
                "lifecycle": {
                  "preStop": {
                    "httpGet": {
                      "path": "/",
                      "port": "web",
                      "scheme": "HTTP"
                    }
                  }
                },
                "livenessProbe": {
                  "failureThreshold": 3,
                  "httpGet": {
                    "path": "/",
                    "port": 80,
                    "scheme": "HTTP"
                  },
                  "periodSeconds": 10,
                  "successThreshold": 1,
                  "timeoutSeconds": 1
                },
                "name": "c",
                "ports": [
                  {
                    "containerPort": 80,
                    "hostPort": 80,
                    "protocol": "TCP"
                  }
                ],
                "readinessProbe": {
                  "failureThreshold": 3,
                  "grpc": {
                    "port": 80,
                    "service": ""
                  },
                  "periodSeconds": 5,
                  "successThreshold": 1,
                  "timeoutSeconds": 1
                },
                "resources": {
                  "limits": {
                    "cpu": "1",
                    "memory": "1536Mi"
                  },
                  "requests": {
                    "cpu": "1m",
                    "memory": "1536Mi"
                  }
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "hostNetwork": true,
            "initContainers": [
              {
                "image": "reg:5000/a@sha256:0",
                "imagePullPolicy": "IfNotPresent",
                "name": "i",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": "robot",
            "serviceAccountName": "robot",
            "terminationGracePeriodSeconds": 30,
            "volumes": [
              {
                "emptyDir": {},
                "name": "e"
              },
              {
                "name": "s",
                "secret": {
                  "defaultMode": 420,
                  "secretName": "x"
                }
              },
              {
                "hostPath": {
                  "path": "/x",
                  "type": ""
                },
                "name": "h"
              },
              {
                "name": "p",
                "projected": {
                  "defaultMode": 420,
                  "sources": [
                    {
                      "serviceAccountToken": {
                        "expirationSeconds": 3600,
                        "path": "t"
                      }
                    }
                  ]
                }
              }
            ]
          },
          "status": {
            "phase": "Pending",
            "qosClass": "Burstable"
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&stored).unwrap());
    assert_eq!(create(&stored).unwrap(), stored);
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let class = |resources: Value| {
        with(|pod| pod["spec"]["containers"][0]["resources"] = resources).unwrap()["status"]["qosClass"].clone()
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}})), "Burstable");
}

#[test]
fn keys_of_labels_to_match_become_part_of_the_selectors() {
    let stored = with(|pod| {
        pod["metadata"]["labels"] = json!({"v": "1"});
        pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone", "labelSelector": {},
            "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["v", "absent"]}]);
        pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {}, "mismatchLabelKeys": ["v"]}]}});
    });
    let spec = &stored.unwrap()["spec"];
    assert_eq!(
        spec["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]})
    );
    let term = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["labelSelector"]["matchExpressions"][0]["operator"], "NotIn");
}

#[test]
fn containers_are_checked() {
    check(create(&pod(json!({}))), expect!["spec.containers: Required value"]);
    check(
        with(|pod| {
            pod["spec"]["containers"] = json!([
                {"name": "A_b", "image": " x"},
                {"name": "c", "ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "8080", "protocol": "tcp"},
                    {"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
                {"name": "c", "image": "x", "imagePullPolicy": "Sometimes"},
            ]);
            pod["spec"]["initContainers"] =
                json!([{"name": "c", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]);
        }),
        expect![[r#"
            spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[1].image: Required value
            spec.containers[1].ports[0].containerPort: Required value
            spec.containers[1].ports[1].name: Invalid value: "8080": must contain at least one letter (a-z)
            spec.containers[1].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
            spec.containers[1].ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            spec.containers[2].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[2].name: Duplicate value: "c"
            spec.containers[1].ports[3].hostPort: Duplicate value: "TCP//5"
            spec.initContainers[0].name: Duplicate value: "c"
            spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace"#]],
    );
}

#[test]
fn probes_hooks_and_environment_are_checked() {
    check(
        with(|pod| {
            let container = &mut pod["spec"]["containers"][0];
            container["livenessProbe"] = json!({"successThreshold": 2, "httpGet": {"port": 0, "scheme": "FTP",
                "httpHeaders": [{"name": "a b", "value": ""}]}});
            container["readinessProbe"] =
                json!({"exec": {}, "tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1});
            container["startupProbe"] = json!({"periodSeconds": -1});
            container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 31}}});
            container["env"] = json!([{"name": ""}, {"name": "a=b", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}},
                {"name": "b", "valueFrom": {}}, {"name": "k", "valueFrom": {"secretKeyRef": {"name": "s", "key": ""}}}]);
        }),
        expect![[r#"
            spec.containers[0].env[0].name: Required value
            spec.containers[0].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '=' (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[ -<>-~]+')
            spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x
            spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
            spec.containers[0].env[3].valueFrom.secretKeyRef.key: Required value
            spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
            spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"
            spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
            spec.containers[0].readinessProbe.exec.command: Required value
            spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes
            spec.containers[0].startupProbe: Required value: must specify a handler type
            spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"#]],
    );
}

#[test]
fn resources_are_checked() {
    check(
        with(|pod| {
            pod["spec"]["containers"][0]["resources"] = json!({
                "limits": {"cpu": "1", "memory": "-1", "example.com/gpu": "1500m", "disk": "1"},
                "requests": {"cpu": "2", "example.com/gpu": "1", "example.com/fpga": "1"},
            });
        }),
        expect![[r#"
            spec.containers[0].resources.limits[disk]: Invalid value: "disk": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[disk]: Invalid value: "disk": must be a standard resource for containers
            spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
            spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers
            spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
            spec.containers[0].resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 1500m
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0"#]],
    );
}

#[test]
fn volumes_and_mounts_are_checked() {
    check(
        with(|pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/../x", "type": "Disk"}},
                {"name": "v", "secret": {"items": [{"key": "", "path": "../x", "mode": 512}]}}, {"emptyDir": {}}]);
            pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "none", "mountPath": "/a"},
                {"name": "v", "mountPath": "/a", "subPath": "../b"}, {"name": "v", "mountPath": ""}]);
        }),
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].secret.secretName: Required value
            spec.volumes[1].secret.items[0].key: Required value
            spec.volumes[1].secret.items[0].path: Invalid value: "../x": must not contain '..'
            spec.volumes[1].secret.items[0].mode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
            spec.volumes[1].name: Duplicate value: "v"
            spec.volumes[2].name: Required value
            spec.containers[0].volumeMounts[0].name: Not found: "none"
            spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
            spec.containers[0].volumeMounts.subPath: Invalid value: "../b": must not contain '..'
            spec.containers[0].volumeMounts[2].mountPath: Required value"#]],
    );
}

#[test]
fn scheduling_wishes_are_checked() {
    check(
        with(|pod| {
            pod["spec"]["tolerations"] = json!([{"operator": "Equal"}, {"key": "k", "operator": "Exists", "value": "v"},
                {"key": "k", "operator": "Is", "effect": "Never", "tolerationSeconds": 1}]);
            pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"},
                {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1},
                {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "matchLabelKeys": ["a"]}]);
            pod["spec"]["affinity"] = json!({
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "k", "operator": "In"}, {"key": "k", "operator": "Gt", "values": []},
                        {"key": "k", "operator": "Maybe"}], "matchFields": [{"key": "x", "operator": "In", "values": ["a"]}]}]},
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]},
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]},
            });
        }),
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].operator: Invalid value: "Maybe": not a valid selector operator
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "x": not a valid field selector key
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "x": supported values: "DoNotSchedule", "ScheduleAnyway"
            spec.topologySpreadConstraints[1].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
            spec.topologySpreadConstraints[2].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, ScheduleAnyway}"
            spec.topologySpreadConstraints[2].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].operator: Invalid value: "v": value must be empty when `operator` is 'Exists'
            spec.tolerations[2].effect: Invalid value: "Never": effect must be 'NoExecute' when `tolerationSeconds` is set
            spec.tolerations[2].operator: Unsupported value: "Is": supported values: "Equal", "Exists"
            spec.tolerations[2].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#]],
    );
}

#[test]
fn only_a_few_fields_of_a_pod_may_change() {
    let stored = with(|pod| {
        pod["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
        pod["spec"]["activeDeadlineSeconds"] = 10.into();
    });
    let stored = stored.unwrap();
    let changed = change(&stored, None, |new| {
        new["spec"]["containers"][0]["image"] = "nginx:2".into();
        new["spec"]["activeDeadlineSeconds"] = 5.into();
        new["spec"]["tolerations"].as_array_mut().unwrap().push(json!({"key": "l", "operator": "Exists"}));
        new["status"]["phase"] = "Running".into();
    });
    let changed = changed.unwrap();
    assert_eq!((&changed["metadata"]["generation"], &changed["status"]["phase"]), (&json!(2), &json!("Pending")));
    let labeled = change(&stored, None, |new| new["metadata"]["labels"] = json!({"a": "b"})).unwrap();
    assert_eq!(labeled["metadata"]["generation"], 1);
    let allowed = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    assert_eq!(wrong(change(&stored, None, |new| new["spec"]["nodeName"] = "n".into())), allowed);
    assert_eq!(wrong(change(&stored, None, |new| new["spec"]["terminationGracePeriodSeconds"] = 1.into())), allowed);
    assert_eq!(wrong(change(&stored, None, |new| new["spec"]["hostNetwork"] = false.into())), "ok");
    check(
        change(&stored, None, |new| new["spec"]["activeDeadlineSeconds"] = 11.into()),
        expect!["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"],
    );
    check(
        change(&stored, None, |new| new["spec"]["tolerations"] = json!([])),
        expect!["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
    );
    check(
        change(&stored, None, |new| {
            let container = new["spec"]["containers"][0].clone();
            new["spec"]["containers"].as_array_mut().unwrap().push(container);
            new["spec"]["containers"][1]["name"] = "d".into();
        }),
        expect!["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
}

#[test]
fn gates_hold_a_pod_back_and_can_only_go() {
    let stored = with(|pod| pod["spec"]["schedulingGates"] = json!([{"name": "x.io/a"}])).unwrap();
    assert_eq!(stored["status"]["conditions"][0]["reason"], "SchedulingGated");
    check(
        change(&stored, None, |new| new["spec"]["schedulingGates"] = json!([{"name": "x.io/b"}])),
        expect![
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x.io/b'"
        ],
    );
    let told = change(&stored, None, |new| {
        new["spec"]["schedulingGates"] = json!([]);
        new["spec"]["nodeSelector"] = json!({"a": "b"});
        new["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    });
    assert_eq!(wrong(told), "ok");
    check(
        with(|pod| {
            pod["spec"]["schedulingGates"] = json!([{"name": "x.io/a"}]);
            pod["spec"]["nodeName"] = "n".into();
        }),
        expect!["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
    );
}

#[test]
fn status_may_not_undo_an_end_nor_touch_the_spec() {
    let stored = with(|pod| pod["spec"]["restartPolicy"] = "Never".into()).unwrap();
    let ended = change(&stored, Some(Subresource::Status), |new| {
        new["spec"]["nodeName"] = "n".into();
        new["status"] = json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses":
            [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}]});
    });
    let ended = ended.unwrap();
    assert!(ended["spec"].get("nodeName").is_none());
    assert_eq!(ended["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    assert_eq!(ended["status"]["qosClass"], "BestEffort");
    check(
        change(&ended, Some(Subresource::Status), |new| {
            new["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
            new["status"]["qosClass"] = "Guaranteed".into();
            new["status"]["podIP"] = "x".into();
        }),
        expect![[r#"
            status.qosClass: Invalid value: "Guaranteed": field is immutable
            status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
            status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#]],
    );
}

#[test]
fn a_pod_is_bound_once() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let stored = create(&least("Pod")).unwrap();
    let to = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
    let bound = bind(resource("Pod"), &stored, &to("n"), now).unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(
        bound["status"]["conditions"],
        json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    );
    let again = bind(resource("Pod"), &bound, &to("m"), now).unwrap_err();
    assert_eq!(again.code, 409);
    assert_eq!(
        again.message,
        r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n""#
    );
    let nowhere = bind(resource("Pod"), &stored, &to(""), now).unwrap_err();
    assert_eq!(nowhere.message, r#"Binding "a" is invalid: target.name: Required value"#);
}

/// Shows ready, status and restarts of a pod with these statuses of init and regular containers, written
/// `name:state[:restarts]`, where a state is `run`, `up` (running and ready), `wait-REASON` or `end-REASON-CODE`.
#[expect(clippy::needless_pass_by_value, reason = "expect![] makes a value")]
fn check_row(init: &str, regular: &str, status: Value, deleted: bool, expected: Expect) {
    let parse = |text: &str| -> Vec<Value> {
        let one = |text: &str| {
            let parts: Vec<&str> = text.split(':').collect();
            let restarts: i64 = parts.get(2).map_or(0, |count| count.parse().unwrap());
            let word: Vec<&str> = parts[1].split('-').collect();
            let state = match word[0] {
                "run" | "up" => json!({"running": {}}),
                "wait" => json!({"waiting": {"reason": word[1]}}),
                _ => json!({"terminated": {"reason": word[1], "exitCode": word[2].parse::<i32>().unwrap()}}),
            };
            let mut status = json!({"name": parts[0], "ready": word[0] == "up", "started": word[0] == "up",
                "restartCount": restarts, "state": state});
            if restarts > 0 {
                status["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}});
            }
            status
        };
        text.split_whitespace().map(one).collect()
    };
    let (init, regular) = (parse(init), parse(regular));
    let spec = |statuses: &[Value]| -> Vec<Value> {
        let sidecar = |name: &str| name.starts_with("side").then_some("Always");
        statuses
            .iter()
            .map(|s| json!({"name": s["name"], "restartPolicy": sidecar(s["name"].as_str().unwrap())}))
            .collect()
    };
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"initContainers": spec(&init), "containers": spec(&regular)}, "status": status});
    pod["status"]["initContainerStatuses"] = init.into();
    pod["status"]["containerStatuses"] = regular.into();
    if deleted {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    let cells = row(resource("Pod"), &pod, "2026-01-01T01:00:00Z".parse().unwrap());
    let shown: Vec<&str> = cells[1..4].iter().map(|cell| cell.as_str().unwrap()).collect();
    expected.assert_eq(&shown.join(" "));
}

#[test]
fn the_row_says_how_far_a_pod_is() {
    let running = || json!({"phase": "Running"});
    let pending = || json!({"phase": "Pending"});
    check_row("", "", pending(), false, expect!["0/0 Pending 0"]);
    check_row("i:run j:wait-PodInitializing", "a:wait-PodInitializing", pending(), false, expect!["0/1 Init:0/2 0"]);
    check_row("i:end-Completed-0 j:run", "a:wait-PodInitializing", pending(), false, expect!["0/1 Init:1/2 0"]);
    check_row("i:end-Error-1:3", "a:wait-PodInitializing", pending(), false, expect!["0/1 Init:Error 3 (5m ago)"]);
    check_row("i:wait-CrashLoopBackOff", "a:wait-x", pending(), false, expect!["0/1 Init:CrashLoopBackOff 0"]);
    check_row("", "a:up b:wait-CrashLoopBackOff:7", running(), false, expect!["1/2 CrashLoopBackOff 7 (5m ago)"]);
    check_row("", "a:up b:up", running(), false, expect!["2/2 Running 0"]);
    check_row("side:up i:end-Completed-0", "a:up", running(), false, expect!["2/2 Running 0"]);
    check_row("", "a:end-Completed-0", json!({"phase": "Succeeded"}), false, expect!["0/1 Completed 0"]);
    check_row("", "a:end--137", json!({"phase": "Failed"}), false, expect!["0/1 ExitCode:137 0"]);
    check_row("", "a:end-Completed-0 b:up", running(), false, expect!["1/2 NotReady 0"]);
    check_row("", "a:up", running(), true, expect!["1/1 Terminating 0"]);
    check_row("", "a:end-Completed-0", json!({"phase": "Succeeded"}), true, expect!["0/1 Completed 0"]);
    check_row("", "a:up", json!({"phase": "Running", "reason": "NodeLost"}), true, expect!["1/1 Unknown 0"]);
    check_row("", "", json!({"phase": "Failed", "reason": "Evicted"}), false, expect!["0/0 Evicted 0"]);
    let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    check_row("", "", gated, false, expect!["0/0 SchedulingGated 0"]);
}

fn container() -> impl Strategy<Value = Value> {
    let probe = prop_oneof![
        Just(json!({"exec": {"command": ["x"]}})),
        Just(json!({"httpGet": {"port": 80}})),
        Just(json!({"tcpSocket": {"port": "web"}, "periodSeconds": 0})),
        Just(Value::Null),
    ];
    let resources = prop_oneof![
        Just(json!({"limits": {"cpu": "1500m", "memory": "0.5Gi"}})),
        Just(json!({"requests": {"cpu": "0.1"}})),
        Just(Value::Null),
    ];
    let image = prop_oneof![Just("a"), Just("a:latest"), Just("a:5000/b"), Just("a@sha256:1"), Just("a:1")];
    (image, probe.clone(), probe, resources, any::<bool>()).prop_map(|(image, live, ready, resources, port)| {
        let ports = if port { json!([{"containerPort": 80, "name": "web"}]) } else { Value::Null };
        json!({"name": "c", "image": image, "livenessProbe": live, "readinessProbe": ready, "resources": resources, "ports": ports})
    })
}

proptest! {
    #[test]
    fn defaults_of_any_pod_are_idempotent_and_valid(
        container in container(),
        host_network in any::<bool>(),
        volume in prop_oneof![Just(json!({"name": "v"})), Just(json!({"name": "v", "configMap": {"name": "x"}}))],
        policy in prop_oneof![Just(""), Just("Always"), Just("Never")],
    ) {
        let posted = pod(json!({"containers": [container], "hostNetwork": host_network, "volumes": [volume], "restartPolicy": policy}));
        let once = create(&posted).unwrap();
        prop_assert_eq!(&create(&once).unwrap(), &once);
        prop_assert_eq!(&change(&once, None, |_| {}).unwrap(), &once);
    }
}
