//! One connection: requests one after the other, and what faults make of their answers.

use super::Shared;
use super::control;
use super::core::Core;
use super::counts::End;
use super::head::{EVENTS, Framing, HTML, Head, JSON, unix_now};
use super::live::{Live, State, Writer};
use super::llama;
use super::out::Out;
use super::pairs::{self, Part};
use super::request::{NoRequest, Request, Wire};
use crate::api::{self, ApiError, Context, Dialect, Family, Generation, Op, Plan};
use crate::fault::{Ending, Faults, Hang, Substitute};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::Future;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// The next request.
    Next,
    Close,
    Reset,
    /// The client is gone.
    Gone,
}

impl From<Ending> for Flow {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Close => Flow::Close,
            Ending::Reset => Flow::Reset,
        }
    }
}

/// The length of a whole answer whose head is sent and nothing else.
const PROMISED_BYTES: usize = 1_000;

/// A client's connection.
pub struct Connection {
    shared: Rc<Shared>,
    wire: Wire,
    answers: u32,
}

/// One request and how it is to be mistreated.
struct Exchange<'a> {
    request: &'a Request,
    faults: Faults,
    op: Option<Op>,
    /// llama.cpp's: for how many seconds connections are kept.
    llama: Option<u64>,
    /// The connection has had as many answers as it may.
    last: bool,
}

impl Exchange<'_> {
    /// The operation, if its requests are counted: tools may ask for `/tokenize` at any time.
    fn booked(&self) -> Option<Op> {
        self.op.filter(|op| *op != Op::Tokenize)
    }

    fn end(&self, shared: &Shared, end: End) {
        if self.booked().is_some() {
            shared.core.borrow_mut().book.end(end);
        }
    }

    fn family(&self) -> Family {
        match self.llama {
            Some(_) => Family::LlamaCpp,
            None => self.op.map_or(Family::OpenAi, Op::family),
        }
    }

    /// Whether the answer's head says that the connection closes.
    fn closes(&self, status: u16) -> bool {
        let told = self.faults.close || self.faults.until_close || self.request.close;
        told || self.last || self.llama.is_some() && status >= 400
    }

    fn head(&self, status: u16, content_type: &'static str) -> Head {
        let (close, llama) = (self.closes(status), self.llama);
        let request_id = self.request.request_id.clone();
        Head { close, request_id, llama, ..Head::new(status, content_type) }
    }

    fn out(&self, wire: &Wire) -> Out {
        Out::new(wire.socket.clone(), self.faults.cut, self.faults.split)
    }

    /// How the bodies of streams end.
    fn stream_framing(&self) -> Framing {
        let until_close = self.faults.until_close || self.request.http10;
        if until_close { Framing::UntilClose } else { Framing::Chunked }
    }
}

impl Connection {
    pub fn new(shared: Rc<Shared>, socket: TcpStream) -> Self {
        let counts = &mut shared.core.borrow_mut().book.counts;
        counts.connections_open += 1;
        counts.connections_total += 1;
        // Without it a token waits for the acknowledgement of the one before; a socket that
        // refuses it is as good as closed, which the first read tells.
        let _ = socket.set_nodelay(true);
        Self { shared: shared.clone(), wire: Wire::new(socket), answers: 0 }
    }

    /// Answers requests until one side has enough.
    pub async fn run(mut self) {
        let mut idle = None;
        let flow = loop {
            let request = self.wire.request(idle, self.shared.config.body_bytes_max).await;
            let flow = match request {
                Ok(request) => self.answer(&request).await,
                Err(NoRequest::Gone) => Flow::Close,
                Err(NoRequest::Bad(status)) => self.refuse_bytes(status),
            };
            if flow != Flow::Next {
                break flow;
            }
            idle = Some(self.shared.config.keep_alive);
        };
        self.end(flow);
    }

    fn end(&self, flow: Flow) {
        let socket = SockRef::from(&*self.wire.socket);
        // Errors mean that the connection is over already.
        match flow {
            Flow::Reset => drop(socket.set_linger(Some(Duration::ZERO))),
            _ => drop(socket.shutdown(Shutdown::Write)),
        }
    }

