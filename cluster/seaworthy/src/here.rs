//! `seaworthy up`, from its arguments to its end, and kubeconfigs for its users.

use crate::args::{KubeconfigArgs, UpArgs};
use crate::{FAILED, USAGE, ended, fail, say, version};
use rt::time::{Instant, Timestamp, timeout};
use seaworthy::kubeconfig::{self, Shows};
use seaworthy::{Authority, ProcessError, Up, UpConfig};
use std::process::ExitCode;
use std::time::Duration;
use store::server::StopReason;

/// Nodes that are not ready by then are spoken of; it goes on all the same.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The configuration that the arguments and the environment's `XDG_DATA_HOME` and `HOME` describe.
///
/// # Errors
/// What is wrong with them, in one sentence.
pub fn up_config(args: UpArgs, homes: [Option<String>; 2]) -> Result<UpConfig, String> {
    let data_dir = data_dir(args.data_dir, homes)?;
    Ok(UpConfig {
        listen: args.listen.to_string(),
        names: args.names,
        nodes: args.hollow_nodes,
        pods: args.pod_cidr,
        kubeconfig: args.kubeconfig,
        build: version::build(),
        ..UpConfig::new(&data_dir)
    })
}

/// Prints a kubeconfig for somebody.
///
/// # Errors
/// Why there is none, in one sentence.
pub async fn kubeconfig(args: KubeconfigArgs, homes: [Option<String>; 2]) -> Result<(), String> {
    let dir = data_dir(args.data_dir, homes)?;
    let authority = Authority::existing(&dir).await.map_err(|error| error.to_string())?;
    let issued = authority.client_pair(&args.user, args.group.as_deref(), Timestamp::now());
    let pair = issued.map_err(|error| error.to_string())?;
    let text = kubeconfig::text(&args.server, authority.certificate(), &Shows::Certificate(pair));
    say(text.trim_end()).map_err(|error| error.to_string())
}

/// Where `up` keeps its data.
fn data_dir(flag: Option<String>, [data_home, home]: [Option<String>; 2]) -> Result<String, String> {
    let none = "there is no home directory to keep data in; name a directory with --data-dir";
    flag.or_else(|| default_dir(data_home, home)).ok_or_else(|| none.to_owned())
}

/// The XDG Base Directory Specification: a relative path counts as none.
pub fn default_dir(data_home: Option<String>, home: Option<String>) -> Option<String> {
    let absolute = |path: &String| path.starts_with('/');
    let parent = data_home.filter(absolute).or_else(|| Some(format!("{}/.local/share", home.filter(absolute)?)))?;
    Some(format!("{}/seaworthy", parent.trim_end_matches('/')))
}

/// Runs a cluster until it is told to stop or cannot go on.
pub async fn up(config: UpConfig) -> ExitCode {
    let began = Instant::now();
    let (nodes, data_dir) = (config.nodes, config.data_dir.clone());
    let up = match Up::start(config).await {
        Ok(up) => up,
        Err(error @ ProcessError::Config(_)) => return fail(USAGE, &error.to_string()),
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let stopped = tokio::select! {
        biased;
        reason = up.stopped() => reason,
        () = rt::task::shutdown_signal() => {
            tracing::info!("shutting down");
            up.shutdown().await
        }
        () = attend(&up, began, nodes, &data_dir) => StopReason::Shutdown,
    };
    ended(stopped)
}

/// Says when the cluster is ready and what to do then, and never returns.
async fn attend(up: &Up, began: Instant, nodes: u32, data_dir: &str) {
    match timeout(READY_WITHIN, up.ready()).await {
        Ok(()) => {
            let seconds = began.elapsed().as_secs_f64();
            let nodes = if nodes == 1 { "1 hollow node is".to_owned() } else { format!("{nodes} hollow nodes are") };
            // Whoever has closed standard output has no need of it.
            let _ = say(&format!("{nodes} ready after {seconds:.1} s, at https://{}", up.address()));
            let _ = say(&next(up.kubeconfig(), data_dir));
        }
        Err(_) => tracing::warn!("not every node is ready after {} s", READY_WITHIN.as_secs()),
    }
    std::future::pending().await
}

/// What to type next.
fn next(kubeconfig: &str, data_dir: &str) -> String {
    format!(
        "
In another terminal:
  export KUBECONFIG={kubeconfig}
  kubectl get nodes
  kubectl create deployment hello --image=nginx --replicas=3
  kubectl rollout status deployment/hello
  kubectl get pods -o wide

Everything is kept in {data_dir}.
Ctrl-C stops the cluster; the same command goes on where it was."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_kept_where_the_users_data_is() {
        let dir = |data_home: &str, home: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            default_dir(given(data_home), given(home)).unwrap_or_default()
        };
        assert_eq!(dir("/data/", "/home/a"), "/data/seaworthy");
        assert_eq!(dir("", "/home/a"), "/home/a/.local/share/seaworthy");
        assert_eq!(dir("relative", "/home/a"), "/home/a/.local/share/seaworthy");
        assert_eq!(dir("", ""), "");
    }
}
