//! A folder of kept streams with a foreign file in it: it opens, and what it has can be read.
//!
//! The bytes are taken as they are, and once more as records with the right checksums, which chance would never find.
#![no_main]

use std::fs;

use flumen_store::{DiskOptions, DiskStore, Limits, Store};
use libfuzzer_sys::fuzz_target;

fn open(file: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("000000000001.log"), file).expect("a file");
    let store = DiskStore::open(folder.path(), Limits::default(), DiskOptions::default()).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        for status in store.list(None).await.expect("a list") {
            let mut after = status.first - 1;
            while let Ok(page) = store.read(status.id, after, 4096).await {
                if page.frames.is_empty() {
                    break;
                }
                after += page.frames.len() as u64;
            }
            assert_eq!(after, status.last);
        }
    });
}

fuzz_target!(|input: &[u8]| {
    open(input);
    let mut file = b"FLUMENS1".to_vec();
    for payload in input.chunk_by(|_, next| *next != 0xfe) {
        // A record of the same stream: its kind, its id, and the rest.
        let (kind, rest) = payload.split_first().expect("chunks are not empty");
        let mut record = vec![kind % 6];
        record.extend_from_slice(&[7; 16]);
        if kind % 6 == 1 {
            record.extend_from_slice(br#"{"owner":"","dialect":"","model":"","created":{"secs_since_epoch":1,"nanos_since_epoch":0}}"#);
        } else {
            record.extend_from_slice(rest);
        }
        file.extend_from_slice(&u32::try_from(record.len()).expect("short").to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&record).to_le_bytes());
        file.extend_from_slice(&record);
    }
    open(&file);
});
