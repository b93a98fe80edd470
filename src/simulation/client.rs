//! Clients, good and bad.

use std::rc::Rc;
use std::time::Duration;

use super::ask::{self, Ask};
use super::book::{Asked, Book};
use super::gateway::listen_address;
use super::peer::Peer;
use super::reply;
use crate::runtime::twin::{World, sleep, world};
use crate::runtime::{clock, task};

/// Longer than any request may take: from here on the gateway hangs.
const HANG: Duration = Duration::from_secs(90);

/// How a client treats one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// One request after the other.
    Patient,
    /// Reads a little at a time.
    Slow,
    /// Sends several requests at once.
    Pipelines,
    /// Goes away at some moment.
    Aborts,
    /// Ends its side at some moment.
    HalfCloses,
    /// Stops reading for longer than it may.
    Stalls,
    /// Sends so slowly that its time runs out.
    Trickles,
    /// Breaks the rules.
    Unlawful,
}

const MANNERS: [Manner; 12] = [
    Manner::Patient,
    Manner::Patient,
    Manner::Patient,
    Manner::Patient,
    Manner::Slow,
    Manner::Pipelines,
    Manner::Aborts,
    Manner::Aborts,
    Manner::HalfCloses,
    Manner::Stalls,
    Manner::Trickles,
    Manner::Unlawful,
];

/// Starts a client that uses `connections` connections, one after the other.
pub fn start(book: &Rc<Book>, number: usize, connections: u64) {
    book.clients.set(book.clients.get() + 1);
    let book = book.clone();
    task::spawn(async move {
        for connection in 0..connections {
            let world = world();
            sleep(world.between(Duration::ZERO, Duration::from_millis(800))).await;
            let manner = MANNERS[world.below(MANNERS.len() as u64) as usize];
            let Some(peer) = connect(&book).await else { continue };
            let name = format!("c{number}-{connection}");
            Session { book: book.clone(), peer, name, asked: 0 }.act(&world, manner).await;
        }
        book.clients.set(book.clients.get() - 1);
    });
}

/// A patient client with one connection and these requests, one after the other.
pub fn start_with(book: &Rc<Book>, name: &str, asks: Vec<Ask>) {
    book.clients.set(book.clients.get() + 1);
    let (book, name) = (book.clone(), name.to_owned());
    task::spawn(async move {
        if let Some(peer) = connect(&book).await {
            let mut session = Session { book: book.clone(), peer, name, asked: 0 };
            for ask in asks {
                if !session.converse(ask).await {
                    break;
                }
            }
        }
        book.clients.set(book.clients.get() - 1);
    });
}

async fn connect(book: &Book) -> Option<Peer> {
    let peer = Peer::connect(listen_address()).await?;
    match book.secure.get() {
        Some(secure) => peer.secured(secure.connected()).await,
        None => Some(peer),
    }
}

/// Notes that `ask` is about to be sent.
pub fn enter(book: &Book, ask: &Ask, patient: bool) {
    let (expect, own_usage) = (ask.expect, ask.own_usage);
    let asked = Asked { expect, own_usage, patient, reply: None, left: None, harmed: false };
    book.ask(&ask.id, asked);
}

/// One connection.
struct Session {
    book: Rc<Book>,
    peer: Peer,
    name: String,
    asked: usize,
}

impl Session {
    async fn act(mut self, world: &World, manner: Manner) {
        match manner {
            Manner::Patient => self.patient(world).await,
            Manner::Slow => {
                self.peer.appetite = 1 + world.below(600) as usize;
                self.patient(world).await;
            }
            Manner::Pipelines => self.pipeline(world).await,
            Manner::Aborts | Manner::HalfCloses => self.leave(world, manner).await,
            Manner::Stalls => self.stall(world).await,
            Manner::Trickles => self.trickle(world).await,
            Manner::Unlawful => {
                let id = self.id();
                self.converse(ask::unlawful(world, &id)).await;
            }
        }
    }

    fn id(&mut self) -> String {
        self.asked += 1;
        format!("{}-{}", self.name, self.asked)
    }

    async fn patient(&mut self, world: &World) {
        for _ in 0..1 + world.below(5) {
            let id = self.id();
            if !self.converse(ask::lawful(world, &id)).await {
                return;
            }
            // Sometimes long enough for pooled connections to end.
            let most = [10, 300, 2_500][world.below(3) as usize];
            let _ =
                self.peer.pause(world.between(Duration::ZERO, Duration::from_millis(most))).await;
        }
    }

