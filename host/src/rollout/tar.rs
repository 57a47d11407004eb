//! A policy folder as a tar archive (POSIX ustar), which is how it is uploaded. Only what a policy folder has: plain
//! files at the top, with the names that mean something; everything else in the archive is passed over.

use anyhow::{Context, bail, ensure};

use super::content::{Files, named};

const BLOCK: usize = 512;
/// Where the fields of a header are: <https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html>.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..265;
const PREFIX: std::ops::Range<usize> = 345..500;

/// The archive of these files.
pub fn write(files: &Files) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        let mut header = [0_u8; BLOCK];
        put(&mut header, NAME.start, name.as_bytes());
        put(&mut header, 100, b"0000644\x000000000\x000000000\0");
        put(&mut header, SIZE.start, format!("{:011o}\0", content.len()).as_bytes());
        put(&mut header, 136, b"00000000000\0");
        put(&mut header, KIND, b"0");
        put(&mut header, MAGIC.start, b"ustar\x0000");
        let sum = checksum(&header);
        put(&mut header, CHECKSUM.start, format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

/// The files of an archive.
///
/// # Errors
/// It is not a tar archive, is cut, or has a name twice.
pub fn read(mut archive: &[u8]) -> anyhow::Result<Files> {
    let mut files = Files::new();
    loop {
        let (header, rest) = archive.split_at_checked(BLOCK).context("the tar archive is cut")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let sum = octal(field(header, CHECKSUM)).context("this is not a tar archive")?;
        ensure!(sum == checksum(header), "this is not a tar archive: the checksum of a header is wrong");
        let size = octal(field(header, SIZE)).context("a file of the tar archive has no size")?;
        let whole = size.checked_next_multiple_of(BLOCK).filter(|whole| *whole <= rest.len());
        let content = rest.get(..size).context("the tar archive is cut")?;
        archive = rest.get(whole.context("the tar archive is cut")?..).unwrap_or_default();
        let kind = header.get(KIND).copied().unwrap_or_default();
        if kind == b'L' {
            bail!("the tar archive has a name of more than 100 bytes, which no file of a policy folder has");
        }
        let name = String::from_utf8_lossy(field(header, NAME)).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        let base = name.rsplit('/').next().unwrap_or_default();
        if matches!(kind, b'0' | 0) && base != name && named(base).is_some() {
            bail!("the tar archive has {name} in a folder; make it of the folder's files: tar -C FOLDER -c .");
        }
        if !matches!(kind, b'0' | 0) || !field(header, PREFIX).is_empty() || named(name).is_none() {
            continue;
        }
        ensure!(files.insert(name.to_owned(), content.into()).is_none(), "the tar archive has {name} twice");
    }
}

fn put(header: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    header.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = *byte);
}

/// A field without what pads it.
fn field(header: &[u8], range: std::ops::Range<usize>) -> &[u8] {
    let bytes = header.get(range).unwrap_or_default();
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim();
    usize::from_str_radix(text, 8).ok()
}

/// The sum of all bytes of a header, its own field as blanks.
fn checksum(header: &[u8]) -> usize {
    let byte = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { usize::from(b' ') } else { usize::from(*byte) };
    header.iter().enumerate().map(byte).sum()
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Files, read, write};

    fn files() -> Files {
        let named = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.into());
        [named("a.toml", b""), named("b.wasm", &[7; BLOCK]), named("c.cases.toml", &[b'x'; 700])].into()
    }

    #[test]
    fn there_and_back() {
        assert_eq!(read(&write(&files())).unwrap(), files());
        assert_eq!(read(&write(&Files::new())).unwrap(), Files::new());
        let below = read(&write(&[("policies.d/a.toml".to_owned(), b"".as_slice().into())].into()));
        assert!(below.unwrap_err().to_string().contains("has policies.d/a.toml in a folder"));
        let mut more = files();
        more.insert("README".to_owned(), b"passed over".as_slice().into());
        assert_eq!(read(&write(&more)).unwrap(), files());
    }

    /// Any one byte that is cut or changed: an error or other files, and never a panic.
    #[test]
    fn damaged() {
        let whole = write(&files());
        for cut in (0..whole.len() - 2 * BLOCK).step_by(37) {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..BLOCK {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x15;
            drop(read(&damaged));
        }
        let twice = [&whole[..BLOCK], &whole].concat();
        assert!(read(&twice).unwrap_err().to_string().contains("a.toml twice"));
        assert!(read(b"PK\x03\x04").is_err());
        assert!(read(&[b'x'; 2 * BLOCK]).unwrap_err().to_string().contains("not a tar archive"));
    }
}
