//! Resolvers of `ui.graphqls`.

use serde::Deserialize;

use super::{Answer, Arguments, answer};
use crate::query::QueryContext;
use crate::query::service::template::{self, DashboardSetting};
use crate::storage::Backend;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AllTemplates {
    including_disabled: Option<bool>,
}

pub(super) async fn all_templates<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let AllTemplates { including_disabled } = a.read()?;
    answer(template::templates(cx, including_disabled.unwrap_or(false)).await?)
}

#[derive(Deserialize)]
struct Change {
    setting: DashboardSetting,
}

pub(super) async fn add_template<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Change { setting } = a.read()?;
    answer(template::add(cx, setting).await?)
}

pub(super) async fn change_template<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Change { setting } = a.read()?;
    answer(template::change(cx, setting).await?)
}

#[derive(Deserialize)]
struct Disable {
    name: String,
}

pub(super) async fn disable_template<S: Backend>(cx: &QueryContext<S>, a: Arguments) -> Answer {
    let Disable { name } = a.read()?;
    answer(template::disable(cx, &name).await?)
}
