//! Files that change while they are read, as those of a mounted ConfigMap do, all of them at once: a start never takes some from before and
//! some from after.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{BUILT_IN, BUILT_IN_FOLDERS, ConfigDirs, ConfigError, list};

/// How often files are looked at before it is said that they do not come to rest.
const ATTEMPTS: u32 = 20;
/// Between two attempts. Whoever mounts a ConfigMap needs some milliseconds for a change, whoever copies files into a pod a second.
const PAUSE: Duration = Duration::from_millis(100);

/// What can be seen of files without reading them.
type State = Vec<(PathBuf, Entry)>;

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    None,
    /// A link to what is not there, yet or any more.
    LinkToNothing,
    There {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: Option<SystemTime>,
    },
}

impl ConfigDirs {
    /// What `load` makes of the files when nothing about them changes meanwhile; it is called again until then, for two seconds at
    /// most. A link to nothing may be one that is about to go, and is waited for as long if it is what `load` complains about.
    pub fn settled<T>(
        &self,
        load: impl FnMut() -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        self.settled_after(PAUSE, load)
    }

    fn settled_after<T>(
        &self,
        pause: Duration,
        mut load: impl FnMut() -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let mut attempt = 1;
        loop {
            let before = self.state();
            let loaded = load();
            let after = self.state();
            let is_whole = after.iter().all(|(_, e)| *e != Entry::LinkToNothing);
            match changed(&before, &after) {
                None if is_whole || loaded.is_ok() || attempt == ATTEMPTS => return loaded,
                Some(path) if attempt == ATTEMPTS => return Err(ConfigError::Unsettled { path }),
                _ => std::thread::sleep(pause),
            }
            attempt += 1;
        }
    }

    fn state(&self) -> State {
        let mut state = State::new();
        for dir in self.layers.iter().flat_map(|layer| &layer.dirs) {
            let mut paths: Vec<PathBuf> = BUILT_IN.iter().map(|(name, _)| dir.join(name)).collect();
            for (folder, _) in BUILT_IN_FOLDERS {
                let folder = dir.join(folder);
                // What cannot be listed is an error when it is read.
                let names = list(&folder, |_| true).ok().flatten().unwrap_or_default();
                paths.extend(names.iter().map(|name| folder.join(name)));
            }
            paths.retain(|path| !self.passed_over.contains(path));
            state.extend(paths.into_iter().map(|path| {
                let entry = Entry::of(&path);
                (path, entry)
            }));
        }
        state
    }
}

impl Entry {
    fn of(path: &Path) -> Entry {
        match path.metadata() {
            Ok(metadata) => Entry::There {
                device: metadata.dev(),
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: metadata.modified().ok(),
            },
            Err(_) if path.symlink_metadata().is_ok() => Entry::LinkToNothing,
            Err(_) => Entry::None,
        }
    }
}

/// The first path that is not in both as it was.
fn changed(before: &State, after: &State) -> Option<PathBuf> {
    let only = |here: &State, there: &State| {
        let mut new = here.iter().filter(|entry| !there.contains(entry));
        new.next().map(|(path, _)| path.clone())
    };
    only(after, before).or_else(|| only(before, after))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder as kubelets mount a ConfigMap, with two files.
    struct Mount {
        folder: tempfile::TempDir,
        version: u32,
    }

    impl Mount {
        fn new() -> Mount {
            let folder = tempfile::tempdir().unwrap();
            let mut mount = Mount { folder, version: 0 };
            mount.change();
            for name in ["application.yml", "gateways.yml"] {
                symlink(format!("..data/{name}"), mount.path(name)).unwrap();
            }
            mount
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn dirs(&self) -> ConfigDirs {
            ConfigDirs::only(vec![self.folder.path().to_owned()])
        }

        /// Puts another version in the place of what is there.
        fn change(&mut self) {
            self.version += 1;
            let data = format!("..{}", self.version);
            std::fs::create_dir(self.path(&data)).unwrap();
            for name in ["application.yml", "gateways.yml"] {
                let path = self.path(&data).join(name);
                std::fs::write(path, self.version.to_string()).unwrap();
            }
            symlink(&data, self.path("..new")).unwrap();
            std::fs::rename(self.path("..new"), self.path("..data")).unwrap();
            let old = self.path(&format!("..{}", self.version - 1));
            if old.exists() {
                std::fs::remove_dir_all(old).unwrap();
            }
        }
    }

    fn text(dirs: &ConfigDirs, name: &str) -> Result<String, ConfigError> {
        Ok(dirs.read(|n| n == name)?.remove(0).text)
    }

    #[test]
    fn files_are_all_of_one_version() {
        let mut mount = Mount::new();
        let dirs = mount.dirs();
        for changes in [0, 1, 3] {
            let mut left = changes;
            let texts = dirs.settled_after(Duration::ZERO, || {
                let application = text(&dirs, "application.yml")?;
                if left > 0 {
                    mount.change();
                    left -= 1;
                }
                Ok((application, text(&dirs, "gateways.yml")?))
            });
            let version = mount.version.to_string();
            assert_eq!(texts.unwrap(), (version.clone(), version), "{changes}");
        }
    }

    #[test]
    fn files_that_do_not_come_to_rest_are_named() {
        let mut mount = Mount::new();
        let dirs = mount.dirs();
        let never = dirs.settled_after(Duration::ZERO, || {
            mount.change();
            text(&dirs, "gateways.yml")
        });
        let error = never.unwrap_err().to_string();
        let path = mount.path("application.yml").display().to_string();
        assert!(error.starts_with(&path), "{error}");
    }

    #[test]
    fn a_link_to_nothing_is_waited_for() {
        let mount = Mount::new();
        let link = mount.path("service-apdex-threshold.yml");
        let dirs = mount.dirs();
        symlink("nothing", &link).unwrap();
        let mut attempts = 0;
        let mut load = |name: &str, last| {
            attempts = 0;
            let text = dirs.settled_after(Duration::ZERO, || {
                attempts += 1;
                if attempts == last {
                    std::fs::remove_file(&link).unwrap();
                }
                text(&dirs, name)
            });
            (
                text.map_err(|error| error.unreadable().map(Path::to_owned)),
                attempts,
            )
        };
        assert_eq!(load("gateways.yml", 0), (Ok("1".to_owned()), 1));
        let name = "service-apdex-threshold.yml";
        assert_eq!(load(name, 0), (Err(Some(link.clone())), ATTEMPTS));
        let (text, attempts) = load(name, 3);
        // It goes in the middle of the third attempt.
        assert_eq!((text.is_ok(), attempts), (true, 4));
    }
}
