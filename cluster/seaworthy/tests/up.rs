//! `Up` on a real machine: who is let in, what is open, what is refused.
#![cfg(not(madsim))]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{ClientConfig, Error, ListOptions};
use rt::net::TcpStream;
use rt::time::{Timestamp, timeout};
use rt::tls::ClientTls;
use seaworthy::{DataDirError, PodRange, ProcessError, Up, UpConfig, kubeconfig};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use store::server::StopReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A directory of one test, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("up-{name}-{}", std::process::id())))
    }

    /// One node, at ports and addresses of its own.
    fn config(&self) -> UpConfig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_add(100 * COUNT.fetch_add(1, Ordering::Relaxed)) % 250 + 1;
        let pods: PodRange = format!("127.{number}.0.0/16").parse().unwrap();
        UpConfig { listen: "127.0.0.1:0".to_owned(), pods, ..UpConfig::new(self.0.join("data").to_str().unwrap()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a cluster, waits until it is ready, does `work` and stops it.
fn with<T>(config: UpConfig, work: impl AsyncFnOnce(&Up) -> T) -> T {
    rt::task::block_on(async {
        let up = Up::start(config).await.unwrap();
        timeout(Duration::from_secs(60), up.ready()).await.unwrap();
        let done = work(&up).await;
        assert_eq!(up.shutdown().await, StopReason::Shutdown);
        done
    })
}

fn refused(config: UpConfig) -> ProcessError {
    rt::task::block_on(Up::start(config)).expect_err("it must not start")
}

/// The value of a line `key: value` of a kubeconfig.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": ")).unwrap()
}

/// The status line of an answer to a request with an `Authorization` line, which may be empty.
async fn ask(up: &Up, tls: &ClientTls, path: &str, authorization: &str) -> String {
    let address = up.address().to_string();
    let mut stream = TcpStream::connect_secured(&address, tls).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Every file and directory below a path.
fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| walk(&entry.unwrap().path(), found));
    }
}

/// Inodes of sockets that this process listens with, each with its address, as the kernel writes it.
fn listeners() -> Vec<String> {
    let own: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6", "/proc/self/net/udp", "/proc/self/net/udp6"];
    let mut found = Vec::new();
    for line in tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let listens = words.get(3) == Some(&"0A");
        if listens && own.contains(&format!("socket:[{}]", words[9])) {
            found.push(words[1].to_owned());
        }
    }
    found
}

#[test]
fn nothing_is_open_wider_than_it_must_be() {
    let place = Place::new("open");
    let config = place.config();
    with(config, async |up| {
        let mut paths = Vec::new();
        walk(&place.0.join("data"), &mut paths);
        assert!(paths.len() > 8, "{paths:?}");
        for path in &paths {
            let metadata = fs::metadata(path).unwrap();
            let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
            assert_eq!(metadata.uid(), fs::metadata("/proc/self").unwrap().uid());
        }
        let api_server = format!("0100007F:{:04X}", up.address().port());
        let others: Vec<String> =
            listeners().into_iter().filter(|address| !address.ends_with(&api_server[8..])).collect();
        assert!(listeners().contains(&api_server), "{:?}", listeners());
        // Tests of the same process may have theirs: on loopback too.
        assert!(others.iter().all(|address| address.split(':').next().unwrap().ends_with("7F")), "{others:?}");
    });
}

#[test]
fn nobody_is_served_without_showing_who_they_are() {
    let place = Place::new("shown");
    let config = place.config();
    with(config, async |up| {
        let text = fs::read_to_string(up.kubeconfig()).unwrap();
        let authority = STANDARD.decode(value(&text, "certificate-authority-data"));
        let nobody = ClientTls::new(&String::from_utf8(authority.unwrap()).unwrap(), None).unwrap();
        let token = format!("Authorization: Bearer {}\r\n", value(&text, "token"));
        assert_eq!(ask(up, &nobody, "/api/v1/nodes", &token).await, "HTTP/1.1 200 OK");
        assert_eq!(ask(up, &nobody, "/api/v1/nodes", "").await, "HTTP/1.1 401 Unauthorized");
        let wrong = token.replace(|c: char| c.is_ascii_digit(), "x");
        assert_eq!(ask(up, &nobody, "/api/v1/nodes", &wrong).await, "HTTP/1.1 401 Unauthorized");
        assert_eq!(ask(up, &nobody, "/livez", &wrong).await, "HTTP/1.1 401 Unauthorized");
        assert_eq!(ask(up, &nobody, "/readyz", "").await, "HTTP/1.1 200 OK");
        assert_eq!(ask(up, &nobody, "/version", "").await, "HTTP/1.1 200 OK");
        // In the clear nothing is said at all.
        let mut plain = TcpStream::connect(&up.address().to_string()).await.unwrap();
        plain.write_all(format!("GET /api/v1/nodes HTTP/1.1\r\n{token}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"), "{answer:?}");
    });
}

