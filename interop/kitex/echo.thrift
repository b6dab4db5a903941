// What a Kitex program and Flumen say to each other in the tests; echo.proto has the same meaning.
namespace go echo

struct Message {
    1: required i64 seq
    2: required binary payload
}

// What a download is to be.
struct Plan {
    1: required i64 count
    2: i32 size         // of each payload, in bytes
    3: i64 fail_after   // messages until the handler returns an error; 0 is never
    4: i32 biz_code     // of that error, if it is a business error
    5: i32 interval_us  // between messages
    6: bool endless
}

struct Summary {
    1: required i64 count
    2: required i64 bytes
    3: required bool in_order
}

service Echo {
    Message Bidi(1: Message message) (streaming.mode="bidirectional")
    Message Download(1: Plan plan) (streaming.mode="server")
    Summary Upload(1: Message message) (streaming.mode="client")
    Message Ping(1: Message message)
}
