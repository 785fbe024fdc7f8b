//! The entries of a tar archive as it comes by, piece by piece: nothing is extracted and no more is held than asked for.
//!
//! POSIX.1-2017 pax with the ustar and GNU forms that layers have. Every text and number comes from outside: sizes,
//! names and the length of the whole are bounded.

use std::io::{Error, Result, Write};

/// The length of a header, and what entries are padded to, in bytes.
const BLOCK: usize = 512;
/// How long the names that stand in entries of their own may be, in bytes.
const NAMES_LIMIT: u64 = 1 << 20;
/// How large an archive may be, in bytes: a few megabytes can unpack to many terabytes.
const ARCHIVE_LIMIT: u64 = 1 << 36;
/// How many entries an archive may have.
const ENTRIES_LIMIT: u64 = 20_000_000;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// Another name of an entry before it.
    HardLink(String),
    /// A symbolic link, a device, a pipe.
    Other,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path from the root, without `.`, `..` or a slash at either end.
    pub(super) path: String,
    /// What it is.
    pub(super) kind: EntryKind,
    /// How many bytes follow.
    pub(super) size: u64,
}

/// What hears of entries.
pub(super) trait Visitor {
    /// An entry begins. Returns whether its bytes are wanted.
    fn begin(&mut self, entry: Entry) -> Result<bool>;
    /// Some of the bytes that are wanted.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()>;
    /// All bytes that are wanted have come.
    fn end(&mut self) -> Result<()>;
}

/// What the bytes of an entry are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Nothing,
    Visitor,
    LongPath,
    LongLink,
    Attributes,
}

#[derive(Debug)]
enum State {
    /// A header is awaited.
    Header,
    /// More of a sparse file's map is awaited.
    SparseMap { then: u64, purpose: Purpose },
    /// Bytes of an entry, and of its padding.
    Bytes { left: u64, padding: u64, purpose: Purpose },
    /// The end was seen: what follows means nothing.
    Done,
}

/// What a header before an entry says of it.
#[derive(Debug, Default)]
struct Said {
    path: Option<Vec<u8>>,
    /// The path of a sparse file, whose `path` names no file (GNU tar, "PAX Format, Version 1.0").
    sparse: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Takes an archive by [`Write`], and tells a visitor of its entries.
#[derive(Debug)]
pub(super) struct Archive<V> {
    visitor: V,
    state: State,
    /// A header that has come in part, or names.
    held: Vec<u8>,
    said: Said,
    taken: u64,
    entries: u64,
}

impl<V: Visitor> Archive<V> {
    pub(super) fn new(visitor: V) -> Self {
        Self { visitor, state: State::Header, held: Vec::new(), said: Said::default(), taken: 0, entries: 0 }
    }

    /// The visitor, once all has come.
    ///
    /// # Errors
    /// Where the archive ends within an entry.
    pub(super) fn finish(self) -> Result<V> {
        match self.state {
            State::Done => Ok(self.visitor),
            // Archives without an end mark are read by everyone.
            State::Header if self.held.is_empty() => Ok(self.visitor),
            State::Header | State::SparseMap { .. } | State::Bytes { .. } => {
                Err(Error::other("the archive ends in the middle of an entry"))
            }
        }
    }

    /// Takes some bytes; how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.state {
            State::Done => Ok(bytes.len()),
            State::Header | State::SparseMap { .. } => {
                let taken = bytes.len().min(BLOCK - self.held.len());
                self.held.extend_from_slice(&bytes[..taken]);
                if self.held.len() == BLOCK {
                    let block = std::mem::take(&mut self.held);
                    self.block(&block)?;
                }
                Ok(taken)
            }
            State::Bytes { left: 0, padding, purpose } => {
                let taken = padding.min(bytes.len() as u64);
                self.state = State::Bytes { left: 0, padding: padding - taken, purpose };
                self.settle()?;
                Ok(usize::try_from(taken).unwrap_or(bytes.len()))
            }
            State::Bytes { left, padding, purpose } => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                match purpose {
                    Purpose::Nothing => {}
                    Purpose::Visitor => self.visitor.bytes(&bytes[..taken])?,
                    Purpose::LongPath | Purpose::LongLink | Purpose::Attributes => {
                        self.held.extend_from_slice(&bytes[..taken]);
                    }
                }
                self.state = State::Bytes { left: left - taken as u64, padding, purpose };
                if left == taken as u64 {
                    self.ended(purpose)?;
                }
                self.settle()?;
                Ok(taken)
            }
        }
    }

    /// After the bytes and the padding of an entry comes a header.
    fn settle(&mut self) -> Result<()> {
        if let State::Bytes { left: 0, padding: 0, .. } = self.state {
            self.state = State::Header;
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8]) -> Result<()> {
        if let State::SparseMap { then, purpose } = self.state {
            if block[504] == 0 {
                self.follow(then, purpose)?;
            }
            return Ok(());
        }
        if block.iter().all(|byte| *byte == 0) {
            self.state = State::Done;
            return Ok(());
        }
        check_sum(block)?;
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            return Err(Error::other(format!("the archive has more than {ENTRIES_LIMIT} entries")));
        }
        let size = number(&block[124..136])?;
        let purpose = match block[156] {
            b'L' => Purpose::LongPath,
            b'K' => Purpose::LongLink,
            b'x' => Purpose::Attributes,
            // What holds for all that follows says nothing of paths in layers.
            b'g' => Purpose::Nothing,
            kind => return self.entry(block, kind, size),
        };
        if purpose != Purpose::Nothing && size > NAMES_LIMIT {
            return Err(Error::other(format!("a name has more than {NAMES_LIMIT} bytes")));
        }
        self.follow(size, purpose)
    }

    fn entry(&mut self, block: &[u8], kind: u8, size: u64) -> Result<()> {
        let said = std::mem::take(&mut self.said);
        let kind = match kind {
            b'0' | 0 | b'7' | b'S' => EntryKind::File,
            b'5' => EntryKind::Folder,
            b'1' => {
                let target = said.link.unwrap_or_else(|| text(&block[157..257]).to_vec());
                EntryKind::HardLink(plain_path(&target).unwrap_or_default())
            }
            _ => EntryKind::Other,
        };
        let size = match kind {
            EntryKind::File => said.size.unwrap_or(size),
            // They have no bytes, whatever is said.
            EntryKind::Folder | EntryKind::HardLink(_) | EntryKind::Other => 0,
        };
        let path = said.sparse.or(said.path).unwrap_or_else(|| header_path(block));
        let entry = plain_path(&path).map(|path| Entry { path, kind, size });
        let wanted = entry.map_or(Ok(false), |entry| self.visitor.begin(entry))?;
        let purpose = if wanted { Purpose::Visitor } else { Purpose::Nothing };
        if block[156] == b'S' && block[482] != 0 {
            self.state = State::SparseMap { then: size, purpose };
            return Ok(());
        }
        self.follow(size, purpose)
    }

    fn follow(&mut self, size: u64, purpose: Purpose) -> Result<()> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.state = State::Bytes { left: size, padding, purpose };
        if size == 0 {
            self.ended(purpose)?;
        }
        self.settle()
    }

    fn ended(&mut self, purpose: Purpose) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        match purpose {
            Purpose::Nothing => {}
            Purpose::Visitor => self.visitor.end()?,
            Purpose::LongPath => self.said.path = Some(text(&held).to_vec()),
            Purpose::LongLink => self.said.link = Some(text(&held).to_vec()),
            Purpose::Attributes => attributes(&held, &mut self.said)?,
        }
        Ok(())
    }
}

