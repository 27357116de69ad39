"""Cuts the table of all Kubernetes types down to those that are served. One argument: the folder with types.tsv.

Run it after a row was added to src/resource.rs:  python3 cluster/api/facts/cut.py FOLDER > cluster/api/facts/types.tsv
"""
import pathlib
import re
import sys

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# What is served beside the resources: bodies, answers, discovery.
ROOTS = [META + name for name in (
    "APIGroup APIGroupList APIResourceList APIVersions CreateOptions DeleteOptions GetOptions List ListOptions Patch "
    "PatchOptions PartialObjectMetadata PartialObjectMetadataList Status Table UpdateOptions WatchEvent LabelSelector "
    "MicroTime Time FieldsV1 Duration").split()]
ROOTS += ["io.k8s.apimachinery.pkg." + name for name in (
    "api.resource.Quantity", "util.intstr.IntOrString", "runtime.RawExtension", "version.Info")]
ROOTS += ["io.k8s.api." + name for name in (
    "apidiscovery.v2.APIGroupDiscoveryList", "autoscaling.v1.Scale", "core.v1.Binding", "policy.v1.Eviction")]
COLUMNS = ("type field kind req listType listMapKeys structType patchStrategy patchMergeKey default enum emit pnum "
           "wire").split()


def main(folder):
    here = pathlib.Path(__file__).resolve().parent
    rows = [line.split("\t") for line in (pathlib.Path(folder) / "types.tsv").read_text().splitlines()]
    rows = [dict(zip(rows[0], row)) for row in rows[1:]]
    by_type = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row)
    served = re.findall(r'type_name: "([^"]+)"', (here.parent / "src" / "resource.rs").read_text())
    # Questions have no lists.
    todo = ROOTS + served + [name + "List" for name in served if name + "List" in by_type]
    seen = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for row in by_type[name]:
            todo += re.findall(r"object:(\S+)", row["kind"])
    print("\t".join(COLUMNS))
    for name in sorted(seen):
        for row in by_type[name]:
            # `@` is carried by the envelope alone, `!wrap` is a list in a message of its own.
            row["wire"] = row["pname"] if row["pname"] in ("@", "!wrap") else "-"
            print("\t".join(row[column] for column in COLUMNS))


main(sys.argv[1])
