//! The ServiceAccount `default` in every active namespace. Upstream's `serviceaccounts_controller`.

use api::core::v1::{Namespace, ServiceAccount};
use api::{ObjectExt, ObjectMeta};
use client::{Caches, Key, Now, Plan, Row, Watch, Write};

/// Name of the account that every namespace has.
const DEFAULT: &str = "default";

/// The controller: its keys are namespaces.
pub fn row() -> Row {
    Row { name: "serviceaccount-controller", watches, reconcile }
}

fn watches() -> Vec<Watch> {
    let namespace = |_: &Caches, account: &ServiceAccount| match account.name() {
        DEFAULT => vec![Key::new("", account.namespace())],
        _ => Vec::new(),
    };
    vec![Watch::own::<Namespace>(), Watch::map::<ServiceAccount>(namespace)]
}

fn reconcile(caches: &Caches, key: &Key, _now: Now) -> Plan {
    let Some(namespace) = caches.get::<Namespace>("", &key.name) else { return Plan::nothing() };
    plan(namespace, caches.get::<ServiceAccount>(&key.name, DEFAULT).map(|account| &**account))
}

/// What a namespace needs: nothing while it is being deleted.
pub fn plan(namespace: &Namespace, account: Option<&ServiceAccount>) -> Plan {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Active");
    if account.is_some() || namespace.is_terminating() || phase != "Active" {
        return Plan::nothing();
    }
    let metadata = ObjectMeta {
        name: Some(DEFAULT.to_owned()),
        namespace: Some(namespace.name().to_owned()),
        ..ObjectMeta::default()
    };
    Plan::write(Write::create(&ServiceAccount { metadata, ..ServiceAccount::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::v1::NamespaceStatus;

    fn namespace(phase: &str) -> Namespace {
        Namespace {
            metadata: ObjectMeta { name: Some("blue".to_owned()), ..ObjectMeta::default() },
            status: Some(NamespaceStatus { phase: Some(phase.to_owned()), ..NamespaceStatus::default() }),
            ..Namespace::default()
        }
    }

    #[test]
    fn an_active_namespace_gets_its_account_once() {
        let plan = plan(&namespace("Active"), None);
        assert_eq!(plan.writes[0].to_string(), "create serviceaccounts blue/default");
        assert!(super::plan(&namespace("Active"), Some(&ServiceAccount::default())).is_empty());
    }

    #[test]
    fn a_namespace_that_ends_gets_nothing() {
        assert!(plan(&namespace("Terminating"), None).is_empty());
    }
}
