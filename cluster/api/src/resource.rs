//! The table of resources that are served: those that are stored, and questions. A new kind is a row here; see also `kinds`
//! for what is particular to it.

use k8s_openapi::Metadata;

/// One resource: a kind and how it is served.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version that is served and stored.
    pub version: &'static str,
    /// Kind of its objects.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Name for people.
    pub singular: &'static str,
    /// Abbreviations that kubectl takes.
    pub short_names: &'static [&'static str],
    /// Names of sets of resources that it belongs to, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What lies below an object.
    pub subresources: &'static [Subresource],
    /// Its type in the facts of `schema`.
    pub type_name: &'static str,
}

/// What can lie below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// `status`: get, patch, update.
    Status,
    /// `scale`, an `autoscaling/v1` Scale: get, patch, update.
    Scale,
    /// `binding` of a Pod: create.
    Binding,
    /// `eviction` of a Pod, a `policy/v1` Eviction: create.
    Eviction,
    /// `finalize` of a Namespace: update.
    Finalize,
}

impl Subresource {
    /// Its name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::Finalize => "finalize",
        }
    }
}

impl Resource {
    /// `group/version`, or `version` alone for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, or `plural` alone for the core group: how upstream names it in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Path of the collection, or of an object in it, without a trailing slash. `namespace` is ignored for what is
    /// cluster-scoped, and empty for the collection of all namespaces.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(self.plural);
        if !name.is_empty() {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// The row of a type. Panics for a type that the table lacks: a mistake of the caller's code.
pub fn of<T: Metadata>() -> &'static Resource {
    find(T::GROUP, T::KIND).unwrap_or_else(|| panic!("{}/{} is not in the table of resources", T::GROUP, T::KIND))
}

/// The row of a kind.
pub fn find(group: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.kind == kind && resource.group == group)
}

/// The row of a resource by its name in paths.
pub fn find_plural(group: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.plural == plural && resource.group == group)
}

/// The row of a question by its name in paths.
pub fn find_review(group: &str, plural: &str) -> Option<&'static Resource> {
    REVIEWS.iter().find(|review| review.plural == plural && review.group == group)
}

/// Whether a resource is a question: one of [`REVIEWS`].
pub fn is_review(resource: &Resource) -> bool {
    REVIEWS.iter().any(|review| std::ptr::eq(review, resource))
}

/// Every resource that clients see, stored or not.
pub fn served() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain(REVIEWS)
}

use Subresource::{Binding, Eviction, Finalize, Scale, Status};

/// Questions: what is created is answered at once and kept nowhere.
pub static REVIEWS: &[Resource] = &[
    Resource {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[],
        type_name: "io.k8s.api.authentication.v1.SelfSubjectReview",
    },
    Resource {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[],
        type_name: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    },
    Resource {
        group: "authorization.k8s.io",
        version: "v1",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        short_names: &[],
        categories: &[],
        namespaced: false,
        subresources: &[],
        type_name: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    },
];

/// Every resource that is stored, in order of group and name.
pub static RESOURCES: &[Resource] = &[
    Resource {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.core.v1.ConfigMap",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.core.v1.Endpoints",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.core.v1.Event",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        categories: &[],
        namespaced: false,
        subresources: &[Finalize, Status],
        type_name: "io.k8s.api.core.v1.Namespace",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        categories: &[],
        namespaced: false,
        subresources: &[Status],
        type_name: "io.k8s.api.core.v1.Node",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Binding, Eviction, Status],
        type_name: "io.k8s.api.core.v1.Pod",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Scale, Status],
        type_name: "io.k8s.api.core.v1.ReplicationController",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.core.v1.Secret",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.core.v1.ServiceAccount",
    },
    Resource {
        group: "",
        version: "v1",
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Status],
        type_name: "io.k8s.api.core.v1.Service",
    },
    Resource {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Scale, Status],
        type_name: "io.k8s.api.apps.v1.Deployment",
    },
    Resource {
        group: "apps",
        version: "v1",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        namespaced: true,
        subresources: &[Scale, Status],
        type_name: "io.k8s.api.apps.v1.ReplicaSet",
    },
    Resource {
        group: "coordination.k8s.io",
        version: "v1",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.coordination.v1.Lease",
    },
    Resource {
        group: "discovery.k8s.io",
        version: "v1",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        short_names: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        type_name: "io.k8s.api.discovery.v1.EndpointSlice",
    },
    Resource {
        group: "networking.k8s.io",
        version: "v1",
        kind: "IPAddress",
        plural: "ipaddresses",
        singular: "ipaddress",
        short_names: &["ip"],
        categories: &[],
        namespaced: false,
        subresources: &[],
        type_name: "io.k8s.api.networking.v1.IPAddress",
    },
    Resource {
        group: "policy",
        version: "v1",
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        categories: &[],
        namespaced: true,
        subresources: &[Status],
        type_name: "io.k8s.api.policy.v1.PodDisruptionBudget",
    },
    Resource {
        group: "scheduling.k8s.io",
        version: "v1",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        categories: &[],
        namespaced: false,
        subresources: &[],
        type_name: "io.k8s.api.scheduling.v1.PriorityClass",
    },
];
