//! Amounts of resources: what a node can give and what a pod asks for.
//!
//! Sums are held in 128 bits. A single amount fits 64, so that adding and taking away the same pod always comes back to
//! where it was, whatever a user wrote.

use api::QuantityText;
use api::core::v1::{Container, PodSpec};
use api::quantity::Quantity;
use std::collections::BTreeMap;

/// CPU that a container counts for in scores if it asks for none, in thousandths: upstream's `DefaultMilliCPURequest`.
pub const DEFAULT_CPU_MILLI: i128 = 100;
/// Memory that a container counts for in scores if it asks for none: upstream's `DefaultMemoryRequest`.
pub const DEFAULT_MEMORY: i128 = 200 * 1024 * 1024;

/// Amounts of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: i128,
    /// Bytes of memory.
    pub memory: i128,
    /// Bytes of ephemeral storage.
    pub ephemeral: i128,
    /// Extended resources, huge pages and the like, by name.
    pub scalars: BTreeMap<String, i128>,
}

/// CPU in thousandths and bytes of memory, with defaults where a container asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nonzero {
    /// Thousandths of a CPU.
    pub cpu_milli: i128,
    /// Bytes.
    pub memory: i128,
}

/// A list of resources as objects have it.
pub type List = BTreeMap<String, QuantityText>;

impl Amounts {
    /// Reads a list. What is no quantity counts as nothing: the API server does not let it in.
    pub fn of(list: Option<&List>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let quantity = Quantity::parse(&text.0).unwrap_or_default();
            match name.as_str() {
                "cpu" => amounts.cpu_milli = quantity.milli_value().into(),
                "memory" => amounts.memory = quantity.value().into(),
                "ephemeral-storage" => amounts.ephemeral = quantity.value().into(),
                name if is_scalar(name) => {
                    amounts.scalars.insert(name.to_owned(), quantity.value().into());
                }
                // Pods are counted apart; what else there is concerns no scheduler.
                _ => {}
            }
        }
        amounts
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine += theirs);
    }

    /// Takes `other` away.
    pub fn sub(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine -= theirs);
        self.scalars.retain(|_, amount| *amount != 0);
    }

    /// The larger of both, for each resource.
    pub fn max(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine = (*mine).max(theirs));
    }

    /// Whether nothing is asked for.
    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalars.values().all(|it| *it == 0)
    }

    fn each(&mut self, other: &Self, apply: impl Fn(&mut i128, i128)) {
        apply(&mut self.cpu_milli, other.cpu_milli);
        apply(&mut self.memory, other.memory);
        apply(&mut self.ephemeral, other.ephemeral);
        for (name, amount) in &other.scalars {
            match self.scalars.get_mut(name) {
                Some(mine) => apply(mine, *amount),
                None => {
                    let mut mine = 0;
                    apply(&mut mine, *amount);
                    self.scalars.insert(name.clone(), mine);
                }
            }
        }
    }
}

/// Whether a resource is counted in whole numbers by its name: extended resources, huge pages, attachable volumes.
fn is_scalar(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-") || name.starts_with("attachable-volumes-")
}

/// What a pod asks for: upstream's `PodRequests`.
///
/// The larger of what its containers ask for together and what any of its init containers needs when it runs, to which
/// sidecars started before it add; requests of the pod as a whole take their place; overhead comes on top.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    requests(spec, |container| Amounts::of(asked(container)))
}

/// The same for scores, where a container that asks for nothing counts for something.
pub fn pod_nonzero(spec: &PodSpec) -> Nonzero {
    let amounts = requests(spec, |container| {
        let list = asked(container);
        let mut amounts = Amounts::of(list);
        let missing = |name: &str| list.is_none_or(|list| !list.contains_key(name));
        if missing("cpu") {
            amounts.cpu_milli = DEFAULT_CPU_MILLI;
        }
        if missing("memory") {
            amounts.memory = DEFAULT_MEMORY;
        }
        amounts
    });
    Nonzero { cpu_milli: amounts.cpu_milli, memory: amounts.memory }
}

/// Whether an init container goes on running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn asked(container: &Container) -> Option<&List> {
    container.resources.as_ref().and_then(|resources| resources.requests.as_ref())
}

