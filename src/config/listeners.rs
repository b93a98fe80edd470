//! `[server]` and `[admin]`: where Sluice listens, and who may come in there.
//!
//! Invariant: a port that others than this machine can reach is never open by accident.

use std::net::{IpAddr, SocketAddr};

use super::plan::{Admin, Server};
use super::reader::{At, Section};
use super::{reference, tls};

/// The words that open the listener to everyone. A sentence, not `true`: it must not be pasted blindly.
pub const OPEN_ACCESS: &str = "anyone who reaches this port may use it";

/// Reads `[server]`. `has_keys`: the file names client keys.
pub fn read_server(section: &Section<'_>, has_keys: bool) -> Option<Server> {
    let listen = listen(section, "127.0.0.1:8080");
    let open = section.text("open_access", "");
    check_access(section, listen, open, has_keys);
    let has_tls = section.given("tls").is_some();
    let found = section.table("tls", |section| tls::read_server(section, has_tls));
    let (tls, tls_files) = found.unzip();
    Some(Server { listen: listen?.value, open_access: open.is_some(), tls, tls_files })
}

fn check_access(
    section: &Section<'_>,
    listen: Option<At<SocketAddr>>,
    open: Option<At<&str>>,
    has_keys: bool,
) {
    match open {
        Some(words) if words.value != OPEN_ACCESS => {
            let fix = format!("write open_access = {OPEN_ACCESS:?}, or remove it and add [[keys]]");
            section.fault(words.at, "`open_access` does not say what it must", fix);
        }
        Some(words) if has_keys => {
            let what = "`open_access` contradicts [[keys]]: access is not open";
            section.fault(words.at, what, "remove one of the two");
        }
        None if !has_keys => refuse_open(section, listen),
        _ => {}
    }
}

fn refuse_open(section: &Section<'_>, listen: Option<At<SocketAddr>>) {
    let Some(listen) = listen.filter(|listen| !is_loopback(listen.value.ip())) else { return };
    let what = format!("without [[keys]], everyone who reaches {} could use it", listen.value);
    let fix = format!(
        "add [[keys]], listen on 127.0.0.1, or write open_access = {OPEN_ACCESS:?} in [server]"
    );
    section.fault(listen.at, what, fix);
}

/// Reads `[admin]`; `present`: the file has it.
pub fn read_admin(section: &Section<'_>, present: bool) -> Option<Admin> {
    if !present {
        // Asked for all the same, so that the schema is whole.
        section.text("listen", "");
        section.text("token", "");
        return None;
    }
    let listen = listen(section, "127.0.0.1:9090");
    let given = section.text("token", "");
    let token = given.and_then(|text| reference::secret(section.reader, "token", text));
    let listen = listen?;
    if given.is_none() && !is_loopback(listen.value.ip()) {
        let what = format!("without a token, everyone who reaches {} has control", listen.value);
        section.fault(
            listen.at,
            what,
            "add token = \"env:NAME\" to [admin] or listen on 127.0.0.1",
        );
    }
    Some(Admin { listen: listen.value, token })
}

/// Two listeners cannot share a port, nor can one hold it for every address and the other for one.
pub fn check_apart(root: &Section<'_>, server: &Server, admin: &Admin) {
    let (a, b) = (server.listen, admin.listen);
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    if a.port() == b.port() && a.port() != 0 && overlap {
        let at = root.given("admin").unwrap_or_default();
        let what = format!("[admin] ({b}) and [server] ({a}) listen on the same port");
        root.fault(at, what, "give [admin] a port of its own");
    }
}

fn listen(section: &Section<'_>, example: &str) -> Option<At<SocketAddr>> {
    let text = section.required("listen", example)?;
    match parse_listen(text.value) {
        Ok(value) => Some(At { at: text.at, value }),
        Err((what, fix)) => {
            section.fault(text.at, format!("`listen` ({:?}) {what}", text.value), fix);
            None
        }
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, (&'static str, String)> {
    let example = "write an address and a port, e.g. \"127.0.0.1:8080\" or \"[::1]:8080\"";
    if text.starts_with("unix:") || text.starts_with('/') {
        return Err(("is a Unix socket, which Sluice does not listen on", example.to_owned()));
    }
    if text.contains("://") {
        return Err(("is a URL", example.to_owned()));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(("has no port", example.to_owned()));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) => Err((
            "has no address",
            format!("write \"0.0.0.0:{port}\" (IPv4) or \"[::]:{port}\" (IPv6 and IPv4)"),
        )),
        Some((host, port)) if host.starts_with(|c: char| c.is_ascii_alphabetic()) => Err((
            "names a host, and a name can mean many addresses",
            format!("write the address itself, e.g. \"127.0.0.1:{port}\""),
        )),
        _ => Err(("is not an address and a port", example.to_owned())),
    }
}

/// IPv4 loopback wrapped in IPv6 counts too.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
