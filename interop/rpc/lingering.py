"""A service of grpcio's threads that has something to put away after its last word, as real ones have."""

import concurrent.futures
import queue
import threading
import time

import grpc
from contract import messages, services

# How long it takes, in seconds.
LINGERS = 0.02


class Lingering(services.GenerationServicer):
    def __init__(self):
        # Of every generation, whether its call was reset before the service had ended it.
        self.resets = queue.SimpleQueue()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        services.add_GenerationServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Generate(self, asks, context):
        tidy = threading.Event()
        context.add_callback(lambda: self.resets.put(not tidy.is_set()))
        yield messages.ServerMessage(delta=messages.Delta(text="all"))
        yield messages.ServerMessage(finish=messages.Finish())
        time.sleep(LINGERS)
        tidy.set()

    def stop(self):
        self.server.stop(None)
