use bytes::Bytes;
use flumen_rpc::{
    Code, Encoding, Status,
    thrift::{self, Malformed, Reader, Struct, Writer, required},
};

/// `Message` of `interop/kitex/echo.thrift` and `echo.proto`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(int64, tag = "1")]
    pub(crate) seq: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) payload: Bytes,
}

impl Struct for Message {
    fn write(&self, to: &mut Writer) {
        to.field(1, &self.seq);
        to.field(2, &self.payload);
    }

    fn read(from: &mut Reader) -> Result<Self, Malformed> {
        let (mut seq, mut payload) = (None, None);
        from.fields(|from, field| match field.id {
            1 => from.set(field, &mut seq),
            2 => from.set(field, &mut payload),
            _ => from.skip(field.of),
        })?;
        Ok(Self { seq: required(seq, "Message", "seq")?, payload: required(payload, "Message", "payload")? })
    }
}

impl Message {
    pub(crate) fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Proto => prost::Message::encode_to_vec(self).into(),
            Encoding::Thrift => thrift::encode(self),
        }
    }

    pub(crate) fn decode(bytes: Bytes, encoding: Encoding) -> Result<Self, Status> {
        let malformed = |error: String| Status::new(Code::InvalidArgument, error);
        match encoding {
            Encoding::Proto => {
                <Self as prost::Message>::decode(bytes).map_err(|error| malformed(error.to_string()))
            }
            Encoding::Thrift => thrift::decode(bytes).map_err(|error| malformed(error.to_string())),
        }
    }
}
