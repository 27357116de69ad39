//! One look at a container: HTTP, TCP, gRPC, a command. Also what hooks do.
//!
//! Of HTTP only the status line is read, as upstream's probes judge by it alone. HTTPS is not spoken: such a probe fails and
//! says so.

use crate::grpc_health::{self, GrpcError, Health};
use crate::runtime::ContainerRuntime;
use api::IntOrString;
use api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use rt::net::TcpStream;
use rt::time::{Instant, timeout};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A status line that is longer is none.
const MAX_LINE_BYTES: usize = 1024;
/// How long a hook's own HTTP request may take; upstream sets no limit but that of the grace.
const HOOK_LIMIT: Duration = Duration::from_secs(600);

/// What a probe looks at.
#[derive(Clone, Debug)]
pub enum Look {
    /// The status of an answer.
    Http {
        /// `host:port`.
        address: String,
        /// For messages.
        url: String,
        /// The whole request.
        request: String,
    },
    /// Whether a connection can be made: `host:port`.
    Tcp(String),
    /// What a server says of its health by gRPC's protocol for that.
    Grpc {
        /// `host:port`.
        address: String,
        /// Which of its services; empty for the server as a whole.
        service: String,
    },
    /// How a command ends.
    Exec(Vec<String>),
    /// How long to wait: of hooks.
    Sleep(Duration),
    /// It cannot be looked at, for this reason.
    Impossible(String),
}

impl Look {
    /// What a probe of `container` in a pod at `ip` looks at.
    pub fn of(probe: &Probe, container: &Container, ip: IpAddr) -> Look {
        if let Some(exec) = &probe.exec {
            Look::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &probe.http_get {
            http(get, container, ip, "kube-probe/1.35")
        } else if let Some(tcp) = &probe.tcp_socket {
            tcp_to(tcp.host.as_deref(), &tcp.port, container, ip)
        } else if let Some(grpc) = &probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            Look::Grpc { address: join(&ip.to_string(), grpc.port), service }
        } else {
            Look::Impossible("missing probe handler".to_owned())
        }
    }

    /// What a hook of `container` in a pod at `ip` does.
    pub fn of_hook(hook: &LifecycleHandler, container: &Container, ip: IpAddr) -> Look {
        if let Some(exec) = &hook.exec {
            Look::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &hook.http_get {
            http(get, container, ip, "kube-lifecycle/1.35")
        } else if let Some(sleep) = &hook.sleep {
            Look::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
        } else {
            Look::Impossible("invalid handler".to_owned())
        }
    }

    /// Looks, for at most `limit`.
    ///
    /// # Errors
    /// What is wrong with the container, for people.
    pub async fn run(&self, runtime: &dyn ContainerRuntime, id: &str, limit: Duration) -> Result<(), String> {
        match self {
            Look::Http { address, url, request } => match timeout(limit, get(address, request)).await {
                Ok(Ok(200..400)) => Ok(()),
                Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
                Ok(Err(error)) => Err(format!("Get \"{url}\": {}", dialled(address, &error))),
                Err(_) => Err(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )),
            },
            Look::Tcp(address) => match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(dialled(address, &error)),
                Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
            },
            Look::Grpc { address, service } => grpc(address, service, limit).await,
            Look::Exec(command) => match timeout(limit, runtime.exec(id, command)).await {
                Ok(Ok(output)) if output.code == 0 => Ok(()),
                Ok(Ok(output)) if output.output.is_empty() => Err(format!("command exited with {}", output.code)),
                Ok(Ok(output)) => Err(output.output),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("command {:?} timed out", command.join(" "))),
            },
            Look::Sleep(time) => match timeout(limit, rt::time::sleep(*time)).await {
                Ok(()) => Ok(()),
                Err(_) => Err("container terminated before sleep hook finished".to_owned()),
            },
            Look::Impossible(why) => Err(why.clone()),
        }
    }
}

/// Does what a hook says, for as long as it takes; the caller has a limit of its own.
///
/// # Errors
/// What went wrong, for people.
pub async fn perform(look: &Look, runtime: &dyn ContainerRuntime, id: &str) -> Result<(), String> {
    look.run(runtime, id, HOOK_LIMIT).await
}

fn dialled(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::TimedOut => format!("dial tcp {address}: i/o timeout"),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => format!("{address}: {error}"),
    }
}

fn http(get: &HTTPGetAction, container: &Container, ip: IpAddr, agent: &str) -> Look {
    let Some(port) = port(&get.port, container) else { return no_port(&get.port) };
    if get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        return Look::Impossible("HTTPS is not supported by this node agent's probes".to_owned());
    }
    let host = get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_string());
    let address = join(&host, port);
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let given = get.http_headers.as_deref().unwrap_or_default();
    let has = |name: &str| given.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    if !has("Host") {
        request += &format!("Host: {address}\r\n");
    }
    if !has("User-Agent") {
        request += &format!("User-Agent: {agent}\r\n");
    }
    if !has("Accept") {
        request += "Accept: */*\r\n";
    }
    for header in given {
        request += &format!("{}: {}\r\n", header.name, header.value);
    }
    request += "Connection: close\r\n\r\n";
    Look::Http { url: format!("http://{address}{path}"), address, request }
}

fn tcp_to(host: Option<&str>, to: &IntOrString, container: &Container, ip: IpAddr) -> Look {
    let Some(port) = port(to, container) else { return no_port(to) };
    let host = host.filter(|host| !host.is_empty()).map_or_else(|| ip.to_string(), str::to_owned);
    Look::Tcp(join(&host, port))
}

fn no_port(port: &IntOrString) -> Look {
    let shown = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    Look::Impossible(format!("couldn't find port: {shown}"))
}

/// The number of a port that may be named.
fn port(port: &IntOrString, container: &Container) -> Option<i32> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut named = container.ports.iter().flatten().filter(|port| port.name.as_ref() == Some(name));
            match named.next() {
                Some(port) => port.container_port,
                None => name.parse().ok()?,
            }
        }
    };
    (1..=65535).contains(&number).then_some(number)
}

fn join(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks a server by gRPC how it is. Texts follow upstream's.
async fn grpc(address: &str, service: &str, limit: Duration) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("error: failed to connect service: {}", dialled(address, &error))),
        Err(_) => {
            return Err(format!(
                "timeout: failed to connect service {address:?} within {limit:?}: context deadline exceeded"
            ));
        }
    };
    let left = deadline - Instant::now();
    match timeout(left, grpc_health::check(stream, address, service)).await {
        Ok(Ok(Health::Serving)) => Ok(()),
        Ok(Ok(status)) => Err(format!("service unhealthy (responded with {:?})", status.name())),
        Ok(Err(GrpcError::Status { code: grpc_health::UNIMPLEMENTED, message })) => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        Ok(Err(error)) => Err(format!("error: health rpc probe failed: {error}")),
        Err(_) => Err(format!("timeout: health rpc did not complete within {limit:?}")),
    }
}

/// Sends a request and reads the status of the answer.
async fn get(address: &str, request: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut line = Vec::with_capacity(256);
    while !line.contains(&b'\n') {
        if line.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response"));
        }
        if stream.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let text = String::from_utf8_lossy(&line);
    let code = text.split(' ').nth(1).filter(|_| text.starts_with("HTTP/1.")).and_then(|code| code.parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response"))
}
