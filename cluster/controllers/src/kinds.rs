//! Every kind that is served, as a list of types: for the controllers that work on whatever has metadata.
//!
//! **Invariant:** the list is the table of resources, in its order; the test below keeps it.

/// Calls `$call! { types; args }` with the type of every row of the table of resources.
macro_rules! with_every_kind {
    ($call:ident $(, $args:tt)*) => {
        $call! {
            [
                ::api::core::v1::ConfigMap,
                ::api::core::v1::Endpoints,
                ::api::core::v1::Event,
                ::api::core::v1::Namespace,
                ::api::core::v1::Node,
                ::api::core::v1::Pod,
                ::api::core::v1::ReplicationController,
                ::api::core::v1::Secret,
                ::api::core::v1::ServiceAccount,
                ::api::core::v1::Service,
                ::api::apps::v1::Deployment,
                ::api::apps::v1::ReplicaSet,
                ::api::coordination::v1::Lease,
                ::api::discovery::v1::EndpointSlice,
                ::api::networking::v1::IPAddress,
                ::api::policy::v1::PodDisruptionBudget,
                ::api::scheduling::v1::PriorityClass
            ]
            $(, $args)*
        }
    };
}
pub(crate) use with_every_kind;

#[cfg(test)]
mod tests {
    use api::ObjectExt;
    use api::resource::{RESOURCES, Resource};

    macro_rules! resources {
        ([$($kind:ty),*]) => { vec![$(<$kind>::resource()),*] };
    }

    #[test]
    fn every_row_of_the_table_of_resources_is_listed_once() {
        let listed: Vec<&'static Resource> = with_every_kind!(resources);
        let served: Vec<&'static Resource> = RESOURCES.iter().collect();
        assert_eq!(listed, served);
    }
}
