//! One connection to a member: many requests and watches at once, by one task.
//!
//! ```text
//! callers ──orders──▶ task: encode ─▶ out ─▶ socket ─▶ frames ─▶ whoever waits for that number
//! ```
//!
//! The task never waits for one thing alone: what arrives is taken while the socket takes nothing, so that two sides
//! that have much to say to each other cannot block each other.

use crate::protocol::{
    FrameReader, MAX_REQUEST_FRAME, MAX_RESPONSE_FRAME, PREAMBLE, ToClient, ToClientBody, ToMember, ToMemberBody,
    decode, put_frame,
};
use crate::types::{ClientError, RefusedKind, Request, Response, WatchRequest, WatchResponse};
use rt::net::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
use rt::task::JoinHandle;
use rt::time::{Instant, timeout};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// Orders that wait for the task: enough for it never to idle, few enough to be certain of in an instant.
const MAX_ORDERS: usize = 64;
/// Encoded bytes that wait for the socket before no more orders are taken: a full window and some more.
const MAX_OUT: usize = 256 * 1024;
/// Messages that wait for a watch's reader. One that is further behind loses its watch and resumes.
const MAX_UNREAD: usize = 256;
/// A connection on which so many attempts in a row ended without anything at all having arrived is given up.
const MAX_SILENT: u32 = 2;

/// A connection to a member. Clones are the same connection; it closes when the last is dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    orders: mpsc::Sender<Order>,
    health: Arc<Health>,
    task: Arc<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Health {
    /// Frames that arrived.
    heard: AtomicU64,
    /// Attempts in a row that ended in silence.
    silent: AtomicU32,
    given_up: AtomicBool,
    /// Why it is over.
    over: OnceLock<String>,
}

impl Health {
    fn why(&self) -> String {
        self.over.get().map_or_else(|| "the connection was given up".to_owned(), Clone::clone)
    }
}

type Answer = Result<Response, ClientError>;
type Message = Result<WatchResponse, ClientError>;

#[derive(Debug)]
enum Order {
    Request { request: Request, answer: oneshot::Sender<Answer> },
    Watch { request: WatchRequest, messages: mpsc::Sender<Message> },
}

impl Connection {
    /// Over a stream that was just connected.
    pub(super) fn over(stream: TcpStream) -> Self {
        // Without it small requests would only be slower.
        let _ = stream.set_nodelay(true);
        let (orders, taken) = mpsc::channel(MAX_ORDERS);
        let health = Arc::new(Health::default());
        let task = rt::task::spawn("store client connection", Driver::run(stream, taken, health.clone()));
        Self { orders, health, task: Arc::new(task) }
    }

    /// Whether it may still be used, as far as is known.
    pub(super) fn works(&self) -> bool {
        !self.orders.is_closed() && !self.health.given_up.load(Ordering::Relaxed)
    }

    /// Asks, and waits for the answer until then.
    pub(super) async fn request(&self, request: Request, until: Instant) -> Answer {
        let (answer, answered) = oneshot::channel();
        let heard = self.heard();
        if let Err(error) = self.orders.try_send(Order::Request { request, answer }) {
            self.wait_for_room(error, until, heard).await?;
        }
        match timeout(until - Instant::now(), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ClientError::Unknown(self.health.why())),
            Err(_) => {
                self.timed_out(heard);
                Err(ClientError::Unknown("no answer in time".to_owned()))
            }
        }
    }

    /// What remains to be done when an order could not be placed at once.
    async fn wait_for_room(&self, error: TrySendError<Order>, until: Instant, heard: u64) -> Result<(), ClientError> {
        let TrySendError::Full(order) = error else { return Err(ClientError::Unavailable(self.health.why())) };
        match timeout(until - Instant::now(), self.orders.send(order)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ClientError::Unavailable(self.health.why())),
            Err(_) => {
                self.timed_out(heard);
                Err(ClientError::Unavailable("the connection took no request in time".to_owned()))
            }
        }
    }

    /// Opens a watch. Its messages end, after an error or without, when it is over.
    pub(super) async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<Message>, ClientError> {
        let (messages, received) = mpsc::channel(MAX_UNREAD);
        let order = self.orders.send(Order::Watch { request, messages });
        order.await.map_err(|_| ClientError::Unavailable(self.health.why()))?;
        Ok(received)
    }

    /// How many frames have arrived: to be given to [`Self::timed_out`].
    pub(super) fn heard(&self) -> u64 {
        self.health.heard.load(Ordering::Relaxed)
    }

    /// Somebody waited in vain, since [`Self::heard`] was `heard`. If nothing at all arrives any more, the connection
    /// is given up: after a partition a new one works much sooner than the old one's retransmissions.
    pub(super) fn timed_out(&self, heard: u64) {
        if self.heard() > heard {
            self.health.silent.store(0, Ordering::Relaxed);
        } else if self.health.silent.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_SILENT {
            mark::sometimes!("client gives a silent connection up");
            self.health.given_up.store(true, Ordering::Relaxed);
            self.task.abort();
        }
    }
}

/// Who waits for the answer to a request, and where in the stream its frame begins.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    begins: u64,
}

struct Driver {
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// Encoded and not yet taken by the socket.
    out: Vec<u8>,
    /// Bytes that the socket has taken since the beginning.
    sent: u64,
    last_id: u64,
    waiting: BTreeMap<u64, Waiting>,
    watches: BTreeMap<u64, mpsc::Sender<Message>>,
    health: Arc<Health>,
}

