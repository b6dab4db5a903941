"""What is asked of a chain and of a model service, as bytes, and what of an answer must be understood: its tokens and its end."""

import json
import struct

# A generation that does not end within a measurement.
ENDLESS = 1 << 62


def asked(kind, count, size, interval_us):
    """How a stream is asked for, over a connection that asks for one after the other. KIND is how the peer is spoken to."""
    model = f"count={'endless' if count == ENDLESS else count},size={size},interval_us={interval_us}"
    return {
        "flumen": lambda: Http("/v1/chat/completions", b'"content":"x', {
            "model": model, "stream": True, "messages": [{"role": "user", "content": "Tell me."}]}),
        "hertz": lambda: Http("/generate", b'"content":"a', {"count": count, "size": size, "interval_us": interval_us}),
        "flumen-grpc": lambda: Grpc("/flumen.generation.v1.Generation/Generate", "application/grpc", start_proto(model), b"xxxxxx"),
        "flumen-ttheader": lambda: TtHeader("Generation", start_thrift(model), b"xxxxxx"),
        "kitex-grpc": lambda: Grpc("/Model/Generate", "application/grpc+thrift", prompt(count, size, interval_us), b"abcdef"),
        "kitex-ttheader": lambda: TtHeader("Model", prompt(count, size, interval_us), b"abcdef"),
    }[kind]()


class Http:
    """Server-sent events over HTTP/1.1. Counts every token."""

    def __init__(self, path, token, body):
        body = json.dumps(body).encode()
        self.token = token
        self.request = (f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                        f"accept: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body
        self.tail = b""

    def hello(self):
        return b""

    def ask(self):
        self.tail = b""
        return self.request

    def take(self, data):
        """Tokens in it, whether the stream has ended, and what is to be said in return."""
        if not self.tail and not data.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"not an answer: {data[:200]!r}")
        data = self.tail + data
        tokens = data.count(self.token)
        # Too short for a token, so that none is counted twice; long enough for an end.
        self.tail = data[1 - len(self.token):]
        return tokens, data.endswith(b"\n0\r\n\r\n"), b""


class Framed:
    """A protocol of frames. Of tokens it only says whether there are any: a probe asks for one."""

    def __init__(self, token):
        self.token = token
        self.rest = b""

    def take(self, data):
        data = self.rest + data
        tokens, ended, reply, at = int(self.token in data), False, b"", 0
        while at + self.HEAD <= len(data):
            size = self.size(data, at)
            if at + size > len(data):
                break
            end, said = self.frame(data[at:at + size])
            ended, reply, at = ended or end, reply + said, at + size
        self.rest = data[at:]
        return tokens, ended, reply


class Grpc(Framed):
    HEAD = 9

    def __init__(self, path, content_type, message, token):
        super().__init__(token)
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "model"), ("te", "trailers"),
                   ("content-type", content_type)]
        # Literals that no table keeps: the same bytes for every call.
        self.headers = b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
                                for name, value in headers)
        self.message = struct.pack(">BI", 0, len(message)) + message
        self.stream = -1

    @staticmethod
    def framed(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def hello(self):
        # Streams may be long, and so may connections.
        return (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.framed(4, 0, 0, struct.pack(">HI", 4, 1 << 24))
                + self.framed(8, 0, 0, struct.pack(">I", 1 << 30)))

    def ask(self):
        self.stream += 2
        return self.framed(1, 4, self.stream, self.headers) + self.framed(0, 1, self.stream, self.message)

    @staticmethod
    def size(data, at):
        return 9 + int.from_bytes(data[at:at + 3], "big")

    def frame(self, frame):
        kind, flags, stream = frame[3], frame[4], int.from_bytes(frame[5:9], "big")
        if kind in (3, 7):
            raise ValueError(f"the call was ended: {frame!r}")
        reply = b""
        if kind in (4, 6) and not flags & 1:
            reply = self.framed(kind, 1, 0, frame[9:] if kind == 6 else b"")
        return kind in (0, 1) and bool(flags & 1) and stream == self.stream, reply


class TtHeader(Framed):
    HEAD = 4
    HEADER, DATA, TRAILER, RESET = b"2", b"3", b"4", b"5"

    def __init__(self, service, message, token):
        super().__init__(token)
        self.service, self.message, self.stream = service.encode(), message, 0

    def framed(self, kind, strings=(), payload=b""):
        text = lambda value: struct.pack(">H", len(value)) + value
        info = struct.pack(">BHH", 0x10, 2, 27) + text(kind) + struct.pack(">H", 9) + text(b"Generate")
        if strings:
            info += struct.pack(">BH", 1, len(strings)) + b"".join(text(key) + text(value) for key, value in strings)
        header = b"\x10\0" + info
        header += bytes(-len(header) % 4)
        body = struct.pack(">HHiH", 0x1000, 2, self.stream, len(header) // 4) + header + payload
        return struct.pack(">I", len(body)) + body

    def hello(self):
        return b""

    def ask(self):
        self.stream += 1
        return (self.framed(self.HEADER, [(b"isn", self.service)]) + self.framed(self.DATA, payload=self.message)
                + self.framed(self.TRAILER))

    @staticmethod
    def size(data, at):
        return 4 + int.from_bytes(data[at:at + 4], "big")

    def frame(self, frame):
        kind = frame[frame.index(b"\0\x1b\0\x01") + 4:][:1]
        if kind == self.RESET:
            raise ValueError(f"the call was ended: {frame!r}")
        return kind == self.TRAILER, b""


def prompt(count, size, interval_us):
    """`Prompt` of bench/peers/chain.thrift."""
    return struct.pack(">BHqBHiBHiB", 10, 1, count, 8, 2, size, 8, 3, interval_us, 0)


def start_thrift(model):
    """A `ClientMessage` of generation.thrift that starts this model."""
    model = model.encode()
    return (struct.pack(">BHBHI", 12, 1, 11, 1, len(model)) + model + struct.pack(">BHBBB", 2, 8, 1, 0, 0))


def start_proto(model):
    """The same of generation.proto."""
    model = model.encode()
    start = b"\x0a" + bytes([len(model)]) + model + b"\x40\x01"
    return b"\x0a" + bytes([len(start)]) + start
