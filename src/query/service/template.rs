//! Dashboards of the user interface (query spec 2.11): the template file, overlaid by what is stored.
//!
//! The file answers where the store has nothing of that name. While the store is away what was read last is answered, and the
//! file alone if nothing ever was: a browser keeps what it once got, also an empty list (correction 17).

use serde::{Deserialize, Serialize};

use crate::query::{QueryContext, QueryError};
use crate::storage::{Backend, StorageError, UiTemplate};

/// A dashboard as clients send it.
#[derive(Debug, Clone, Deserialize)]
pub struct DashboardSetting {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    /// JSON text.
    pub configuration: String,
    pub active: bool,
}

impl DashboardSetting {
    fn into_template(self) -> UiTemplate {
        UiTemplate {
            name: self.name,
            ty: self.ty,
            configuration: self.configuration,
            is_activated: self.active,
            is_disabled: false,
        }
    }
}

/// A dashboard as clients get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DashboardConfiguration {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub configuration: String,
    pub activated: bool,
    pub disabled: bool,
}

impl From<UiTemplate> for DashboardConfiguration {
    fn from(t: UiTemplate) -> DashboardConfiguration {
        DashboardConfiguration {
            name: t.name,
            ty: t.ty,
            configuration: t.configuration,
            activated: t.is_activated,
            disabled: t.is_disabled,
        }
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TemplateChangeStatus {
    pub status: bool,
    /// Why not.
    pub message: Option<String>,
}

impl TemplateChangeStatus {
    fn of(is_done: bool, why_not: &str) -> TemplateChangeStatus {
        TemplateChangeStatus {
            status: is_done,
            message: (!is_done).then(|| why_not.to_owned()),
        }
    }
}

const EXISTS: &str = "Template exists";
const ABSENT: &str = "Can't find the template";

/// Every dashboard that is not disabled, or every one.
pub async fn templates<S: Backend>(
    cx: &QueryContext<S>,
    including_disabled: bool,
) -> Result<Vec<DashboardConfiguration>, QueryError> {
    // Disabled ones are read in any case: they hide those of the file.
    let mut all = match cx.storage.ui_templates(true).await {
        Ok(stored) => stored,
        Err(StorageError::Unavailable(reason)) => {
            tracing::debug!(reason, "dashboards are those that were read last");
            cx.storage.last_ui_templates().unwrap_or_default()
        }
        Err(error) => return Err(error.into()),
    };
    for shipped in &cx.templates {
        if !all.iter().any(|t| t.name == shipped.name) {
            all.push(shipped.clone());
        }
    }
    let is_shown = |t: &UiTemplate| including_disabled || !t.is_disabled;
    Ok(all.into_iter().filter(is_shown).map(Into::into).collect())
}

fn shipped<'a, S>(cx: &'a QueryContext<S>, name: &str) -> Option<&'a UiTemplate> {
    cx.templates.iter().find(|t| t.name == name)
}

/// Stores a new dashboard.
pub async fn add<S: Backend>(
    cx: &QueryContext<S>,
    setting: DashboardSetting,
) -> Result<TemplateChangeStatus, QueryError> {
    let is_free = shipped(cx, &setting.name).is_none();
    let template = setting.into_template();
    let is_added = is_free && cx.storage.add_ui_template(&template).await?;
    Ok(TemplateChangeStatus::of(is_added, EXISTS))
}

/// Replaces a dashboard, which also enables it.
pub async fn change<S: Backend>(
    cx: &QueryContext<S>,
    setting: DashboardSetting,
) -> Result<TemplateChangeStatus, QueryError> {
    put(cx, setting.into_template()).await
}

/// Hides a dashboard.
pub async fn disable<S: Backend>(
    cx: &QueryContext<S>,
    name: &str,
) -> Result<TemplateChangeStatus, QueryError> {
    let stored = cx.storage.ui_templates(true).await?;
    let stored = stored.into_iter().find(|t| t.name == name);
    let Some(mut template) = stored.or_else(|| shipped(cx, name).cloned()) else {
        return Ok(TemplateChangeStatus::of(false, ABSENT));
    };
    template.is_disabled = true;
    put(cx, template).await
}

/// Replaces what is stored; one of the file that is not stored yet is stored by this.
async fn put<S: Backend>(
    cx: &QueryContext<S>,
    template: UiTemplate,
) -> Result<TemplateChangeStatus, QueryError> {
    let mut is_done = cx.storage.replace_ui_template(&template).await?;
    if !is_done && shipped(cx, &template.name).is_some() {
        is_done = cx.storage.add_ui_template(&template).await?;
    }
    Ok(TemplateChangeStatus::of(is_done, ABSENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::service::fake::{FakeStore, context};

    fn setting(name: &str) -> DashboardSetting {
        DashboardSetting {
            name: name.into(),
            ty: "DASHBOARD".into(),
            configuration: "[1]".into(),
            active: true,
        }
    }

    async fn names(cx: &QueryContext<FakeStore>, including_disabled: bool) -> Vec<String> {
        let all = templates(cx, including_disabled).await.unwrap();
        all.into_iter().map(|t| t.name).collect()
    }

    #[tokio::test]
    async fn the_file_answers_while_the_store_is_away() {
        let cx = context(FakeStore {
            is_away: true,
            ..FakeStore::default()
        });
        assert_eq!(names(&cx, false).await, ["APM"]);
        assert!(change(&cx, setting("APM")).await.is_err());
    }

    #[tokio::test]
    async fn what_was_read_last_is_answered_while_the_store_is_away() {
        let disabled = UiTemplate {
            is_disabled: true,
            ..setting("APM").into_template()
        };
        let cx = context(FakeStore {
            is_away: true,
            last_templates: Some(vec![setting("mine").into_template(), disabled]),
            ..FakeStore::default()
        });
        assert_eq!(names(&cx, false).await, ["mine"]);
        assert_eq!(names(&cx, true).await, ["mine", "APM"]);
    }

    #[tokio::test]
    async fn what_is_stored_hides_what_is_shipped() {
        let cx = context(FakeStore::default());
        assert!(change(&cx, setting("APM")).await.unwrap().status);
        let all = templates(&cx, false).await.unwrap();
        assert_eq!((all.len(), all[0].configuration.as_str()), (1, "[1]"));

        assert!(disable(&cx, "APM").await.unwrap().status);
        assert!(names(&cx, false).await.is_empty());
        assert_eq!(names(&cx, true).await, ["APM"]);

        assert!(change(&cx, setting("APM")).await.unwrap().status);
        assert_eq!(names(&cx, false).await, ["APM"], "a change enables again");
    }

    #[tokio::test]
    async fn names_are_given_once_and_must_exist_for_a_change() {
        let cx = context(FakeStore::default());
        assert!(add(&cx, setting("mine")).await.unwrap().status);
        for refused in [
            add(&cx, setting("mine")).await,
            add(&cx, setting("APM")).await,
            change(&cx, setting("absent")).await,
            disable(&cx, "absent").await,
        ] {
            let refused = refused.unwrap();
            assert!(!refused.status && refused.message.is_some());
        }
        assert_eq!(names(&cx, false).await, ["mine", "APM"]);
    }
}
