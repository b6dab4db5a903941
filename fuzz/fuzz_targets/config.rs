//! No text is too strange to be refused politely.
#![no_main]

use std::path::Path;

use flumen_gateway::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, Path::new("fuzz.toml"), std::iter::empty()) {
        assert!(!error.faults.is_empty());
        let _ = error.to_string();
    }
});
