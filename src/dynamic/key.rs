//! The settings that can change, all those of 8.1.0 (8.1.0 spec, I).

/// A setting that a configuration centre may have a value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    SlowDbAccessThreshold,
    UninstrumentedGateways,
    SampleRate,
    AlarmSettings,
    ApdexThreshold,
    EndpointNameGrouping,
}

impl Key {
    /// Every key.
    pub const ALL: [Key; 6] = [
        Key::SlowDbAccessThreshold,
        Key::UninstrumentedGateways,
        Key::SampleRate,
        Key::AlarmSettings,
        Key::ApdexThreshold,
        Key::EndpointNameGrouping,
    ];

    /// `module.provider.item`, under which centres have it.
    pub fn name(self) -> &'static str {
        match self {
            Key::SlowDbAccessThreshold => "agent-analyzer.default.slowDBAccessThreshold",
            Key::UninstrumentedGateways => "agent-analyzer.default.uninstrumentedGateways",
            Key::SampleRate => "agent-analyzer.default.sampleRate",
            Key::AlarmSettings => "alarm.default.alarm-settings",
            Key::ApdexThreshold => "core.default.apdexThreshold",
            Key::EndpointNameGrouping => "core.default.endpoint-name-grouping",
        }
    }

    /// The key of a name.
    pub fn of(name: &str) -> Option<Key> {
        Key::ALL.into_iter().find(|key| key.name() == name)
    }
}
