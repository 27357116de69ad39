//! Over a real member of the store.

use crate::common::{Api, pod};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use store::server::{Member, MemberAddress, MemberConfig};

#[test]
fn a_server_over_a_member_serves_until_the_member_stops() {
    rt::task::block_on(async {
        let dir = std::env::temp_dir().join(format!("seaworthy-apiserver-{}", std::process::id()));
        let free = || TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let (peer, client) = (free(), free());
        let address = |listener: &TcpListener| listener.local_addr().expect("it listens").to_string();
        let members = BTreeMap::from([(1, MemberAddress { peer: address(&peer), client: address(&client) })]);
        drop((peer, client));
        let config = MemberConfig::new("s1", 1, members, dir.to_str().expect("its name is text"));
        let member = Member::start(config).await.expect("a member starts");
        let api = Api::over(Arc::new(member.local()));
        let namespace = r#"{"metadata":{"name":"a"}}"#;
        while api.call("POST", "/api/v1/namespaces", namespace).await.code == 503 {
            rt::time::sleep(Duration::from_millis(20)).await;
        }
        let mut watch = api.watch("/api/v1/namespaces/a/pods?watch=1").await;
        assert_eq!(api.call("POST", "/api/v1/namespaces/a/pods", &pod("p")).await.code, 201);
        assert_eq!(watch.events(1).await, ["ADDED p"]);
        let event = r#"{"metadata":{"name":"e"},"involvedObject":{"namespace":"a"},"reason":"R","message":"m"}"#;
        let created = api.call("POST", "/api/v1/namespaces/a/events", event).await;
        assert_eq!(created.code, 201, "{}", created.text);
        let kv = api.store.latest().get(b"/registry/core/events/a/e").cloned().expect("it is stored");
        assert!(kv.lease != 0, "an Event goes by itself");
        member.shutdown().await;
        assert!(watch.next().await.is_none(), "watches end with the member");
        assert_eq!(api.call("GET", "/api/v1/namespaces/a/pods/p", "").await.code, 503);
        assert_eq!(api.call("POST", "/api/v1/namespaces/a/pods", &pod("q")).await.code, 503);
        assert_eq!(api.call("GET", "/readyz", "").await.code, 500);
        std::fs::remove_dir_all(&dir).expect("it is there");
    });
}
