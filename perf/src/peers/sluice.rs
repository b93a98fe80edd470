//! Sluice itself, by driver: as the foundation's figures measure it, one shard for each CPU.

use std::path::PathBuf;

use rustix::process::Signal;

use super::{Peer, Places, Plan, Version, Wanted, command, written};
use crate::Failure;
use crate::target::{Driver, free_beside, sluice};

pub const URING: Peer = Peer {
    name: "sluice@uring",
    install: "cargo build --release -p sluice",
    find,
    version: Version::Says(&["--version"]),
    plan: |wanted| plan(wanted, Driver::Uring),
    balances: true,
};

pub const EPOLL: Peer =
    Peer { name: "sluice@epoll", plan: |wanted| plan(wanted, Driver::Epoll), ..URING };

fn find(places: &Places) -> Option<PathBuf> {
    places.sluice.is_file().then(|| places.sluice.clone())
}

fn plan(wanted: &Wanted<'_>, driver: Driver) -> Result<Plan, Failure> {
    let site = sluice::Site {
        listen: wanted.listen,
        admin: free_beside(wanted.listen)?,
        driver,
        shards: wanted.cpus,
        upstreams: wanted.upstreams,
        tls: false,
    };
    let config = site.config();
    let file = written(wanted.dir, "sluice.toml", &config)?;
    let command = command(wanted.program, &["serve", "--config", &file]);
    Ok(Plan { command, config, reload: Some(Signal::HUP), ..Plan::default() })
}
