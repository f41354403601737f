//! From the raw tree to [`Settings`], with every problem at once.

use super::modules::{NEEDS, Support, choices, providers};
use super::raw::{OFF, Origin, RawConfig};
use super::section::{Findings, Section, unread};
use super::telemetry::read_log;
use super::zone::{time_zone, zone_of_java};
use super::{
    AnalyzerSettings, Arguments, ClusterSettings, ConfigError, CoreSettings, DynamicSettings,
    EmbeddedSettings, Environment, EnvoySettings, EsSettings, ExporterSettings, JavaOpts, Notice,
    Problem, QuerySettings, ReceiverSettings, RunMode, Setting, Settings, SharingSettings,
    StorageSettings, TelemetrySettings,
};

/// Checked settings with what is worth saying about them.
#[derive(Debug)]
pub struct Built {
    pub settings: Settings,
    pub notices: Vec<Notice>,
    /// Every setting as the server has it, sorted by path.
    pub effective: Vec<Setting>,
}

/// Types and checks what the file, the environment and `JAVA_OPTS` say.
pub fn settings(
    raw: &RawConfig,
    java: &JavaOpts,
    environment: &Environment,
    arguments: &Arguments,
) -> Result<Built, ConfigError> {
    let mut builder = Builder {
        raw,
        findings: Findings {
            problems: raw.problems.clone(),
            ..Findings::default()
        },
    };
    let (log, problems) = read_log(environment);
    builder.findings.problems.extend(problems);
    let mode = builder.mode(java);
    let time_zone = builder.time_zone(java, environment);
    let unknown = builder.check_modules();
    let core = builder.module("core", |s| CoreSettings::read(s, &arguments.data_dir));
    let storage = builder.storage(arguments);
    let cluster = builder.cluster(core.as_ref(), environment);
    let sharing = builder.module("receiver-sharing-server", SharingSettings::read);
    let agent_analyzer = builder.module("agent-analyzer", AnalyzerSettings::read);
    let receivers = builder.receivers();
    let prometheus_fetcher = builder.module("prometheus-fetcher", |s| s.flag("active", false));
    let query = builder.module("query", |s| QuerySettings {
        path: s.url_path("path", "/graphql"),
    });
    let telemetry = builder.telemetry();
    let dynamic = builder.dynamic();
    let exporter = builder.module("exporter", ExporterSettings::read);
    let health_checker = builder.module("health-checker", |s| s.seconds("checkIntervalSeconds", 5));

    let mut findings = builder.findings;
    let (Some(core), Some(storage), true) = (core, storage, findings.problems.is_empty()) else {
        return Err(ConfigError::Invalid(findings.problems));
    };
    let mut effective = std::mem::take(&mut findings.settings);
    effective.extend(selection(raw));
    effective.sort_by(|a, b| a.path.cmp(&b.path));
    let mut notices = Vec::new();
    if raw
        .modules
        .get("storage")
        .is_some_and(|m| m.provider == "h2")
    {
        notices.push(Notice::EmbeddedServesH2);
    }
    if let Some(bytes) = java.max_heap_bytes {
        notices.push(Notice::MemoryBudget(bytes));
    }
    for (notice, items) in [
        (Notice::UnknownModules as fn(_) -> _, unknown),
        (Notice::UnknownKeys, findings.unknown_keys),
        (Notice::KeysWithoutEffect, findings.keys_without_effect),
        (Notice::JavaOptsWithoutEffect, raw.unused_java_opts.clone()),
    ] {
        if !items.is_empty() {
            notices.push(notice(items));
        }
    }
    let settings = Settings {
        mode,
        time_zone,
        memory_budget: java.max_heap_bytes,
        log,
        cluster,
        core,
        storage,
        agent_analyzer,
        receiver_sharing: sharing,
        receivers,
        prometheus_fetcher: prometheus_fetcher == Some(true),
        query,
        alarm: raw.modules.contains_key("alarm"),
        telemetry,
        dynamic,
        exporter,
        health_checker,
    };
    Ok(Built {
        settings,
        notices,
        effective,
    })
}

/// The selectors, and the keys of providers that have no settings of their own here.
fn selection(raw: &RawConfig) -> Vec<Setting> {
    let mut all = Vec::new();
    let selector = |module: &str, provider: &str, origin: &Origin, has_effect| Setting {
        path: format!("{module}.selector"),
        value: provider.to_owned(),
        origin: Some(origin.clone()),
        has_effect,
    };
    for (name, module) in &raw.modules {
        let supports = providers(name).unwrap_or_default();
        let works = supports.contains(&(&module.provider, Support::Works));
        all.push(selector(name, &module.provider, &module.selected_by, works));
        if !works {
            all.extend(unread(name, module));
        }
    }
    let off = raw.off.iter();
    all.extend(off.map(|(name, origin)| selector(name, OFF, origin, true)));
    all
}

struct Builder<'a> {
    raw: &'a RawConfig,
    findings: Findings,
}

