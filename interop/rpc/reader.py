"""A client of the gateway that reads as much as it is told, and then no more."""

import json
import socket


class Reader:
    """One streamed answer over a socket of its own, whose receive buffer is small."""

    def __init__(self, gateway, request_id, **body):
        host, port = gateway.address.split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.socket.settimeout(15)
        self.socket.connect((host, int(port)))
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "Tell me of it."}], **body}).encode()
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: {gateway.address}\r\nx-request-id: {request_id}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n")
        self.socket.sendall(head.encode() + body)
        self.rest = b""
        self.status = int(self._line().split()[1])
        while self._line():
            pass

    def _fill(self):
        piece = self.socket.recv(64 * 1024)
        if not piece:
            raise EOFError
        self.rest += piece

    def _line(self):
        while b"\r\n" not in self.rest:
            self._fill()
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line

    def _chunk(self):
        size = int(self._line(), 16)
        while len(self.rest) < size + 2:
            self._fill()
        chunk, self.rest = self.rest[:size], self.rest[size + 2:]
        return chunk

    def events(self):
        """The payloads of the events, one by one."""
        text = b""
        while chunk := self._chunk():
            *whole, text = (text + chunk).split(b"\n\n")
            for event in whole:
                data = [line[6:] for line in event.split(b"\n") if line.startswith(b"data: ")]
                if data:
                    yield b"\n".join(data).decode()

    def close(self):
        self.socket.close()


def token(payload):
    choices = json.loads(payload)["choices"]
    return choices[0]["delta"].get("content", "") if choices else ""
