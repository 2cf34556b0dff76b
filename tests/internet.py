"""A small internet: a program that is run in a network namespace of its own, and answers on every address that it is given there.

HTTP on 80 (who was asked and by whom; /to/HOST redirects; /seen/TEXT says whether UDP brought that), UDP on 7 (the same bytes back), DNS
on 53 (UDP and TCP), TCP on 9 (takes connections, reads nothing). Arguments: addresses.
It is told by a line on stdin when its link is there, says `ready`, and ends with its stdin.
"""

from __future__ import annotations

import http.server
import ipaddress
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from typing import Any

NAMES = {
    "public.test": ("93.184.216.34", "2606:2800:220:1::34"),
    "inside.test": ("10.20.0.5", "fd12::5"),
    "mixed.test": ("10.20.0.5", "93.184.216.34"),
    "a.b.deep.test": ("93.184.216.34",),
    "host.test": ("11.0.0.2",),
    "metadata.test": ("169.254.169.254", "fd00:ec2::254"),
}


FLIPS = iter(["93.184.216.34"])  # flip.test: this the first time, and something private from then on


SEEN: set[str] = set()  # what came by UDP


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        moved = self.path.startswith("/to/")
        body = f"{self.connection.getsockname()[0]} asked by {self.client_address[0]}".replace("::ffff:", "").encode()
        if self.path.startswith("/seen/"):
            body = str(self.path.removeprefix("/seen/") in SEEN).encode()
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", f"http://{self.path.removeprefix('/to/')}/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_parts: Any) -> None:
        """Quiet."""


class Web(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4 by it: dual stack
    request_queue_size = 1024
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's look for its own name


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        SEEN.add(data.decode("ascii", "replace"))
        sock.sendto(data, self.client_address)


class Echo6(socketserver.UDPServer):
    address_family = socket.AF_INET6


class DnsByUdp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, sock = self.request
        if reply := answer(query, by_udp=True):
            sock.sendto(reply, self.client_address)


class DnsByTcp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while head := self.request.recv(2):
            reply = answer(self.request.recv(int.from_bytes(head)), by_udp=False)
            self.request.sendall(len(reply).to_bytes(2) + reply)


class TcpServer(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET
    allow_reuse_address = True
    daemon_threads = True


def answer(query: bytes, *, by_udp: bool) -> bytes:
    """`big.test` is too long for UDP, `silent.test` gets no answer, what is not in NAMES does not exist."""
    labels, end = [], 12
    while query[end]:
        labels.append(query[end + 1 : end + 1 + query[end]].decode())
        end += 1 + query[end]
    name, question = ".".join(labels), query[12 : end + 5]
    kind = int.from_bytes(question[-4:-2])
    if name == "silent.test":
        return b""
    if name == "big.test":
        addresses = [] if by_udp else [f"93.184.{n // 200}.{n % 200}" for n in range(400)]
        flags = 0x8380 if by_udp else 0x8180
    elif name == "flip.test":
        addresses = [next(FLIPS, "10.20.0.5")] if kind == 1 else []
        flags = 0x8180
    else:
        addresses = [each for each in NAMES.get(name, ()) if (":" in each) == (kind == 28)]
        flags = 0x8180 if name in NAMES else 0x8183
    records = b""
    for each in addresses if kind in (1, 28) else []:
        packed = ipaddress.ip_address(each).packed
        records += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(packed)) + packed
    return (
        query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses) if kind in (1, 28) else 0, 0, 0) + question + records
    )


def serve(*servers: socketserver.BaseServer) -> None:
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()


def web(port: int = 80) -> None:
    """HTTP on every address of this namespace."""
    serve(Web(("::", port), Pages))


def main(addresses: list[str]) -> None:
    sys.stdin.readline()
    for command in (
        "link set lo up",
        "addr add 11.0.0.1/24 dev eth0",
        "addr add 2606:f00::1/64 dev eth0 nodad",
        "link set eth0 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    for address in addresses:
        subprocess.run(["ip", "addr", "add", address, "dev", "lo"], check=True)
    web()
    for address in addresses:
        if ":" in address:
            serve(Echo6((address, 7), Echo))
        else:
            udp = [socketserver.UDPServer((address, 7), Echo), socketserver.UDPServer((address, 53), DnsByUdp)]
            serve(*udp, TcpServer((address, 53), DnsByTcp))
    with socket.create_server(("", 9), backlog=100):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
