// A model behind a gateway: what is asked of Hertz and Kitex in the comparison of whole chains.
namespace go chain

struct Prompt {
    1: i64 count        // of tokens
    2: i32 size         // of each, in bytes
    3: i32 interval_us  // between tokens
}

struct Token {
    1: binary text
}

service Model {
    Token Generate(1: Prompt prompt) (streaming.mode="server")
}
