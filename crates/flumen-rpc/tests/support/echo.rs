//! The contract: messages in both encodings, and its services.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use flumen_rpc::{
    Business, Call, Cancellation, Code, Encoding, Incoming, Metadata, Outbound, Services, Status,
    thrift::{
        self, Malformed, Reader, Struct, Writer,
        message::{Args, Reply},
    },
};

use super::{Ended, Ends};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(int64, tag = "1")]
    pub seq: i64,
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Plan {
    #[prost(int64, tag = "1")]
    pub count: i64,
    #[prost(int32, tag = "2")]
    pub size: i32,
    #[prost(int64, tag = "3")]
    pub fail_after: i64,
    #[prost(int32, tag = "4")]
    pub biz_code: i32,
    #[prost(int32, tag = "5")]
    pub interval_us: i32,
    #[prost(bool, tag = "6")]
    pub endless: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    #[prost(int64, tag = "1")]
    pub count: i64,
    #[prost(int64, tag = "2")]
    pub bytes: i64,
    #[prost(bool, tag = "3")]
    pub in_order: bool,
}

macro_rules! thrift_struct {
    ($name:ident { $($id:literal: $field:ident),* }) => {
        impl Struct for $name {
            fn write(&self, to: &mut Writer) {
                $(to.field($id, &self.$field);)*
            }

            fn read(from: &mut Reader) -> Result<Self, Malformed> {
                let mut value = Self::default();
                from.fields(|from, field| match field.id {
                    $($id => {
                        let mut place = None;
                        from.set(field, &mut place)?;
                        value.$field = place.unwrap();
                        Ok(())
                    })*
                    _ => from.skip(field.of),
                })?;
                Ok(value)
            }
        }
    };
}

thrift_struct!(Message { 1: seq, 2: payload });
thrift_struct!(Plan { 1: count, 2: size, 3: fail_after, 4: biz_code, 5: interval_us, 6: endless });
thrift_struct!(Summary { 1: count, 2: bytes, 3: in_order });

/// A message in whichever encoding.
pub trait Wire: Sized {
    fn to_wire(&self, encoding: Encoding) -> Bytes;
    fn of_wire(bytes: Bytes, encoding: Encoding) -> Result<Self, Status>;
}

impl<T: prost::Message + Default + Struct> Wire for T {
    fn to_wire(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Proto => self.encode_to_vec().into(),
            Encoding::Thrift => thrift::encode(self),
        }
    }

    fn of_wire(bytes: Bytes, encoding: Encoding) -> Result<Self, Status> {
        let bad = |error: String| Status::new(Code::InvalidArgument, error);
        match encoding {
            Encoding::Proto => T::decode(bytes).map_err(|error| bad(error.to_string())),
            Encoding::Thrift => thrift::decode(bytes).map_err(|error| bad(error.to_string())),
        }
    }
}

/// Notes the end of a call, however it ends.
struct Noted {
    ends: Ends,
    method: &'static str,
    call: Call,
    cancellation: Cancellation,
    counts: Mutex<(i64, i64)>,
}

impl Noted {
    fn new(ends: &Ends, method: &'static str, incoming: &Incoming) -> Self {
        let (call, cancellation) = (incoming.call.clone(), incoming.cancellation.clone());
        Self { ends: ends.clone(), method, call, cancellation, counts: Mutex::default() }
    }

    fn received(&self) {
        self.counts.lock().unwrap().0 += 1;
    }

    fn sent(&self) {
        self.counts.lock().unwrap().1 += 1;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let (received, sent) = *self.counts.lock().unwrap();
        let reason = self.cancellation.reason().cloned();
        self.ends.push(Ended { method: self.method, received, sent, reason, call: self.call.clone() });
    }
}