    fn refuse_bytes(&self, status: u16) -> Flow {
        let mut head = Head::new(status, "text/plain; charset=utf-8");
        head.close = true;
        let body = b"Invalid HTTP request received.";
        let mut bytes = head.write(Framing::Length(body.len()));
        bytes.extend_from_slice(body);
        Out::new(self.wire.socket.clone(), None, 0).push(&bytes);
        Flow::Close
    }

    async fn answer(&mut self, request: &Request) -> Flow {
        let op = Op::of_path(&request.path).filter(|_| request.method == "POST");
        let config = &self.shared.config;
        let llama = (config.dialect == Dialect::LlamaCpp).then_some(config.keep_alive.as_secs());
        self.answers += 1;
        let last = llama.is_some() && self.answers >= llama::ANSWERS_MAX;
        let mut exchange = Exchange { request, faults: Faults::default(), op, llama, last };
        if let Some(op) = exchange.booked() {
            self.shared.core.borrow_mut().book.begin(op);
        }
        if request.path.starts_with("/sim/") {
            return self.control(&exchange).await;
        }
        match self.choose_faults(request, op.is_some()) {
            Ok(faults) => exchange.faults = faults,
            Err(error) => return self.refuse(&exchange, &error).await,
        }
        let flow = self.mistreat(&exchange).await;
        match (flow, op) {
            (Some(flow), _) => flow,
            (None, Some(op)) => self.infer(&exchange, op).await,
            (None, None) => self.control(&exchange).await,
        }
    }

    fn choose_faults(&self, request: &Request, inference: bool) -> Result<Faults, ApiError> {
        let mut core = self.shared.core.borrow_mut();
        let faults = match &request.fault {
            Some(text) => {
                let read = Faults::parse(text);
                Some(read.map_err(|bad| ApiError::bad_request(bad.to_string(), None))?)
            }
            None => core.roll(inference),
        };
        core.book.counts.faults += u64::from(faults.is_some());
        Ok(faults.unwrap_or_default())
    }

    /// The faults that come before an answer or in its place.
    async fn mistreat(&mut self, exchange: &Exchange<'_>) -> Option<Flow> {
        let faults = &exchange.faults;
        if faults.delay_ms > 0 {
            let pause = tokio::time::sleep(Duration::from_millis(faults.delay_ms));
            if self.unless_gone(pause).await.is_none() {
                return Some(self.left(exchange));
            }
        }
        if let Some(ending) = faults.refuse {
            exchange.end(&self.shared, End::Faulted(0));
            return Some(ending.into());
        }
        if faults.hang == Some(Hang::BeforeHead) {
            return Some(self.hang(exchange).await);
        }
        self.interim(faults.interim);
        let substitute = faults.substitute?;
        exchange.end(&self.shared, End::Faulted(0));
        let (head, body) = substitute_answer(exchange, substitute);
        Some(self.reply(exchange, head, &body).await)
    }

