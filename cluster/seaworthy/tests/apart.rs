//! A server and an agent on a real machine, each as its process would run: who may join, and what they may do then.
#![cfg(not(madsim))]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use api::core::v1::Node;
use client::{Client, ClientConfig, Error, JSON, ListOptions, Method, Token};
use rt::net::TcpStream;
use rt::time::{sleep, timeout};
use rt::tls::{ClientTls, Pair, Usage, Wanted, issue, public_key_hash, read};
use seaworthy::{
    AgentProcess, AgentProcessConfig, Authority, JoinError, JoinToken, Named, PodRange, ProcessError, ServerProcess,
    ServerProcessConfig,
};
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A directory of one test, removed at the end, and addresses that no other test has.
struct Place {
    dir: PathBuf,
    number: u32,
}

impl Place {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_add(77 * COUNT.fetch_add(1, Ordering::Relaxed)) % 250 + 1;
        Self {
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("apart-{name}-{}", std::process::id())),
            number,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// A server that is the whole control plane.
    fn server(&self) -> ServerProcessConfig {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = Named { name: "s1".to_owned(), peer: "127.0.0.1:1".to_owned(), api: format!("127.0.0.1:{port}") };
        ServerProcessConfig {
            name: "s1".to_owned(),
            data_dir: self.path("s1"),
            servers: vec![own],
            listen_peer: None,
            listen: None,
            names: Vec::new(),
            pods: format!("127.{}.0.0/16", self.number).parse().unwrap(),
            token: None,
            store_format: store::Format::LATEST,
            max_requests_in_flight: None,
            build: seaworthy::Build::default(),
        }
    }

    fn agent(&self, server: &ServerProcessConfig, token: Option<JoinToken>) -> AgentProcessConfig {
        AgentProcessConfig {
            node: "n1".to_owned(),
            ip: PodRange::default().node_named("n1"),
            data_dir: self.path("n1"),
            servers: vec![server.servers[0].api.clone()],
            token,
        }
    }

