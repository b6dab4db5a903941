//! File work: at offsets, by lines, through directories, and after the end of a file that grows.

use std::io::Write;

use flumen_flow::file::{Files, TailFrom};
use futures_util::StreamExt;

#[tokio::test]
async fn files_are_read_and_written_at_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (files, path) = (Files::default(), dir.path().join("data"));
    files.write(&path, "0123456789").await.unwrap();
    files.append(&path, "ab").await.unwrap();
    let mut options = std::fs::File::options();
    options.read(true).write(true);
    let file = files.open_with(&path, options).await.unwrap();
    file.write_at(2, "XY").await.unwrap();
    file.sync().await.unwrap();
    assert_eq!(file.read_at(0, 100).await.unwrap(), "01XY456789ab");
    assert_eq!(file.read_at(10, 100).await.unwrap(), "ab");
    assert!(file.read_at(50, 10).await.unwrap().is_empty());
    file.set_len(4).await.unwrap();
    assert_eq!(files.read(&path).await.unwrap(), "01XY");
    assert_eq!(file.metadata().await.unwrap().len(), 4);
    files.remove(&path).await.unwrap();
    let error = files.read(&path).await.unwrap_err();
    assert_eq!(error.source_as::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().starts_with("cannot read /"), "{error}");
}

#[tokio::test]
async fn a_file_streams_in_pieces_from_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let files = Files::default();
    files.write(&path, content.clone()).await.unwrap();
    let file = files.open(&path).await.unwrap();
    let read = async |offset, len| {
        let pieces: Vec<_> = file.stream(offset, len).map(Result::unwrap).collect().await;
        pieces.concat()
    };
    assert_eq!(read(0, u64::MAX).await, content);
    assert_eq!(read(12_345, 300_000).await, content[12_345..312_345]);
    assert!(read(2_000_000, 1).await.is_empty());
}

#[tokio::test]
async fn lines_come_without_their_ends_and_the_last_needs_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    let files = Files::default();
    let long = "x".repeat(200_000);
    files.write(&path, format!("one\r\n\ntwo\n{long}\nlast")).await.unwrap();
    let mut lines = files.lines(&path).await.unwrap();
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        all.push(line.unwrap());
    }
    assert_eq!(all, ["one", "", "two", &long, "last"]);
    files.write(&path, "y".repeat(3_000_000)).await.unwrap();
    let mut lines = files.lines(&path).await.unwrap();
    assert!(lines.next().await.unwrap().unwrap_err().to_string().contains("longer than"));
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_walk_finds_every_file_once_and_follows_no_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir_all(root.join("b/deep")).unwrap();
    for file in ["a.txt", "b/b.txt", "b/deep/c.txt"] {
        std::fs::write(root.join(file), "x").unwrap();
    }
    std::os::unix::fs::symlink(root, root.join("b/loop")).unwrap();
    let mut walk = Files::default().walk(root);
    let mut found = Vec::new();
    while let Some(file) = walk.next().await {
        found.push(file.unwrap().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(found, ["a.txt", "b/b.txt", "b/loop", "b/deep/c.txt"]);
    assert!(Files::default().walk(root.join("nowhere")).next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_tail_follows_growth_rotation_and_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "old\nhalf").unwrap();
    let files = Files::default();
    let mut tail = files.tail(&path, TailFrom::Start).await.unwrap();
    assert_eq!(tail.next().await.unwrap(), "old");
    let mut writer = std::fs::File::options().append(true).open(&path).unwrap();
    writer.write_all(b" and half\n").unwrap();
    assert_eq!(tail.next().await.unwrap(), "half and half");
    // Rotated: what still comes to the old file is read, then the new one from its start.
    std::fs::rename(&path, dir.path().join("log.1")).unwrap();
    writer.write_all(b"late\n").unwrap();
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!(tail.next().await.unwrap(), "late");
    assert_eq!(tail.next().await.unwrap(), "new");
    std::fs::write(&path, "x\n").unwrap();
    assert_eq!(tail.next().await.unwrap(), "x");
    let mut from_end = files.tail(&path, TailFrom::End).await.unwrap();
    files.append(&path, "fresh\n").await.unwrap();
    assert_eq!(from_end.next().await.unwrap(), "fresh");
}