    /// Sends a request and waits for its answer; whether the connection goes on.
    async fn converse(&mut self, ask: Ask) -> bool {
        // Who still reads the last answer when the gateway has long sent it looks idle: its next request may
        // meet the end of the connection.
        let prompt = self.peer.appetite > 4_000 || self.asked <= 1;
        enter(&self.book, &ask, prompt);
        // A refusal may come before everything is sent.
        let _ = self.peer.send(&ask.bytes, false).await;
        self.hear(&ask).await
    }

    /// Waits for the answer to `ask`; whether the connection goes on.
    async fn hear(&mut self, ask: &Ask) -> bool {
        let reply = loop {
            let ended = self.peer.end.is_some();
            let reply = reply::take(&mut self.peer.got, ended, ask.bodiless);
            if reply.is_some() || ended {
                break reply;
            }
            if !self.peer.fill_within(HANG).await {
                self.book.fault(format!("{}: no answer and no end", ask.id));
                break None;
            }
        };
        let goes_on = reply.as_ref().is_some_and(|reply| reply.whole && !reply.closes());
        let harmed = self.peer.socket.harmed();
        self.book.with_asked(&ask.id, |asked| {
            asked.reply = reply;
            asked.harmed = harmed;
        });
        goes_on
    }

    async fn pipeline(&mut self, world: &World) {
        let asks: Vec<Ask> = (0..2 + world.below(3))
            .map(|_| {
                let id = self.id();
                ask::lawful(world, &id)
            })
            .collect();
        let mut bytes = Vec::new();
        for ask in &asks {
            // A later request is not answered if an earlier answer ends the connection.
            enter(&self.book, ask, false);
            bytes.extend_from_slice(&ask.bytes);
        }
        let _ = self.peer.send(&bytes, false).await;
        for ask in &asks {
            self.book.with_asked(&ask.id, |asked| asked.patient = true);
            if !self.hear(ask).await {
                return;
            }
        }
    }

    /// Goes away (or half away) at some moment between the first byte and the last.
    async fn leave(&mut self, world: &World, manner: Manner) {
        let id = self.id();
        let ask = ask::work(world, &id);
        enter(&self.book, &ask, false);
        let part = match world.below(4) {
            0 => world.below(ask.bytes.len() as u64) as usize,
            _ => ask.bytes.len(),
        };
        let _ = self.peer.send(&ask.bytes[..part], false).await;
        let most = [1, 60, 600, 2_000][world.below(4) as usize];
        let patience = world.between(Duration::ZERO, Duration::from_millis(most));
        let _ = self.peer.pause(patience).await;
        self.book.leave(&id);
        match manner {
            Manner::HalfCloses => {
                self.peer.half_close();
                // The gateway takes that for gone, and ends the connection.
                let began = clock::now();
                while self.peer.end.is_none() {
                    if !self.peer.fill_within(HANG).await {
                        let waited = clock::now().since(began);
                        self.book.fault(format!("{id}: half-closed and open for {waited:?}"));
                        return;
                    }
                }
            }
            _ if world.below(2) == 0 => self.peer.socket.reset(),
            _ => {}
        }
    }

    /// Reads nothing for a while, then everything.
    async fn stall(&mut self, world: &World) {
        let id = self.id();
        let ask = ask::work(world, &id);
        enter(&self.book, &ask, false);
        let _ = self.peer.send_only(&ask.bytes).await;
        sleep(world.between(Duration::ZERO, Duration::from_secs(8))).await;
        self.hear(&ask).await;
    }

    async fn trickle(&mut self, world: &World) {
        let id = self.id();
        let ask = ask::lawful(world, &id);
        enter(&self.book, &ask, false);
        let first = world.below(ask.bytes.len() as u64) as usize;
        let _ = self.peer.send(&ask.bytes[..first], false).await;
        let began = clock::now();
        for byte in &ask.bytes[first..] {
            if clock::now().since(began) > HANG {
                self.book.fault(format!("{id}: a trickled request goes on for ever"));
                break;
            }
            if self.peer.pause(Duration::from_millis(world.below(1_500))).await.is_err()
                || self.peer.send(&[*byte], false).await.is_err()
            {
                break;
            }
        }
        self.hear(&ask).await;
    }
}
