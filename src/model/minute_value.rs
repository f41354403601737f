//! The calculated value of a metric in a minute, for those who look at values as they come.

use std::sync::Arc;

use super::entity::Entity;
use super::row::Cell;
use super::schema::{ColumnType, Model};
use super::table::Table;

/// What a metric of an entity is in a minute, as far as known.
#[derive(Debug, Clone)]
pub struct MinuteValue {
    pub metric: Arc<Model>,
    pub entity: Arc<Entity>,
    /// Minute bucket.
    pub minute: u64,
    pub value: Calculated,
}

/// A value to compare.
#[derive(Debug, Clone, PartialEq)]
pub enum Calculated {
    Number(f64),
    /// The ranks of a percentile, in their order.
    List(Vec<f64>),
}

impl Calculated {
    /// The value in the cells of [`Function::columns`](super::metrics::Function::columns), which `model` has after those of
    /// the entity. `None` for histograms and relations, which have no such value.
    pub fn from_cells(model: &Model, cells: &[Cell]) -> Option<Calculated> {
        let name = model.value?.name;
        let at = model.column_index(name)?;
        let column = model.columns.get(at)?;
        let cell = cells.get(at.checked_sub(model.entity_columns.len())?)?;
        match column.ty {
            ColumnType::Int | ColumnType::Long | ColumnType::Double => {
                cell.as_double().map(Calculated::Number)
            }
            ColumnType::Table if name == "value" => {
                let table = Table::from_text(cell.as_text()?);
                let values = table.iter().map(|(_, value)| value as f64);
                Some(Calculated::List(values.collect()))
            }
            _ => None,
        }
    }
}
