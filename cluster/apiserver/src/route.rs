//! What a path means.
//!
//! ```text
//! /api/v1/namespaces/NS/pods/NAME/status        /apis/apps/v1/deployments        /livez?verbose
//! └group, version └namespace └resource └subresource
//! ```

use api::resource::{self, Resource, Subresource};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/`: the paths there are.
    Root,
    /// `/api`: versions of the core group.
    CoreVersions,
    /// `/apis`: all other groups.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`: the resources of a group.
    Resources {
        /// Empty for the core group.
        group: String,
        /// Its version.
        version: String,
    },
    /// A collection, an object or what lies below it.
    Target(Target),
    /// Where a question is asked.
    Review(&'static Resource),
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`.
    Health {
        /// Which.
        endpoint: &'static str,
        /// One check of it; empty for all.
        check: String,
    },
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
    OpenApiGroup {
        /// Empty for the core group.
        group: String,
        /// Its version.
        version: String,
    },
    /// Nothing is there.
    Nowhere,
}

/// A collection, an object or what lies below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Of which kind.
    pub resource: &'static Resource,
    /// Empty for what is cluster-scoped, and for a collection over all namespaces.
    pub namespace: String,
    /// Empty for a collection.
    pub name: String,
    /// What below the object.
    pub subresource: Option<Subresource>,
    /// The old form of a watch: `/api/v1/watch/...`.
    pub legacy_watch: bool,
}

/// Reads a path, as it is in the request.
pub fn parse(path: &str) -> Route {
    let Some(parts) = path.trim_matches('/').split('/').map(decode).collect::<Option<Vec<String>>>() else {
        return Route::Nowhere;
    };
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        [""] => Route::Root,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["version"] => Route::Version,
        ["openapi", "v3"] => Route::OpenApiIndex,
        ["openapi", "v3", "api", version] => Route::OpenApiGroup { group: String::new(), version: version.to_owned() },
        ["openapi", "v3", "apis", group, version] => {
            Route::OpenApiGroup { group: group.to_owned(), version: version.to_owned() }
        }
        ["healthz" | "livez" | "readyz", ref rest @ ..] => {
            let endpoint = ["healthz", "livez", "readyz"].into_iter().find(|name| *name == parts[0]);
            endpoint.map_or(Route::Nowhere, |endpoint| Route::Health { endpoint, check: rest.join("/") })
        }
        ["apis", group] => Route::Group(group.to_owned()),
        ["api", version] => Route::Resources { group: String::new(), version: version.to_owned() },
        ["apis", group, version] => Route::Resources { group: group.to_owned(), version: version.to_owned() },
        ["api", version, ref rest @ ..] => target("", version, rest),
        ["apis", group, version, ref rest @ ..] => target(group, version, rest),
        _ => Route::Nowhere,
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Route {
    if let [plural] = rest
        && let Some(review) = resource::find_review(group, plural).filter(|review| review.version == version)
    {
        return Route::Review(review);
    }
    let (legacy_watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, rest),
    };
    let (namespace, plural, name, subresource) = match *rest {
        // The namespace itself, and what lies below it, unless that is a resource.
        ["namespaces", name] => ("", "namespaces", name, ""),
        ["namespaces", name, below @ ("status" | "finalize")] => ("", "namespaces", name, below),
        ["namespaces", namespace, plural] => (namespace, plural, "", ""),
        ["namespaces", namespace, plural, name] => (namespace, plural, name, ""),
        ["namespaces", namespace, plural, name, below] => (namespace, plural, name, below),
        [plural] => ("", plural, "", ""),
        [plural, name] => ("", plural, name, ""),
        [plural, name, below] => ("", plural, name, below),
        _ => return Route::Nowhere,
    };
    let Some(resource) = resource::find_plural(group, plural).filter(|resource| resource.version == version) else {
        return Route::Nowhere;
    };
    let below = resource.subresources.iter().copied().find(|known| known.name() == subresource);
    let known = subresource.is_empty() || below.is_some();
    // An object in a namespace is named with it, and one outside of all never is.
    let placed = if resource.namespaced { name.is_empty() || !namespace.is_empty() } else { namespace.is_empty() };
    if !known || !placed || (legacy_watch && below.is_some()) {
        return Route::Nowhere;
    }
    Route::Target(Target {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: below,
        legacy_watch,
    })
}

/// Undoes percent-encoding; `None` if that does not give text.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(paths: &str, expected: Expect) {
        let mut out = String::new();
        for path in paths.lines().map(str::trim) {
            let shown = match parse(path) {
                Route::Target(target) => format!(
                    "{} ns={} name={}{}{}",
                    target.resource.qualified(),
                    target.namespace,
                    target.name,
                    target.subresource.map(|below| format!(" {}", below.name())).unwrap_or_default(),
                    if target.legacy_watch { " watch" } else { "" }
                ),
                Route::Review(review) => format!("asks {}", review.qualified()),
                other => format!("{other:?}"),
            };
            out.push_str(&format!("{path}: {shown}\n"));
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn paths_lead_to_resources() {
        check(
            "/api/v1/pods
             /api/v1/namespaces
             /api/v1/namespaces/a
             /api/v1/namespaces/a/finalize
             /api/v1/namespaces/a/pods
             /api/v1/namespaces/a/pods/b
             /api/v1/namespaces/a/pods/b/eviction
             /api/v1/nodes/n/status
             /apis/apps/v1/namespaces/a/deployments/b/scale
             /api/v1/watch/namespaces/a/pods
             /api/v1/namespaces/a/events/x%2Fy.1",
            expect![[r#"
                /api/v1/pods: pods ns= name=
                /api/v1/namespaces: namespaces ns= name=
                /api/v1/namespaces/a: namespaces ns= name=a
                /api/v1/namespaces/a/finalize: namespaces ns= name=a finalize
                /api/v1/namespaces/a/pods: pods ns=a name=
                /api/v1/namespaces/a/pods/b: pods ns=a name=b
                /api/v1/namespaces/a/pods/b/eviction: pods ns=a name=b eviction
                /api/v1/nodes/n/status: nodes ns= name=n status
                /apis/apps/v1/namespaces/a/deployments/b/scale: deployments.apps ns=a name=b scale
                /api/v1/watch/namespaces/a/pods: pods ns=a name= watch
                /api/v1/namespaces/a/events/x%2Fy.1: events ns=a name=x/y.1
            "#]],
        );
    }

    #[test]
    fn what_is_not_served_is_nowhere() {
        check(
            "/api/v1/gadgets
             /api/v2/pods
             /api/v1/pods/b
             /api/v1/namespaces/a/nodes/n
             /api/v1/namespaces/a/pods/b/exec
             /apis/apps/v1beta1/namespaces/a/deployments
             /apis/foreign.example/v1/things
             /nowhere
             /api/v1/namespaces/%ff/pods",
            expect![[r#"
                /api/v1/gadgets: Nowhere
                /api/v2/pods: Nowhere
                /api/v1/pods/b: Nowhere
                /api/v1/namespaces/a/nodes/n: Nowhere
                /api/v1/namespaces/a/pods/b/exec: Nowhere
                /apis/apps/v1beta1/namespaces/a/deployments: Nowhere
                /apis/foreign.example/v1/things: Nowhere
                /nowhere: Nowhere
                /api/v1/namespaces/%ff/pods: Nowhere
            "#]],
        );
    }

    #[test]
    fn other_paths() {
        check(
            "/
             /api
             /apis
             /apis/apps
             /api/v1
             /apis/apps/v1
             /version
             /livez
             /readyz/store
             /openapi/v3
             /openapi/v3/api/v1
             /apis/authorization.k8s.io/v1/selfsubjectaccessreviews
             /apis/authorization.k8s.io/v1/selfsubjectaccessreviews/a
             /openapi/v3/apis/apps/v1",
            expect![[r#"
                /: Root
                /api: CoreVersions
                /apis: Groups
                /apis/apps: Group("apps")
                /api/v1: Resources { group: "", version: "v1" }
                /apis/apps/v1: Resources { group: "apps", version: "v1" }
                /version: Version
                /livez: Health { endpoint: "livez", check: "" }
                /readyz/store: Health { endpoint: "readyz", check: "store" }
                /openapi/v3: OpenApiIndex
                /openapi/v3/api/v1: OpenApiGroup { group: "", version: "v1" }
                /apis/authorization.k8s.io/v1/selfsubjectaccessreviews: asks selfsubjectaccessreviews.authorization.k8s.io
                /apis/authorization.k8s.io/v1/selfsubjectaccessreviews/a: Nowhere
                /openapi/v3/apis/apps/v1: OpenApiGroup { group: "apps", version: "v1" }
            "#]],
        );
    }
}
