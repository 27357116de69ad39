"""The official Python client on a cluster: what its users do. Prints a line for each part; an assertion says what failed.

The cluster is that of $KUBECONFIG. It is left as it was found.
"""

import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python"
# What takes longer has failed; controllers need less than a second for anything, probes a few.
PATIENCE_S = 60


def main():
    config.load_kube_config()
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    try:
        for part in (versions, config_maps, conflicts, patches, deployments, pods, watches, informer, generated_names,
                     services, reviews, evictions, pages, generic, manifests, failures):
            part(core, apps)
            print(part.__name__, "ok", flush=True)
    finally:
        core.delete_namespace(NAMESPACE)
    until(lambda: NAMESPACE not in [it.metadata.name for it in core.list_namespace().items])
    print("all ok")


def until(holds):
    """What `holds` gives once that is true."""
    began = time.monotonic()
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() - began < PATIENCE_S, holds
        time.sleep(0.05)


def refused(code, request):
    """The exception of a request that must be answered with this code."""
    try:
        request()
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"it is not refused with {code}")


def deployment(name, replicas, image="nginx:1"):
    container = client.V1Container(name="c", image=image, ports=[client.V1ContainerPort(container_port=80)],
                                   resources=client.V1ResourceRequirements(requests={"cpu": "10m", "memory": "8Mi"}))
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"app": name}),
                                        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1))
    spec = client.V1DeploymentSpec(replicas=replicas, template=template,
                                   selector=client.V1LabelSelector(match_labels={"app": name}))
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"of": "test"}), data=data)


def versions(core, apps):
    version = client.VersionApi().get_code()
    assert (version.major, version.minor) == ("1", "35"), version
    groups = [group.name for group in client.ApisApi().get_api_versions().groups]
    assert "apps" in groups and "authorization.k8s.io" in groups, groups
    assert any(resource.name == "pods" for resource in core.get_api_resources().resources)


def config_maps(core, apps):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("a", color="blue"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    made.data["color"] = "red"
    core.replace_namespaced_config_map("a", NAMESPACE, made)
    assert core.read_namespaced_config_map("a", NAMESPACE).data == {"color": "red"}
    listed = core.list_namespaced_config_map(NAMESPACE, label_selector="of=test", field_selector="metadata.name=a")
    assert [it.metadata.name for it in listed.items] == ["a"] and listed.metadata.resource_version
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"key": "value"})
    assert core.create_namespaced_secret(NAMESPACE, secret).data == {"key": "dmFsdWU="}
    core.delete_namespaced_config_map("a", NAMESPACE)
    refused(404, lambda: core.read_namespaced_config_map("a", NAMESPACE))


def conflicts(core, apps):
    first = core.create_namespaced_config_map(NAMESPACE, config_map("fought-over", by="nobody"))
    second = core.read_namespaced_config_map("fought-over", NAMESPACE)
    first.data, second.data = {"by": "first"}, {"by": "second"}
    core.replace_namespaced_config_map("fought-over", NAMESPACE, first)
    error = refused(409, lambda: core.replace_namespaced_config_map("fought-over", NAMESPACE, second))
    assert "the object has been modified" in error.body, error.body
    # As everybody does then: read again, and try again.
    again = core.read_namespaced_config_map("fought-over", NAMESPACE)
    again.data = {"by": "second"}
    core.replace_namespaced_config_map("fought-over", NAMESPACE, again)
    refused(409, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("fought-over")))
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    refused(409, lambda: core.delete_namespaced_config_map("fought-over", NAMESPACE, body=wrong))


def patches(core, apps):
    core.create_namespaced_config_map(NAMESPACE, config_map("patched", a="1", b="2"))
    # The client chooses the form of a patch by its body: a list is JSON Patch, an object a strategic merge.
    merged = core.patch_namespaced_config_map("patched", NAMESPACE, {"data": {"a": None, "c": "3"}})
    assert merged.data == {"b": "2", "c": "3"}, merged.data
    listed = core.patch_namespaced_config_map("patched", NAMESPACE, [{"op": "replace", "path": "/data/b", "value": "4"}])
    assert listed.data == {"b": "4", "c": "3"}, listed.data
    dry = core.patch_namespaced_config_map("patched", NAMESPACE, {"data": {"b": "5"}}, dry_run="All")
    assert dry.data["b"] == "5" and core.read_namespaced_config_map("patched", NAMESPACE).data["b"] == "4"


