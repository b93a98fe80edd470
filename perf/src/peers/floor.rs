//! The floor: raw relays of bytes, which know no HTTP and one server only.

use super::{FLOOR, FLOOR_EPOLL, Peer, Plan, Version, Wanted, command, own, said};
use crate::Failure;

/// One-shot operations through 64 KiB buffers, the gateway's own driver.
pub const PEER: Peer = Peer {
    name: FLOOR,
    install: "",
    find: own,
    version: Version::Says(&["--version"]),
    plan: |wanted| plan(wanted, "uring"),
    balances: false,
};

/// The same on epoll: what Sluice on epoll is held against.
pub const EPOLL: Peer = Peer { name: FLOOR_EPOLL, plan: |wanted| plan(wanted, "epoll"), ..PEER };

/// Multishot receives into provided buffers.
pub const MULTISHOT: Peer =
    Peer { name: "floor-multishot", plan: |wanted| plan(wanted, "multishot"), ..PEER };

fn plan(wanted: &Wanted<'_>, driver: &str) -> Result<Plan, Failure> {
    let upstream = wanted.upstreams.first().ok_or("a relay needs a server")?;
    let (listen, upstream) = (wanted.listen.to_string(), upstream.to_string());
    let words = ["floor", "--listen", &listen, "--upstream", &upstream, "--driver", driver];
    let command = command(wanted.program, &words);
    Ok(Plan { config: said(&command), command, ..Plan::default() })
}
