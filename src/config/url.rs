//! Endpoint URLs: `http(s)://host[:port][/prefix]`.
//!
//! Stricter than a browser: what is refused here would otherwise be guessed at differently by two
//! readers (user information, backslashes, dot segments, numeric host names that are no address).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::plan::Authority;

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    pub authority: Authority,
    /// Lower-case, IPv6 in brackets, no default port, no final dot.
    pub host_header: String,
    /// Without brackets, port and final dot: what the server's certificate must be for.
    pub tls_name: String,
    /// "" or "/a/b": no trailing slash, no trailing `/v1`.
    pub path_prefix: String,
}

/// What clients ask for below `/v1/`: in an endpoint's URL it would stand twice. Held against
/// `api::operation` by a test of `foretell`, which may know both.
const OPERATIONS: [&str; 8] = [
    "chat/completions",
    "completions",
    "embeddings",
    "rerank",
    "responses",
    "messages",
    "messages/count_tokens",
    "models",
];

/// What is wrong with a URL, and the remedy.
pub type Refusal = (&'static str, &'static str);

/// Parses an endpoint's URL.
pub fn parse(url: &str) -> Result<Target, Refusal> {
    if !url.bytes().all(|b| (0x21..0x7f).contains(&b)) {
        return Err((
            "holds spaces or non-ASCII characters",
            "write host names in ASCII (punycode)",
        ));
    }
    let (https, rest) = scheme(url)?;
    if rest.contains(['?', '#']) {
        return Err(("has a query or a fragment", "end the URL after its path"));
    }
    let path_at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    let (host, port) = host_and_port(authority)?;
    let default_port = if https { 443 } else { 80 };
    let name = host.name();
    let mut host_header = host.bracketed();
    if let Some(port) = port.filter(|port| *port != default_port) {
        host_header = format!("{host_header}:{port}");
    }
    let authority = host.authority(port.unwrap_or(default_port));
    Ok(Target { https, authority, host_header, tls_name: name, path_prefix: prefix(path)? })
}

fn scheme(url: &str) -> Result<(bool, &str), Refusal> {
    let fix = "begin it with http:// or https://";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(("has no scheme", fix));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok((false, rest)),
        "https" => Ok((true, rest)),
        _ => Err(("has an unknown scheme", fix)),
    }
}

enum Host {
    Ip(IpAddr),
    /// Lower-case, possibly with a final dot (which stops resolver search lists).
    Name(String),
}

impl Host {
    fn authority(self, port: u16) -> Authority {
        match self {
            Host::Ip(ip) => Authority::Address(SocketAddr::new(ip, port)),
            Host::Name(name) => Authority::Name { host: name.into(), port },
        }
    }

    fn name(&self) -> String {
        match self {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        }
    }

    fn bracketed(&self) -> String {
        match self {
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.name(),
        }
    }
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), Refusal> {
    if authority.contains('@') {
        return Err(("holds user information", "remove it and use `api_key` or `headers`"));
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let broken = ("has a broken IPv6 address", "write it as http://[2001:db8::1]:8000");
        let (ip, rest) = rest.split_once(']').ok_or(broken)?;
        let ip: Ipv6Addr = ip.parse().map_err(|_| broken)?;
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((Host::Ip(ip.into()), Some(port(digits)?))),
            None if rest.is_empty() => Ok((Host::Ip(ip.into()), None)),
            None => Err(broken),
        };
    }
    if authority.matches(':').count() > 1 {
        return Err(("has a bare IPv6 address", "put the address in brackets: http://[::1]:8000"));
    }
    match authority.split_once(':') {
        Some((host, digits)) => Ok((host_name(host)?, Some(port(digits)?))),
        None => Ok((host_name(authority)?, None)),
    }
}

fn port(digits: &str) -> Result<u16, Refusal> {
    let bad = ("has a bad port", "use a port from 1 to 65535");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad);
    }
    digits.parse().ok().filter(|port| *port != 0).ok_or(bad)
}

fn host_name(host: &str) -> Result<Host, Refusal> {
    if host.is_empty() {
        return Err(("has no host", "name a host: http://gpu-0:8000"));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(("has an impossible host name", "use letters, digits, hyphens and dots"));
    }
    // "10.1", "0x7f.1" and "256.0.0.1" are addresses to some resolvers and names to others.
    if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
        return Err((
            "has a host that is neither a name nor an IPv4 address",
            "write all four parts",
        ));
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

/// Removes what would double when `/v1/...` is appended.
fn prefix(path: &str) -> Result<String, Refusal> {
    check_path(path)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let operation = path.rsplit_once("/v1/").map(|(_, operation)| operation);
    if operation.is_some_and(|operation| OPERATIONS.contains(&operation)) {
        return Err((
            "ends with the path of an operation, and Sluice appends that",
            "end it before /v1",
        ));
    }
    Ok(path.strip_suffix("/v1").unwrap_or(path).to_owned())
}

/// Proves a path fit for a request line: visible characters of a URI path (RFC 3986 section 3.3), no
/// empty and no dot segments.
pub fn check_path(path: &str) -> Result<(), Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    if !path.bytes().all(allowed) {
        return Err(("has a path with forbidden characters", "percent-encode them"));
    }
    let well_escaped = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !path.split('%').skip(1).all(well_escaped) {
        return Err(("has a broken percent escape in its path", "write % as %25"));
    }
    if path.contains("//") {
        return Err(("has an empty path segment", "write single slashes"));
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(("has a dot segment in its path", "write the path it stands for"));
    }
    Ok(())
}
