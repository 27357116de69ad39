//! Callers who are nobody in particular: they ask an API server as fast as it answers, whatever it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::{Client, ClientConfig, ListOptions};
use rt::sim::{HostId, World};
use rt::task::AbortOnDrop;

/// What one flood asks for at most: what it is for shows in its first seconds, and a simulator pays for each of them.
const MOST_REQUESTS: u32 = 3_000;

/// How long one of them waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// After nobody was there to answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Who floods an API server. Dropping them calls them back.
pub(crate) type Callers = Vec<AbortOnDrop<()>>;

/// Lets so many callers on `host` ask the API server at `address`, until they are dropped.
pub(crate) fn flood(world: &World, host: HostId, address: &str, callers: u32) -> Callers {
    let asked = Arc::new(AtomicU32::new(0));
    let address = address.to_owned();
    (0..callers)
        .map(|_| {
            let call = call(address.clone(), asked.clone());
            world.spawn_on(host, "crowd", call).abort_on_drop()
        })
        .collect()
}

async fn call(address: String, asked: Arc<AtomicU32>) {
    let client = Client::new(ClientConfig::new(vec![address], "crowd")).with_limits(PATIENCE, 1);
    let one = ListOptions { limit: 1, ..ListOptions::default() };
    while asked.fetch_add(1, Ordering::Relaxed) < MOST_REQUESTS {
        let answer = client.list::<api::core::v1::ConfigMap>("default", &one).await;
        if let Err(client::Error::Unreachable(_)) = answer {
            rt::time::sleep(PAUSE).await;
        }
    }
}