def deployments(core, apps):
    apps.create_namespaced_deployment(NAMESPACE, deployment("web", 2))

    def ready(replicas, image="nginx:1"):
        it = apps.read_namespaced_deployment_status("web", NAMESPACE)
        status = it.status
        seen = status.observed_generation == it.metadata.generation
        counts = (status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas)
        return seen and counts == (replicas,) * 4 and it.spec.template.spec.containers[0].image == image

    until(lambda: ready(2))
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 4}})
    until(lambda: ready(4))
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert (scale.spec.replicas, scale.status.replicas, scale.status.selector) == (4, 4, "app=web"), scale
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
    apps.patch_namespaced_deployment("web", NAMESPACE, image)
    until(lambda: ready(4, "nginx:2"))
    conditions = {it.type: it.status for it in apps.read_namespaced_deployment("web", NAMESPACE).status.conditions}
    assert conditions == {"Available": "True", "Progressing": "True"}, conditions
    sets = apps.list_namespaced_replica_set(NAMESPACE, label_selector="app=web").items
    assert sorted(it.spec.replicas for it in sets) == [0, 4]
    assert all(it.metadata.owner_references[0].kind == "Deployment" for it in sets)


def pods(core, apps):
    # Until those of before the update have ended.
    all_pods = until(lambda: four(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items))
    pod = core.read_namespaced_pod_status(all_pods[0].metadata.name, NAMESPACE)
    assert pod.status.phase == "Running" and pod.status.pod_ip and pod.spec.node_name
    assert {it.type: it.status for it in pod.status.conditions}["Ready"] == "True"
    container = pod.status.container_statuses[0]
    assert container.ready and container.state.running.started_at and container.restart_count == 0
    nodes = core.list_node().items
    assert pod.spec.node_name in [it.metadata.name for it in nodes]
    core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    until(lambda: pod.metadata.uid not in [it.metadata.uid for it in four(core.list_namespaced_pod(NAMESPACE).items)]
          and four(core.list_namespaced_pod(NAMESPACE).items))
    events = core.list_namespaced_event(NAMESPACE, field_selector=f"involvedObject.name={pod.metadata.name}").items
    assert "Scheduled" in [it.reason for it in events], events


def four(items):
    return items if len(items) == 4 else []


def watches(core, apps):
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("watched", n="1"))
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"n": "2"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    seen, stream = [], watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=30):
        seen.append((event["type"], event["object"].data["n"]))
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")], seen
    # A watch ends by itself when it is told to.
    began = time.monotonic()
    assert list(watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, label_selector="of=nothing",
                                     timeout_seconds=1)) == []
    assert time.monotonic() - began < 10


def informer(core, apps):
    """A list and a watch from it on, in a thread, as controllers have it: in the end its cache is what there is."""
    cache, stopped = {}, threading.Event()
    listed = core.list_namespaced_config_map(NAMESPACE)
    cache.update((it.metadata.name, it.data) for it in listed.items)

    def follow():
        # Each watch ends soon, so that some begin in the middle of it all.
        stream = watch.Watch()
        start = listed.metadata.resource_version
        while not stopped.is_set():
            for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start,
                                       allow_watch_bookmarks=True, timeout_seconds=1):
                if event["type"] == "DELETED":
                    cache.pop(event["object"].metadata.name, None)
                elif event["type"] in ("ADDED", "MODIFIED"):
                    cache[event["object"].metadata.name] = event["object"].data
            start = stream.resource_version

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for number in range(30):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"many-{number}", n="0"))
    for number in range(0, 30, 2):
        core.patch_namespaced_config_map(f"many-{number}", NAMESPACE, {"data": {"n": "1"}})
        core.delete_namespaced_config_map(f"many-{number + 1}", NAMESPACE)
    until(lambda: cache == {it.metadata.name: it.data for it in core.list_namespaced_config_map(NAMESPACE).items})
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=test")
    until(lambda: not any(name.startswith("many-") for name in cache))
    stopped.set()
    thread.join()


def generated_names(core, apps):
    new = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="made-"))
    made = [core.create_namespaced_config_map(NAMESPACE, new).metadata.name for _ in range(3)]
    assert len(set(made)) == 3 and all(name.startswith("made-") and len(name) == 10 for name in made), made


