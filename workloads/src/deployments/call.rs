//! Callers: HTTP requests to Services, by name through the host's cluster DNS or by cluster IP through its proxy.

use super::plan::{app_name, namespace_of};
use super::{QUIET_NS, Setting};
use crate::random::stream;
use api::core::v1::Service;
use bytes::Bytes;
use client::Client;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use record::Call;
use rt::net::TcpStream;
use std::time::Duration;

/// How long a caller waits for everything together.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// When the faults are over callers take so many times as long from call to call: most calls shall meet a fault.
const CALM_TIMES: u64 = 5;

/// How long a caller goes on believing in a cluster IP that it was told.
const IP_NS: u64 = 30_000_000_000;

/// Callers of one host: as many as are needed to keep up the rate when each waits for its timeout now and then.
const CALLERS: u32 = 4;

/// The callers of one host.
pub(super) async fn callers(setting: Setting, host: u32, api: Client) {
    let number = |caller| host * CALLERS + caller;
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            rt::task::spawn("caller", one(setting.clone(), host, number(caller), api.clone())).abort_on_drop()
        })
        .collect();
    for task in tasks {
        // A caller that panics is recorded by whoever runs the trial.
        let _ = task.await;
    }
}

async fn one(setting: Setting, host: u32, number: u32, api: Client) {
    let callers = u64::from(setting.config.client_hosts.max(1) * CALLERS);
    let interval_ms = (1000 * callers / u64::from(setting.cluster.calls_per_s.max(1))).max(2);
    let mut random = stream(setting.seed, "caller", number);
    let until_ns = (setting.config.faults_ns + setting.config.calm_ns).saturating_sub(QUIET_NS);
    let mut known: Option<(u32, String, u64)> = None;
    loop {
        let calm = setting.recorder.now_ns() >= setting.config.faults_ns;
        let pause_ms = interval_ms * if calm { CALM_TIMES } else { 1 };
        rt::time::sleep(Duration::from_millis(pause_ms / 2 + random.below(pause_ms))).await;
        if setting.recorder.now_ns() >= until_ns || setting.cluster.apps == 0 {
            return;
        }
        let app = random.below(u64::from(setting.cluster.apps)) as u32;
        let by_name = random.chance(700);
        let (name, namespace) = (app_name(app), namespace_of(app));
        let address = if by_name {
            format!("{name}.{namespace}.svc.{}:80", setting.domain)
        } else {
            let now_ns = setting.recorder.now_ns();
            let told = known.take().filter(|(of, _, until_ns)| *of == app && now_ns < *until_ns);
            let ip = match told {
                Some((_, ip, _)) => Some(ip),
                None => api.get::<Service>(namespace, &name).await.ok().and_then(|service| service.spec?.cluster_ip),
            };
            let Some(ip) = ip else { continue };
            known = Some((app, ip.clone(), now_ns + IP_NS));
            format!("{ip}:80")
        };
        let invoked_ns = setting.recorder.now_ns();
        let answer = match rt::time::timeout(CALL_TIMEOUT, call(&address)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        };
        setting.recorder.called(Call {
            invoked_ns,
            completed_ns: setting.recorder.now_ns(),
            client: host,
            service: format!("{namespace}/{name}"),
            by_name,
            answer,
        });
    }
}

/// UID of the pod that answers.
async fn call(address: &str) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(rt::http::Io::new(stream)).await.map_err(|error| failed(&error))?;
    let _connection = rt::task::spawn("call", async move { drop(connection.await) }).abort_on_drop();
    let request = hyper::Request::get("/").header("host", address).body(Empty::<Bytes>::new());
    let response =
        sender.send_request(request.map_err(|error| failed(&error))?).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| failed(&error))?.to_bytes();
    if !status.is_success() {
        return Err(format!("HTTP status {}", status.as_u16()));
    }
    let value: serde_json::Value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    value["uid"].as_str().map(str::to_owned).ok_or_else(|| "the answer names no pod".to_owned())
}
