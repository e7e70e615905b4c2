"""Certificates for TLS between the parts, from an authority that only the test trusts."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """A certificate authority in `directory`, with one server certificate for `names`.

    `ca_file` is for a client's trust store; `ca_folder` is the form for `--cert-dir` of skopeo and podman.
    """

    def __init__(self, directory: Path, names: tuple[str, ...] = ("127.0.0.1", "localhost")) -> None:
        self.ca_folder = directory / "trusted"
        self.ca_file = self.ca_folder / "ca.crt"
        self.cert_file = directory / "server.pem"
        self.key_file = directory / "server.key"
        self.ca_folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        issued = authority.issue_cert(*names)
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued.private_key_pem.write_to_path(str(self.key_file))
        for number, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(str(self.cert_file), append=number > 0)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_file))
