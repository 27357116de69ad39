//! The few roles that are known without RBAC: who may look at the server itself, and who may only join.
//!
//! | group | may |
//! |---|---|
//! | `system:masters` | anything |
//! | `system:bootstrappers` | join the cluster, nothing else |
//! | `system:monitoring` | read `/metrics`, besides what all may |
//! | all others | anything but join, `/metrics` and `/debug` |
//!
//! **Limit:** among the last are nodes, which upstream confines to what is theirs.

use crate::auth::{Attributes, Authorizer, Rules, User};

/// Where the cluster is joined.
pub const JOIN: &str = "/seaworthy/join/";

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roles;

/// The paths for all that are no resources.
const COMMON: &[&str] =
    &["/", "/api", "/api/*", "/apis", "/apis/*", "/healthz*", "/livez*", "/openapi/*", "/readyz*", "/version"];

impl Authorizer for Roles {
    fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), String> {
        let below = |prefix: &str| attributes.resource.is_empty() && attributes.path.starts_with(prefix);
        let may = match Role::of(user) {
            Role::Master => true,
            Role::Bootstrapper => below(JOIN),
            Role::Monitoring if below("/metrics") => true,
            Role::Monitoring | Role::Other => !below("/metrics") && !below("/debug") && !below(JOIN),
        };
        // Upstream says why not only where somebody can do something about it.
        if may { Ok(()) } else { Err(String::new()) }
    }

    fn rules(&self, user: &User) -> Rules {
        match Role::of(user) {
            Role::Master => Rules::ALL,
            Role::Bootstrapper => Rules { resources: false, paths: &[(&["*"], &["/seaworthy/join/*"])] },
            Role::Monitoring => Rules { resources: true, paths: &[(&["get"], &["/metrics"]), (&["get"], COMMON)] },
            Role::Other => Rules { resources: true, paths: &[(&["get"], COMMON)] },
        }
    }
}

/// The first row of the module's table that a user is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Master,
    Bootstrapper,
    Monitoring,
    Other,
}

impl Role {
    fn of(user: &User) -> Self {
        let named = [
            ("system:masters", Role::Master),
            ("system:bootstrappers", Role::Bootstrapper),
            ("system:monitoring", Role::Monitoring),
        ];
        let is_of = |name: &str| user.groups.iter().any(|group| group == name);
        named.into_iter().find(|(name, _)| is_of(name)).map_or(Role::Other, |(_, role)| role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of some paths and a resource a member of `group` may ask for.
    fn check(group: &str, expected: &str) {
        let user = User::new("u", &[group]);
        let paths = ["/metrics", "/debug/view", "/seaworthy/join/agent", "/version"];
        let mut may: Vec<&str> = Vec::new();
        for path in paths {
            let asked = Attributes { verb: "get", path, ..Attributes::default() };
            if Roles.authorize(&user, &asked).is_ok() {
                may.push(path);
            }
        }
        let pods = Attributes { verb: "list", resource: "pods", path: "/api/v1/pods", ..Attributes::default() };
        if Roles.authorize(&user, &pods).is_ok() {
            may.push("pods");
        }
        assert_eq!(may.join(" "), expected, "{group}");
    }

    #[test]
    fn groups_may_do_what_their_roles_say() {
        check("system:masters", "/metrics /debug/view /seaworthy/join/agent /version pods");
        check("system:bootstrappers", "/seaworthy/join/agent");
        check("system:monitoring", "/metrics /version pods");
        check("system:nodes", "/version pods");
    }
}
