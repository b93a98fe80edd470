//! The gateway as it is measured: one shard, metering on, access log off as with every peer.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Bench, Driver, Start, free_beside};
use crate::Failure;

/// What a configuration is for.
pub struct Site<'a> {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub driver: Driver,
    pub shards: usize,
    pub upstreams: &'a [SocketAddr],
    /// Whether clients speak TLS, with `tls.crt` and `tls.key` beside the file.
    pub tls: bool,
}

impl Site<'_> {
    /// The configuration file.
    pub fn config(&self) -> String {
        let Self { listen, admin, driver, shards, upstreams, tls } = self;
        let tls = match tls {
            true => "[server.tls]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n",
            false => "",
        };
        let mut text = format!(
            "[server]\nlisten = \"{listen}\"\n{tls}[admin]\nlisten = \"{admin}\"\n\
             [runtime]\nshards = {shards}\ndriver = \"{}\"\n[log]\naccess = \"off\"\n\
             [limits]\nconnections_per_shard_max = 4096\n",
            driver.name(),
        );
        for (index, upstream) in upstreams.iter().enumerate() {
            text += &format!(
                "[[endpoints]]\nname = \"mock-{index}\"\nurl = \"http://{upstream}\"\n\
                 engine = \"vllm\"\nconnections_per_shard_max = 4096\n"
            );
        }
        let names: Vec<String> =
            (0..upstreams.len()).map(|index| format!("\"mock-{index}\"")).collect();
        let names = names.join(", ");
        text + &format!(
            "[[models]]\nname = \"mock-model\"\nendpoints = [{names}]\n\
                 policy = \"round-robin\"\n"
        )
    }
}

/// Writes a configuration and gives the command line that serves it.
///
/// # Errors
/// The scratch directory cannot be written.
pub fn command(bench: &Bench, wanted: &Start, address: SocketAddr) -> Result<Vec<String>, Failure> {
    if wanted.tls {
        certificate(&bench.scratch)?;
    }
    let site = Site {
        listen: address,
        admin: free_beside(address)?,
        driver: wanted.driver,
        shards: 1,
        upstreams: &[wanted.upstream],
        tls: wanted.tls,
    };
    let file = bench.scratch.join(format!("sluice-{}.toml", wanted.driver.name()));
    fs::write(&file, site.config())?;
    let program = bench.sluice.to_string_lossy().into_owned();
    Ok(vec![program, "serve".into(), "--config".into(), file.to_string_lossy().into_owned()])
}

fn certificate(dir: &Path) -> Result<(), Failure> {
    if dir.join("tls.crt").exists() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(dir.join("tls.crt"), made.cert.pem())?;
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem())?;
    Ok(())
}
