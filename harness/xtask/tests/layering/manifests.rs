//! Who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A row of the architecture's table: a crate and the crates of this workspace that it may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub folder: &'static str,
    pub may_use: &'static [&'static str],
}

/// The table. A crate that is not in it may not exist; a row without a crate may not stay.
pub const LAYERS: &[Layer] = &[
    Layer { folder: "cluster/mark", may_use: &[] },
    Layer { folder: "cluster/rt", may_use: &["mark"] },
    Layer { folder: "cluster/raft", may_use: &["mark"] },
    Layer { folder: "cluster/store", may_use: &["mark", "rt", "raft"] },
    Layer { folder: "cluster/api", may_use: &["mark"] },
    Layer { folder: "cluster/client", may_use: &["mark", "rt", "api"] },
    Layer { folder: "cluster/apiserver", may_use: &["mark", "rt", "api", "store"] },
    Layer { folder: "cluster/controllers", may_use: &["mark", "rt", "api", "client"] },
    Layer { folder: "cluster/scheduler", may_use: &["mark", "rt", "api", "client"] },
    Layer { folder: "cluster/proxy", may_use: &["mark", "rt", "api", "client"] },
    Layer { folder: "cluster/kubelet", may_use: &["mark", "rt", "api", "client"] },
    Layer {
        folder: "cluster/seaworthy",
        may_use: &[
            "mark",
            "rt",
            "raft",
            "store",
            "api",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "proxy",
            "kubelet",
        ],
    },
    Layer { folder: "faults", may_use: &[] },
    Layer { folder: "harness/record", may_use: &["faults"] },
    Layer { folder: "harness/checkers", may_use: &["api", "mark", "faults", "record"] },
    Layer { folder: "workloads", may_use: &["rt", "api", "client", "store", "record"] },
    Layer {
        folder: "harness/sim",
        may_use: &[
            "mark",
            "rt",
            "raft",
            "store",
            "api",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "proxy",
            "kubelet",
            "seaworthy",
            "faults",
            "record",
            "workloads",
        ],
    },
    Layer { folder: "harness/real", may_use: &["rt", "api", "client", "faults", "record", "workloads"] },
    Layer { folder: "reports", may_use: &["faults", "record"] },
    Layer {
        folder: "harness/seatrial",
        may_use: &[
            "mark",
            "rt",
            "raft",
            "store",
            "seaworthy",
            "faults",
            "record",
            "checkers",
            "workloads",
            "sim",
            "real",
            "reports",
        ],
    },
    Layer { folder: "harness/operator", may_use: &["rt", "store", "api", "seaworthy", "record"] },
    Layer { folder: "workloads/replicated", may_use: &["api", "operator"] },
    Layer { folder: "harness/xtask", may_use: &[] },
];

/// External crates that only `rt` may name: they bring sockets, clocks, threads or randomness of their own, or an order
/// that changes from run to run.
const ONLY_RT: &[&str] = &[
    "ahash",
    "async-std",
    "fastrand",
    "getrandom",
    "hyper-util",
    "madsim",
    "madsim-tokio",
    "mio",
    "oorandom",
    "rand",
    "rand_chacha",
    "rand_core",
    "rand_pcg",
    "rand_xoshiro",
    "rcgen",
    "ring",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "tokio-rustls",
    "tokio-util",
    "turmoil",
    "uuid",
];

impl Layer {
    fn name(&self) -> &'static str {
        self.folder.rsplit('/').next().unwrap_or(self.folder)
    }
}

/// A crate as its manifest describes it.
#[derive(Clone, Debug, Default)]
pub struct Crate {
    pub name: String,
    pub folder: String,
    /// What it is built from: dependencies and build dependencies, for every target.
    pub built_from: BTreeSet<String>,
    /// What its tests use besides.
    pub tested_with: BTreeSet<String>,
}

/// What is wrong, one sentence each.
pub fn violations(layers: &[Layer], crates: &[Crate]) -> Vec<String> {
    let mut wrong = cycle(layers);
    for layer in layers {
        if !crates.iter().any(|it| it.folder == layer.folder) {
            wrong.push(format!("{} is in the table but not in the workspace", layer.folder));
        }
    }
    for it in crates {
        match layers.iter().find(|layer| layer.folder == it.folder) {
            None => wrong.push(format!("{} is in the workspace but not in the table", it.folder)),
            Some(layer) => wrong.extend(violations_of(it, layer, layers)),
        }
    }
    wrong
}

fn violations_of(it: &Crate, layer: &Layer, layers: &[Layer]) -> Vec<String> {
    let mut wrong = Vec::new();
    let in_cluster = it.folder.starts_with("cluster/");
    let of_workspace = |name: &str| layers.iter().find(|layer| layer.name() == name);
    if it.name != layer.name() {
        wrong.push(format!("{}: the crate is called {}, unlike its folder", it.folder, it.name));
    }
    for used in &it.built_from {
        if of_workspace(used).is_some() && !layer.may_use.contains(&used.as_str()) {
            wrong.push(format!("{} may not depend on {used}", it.name));
        }
        if in_cluster && it.name != "rt" && ONLY_RT.contains(&used.as_str()) {
            wrong.push(format!("{} may not depend on {used}: only rt may", it.name));
        }
    }
    for used in &it.tested_with {
        if in_cluster && of_workspace(used).is_some_and(|layer| !layer.folder.starts_with("cluster/")) {
            wrong.push(format!("the tests of {} may not depend on {used}: it is not under cluster/", it.name));
        }
    }
    wrong
}