    /// The token in a file of the server's.
    fn token(&self, role: &str) -> JoinToken {
        fs::read_to_string(self.dir.join(format!("s1/{role}-token"))).unwrap().parse().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A client that is somebody.
async fn client(place: &Place, server: &ServerProcessConfig, user: &str, group: &str) -> Client {
    let authority = Authority::existing(&place.path("s1")).await.unwrap();
    let tls = authority.client(user, Some(group), rt::time::Timestamp::now()).unwrap();
    Client::new(ClientConfig { tls, ..ClientConfig::new(vec![server.servers[0].api.clone()], user) })
}

/// Returns when the node is ready.
async fn ready(client: &Client) {
    let look = async {
        loop {
            let nodes = client.list::<Node>("", &ListOptions::default()).await;
            let conditions = nodes.into_iter().flat_map(|list| list.items).filter_map(|node| node.status?.conditions);
            if conditions.flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), look).await.unwrap();
}

#[test]
fn an_agent_joins_by_its_token_and_needs_none_afterwards() {
    let place = Place::new("joins");
    rt::task::block_on(async {
        let config = place.server();
        let server = ServerProcess::start(config.clone()).await.unwrap();
        let admin = client(&place, &config, "ann", "system:masters").await;
        let agent = AgentProcess::start(place.agent(&config, Some(place.token("agent")))).await.unwrap();
        ready(&admin).await;
        agent.shutdown().await;
        let again = AgentProcess::start(place.agent(&config, None)).await.unwrap();
        again.shutdown().await;
        server.shutdown().await;
    });
}

#[test]
fn nobody_joins_without_the_right_token() {
    let place = Place::new("token");
    rt::task::block_on(async {
        let config = place.server();
        let server = ServerProcess::start(config.clone()).await.unwrap();
        let refused = |token| {
            let agent = place.agent(&config, token);
            async move { AgentProcess::start(agent).await.expect_err("it must not join") }
        };
        assert!(matches!(refused(None).await, ProcessError::Config(_)));
        let error = refused(Some(place.token("server"))).await;
        assert!(matches!(error, ProcessError::Join(JoinError::Role { .. })), "{error}");
        let error = refused(Some(JoinToken { secret: "ff".repeat(32), ..place.token("agent") })).await;
        assert!(matches!(error, ProcessError::Join(JoinError::Refused(_))), "{error}");
        let error = refused(Some(JoinToken { hash: "ff".repeat(32), ..place.token("agent") })).await;
        assert!(matches!(error, ProcessError::Join(JoinError::Foreign(_))), "{error}");
        // The agents' secret does not make one a server, whatever the token says.
        let pretended = JoinToken { role: place.token("server").role, ..place.token("agent") };
        let peer =
            |name: &str| Named { name: name.to_owned(), peer: format!("{name}:1"), api: "127.0.0.1:0".to_owned() };
        let mut second = ServerProcessConfig { name: "s2".to_owned(), data_dir: place.path("s2"), ..config.clone() };
        second.servers.push(peer("s2"));
        second.token = Some(pretended);
        let error = ServerProcess::start(second).await.expect_err("it must not join");
        assert!(matches!(error, ProcessError::Join(JoinError::Refused(_))), "{error}");
        server.shutdown().await;
    });
}

#[test]
fn whoever_only_joins_may_do_nothing_else_and_nodes_are_no_administrators() {
    let place = Place::new("roles");
    rt::task::block_on(async {
        let config = place.server();
        let server = ServerProcess::start(config.clone()).await.unwrap();
        let api = vec![config.servers[0].api.clone()];
        let token = place.token("agent");
        let tls = ClientTls::pinned(&token.hash).unwrap();
        let token = Some(Token(token.secret));
        let joiner = Client::new(ClientConfig { tls, token, ..ClientConfig::new(api, "joiner") });
        let listed = joiner.list::<Node>("", &ListOptions::default()).await;
        assert!(matches!(&listed, Err(Error::Status(status)) if status.code == 403), "{listed:?}");
        let node = client(&place, &config, "system:node:n1", "system:nodes").await;
        let monitor = client(&place, &config, "prometheus", "system:monitoring").await;
        let admin = client(&place, &config, "ann", "system:masters").await;
        let code = async |client: &Client, path: &str| {
            client.request(Method::GET, path, JSON, Vec::new().into()).await.unwrap().code
        };
        assert_eq!((code(&node, "/metrics").await, code(&node, "/debug/view").await), (403, 403));
        assert_eq!((code(&monitor, "/metrics").await, code(&monitor, "/debug/view").await), (200, 403));
        assert_eq!((code(&admin, "/metrics").await, code(&admin, "/debug/view").await), (200, 200));
        assert_eq!((code(&monitor, "/debug/history/1").await, code(&admin, "/debug/history/x").await), (403, 404));
        assert_eq!(code(&admin, "/nowhere").await, 404);
        let get = async |path: &str| {
            let answer = admin.request(Method::GET, path, JSON, Vec::new().into()).await.unwrap();
            String::from_utf8(answer.body.to_vec()).unwrap()
        };
        let history = get("/debug/history/1").await;
        assert!(history.contains(r#""key":"/registry/core/namespaces/default","value":"#), "{history}");
        assert!(get("/debug/history/1000000").await.ends_with(r#""changes":[]}"#));
        assert!(get("/debug/caches").await.starts_with('{'));
        let metrics = admin.request(Method::GET, "/metrics", JSON, Vec::new().into()).await.unwrap().body;
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        assert!(metrics.lines().any(|line| line == "etcd_server_has_leader 1"), "{metrics}");
        let hash = public_key_hash(Authority::existing(&place.path("s1")).await.unwrap().certificate()).unwrap();
        assert_eq!(hash, place.token("server").hash);
        server.shutdown().await;
    });
}

#[test]
fn members_of_the_store_listen_to_members_alone() {
    let place = Place::new("peers");
    rt::task::block_on(async {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let named = |name: &str| Named {
            name: name.to_owned(),
            peer: format!("127.0.0.1:{}", port()),
            api: format!("127.0.0.1:{}", port()),
        };
        let config = ServerProcessConfig { servers: vec![named("s1"), named("s2")], ..place.server() };
        let server = ServerProcess::start(config.clone()).await.unwrap();
        let text = fs::read_to_string(place.dir.join("s1/authority.pem")).unwrap();
        let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE KEY-----").unwrap());
        let authority = Pair { certificate: certificate.to_owned(), key: key.to_owned() };
        // Whether the member waits for what somebody of an organization has to say.
        let waits = async |organization: &str| {
            let wanted = Wanted {
                common_name: "x".to_owned(),
                organization: Some(organization.to_owned()),
                names: Vec::new(),
                usage: Usage::Client,
            };
            let validity = read(&authority.certificate).unwrap().validity;
            let pair = issue(&authority, &wanted, validity).unwrap();
            let tls = ClientTls::new(&authority.certificate, Some(&pair)).unwrap();
            let mut stream = TcpStream::connect_secured(&config.servers[0].peer, &tls).await.unwrap();
            timeout(Duration::from_millis(500), stream.read(&mut [0; 8])).await.is_err()
        };
        assert!(waits("seaworthy:members").await);
        assert!(!waits("system:nodes").await);
        assert!(!waits("system:masters").await);
        server.shutdown().await;
    });
}