fn requests(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut sum = Amounts::default();
    for container in &spec.containers {
        sum.add(&of(container));
    }
    let (mut sidecars, mut initial) = (Amounts::default(), Amounts::default());
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        if is_sidecar(container) {
            sum.add(&needed);
            sidecars.add(&needed);
            initial.max(&sidecars);
        } else {
            needed.add(&sidecars);
            initial.max(&needed);
        }
    }
    sum.max(&initial);
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    override_by(&mut sum, whole);
    sum.add(&Amounts::of(spec.overhead.as_ref()));
    sum
}

/// Requests of the pod as a whole stand for those of its containers: CPU, memory and huge pages can have them.
fn override_by(sum: &mut Amounts, whole: Option<&List>) {
    let Some(list) = whole else { return };
    let amounts = Amounts::of(whole);
    if list.contains_key("cpu") {
        sum.cpu_milli = amounts.cpu_milli;
    }
    if list.contains_key("memory") {
        sum.memory = amounts.memory;
    }
    for (name, amount) in amounts.scalars.into_iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        sum.scalars.insert(name, amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::ResourceRequirements;
    use expect_test::{Expect, expect};

    fn resources(text: &str) -> Option<ResourceRequirements> {
        let pairs = text.split(',').filter_map(|it| it.split_once('='));
        let requests = pairs.map(|(name, value)| (name.to_owned(), QuantityText(value.to_owned()))).collect();
        Some(ResourceRequirements { requests: Some(requests), ..Default::default() })
    }

    /// `cpu=1,memory=1Mi` is a container, with `i:` before it an init container, with `s:` a sidecar, with `p:` the pod
    /// as a whole, with `o:` overhead.
    fn check(pod: &str, expected: Expect) {
        let mut spec = PodSpec { init_containers: Some(vec![]), ..PodSpec::default() };
        for part in pod.split_whitespace() {
            let (kind, text) = part.split_once(':').unwrap_or(("c", part));
            let mut container = Container { resources: resources(text), ..Container::default() };
            match kind {
                "c" => spec.containers.push(container),
                "p" => spec.resources = container.resources,
                "o" => spec.overhead = resources(text).and_then(|it| it.requests),
                kind => {
                    container.restart_policy = (kind == "s").then(|| "Always".to_owned());
                    spec.init_containers.get_or_insert_default().push(container);
                }
            }
        }
        let (asked, scored) = (pod_requests(&spec), pod_nonzero(&spec));
        let scalars: String = asked.scalars.iter().map(|(name, amount)| format!(" {name}={amount}")).collect();
        let text =
            format!("{}m {}B{scalars} scored {}m {}B", asked.cpu_milli, asked.memory, scored.cpu_milli, scored.memory);
        expected.assert_eq(&text);
    }

    #[test]
    fn containers_add_up_and_the_largest_init_container_counts() {
        check("cpu=1,memory=10 cpu=500m", expect!["1500m 10B scored 1500m 209715210B"]);
        check("cpu=1,memory=10 i:cpu=3,memory=1 i:cpu=2,memory=2", expect!["3000m 10B scored 3000m 10B"]);
        check("a.b/gpu=2 i:a.b/gpu=3", expect!["0m 0B a.b/gpu=3 scored 100m 209715200B"]);
    }

    #[test]
    fn sidecars_add_to_all_that_starts_after_them() {
        check("cpu=1,memory=1 s:cpu=1,memory=1 i:cpu=2,memory=0", expect!["3000m 2B scored 3000m 2B"]);
        check("cpu=1,memory=1 i:cpu=2,memory=0 s:cpu=1,memory=1", expect!["2000m 2B scored 2000m 2B"]);
    }

    #[test]
    fn the_pod_as_a_whole_overrides_and_overhead_comes_on_top() {
        check("cpu=1,memory=1 p:cpu=4 o:cpu=100m,memory=1", expect!["4100m 2B scored 4100m 2B"]);
    }

    #[test]
    fn nothing_asked_scores_as_something_but_an_explicit_zero_does_not() {
        check("cpu=0,memory=0", expect!["0m 0B scored 0m 0B"]);
        check("x=1", expect!["0m 0B scored 100m 209715200B"]);
    }

    #[test]
    fn absurd_amounts_come_back_to_where_they_were() {
        let huge = Amounts { cpu_milli: i64::MAX.into(), memory: i64::MAX.into(), ..Amounts::default() };
        let mut sum = Amounts { cpu_milli: 7, ..Amounts::default() };
        sum.add(&huge);
        sum.add(&huge);
        sum.sub(&huge);
        sum.sub(&huge);
        assert_eq!(sum, Amounts { cpu_milli: 7, ..Amounts::default() });
    }
}