def services(core, apps):
    spec = client.V1ServiceSpec(selector={"app": "web"}, ports=[client.V1ServicePort(port=80, target_port=80)])
    made = core.create_namespaced_service(NAMESPACE, client.V1Service(metadata=client.V1ObjectMeta(name="web"), spec=spec))
    assert made.spec.cluster_ip and made.spec.type == "ClusterIP"
    slices = client.DiscoveryV1Api()

    def endpoints():
        found = slices.list_namespaced_endpoint_slice(NAMESPACE, label_selector="kubernetes.io/service-name=web").items
        ready = [it for one in found for it in one.endpoints if it.conditions.ready]
        return len(ready) == 4

    until(endpoints)
    core.delete_namespaced_service("web", NAMESPACE)


def reviews(core, apps):
    user = client.AuthenticationV1Api().create_self_subject_review(client.V1SelfSubjectReview()).status.user_info
    assert user.username == "admin" and "system:masters" in user.groups, user
    attributes = client.V1ResourceAttributes(verb="create", resource="pods", namespace=NAMESPACE)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed


def evictions(core, apps):
    budget = client.V1PodDisruptionBudget(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1PodDisruptionBudgetSpec(min_available=4, selector=client.V1LabelSelector(match_labels={"app": "web"})))
    policy = client.PolicyV1Api()
    policy.create_namespaced_pod_disruption_budget(NAMESPACE, budget)

    def counted():
        status = policy.read_namespaced_pod_disruption_budget("web", NAMESPACE).status
        return status is not None and status.current_healthy == 4

    until(counted)
    name = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items[0].metadata.name
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=NAMESPACE))
    refused(429, lambda: core.create_namespaced_pod_eviction(name, NAMESPACE, eviction))
    policy.delete_namespaced_pod_disruption_budget("web", NAMESPACE)
    core.create_namespaced_pod_eviction(name, NAMESPACE, eviction)


def pages(core, apps):
    for number in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}"))
    found, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="of=test", limit=3, _continue=token)
        found += [it.metadata.name for it in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert found == [f"page-{number}" for number in range(7)], found


def generic(core, apps):
    """The dynamic client finds kinds by discovery."""
    cluster = dynamic.DynamicClient(client.ApiClient())
    maps = cluster.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "generic"}, "data": {"a": "b"}}
    assert maps.create(namespace=NAMESPACE, body=body).data.a == "b"
    patch = {"data": {"a": "c"}}
    maps.patch(namespace=NAMESPACE, name="generic", body=patch, content_type="application/merge-patch+json")
    assert maps.get(namespace=NAMESPACE, name="generic").data.a == "c"
    kinds = cluster.resources.search(group="apps", kind="Deployment")
    assert kinds and kinds[0].namespaced
    maps.delete(namespace=NAMESPACE, name="generic")


def manifests(core, apps):
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-yaml"}, "data": {"a": "b"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "from-yaml"},
         "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "y"}},
                  "template": {"metadata": {"labels": {"app": "y"}},
                               "spec": {"containers": [{"name": "c", "image": "nginx"}]}}}},
    ]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=objects, namespace=NAMESPACE)
    until(lambda: apps.read_namespaced_deployment("from-yaml", NAMESPACE).status.ready_replicas == 1)
    foreground = client.V1DeleteOptions(propagation_policy="Foreground")
    apps.delete_namespaced_deployment("from-yaml", NAMESPACE, body=foreground)
    until(lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=y").items)


def failures(core, apps):
    wrong = deployment("wrong", 1)
    wrong.spec.selector.match_labels = {"app": "another"}
    error = refused(422, lambda: apps.create_namespaced_deployment(NAMESPACE, wrong))
    assert "selector" in error.body, error.body
    refused(404, lambda: core.create_namespaced_config_map("nowhere", config_map("a")))
    refused(400, lambda: core.list_namespaced_pod(NAMESPACE, label_selector="a in b"))
    nobody = client.Configuration.get_default_copy()
    # Otherwise the client takes the token of the kubeconfig again.
    nobody.refresh_api_key_hook = None
    nobody.api_key = {key: "Bearer wrong" for key in nobody.api_key}
    refused(401, client.CoreV1Api(client.ApiClient(nobody)).list_node)


if __name__ == "__main__":
    main()
