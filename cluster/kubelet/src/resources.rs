//! What a pod asks for: resources as the scheduler counts them, host ports, and its class of service.

use api::core::v1::{Container, Pod, ResourceRequirements};
use api::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};

/// Amounts by resource: thousandths for `cpu`, whole units for all others.
pub type Amounts = BTreeMap<String, i64>;

/// What a pod asks for: the most that its initial containers need at any time or its regular ones together, sidecars
/// counted with whatever runs beside them, and the overhead (KEP-753).
pub fn requests(pod: &Pod) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut initial = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut then = sidecars.clone();
        add(&mut then, &own);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = then.clone();
        }
        for (resource, amount) in then {
            let most = initial.entry(resource).or_default();
            *most = (*most).max(amount);
        }
    }
    add(&mut running, &sidecars);
    for (resource, amount) in initial {
        let most = running.entry(resource).or_default();
        *most = (*most).max(amount);
    }
    if let Some(asked) = spec.resources.as_ref().and_then(|it| it.requests.as_ref()) {
        for (resource, text) in asked {
            running.insert(resource.clone(), amount(resource, &text.0));
        }
    }
    for (resource, text) in spec.overhead.iter().flatten() {
        *running.entry(resource.clone()).or_default() += amount(resource, &text.0);
    }
    running
}

fn of(container: &Container) -> Amounts {
    let resources = container.resources.clone().unwrap_or_default();
    // Who states a limit alone asks for that much: the API server's defaulting, which a test may have skipped.
    let mut all: BTreeMap<_, _> = resources.limits.unwrap_or_default();
    all.extend(resources.requests.unwrap_or_default());
    all.iter().map(|(resource, text)| (resource.clone(), amount(resource, &text.0))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let already = sum.entry(resource.clone()).or_default();
        *already = already.saturating_add(*amount);
    }
}

/// An amount as [`Amounts`] has it. What is no quantity counts as nothing: the API server refuses such.
pub fn amount(resource: &str, text: &str) -> i64 {
    let Ok(quantity) = Quantity::parse(text) else { return 0 };
    if resource == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// Host ports that a pod takes: address (empty for all), protocol, port.
pub fn host_ports(pod: &Pod) -> BTreeSet<(String, String, i32)> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|ip| ip != "0.0.0.0").unwrap_or_default();
        Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
    });
    taken.collect()
}

/// Whether two host ports cannot be taken at once.
pub fn collide(a: &(String, String, i32), b: &(String, String, i32)) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0.is_empty() || b.0.is_empty() || a.0 == b.0)
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let counts = |resource: &str| resource == "cpu" || resource == "memory";
    let mut any = false;
    let mut guaranteed = true;
    let mut look = |resources: &ResourceRequirements| {
        let limits = resources.limits.clone().unwrap_or_default();
        let mut requests = resources.requests.clone().unwrap_or_default();
        for (resource, limit) in &limits {
            requests.entry(resource.clone()).or_insert_with(|| limit.clone());
        }
        for (resource, text) in requests.iter().filter(|(resource, _)| counts(resource)) {
            any |= amount("cpu", &text.0) > 0;
            let limit = limits.get(resource).map(|limit| amount("cpu", &limit.0));
            guaranteed &= limit == Some(amount("cpu", &text.0));
        }
        guaranteed &= limits.contains_key("cpu") && limits.contains_key("memory");
    };
    match spec.resources.as_ref().filter(|it| it.requests.is_some() || it.limits.is_some()) {
        Some(resources) => look(resources),
        None => {
            for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
                look(&container.resources.clone().unwrap_or_default());
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::QuantityText;
    use api::core::v1::PodSpec;

    /// Containers of words `[i.|s.]REQUEST/LIMIT` of cpu in whole cores, with the same of memory; `-` for none.
    fn pod(text: &str) -> Pod {
        let mut spec = PodSpec::default();
        for word in text.split_whitespace() {
            let (kind, word) = word.split_once('.').unwrap_or(("", word));
            let (request, limit) = word.split_once('/').unwrap();
            let amounts = |text: &str| {
                let both = ["cpu", "memory"].map(|it| (it.to_owned(), QuantityText(text.to_owned())));
                (text != "-").then(|| BTreeMap::from(both))
            };
            let resources =
                ResourceRequirements { requests: amounts(request), limits: amounts(limit), ..Default::default() };
            let restart_policy = (kind == "s").then(|| "Always".to_owned());
            let container = Container { resources: Some(resources), restart_policy, ..Container::default() };
            if kind.is_empty() {
                spec.containers.push(container);
            } else {
                spec.init_containers.get_or_insert_default().push(container);
            }
        }
        Pod { spec: Some(spec), ..Pod::default() }
    }

    #[test]
    fn requests_are_the_most_at_any_time() {
        let cores = |text| requests(&pod(text)).get("cpu").map_or(0, |milli| milli / 1000);
        assert_eq!(cores("1/- 2/-"), 3);
        assert_eq!(cores("i.5/- 1/- 2/-"), 5);
        // The sidecar runs beside the regular ones, and beside the initial one after it, but not the one before it.
        assert_eq!(cores("s.1/- 1/- 2/-"), 4);
        assert_eq!(cores("i.6/- s.1/- i.4/- 1/-"), 6);
        assert_eq!(cores("s.1/- i.6/- 1/-"), 7);
        assert_eq!(cores("-/3"), 3);
    }

    #[test]
    fn classes_of_service_follow_from_requests_and_limits() {
        let class = |text| qos_class(&pod(text));
        assert_eq!(class("-/- -/-"), "BestEffort");
        assert_eq!(class("1/1 2/2"), "Guaranteed");
        assert_eq!(class("-/1"), "Guaranteed");
        assert_eq!(class("1/1 -/-"), "Burstable");
        assert_eq!(class("1/2"), "Burstable");
    }
}
