//! The typed client: requests to whichever of several API servers works.
//!
//! ```text
//! get, list, create, perform ──▶ attempt at the current endpoint ──▶ answer
//!                                   ▲                     │ refused connection, silence, 503
//!                                   └── wait, next one ◀──┘ (a write: only if it certainly had no effect)
//! ```

use crate::backoff::Backoff;
use crate::codec::{self, Codec, parse};
use crate::endpoints::Endpoints;
use crate::error::{Error, status_of};
use crate::held::{Erased, take};
use crate::leader::{Belief, Fence};
use crate::options::{DeleteOptions, ListOptions, WatchOptions};
use crate::transport::{Answer, Connection, Failed, Pool, whole};
use crate::watch::{Events, WatchStream, revision_of};
use crate::wire::{Call, JSON, MERGE_PATCH, call_of, delete_body};
use crate::write::Write;
use api::resource::Subresource;
use api::{Object, ObjectExt, Resource};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use mark::sometimes;
use rt::random::Random;
use rt::time::timeout;
use rt::tls::ClientTls;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Header by which a leader says in which epoch it writes.
pub const FENCE_HEADER: &str = "Seaworthy-Fence";

/// Upstream's clients give a request more; ours must notice a dead API server before leases run out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Each of three API servers, and the first once more.
const MAX_ATTEMPTS: u32 = 4;
/// The first wait between attempts: another API server is probably fine.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// The longest wait between attempts.
const RETRY_LIMIT: Duration = Duration::from_secs(2);
/// The longest `Retry-After` that is obeyed; whoever is told to wait longer gets the answer instead.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(10);

/// How API servers are reached.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of each API server. The first is used until it fails.
    pub endpoints: Vec<String>,
    /// Who asks, for the API server's logs.
    pub user_agent: String,
    /// How connections are secured: not at all by default.
    pub tls: ClientTls,
    /// Sent with each request, if there is one: a bearer token. A secret.
    pub token: Option<Token>,
    /// How long one attempt may take.
    pub request_timeout: Duration,
    /// How often a request is attempted at most.
    pub max_attempts: u32,
}

/// A bearer token, which stays out of logs.
#[derive(Clone)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl ClientConfig {
    /// With the usual limits.
    pub fn new(endpoints: Vec<String>, user_agent: &str) -> Self {
        let user_agent = user_agent.to_owned();
        let (request_timeout, max_attempts) = (REQUEST_TIMEOUT, MAX_ATTEMPTS);
        Self { endpoints, user_agent, tls: ClientTls::default(), token: None, request_timeout, max_attempts }
    }
}

/// A client of the API. Clones share connections and the choice of endpoint.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    request_timeout: Duration,
    max_attempts: u32,
    fence: Option<Fenced>,
}

struct Shared {
    authorization: Option<HeaderValue>,
    user_agent: HeaderValue,
    pools: Vec<Pool>,
    endpoints: Mutex<Endpoints>,
    random: Mutex<Random>,
}

/// The epoch of a leader's writes.
#[derive(Clone)]
struct Fenced {
    header: HeaderValue,
    /// When it is over, nothing is written any more.
    belief: Option<Arc<Belief>>,
}

/// A list, or a page of it.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T> {
    /// In order of namespace and name.
    pub items: Vec<T>,
    /// As of which version of the collection.
    pub resource_version: i64,
    /// Where the next page begins, if there is one.
    pub continue_token: Option<String>,
}

impl<T> List<T> {
    pub(crate) fn map<U>(self, object: impl FnMut(T) -> U) -> List<U> {
        let Self { items, resource_version, continue_token } = self;
        List { items: items.into_iter().map(object).collect(), resource_version, continue_token }
    }
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Version of the object that was answered; 0 if the answer is none.
    pub resource_version: i64,
    /// The answer.
    pub body: Bytes,
}

