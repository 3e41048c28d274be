"""Connections to the service without an HTTP client, for requests that no client sends."""

import socket
from urllib.parse import urlsplit


def connect(url, receive_bytes=None):
    """Open a connection to a server. receive_bytes: size of the buffer of the client; None for the usual one"""
    parts = urlsplit(url)
    client = socket.socket()
    client.settimeout(10)
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect((parts.hostname, parts.port))
    return client
