//! As much of SQLite as reading one table of texts and blobs takes: no index, no journal, nothing written.
//!
//! sqlite.org/fileformat2.html. A file that comes from outside may say anything: pages are counted, chains are as
//! long as what they hold, and every offset is looked up in bounds.

/// The length of the head of a file.
const HEAD: usize = 100;
/// How deep the tree of a table may be: more than any file of this size needs.
const DEPTH_LIMIT: usize = 16;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

type Result<T> = std::result::Result<T, &'static str>;
const CUT: &str = "it is cut short";

/// One value of a row.
enum Value<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Other,
}

/// The second column of every row of a table, where it holds bytes; at most `limit` rows.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn blobs(file: &[u8], table: &str, limit: usize) -> Result<Vec<Vec<u8>>> {
    let file = File::open(file)?;
    let mut root = None;
    file.rows(1, limit, &mut |row| {
        let values = values(row)?;
        let (Some(Value::Bytes(kind)), Some(Value::Bytes(name))) = (values.first(), values.get(1)) else {
            return Ok(());
        };
        if (*kind, *name) == (b"table".as_slice(), table.as_bytes())
            && let Some(Value::Integer(page)) = values.get(3)
        {
            root = usize::try_from(*page).ok();
        }
        Ok(())
    })?;
    let mut found = Vec::new();
    file.rows(root.ok_or("it has no table of packages")?, limit, &mut |row| {
        if let Some(Value::Bytes(bytes)) = values(row)?.get(1) {
            found.push(bytes.to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

struct File<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Bytes of a page that are used.
    usable: usize,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(b"SQLite format 3\0") || bytes.len() < HEAD {
            return Err("it is no database of SQLite");
        }
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => usize::from(size),
        };
        let usable = page_size.saturating_sub(usize::from(bytes[20]));
        match page_size.is_power_of_two() && usable >= 480 {
            true => Ok(Self { bytes, page_size, usable }),
            false => Err("its pages have an impossible size"),
        }
    }

    fn page(&self, number: usize) -> Result<&'a [u8]> {
        let start = number.checked_sub(1).and_then(|before| before.checked_mul(self.page_size)).ok_or(CUT)?;
        self.bytes.get(start..).and_then(|rest| rest.get(..self.page_size)).ok_or(CUT)
    }

    /// Hands over every row of the table whose tree begins at a page.
    fn rows(&self, root: usize, limit: usize, hear: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut left, mut rows) = (vec![(root, 0)], 0);
        // A tree has each of its pages once.
        let mut pages = self.bytes.len() / self.page_size;
        while let Some((number, depth)) = left.pop() {
            if depth > DEPTH_LIMIT || pages == 0 {
                return Err("its pages go round in circles");
            }
            pages -= 1;
            let page = self.page(number)?;
            let head = if number == 1 { HEAD } else { 0 };
            let cells = usize::from(short(page, head + 3)?);
            match page[head] {
                INTERIOR => {
                    // The last in is the first out, and the right-most child has the highest keys.
                    left.push((long(page, head + 8)?, depth + 1));
                    for cell in (0..cells).rev() {
                        let at = usize::from(short(page, head + 12 + 2 * cell)?);
                        left.push((long(page, at)?, depth + 1));
                    }
                }
                LEAF => {
                    for cell in 0..cells {
                        rows += 1;
                        if rows > limit {
                            return Err("it has more packages than any system");
                        }
                        let at = usize::from(short(page, head + 8 + 2 * cell)?);
                        hear(&self.payload(page.get(at..).ok_or(CUT)?)?)?;
                    }
                }
                _ => return Err("a page of a table is of another kind"),
            }
        }
        Ok(())
    }

    /// The bytes of a row, with those that stand on pages of their own.
    fn payload(&self, cell: &[u8]) -> Result<Vec<u8>> {
        let (length, rest) = varint(cell)?;
        let (_, rest) = varint(rest)?;
        let length = usize::try_from(length).map_err(|_| CUT)?;
        if length > self.bytes.len() {
            return Err(CUT);
        }
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = match length <= most {
            true => length,
            false => {
                let wanted = least + (length - least) % (self.usable - 4);
                if wanted <= most { wanted } else { least }
            }
        };
        let mut all = rest.get(..here).ok_or(CUT)?.to_vec();
        let mut next = if here < length { long(rest, here)? } else { 0 };
        while all.len() < length {
            let page = self.page(next)?;
            let piece = page.get(4..self.usable).ok_or(CUT)?;
            all.extend_from_slice(&piece[..piece.len().min(length - all.len())]);
            next = long(page, 0)?;
        }
        Ok(all)
    }
}

/// The values of a row: the first columns, which are all that is asked for.
fn values(row: &[u8]) -> Result<Vec<Value<'_>>> {
    let (head, rest) = varint(row)?;
    let head = usize::try_from(head).map_err(|_| CUT)?;
    let mut types = row.get(row.len() - rest.len()..head).ok_or(CUT)?;
    let mut data = row.get(head..).ok_or(CUT)?;
    let mut found = Vec::new();
    while !types.is_empty() && found.len() < 5 {
        let (kind, rest) = varint(types)?;
        types = rest;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err("a row has a value of no known kind"),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let (value, rest) = data.split_at_checked(length).ok_or(CUT)?;
        data = rest;
        found.push(match kind {
            8 | 9 => Value::Integer(i64::from(kind == 9)),
            1..=6 => Value::Integer(value.iter().fold(0, |sum: i64, byte| (sum << 8) | i64::from(*byte))),
            12.. => Value::Bytes(value),
            _ => Value::Other,
        });
    }
    Ok(found)
}

/// A number of one to nine bytes, and what follows.
fn varint(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Ok(((value << 8) | u64::from(*byte), &bytes[9..]));
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[at + 1..]));
        }
    }
    Err(CUT)
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    let two = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    two.map(|two| u16::from_be_bytes(*two)).ok_or(CUT)
}

fn long(bytes: &[u8], at: usize) -> Result<usize> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    four.map(|four| u32::from_be_bytes(*four) as usize).ok_or(CUT)
}
