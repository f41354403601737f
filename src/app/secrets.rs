//! Watches the files with passwords and certificates of Elasticsearch: what is rotated there is used without a restart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::config::{EsProtocol, EsSettings};
use crate::storage::Store;
use crate::util::file;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);

/// Whether there is anything to watch.
pub(super) fn are_in_files(settings: &EsSettings) -> bool {
    settings.secrets_management_file.is_some() || trust_store(settings).is_some()
}

fn trust_store(settings: &EsSettings) -> Option<&std::path::Path> {
    let path = settings.trust_store_path.as_deref();
    path.filter(|_| settings.protocol == EsProtocol::Https)
}

/// Looks again and again; a file that cannot be used leaves everything as it is and is named in the log.
pub(super) async fn watch(storage: Arc<Store>, mut settings: EsSettings) -> anyhow::Result<()> {
    let first = look(settings.clone()).await?.ok();
    let mut used = first.filter(|seen| seen.is_used_by(&settings));
    let mut said = String::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let outcome = match look(settings.clone()).await? {
            Ok(seen) if used.as_ref() == Some(&seen) => Ok(()),
            Ok(seen) => {
                if let Some(text) = &seen.secrets {
                    settings.take_secrets(text);
                }
                let outcome = storage.reconnect(&settings).context("not taken");
                if outcome.is_ok() {
                    tracing::info!(
                        "secrets of elasticsearch have changed and are used from now on"
                    );
                    used = Some(seen);
                }
                outcome
            }
            Err(error) => Err(error),
        };
        let reason = outcome.map_or_else(|error| format!("{error:#}"), |()| String::new());
        if !reason.is_empty() && reason != said {
            tracing::warn!(reason, "changed secrets of elasticsearch cannot be used");
        }
        said = reason;
    }
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Seen {
    secrets: Option<String>,
    trust_store: Option<Vec<u8>>,
}

impl Seen {
    /// Whether the settings have these secrets; they were read at the start, and may have changed before the first look.
    fn is_used_by(&self, settings: &EsSettings) -> bool {
        let mut with = settings.clone();
        if let Some(text) = &self.secrets {
            with.take_secrets(text);
        }
        with.user == settings.user
            && with.password == settings.password
            && with.trust_store_pass == settings.trust_store_pass
    }
}

async fn look(settings: EsSettings) -> anyhow::Result<anyhow::Result<Seen>> {
    let read = move || {
        let secrets = settings.secrets_management_file.as_deref();
        let secrets = secrets.map(|path| {
            file::read_text(path, file::MAX_BYTES).with_context(|| format!("cannot read {path:?}"))
        });
        let trust_store = trust_store(&settings).map(|path| {
            file::read(path, file::MAX_BYTES).with_context(|| format!("cannot read {path:?}"))
        });
        Ok(Seen {
            secrets: secrets.transpose()?,
            trust_store: trust_store.transpose()?,
        })
    };
    Ok(tokio::task::spawn_blocking(read).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Arguments, ConfigDirs, Configuration, StorageSettings};

    #[test]
    fn what_was_rotated_before_the_first_look_is_not_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        std::fs::write(&path, "user=u\npassword=old").unwrap();
        let variables = [
            ("SW_STORAGE", "elasticsearch7".to_owned()),
            ("SW_ES_SECRETS_MANAGEMENT_FILE", path.display().to_string()),
        ];
        let configuration = Configuration::load_from(
            &ConfigDirs::only(vec![]),
            &Arguments::default(),
            &variables.into_iter().collect(),
        );
        let StorageSettings::Elasticsearch(settings) = configuration.unwrap().settings.storage
        else {
            panic!("not Elasticsearch");
        };
        for (secrets, want) in [
            (Some("user=u\npassword=old"), true),
            (Some("password=old"), true),
            (Some("user=u\npassword=new"), false),
            (Some("user=v\npassword=old"), false),
            (Some("user=u\npassword=old\ntrustStorePass=x"), false),
            (None, true),
        ] {
            let seen = Seen {
                secrets: secrets.map(str::to_owned),
                trust_store: None,
            };
            assert_eq!(seen.is_used_by(&settings), want, "{secrets:?}");
        }
    }
}