impl Builder<'_> {
    /// The original takes any other value as none, so that a server that was to create nothing created everything.
    fn mode(&mut self, java: &JavaOpts) -> RunMode {
        java.mode().unwrap_or_else(|value| {
            self.findings.problems.push(Problem {
                path: "-Dmode".to_owned(),
                value: Some(value.to_owned()),
                origin: "JAVA_OPTS".to_owned(),
                expected: "init, no-init or default".to_owned(),
            });
            RunMode::Normal
        })
    }

    /// Name of the time zone, which must exist.
    fn time_zone(&mut self, java: &JavaOpts, environment: &Environment) -> Option<String> {
        let of_java = java
            .property("user.timezone")
            .map(|z| ("-Duser.timezone", z));
        let (path, name) = of_java
            .or_else(|| environment.get("TZ").map(|z| ("TZ", z)))
            .filter(|(_, name)| !name.is_empty())?;
        let is_zone = match path {
            "TZ" => time_zone(Some(name)).is_some(),
            _ => zone_of_java(name).is_some(),
        };
        if !is_zone {
            self.findings.problems.push(Problem {
                path: path.to_owned(),
                value: Some(name.to_owned()),
                origin: String::new(),
                expected: "a time zone such as UTC or Asia/Shanghai".to_owned(),
            });
        }
        Some(name.to_owned())
    }

    /// Compares the selection with what exists. Returns the unknown modules.
    fn check_modules(&mut self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (name, module) in &self.raw.modules {
            let Some(providers) = providers(name) else {
                unknown.push(name.clone());
                continue;
            };
            let support = providers.iter().find(|(p, _)| *p == module.provider);
            match support.map(|(_, s)| *s) {
                Some(Support::Works) => {}
                Some(Support::Missing) | None => {
                    self.findings.problems.push(Problem {
                        path: format!("{name}.selector"),
                        value: Some(module.provider.clone()),
                        origin: module.selected_by.describe(),
                        expected: choices(providers),
                    });
                }
            }
        }
        for needed in ["cluster", "core", "storage"] {
            if !self.raw.modules.contains_key(needed) {
                self.missing(needed, "a provider, the server cannot run without it");
            }
        }
        for (needed, by) in NEEDS {
            let by: Vec<&str> = by
                .iter()
                .copied()
                .filter(|m| self.raw.modules.contains_key(*m))
                .collect();
            if !by.is_empty() && !self.raw.modules.contains_key(*needed) {
                self.missing(needed, &format!("a provider, {} needs it", by.join(", ")));
            }
        }
        unknown
    }

    fn missing(&mut self, module: &str, expected: &str) {
        let is_known_broken = |p: &Problem| p.path.split('.').next() == Some(module);
        if self.raw.problems.iter().any(is_known_broken) {
            return;
        }
        self.findings.problems.push(Problem {
            path: format!("module {module}"),
            value: None,
            origin: String::new(),
            expected: expected.to_owned(),
        });
    }

    /// Reads the keys of a module, `None` if it is off.
    fn module<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let module = self.raw.modules.get(name)?;
        let mut section = Section::new(name, module, &mut self.findings);
        let settings = read(&mut section);
        section.finish();
        Some(settings)
    }

    fn is_on(&self, name: &str) -> bool {
        self.raw.modules.contains_key(name)
    }

    fn storage(&mut self, arguments: &Arguments) -> Option<StorageSettings> {
        let provider = self.raw.modules.get("storage")?.provider.as_str();
        match provider {
            "h2" => {
                let dir = arguments.data_dir.clone();
                self.module("storage", |s| {
                    StorageSettings::Embedded(EmbeddedSettings::read(s, dir))
                })
            }
            "elasticsearch" | "elasticsearch7" => self.module("storage", |s| {
                StorageSettings::Elasticsearch(Box::new(EsSettings::read(s)))
            }),
            _ => None,
        }
    }

    fn cluster(
        &mut self,
        core: Option<&CoreSettings>,
        environment: &Environment,
    ) -> ClusterSettings {
        let module = self.raw.modules.get("cluster");
        let provider = module.map_or("", |module| module.provider.as_str());
        let read = match provider {
            "static" => self.module("cluster", |s| ClusterSettings::read_static(s, core)),
            "kubernetes" => self.module("cluster", |s| {
                ClusterSettings::read_kubernetes(s, environment)
            }),
            "standalone" => None,
            _ => self
                .module("cluster", |s| {
                    ClusterSettings::read_announced(provider, s, core)
                })
                .flatten(),
        };
        read.unwrap_or(ClusterSettings::Standalone)
    }

    fn receivers(&mut self) -> ReceiverSettings {
        ReceiverSettings {
            register: self.is_on("receiver-register"),
            trace: self.is_on("receiver-trace"),
            jvm: self.is_on("receiver-jvm"),
            clr: self.is_on("receiver-clr"),
            profile: self.is_on("receiver-profile"),
            meter: self.is_on("receiver-meter"),
            mesh: self.is_on("service-mesh"),
            istio: self.is_on("istio-telemetry"),
            envoy: self.module("envoy-metric", EnvoySettings::read),
        }
    }

    fn dynamic(&mut self) -> Option<DynamicSettings> {
        let provider = self.raw.modules.get("configuration")?.provider.as_str();
        self.module("configuration", |s| DynamicSettings::read(provider, s))?
    }

    fn telemetry(&mut self) -> TelemetrySettings {
        match self.raw.modules.get("telemetry") {
            Some(module) if module.provider == "prometheus" => self
                .module("telemetry", TelemetrySettings::read_prometheus)
                .unwrap_or(TelemetrySettings::None),
            _ => TelemetrySettings::None,
        }
    }
}
