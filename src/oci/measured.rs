//! Content that is hashed on its way to where it is written.

use std::io::{self, Write};

use super::{Algorithm, Digest, Hasher};

/// A writer that knows the SHA-256 digest and the size of what went through it.
pub struct Measured<W: Write> {
    out: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Measured<W> {
    /// Nothing has been written yet.
    pub fn new(out: W) -> Self {
        Self { out, hasher: Hasher::new(Algorithm::Sha256), bytes: 0 }
    }

    /// What was written to, the digest, and the size in bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.out, self.hasher.finish(), self.bytes)
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
