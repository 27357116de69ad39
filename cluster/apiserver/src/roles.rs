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

use crate::auth::{Attributes, Authorizer, User};

/// Where the cluster is joined.
pub const JOIN: &str = "/seaworthy/join/";

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roles;

impl Authorizer for Roles {
    fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), String> {
        let is_of = |name: &str| user.groups.iter().any(|group| group == name);
        let below = |prefix: &str| attributes.resource.is_empty() && attributes.path.starts_with(prefix);
        let may = if is_of("system:masters") {
            true
        } else if is_of("system:bootstrappers") {
            below(JOIN)
        } else if below("/metrics") {
            is_of("system:monitoring")
        } else {
            !below("/debug") && !below(JOIN)
        };
        // Upstream says why not only where somebody can do something about it.
        if may { Ok(()) } else { Err(String::new()) }
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
