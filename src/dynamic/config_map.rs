//! A ConfigMap of Kubernetes whose data are the keys (8.1.0 spec, I; deployment spec, A7).

use super::center::Values;
use super::key::Key;
use crate::cluster::clients::CenterError;
use crate::cluster::config_maps::{ConfigMap, ConfigMapReader};

/// The map that the charts make for this; others with the same labels are for other things.
const NAME: &str = "skywalking-dynamic-config";

/// The maps with some labels in a namespace.
#[derive(Debug)]
pub struct ConfigMaps {
    reader: ConfigMapReader,
}

impl ConfigMaps {
    pub(super) fn new(namespace: &str, label_selector: &str) -> ConfigMaps {
        ConfigMaps {
            reader: ConfigMapReader::new(namespace, label_selector),
        }
    }

    /// That there is no map at all is an error, not one without values: it may just be replaced.
    pub(super) async fn read(&mut self, keys: &[Key]) -> Result<Values, CenterError> {
        let maps = self.reader.read().await;
        let maps = maps.map_err(|error| CenterError(error.to_string()))?;
        if maps.is_empty() {
            let message = format!("there is no ConfigMap {}", self.reader.place());
            return Err(CenterError(message));
        }
        values(maps, keys)
    }
}

/// Those of the map with the usual name, else of all maps together.
fn values(mut maps: Vec<ConfigMap>, keys: &[Key]) -> Result<Values, CenterError> {
    if let Some(at) = maps.iter().position(|map| map.name == NAME) {
        maps = vec![maps.swap_remove(at)];
    }
    let mut values = Values::new();
    for mut map in maps {
        for key in keys {
            let Some(value) = map.data.remove(key.name()) else {
                continue;
            };
            let before = values.insert(*key, value.into_bytes());
            if before.is_some_and(|before| values.get(key) != Some(&before)) {
                let (name, key) = (&map.name, key.name());
                let message =
                    format!("{key} is in several ConfigMaps, in {name} with another value");
                return Err(CenterError(message));
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, data: &[(Key, &str)]) -> ConfigMap {
        let entry = |(key, value): &(Key, &str)| (key.name().to_owned(), (*value).to_owned());
        ConfigMap {
            name: name.to_owned(),
            data: data.iter().map(entry).collect(),
        }
    }

    #[test]
    fn the_map_with_the_usual_name_counts_alone() {
        let rate = |value| (Key::SampleRate, value);
        let override_map = || {
            map(
                "oap-cm-override",
                &[rate("1"), (Key::ApdexThreshold, "a: 1")],
            )
        };
        let read = |maps: Vec<ConfigMap>| {
            let text = |value| String::from_utf8(value).unwrap();
            let mut values: Vec<(&str, String)> = values(maps, &Key::ALL)?
                .into_iter()
                .map(|(key, value)| (key.name(), text(value)))
                .collect();
            values.sort_unstable();
            Ok::<_, CenterError>(
                values
                    .into_iter()
                    .map(|(_, value)| value)
                    .collect::<Vec<_>>(),
            )
        };
        let usual = map(NAME, &[rate("2")]);
        assert_eq!(read(vec![override_map(), usual]).unwrap(), ["2"]);
        assert_eq!(read(vec![map(NAME, &[]), override_map()]).unwrap(), [""; 0]);
        let gateways = map("x", &[(Key::UninstrumentedGateways, "g"), rate("1")]);
        let both = read(vec![override_map(), gateways]).unwrap();
        assert_eq!(both, ["1", "g", "a: 1"]);
        let error = read(vec![override_map(), map("y", &[rate("3")])]).unwrap_err();
        assert!(
            error.0.contains("sampleRate") && error.0.contains("in y "),
            "{error}"
        );
    }
}
