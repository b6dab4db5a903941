//! An echo over every protocol, and load for it; `bench/rpc` measures with it.
//!
//! `echo serve 127.0.0.1:7000` serves on one core. `echo load KIND 127.0.0.1:7000 CONCURRENCY SECONDS SIZE` keeps so many calls
//! open on one core, each with one message on its way at a time, and prints a line of JSON. KIND is `grpc`, `thrift-grpc` or
//! `ttheader`.

mod load;
mod message;

use std::{env, io, net::SocketAddr, sync::Arc};

use flumen_rpc::{Incoming, Metadata, Services, Status, grpc, ttheader};
use flumen_wire::listen::{Gate, Listener, Shutdown};

use message::Message;

fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => runtime.block_on(serve(address)),
        ["load", kind, address, concurrency, seconds, size] => {
            let wrong =
                |_| io::Error::new(io::ErrorKind::InvalidInput, "concurrency, seconds and size are numbers");
            let number = |text: &str| text.parse::<u32>().map_err(wrong);
            runtime.block_on(load::load(kind, address, number(concurrency)?, number(seconds)?, number(size)?))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: echo serve ADDRESS, or echo load KIND ADDRESS CONCURRENCY SECONDS SIZE",
        )),
    }
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address
        .parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{address}: {error}")))
}

async fn serve(address: &str) -> io::Result<()> {
    let services = Services::new().method("Echo", "Bidi", echo);
    let listener = Listener::bind(parse(address)?, false)?;
    println!("{{\"listening\":\"{}\"}}", listener.local_addr()?);
    let shutdown = Shutdown::new();
    let router = grpc::router(services.clone(), grpc::Limits::default(), shutdown.clone());
    let beside = ttheader::beside(services, ttheader::Limits::default(), shutdown.clone());
    let limits = Arc::new(grpc::listener_limits());
    listener.besides(beside).serve(router, limits, Arc::new(Gate::default()), None, shutdown).await
}

async fn echo(mut incoming: Incoming) -> Result<Metadata, Status> {
    while let Some(message) = incoming.requests.next().await {
        // Read and written anew: that is what a service does.
        let message = Message::decode(message?, incoming.encoding)?;
        incoming.answers.send(message.encode(incoming.encoding)).await?;
    }
    Ok(Metadata::default())
}
