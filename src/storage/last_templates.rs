//! The dashboards as they were read last, for questions while the store is away: a browser asks for them once and keeps
//! what it gets.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::IntCounter;

use super::UiTemplate;
use crate::telemetry::Registers;

/// The most that is remembered, a hundred times what is shipped.
const MAX_BYTES: usize = 8 << 20;

/// What was read or changed last.
#[derive(Debug, Default)]
pub struct LastTemplates {
    last: Mutex<Last>,
    /// How often they were too large to be remembered, once that is shown.
    too_large: OnceLock<IntCounter>,
}

#[derive(Debug, Default)]
struct Last {
    /// `None` before the first reading, or if they are too large.
    templates: Option<Vec<UiTemplate>>,
    /// How often something was changed here: what was read before a change does not take its place.
    changes: u64,
    is_told: bool,
}

/// Templates are read since a number of changes.
#[derive(Debug, Clone, Copy)]
pub struct Reading(u64);

impl LastTemplates {
    /// Shows what is counted. Fails if the name is taken.
    pub fn register(&self, registry: &impl Registers) -> prometheus::Result<()> {
        let too_large = IntCounter::new(
            "storage_unremembered_templates_total",
            "How often dashboards were too large to be remembered for while the store is away",
        )?;
        registry.register(Box::new(too_large.clone()))?;
        self.too_large.get_or_init(|| too_large);
        Ok(())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before all are read.
    pub fn begin(&self) -> Reading {
        Reading(self.last().changes)
    }

    /// Takes all that were read, disabled ones too.
    pub fn read(&self, reading: Reading, templates: &[UiTemplate]) {
        let mut last = self.last();
        if last.changes == reading.0 {
            self.keep(&mut last, templates.to_vec());
        }
    }

    /// Takes one that was stored by this process.
    pub fn changed(&self, template: &UiTemplate) {
        let mut last = self.last();
        last.changes += 1;
        let Some(mut templates) = last.templates.take() else {
            return;
        };
        match templates.iter_mut().find(|t| t.name == template.name) {
            Some(known) => *known = template.clone(),
            None => templates.push(template.clone()),
        }
        self.keep(&mut last, templates);
    }

    fn keep(&self, last: &mut Last, templates: Vec<UiTemplate>) {
        let bytes = bytes_of(&templates);
        let fits = bytes <= MAX_BYTES;
        if !fits {
            if let Some(too_large) = self.too_large.get() {
                too_large.inc();
            }
            if !last.is_told {
                tracing::warn!(
                    bytes,
                    most = MAX_BYTES,
                    "dashboards are too large to be remembered: while storage is away those of the template file are answered"
                );
            }
        }
        last.is_told = !fits;
        last.templates = fits.then_some(templates);
    }

    /// All of them, disabled ones too; `None` if they were never read.
    pub fn get(&self) -> Option<Vec<UiTemplate>> {
        self.last().templates.clone()
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.last().templates.as_deref().map_or(0, bytes_of)
    }
}

fn bytes_of(templates: &[UiTemplate]) -> usize {
    let texts = |t: &UiTemplate| t.name.len() + t.ty.len() + t.configuration.len();
    let of_one = |t| size_of::<UiTemplate>() + texts(t);
    templates.iter().map(of_one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, length: usize) -> UiTemplate {
        UiTemplate {
            name: name.to_owned(),
            ty: "DASHBOARD".to_owned(),
            configuration: "1".repeat(length),
            is_activated: true,
            is_disabled: false,
        }
    }

    #[test]
    fn what_was_changed_is_not_undone_by_what_was_read_before() {
        let last = LastTemplates::default();
        let (a, b) = (template("a", 1), template("b", 1));
        last.changed(&a);
        assert_eq!(last.get(), None, "others are not known yet");
        last.read(last.begin(), std::slice::from_ref(&a));
        let reading = last.begin();
        last.changed(&b);
        let disabled = UiTemplate {
            is_disabled: true,
            ..a.clone()
        };
        last.changed(&disabled);
        last.read(reading, &[a]);
        assert_eq!(last.get(), Some(vec![disabled, b.clone()]));
        last.read(last.begin(), std::slice::from_ref(&b));
        assert_eq!(last.get(), Some(vec![b]));
    }

    #[test]
    fn what_is_too_large_is_counted_and_not_held() {
        let last = LastTemplates::default();
        last.register(&prometheus::Registry::new()).unwrap();
        let counted = || last.too_large.get().unwrap().get();
        last.read(last.begin(), &[template("a", MAX_BYTES / 2)]);
        assert!(last.bytes() > MAX_BYTES / 2 && counted() == 0);
        last.changed(&template("b", MAX_BYTES / 2));
        assert_eq!((last.get(), last.bytes(), counted()), (None, 0, 1));
        last.read(last.begin(), &[]);
        assert_eq!(last.get(), Some(vec![]));
    }
}
