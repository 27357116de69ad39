//! Who asks, and whether they may.

use api::Status;
use http::HeaderMap;
use rt::tls::Subject;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:node:n1`.
    pub name: String,
    /// Not used again for another user of the same name; may be empty.
    pub uid: String,
    /// Such as `system:nodes`.
    pub groups: Vec<String>,
    /// Whatever else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who has proved nothing.
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// A user of a name, in groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }
    }
}

/// What is known of who asks before they are known.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo<'a> {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's path.
    pub path: &'a str,
    /// Of the certificate that the other end has shown and the connection has verified.
    pub subject: Option<&'a Subject>,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Of the certificate that it has shown and the connection has verified.
    pub subject: Option<Arc<Subject>>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, subject: None }
    }
}

/// What a request wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths that are no resources
    /// the HTTP method in lower case.
    pub verb: &'a str,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Resource; empty for paths that are none.
    pub resource: &'a str,
    /// What below the object; may be empty.
    pub subresource: &'a str,
    /// Namespace; empty for what is cluster-scoped and for all namespaces.
    pub namespace: &'a str,
    /// Name; empty for collections.
    pub name: &'a str,
    /// The request's path.
    pub path: &'a str,
}

/// Tells who asks.
pub trait Authenticator: Send + Sync + 'static {
    /// The user of a request.
    ///
    /// # Errors
    /// 401: it is nobody known.
    fn authenticate(&self, connection: &ConnectionInfo<'_>) -> Result<User, Status>;
}

/// Tells whether a user may do what they ask.
pub trait Authorizer: Send + Sync + 'static {
    /// Judges a request.
    ///
    /// # Errors
    /// Why not, for people; may be empty.
    fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Result<(), String>;

    /// What a user may do, for people who ask; [`Authorizer::authorize`] decides.
    fn rules(&self, user: &User) -> Rules;
}

/// What a user may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Anything with every object.
    pub resources: bool,
    /// With which paths that are no resources what may be done; `*` at a path's end stands for any rest.
    pub paths: &'static [(&'static [&'static str], &'static [&'static str])],
}

impl Rules {
    /// Anything.
    pub const ALL: Self = Self { resources: true, paths: &[(&["*"], &["*"])] };
}

/// Everybody is of the group that may do anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate(&self, _: &ConnectionInfo<'_>) -> Result<User, Status> {
        Ok(User::new("system:admin", &["system:masters", "system:authenticated"]))
    }
}

impl Authorizer for AllowAll {
    fn authorize(&self, _: &User, _: &Attributes<'_>) -> Result<(), String> {
        Ok(())
    }

    fn rules(&self, _: &User) -> Rules {
        Rules::ALL
    }
}

/// Who asks follows from the address that they ask from: for networks whose addresses can be trusted, such as the
/// simulator's.
#[derive(Clone, Debug, Default)]
pub struct PeerAuthenticator {
    users: BTreeMap<IpAddr, User>,
    otherwise: Option<User>,
}

impl PeerAuthenticator {
    /// The users of some addresses, and whoever asks from elsewhere, if they may ask at all.
    pub fn new(users: BTreeMap<IpAddr, User>, otherwise: Option<User>) -> Self {
        Self { users, otherwise }
    }
}

impl Authenticator for PeerAuthenticator {
    fn authenticate(&self, connection: &ConnectionInfo<'_>) -> Result<User, Status> {
        self.users.get(&connection.peer.ip()).or(self.otherwise.as_ref()).cloned().ok_or_else(Status::unauthorized)
    }
}

/// 403, with upstream's words.
pub fn forbidden(user: &User, attributes: &Attributes<'_>, why: &str) -> Status {
    let Attributes { verb, group, resource, subresource, namespace, name, path } = attributes;
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    if resource.is_empty() {
        let message = format!("forbidden: User {:?} cannot {verb} path {path:?}{why}", user.name);
        return Status::new(403, "Forbidden", message);
    }
    let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    let qualified = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    let named = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
    let message = format!(
        "{named} is forbidden: User {:?} cannot {verb} resource \"{resource}{below}\" in API group {group:?} {scope}{why}",
        user.name
    );
    let mut status = Status::new(403, "Forbidden", message);
    status.details.group = (!group.is_empty()).then(|| (*group).to_owned());
    status.details.kind = Some((*resource).to_owned());
    status.details.name = (!name.is_empty()).then(|| (*name).to_owned());
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_address_says_who_asks() {
        let node = User::new("system:node:n1", &["system:nodes"]);
        let users = BTreeMap::from([(IpAddr::from([10, 0, 0, 1]), node.clone())]);
        let headers = HeaderMap::new();
        let ask = |authenticator: &PeerAuthenticator, last| {
            let peer = SocketAddr::from(([10, 0, 0, last], 1_234));
            authenticator.authenticate(&ConnectionInfo { peer, headers: &headers, path: "/api", subject: None })
        };
        let closed = PeerAuthenticator::new(users.clone(), None);
        assert_eq!(ask(&closed, 1), Ok(node));
        assert_eq!(ask(&closed, 2).unwrap_err().code, 401);
        assert_eq!(ask(&PeerAuthenticator::new(users, Some(User::anonymous())), 2), Ok(User::anonymous()));
    }

    #[test]
    fn forbidden_has_upstreams_words() {
        let user = User::new("ann", &[]);
        let attributes = Attributes {
            verb: "get",
            group: "apps",
            resource: "deployments",
            namespace: "a",
            name: "b",
            ..Attributes::default()
        };
        assert_eq!(
            forbidden(&user, &attributes, "").message,
            "deployments.apps \"b\" is forbidden: User \"ann\" cannot get resource \"deployments\" in API group \"apps\" in the \
             namespace \"a\""
        );
        let path = Attributes { verb: "get", path: "/healthz", ..Attributes::default() };
        assert_eq!(forbidden(&user, &path, "").message, "forbidden: User \"ann\" cannot get path \"/healthz\"");
    }
}