/// A future that is compiled here: one of an `async fn` is compiled, with all that it awaits, in each crate that awaits it.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Client {
    /// A client that is not connected yet.
    pub fn new(config: ClientConfig) -> Self {
        let ClientConfig { endpoints, user_agent, tls, token, request_timeout, max_attempts } = config;
        // What cannot be a header's is no token, and the server says so.
        let authorization = token.and_then(|Token(token)| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let shared = Shared {
            authorization,
            user_agent: HeaderValue::from_str(&user_agent).unwrap_or(HeaderValue::from_static("seaworthy")),
            endpoints: Mutex::new(Endpoints::new(endpoints.len())),
            pools: endpoints.into_iter().map(|address| Pool::new(address, tls.clone())).collect(),
            random: Mutex::new(rt::random::stream("client")),
        };
        Self { shared: Arc::new(shared), request_timeout, max_attempts: max_attempts.max(1), fence: None }
    }

    /// The same client, whose writes are refused once a newer epoch has written.
    pub fn with_fence(&self, fence: Fence) -> Self {
        self.fenced(&fence, None)
    }

    /// The same client, for as long as it is believed to lead.
    pub(crate) fn with_belief(&self, fence: &Fence, belief: Arc<Belief>) -> Self {
        self.fenced(fence, Some(belief))
    }

    fn fenced(&self, fence: &Fence, belief: Option<Arc<Belief>>) -> Self {
        // The names of objects hold nothing that a header may not.
        let fence = HeaderValue::from_str(&fence.to_string()).ok().map(|header| Fenced { header, belief });
        Self { fence, ..self.clone() }
    }

    /// The same client with other limits.
    pub fn with_limits(&self, request_timeout: Duration, max_attempts: u32) -> Self {
        Self { request_timeout, max_attempts: max_attempts.max(1), ..self.clone() }
    }

    /// Reads an object as of now.
    ///
    /// # Errors
    /// `Status` of code 404 if there is none.
    pub async fn get<T: Object>(&self, namespace: &str, name: &str) -> Result<T, Error> {
        object(&self.read(T::resource().path(namespace, name)).await?)
    }

    /// Reads what every object has, of an object of whatever kind, as of now: version and metadata.
    ///
    /// # Errors
    /// `Status` of code 404 if there is none.
    pub async fn get_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<api::ObjectMeta, Error> {
        metadata(&self.read(resource.path(namespace, name)).await?)
    }

    /// Lists the objects of a namespace, or of all namespaces if it is empty.
    ///
    /// # Errors
    /// `Status` of code 410 if the version or the page asked for is gone.
    pub async fn list<T: Object>(&self, namespace: &str, options: &ListOptions) -> Result<List<T>, Error> {
        self.list_held(codec::of::<T>(), namespace, options).await.map(|list| list.map(take))
    }

    /// Watches the objects of a namespace, or of all namespaces if it is empty.
    ///
    /// # Errors
    /// `Status` of code 410 if the version asked for is gone: list anew.
    pub async fn watch<T: Object>(&self, namespace: &str, options: &WatchOptions) -> Result<WatchStream<T>, Error> {
        self.watch_held(codec::of::<T>(), namespace, options).await.map(WatchStream::new)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// `Status` of code 409 and reason `AlreadyExists` if its name is taken.
    pub async fn create<T: Object>(&self, new: &T) -> Result<T, Error> {
        let path = T::resource().path(new.namespace(), "");
        object(&self.change(Call::new(Method::POST, path, JSON, object_json(new)?)).await?)
    }

    /// Replaces an object, if it is still of the version that `changed` has.
    ///
    /// # Errors
    /// `Status` of code 409 if it is not.
    pub async fn update<T: Object>(&self, changed: &T) -> Result<T, Error> {
        let path = T::resource().path(changed.namespace(), changed.name());
        object(&self.change(Call::new(Method::PUT, path, JSON, object_json(changed)?)).await?)
    }

    /// Replaces an object's status, if it is still of the version that `changed` has.
    ///
    /// # Errors
    /// `Status` of code 409 if it is not.
    pub async fn update_status<T: Object>(&self, changed: &T) -> Result<T, Error> {
        let path = T::resource().path(changed.namespace(), changed.name()) + "/" + Subresource::Status.name();
        object(&self.change(Call::new(Method::PUT, path, JSON, body(codec::status_json(changed))?)).await?)
    }

    /// Merges `patch` into an object (RFC 7386). `metadata.uid` and `metadata.resourceVersion` in it are preconditions.
    ///
    /// # Errors
    /// `Status` of code 404 if there is none, 409 if a precondition does not hold.
    pub async fn patch_merge<T: Object, P: Serialize>(
        &self,
        namespace: &str,
        name: &str,
        patch: &P,
    ) -> Result<T, Error> {
        let path = T::resource().path(namespace, name);
        object(&self.change(Call::new(Method::PATCH, path, MERGE_PATCH, patch_json(patch)?)).await?)
    }

    /// Merges `patch` into an object's status.
    ///
    /// # Errors
    /// As [`Client::patch_merge`].
    pub async fn patch_status<T: Object, P: Serialize>(
        &self,
        namespace: &str,
        name: &str,
        patch: &P,
    ) -> Result<T, Error> {
        let path = T::resource().path(namespace, name) + "/" + Subresource::Status.name();
        object(&self.change(Call::new(Method::PATCH, path, MERGE_PATCH, patch_json(patch)?)).await?)
    }

    /// Deletes an object, or asks for its deletion if it takes time.
    ///
    /// # Errors
    /// `Status` of code 404 if there is none, 409 if a precondition does not hold.
    pub async fn delete<T: Object>(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let path = T::resource().path(namespace, name);
        let repeatable = options.uid.is_some();
        let call = Call { repeatable, ..Call::new(Method::DELETE, path, JSON, delete_body(options)) };
        self.change(call).await.map(|_| ())
    }

    /// Performs a write.
    ///
    /// # Errors
    /// `Status` if it was refused, `Unreachable` if it had no effect, else it may have had its effect.
    pub async fn perform(&self, write: &Write) -> Result<Written, Error> {
        written(self.change(call_of(write)).await?)
    }

    /// Any request, and whatever is answered.
    ///
    /// # Errors
    /// Never `Status`.
    pub async fn request(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Answer, Error> {
        self.exchange(Call::new(method, path_and_query.to_owned(), content_type, body)).await
    }

    /// An endpoint that answers proves not to be of use: the next one is tried. Other connections to it go on.
    pub(crate) fn distrust(&self, endpoint: usize) {
        lock(&self.shared.endpoints).failed(endpoint);
    }

    /// [`Client::list`] of a type that only its user knows.
    pub(crate) fn list_held<'a>(
        &'a self,
        codec: &'static Codec,
        namespace: &str,
        options: &ListOptions,
    ) -> Boxed<'a, Result<List<Erased>, Error>> {
        let path = (codec.resource)().path(namespace, "") + &options.query();
        Box::pin(async move { (codec.list)(&self.read(path).await?) })
    }

    /// [`Client::watch`] of a type that only its user knows.
    pub(crate) fn watch_held<'a>(
        &'a self,
        codec: &'static Codec,
        namespace: &str,
        options: &WatchOptions,
    ) -> Boxed<'a, Result<Events, Error>> {
        let path = (codec.resource)().path(namespace, "") + &options.query();
        let idle_timeout = options.idle_timeout;
        Box::pin(async move {
            let (endpoint, connection, response) = self.open(&path).await?;
            Ok(Events::new(codec, connection, response.into_body(), idle_timeout, endpoint))
        })
    }

    /// The body of what is read.
    fn read(&self, path: String) -> Boxed<'_, Result<Bytes, Error>> {
        self.change(Call::new(Method::GET, path, JSON, Bytes::new()))
    }

    /// The body of the answer to a request that is to succeed.
    fn change(&self, call: Call) -> Boxed<'_, Result<Bytes, Error>> {
        Box::pin(async move { success(self.send(&call).await?) })
    }

    /// Whatever is answered.
    fn exchange(&self, call: Call) -> Boxed<'_, Result<Answer, Error>> {
        Box::pin(async move { self.send(&call).await })
    }

    /// One request, with as many attempts as it may have.
    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let read = call.method == Method::GET;
        let mut retry = Retry::new(self);
        loop {
            if !read {
                self.still_leads()?;
            }
            let Some((endpoint, pool)) = self.pool() else { return Err(no_endpoint()) };
            let request = self.http(call, pool.address())?;
            match pool.exchange(request, self.request_timeout).await {
                Ok(answer) => match judge(&answer, call) {
                    Judged::Answered => return Ok(answer),
                    Judged::Elsewhere => {
                        self.distrust(endpoint);
                        if !retry.wait(answer.retry_after_s).await {
                            return Ok(answer);
                        }
                    }
                    Judged::Later => {
                        if !retry.wait(answer.retry_after_s).await {
                            return Ok(answer);
                        }
                    }
                    Judged::Unknown => {
                        self.distrust(endpoint);
                        sometimes!("write was answered by a timeout");
                        return Err(Error::Unknown(status_of(answer.code, &answer.body).message));
                    }
                },
                Err(Failed::Dirty(why)) if !read && !call.repeatable => {
                    self.distrust(endpoint);
                    sometimes!("write of unknown outcome");
                    return Err(Error::Unknown(why));
                }
                Err(Failed::Clean(why)) => {
                    self.distrust(endpoint);
                    if !retry.wait(None).await {
                        // An earlier attempt at a write that may be repeated was perhaps not without effect.
                        return Err(if retry.dirty { Error::Unknown(why) } else { Error::Unreachable(why) });
                    }
                }
                Err(Failed::Dirty(why)) => {
                    self.distrust(endpoint);
                    retry.dirty |= !read;
                    if !retry.wait(None).await {
                        return Err(if read { Error::Unreachable(why) } else { Error::Unknown(why) });
                    }
                }
            }
        }
    }

    /// A watch's answer, of which only the head has come, on a connection of its own.
    async fn open(&self, path: &str) -> Result<(usize, Connection, Response<Incoming>), Error> {
        let call = Call::new(Method::GET, path.to_owned(), JSON, Bytes::new());
        let mut retry = Retry::new(self);
        loop {
            let Some((endpoint, pool)) = self.pool() else { return Err(no_endpoint()) };
            let request = self.http(&call, pool.address())?;
            let attempt = async {
                let mut connection = pool.open().await.map_err(Failed::Clean)?;
                let response = connection.send(request, &mut false).await?;
                if response.status().is_success() {
                    return Ok(Ok((connection, response)));
                }
                whole(response).await.map(Err)
            };
            let why = match timeout(self.request_timeout, attempt).await {
                Ok(Ok(Ok((connection, response)))) => return Ok((endpoint, connection, response)),
                Ok(Ok(Err(answer))) => {
                    let status = Error::Status(Box::new(status_of(answer.code, &answer.body)));
                    match judge(&answer, &call) {
                        Judged::Answered | Judged::Unknown => return Err(status),
                        Judged::Elsewhere => self.distrust(endpoint),
                        Judged::Later => {}
                    }
                    if !retry.wait(answer.retry_after_s).await {
                        return Err(status);
                    }
                    continue;
                }
                Ok(Err(Failed::Clean(why) | Failed::Dirty(why))) => why,
                Err(_) => format!("{}: a watch was not answered", pool.address()),
            };
            self.distrust(endpoint);
            if !retry.wait(None).await {
                return Err(Error::Unreachable(why));
            }
        }
    }

    /// The endpoint in use.
    fn pool(&self) -> Option<(usize, &Pool)> {
        let endpoint = lock(&self.shared.endpoints).current();
        Some((endpoint, self.shared.pools.get(endpoint)?))
    }

    fn still_leads(&self) -> Result<(), Error> {
        let belief = self.fence.as_ref().and_then(|fence| fence.belief.as_ref());
        if belief.is_none_or(|belief| belief.holds()) {
            return Ok(());
        }
        sometimes!("write held back after the end of a term");
        Err(Error::Unreachable("this process leads no more".to_owned()))
    }

    fn http(&self, call: &Call, address: &str) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(HOST, address)
            .header(USER_AGENT, &self.shared.user_agent)
            .header(ACCEPT, JSON);
        if let Some(authorization) = &self.shared.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if call.method != Method::GET {
            request = request.header(CONTENT_TYPE, call.content_type);
            if let Some(fence) = &self.fence {
                request = request.header(FENCE_HEADER, &fence.header);
            }
        }
        let body = Full::new(call.body.clone());
        // Only a name that no object can have gives no path.
        request.body(body).map_err(|error| Error::Unreachable(format!("no request can be made of it: {error}")))
    }
}

