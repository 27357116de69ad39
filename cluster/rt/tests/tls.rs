//! Secured streams over real sockets: who is let in, and who is believed.
#![cfg(feature = "tls")]
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing where it stands")]

use rt::net::{TcpListener, TcpStream};
use rt::time::{Timestamp, timeout};
use rt::tls::{ClientTls, Pair, ServerTls, Subject, TlsError, Usage, Validity, Wanted, authority, issue, read};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// From an hour ago on, for `hours`.
fn validity(hours: i64) -> Validity {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let from = Timestamp::now().unix_ns / 1_000_000_000 * 1_000_000_000 - HOUR_NS;
    Validity { from: Timestamp { unix_ns: from }, until: Timestamp { unix_ns: from + hours * HOUR_NS } }
}

fn wanted(common_name: &str, organization: Option<&str>, names: &[&str], usage: Usage) -> Wanted {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Wanted { common_name: common_name.to_owned(), organization: organization.map(str::to_owned), names, usage }
}

/// Certificates of one cluster.
struct Cluster {
    authority: Pair,
    server: Pair,
}

impl Cluster {
    fn new(server_hours: i64) -> Self {
        let authority = authority("test-ca", validity(48)).unwrap();
        let server = wanted("server", None, &["localhost", "127.0.0.1", "::1"], Usage::Server);
        Self { server: issue(&authority, &server, validity(server_hours)).unwrap(), authority }
    }

    fn client(&self, name: &str, group: &str) -> Pair {
        issue(&self.authority, &wanted(name, Some(group), &[], Usage::Client), validity(24)).unwrap()
    }
}

/// What the server learns of the client and what it reads, and what the client reads, when both say something.
async fn talk(
    server: ServerTls,
    client: ClientTls,
    host: &str,
) -> (io::Result<(Option<Subject>, String)>, io::Result<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("{host}:{}", listener.local_addr().unwrap().port());
    let serve = async {
        let mut stream = listener.accept().await?.0.secure(&server).await?;
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await?;
        stream.write_all(b"pong").await?;
        stream.shutdown().await?;
        Ok((stream.peer_subject().cloned(), String::from_utf8_lossy(&heard).into_owned()))
    };
    let ask = async {
        let mut stream = TcpStream::connect_secured(&address, &client).await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        Ok(heard)
    };
    tokio::join!(serve, ask)
}

fn run(
    server: ServerTls,
    client: ClientTls,
    host: &str,
) -> (io::Result<(Option<Subject>, String)>, io::Result<String>) {
    rt::task::block_on(talk(server, client, host))
}

#[test]
fn a_server_learns_who_a_client_with_a_certificate_is() {
    let cluster = Cluster::new(24);
    let server = ServerTls::new(&cluster.server, &cluster.authority.certificate).unwrap();
    let pair = cluster.client("system:node:n1", "system:nodes");
    let client = ClientTls::new(&cluster.authority.certificate, Some(&pair)).unwrap();
    let (served, heard) = run(server, client, "127.0.0.1");
    let expected = Subject { common_name: "system:node:n1".into(), organizations: vec!["system:nodes".into()] };
    assert_eq!(served.unwrap(), (Some(expected), "ping".to_owned()));
    assert_eq!(heard.unwrap(), "pong");
}

#[test]
fn a_client_without_a_certificate_is_served_and_is_nobody() {
    let cluster = Cluster::new(24);
    let server = ServerTls::new(&cluster.server, &cluster.authority.certificate).unwrap();
    let client = ClientTls::new(&cluster.authority.certificate, None).unwrap();
    let (served, heard) = run(server, client, "localhost");
    assert_eq!(served.unwrap().0, None);
    assert_eq!(heard.unwrap(), "pong");
}

#[test]
fn a_client_with_a_certificate_of_another_authority_is_refused() {
    let (cluster, other) = (Cluster::new(24), Cluster::new(24));
    let server = ServerTls::new(&cluster.server, &cluster.authority.certificate).unwrap();
    let pair = other.client("admin", "system:masters");
    let client = ClientTls::new(&cluster.authority.certificate, Some(&pair)).unwrap();
    let (served, heard) = run(server, client, "127.0.0.1");
    assert!(served.is_err() && heard.is_err());
}

#[test]
fn a_server_is_believed_only_with_a_valid_certificate_of_its_name_and_authority() {
    let (cluster, other, expired) = (Cluster::new(24), Cluster::new(24), Cluster::new(0));
    let ask = |cluster: &Cluster, trusted: &Cluster, host: &str| {
        let server = ServerTls::new(&cluster.server, &cluster.authority.certificate).unwrap();
        run(server, ClientTls::new(&trusted.authority.certificate, None).unwrap(), host).1.map_err(|error| error.kind())
    };
    assert_eq!(ask(&cluster, &cluster, "127.0.0.1").unwrap(), "pong");
    assert_eq!(ask(&cluster, &other, "127.0.0.1"), Err(io::ErrorKind::InvalidData));
    assert_eq!(ask(&expired, &expired, "127.0.0.1"), Err(io::ErrorKind::InvalidData));
    let elsewhere = issue(&cluster.authority, &wanted("server", None, &["127.0.0.9"], Usage::Server), validity(24));
    let elsewhere = Cluster { authority: cluster.authority.clone(), server: elsewhere.unwrap() };
    assert_eq!(ask(&elsewhere, &cluster, "127.0.0.1"), Err(io::ErrorKind::InvalidData));
}

