//! `seaworthy server` and `seaworthy agent`: from their arguments to their end.

use crate::args::{AgentArgs, ServerArgs};
use crate::config_file::{AgentFile, ServerFile, Setting, Source};
use crate::here::default_dir;
use crate::{FAILED, USAGE, ended, fail, say, version};
use seaworthy::{
    AgentProcess, AgentProcessConfig, JoinToken, Named, PodRange, ProcessError, ServerProcess, ServerProcessConfig,
};
use std::net::IpAddr;
use std::process::ExitCode;
use store::Format;

/// The environment variable with a token, so that it is on no command line.
pub const TOKEN_VARIABLE: &str = "SEAWORTHY_TOKEN";

/// What `main` reads for this module: it alone may touch files and the environment.
#[derive(Debug, Default)]
pub struct Given {
    /// The configuration file, if one is named.
    pub source: Source,
    /// Of [`TOKEN_VARIABLE`].
    pub token: Option<String>,
    /// `XDG_DATA_HOME` and `HOME`.
    pub homes: [Option<String>; 2],
}

/// The configuration that arguments and file describe; `read` reads a file with a token.
///
/// # Errors
/// What is wrong with them, in one sentence.
pub fn server_config(
    args: ServerArgs,
    given: &Given,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<ServerProcessConfig, String> {
    let source = &given.source;
    let file: ServerFile = source.parse()?;
    let one = |flag, file| Setting::of(flag, file, source);
    let servers = Setting::all(args.servers, file.server, source);
    let servers: Vec<Named> = servers.iter().map(|setting| setting.read(named)).collect::<Result<_, _>>()?;
    let name = one(args.name, file.name).ok_or("a server needs its name: --name NAME, or name in the file")?;
    if servers.is_empty() {
        return Err("the servers are not named: --server NAME=HOST:PORT,HOST:PORT, once for each of them".to_owned());
    }
    let pods = one(args.pod_cidr, file.pod_cidr).map(|setting| setting.read(str::parse::<PodRange>)).transpose()?;
    let format =
        one(args.store_format, file.store_format).map(|setting| setting.read(str::parse::<Format>)).transpose()?;
    let in_flight = one(args.max_requests_inflight, file.max_requests_inflight);
    let names = Setting::all(args.tls_names, file.tls_name, source);
    Ok(ServerProcessConfig {
        data_dir: data_dir(one(args.data_dir, file.data_dir), given, "server")?,
        name: name.value,
        servers,
        listen: one(args.listen, file.listen).map(|setting| setting.value),
        listen_peer: one(args.listen_peer, file.listen_peer).map(|setting| setting.value),
        names: names.into_iter().map(|setting| setting.value).collect(),
        pods: pods.unwrap_or_default(),
        token: token(one(args.token_file, file.token_file), given, read)?,
        store_format: format.unwrap_or(Format::LATEST),
        max_requests_in_flight: in_flight.map(|setting| setting.read(requests)).transpose()?,
        build: version::build(),
    })
}

/// With fewer, levels that have one seat each come to more than what was asked for.
const LEAST_REQUESTS: usize = 7;

fn requests(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number >= LEAST_REQUESTS);
    number.ok_or_else(|| format!("{text} is no number of requests; allowed are {LEAST_REQUESTS} and more"))
}

/// The configuration that arguments and file describe; `read` reads a file with a token.
///
/// # Errors
/// What is wrong with them, in one sentence.
pub fn agent_config(
    args: AgentArgs,
    given: &Given,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<AgentProcessConfig, String> {
    let source = &given.source;
    let file: AgentFile = source.parse()?;
    let one = |flag, file| Setting::of(flag, file, source);
    let node = one(args.node, file.node).ok_or("an agent needs its node's name: --node NAME, or node in the file")?;
    let servers = Setting::all(args.servers, file.server, source);
    let servers: Vec<String> = servers.iter().map(|setting| setting.read(address)).collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err("no API server is named: --server HOST:PORT, or server in the file".to_owned());
    }
    let ip = one(args.ip, file.ip).map(|setting| setting.read(str::parse::<IpAddr>)).transpose()?;
    Ok(AgentProcessConfig {
        data_dir: data_dir(one(args.data_dir, file.data_dir), given, "agent")?,
        ip: ip.unwrap_or_else(|| PodRange::default().node_named(&node.value)),
        node: node.value,
        servers,
        token: token(one(args.token_file, file.token_file), given, read)?,
    })
}

fn data_dir(setting: Option<Setting<'_>>, given: &Given, role: &str) -> Result<String, String> {
    let [data_home, home] = given.homes.clone();
    match setting {
        Some(setting) => Ok(setting.value),
        None => default_dir(data_home, home)
            .map(|dir| format!("{dir}-{role}"))
            .ok_or_else(|| "there is no home directory to keep data in; name a directory with --data-dir".to_owned()),
    }
}

