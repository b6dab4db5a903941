"""The contract's messages and stubs, made from its `.proto` when this is imported. A service of yours may as well run
`python -m grpc_tools.protoc` once and keep what it writes."""

import pathlib
import sys

import grpc

# grpcio-tools looks for `.proto` files where Python looks for modules.
sys.path.append(str(pathlib.Path(__file__).parents[2] / "crates/flumen-rpc/proto"))
messages, services = grpc.protos_and_services("flumen/generation/v1/generation.proto")

NAME = messages.DESCRIPTOR.services_by_name["Generation"].full_name
