//! The user's configuration on the bench: simulated servers in place of the endpoints, free ports, no
//! secrets, nothing written outside the scratch directory. Everything else stays as it is.

use std::net::SocketAddr;
use std::path::Path;

use toml::{Table, Value};

use crate::Failure;
use crate::peers::{API_KEY, MODEL};

/// File of the key that clients present.
const KEY_FILE: &str = "key";

/// A configuration that can be served here.
#[derive(Debug)]
pub struct Site {
    pub config: Table,
    /// The first model's name: what requests ask for.
    pub model: String,
    /// Whether clients need a key.
    pub keyed: bool,
}

impl Site {
    /// From the text of the user's file.
    ///
    /// # Errors
    /// It is no TOML, or has neither endpoints nor models.
    pub fn read(text: &str) -> Result<Self, Failure> {
        let mut config: Table = text.parse().map_err(|error| format!("no TOML: {error}"))?;
        if tables(&mut config, "endpoints").next().is_none() {
            return Err("the configuration has no [[endpoints]]".into());
        }
        for endpoint in tables(&mut config, "endpoints") {
            for secret in ["api_key", "ca_file", "server_name", "headers"] {
                endpoint.remove(secret);
            }
        }
        let mut model = None;
        for entry in tables(&mut config, "models") {
            model = model.or(entry.get("name").and_then(Value::as_str).map(str::to_owned));
            entry.insert("upstream_model".into(), MODEL.into());
        }
        let model = model.ok_or("the configuration has no [[models]]")?;
        let keyed = tables(&mut config, "keys").next().is_some();
        if keyed {
            let key = [("name", "tune".into()), ("secret", format!("file:{KEY_FILE}").into())];
            let key: Table =
                key.into_iter().map(|(name, value): (_, Value)| (name.into(), value)).collect();
            config.insert("keys".into(), Value::Array(vec![Value::Table(key)]));
        }
        remove(&mut config, "server", "tls");
        remove(&mut config, "admin", "token");
        Ok(Self { config, model, keyed })
    }

    /// The file's text for one measurement; writes what it refers to into `dir`.
    ///
    /// # Errors
    /// The scratch directory cannot be written.
    pub fn place(
        &self,
        config: &Table,
        dir: &Path,
        [listen, admin]: [SocketAddr; 2],
        upstreams: &[SocketAddr],
    ) -> Result<String, Failure> {
        let mut config = config.clone();
        set(&mut config, "server", "listen", listen.to_string().into());
        set(&mut config, "admin", "listen", admin.to_string().into());
        for (endpoint, at) in tables(&mut config, "endpoints").zip(upstreams.iter().cycle()) {
            endpoint.insert("url".into(), format!("http://{at}").into());
        }
        for rows in ["access", "usage"] {
            let to = config.get("log").and_then(|log| log.get(rows)).and_then(Value::as_str);
            if to.is_some_and(|to| to.starts_with("file:")) {
                set(&mut config, "log", rows, format!("file:{rows}.jsonl").into());
            }
        }
        if self.keyed {
            std::fs::write(dir.join(KEY_FILE), API_KEY)?;
        }
        Ok(config.to_string())
    }
}

/// Sets a key of a table that may not be there yet. What is no table is left as it is: the gateway refuses
/// it, and says why.
pub fn set(config: &mut Table, table: &str, key: &str, value: Value) {
    let table = config.entry(table).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(table) = table {
        table.insert(key.to_owned(), value);
    }
}

fn remove(config: &mut Table, table: &str, key: &str) {
    if let Some(Value::Table(table)) = config.get_mut(table) {
        table.remove(key);
    }
}

/// The tables of a list.
fn tables<'a>(config: &'a mut Table, name: &str) -> impl Iterator<Item = &'a mut Table> {
    let list = config.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_table_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [server]
        listen = "0.0.0.0:443"
        open_access = "anyone who reaches this port may use it"
        [server.tls]
        certificate_file = "/etc/tls.crt"
        [admin]
        listen = "0.0.0.0:9090"
        token = "env:TOKEN"
        [runtime]
        shards = 3
        [log]
        access = "file:/var/log/access"
        [[endpoints]]
        name = "a"
        url = "https://api.example.com/v1"
        engine = "openai"
        api_key = "env:KEY"
        headers = { "x-a" = "env:A" }
        [[endpoints]]
        name = "b"
        url = "http://gpu"
        [[models]]
        name = "large"
        endpoints = ["a", "b"]
        [[keys]]
        name = "team"
        secret = "env:TEAM"
    "#;

    #[test]
    fn secrets_and_addresses_are_replaced_and_the_rest_stays() -> Result<(), Failure> {
        let dir = std::env::temp_dir().join(format!("sluice-perf-site-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let site = Site::read(TEXT)?;
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let text = site.place(&site.config, &dir, [at(1), at(2)], &[at(3)])?;
        std::fs::remove_dir_all(&dir)?;
        for gone in ["env:", "/etc", "/var", "example.com", "0.0.0.0", "gpu"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        let config: Table = text.parse()?;
        assert_eq!(config["server"]["listen"].as_str(), Some("127.0.0.1:1"));
        assert_eq!(config["runtime"]["shards"].as_integer(), Some(3));
        assert_eq!(config["endpoints"][1]["url"].as_str(), Some("http://127.0.0.1:3"));
        assert_eq!(config["models"][0]["upstream_model"].as_str(), Some(MODEL));
        assert_eq!((site.model.as_str(), site.keyed), ("large", true));
        Ok(())
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for text in ["[", "", "[[endpoints]]\nname = \"a\""] {
            assert!(Site::read(text).is_err(), "{text}");
        }
    }
}