impl<V: Visitor> Write for Archive<V> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.taken += bytes.len() as u64;
        if self.taken > ARCHIVE_LIMIT {
            return Err(Error::other(format!("the archive has more than {ARCHIVE_LIMIT} bytes")));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest)?;
            rest = &rest[taken..];
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Up to the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn header_path(block: &[u8]) -> Vec<u8> {
    let (name, prefix) = (text(&block[..100]), text(&block[345..500]));
    match &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

/// A path as it counts here; `None` where it leaves its folder, which no engine extracts.
fn plain_path(path: &[u8]) -> Option<String> {
    let path = String::from_utf8_lossy(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

/// Octal digits, or as GNU has it for large numbers, their bytes.
fn number(field: &[u8]) -> Result<u64> {
    let wrong = || Error::other("a header has a number that is none");
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7f);
        let whole = field[1..].iter().try_fold(first, |sum, byte| {
            let shifted = sum.checked_mul(256)?;
            Some(shifted | u64::from(*byte))
        });
        // Sizes are added up: none may come near the end of the numbers.
        return whole.filter(|size| *size < 1 << 62).ok_or_else(wrong);
    }
    let digits = std::str::from_utf8(field).map_err(|_| wrong())?;
    let digits = digits.trim_matches(['\0', ' ']);
    if digits.is_empty() {
        return Ok(0);
    }
    if digits.starts_with('+') {
        return Err(wrong());
    }
    u64::from_str_radix(digits, 8).ok().filter(|size| *size < 1 << 62).ok_or_else(wrong)
}

fn check_sum(block: &[u8]) -> Result<()> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }))
        .sum();
    match number(&block[148..156])? == sum {
        true => Ok(()),
        false => Err(Error::other("this is no tar archive: the sum of a header is wrong")),
    }
}

/// Records of the form `LENGTH KEY=VALUE\n`: pax, "Extended Header".
fn attributes(records: &[u8], said: &mut Said) -> Result<()> {
    let wrong = || Error::other("an extended header cannot be read");
    let mut rest = records;
    while !rest.is_empty() {
        let digits = rest.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
        let length =
            length.filter(|length| *length > digits + 1 && *length <= rest.len()).ok_or_else(wrong)?;
        let record = rest[digits + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => said.path = Some(text(value).to_vec()),
            b"GNU.sparse.name" => said.sparse = Some(text(value).to_vec()),
            b"linkpath" => said.link = Some(text(value).to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                let size = size.filter(|size| *size < 1_u64 << 62);
                said.size = Some(size.ok_or_else(wrong)?);
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Visitor for Nobody {
        fn begin(&mut self, _: Entry) -> Result<bool> {
            Ok(false)
        }

        fn bytes(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }

        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_archive_without_end_is_refused() {
        let mut endless = Archive::new(Nobody);
        endless.taken = ARCHIVE_LIMIT - 512;
        assert!(endless.write(&[0; 512]).is_ok());
        assert!(endless.write(&[0; 1]).is_err());
        let mut crowded = Archive::new(Nobody);
        crowded.entries = ENTRIES_LIMIT;
        let mut header = [0; 512];
        header[0] = b'a';
        header[148..155].copy_from_slice(format!("{:06o}\0", u32::from(b'a') + 8 * 32).as_bytes());
        header[155] = b' ';
        let error = crowded.write(&header).expect_err("one too many");
        assert!(error.to_string().contains("entries"), "{error}");
    }
}
