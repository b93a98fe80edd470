//! Certificates, keys and CA bundles.

use std::path::PathBuf;

use super::*;

/// A directory with `tls.crt`, `tls.key`, `other.key`, `ca.pem`, `ca2.pem`.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let dir = tempdir();
        let made = || rcgen::generate_simple_self_signed(vec!["gpu".to_owned()]).expect("made");
        let (own, ca, other) = (made(), made(), made());
        for (name, pem) in [
            ("tls.crt", own.cert.pem()),
            ("tls.key", own.signing_key.serialize_pem()),
            ("other.key", other.signing_key.serialize_pem()),
            ("ca.pem", ca.cert.pem()),
            ("ca2.pem", other.cert.pem()),
            ("empty.pem", String::new()),
        ] {
            std::fs::write(dir.join(name), pem).expect("written");
        }
        Self(dir)
    }

    fn parse(&self, text: &str) -> Result<Plan, String> {
        parse(text, "f", &self.0, &env, 1).map_err(|errors| errors.to_string())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn listener(certificate: &str, key: &str) -> String {
    around(&format!("[server.tls]\ncertificate_file = {certificate:?}\nkey_file = {key:?}"))
}

fn https(lines: &str) -> String {
    with_endpoint(lines).replace("http://gpu:8000", "https://gpu")
}

#[test]
fn a_listener_gets_its_certificate() {
    let files = Files::new();
    let plan = files.parse(&listener("tls.crt", "tls.key")).expect("valid");
    let tls = plan.server.tls.as_ref().expect("TLS");
    assert_eq!(tls.alpn_protocols, [b"http/1.1".to_vec()]);
    assert_eq!(plan.server.tls_files, Some((files.0.join("tls.crt"), files.0.join("tls.key"))));
    assert_eq!(plan.files, [files.0.join("tls.crt"), files.0.join("tls.key")]);
    assert!(describe(&plan).contains("  tls: certificate "));
}

#[test]
fn a_bad_pair_is_refused() {
    let files = Files::new();
    for (certificate, key, expected) in [
        ("tls.key", "tls.key", "f:4:20: `certificate_file` (tls.key) holds no certificate: "),
        ("tls.crt", "tls.crt", "f:5:12: `key_file` (tls.crt) holds no private key in PEM form: "),
        ("tls.crt", "other.key", "f:5:12: certificate and key cannot be used ("),
        ("gone.crt", "tls.key", "f:4:20: `certificate_file` (gone.crt) cannot be read ("),
        (".", "tls.key", "f:4:20: `certificate_file` (.) is not a regular file: "),
    ] {
        let errors = files.parse(&listener(certificate, key)).expect_err("bad");
        assert!(errors.starts_with(expected) && errors.lines().count() == 1, "{errors}");
    }
    let lone = around("[server.tls]\ncertificate_file = \"tls.crt\"");
    let errors = files.parse(&lone).expect_err("bad");
    let expected = "f:3:1: [server.tls] has no `key_file`: add key_file = \"/etc/sluice/tls.key\"";
    assert_eq!(errors, expected);
}

#[test]
fn an_endpoint_trusts_its_own_ca() {
    let files = Files::new();
    let endpoint = |lines: &str| files.parse(&https(lines)).expect("valid").endpoints.remove(0);
    let one = endpoint("ca_file = \"ca.pem\"");
    let tls = one.tls.as_ref().expect("TLS");
    assert_eq!(tls.server_name.to_str(), "gpu");
    assert_eq!(tls.config.alpn_protocols, [b"http/1.1".to_vec()]);
    assert_eq!(
        (&*one.host_header, one.identity),
        ("gpu", endpoint("ca_file = \"ca.pem\"").identity)
    );
    let other_ca = endpoint("ca_file = \"ca2.pem\"");
    let other_name = endpoint("ca_file = \"ca.pem\"\nserver_name = \"10.0.0.1\"");
    assert_eq!(other_name.tls.as_ref().expect("TLS").server_name.to_str(), "10.0.0.1");
    assert!(one.identity != other_ca.identity && one.identity != other_name.identity);
}

#[test]
fn bad_trust_is_refused() {
    let files = Files::new();
    for (lines, expected) in [
        ("ca_file = \"empty.pem\"", "f:7:11: `ca_file` (empty.pem) holds no certificate: "),
        ("ca_file = \"gone.pem\"", "f:7:11: `ca_file` (gone.pem) cannot be read ("),
        (
            "ca_file = \"ca.pem\"\nserver_name = \"a b\"",
            "f:8:15: `server_name` names a host that no certificate can be for: ",
        ),
    ] {
        let errors = files.parse(&https(lines)).expect_err("bad");
        assert!(errors.starts_with(expected) && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn without_a_ca_file_the_systems_roots_are_trusted() {
    // Whether this machine has any decides which; never neither.
    match parse_here(&https("")) {
        Ok(plan) => assert!(plan.endpoints[0].tls.is_some()),
        Err(errors) => assert!(errors.to_string().contains("needs system root certificates")),
    }
}
