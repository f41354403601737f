//! Which instance answers at which network address. Learned from references of entry spans, shared by all analyzers
//! and the topology query (8.1.0 spec, B.7).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::fact::AddressAlias;
use crate::model::id;

/// The real service and instance behind an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Resident {
    pub service: String,
    pub instance: String,
    pub service_id: String,
    instance_id: String,
}

/// Known addresses. Bounded; a full book learns nothing new.
#[derive(Debug)]
pub struct AddressBook {
    residents: RwLock<HashMap<String, Arc<Resident>, foldhash::fast::RandomState>>,
    capacity: usize,
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
        }
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
        let book = AddressBook::new(1);
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
    }
}
