//! Compression on the way into a file, and what was written of it.

use std::io::{self, Write};

use zstd::stream::write::Encoder as Zstd;
use zstd::zstd_safe::CParameter;

use super::gzip::ParallelGzip;
use crate::config::Compression;

/// How hard Zstandard tries: what `zstd` does where it is not told.
const ZSTD_LEVEL: i32 = 3;
/// How much Zstandard gives to one thread, in bytes; it bounds the memory, which is some times this for each thread.
const ZSTD_JOB_BYTES: u32 = 4 << 20;
/// More threads than this are as fast as the disk, and cost memory.
const THREADS_LIMIT: usize = 32;

/// A writer that compresses, or does not.
pub(super) enum Packer<W: Write> {
    Plain(W),
    Gzip(ParallelGzip<W>),
    Zstd(Zstd<'static, W>),
}

impl<W: Write> Packer<W> {
    /// Begins to write with so many threads. The bytes do not depend on how many.
    ///
    /// # Errors
    /// Where the beginning cannot be written.
    pub(super) fn new(compression: Compression, out: W, threads: usize) -> io::Result<Self> {
        let threads = threads.clamp(1, THREADS_LIMIT);
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip => Self::Gzip(ParallelGzip::new(out, threads)?),
            Compression::Zstd => {
                let mut zstd = Zstd::new(out, ZSTD_LEVEL)?;
                zstd.include_checksum(true)?;
                // One thread is one worker, never none: that would cut the input otherwise.
                zstd.multithread(u32::try_from(threads).map_err(io::Error::other)?)?;
                zstd.set_parameter(CParameter::JobSize(ZSTD_JOB_BYTES))?;
                Self::Zstd(zstd)
            }
        })
    }

    /// Ends it, and gives back what was written to.
    ///
    /// # Errors
    /// Where the rest cannot be written.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    /// Nothing: what is written must not depend on who flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstandard_makes_the_same_bytes_on_any_number_of_threads() {
        let bytes: Vec<u8> =
            (0..11_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let packed = |threads, piece| {
            let mut packer = Packer::new(Compression::Zstd, Vec::new(), threads).expect("begin");
            for piece in bytes.chunks(piece) {
                packer.write_all(piece).expect("write");
                packer.flush().expect("flush");
            }
            packer.finish().expect("finish")
        };
        let one = packed(1, 1 << 20);
        assert!(one == packed(3, 100_003), "bytes depend on threads or pieces");
        assert!(zstd::stream::decode_all(one.as_slice()).expect("a whole frame") == bytes);
    }
}