/// What an answer means for the request.
enum Judged {
    /// It is the answer.
    Answered,
    /// This API server cannot do it now; there was no effect.
    Elsewhere,
    /// Nobody can do it before a while; there was no effect.
    Later,
    /// The API server does not know what became of it.
    Unknown,
}

fn judge(answer: &Answer, call: &Call) -> Judged {
    match answer.code {
        503 => Judged::Elsewhere,
        504 if call.method == Method::GET || call.repeatable => Judged::Elsewhere,
        504 => Judged::Unknown,
        // An eviction that a budget forbids is an answer: whoever evicts decides when to ask again.
        429 if answer.retry_after_s.is_some() && !call.path.ends_with("/eviction") => Judged::Later,
        _ => Judged::Answered,
    }
}

/// The attempts at one request.
struct Retry<'a> {
    client: &'a Client,
    attempts: u32,
    backoff: Backoff,
    /// Whether an attempt at a write may have had its effect.
    dirty: bool,
}

impl<'a> Retry<'a> {
    fn new(client: &'a Client) -> Self {
        Self { client, attempts: 1, backoff: Backoff::new(RETRY_BASE, RETRY_LIMIT), dirty: false }
    }

    /// Waits for the next attempt; false if there is none.
    async fn wait(&mut self, retry_after_s: Option<u32>) -> bool {
        let asked = retry_after_s.map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds.into()));
        if self.attempts >= self.client.max_attempts || asked > RETRY_AFTER_LIMIT {
            return false;
        }
        self.attempts += 1;
        let wait = self.backoff.next(&mut lock(&self.client.shared.random));
        rt::time::sleep(asked + wait).await;
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_endpoint() -> Error {
    Error::Unreachable("no API server is known".to_owned())
}

