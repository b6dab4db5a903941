"""The gateway's own `flumen.generation.v1`, asked by grpcio's client."""

import itertools
import json
import queue
import threading

import grpc
import httpx
import pytest
from contract import NAME, messages, services
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from model import Model
from processes import PATIENCE

RIVER = [messages.Message(role="user", content="tell me of the river")]


class Call:
    """One call. Answers are read by a thread, so that a test can wait for one, and for none."""

    def __init__(self, stub, start, metadata=(), timeout=None):
        self.asks, self.answers = queue.SimpleQueue(), queue.SimpleQueue()
        self.say(start=start)
        self.call = stub.Generate(iter(self.asks.get, None), metadata=metadata, timeout=timeout)
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, **ask):
        self.asks.put(messages.ClientMessage(**ask))

    def _read(self):
        try:
            for answer in self.call:
                self.answers.put(answer)
            self.answers.put(None)
        except grpc.RpcError as error:
            self.answers.put(error)

    def next(self, within=PATIENCE):
        answer = self.answers.get(timeout=within)
        if isinstance(answer, grpc.RpcError):
            raise answer
        return answer

    def rest(self):
        return list(iter(self.next, None))


@pytest.fixture(scope="module")
def channel(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return services.GenerationStub(channel)


def start(model="sim", **fields):
    return messages.Start(model=model, **{"messages": RIVER, "stream": True, **fields})


def raw(**body):
    request = {"model": "sim", "stream": True, "messages": [{"role": "user", "content": RIVER[0].content}], **body}
    return messages.Start(dialect="openai-chat", raw=json.dumps(request).encode(), stream=request["stream"])


def kinds(answers):
    return [answer.WhichOneof("message") for answer in answers]


def text(answers):
    return "".join(answer.delta.text for answer in answers)


def over_http(gateway, model):
    body = {"model": model, "messages": [{"role": "user", "content": RIVER[0].content}]}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=20).json()["choices"][0]["message"]["content"]


def test_typed_messages(gateway, stub):
    answers = Call(stub, start("sim:seed=3,tokens=20")).rest()
    assert kinds(answers) == ["accepted", *["delta"] * 20, "usage", "finish"]
    assert answers[0].accepted.id
    assert text(answers) == over_http(gateway, "sim:seed=3,tokens=20")
    assert answers[-2].usage.completion_tokens == 20 and answers[-1].finish.reason == "stop"


def test_typed_messages_without_a_stream(gateway, stub):
    answers = Call(stub, start("sim:seed=3,tokens=20", stream=False)).rest()
    assert kinds(answers) == ["accepted", "delta", "usage", "finish"]
    assert text(answers) == over_http(gateway, "sim:seed=3,tokens=20")


def test_raw_json_is_answered_in_frames_of_its_dialect(gateway, stub):
    accepted, *frames, finish = Call(stub, raw(model="sim:seed=3,tokens=20")).rest()
    assert kinds([accepted, finish]) == ["accepted", "finish"]
    chunks = [json.loads(answer.delta.frame) for answer in frames]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert said == over_http(gateway, "sim:seed=3,tokens=20")
    accepted, whole, finish = Call(stub, raw(model="sim:seed=3,tokens=20", stream=False)).rest()
    assert json.loads(whole.delta.frame)["choices"][0]["message"]["content"] == said


def test_pause_holds_the_answer_and_resume_goes_on_without_a_gap(gateway, stub):
    model = "sim:seed=3,tps=1000,tokens=1000"
    call = Call(stub, start(model))
    answers = [call.next() for _ in range(50)]
    call.say(pause=messages.Pause())
    # What was under way arrives; then, where a thousand tokens a second were, there are none.
    with pytest.raises(queue.Empty):
        while len(answers) < 900:
            answers.append(call.next(within=0.3))
    at = len(answers)
    assert at < 900
    call.say(resume=messages.Resume())
    answers += call.rest()
    assert answers[-1].finish.reason == "stop"
    assert text(answers) == over_http(gateway, model)


def test_a_pause_at_the_front_pauses_the_service_behind(fast, stub, request_id, measured):
    wish = start("ngram-endless", sampling=messages.Sampling(seed=11))
    call = Call(stub, wish, metadata=[("x-request-id", request_id)])
    answers = [call.next() for _ in range(50)]
    call.say(pause=messages.Pause())
    [(_, paused), *_] = fast.logged(event="paused", request_id=request_id)
    # Meanwhile others are served.
    assert kinds(Call(stub, start("ngram")).rest())[-1] == "finish"
    call.say(resume=messages.Resume())
    [(_, resumed), *_] = fast.logged(event="resumed", request_id=request_id)
    assert resumed["tokens"] == paused["tokens"]
    answers += [call.next() for _ in range(2 * paused["tokens"])]
    call.say(stop=messages.Stop())
    said = [answer.delta.text for answer in answers if answer.HasField("delta")]
    assert said == list(itertools.islice(Model().generate(RIVER[0].content, 1.0, 11, endless=True), len(said)))
    assert fast.end_of(request_id)[1]["cause"] == "client_gone"
    measured(f"a pause at the front: the service stood still at {paused['tokens']} tokens, "
             f"{resumed['tokens'] - paused['tokens']} were made meanwhile, {len(said)} came in order")


