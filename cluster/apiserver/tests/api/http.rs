//! Over real sockets.

use apiserver::{AllowAll, ApiServer, Config, MemoryStore};
use rt::net::TcpStream;
use rt::time::timeout;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn start() -> ApiServer {
    let all = Arc::new(AllowAll);
    let store = Arc::new(MemoryStore::new());
    let server = ApiServer::start(Config::new("127.0.0.1:0"), store, all.clone(), all).await;
    server.expect("there is a free port")
}

async fn connect(server: &ApiServer) -> TcpStream {
    TcpStream::connect(&server.address().to_string()).await.expect("it listens")
}

/// Sends a request and reads until `end` comes.
async fn ask(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&answer).contains(end) {
            let mut chunk = [0; 4_096];
            let n = stream.read(&mut chunk).await.expect("it answers");
            if n == 0 {
                break;
            }
            answer.extend_from_slice(&chunk[..n]);
        }
    };
    timeout(Duration::from_secs(5), read).await.expect("it answers in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_connection_serves_one_request_after_another_and_a_watch() {
    rt::task::block_on(async {
        let server = start().await;
        let mut stream = connect(&server).await;
        let version = ask(&mut stream, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n", "}").await;
        assert!(version.starts_with("HTTP/1.1 200 OK") && version.contains("\"minor\":\"35\""), "{version}");
        let live = ask(&mut stream, "GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n", "passed").await;
        assert!(live.contains("[+]ping ok\nlivez check passed"), "{live}");
        let watch = "GET /api/v1/namespaces?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n";
        let events = ask(&mut stream, watch, "\"kube-system\"").await;
        assert!(events.contains("transfer-encoding: chunked") && events.contains("{\"type\":\"ADDED\""), "{events}");
        assert_eq!((server.view().open_watches, server.view().connections), (1, 1));
        let mut rest = Vec::new();
        let shutdown = async { server.shutdown().await };
        let (_, ended) = (shutdown.await, timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await);
        assert!(ended.is_ok(), "a watch ends with its server");
        assert!(String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "and it ends cleanly");
        assert_eq!(server.view().open_watches, 0);
        assert!(TcpStream::connect(&server.address().to_string()).await.is_err());
    });
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    rt::task::block_on(async {
        let server = start().await;
        let mut stream = connect(&server).await;
        let length = 4 << 20;
        let head = format!("POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let body = "x".repeat(length);
        let (reader, mut writer) = stream.into_split();
        let sent = rt::task::spawn("sender", async move {
            // The server need not read all of it.
            let _ = writer.write_all((head + &body).as_bytes()).await;
            writer
        });
        let mut reader = reader;
        let mut answer = vec![0; 4_096];
        let n =
            timeout(Duration::from_secs(5), reader.read(&mut answer)).await.expect("it answers").expect("it answers");
        let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("limit is 3145728"), "{answer}");
        drop(sent);
        stream = connect(&server).await;
        let garbage = ask(&mut stream, "what is this\r\n\r\n", "\r\n\r\n").await;
        assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    });
}
