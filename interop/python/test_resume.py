"""httpx-sse over a line that breaks all the time: going on is sending the last id it saw."""

import json
import os
import socket
import threading

import httpx
from httpx_sse import connect_sse

GATEWAY = os.environ["INTEROP_GATEWAY"].removesuffix("/v1")
BODY = {"model": "sim:tps=300,tokens=60,lang=mix,seed=11", "stream": True, "messages": [{"role": "user", "content": "Rivers"}]}


class Cutter:
    """Passes connections on and cuts each after so many bytes of answers."""

    def __init__(self, target, most):
        self.target, self.most, self.cuts = httpx.URL(target), most, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.create_connection((self.target.host, self.target.port)) as upstream:
            upstream.sendall(client.recv(65536))
            left = self.most
            while left > 0 and (data := upstream.recv(1024)):
                client.sendall(data[:left])
                left -= len(data)
            self.cuts += left <= 0


def read(url):
    """All events, over as many connections as it takes; an id is shown as soon as it was seen."""
    events, last, connections = [], None, 0
    with httpx.Client(timeout=20) as client:
        while not events or events[-1].data != "[DONE]":
            connections += 1
            assert connections < 50, f"{len(events)} events in 50 connections"
            headers = {"flumen-resume": "1"} | ({"last-event-id": last} if last else {})
            try:
                with connect_sse(client, "POST", f"{url}/v1/chat/completions", json=BODY, headers=headers) as source:
                    for event in source.iter_sse():
                        events.append(event)
                        last = event.id
            except httpx.TransportError:
                pass
    return events


def test_every_event_comes_once_and_in_order():
    line = Cutter(GATEWAY, 6000)
    events = read(line.url)
    line.server.close()
    assert [int(event.id.rsplit("-")[-1]) for event in events] == list(range(1, len(events) + 1))
    said = "".join(
        choice["delta"].get("content") or ""
        for event in events[:-1]
        for choice in json.loads(event.data)["choices"]
    )
    whole = httpx.post(f"{GATEWAY}/v1/chat/completions", json=BODY, headers={"accept": "text/plain"}, timeout=20)
    assert said == whole.text
    assert line.cuts >= 3
