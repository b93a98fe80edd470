//! The gateway as it is measured: one shard, metering on, access log off as with every peer.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Bench, Start, free_address};
use crate::Failure;

/// Writes a configuration and gives the command line that serves it.
///
/// # Errors
/// The scratch directory cannot be written.
pub fn command(bench: &Bench, wanted: &Start, address: SocketAddr) -> Result<Vec<String>, Failure> {
    let mut text = format!("[server]\nlisten = \"{address}\"\n");
    if wanted.tls {
        certificate(&bench.scratch)?;
        text += "[server.tls]\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"\n";
    }
    text += &format!(
        "[admin]\nlisten = \"{}\"\n[runtime]\nshards = 1\ndriver = \"{}\"\n[log]\naccess = \"off\"\n\
         [limits]\nconnections_per_shard_max = 4096\n\
         [[endpoints]]\nname = \"mock\"\nurl = \"http://{}\"\nengine = \"vllm\"\n\
         connections_per_shard_max = 4096\n\
         [[models]]\nname = \"mock-model\"\nendpoints = [\"mock\"]\n\
         policy = \"round-robin\"\n",
        free_address()?,
        wanted.driver.name(),
        wanted.upstream
    );
    let file = bench.scratch.join(format!("sluice-{}.toml", wanted.driver.name()));
    fs::write(&file, text)?;
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
