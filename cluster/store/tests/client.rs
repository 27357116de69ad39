//! The client against members played by the test: what it asks of whom, how often, and what it makes of silence.
#![expect(clippy::unwrap_used, reason = "a member played by the test fails by panicking")]

use rt::net::{OwnedReadHalf, OwnedWriteHalf, TcpListener};
use std::time::Duration;
use store::protocol::{
    FrameReader, MAX_REQUEST_FRAME, MAX_RESPONSE_FRAME, PREAMBLE, ToClient, ToClientBody, ToMember, ToMemberBody,
    decode, put_frame,
};
use store::*;
use tokio::io::AsyncWriteExt;

/// A member that does what the test says.
struct Member {
    listener: TcpListener,
    address: String,
}

/// A connection that the client made to it.
struct Session {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Member {
    async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    async fn accept(&self) -> Session {
        let (stream, _) = self.listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&PREAMBLE).await.unwrap();
        let mut reader = FrameReader::new(reader, MAX_REQUEST_FRAME);
        reader.preamble(&PREAMBLE).await.unwrap();
        Session { reader, writer }
    }
}

impl Session {
    async fn next(&mut self) -> ToMember {
        decode(&self.reader.next().await.unwrap().expect("the client is still there")).unwrap()
    }

    /// The next request's number; it must be a put of `key`.
    async fn put(&mut self, key: &str) -> u64 {
        match self.next().await {
            ToMember { id, body: ToMemberBody::Request(Request::Put(put)) } if put.key == key => id,
            other => panic!("not a put of {key}: {other:?}"),
        }
    }

    /// The next request's number; it must be a watch from `start_revision`.
    async fn watch(&mut self, start_revision: i64) -> u64 {
        match self.next().await {
            ToMember { id, body: ToMemberBody::Watch(watch) } if watch.start_revision == start_revision => id,
            other => panic!("not a watch from {start_revision}: {other:?}"),
        }
    }

    async fn answer(&mut self, id: u64, body: ToClientBody) {
        let mut out = Vec::new();
        put_frame(&mut out, &ToClient { id, body }, MAX_RESPONSE_FRAME).unwrap();
        self.writer.write_all(&out).await.unwrap();
    }

    async fn event(&mut self, id: u64, revision: i64) {
        let kv = KeyValue { key: "k".into(), mod_revision: revision, ..KeyValue::default() };
        let events = vec![Event { kind: EventKind::Put, kv, prev_kv: None }];
        let message = WatchResponse::Events { header: Header::default(), revision, events };
        self.answer(id, ToClientBody::Watch(message)).await;
    }
}

fn put_done(revision: i64) -> ToClientBody {
    let header = Header { revision, ..Header::default() };
    ToClientBody::Response(Response::Put(PutResponse { header, prev_kv: None }))
}

fn unavailable() -> ToClientBody {
    ToClientBody::Error(ClientError::Unavailable("no leader".to_owned()))
}

fn client(members: &[&Member]) -> Client {
    let config = ClientConfig { backoff: Duration::from_millis(1), ..ClientConfig::default() };
    Client::new(members.iter().map(|member| member.address.clone()).collect(), config)
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..PutRequest::default() }
}

fn spawn_put(client: &Client, key: &'static str) -> rt::task::JoinHandle<Result<PutResponse, ClientError>> {
    let client = client.clone();
    rt::task::spawn("put", async move { client.put(put(key)).await })
}

#[test]
fn requests_share_a_connection_and_answers_come_in_any_order() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let first = spawn_put(&client, "a");
        let mut session = member.accept().await;
        let a = session.put("a").await;
        let second = spawn_put(&client, "b");
        let b = session.put("b").await;
        session.answer(b, put_done(3)).await;
        assert_eq!(second.await.unwrap().unwrap().header.revision, 3);
        session.answer(a, put_done(2)).await;
        assert_eq!(first.await.unwrap().unwrap().header.revision, 2);
    });
}

#[test]
fn a_write_of_unknown_outcome_is_not_sent_again() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let asked = spawn_put(&client, "a");
        let mut session = member.accept().await;
        session.put("a").await;
        drop(session);
        assert!(matches!(asked.await.unwrap(), Err(ClientError::Unknown(_))));
        // The next request comes over a new connection, and is the first there.
        let asked = spawn_put(&client, "b");
        let mut session = member.accept().await;
        let b = session.put("b").await;
        session.answer(b, put_done(2)).await;
        assert!(asked.await.unwrap().is_ok());
    });
}

