use std::fmt;

use bytes::{BufMut, Bytes};

use super::Error;

/// Payload protocols that TTHeader has: Thrift, Kitex's protobuf, Thrift compact, and bare structs of a stream.
const PROTOCOLS: [u8; 5] = [0x00, 0x03, 0x04, STRUCT, 0x11];
/// Unary messages of Thrift.
pub(super) const MESSAGE: u8 = 0x00;
/// Bare structs of Thrift.
pub(super) const STRUCT: u8 = 0x10;

/// Blocks of a header.
const PADDING: u8 = 0x00;
const NAMED: u8 = 0x01;
const NUMBERED: u8 = 0x10;
const TOKEN: u8 = 0x11;
/// The name under which the access token counts among the named entries.
const TOKEN_NAME: &str = "RPC_TRANSIT_gdpr-token";
/// The size is a `u16` and counts words.
const LARGEST: usize = 4 * u16::MAX as usize;

/// The variable part of a frame's header: what the payload is written in, and entries by number and by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Info {
    /// As on the wire, checked.
    bytes: Bytes,
}

impl Info {
    /// A header with these entries. Those that no header can carry (longer than 65,535 bytes, or beyond 256 KiB together) are left out.
    pub fn new<'a>(
        protocol: u8,
        numbered: &[(u16, &str)],
        named: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut header = Header { bytes: vec![protocol, 0] };
        header.block(NUMBERED, numbered.iter().copied(), |bytes, key| {
            bytes.put_u16(key);
            Some(())
        });
        let mut token = None;
        let named = named.into_iter().filter(|&(name, value)| {
            let is_token = name == TOKEN_NAME;
            if is_token {
                token = Some(value);
            }
            !is_token
        });
        header.block(NAMED, named, put_text);
        if let Some(token) = token {
            header.token(token);
        }
        header.finish()
    }

    /// Checks a header.
    pub(super) fn check(bytes: &[u8]) -> Result<(), Error> {
        let (&protocol, &transforms) =
            bytes.first().zip(bytes.get(1)).ok_or(Error::HeaderSize { header: bytes.len(), frame: 0 })?;
        if !PROTOCOLS.contains(&protocol) {
            return Err(Error::Protocol(protocol));
        }
        if transforms != 0 {
            return Err(Error::Transformed);
        }
        Entries::of(bytes).try_for_each(|entry| entry.map(drop))
    }

    /// A header that has been checked.
    pub(super) fn checked(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// What the payload is written in: 0x00 a message of Thrift's, 0x10 a bare struct.
    pub fn protocol(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    /// An entry by its number. Of several, the last counts.
    pub fn numbered(&self, key: u16) -> Option<&[u8]> {
        numbered(&self.bytes, key)
    }

    /// The entries that have names; the access token is among them. Bytes need not be UTF-8.
    pub fn named(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Entries::of(&self.bytes).map_while(Result::ok).filter_map(|entry| match entry {
            Entry::Named(name, value) => Some((name, value)),
            Entry::Numbered(..) => None,
        })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Entries::of(&self.bytes)).finish()
    }
}

/// An entry by its number, in a header that has been checked.
pub(super) fn numbered(header: &[u8], key: u16) -> Option<&[u8]> {
    let found = Entries::of(header).map_while(Result::ok).filter_map(|entry| match entry {
        Entry::Numbered(number, value) if number == key => Some(value),
        _ => None,
    });
    found.last()
}

/// A header in the making.
struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// A block of as many entries as can be carried; `put_key` writes a key, if that can be.
    fn block<'a, K>(
        &mut self,
        block: u8,
        entries: impl Iterator<Item = (K, &'a str)>,
        put_key: impl Fn(&mut Vec<u8>, K) -> Option<()>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend([block, 0, 0]);
        let mut count = 0u16;
        for (key, value) in entries {
            let before = self.bytes.len();
            let put = put_key(&mut self.bytes, key).and_then(|()| put_text(&mut self.bytes, value));
            let next = count.checked_add(1).filter(|_| put.is_some() && self.bytes.len() < LARGEST);
            if let Some(next) = next {
                count = next;
            } else {
                tracing::debug!("metadata that no header can carry was left out");
                self.bytes.truncate(before);
            }
        }
        if count == 0 {
            return self.bytes.truncate(start);
        }
        self.bytes[start + 1..start + 3].copy_from_slice(&count.to_be_bytes());
    }

    fn token(&mut self, token: &str) {
        let before = self.bytes.len();
        self.bytes.push(TOKEN);
        if put_text(&mut self.bytes, token).is_none() || self.bytes.len() > LARGEST {
            self.bytes.truncate(before);
        }
    }

    fn finish(mut self) -> Info {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), PADDING);
        Info { bytes: self.bytes.into() }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    bytes.put_u16(u16::try_from(text.len()).ok()?);
    bytes.put_slice(text.as_bytes());
    Some(())
}

#[derive(Debug)]
enum Entry<'a> {
    Numbered(u16, &'a [u8]),
    Named(&'a [u8], &'a [u8]),
}

/// The entries of a header, one after another, without a copy.
struct Entries<'a> {
    rest: &'a [u8],
    block: u8,
    /// Entries of the block that are still to come.
    left: u16,
}

impl<'a> Entries<'a> {
    fn of(header: &'a [u8]) -> Self {
        Self { rest: header.get(2..).unwrap_or_default(), block: PADDING, left: 0 }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Entry)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Error> {
        let (number, rest) = self.rest.split_first_chunk().ok_or(Error::Entry)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*number))
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn entry(&mut self) -> Result<Option<Entry<'a>>, Error> {
        while self.left == 0 {
            let Some((&block, rest)) = self.rest.split_first() else { return Ok(None) };
            self.rest = rest;
            match block {
                PADDING => {}
                NAMED | NUMBERED => (self.block, self.left) = (block, self.number()?),
                TOKEN => return Ok(Some(Entry::Named(TOKEN_NAME.as_bytes(), self.text()?))),
                other => return Err(Error::Block(other)),
            }
        }
        self.left -= 1;
        Ok(Some(if self.block == NUMBERED {
            Entry::Numbered(self.number()?, self.text()?)
        } else {
            Entry::Named(self.text()?, self.text()?)
        }))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().transpose()
    }
}
