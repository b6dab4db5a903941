//! Downloads with ranges at `/`, resumable uploads at `/uploads`, tails of growing files at `/tail?file=`:
//! `cargo run -p flumen --example file_server -- 127.0.0.1:3000 some/directory`.

use flumen::{
    files::{Root, UploadLimits, downloads, tails, uploads},
    serve,
};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".into());
    let root = Root::open(arguments.next().unwrap_or(".".into()))?;
    let routes = downloads(root.clone())
        .merge(uploads("/uploads", root.clone(), UploadLimits::default()))
        .merge(tails(root));
    serve(&address, routes).await
}