    fn interim(&self, count: u32) {
        let mut out = Out::new(self.wire.socket.clone(), None, 0);
        for number in 0..count {
            match number % 2 {
                0 => out.push(b"HTTP/1.1 102 Processing\r\n\r\n"),
                _ => {
                    out.push(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
                }
            }
        }
    }

    async fn hang(&mut self, exchange: &Exchange<'_>) -> Flow {
        self.wire.gone().await;
        self.left(exchange)
    }

    async fn control(&mut self, exchange: &Exchange<'_>) -> Flow {
        let shared = self.shared.clone();
        match self.unless_gone(pairs::answer(&shared, exchange.request)).await {
            None => return Flow::Gone,
            Some(Some(status)) => {
                return self.reply(exchange, exchange.head(status, JSON), "").await;
            }
            Some(None) => {}
        }
        let answer = control::answer(&self.shared, exchange.request);
        let head =
            Head { extra: answer.extra, ..exchange.head(answer.status, answer.content_type) };
        let body = if exchange.request.method == "HEAD" { "" } else { &answer.body };
        self.reply(exchange, head, body).await
    }

    async fn infer(&mut self, exchange: &Exchange<'_>, op: Op) -> Flow {
        match self.plan(exchange, op) {
            Ok(Plan::Run(run)) => self.take_part(exchange, op, run).await,
            Ok(Plan::Reply(body)) => {
                exchange.end(&self.shared, End::Completed(api::Usage::default()));
                let head = exchange.head(200, JSON);
                self.reply(exchange, head, &body).await
            }
            Err(error) => self.refuse(exchange, &error).await,
        }
    }

    fn plan(&self, exchange: &Exchange<'_>, op: Op) -> Result<Plan, ApiError> {
        let context = Context {
            id: exchange.request.request_id.clone().unwrap_or_else(|| self.shared.next_id()),
            created: unix_now().as_secs(),
            loop_words: exchange.faults.loop_words,
            no_finish: exchange.faults.no_finish,
        };
        api::plan(op, exchange.request.body(), &self.shared.limits, context)
    }

    async fn refuse(&mut self, exchange: &Exchange<'_>, error: &ApiError) -> Flow {
        exchange.end(&self.shared, End::Error);
        let head = exchange.head(error.status, JSON);
        self.reply(exchange, head, &error.body(exchange.family())).await
    }

    /// A request, and what it is in its pair.
    async fn take_part(&mut self, exchange: &Exchange<'_>, op: Op, mut run: Generation) -> Flow {
        let shared = self.shared.clone();
        let part = match Part::of(&shared, exchange.request.body(), &mut run) {
            Ok(part) => part,
            Err(error) => return self.refuse(exchange, &error).await,
        };
        match self.unless_gone(part.before(&shared, &run)).await {
            None => {
                part.after(&shared, false);
                self.left(exchange)
            }
            Some(Err(error)) => {
                part.after(&shared, false);
                self.refuse(exchange, &error).await
            }
            Some(Ok(())) => {
                let flow = self.run_generation(exchange, op, run, part.place()).await;
                part.after(&shared, matches!(flow, Flow::Next | Flow::Close));
                flow
            }
        }
    }

    async fn run_generation(
        &mut self,
        exchange: &Exchange<'_>,
        op: Op,
        run: Generation,
        place: Option<String>,
    ) -> Flow {
        let (stream, requests) = (run.stream, Core::requests(&run, exchange.faults.slow));
        let mut writer = self.writer(exchange, stream);
        writer.place = place;
        if stream || exchange.faults.hang.is_some() {
            writer.open();
        }
        if exchange.faults.hang == Some(Hang::AfterHead) {
            return self.hang(exchange).await;
        }
        let wake = Rc::new(Notify::new());
        let live = Rc::new(RefCell::new(Live::new(run, writer, wake.clone())));
        let submitted = self.shared.core.borrow_mut().submit(self.shared.now(), &live, requests);
        if submitted.is_err() {
            // Plans keep within the pool; a sequence that does not is the server's own error.
            self.shared.core.borrow_mut().release(&live);
            exchange.end(&self.shared, End::Faulted(0));
            return Flow::Close;
        }
        live.borrow_mut().begin();
        self.shared.work.notify_one();
        let flow = self.watch(&live, &wake).await;
        match self.settle(exchange, op, &live, flow) {
            // It ends every stream with the connection, whatever the head said.
            Flow::Next if stream && exchange.llama.is_some() => Flow::Close,
            flow => flow,
        }
    }

    fn writer(&self, exchange: &Exchange<'_>, stream: bool) -> Writer {
        let (content_type, framing) = match stream {
            true => (EVENTS, exchange.stream_framing()),
            false if exchange.faults.until_close => (JSON, Framing::UntilClose),
            false => (JSON, Framing::Length(PROMISED_BYTES)),
        };
        let head = exchange.head(200, content_type);
        let out = exchange.out(&self.wire);
        Writer::new(out, head, framing, exchange.faults.events, exchange.family())
    }

    /// Waits for an answer's end, sends on what the socket would not take, and watches for the
    /// client leaving.
    async fn watch(&mut self, live: &Rc<RefCell<Live>>, wake: &Notify) -> Flow {
        loop {
            let (state, waiting) = {
                let mut live = live.borrow_mut();
                live.out().flush();
                if let Some(ending) = live.out().due_cut() {
                    return ending.into();
                }
                if live.out().is_broken() {
                    return Flow::Gone;
                }
                (live.state(), live.out().is_waiting())
            };
            if !waiting && matches!(state, State::Ended | State::Broken) {
                return if live.borrow().closes() { Flow::Close } else { Flow::Next };
            }
            let socket = self.wire.socket.clone();
            tokio::select! {
                biased;
                () = wake.notified() => (),
                _ = socket.writable(), if waiting => (),
                () = self.wire.gone() => return Flow::Gone,
            }
        }
    }

    /// Books an answer's end.
    fn settle(
        &self,
        exchange: &Exchange<'_>,
        op: Op,
        live: &Rc<RefCell<Live>>,
        flow: Flow,
    ) -> Flow {
        let (usage, state) = (live.borrow().usage(), live.borrow().state());
        let mut core = self.shared.core.borrow_mut();
        let whole = state == State::Ended && matches!(flow, Flow::Next | Flow::Close);
        let cut = live.borrow_mut().out().due_cut().is_some();
        match flow {
            Flow::Gone => core.abort(op, exchange.request.request_id.as_deref(), Some(live)),
            _ if whole && !cut => core.book.end(End::Completed(usage)),
            _ => {
                core.release(live);
                core.book.end(End::Faulted(usage.completion));
            }
        }
        if flow == Flow::Next && exchange.closes(200) { Flow::Close } else { flow }
    }

    async fn reply(&mut self, exchange: &Exchange<'_>, head: Head, body: &str) -> Flow {
        let framing = match exchange.faults.until_close {
            true => Framing::UntilClose,
            false => Framing::Length(body.len()),
        };
        let mut bytes = head.write(framing);
        bytes.extend_from_slice(body.as_bytes());
        let mut out = exchange.out(&self.wire);
        out.push(&bytes);
        while out.is_waiting() {
            let socket = self.wire.socket.clone();
            let room = async move { drop(socket.writable().await) };
            if self.unless_gone(room).await.is_none() {
                return Flow::Gone;
            }
            out.flush();
        }
        match out.due_cut() {
            Some(ending) => ending.into(),
            None if out.is_broken() => Flow::Gone,
            None if head.close => Flow::Close,
            None => Flow::Next,
        }
    }

    /// What `work` comes to, or `None` if the client leaves first.
    async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.wire.gone() => None,
        }
    }

    /// The client left in a silence that a fault made.
    fn left(&self, exchange: &Exchange<'_>) -> Flow {
        if let Some(op) = exchange.booked() {
            let id = exchange.request.request_id.as_deref();
            self.shared.core.borrow_mut().abort(op, id, None);
        }
        Flow::Gone
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.core.borrow_mut().book.counts.connections_open -= 1;
    }
}

fn substitute_answer(exchange: &Exchange<'_>, substitute: Substitute) -> (Head, String) {
    let family = exchange.family();
    match substitute {
        Substitute::Html => {
            let page = "<!DOCTYPE html><html><body><h1>It works!</h1></body></html>\n";
            (exchange.head(200, HTML), page.to_string())
        }
        Substitute::OutOfMemory => {
            (exchange.head(500, JSON), ApiError::out_of_memory().body(family))
        }
        Substitute::Status(status, retry_after) => {
            let mut head = exchange.head(status, JSON);
            if let Some(seconds) = retry_after {
                head.extra = format!("retry-after: {seconds}\r\n");
            }
            let kind = if status == 429 { "TooManyRequestsError" } else { "InternalServerError" };
            let error = ApiError::plain(status, kind, "Refused on command.");
            (head, error.body(family))
        }
    }
}