def test_stop_ends_the_answer(gateway, stub, request_id):
    call = Call(stub, start("sim:tps=200,tokens=endless"), metadata=[("x-request-id", request_id)])
    answers = [call.next() for _ in range(5)]
    call.say(stop=messages.Stop(cause="enough"))
    answers += call.rest()
    assert answers[-1].finish.reason == "stopped"
    assert call.call.code() == grpc.StatusCode.OK
    assert gateway.end_of(request_id)[1]["cause"] in ("client_gone", "stopped")


def test_stop_ends_a_paused_answer(stub):
    call = Call(stub, start("sim:tps=200,tokens=endless"))
    call.next()
    call.say(pause=messages.Pause())
    call.say(stop=messages.Stop())
    assert call.rest()[-1].finish.reason == "stopped"


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_through_the_gateway_to_the_python_service_and_back(gateway, services, stub, request_id, measured, how):
    """gRPC on both sides. Whoever leaves here is gone there, too."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    call = Call(stub, start("slow"), metadata=[("x-request-id", request_id), ("traceparent", trace)])
    assert kinds([call.next(), call.next()]) == ["accepted", "delta"]
    call.call.cancel() if how == "cancel" else call.say(stop=messages.Stop(cause="enough"))
    _, end = services["slow"].end_of(request_id)
    assert end["cause"] == "client_gone" and end["traceparent"].split("-")[1] == trace.split("-")[1]


def test_a_deadline_of_the_caller_ends_the_generation(gateway, services, stub, request_id):
    call = Call(stub, start("slow"), metadata=[("x-request-id", request_id)], timeout=0.5)
    with pytest.raises(grpc.RpcError) as raised:
        call.rest()
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert services["slow"].end_of(request_id)[1]["cause"] in ("client_gone", "deadline")


def refused(stub, start, metadata=()):
    with pytest.raises(grpc.RpcError) as raised:
        Call(stub, start, metadata).rest()
    details = {}
    for detail in rpc_status.from_call(raised.value).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(details.setdefault(kind.DESCRIPTOR.name, kind()))
    return raised.value, details


def test_an_unknown_model_is_not_found_and_says_so_in_details(stub):
    error, details = refused(stub, start("unknown"))
    assert error.code() == grpc.StatusCode.NOT_FOUND and "unknown" in error.details()
    assert details["ErrorInfo"].reason == "model_not_found"


def test_an_error_of_the_upstream_keeps_its_retry_hint(stub):
    error, details = refused(stub, start("sim:fault=status:429"))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details["RetryInfo"].retry_delay.seconds >= 1


@pytest.mark.parametrize("wrong", [
    messages.ClientMessage(pause=messages.Pause()),
    messages.ClientMessage(start=messages.Start(model="sim", dialect="esperanto", raw=b"{}")),
    messages.ClientMessage(start=messages.Start(dialect="openai-chat", raw=b"{")),
])
def test_a_call_that_makes_no_sense_is_an_invalid_argument(stub, wrong):
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.Generate(iter([wrong])))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT and raised.value.details()


def test_an_error_in_the_middle_is_an_error_message(stub):
    answers = Call(stub, start("sim:fault=cut@5")).rest()
    assert kinds(answers)[-1] == "error" and answers[-1].error.code == "upstream_broken"
    assert "finish" not in kinds(answers)


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", NAME):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        health.Check(health_pb2.HealthCheckRequest(service="unknown"))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(channel):
    # The messages of v1 are those of v1alpha, for which alone grpcio has code.
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    [answer] = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=PATIENCE)
    names = {service.name for service in answer.list_services_response.service}
    assert {NAME, "grpc.health.v1.Health"} <= names


def test_the_reflection_client_of_grpcio_finds_the_contract(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    assert NAME in database.get_services()
    found = descriptor_pool.DescriptorPool(database).FindServiceByName(NAME)
    assert [method.name for method in found.methods] == ["Generate"]


def test_keys(locked):
    with grpc.insecure_channel(locked.address) as channel:
        stub = services.GenerationStub(channel)
        wish = start("sim", sampling=messages.Sampling(max_tokens=5))
        for metadata in ((), [("authorization", "Bearer wrong")]):
            error, details = refused(stub, wish, metadata)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED and details["ErrorInfo"].reason
        allowed = [("authorization", f"Bearer {locked.key}")]
        assert kinds(Call(stub, wish, allowed).rest())[-1] == "finish"
        error, details = refused(stub, start("unknown"), allowed)
        assert error.code() == grpc.StatusCode.NOT_FOUND and details["ErrorInfo"].reason == "model_not_found"
    everything = [line for _, line in locked.out.lines + locked.err.lines]
    assert not any(locked.key in line for line in everything)
