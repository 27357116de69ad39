//! Informers over real sockets: pages, watches that end, versions that are gone.

mod common;

use api::core::v1::ConfigMap;
use client::{Change, Informers, Subscription};
use common::{Api, Fault};
use rt::task::block_on;
use rt::time::timeout;
use serde_json::{Value, json};
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}})
}

fn create(api: &Api, name: &str) -> i64 {
    version(&api.write("POST", MAPS, &map(name)))
}

fn delete(api: &Api, name: &str) -> i64 {
    version(&api.write("DELETE", &format!("{MAPS}/{name}"), &Value::Null))
}

fn version(object: &Value) -> i64 {
    let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
    version.expect("an object that was written has a version")
}

/// What is told, up to the version `until`.
async fn told(subscription: &mut Subscription, until: i64) -> Vec<String> {
    let seen = async { subscription.following().seen(api::resource::of::<ConfigMap>(), until).await };
    timeout(Duration::from_secs(15), seen).await.expect("the informer gets there");
    let text = |change: &Change| match (change.old::<ConfigMap>().is_some(), change.new::<ConfigMap>().is_some()) {
        (false, true) => format!("+{}", change.name),
        (true, true) => format!("~{}", change.name),
        (true, false) => format!("-{}", change.name),
        (false, false) => unreachable!("something changed"),
    };
    subscription.next().await.iter().map(text).collect()
}

#[test]
fn lists_by_pages_and_then_watches() {
    block_on(async {
        let api = Api::start().await;
        for n in 0..1001 {
            create(&api, &format!("m{n:04}"));
        }
        let mut informers = Informers::new(api.client());
        informers.follow::<ConfigMap>();
        informers.follow::<ConfigMap>();
        let following = informers.start();
        following.synced().await;
        assert_eq!(following.caches().all::<ConfigMap>().count(), 1001);
        assert_eq!(api.count("limit=500"), 3);
        let mut subscription = following.subscribe();
        assert_eq!(subscription.next().await.len(), 1001);
        create(&api, "z");
        let last = delete(&api, "m0000");
        assert_eq!(told(&mut subscription, last).await, ["+z", "-m0000"]);
        assert_eq!(following.caches().all::<ConfigMap>().count(), 1001);
    });
}

#[test]
fn goes_on_from_where_a_watch_ended() {
    block_on(async {
        let api = Api::start().await;
        let mut informers = Informers::new(api.client());
        informers.follow::<ConfigMap>();
        let following = informers.start();
        following.synced().await;
        let mut subscription = following.subscribe();
        let last = create(&api, "a");
        assert_eq!(told(&mut subscription, last).await, ["+a"]);
        api.fault("watch=true", Fault::CutBefore);
        api.fault("watch=true", Fault::Answer(500, -1));
        api.cut_watches(false);
        create(&api, "b");
        let last = delete(&api, "a");
        assert_eq!(told(&mut subscription, last).await, ["+b", "-a"]);
        assert_eq!(following.view().kinds[0].lists, 1);
    });
}

#[test]
fn lists_anew_when_its_version_is_gone_and_tells_the_difference() {
    block_on(async {
        let api = Api::start().await;
        create(&api, "a");
        create(&api, "b");
        let mut informers = Informers::new(api.client());
        informers.follow::<ConfigMap>();
        let following = informers.start();
        following.synced().await;
        let mut subscription = following.subscribe();
        assert_eq!(subscription.next().await.len(), 2);
        {
            // All under one lock of the server, so that no watch sees any of it.
            api.state().held_back = Some("configmaps".to_owned());
            delete(&api, "a");
            delete(&api, "b");
            create(&api, "b");
        }
        api.cut_watches(true);
        api.state().held_back = None;
        let last = create(&api, "c");
        let mut all = told(&mut subscription, last).await;
        while !all.contains(&"+c".to_owned()) {
            all.extend(told(&mut subscription, last).await);
        }
        assert_eq!(all, ["-a", "-b", "+b", "+c"]);
        assert_eq!(following.view().kinds[0].lists, 2);
    });
}
