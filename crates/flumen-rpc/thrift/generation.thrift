// What Flumen and a model service say to each other, for services of Kitex. What the messages mean stands in
// proto/flumen/generation/v1/generation.proto; numbers and names are the same. What has its default may be left out.
//
// Over gRPC (`application/grpc+thrift`) or TTHeader Streaming: one call of `Generate` is one generation.

namespace go flumen.generation

struct Message {
    1: optional string role
    2: optional string content
    3: optional string name
    4: optional list<ToolCall> tool_calls
    5: optional string tool_call_id
}

struct ToolCall {
    1: optional string id
    2: optional string name
    3: optional string arguments
}

struct Sampling {
    1: optional double temperature
    2: optional double top_p
    3: optional i64 max_tokens
    4: optional list<string> stop
    5: optional i64 seed
    6: optional double presence_penalty
    7: optional double frequency_penalty
}

struct Start {
    1: optional string model
    2: optional string dialect
    3: optional binary raw
    4: optional list<Message> messages
    5: optional Sampling sampling
    6: optional map<string, string> metadata
    7: optional string resume_after
    8: optional bool stream
}

struct Pause {}

struct Resume {}

struct Stop {
    1: optional string cause
}

// Exactly one field is set.
struct ClientMessage {
    1: optional Start start
    2: optional Pause pause
    3: optional Resume resume
    4: optional Stop stop
}

struct Accepted {
    1: optional string id
    2: optional string model
}

struct ToolCallDelta {
    1: optional i32 index
    2: optional string id
    3: optional string name
    4: optional string arguments
}

struct Delta {
    1: optional i32 index
    2: optional string text
    3: optional string reasoning
    4: optional list<ToolCallDelta> tool_calls
    5: optional string refusal
    6: optional binary frame
}

struct Usage {
    1: optional i64 prompt_tokens
    2: optional i64 completion_tokens
}

struct Times {
    1: optional i64 queued
    2: optional i64 first_token
    3: optional i64 total
    4: optional i64 paused
}

struct Finish {
    1: optional string reason
    2: optional i32 index
    3: optional Times times
}

struct Error {
    1: optional string code
    2: optional string message
}

// One of the first five is set.
struct ServerMessage {
    1: optional Accepted accepted
    2: optional Delta delta
    3: optional Usage usage
    4: optional Finish finish
    5: optional Error error
    6: optional string id
}

service Generation {
    ServerMessage Generate(1: ClientMessage message) (streaming.mode = "bidirectional")
}
