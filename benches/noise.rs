//! Bytes for layers.

/// Makes bytes that nothing compresses, the same on every machine.
pub(crate) struct Noise(u64);

impl Noise {
    /// From the beginning.
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Add bytes to what is there, until it has this size.
    pub(crate) fn fill(&mut self, bytes: &mut Vec<u8>, size: usize) {
        bytes.reserve(size.saturating_sub(bytes.len()) + 8);
        while bytes.len() < size {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(size);
    }
}
