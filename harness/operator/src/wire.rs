//! One request to the API server, on a connection of its own.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use rt::net::TcpStream;
use rt::task::AbortOnDrop;
use rt::time::{sleep, timeout};
use serde_json::Value;
use std::time::Duration;

/// Where the API server listens.
pub const SERVER: &str = "s1:6443";

/// As long as a client waits for an answer, bodies of watches apart.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a request. The connection lives as long as what comes with the answer.
pub async fn send(mut request: Request<Bytes>) -> Result<(Response<Incoming>, AbortOnDrop<()>), String> {
    request.headers_mut().insert(HOST, HeaderValue::from_static(SERVER));
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    *request.uri_mut() = path.parse().map_err(|error| format!("{path}: {error}"))?;
    let exchange = async {
        let stream = TcpStream::connect(SERVER).await.map_err(|error| format!("{SERVER}: {error}"))?;
        let (mut sender, connection) =
            http1::handshake(rt::http::Io::new(stream)).await.map_err(|error| error.to_string())?;
        let drive = async move {
            // How it ended shows in the exchange.
            let _ = connection.await;
        };
        let connection = rt::task::spawn("connection", drive).abort_on_drop();
        let response = sender.send_request(request.map(Full::new)).await.map_err(|error| error.to_string())?;
        Ok((response, connection))
    };
    timeout(PATIENCE, exchange).await.map_err(|_| format!("{SERVER}: no answer within {} s", PATIENCE.as_secs()))?
}

/// Sends a request with a document, or without, until it is answered by less than 500; the code and the answer's document.
pub async fn ask(method: &str, path: &str, media: &str, document: Option<&Value>) -> (u16, Value) {
    loop {
        let body = document.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("Content-Type", media).body(Bytes::from(body));
        if let Ok(request) = request
            && let Ok((response, _connection)) = send(request).await
            && response.status().as_u16() < 500
        {
            let code = response.status().as_u16();
            if let Ok(whole) = response.into_body().collect().await {
                return (code, serde_json::from_slice(&whole.to_bytes()).unwrap_or_default());
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