#[test]
fn a_new_start_keeps_the_authority_and_the_token() {
    let place = Place::new("again");
    let config = place.config();
    let first = with(config.clone(), async |up| fs::read_to_string(up.kubeconfig()).unwrap());
    let second = with(config, async |up| fs::read_to_string(up.kubeconfig()).unwrap());
    let same = |key| assert_eq!(value(&first, key), value(&second, key));
    same("token");
    same("certificate-authority-data");
}

#[test]
fn a_directory_in_use_is_refused() {
    let place = Place::new("in-use");
    let config = place.config();
    with(config.clone(), async |_| {
        let error = Up::start(config).await.expect_err("it is in use");
        assert!(matches!(error, ProcessError::DataDir(DataDirError::InUse(_))), "{error}");
    });
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_as_it_was() {
    let place = Place::new("foreign");
    let data = place.0.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("photo.jpg"), "x").unwrap();
    let error = refused(place.config());
    assert!(
        matches!(&error, ProcessError::DataDir(DataDirError::NotOurs { found, .. }) if found == "photo.jpg"),
        "{error}"
    );
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    fs::remove_file(data.join("photo.jpg")).unwrap();
    fs::write(data.join("VERSION"), "seaworthy up 99\n").unwrap();
    let error = refused(place.config());
    assert!(
        matches!(&error, ProcessError::DataDir(DataDirError::Format { found, .. }) if found == "seaworthy up 99"),
        "{error}"
    );
}

#[test]
fn a_port_in_use_leaves_no_directory_behind() {
    let place = Place::new("port");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let error = refused(UpConfig { listen: listen.clone(), ..place.config() });
    assert!(matches!(&error, ProcessError::Listen(error) if error.address == listen), "{error}");
    assert!(!place.0.exists());
}

#[test]
fn a_damaged_authority_is_not_replaced_in_silence() {
    let place = Place::new("damaged");
    with(place.config(), async |_| ());
    fs::write(place.0.join("data/authority.pem"), "rust").unwrap();
    let error = refused(place.config());
    assert!(error.to_string().contains("authority.pem is damaged"), "{error}");
}

#[test]
fn a_kubeconfig_of_somebody_else_is_left_alone() {
    let place = Place::new("kubeconfig");
    fs::create_dir_all(&place.0).unwrap();
    let path = place.0.join("config");
    fs::write(&path, "apiVersion: v1\n").unwrap();
    let config = UpConfig { kubeconfig: Some(path.to_str().unwrap().to_owned()), ..place.config() };
    let error = refused(config.clone());
    assert!(matches!(error, ProcessError::Kubeconfig(kubeconfig::WriteError::Foreign(_))), "{error}");
    fs::remove_file(&path).unwrap();
    with(config, async |up| assert_eq!(up.kubeconfig(), path.to_str().unwrap()));
    assert!(!place.0.join("data/kubeconfig").exists());
}

#[test]
fn more_nodes_than_addresses_are_refused() {
    let place = Place::new("many");
    let config = UpConfig { pods: "127.9.0.0/22".parse().unwrap(), nodes: 4, ..place.config() };
    assert_eq!(refused(config).to_string(), "127.9.0.0/22 has addresses for 3 nodes, not for 4");
}

#[test]
fn an_authority_that_expires_soon_is_made_anew() {
    let place = Place::new("expiry");
    with(place.config(), async |_| ());
    let file = place.0.join("data/authority.pem");
    let soon = {
        let now = Timestamp::now().unix_ns / 1_000_000_000 * 1_000_000_000;
        let at = |seconds: i64| Timestamp { unix_ns: now + seconds * 1_000_000_000 };
        rt::tls::authority("seaworthy-ca", rt::tls::Validity { from: at(-60), until: at(30 * 24 * 3600) }).unwrap()
    };
    fs::write(&file, format!("{}{}", soon.certificate, soon.key)).unwrap();
    let kept = with(place.config(), async |up| {
        let old = ClientTls::new(&soon.certificate, None).unwrap();
        let reached = TcpStream::connect_secured(&up.address().to_string(), &old).await;
        reached.is_ok()
    });
    assert!(!kept && !fs::read_to_string(&file).unwrap().contains(&soon.certificate));
}

#[test]
fn an_administrators_client_may_do_anything_and_a_stranger_nothing() {
    let place = Place::new("admin");
    with(place.config(), async |up| {
        let list = up.admin().list::<api::core::v1::Node>("", &ListOptions::default()).await.unwrap();
        assert_eq!(list.items.len(), 1);
        let endpoint = vec![up.address().to_string()];
        let stranger =
            client::Client::new(ClientConfig::new(endpoint, "stranger")).with_limits(Duration::from_secs(5), 1);
        let refused = stranger.list::<api::core::v1::Node>("", &ListOptions::default()).await;
        assert!(matches!(refused, Err(Error::Unreachable(_))), "{refused:?}");
    });
}
