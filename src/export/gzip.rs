//! gzip on all cores: one member whose blocks are compressed apart, each knowing the end of the block before it.
//!
//! RFC 1951 and 1952. A block ends on a byte (`Z_SYNC_FLUSH`), so that blocks are put behind each other as they are, and
//! every reader sees one ordinary member; several members behind each other would do too, but not every reader goes on after the
//! first. Where blocks begin depends on the bytes alone, and so does the result, on however many cores it is made.
//! Crates that do this cut the input by the number of threads, or begin a new member for each block.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// How much is compressed in one piece, in bytes.
const BLOCK_BYTES: usize = 512 << 10;
/// How far back deflate looks, in bytes.
const WINDOW_BYTES: usize = 32 << 10;
/// How hard it tries: what `gzip` does where it is not told.
const LEVEL: u32 = 6;
/// RFC 1952, section 2.3: deflate, no flags, no time, no hint, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A writer that compresses what it is given.
pub(super) struct ParallelGzip<W: Write> {
    out: W,
    block: Vec<u8>,
    /// The end of what was handed over before.
    before: Vec<u8>,
    work: SyncSender<Work>,
    /// Blocks that are under way, in order; at most `at_once`, which bounds the memory.
    under_way: VecDeque<Receiver<io::Result<Packed>>>,
    at_once: usize,
    sum: Crc,
    bytes: u32,
}

struct Work {
    before: Vec<u8>,
    block: Vec<u8>,
    flush: FlushCompress,
    answer: SyncSender<io::Result<Packed>>,
}

struct Packed {
    bytes: Vec<u8>,
    sum: Crc,
}

impl<W: Write> ParallelGzip<W> {
    /// Begins a member, which so many threads will compress.
    ///
    /// # Errors
    /// Where the header cannot be written.
    pub(super) fn new(mut out: W, threads: usize) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let threads = threads.max(1);
        let (work, queue) = sync_channel::<Work>(threads);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            // They end when `work` is dropped.
            std::thread::Builder::new().name("gzip".to_owned()).spawn(move || serve(&queue))?;
        }
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK_BYTES),
            before: Vec::new(),
            work,
            under_way: VecDeque::new(),
            at_once: 2 * threads,
            sum: Crc::new(),
            bytes: 0,
        })
    }

    /// Ends the member, and gives back what was written to.
    ///
    /// # Errors
    /// Where the rest cannot be written.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.hand_over(FlushCompress::Finish)?;
        while !self.under_way.is_empty() {
            self.take_back()?;
        }
        self.out.write_all(&self.sum.sum().to_le_bytes())?;
        self.out.write_all(&self.bytes.to_le_bytes())?;
        Ok(self.out)
    }

    fn hand_over(&mut self, flush: FlushCompress) -> io::Result<()> {
        if self.under_way.len() >= self.at_once {
            self.take_back()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        let end = block[block.len().saturating_sub(WINDOW_BYTES)..].to_vec();
        let before = std::mem::replace(&mut self.before, end);
        let (answer, answered) = sync_channel(1);
        self.work.send(Work { before, block, flush, answer }).map_err(|_| ended())?;
        self.under_way.push_back(answered);
        Ok(())
    }

    fn take_back(&mut self) -> io::Result<()> {
        let Some(answered) = self.under_way.pop_front() else { return Ok(()) };
        let packed = answered.recv().map_err(|_| ended())??;
        self.sum.combine(&packed.sum);
        // Modulo 2^32, as the specification has it.
        self.bytes = self.bytes.wrapping_add(packed.sum.amount());
        self.out.write_all(&packed.bytes)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_BYTES {
            self.hand_over(FlushCompress::Sync)?;
        }
        Ok(taken)
    }

    /// Nothing: where blocks end must not depend on who writes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ended() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

fn serve(queue: &Mutex<Receiver<Work>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // Who asked may be gone.
        let _ = work.answer.send(pack(&work));
    }
}

fn pack(work: &Work) -> io::Result<Packed> {
    let mut sum = Crc::new();
    sum.update(&work.block);
    // A new one for each block: one that was used before and reset finds other matches, and so makes other bytes.
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    if !work.before.is_empty() {
        deflate.set_dictionary(&work.before).map_err(io::Error::other)?;
    }
    let mut bytes = Vec::with_capacity(work.block.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status =
            deflate.compress_vec(&work.block[taken..], &mut bytes, work.flush).map_err(io::Error::other)?;
        // Room that was left says that nothing is held back.
        let all = bytes.len() < bytes.capacity() && deflate.total_in() == work.block.len() as u64;
        match (work.flush, status) {
            (_, Status::StreamEnd) => break,
            (FlushCompress::Sync, _) if all => break,
            _ => bytes.reserve(BLOCK_BYTES / 4),
        }
    }
    Ok(Packed { bytes, sum })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that compress a little: words of a small dictionary by a fixed generator.
    fn sample(length: usize) -> Vec<u8> {
        let (mut state, mut bytes) = (0x2545_f491_u32, Vec::with_capacity(length + 8));
        while bytes.len() < length {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = state.to_le_bytes();
            bytes.extend_from_slice([b"layer".as_slice(), b"blob", b"\0\0\0", &noise][(state % 4) as usize]);
        }
        bytes.truncate(length);
        bytes
    }

    fn packed(bytes: &[u8], threads: usize, piece: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::new(Vec::new(), threads).expect("begin");
        for piece in bytes.chunks(piece) {
            gzip.write_all(piece).expect("write");
            gzip.flush().expect("flush");
        }
        gzip.finish().expect("finish")
    }

    #[test]
    fn it_is_one_member_that_has_the_same_bytes_on_any_number_of_cores() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 77] {
            let bytes = sample(length);
            let one = packed(&bytes, 1, 1 << 20);
            assert!(one == packed(&bytes, 5, 4099), "{length}: bytes depend on threads or pieces");
            let mut read = Vec::new();
            // This reader stops after the first member.
            let mut reader = flate2::bufread::GzDecoder::new(one.as_slice());
            reader.read_to_end(&mut read).expect("one whole member");
            assert!(read == bytes, "{length}: other bytes");
            assert!(reader.into_inner().is_empty(), "{length}: something stands behind the member");
        }
    }

    #[test]
    fn a_block_knows_the_end_of_the_block_before_it() {
        let noise: Vec<u8> = (0..8192_u32).flat_map(|at| Digest(at).bytes()).collect();
        let mut bytes = vec![0; BLOCK_BYTES - noise.len()];
        bytes.extend_from_slice(&noise);
        let alone = packed(&bytes, 2, 1 << 20).len();
        bytes.extend_from_slice(&noise);
        let twice = packed(&bytes, 2, 1 << 20).len();
        assert!(twice - alone < noise.len() / 10, "{alone} and {twice} bytes");
    }

    /// Bytes that do not compress.
    struct Digest(u32);

    impl Digest {
        fn bytes(&self) -> [u8; 3] {
            let mixed = self.0.wrapping_mul(2_654_435_761).rotate_left(self.0 % 32).wrapping_mul(0x9e37_79b9);
            [(mixed >> 24) as u8, (mixed >> 13) as u8, (mixed >> 5) as u8]
        }
    }
}
