//! Limits: so many requests, tokens or streams.