/// The table must have an order in which every crate comes after all that it may use.
fn cycle(layers: &[Layer]) -> Vec<String> {
    let mut left: BTreeMap<&str, &[&str]> = layers.iter().map(|layer| (layer.name(), layer.may_use)).collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, uses)| uses.iter().all(|used| !left.contains_key(used)))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    if left.is_empty() {
        return Vec::new();
    }
    vec![format!("the table has a cycle among {}", left.keys().copied().collect::<Vec<_>>().join(", "))]
}

/// The workspace's crates, from its manifests.
pub fn read_workspace(root: &Path) -> Vec<Crate> {
    let manifest = read(&root.join("Cargo.toml"));
    let members = manifest["workspace"]["members"].as_array().expect("members are a list");
    members.iter().map(|member| read_crate(root, member.as_str().expect("a member is a path"))).collect()
}

fn read_crate(root: &Path, folder: &str) -> Crate {
    let manifest = read(&root.join(folder).join("Cargo.toml"));
    let mut it = Crate {
        name: manifest["package"]["name"].as_str().expect("a crate has a name").to_owned(),
        folder: folder.to_owned(),
        ..Crate::default()
    };
    collect(&manifest, &mut it);
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        targets.values().for_each(|target| collect(target, &mut it));
    }
    it
}

fn collect(section: &toml::Value, into: &mut Crate) {
    let names =
        |key: &str| section.get(key).and_then(toml::Value::as_table).into_iter().flat_map(|deps| deps.keys().cloned());
    into.built_from.extend(names("dependencies").chain(names("build-dependencies")));
    into.tested_with.extend(names("dev-dependencies"));
}

fn read(path: &Path) -> toml::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const SMALL: &[Layer] = &[
    Layer { folder: "cluster/rt", may_use: &[] },
    Layer { folder: "cluster/store", may_use: &["rt"] },
    Layer { folder: "harness/sim", may_use: &["rt", "store"] },
];

fn small(change: impl FnOnce(&mut Vec<Crate>)) -> Vec<String> {
    let mut crates: Vec<Crate> = SMALL
        .iter()
        .map(|layer| Crate {
            name: layer.name().to_owned(),
            folder: layer.folder.to_owned(),
            built_from: layer.may_use.iter().map(|used| (*used).to_owned()).collect(),
            ..Crate::default()
        })
        .collect();
    change(&mut crates);
    violations(SMALL, &crates)
}

#[test]
fn a_workspace_that_follows_its_table_is_in_order() {
    assert_eq!(small(|_| ()), Vec::<String>::new());
}

#[test]
fn a_dependency_that_the_table_lacks_is_noticed() {
    let wrong = small(|crates| {
        crates[0].built_from.insert("store".into());
    });
    assert_eq!(wrong, ["rt may not depend on store"]);
}

#[test]
fn a_crate_that_the_table_lacks_is_noticed() {
    let stray = Crate { name: "stray".into(), folder: "cluster/stray".into(), ..Crate::default() };
    assert_eq!(small(|crates| crates.push(stray)), ["cluster/stray is in the workspace but not in the table"]);
}

#[test]
fn a_row_without_a_crate_is_noticed() {
    assert_eq!(small(|crates| crates.truncate(2)), ["harness/sim is in the table but not in the workspace"]);
}

#[test]
fn a_crate_named_unlike_its_folder_is_noticed() {
    let wrong = small(|crates| crates[1].name = "depot".into());
    assert_eq!(wrong, ["cluster/store: the crate is called depot, unlike its folder"]);
}

#[test]
fn randomness_outside_rt_is_noticed_and_in_rt_is_not() {
    let wrong = small(|crates| {
        crates[0].built_from.insert("rand".into());
    });
    assert_eq!(wrong, Vec::<String>::new());
    let wrong = small(|crates| {
        crates[1].built_from.insert("rand".into());
    });
    assert_eq!(wrong, ["store may not depend on rand: only rt may"]);
}

#[test]
fn a_test_of_the_cluster_that_needs_the_harness_is_noticed() {
    let wrong = small(|crates| {
        crates[1].tested_with.insert("sim".into());
    });
    assert_eq!(wrong, ["the tests of store may not depend on sim: it is not under cluster/"]);
}

#[test]
fn a_cycle_in_the_table_is_noticed() {
    let round = [
        Layer { folder: "cluster/rt", may_use: &["store"] },
        Layer { folder: "cluster/store", may_use: &["rt"] },
        Layer { folder: "faults", may_use: &[] },
    ];
    assert_eq!(cycle(&round), ["the table has a cycle among rt, store"]);
}
