//! Which instance answers at which network address. Learned from references of entry spans, shared by all analyzers
//! and the topology query (8.1.0 spec, B.7).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::IntCounter;

use crate::model::fact::AddressAlias;
use crate::model::id;
use crate::telemetry::Registers;

/// The real service and instance behind an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Resident {
    pub service: String,
    pub instance: String,
    pub service_id: String,
    instance_id: String,
}

/// Known addresses. Bounded; a full book learns nothing new, which is counted.
#[derive(Debug)]
pub struct AddressBook {
    residents: RwLock<HashMap<String, Arc<Resident>, foldhash::fast::RandomState>>,
    capacity: usize,
    turned_away: Option<IntCounter>,
}

impl Resident {
    fn is_of(&self, alias: &AddressAlias) -> bool {
        self.service_id == alias.service_id && self.instance_id == alias.instance_id
    }
}

impl AddressBook {
    /// `capacity` is `core.default.maxSizeOfNetworkAddressAlias`.
    pub fn new(capacity: usize) -> AddressBook {
        AddressBook {
            residents: RwLock::default(),
            capacity,
            turned_away: None,
        }
    }

    /// Shows how often an address found no room. Fails if the name is taken.
    pub fn counting(mut self, registry: &impl Registers) -> prometheus::Result<AddressBook> {
        let counter = IntCounter::new(
            "stream_addresses_turned_away_total",
            "Network addresses not remembered, because core.default.maxSizeOfNetworkAddressAlias is reached",
        )?;
        registry.register(Box::new(counter.clone()))?;
        self.turned_away = Some(counter);
        Ok(self)
    }

    /// Who answers at an address.
    pub fn find(&self, address: &str) -> Option<Arc<Resident>> {
        self.residents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(address)
            .cloned()
    }

    /// Learns aliases; one whose ids cannot be read is skipped. Returns how many were new or changed.
    pub fn learn<'a>(&self, aliases: impl IntoIterator<Item = &'a AddressAlias>) -> usize {
        let mut learned = 0;
        for alias in aliases {
            let resident = self.find(&alias.address);
            if resident.is_some_and(|resident| resident.is_of(alias)) {
                continue;
            }
            let (Ok((service, _)), Ok((_, instance))) = (
                id::parse_service_id(&alias.service_id),
                id::parse_instance_id(&alias.instance_id),
            ) else {
                continue;
            };
            let resident = Resident {
                service,
                instance,
                service_id: alias.service_id.clone(),
                instance_id: alias.instance_id.clone(),
            };
            let mut residents = self
                .residents
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if residents.len() < self.capacity || residents.contains_key(&alias.address) {
                residents.insert(alias.address.clone(), Arc::new(resident));
                learned += 1;
            } else if let Some(counter) = &self.turned_away {
                counter.inc();
            }
        }
        learned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_book_keeps_what_it_knows() {
        let registry = prometheus::Registry::new();
        let book = AddressBook::new(1).counting(&registry).unwrap();
        let alias = |address: &str, instance: &str| AddressAlias {
            address: address.into(),
            service_id: id::service_id("order", true),
            instance_id: id::instance_id(&id::service_id("order", true), instance),
            last_update: 202_009_151_058,
        };
        assert_eq!(book.learn(&[alias("a:1", "i1"), alias("b:1", "i1")]), 1);
        assert_eq!(book.learn(&[alias("a:1", "i1")]), 0);
        assert_eq!(book.learn(&[alias("a:1", "i2")]), 1);
        assert_eq!(book.find("a:1").unwrap().instance, "i2");
        assert_eq!(book.find("b:1"), None);
        let turned_away = registry.gather()[0].get_metric()[0]
            .get_counter()
            .get_value();
        assert_eq!(turned_away, 1.0);
    }
}