pub fn services(ends: &Ends) -> Services {
    let note = |method: &'static str| {
        let ends = ends.clone();
        move |incoming: &Incoming| Noted::new(&ends, method, incoming)
    };
    let (bidi_note, download_note, upload_note, ping_note) =
        (note("Bidi"), note("Download"), note("Upload"), note("Ping"));
    Services::new()
        .method("Echo", "Bidi", move |incoming| {
            let noted = bidi_note(&incoming);
            bidi(incoming, noted)
        })
        .method("Echo", "Download", move |incoming| {
            let noted = download_note(&incoming);
            download(incoming, noted)
        })
        .method("Echo", "Upload", move |incoming| {
            let noted = upload_note(&incoming);
            upload(incoming, noted)
        })
        .method("Echo", "Ping", move |incoming| {
            let noted = ping_note(&incoming);
            ping(incoming, noted)
        })
}

async fn bidi(mut incoming: Incoming, noted: Noted) -> Result<Metadata, Status> {
    while let Some(message) = incoming.requests.next().await {
        let message = Message::of_wire(message?, incoming.encoding)?;
        noted.received();
        incoming.answers.send(message.to_wire(incoming.encoding)).await?;
        noted.sent();
    }
    Ok(Metadata::default())
}

async fn download(mut incoming: Incoming, noted: Noted) -> Result<Metadata, Status> {
    let Some(plan) = incoming.requests.next().await else {
        return Err(Status::new(Code::InvalidArgument, "no plan"));
    };
    let plan = Plan::of_wire(plan?, incoming.encoding)?;
    noted.received();
    let payload = Bytes::from(vec![b'x'; usize::try_from(plan.size).unwrap()]);
    let mut seq = 0;
    while plan.endless || seq < plan.count {
        if plan.fail_after > 0 && seq == plan.fail_after {
            let business = Business { code: plan.biz_code, message: "no more".into(), ..Business::default() };
            return Err(match plan.biz_code {
                0 => Status::new(Code::Internal, "no more"),
                _ => Status::business(business),
            });
        }
        send(&mut incoming.answers, incoming.encoding, seq, &payload).await?;
        noted.sent();
        seq += 1;
        if plan.interval_us > 0 {
            tokio::time::sleep(Duration::from_micros(plan.interval_us.try_into().unwrap())).await;
        }
    }
    let mut trailer = Metadata::default();
    trailer.plain.insert("sent".into(), seq.to_string());
    Ok(trailer)
}

async fn send(answers: &mut Outbound, encoding: Encoding, seq: i64, payload: &Bytes) -> Result<(), Status> {
    answers.send(Message { seq, payload: payload.clone() }.to_wire(encoding)).await
}

async fn upload(mut incoming: Incoming, noted: Noted) -> Result<Metadata, Status> {
    let mut summary = Summary { count: 0, bytes: 0, in_order: true };
    while let Some(message) = incoming.requests.next().await {
        let message = Message::of_wire(message?, incoming.encoding)?;
        noted.received();
        summary.in_order &= message.seq == summary.count;
        summary.count += 1;
        summary.bytes += i64::try_from(message.payload.len()).unwrap();
    }
    incoming.answers.send(summary.to_wire(incoming.encoding)).await?;
    noted.sent();
    Ok(Metadata::default())
}

/// Unary methods of Thrift have their struct within another.
async fn ping(mut incoming: Incoming, noted: Noted) -> Result<Metadata, Status> {
    let Some(request) = incoming.requests.next().await else {
        return Err(Status::new(Code::InvalidArgument, "no request"));
    };
    let request = request?;
    noted.received();
    let answer = match incoming.encoding {
        Encoding::Proto => Message::of_wire(request, Encoding::Proto)?.to_wire(Encoding::Proto),
        Encoding::Thrift => {
            let malformed = |error: Malformed| Status::new(Code::InvalidArgument, error.to_string());
            let args: Args<Message> = thrift::decode(request).map_err(malformed)?;
            thrift::encode(&Reply(args.0))
        }
    };
    incoming.answers.send(answer).await?;
    noted.sent();
    Ok(Metadata::default())
}