fn token(
    file: Option<Setting<'_>>,
    given: &Given,
    read: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<JoinToken>, String> {
    let parse = |text: String| text.parse::<JoinToken>().map_err(|error| error.to_string());
    match (&given.token, file) {
        (Some(text), _) => parse(text.clone()).map(Some).map_err(|error| format!("{TOKEN_VARIABLE}: {error}")),
        (None, Some(file)) => file.read(|path| read(path).and_then(parse)).map(Some),
        (None, None) => Ok(None),
    }
}

/// `NAME=HOST:PORT,HOST:PORT`.
fn named(text: &str) -> Result<Named, String> {
    let form = || format!("server {text} is not of the form NAME=HOST:PORT,HOST:PORT");
    let (name, addresses) = text.split_once('=').ok_or_else(form)?;
    let (peer, api) = addresses.split_once(',').ok_or_else(form)?;
    if name.is_empty() {
        return Err(form());
    }
    let part = |text| address(text).map_err(|_| form());
    Ok(Named { name: name.to_owned(), peer: part(peer)?, api: part(api)? })
}

/// `HOST:PORT`.
fn address(text: &str) -> Result<String, String> {
    let form = || format!("{text} is not of the form HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
    if host.is_empty() || host.contains(',') || port.parse::<u16>().is_err() {
        return Err(form());
    }
    Ok(text.to_owned())
}

/// Runs a server until it is told to stop or cannot go on.
pub async fn server(config: ServerProcessConfig) -> ExitCode {
    let server = match ServerProcess::start(config).await {
        Ok(server) => server,
        Err(error) => return failed(&error),
    };
    let [servers, agents] = server.tokens();
    let _ = say(&format!(
        "kubeconfig: {}\ntoken for further servers: {servers}\ntoken for agents: {agents}",
        server.kubeconfig()
    ));
    let stopped = tokio::select! {
        biased;
        reason = server.stopped() => reason,
        () = rt::task::shutdown_signal() => {
            tracing::info!("shutting down");
            server.shutdown().await
        }
    };
    ended(stopped)
}

/// Runs an agent until it is told to stop.
pub async fn agent(config: AgentProcessConfig) -> ExitCode {
    let started = tokio::select! {
        biased;
        started = AgentProcess::start(config) => started,
        () = rt::task::shutdown_signal() => return ExitCode::SUCCESS,
    };
    match started {
        Ok(agent) => {
            rt::task::shutdown_signal().await;
            tracing::info!("shutting down");
            agent.shutdown().await;
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &ProcessError) -> ExitCode {
    let code = if matches!(error, ProcessError::Config(_)) { USAGE } else { FAILED };
    fail(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(file: &str) -> Given {
        Given {
            source: Source { path: "c.toml".to_owned(), text: file.to_owned() },
            token: None,
            homes: [None, Some("/home/a".to_owned())],
        }
    }

    fn server(file: &str) -> Result<ServerProcessConfig, String> {
        server_config(ServerArgs::default(), &given(file), |path| Err(format!("{path}: there is none")))
    }

    #[test]
    fn a_file_can_say_all_of_it() {
        let config = server(
            "name = \"s1\"\nserver = [\"s1=a:1,a:2\", \"s2=b:1,b:2\"]\npod-cidr = \"127.9.0.0/16\"\n\
                             max-requests-inflight = \"80\"\n",
        );
        let config = config.unwrap();
        assert_eq!(config.max_requests_in_flight, Some(80));
        assert_eq!((config.name.as_str(), config.servers[1].api.as_str()), ("s1", "b:2"));
        assert_eq!(
            (config.data_dir.as_str(), config.pods.to_string().as_str()),
            ("/home/a/.local/share/seaworthy-server", "127.9.0.0/16")
        );
    }

    #[test]
    fn what_is_wrong_in_the_file_is_said_with_its_line() {
        assert_eq!(
            server("name = \"s1\"\nserver = [\n\"s1=a:1\"]\n").unwrap_err(),
            "c.toml, line 3: server s1=a:1 is not of the form NAME=HOST:PORT,HOST:PORT"
        );
        assert_eq!(
            server("name = \"s1\"\nserver = [\"s1=a:1,a:2\"]\nstore-format = \"9\"\n").unwrap_err(),
            "c.toml, line 3: store format 9 is not known; allowed are 1 to 2"
        );
        assert_eq!(
            server("name = \"s1\"\nserver = [\"s1=a:1,a:2\"]\nmax-requests-inflight = \"6\"\n").unwrap_err(),
            "c.toml, line 3: 6 is no number of requests; allowed are 7 and more"
        );
        assert_eq!(
            server("name = \"s1\"\nserver = [\"s1=a:1,a:2\"]\n\ntoken-file = \"t\"\n").unwrap_err(),
            "c.toml, line 4: t: there is none"
        );
        assert!(
            server("name = \"s1\"\nserver = [\"s1=a:1,a:2\"]\npod-cidr = \"x\"\n")
                .unwrap_err()
                .starts_with("c.toml, line 3: x is no range")
        );
        assert!(server("server = [\"s1=a:1,a:2\"]\n").unwrap_err().starts_with("a server needs its name"));
    }

    #[test]
    fn a_token_of_the_environment_comes_before_a_files() {
        let token = format!("sw1.agent.{}.ff", "0a".repeat(32));
        let mut given = given("node = \"n1\"\nserver = [\"a:1\"]\ntoken-file = \"t\"\n");
        given.token = Some(token.clone());
        let config = agent_config(AgentArgs::default(), &given, |_| Err("not asked".to_owned())).unwrap();
        assert_eq!(config.token.unwrap().to_string(), token);
        given.token = Some("x".to_owned());
        let error = agent_config(AgentArgs::default(), &given, |_| Ok(token.clone())).unwrap_err();
        assert!(error.starts_with("SEAWORTHY_TOKEN: the token is not of the form"), "{error}");
    }
}
