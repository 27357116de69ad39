//! The client over real sockets: which API server is asked, what is repeated, what is known of a failure.

mod common;

use api::core::v1::ConfigMap;
use api::{ObjectExt, ObjectMeta};
use client::{Client, ClientConfig, DeleteOptions, Error, Fence, ListOptions, WatchEvent, WatchOptions};
use common::{Api, Fault};
use rt::net::TcpListener;
use rt::task::block_on;
use serde_json::json;
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> ConfigMap {
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), namespace: Some("default".to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

#[test]
fn every_verb_works_over_one_connection() {
    block_on(async {
        let api = Api::start().await;
        let client = api.client();
        let mut made = client.create(&map("a")).await.unwrap();
        assert_eq!(client.get::<ConfigMap>("default", "a").await.unwrap(), made);
        made.metadata.labels = Some([("k".to_owned(), "v".to_owned())].into());
        let changed = client.update(&made).await.unwrap();
        assert!(client.update(&made).await.unwrap_err().is_conflict());
        let patch = json!({"metadata": {"labels": {"k": "w"}}});
        let patched: ConfigMap = client.patch_merge("default", "a", &patch).await.unwrap();
        assert_eq!(patched.labels()["k"], "w");
        assert_ne!(patched.resource_version(), changed.resource_version());
        let list = client.list::<ConfigMap>("", &ListOptions::default()).await.unwrap();
        assert_eq!(
            (list.items, list.resource_version.to_string()),
            (vec![patched.clone()], patched.resource_version().to_owned())
        );
        client.delete::<ConfigMap>("default", "a", &DeleteOptions::default()).await.unwrap();
        assert!(client.get::<ConfigMap>("default", "a").await.unwrap_err().is_not_found());
        assert_eq!(api.state().connections, 1);
    });
}

#[test]
fn goes_on_to_an_api_server_that_works_and_stays_there() {
    block_on(async {
        let api = Api::start().await;
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let sick = Api::start().await;
        sick.fault(MAPS, Fault::Answer(503, -1));
        let endpoints = vec![dead, sick.address.clone(), api.address.clone()];
        let client = Client::new(ClientConfig::new(endpoints, "test"));
        client.create(&map("a")).await.unwrap();
        client.create(&map("b")).await.unwrap();
        assert_eq!((sick.count("POST"), api.count("POST")), (1, 2));
    });
}

#[test]
fn with_no_api_server_nothing_had_an_effect() {
    block_on(async {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let client = Client::new(ClientConfig::new(vec![dead], "test"));
        assert!(matches!(client.create(&map("a")).await, Err(Error::Unreachable(_))));
        let client = Client::new(ClientConfig::new(Vec::new(), "test"));
        assert!(matches!(client.create(&map("a")).await, Err(Error::Unreachable(_))));
    });
}

#[test]
fn a_write_is_repeated_only_if_it_had_no_effect() {
    block_on(async {
        let api = Api::start().await;
        let client = api.client();
        for (name, fault) in
            [("a", Fault::CutAfter), ("b", Fault::CutBefore), ("c", Fault::Hang), ("d", Fault::Answer(504, -1))]
        {
            api.fault("POST", fault);
            let error = client.create(&map(name)).await.unwrap_err();
            assert!(matches!(error, Error::Unknown(_)), "{name}: {error}");
        }
        assert_eq!((api.count("POST"), api.state().objects.len()), (4, 1));
        api.fault("POST", Fault::Answer(503, -1));
        api.fault("POST", Fault::Answer(429, 0));
        client.create(&map("e")).await.unwrap();
        assert_eq!((api.count("POST"), api.state().objects.len()), (7, 2));
    });
}

#[test]
fn a_delete_that_names_a_uid_and_a_read_are_repeated() {
    block_on(async {
        let api = Api::start().await;
        let client = api.client();
        let made = client.create(&map("a")).await.unwrap();
        for fault in [Fault::CutBefore, Fault::Hang, Fault::Answer(504, -1)] {
            api.fault("GET", fault);
        }
        assert_eq!(client.get::<ConfigMap>("default", "a").await.unwrap(), made);
        api.fault("DELETE", Fault::CutAfter);
        let options = DeleteOptions { uid: Some(made.uid().to_owned()), ..DeleteOptions::default() };
        let again = client.delete::<ConfigMap>("default", "a", &options).await;
        assert!(again.unwrap_err().is_not_found(), "the first attempt deleted it");
        client.create(&map("a")).await.unwrap();
        assert!(client.delete::<ConfigMap>("default", "a", &options).await.unwrap_err().is_conflict());
    });
}

#[test]
fn whoever_is_told_to_wait_for_long_is_told_so_instead() {
    block_on(async {
        let api = Api::start().await;
        api.fault("GET", Fault::Answer(429, 3600));
        assert_eq!(api.client().get::<ConfigMap>("default", "a").await.unwrap_err().code(), 429);
        assert_eq!(api.count("GET"), 1);
    });
}

#[test]
fn an_older_epoch_is_told_that_it_is_over() {
    block_on(async {
        let api = Api::start().await;
        let fence = |transitions| Fence { namespace: "kube-system".into(), name: "x".into(), transitions };
        let (old, new) = (api.client().with_fence(fence(3)), api.client().with_fence(fence(4)));
        old.create(&map("a")).await.unwrap();
        new.create(&map("b")).await.unwrap();
        assert!(old.create(&map("c")).await.unwrap_err().is_stale_fence());
        api.client().create(&map("d")).await.unwrap();
    });
}

#[test]
fn a_watch_tells_what_happens_and_breaks_when_it_is_silent() {
    block_on(async {
        let api = Api::start().await;
        let client = api.client();
        let list = client.list::<ConfigMap>("", &ListOptions::default()).await.unwrap();
        let options = WatchOptions {
            resource_version: list.resource_version.to_string(),
            idle_timeout: Duration::from_millis(200),
            ..WatchOptions::default()
        };
        let mut watch = client.watch::<ConfigMap>("", &options).await.unwrap();
        assert_eq!(watch.next().await, Some(Ok(WatchEvent::Bookmark(list.resource_version))));
        let made = client.create(&map("a")).await.unwrap();
        assert_eq!(watch.next().await, Some(Ok(WatchEvent::Added(made.clone()))));
        client.delete::<ConfigMap>("default", "a", &DeleteOptions::default()).await.unwrap();
        let Some(Ok(WatchEvent::Deleted(gone))) = watch.next().await else { panic!("it was deleted") };
        assert_eq!(gone.uid(), made.uid());
        assert!(matches!(watch.next().await, Some(Err(Error::Unreachable(_)))));
        assert_eq!(watch.next().await, None);
        api.cut_watches(true);
        assert!(client.watch::<ConfigMap>("", &options).await.err().unwrap().is_expired());
    });
}
