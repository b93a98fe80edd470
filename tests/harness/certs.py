"""Certificates for tests: an authority, and chains that it signed."""

from pathlib import Path

import trustme


class Authority:
    """A certificate authority whose root is at `root`."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.ca = trustme.CA()
        self.root = self.directory / "root.pem"
        self.ca.cert_pem.write_to_path(self.root)

    def issue(self, name, *identities):
        """(chain file, key file) for these names, in a directory called `name`."""
        issued = self.ca.issue_cert(*identities)
        directory = self.directory / name
        directory.mkdir()
        chain, key = directory / "tls.crt", directory / "tls.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return chain, key
