//! How layers are unpacked on their way into a file: see `src/fuzzing.rs`.

use std::io::Read;

use super::reading::unpacked;

/// A reader that gives at most so many bytes at once.
struct Slowly(std::io::Cursor<Vec<u8>>, usize);

impl Read for Slowly {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let at_most = into.len().min(self.1);
        self.0.read(&mut into[..at_most])
    }
}

/// What is unpacked of a layer that comes in such pieces, up to a limit in bytes, and whether that went well.
pub(crate) fn layer(data: &[u8], piece: usize, limit: u64) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let read = unpacked(Slowly(std::io::Cursor::new(data.to_vec()), piece))
        .and_then(|reader| reader.take(limit).read_to_end(&mut out));
    (out, read.is_ok())
}