impl Driver {
    async fn run(stream: TcpStream, mut orders: mpsc::Receiver<Order>, health: Arc<Health>) {
        let (reader, writer) = stream.into_split();
        let mut driver = Driver {
            reader: FrameReader::new(reader, MAX_RESPONSE_FRAME),
            writer,
            out: PREAMBLE.to_vec(),
            sent: 0,
            last_id: 0,
            waiting: BTreeMap::new(),
            watches: BTreeMap::new(),
            health,
        };
        let why = match driver.drive(&mut orders).await {
            Ok(()) => "nobody uses the connection any more".to_owned(),
            Err(error) => format!("the connection broke: {error}"),
        };
        driver.fail_all(&why);
        // Once only: this is the one place that says so.
        let _ = driver.health.over.set(why.clone());
        // What was ordered and not taken up was certainly not sent.
        orders.close();
        while let Ok(order) = orders.try_recv() {
            if let Order::Request { answer, .. } = order {
                let _ = answer.send(Err(ClientError::Unavailable(why.clone())));
            }
        }
    }

    /// Until the last user is gone (`Ok`) or the stream breaks.
    async fn drive(&mut self, orders: &mut mpsc::Receiver<Order>) -> io::Result<()> {
        let mut greeted = false;
        loop {
            tokio::select! {
                biased;
                order = orders.recv(), if self.out.len() < MAX_OUT => {
                    let Some(order) = order else { return Ok(()) };
                    self.take(order);
                    while self.out.len() < MAX_OUT && let Ok(order) = orders.try_recv() {
                        self.take(order);
                    }
                }
                taken = self.writer.write(&self.out), if !self.out.is_empty() => match taken? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    taken => {
                        self.out.drain(..taken);
                        self.sent += taken as u64;
                    }
                },
                frame = next_frame(&mut self.reader, &mut greeted) => {
                    let mut frame = frame?;
                    loop {
                        self.dispatch(decode(&frame)?);
                        let Some(next) = self.reader.buffered()? else { break };
                        frame = next;
                    }
                }
            }
        }
    }

    /// Encodes an order and notes who waits for it.
    fn take(&mut self, order: Order) {
        self.last_id += 1;
        let (id, begins) = (self.last_id, self.sent + self.out.len() as u64);
        match order {
            Order::Request { request, answer } => {
                let message = ToMember { id, body: ToMemberBody::Request(request) };
                if let Err(error) = put_frame(&mut self.out, &message, MAX_REQUEST_FRAME) {
                    let _ = answer.send(Err(RefusedKind::InvalidArgument(error.to_string()).into()));
                    return;
                }
                self.waiting.insert(id, Waiting { answer, begins });
            }
            Order::Watch { request, messages } => {
                let message = ToMember { id, body: ToMemberBody::Watch(request) };
                if let Err(error) = put_frame(&mut self.out, &message, MAX_REQUEST_FRAME) {
                    let _ = messages.try_send(Err(RefusedKind::InvalidArgument(error.to_string()).into()));
                    return;
                }
                self.watches.insert(id, messages);
            }
        }
    }

    /// Hands what arrived to whom it is for. For whom nobody waits any more was asked too patiently, and is dropped.
    fn dispatch(&mut self, ToClient { id, body }: ToClient) {
        self.health.heard.fetch_add(1, Ordering::Relaxed);
        self.health.silent.store(0, Ordering::Relaxed);
        match body {
            ToClientBody::Response(response) => {
                if let Some(waiting) = self.waiting.remove(&id) {
                    let _ = waiting.answer.send(Ok(response));
                }
            }
            ToClientBody::Error(error) => {
                if let Some(waiting) = self.waiting.remove(&id) {
                    let _ = waiting.answer.send(Err(error));
                } else if let Some(messages) = self.watches.remove(&id) {
                    let _ = messages.try_send(Err(error));
                }
            }
            ToClientBody::Watch(message) => self.deliver(id, message),
        }
    }

    /// Hands a watch its next message. If its reader is gone, or too far behind to ever be told all, the watch ends.
    fn deliver(&mut self, id: u64, message: WatchResponse) {
        let Some(messages) = self.watches.get(&id) else { return };
        let last = matches!(message, WatchResponse::Canceled { .. });
        let delivered = messages.try_send(Ok(message)).is_ok();
        if delivered && !last {
            return;
        }
        self.watches.remove(&id);
        if !last {
            let cancel = ToMember { id, body: ToMemberBody::CancelWatch };
            put_frame(&mut self.out, &cancel, MAX_REQUEST_FRAME).expect("a cancellation is a few bytes");
        }
    }

    /// Tells all who wait that the connection is over, and whether their request was sent.
    fn fail_all(&mut self, why: &str) {
        self.watches.clear();
        for (_, Waiting { answer, begins }) in std::mem::take(&mut self.waiting) {
            let unsent = begins >= self.sent;
            let error = if unsent { ClientError::Unavailable } else { ClientError::Unknown };
            let _ = answer.send(Err(error(why.to_owned())));
        }
    }
}

/// The next frame's content; before the first, the preamble is checked. May be dropped and called again.
async fn next_frame(reader: &mut FrameReader<OwnedReadHalf>, greeted: &mut bool) -> io::Result<bytes::Bytes> {
    if !*greeted {
        reader.preamble(&PREAMBLE).await?;
        *greeted = true;
    }
    reader.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
