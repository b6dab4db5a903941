"""A model service in Python that speaks `flumen.generation.v1` over gRPC. `python service.py --help`."""

import argparse
import asyncio
import signal

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

import contract
import wish
from generation import Generation, log
from model import Model

# A caller whose time is over resets the call when its own clock says so, in seconds.
CLOCKS_DIFFER = 0.05


class Service(contract.services.GenerationServicer):
    def __init__(self, options):
        self.model, self.options, self.running = Model(), options, 0

    async def Generate(self, _, context):
        first = await context.read()
        if first is grpc.aio.EOF or first.WhichOneof("message") != "start":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be `start`")
        if not first.start.model.startswith("ngram"):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model `{first.start.model}`; there is `ngram`")
        try:
            wanted = wish.read(first.start)
        except ValueError as fault:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))
        if self.running == self.options.concurrency:
            await context.abort_with_status(busy())
        metadata = dict(context.invocation_metadata())
        rate = self.options.tokens_per_second
        generation = Generation(wanted, metadata, rate and 1 / rate, self.options.trace)
        self.running += 1
        try:
            await self._run(generation, context)
        finally:
            self.running -= 1

    async def _run(self, generation, context):
        writing = asyncio.create_task(generation.write(self.model, context))
        hearing = asyncio.create_task(generation.hear(context))
        cause = "failed"
        try:
            await asyncio.wait([writing, hearing], return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
                cause = "complete"
            else:
                cause = hearing.result()
        except asyncio.CancelledError:
            # grpcio cancels the handler when the caller resets the call and when its deadline has passed.
            left = context.time_remaining()
            cause = "cancelled" if left is None or left > CLOCKS_DIFFER else "deadline"
            raise
        finally:
            writing.cancel()
            hearing.cancel()
            await asyncio.wait([writing, hearing])
            generation.log(cause)
        if cause != "complete":
            await context.abort(grpc.StatusCode.CANCELLED, f"stopped: {cause}")


def busy():
    """Says when it is worth another try, in the details that gRPC has for it."""
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2))
    details = any_pb2.Any()
    details.Pack(retry)
    status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="all places are taken", details=[details])
    return rpc_status.to_status(status)


async def serve(options):
    server = grpc.aio.server()
    contract.services.add_GenerationServicer_to_server(Service(options), server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in ("", contract.NAME):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection([contract.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    log({"listening": f"127.0.0.1:{port}"})

    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, over.set)
    await over.wait()
    # Whoever asks turns to another service; what runs has a moment to finish.
    await checks.enter_graceful_shutdown()
    await server.stop(grace=options.grace)


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--port", type=int, default=50051, help="0 takes a free one")
    parser.add_argument("--tokens-per-second", type=float, default=20, help="0 is as fast as possible")
    parser.add_argument("--concurrency", type=int, default=64, help="generations at a time; more are refused")
    parser.add_argument("--grace", type=float, default=10, help="seconds for what still runs when told to end")
    parser.add_argument("--trace", action="store_true", help="also tell of every pause and resume")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
