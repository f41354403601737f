//! A file with the levels of the log, as `OAP_LOG` has them or one on each line, which an operator writes while the server runs.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::LogControl;
use crate::util::file;

/// The file in the first directory that has it, and what it said last.
#[derive(Debug)]
pub struct LevelFile {
    paths: Vec<PathBuf>,
    control: LogControl,
    last: Said,
}

/// Path and levels, `None` if there is no file or nothing in it; or why it cannot be read.
type Said = Result<Option<(String, String)>, String>;

/// Levels are a line, this is far above that.
const MAX_BYTES: u64 = 64 << 10;

impl LevelFile {
    /// Reads nothing yet. Of several paths the first one that exists counts.
    pub fn new(paths: Vec<PathBuf>, control: LogControl) -> LevelFile {
        LevelFile {
            paths,
            control,
            last: Ok(None),
        }
    }

    /// Takes the levels that the file has now, or those of the start if it is gone. What makes no sense changes nothing and is
    /// said once.
    pub fn look(&mut self) {
        let said = self.read();
        if said == self.last {
            return;
        }
        let levels = match &said {
            Ok(levels) => levels.as_ref().map(|(_, levels)| levels.as_str()),
            Err(reason) => {
                tracing::warn!(reason, "the levels of the log stay as they are");
                self.last = said;
                return;
            }
        };
        match self.control.set(levels) {
            Ok(()) => {
                let levels = levels.unwrap_or(&self.control.filter);
                tracing::info!(levels, "log levels");
            }
            Err(error) => tracing::warn!(
                %error,
                "the levels of the log stay as they are; write for example: info,oap::storage=debug"
            ),
        }
        self.last = said;
    }

    fn read(&self) -> Said {
        for path in &self.paths {
            let name = path.display().to_string();
            let text = match file::read_text(path, MAX_BYTES) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("{name}: {error}")),
            };
            let lines: Vec<&str> = text.split_whitespace().collect();
            let levels = lines.join(",");
            return Ok(Some((name, levels)).filter(|(_, levels)| !levels.is_empty()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn levels_follow_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let control = LogControl {
            filter: "info".to_owned(),
            change: {
                let taken = Arc::clone(&taken);
                Box::new(move |filter| {
                    let filter = filter.to_string();
                    let quiet = format!("{},", super::super::QUIET);
                    let own = filter.strip_prefix(&quiet).unwrap_or(&filter);
                    taken.lock().unwrap().push(own.to_owned());
                    Ok(())
                })
            },
        };
        let mut file = LevelFile::new(vec![first.clone(), second.clone()], control);
        let mut look = |text: Option<&str>, path: &PathBuf| {
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            file.look();
            file.look();
            std::mem::take(&mut *taken.lock().unwrap())
        };
        assert_eq!(look(Some("debug\n"), &second), ["debug"]);
        assert_eq!(look(Some("debug"), &second), [""; 0]);
        assert_eq!(look(Some("oap=loud"), &second), [""; 0], "refused");
        assert_eq!(look(Some("warn"), &first), ["warn"]);
        assert_eq!(look(None, &first), [""; 0], "the second one is still wrong");
        assert_eq!(look(Some("inof"), &second), [""; 0], "refused");
        assert_eq!(look(Some("\n"), &second), ["info"]);
        let lines = "info,\r\noap::query=debug\n\n";
        let want = "zookeeper_client=off,kube_client=off,oap::query=debug,h2=off,info";
        assert_eq!(look(Some(lines), &second), [want]);
        assert_eq!(look(Some("error"), &second), ["error"]);
        assert_eq!(look(None, &second), ["info"]);
    }
}
