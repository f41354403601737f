//! Files that people write and settings name: read whole, within a bound.

use std::fs::{File, FileType, Metadata};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Of files with settings, certificates, passwords. The largest that make sense are trust stores and scripts, with some 200 kB.
pub const MAX_BYTES: u64 = 16 << 20;

const DIRECTORY: &str = "a directory";
const WHENCE_DIRECTORIES: &str =
    "container engines make one where the file that is to be mounted is missing";

/// All of a file. What is no file is refused: a pipe waits until somebody writes, a device may never end. So is one with more
/// than `max_bytes`. Links are followed.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    refuse_what_is_no_file(&std::fs::metadata(path)?)?;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let reason = format!("it is larger than {max_bytes} bytes");
        return Err(Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// [`read`] of a text, which has to be UTF-8; a mark that it is so does not belong to it.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?)
        .map(without_mark)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// A text without the byte order mark that some editors put before it.
pub fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

fn refuse_what_is_no_file(metadata: &Metadata) -> Result<()> {
    match other_kind(metadata.file_type()) {
        None => Ok(()),
        Some(DIRECTORY) => Err(Error::new(
            ErrorKind::IsADirectory,
            format!("it is {DIRECTORY}, not a file; {WHENCE_DIRECTORIES}"),
        )),
        Some(kind) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("it is {kind}, not a file"),
        )),
    }
}

fn other_kind(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_dir() => Some(DIRECTORY),
        kind if kind.is_fifo() => Some("a pipe"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_within_the_bound_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::fs::write(path("bytes"), [0xff]).unwrap();
        std::fs::write(path("marked"), "\u{feff}a").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        let mut pipe = std::process::Command::new("mkfifo");
        assert!(pipe.arg(path("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let text = |name: &str, max| read_text(&path(name), max).map_err(|e| e.to_string());
        for (name, max, want) in [
            ("file", 5, Ok("12345")),
            ("link", 5, Ok("12345")),
            ("file", 4, Err("it is larger than 4 bytes")),
            ("marked", 4, Ok("a")),
            ("bytes", 4, Err("it is not UTF-8")),
            ("pipe", 4, Err("it is a pipe, not a file")),
            ("socket", 4, Err("it is a socket, not a file")),
            ("/dev/zero", 4, Err("it is a device, not a file")),
        ] {
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(text(name, max), want, "{name}");
        }
        let folder = text("folder", 4).unwrap_err();
        assert!(
            folder.starts_with("it is a directory, not a file; container"),
            "{folder}"
        );
        let none = read(&path("none"), 4).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