#[test]
fn a_certificate_says_what_it_was_made_for() {
    let authority = authority("test-ca", validity(48)).unwrap();
    let names = ["localhost", "kubernetes.default.svc", "127.0.0.1", "fd00::1"];
    let validity = validity(24);
    let pair = issue(&authority, &wanted("kube-apiserver", Some("group"), &names, Usage::Peer), validity).unwrap();
    let certificate = read(&pair.certificate).unwrap();
    assert_eq!(certificate.subject.common_name, "kube-apiserver");
    assert_eq!(certificate.subject.organizations, ["group"]);
    assert_eq!(certificate.names, names);
    assert_eq!(certificate.validity, validity);
    assert_eq!(read(&authority.certificate).unwrap().subject.common_name, "test-ca");
}

#[test]
fn an_authoritys_hash_is_that_of_its_public_key() {
    // Made by openssl, and so is the hash: `openssl pkey -pubin -outform der | sha256sum`.
    let pem = include_str!("data/ca.pem");
    assert_eq!(rt::tls::public_key_hash(pem).unwrap(), include_str!("data/ca.hash").trim());
    assert_eq!(read(pem).unwrap().subject.organizations, ["one", "two"]);
}

#[test]
fn what_is_no_certificate_is_refused_in_words() {
    let pair = Pair { certificate: "none".into(), key: "none".into() };
    assert!(matches!(ServerTls::new(&pair, "none"), Err(TlsError::Malformed(_))));
    assert!(matches!(ClientTls::new("none", None), Err(TlsError::Malformed(_))));
    assert!(matches!(read("none"), Err(TlsError::Malformed(_))));
    assert!(!format!("{pair:?}").contains("key"), "a key must not be shown");
}

#[test]
fn what_was_written_travels_without_being_flushed() {
    const MOMENT: Duration = Duration::from_millis(200);
    let cluster = Cluster::new(24);
    let server = ServerTls::new(&cluster.server, &cluster.authority.certificate).unwrap();
    let client = ClientTls::new(&cluster.authority.certificate, None).unwrap();
    rt::task::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accept = async { listener.accept().await.unwrap().0.secure(&server).await.unwrap() };
        let (accepted, connected) = tokio::join!(accept, TcpStream::connect_secured(&address, &client));
        let (mut theirs, _their_writer) = accepted.into_split();
        let (mut reader, mut writer) = connected.unwrap().into_split();
        // Nobody reads until nothing more is taken: then a part is where only this process can push it on.
        let mut written = 0;
        while let Ok(n) = timeout(MOMENT, writer.write(&[7; 4096])).await {
            written += n.unwrap();
        }
        // The task goes on as a member's does: it waits for an answer, and never flushes.
        let wait = async { drop(reader.read(&mut [0; 8]).await) };
        let read = async {
            let mut bytes = vec![0; written];
            timeout(50 * MOMENT, theirs.read_exact(&mut bytes)).await.expect("all of it comes").unwrap();
            bytes
        };
        let bytes = tokio::select! {
            biased;
            bytes = read => bytes,
            () = wait => panic!("there is no answer"),
        };
        assert!(bytes.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn a_pinned_authority_is_believed_and_no_other() {
    let (cluster, other) = (Cluster::new(24), Cluster::new(24));
    let hash = rt::tls::public_key_hash(&cluster.authority.certificate).unwrap();
    let ask = |shown: String| {
        let pair = Pair { certificate: shown, key: cluster.server.key.clone() };
        let server = ServerTls::new(&pair, &cluster.authority.certificate).unwrap();
        run(server, ClientTls::pinned(&hash).unwrap(), "127.0.0.1").1.map_err(|error| error.kind())
    };
    let own = &cluster.server.certificate;
    assert_eq!(ask(format!("{own}{}", cluster.authority.certificate)).unwrap(), "pong");
    assert_eq!(ask(own.clone()), Err(io::ErrorKind::InvalidData));
    assert_eq!(ask(format!("{own}{}", other.authority.certificate)), Err(io::ErrorKind::InvalidData));
    // The pinned authority is there, but it has not signed what the server shows.
    let foreign =
        issue(&other.authority, &wanted("server", None, &["127.0.0.1"], Usage::Server), validity(24)).unwrap();
    let pair = Pair {
        certificate: format!("{}{}", foreign.certificate, cluster.authority.certificate),
        key: foreign.key.clone(),
    };
    let server = ServerTls::new(&pair, &cluster.authority.certificate).unwrap();
    assert!(run(server, ClientTls::pinned(&hash).unwrap(), "127.0.0.1").1.is_err());
}
