//! Names of components by number, and what a client library talks to (`component-libraries.yml`).
//!
//! Only names: what a component means for analysis is not decided here.

use std::collections::HashMap;

use crate::config::{ConfigFile, Place, Problem, Report};

/// Name of a component number that the file does not have, if it has no number 0 either.
const UNKNOWN_COMPONENT: &str = "N/A";
/// Server of a component without a mapping.
const UNKNOWN_SERVER: &str = "Unknown";
/// The one top-level key that is no component.
const MAPPINGS: &str = "Component-Server-Mappings";

/// The parsed file.
#[derive(Debug, Clone, Default)]
pub struct Components {
    name_by_id: HashMap<i64, String>,
    id_by_name: HashMap<String, i64>,
    /// By the name of the client component.
    server_by_name: HashMap<String, String>,
}

impl Components {
    /// Reads the file. Returns also what in it has no effect, or all mistakes.
    pub fn parse(file: &ConfigFile) -> Result<(Components, Vec<String>), Vec<Problem>> {
        let (mut report, value) = Report::open(file);
        let mut components = Components::default();
        let entries = Place::root(&value).entries(&mut report);
        let (mappings, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(name, _)| name == MAPPINGS);
        for (name, place) in entries {
            components.add(name, &place, &mut report);
        }
        for (_, mappings) in mappings {
            for (client, place) in mappings.entries(&mut report) {
                components.map(client, &place, &mut report);
            }
        }
        report.finish(components)
    }

    fn add(&mut self, name: String, place: &Place<'_>, report: &mut Report) {
        let [number, _] = place.fields(["id", "languages"], report);
        let Some(id) = number.whole_number(report) else {
            if number.is_nothing() {
                report.wrong(&number, "the number of the component");
            }
            return;
        };
        if let Some(first) = self.name_by_id.get(&id) {
            report.wrong(&number, format!("a number that {first} does not have"));
            return;
        }
        self.name_by_id.insert(id, name.clone());
        self.id_by_name.insert(name, id);
    }

    fn map(&mut self, client: String, place: &Place<'_>, report: &mut Report) {
        let Some(server) = place.scalar() else {
            return report.wrong(place, "the name of a server");
        };
        if !self.id_by_name.contains_key(&client) {
            return report.wrong(place, format!("no server, {client} is no component"));
        }
        self.server_by_name.insert(client, server);
    }

    /// Name of a number; an unknown number has the name of number 0, which is `Unknown` in the shipped file.
    pub fn name(&self, id: i64) -> &str {
        let name = self.name_by_id.get(&id).or_else(|| self.name_by_id.get(&0));
        name.map_or(UNKNOWN_COMPONENT, |n| n)
    }

    /// Number of a name.
    pub fn id(&self, name: &str) -> Option<i64> {
        self.id_by_name.get(name).copied()
    }

    /// What the component with this number talks to, `Unknown` if that is not said.
    pub fn server(&self, id: i64) -> &str {
        self.name_by_id
            .get(&id)
            .and_then(|name| self.server_by_name.get(name))
            .map_or(UNKNOWN_SERVER, |s| s)
    }
}

#[cfg(test)]
mod tests;