fn success(answer: Answer) -> Result<Bytes, Error> {
    if answer.code < 400 {
        return Ok(answer.body);
    }
    Err(Error::Status(Box::new(status_of(answer.code, &answer.body))))
}

fn object<T: Object>(body: &[u8]) -> Result<T, Error> {
    (codec::of::<T>().object)(body).map(take)
}

fn metadata(body: &[u8]) -> Result<api::ObjectMeta, Error> {
    parse::<Bare>(body).map(|bare| bare.metadata)
}

fn written(body: Bytes) -> Result<Written, Error> {
    let version = parse::<BareVersion>(&body)?.metadata.and_then(|metadata| metadata.resource_version);
    let resource_version = revision_of(version.as_deref().unwrap_or_default());
    Ok(Written { resource_version, body })
}

fn object_json<T: Object>(object: &T) -> Result<Bytes, Error> {
    body(codec::json(object))
}

fn patch_json<P: Serialize>(patch: &P) -> Result<Bytes, Error> {
    body(serde_json::to_vec(patch))
}

fn body(json: serde_json::Result<Vec<u8>>) -> Result<Bytes, Error> {
    json.map(Bytes::from).map_err(|error| Error::Unreachable(format!("it has no form in JSON: {error}")))
}

/// The version of an object, or of the Status that stands for one.
#[derive(Deserialize)]
struct BareVersion {
    metadata: Option<VersionOf>,
}

#[derive(Deserialize)]
struct VersionOf {
    #[serde(rename = "resourceVersion")]
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Bare {
    #[serde(default)]
    metadata: api::ObjectMeta,
}