#[test]
fn a_write_that_certainly_had_no_effect_is_asked_of_another_member() {
    rt::task::block_on(async {
        let (one, other) = (Member::new().await, Member::new().await);
        let client = client(&[&one, &other]);
        let asked = spawn_put(&client, "a");
        let (first, second) = tokio::select! {
            biased;
            session = one.accept() => (session, &other),
            session = other.accept() => (session, &one),
        };
        let mut first = first;
        let id = first.put("a").await;
        first.answer(id, unavailable()).await;
        let mut session = second.accept().await;
        let id = session.put("a").await;
        session.answer(id, put_done(2)).await;
        assert!(asked.await.unwrap().is_ok());
    });
}

#[test]
fn a_refusal_is_final() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let asked = spawn_put(&client, "a");
        let mut session = member.accept().await;
        let id = session.put("a").await;
        session.answer(id, ToClientBody::Error(RefusedKind::LeaseNotFound.into())).await;
        assert_eq!(asked.await.unwrap(), Err(ClientError::Refused(RefusedKind::LeaseNotFound)));
    });
}

#[test]
fn a_read_whose_connection_breaks_is_asked_again() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let asked = {
            let client = client.clone();
            let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
            rt::task::spawn("read", async move { client.range(read).await })
        };
        for last in [false, true] {
            let mut session = member.accept().await;
            let ToMember { id, body: ToMemberBody::Request(Request::Range(_)) } = session.next().await else {
                panic!("not a read");
            };
            if last {
                session.answer(id, ToClientBody::Response(Response::Range(RangeResponse::default()))).await;
                // The session must outlive the answer's way.
                assert!(asked.await.unwrap().is_ok());
                break;
            }
        }
    });
}

#[test]
fn another_version_is_told_by_name() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let config = ClientConfig { request_timeout: Duration::from_millis(200), ..ClientConfig::default() };
        let client = Client::new(vec![member.address.clone()], config);
        let serve = rt::task::spawn("foreign member", async move {
            let mut sessions = Vec::new();
            loop {
                let (stream, _) = member.listener.accept().await.unwrap();
                let (reader, mut writer) = stream.into_split();
                writer.write_all(b"SWKV\x63").await.unwrap();
                sessions.push((reader, writer));
            }
        })
        .abort_on_drop();
        let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
        let error = client.range(read).await.unwrap_err().to_string();
        assert!(error.contains("speaks version 99"), "{error}");
        drop(serve);
    });
}

#[test]
fn a_watch_resumes_after_the_last_revision_it_was_told() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let request = WatchRequest { key: "k".into(), start_revision: 5, ..WatchRequest::default() };
        let mut watch = client.resuming_watch(request);
        let told = rt::task::spawn("watcher", async move {
            let mut told = Vec::new();
            while let Ok(message) = watch.next().await {
                match message {
                    WatchResponse::Events { revision, .. } => told.push(revision),
                    WatchResponse::Progress { .. } => panic!("nobody asked for bookmarks"),
                    WatchResponse::Canceled { compact_revision, .. } => {
                        told.push(-compact_revision);
                        break;
                    }
                }
            }
            told
        });
        let mut session = member.accept().await;
        let id = session.watch(5).await;
        session.event(id, 7).await;
        drop(session);
        let mut session = member.accept().await;
        let id = session.watch(8).await;
        session.event(id, 11).await;
        // A bookmark counts although the caller is not told.
        session.answer(id, ToClientBody::Watch(WatchResponse::Progress { revision: 20 })).await;
        drop(session);
        let mut session = member.accept().await;
        let id = session.watch(21).await;
        session.event(id, 21).await;
        session.answer(id, unavailable()).await;
        let id = session.watch(22).await;
        let over = WatchResponse::Canceled { compact_revision: 30, reason: String::new() };
        session.answer(id, ToClientBody::Watch(over)).await;
        assert_eq!(told.await.unwrap(), [7, 11, 21, -30]);
    });
}

#[test]
fn a_dropped_watch_is_cancelled_at_its_next_message() {
    rt::task::block_on(async {
        let member = Member::new().await;
        let client = client(&[&member]);
        let mut watch = client.watch(WatchRequest { key: "k".into(), ..WatchRequest::default() });
        let told = rt::task::spawn("watcher", async move { watch.next().await });
        let mut session = member.accept().await;
        let id = session.watch(0).await;
        session.event(id, 7).await;
        assert!(told.await.unwrap().is_ok());
        session.event(id, 8).await;
        assert_eq!(session.next().await, ToMember { id, body: ToMemberBody::CancelWatch });
        drop(client);
    });
}
