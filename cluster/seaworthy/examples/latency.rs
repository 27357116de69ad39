//! How long requests to a running cluster take, as a client sees it, TLS included.
//!
//! ```text
//! seaworthy up --data-dir ./lat --listen 127.0.0.1:7443
//! cargo run --release -p seaworthy --example latency -- --data-dir ./lat --server 127.0.0.1:7443
//! ```
//!
//! Times say as much of the machine as of the program. So each is also given as a multiple of the round trip of `/livez`, for
//! which the server does nothing, taken in the same run with as many clients.

use anyhow::{Context, ensure};
use clap::Parser;
use client::{Client, ClientConfig, JSON, Method};
use rt::time::{Instant, Timestamp};
use seaworthy::Authority;
use std::time::Duration;

/// Objects that a list has.
const LISTED: usize = 100;

/// Where they are.
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[derive(Parser)]
#[command(about = "Measures how long requests to a running cluster take")]
struct Arguments {
    /// Data directory of the cluster, or of a server
    #[arg(long)]
    data_dir: String,
    /// Where its API server is
    #[arg(long, default_value = "127.0.0.1:6443")]
    server: String,
    /// Requests of each kind
    #[arg(long, default_value_t = 3_000)]
    requests: usize,
    /// How many clients ask at once, in one pass after another
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    clients: Vec<usize>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Livez,
    Create,
    Get,
    List,
}

impl Asked {
    const ALL: [Self; 4] = [Self::Livez, Self::Create, Self::Get, Self::List];

    /// The `number`th request.
    fn request(self, number: usize) -> (Method, String, String) {
        match self {
            Self::Livez => (Method::GET, "/livez".to_owned(), String::new()),
            Self::Create => (Method::POST, MAPS.to_owned(), object(&format!("made-{number}"), "made")),
            Self::Get => (Method::GET, format!("{MAPS}/listed-{}", number % LISTED), String::new()),
            Self::List => (Method::GET, format!("{MAPS}?labelSelector=latency%3Dlisted"), String::new()),
        }
    }
}

fn object(name: &str, label: &str) -> String {
    let data = "x".repeat(200);
    format!(r#"{{"metadata":{{"name":"{name}","labels":{{"latency":"{label}"}}}},"data":{{"x":"{data}"}}}}"#)
}

fn main() -> anyhow::Result<()> {
    rt::task::block_on(measure(Arguments::parse()))
}

async fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let authority = Authority::existing(&arguments.data_dir).await?;
    let tls = authority.client("latency", Some("system:masters"), Timestamp::now())?;
    let client = Client::new(ClientConfig { tls, ..ClientConfig::new(vec![arguments.server], "latency") });
    clean(&client).await?;
    for number in 0..LISTED {
        ask(&client, (Method::POST, MAPS.to_owned(), object(&format!("listed-{number}"), "listed"))).await?;
    }
    println!("{} requests of each kind; a list has {LISTED} objects", arguments.requests);
    println!("clients  request     p50 ms   p99 ms   x livez   requests/s");
    for clients in arguments.clients {
        let mut baseline = None;
        for asked in Asked::ALL {
            let began = Instant::now();
            let mut times = pass(&client, asked, clients, arguments.requests).await?;
            let seconds = began.elapsed().as_secs_f64();
            times.sort();
            let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
            let livez = *baseline.get_or_insert(at(50));
            println!(
                "{clients:>7}  {:<8}  {:>8.3} {:>8.3}  {:>8.2}  {:>11.0}",
                format!("{asked:?}").to_lowercase(),
                at(50),
                at(99),
                at(50) / livez,
                times.len() as f64 / seconds
            );
        }
        clean_made(&client).await?;
    }
    clean(&client).await
}

/// How long each of so many requests took.
async fn pass(client: &Client, asked: Asked, clients: usize, requests: usize) -> anyhow::Result<Vec<Duration>> {
    let mut tasks = Vec::new();
    for place in 0..clients {
        let client = client.clone();
        let mine = async move {
            let mut times = Vec::new();
            for number in (place..requests).step_by(clients) {
                let request = asked.request(number);
                let began = Instant::now();
                ask(&client, request).await?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        };
        tasks.push(rt::task::spawn("client", mine));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.context("a client has failed")??);
    }
    Ok(times)
}

async fn ask(client: &Client, (method, path, body): (Method, String, String)) -> anyhow::Result<()> {
    let answer = client.request(method, &path, JSON, body.into()).await?;
    ensure!((200..300).contains(&answer.code), "{path}: {} {}", answer.code, String::from_utf8_lossy(&answer.body));
    Ok(())
}

async fn clean_made(client: &Client) -> anyhow::Result<()> {
    ask(client, (Method::DELETE, format!("{MAPS}?labelSelector=latency%3Dmade"), String::new())).await
}

async fn clean(client: &Client) -> anyhow::Result<()> {
    ask(client, (Method::DELETE, format!("{MAPS}?labelSelector=latency"), String::new())).await
}
