//! A reader over a file's bytes that only ever hands out what is really there.

use crate::{Error, Result};
use std::path::Path;

/// A place in a file. Every read is checked against the end, and every error names path and byte.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of `bytes`, the file at `path`.
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Cursor { path, bytes, at: 0 }
    }

    /// The next byte's offset from the start.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A broken file, at byte `at`.
    pub(super) fn broken(&self, at: usize, what: impl Into<String>) -> Error {
        Error::malformed(self.path, what).at(format!("byte {at}"))
    }

    /// The next `n` bytes, which are `what`.
    pub(super) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let left = self.remaining();
        match usize::try_from(n) {
            Ok(n) if n <= left => {
                let taken = &self.bytes[self.at..self.at + n];
                self.at += n;
                Ok(taken)
            }
            _ => Err(self
                .broken(self.at, format!("{what} needs {n} bytes, {left} are left: the file is cut short"))),
        }
    }

    /// The next `N` bytes, which are `what`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        Ok(*taken.first_chunk().expect("`take` returned N bytes"))
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// The next `n` bytes as text.
    pub(super) fn text(&mut self, n: u64, what: &str) -> Result<&'a str> {
        let start = self.at;
        let bytes = self.take(n, what)?;
        std::str::from_utf8(bytes)
            .map_err(|e| self.broken(start + e.valid_up_to(), format!("{what} is not UTF-8")))
    }

    /// `count` things of at least `smallest` bytes each, checked against what is left, so that a hostile
    /// count cannot size an allocation.
    pub(super) fn count(&self, count: u64, smallest: usize, what: &str) -> Result<usize> {
        let most = self.remaining() / smallest;
        match usize::try_from(count) {
            Ok(n) if n <= most => Ok(n),
            _ => {
                Err(self
                    .broken(self.at, format!("{count} {what} declared, {most} fit in the rest of the file")))
            }
        }
    }
}
