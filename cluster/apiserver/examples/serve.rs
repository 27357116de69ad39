//! An API server over a store in memory, to try clients on: `cargo run -p apiserver --example serve -- 127.0.0.1:8001`,
//! then `kubectl --server http://127.0.0.1:8001 get namespaces`.

use apiserver::{AllowAll, ApiServer, Config, MemoryStore};
use std::sync::Arc;

fn main() {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    rt::task::block_on(async {
        let (store, all) = (Arc::new(MemoryStore::new()), Arc::new(AllowAll));
        match ApiServer::start(Config::new(&listen), store, all.clone(), all).await {
            Ok(server) => {
                println!("http://{}", server.address());
                rt::task::shutdown_signal().await;
                server.shutdown().await;
                println!("{:#?}", server.view());
            }
            Err(error) => println!("{error}"),
        }
    });
}
