"""Who runs what tests of the providers' side do on an event loop, and a certificate authority of our own."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trustme

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a test may hang until it is called one that hangs. All of them take milliseconds on a machine that has time for them."""


@dataclass
class Runner:
    """Runs what a test does on one kind of event loop. `reported` is what reached the loop's exception handler."""

    new_loop: Callable[[], asyncio.AbstractEventLoop]
    reported: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async def limited() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: self.reported.append(context))
            async with asyncio.timeout(PATIENCE_S):
                return await main()

        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            result = runner.run(limited())
        assert not self.reported, self.reported
        return result

    def take_reported(self) -> list[BaseException]:
        """The errors reported so far, which the test expected."""
        errors = [context["exception"] for context in self.reported]
        self.reported.clear()
        return errors


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody else trusts. `ca_file` is what clients are told to trust."""

    ca: trustme.CA
    folder: Path
    ca_file: str

    def server(self, *names: str, clients_of: "Authority | None" = None) -> ssl.SSLContext:
        """The context of a server that is `names` (host names or IP addresses), taking only `clients_of` an authority if given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        if clients_of is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients_of.ca_file)
        return context

    def client_files(self, name: str) -> tuple[str, str]:
        """Certificate and key of a client, as files."""
        issued = self.ca.issue_cert(f"{name}@example.org", common_name=name)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return str(cert), str(key)


def new_authority(folder: Path) -> Authority:
    ca = trustme.CA()
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, folder, str(file))
