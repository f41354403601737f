//! Where files come from, and what is said of those that cannot be read.

use super::*;

fn of_home(home: &Path) -> ConfigDirs {
    ConfigDirs {
        layers: vec![Layer::of_home(home)],
        passed_over: Vec::new(),
    }
}

#[test]
fn each_file_comes_from_the_first_directory_that_has_it() {
    let first = tempfile::tempdir().unwrap();
    let second = tempfile::tempdir().unwrap();
    std::fs::create_dir(second.path().join("oal")).unwrap();
    std::fs::write(first.path().join("gateways.yml"), "1").unwrap();
    std::fs::write(second.path().join("gateways.yml"), "2").unwrap();
    std::fs::write(second.path().join("oal/core.oal"), "3").unwrap();
    let dirs = ConfigDirs::only(vec![first.path().to_owned(), second.path().to_owned()]);
    let files = dirs.read(|_| true).unwrap();
    assert_eq!(files.len(), BUILT_IN.len());
    let found = |name: &str| {
        let file = files.iter().find(|f| f.name == name).unwrap();
        (file.source.clone(), file.text.as_str())
    };
    let gateways = FileSource::Disk(first.path().join("gateways.yml"));
    let core = FileSource::Disk(second.path().join("oal/core.oal"));
    assert_eq!(found("gateways.yml"), (gateways, "1"));
    assert_eq!(found("oal/core.oal"), (core, "3"));
    assert_eq!(found("application.yml").0, FileSource::BuiltIn);
}

/// Editors of Windows write the mark.
#[test]
fn a_byte_order_mark_is_no_part_of_a_script() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("oal")).unwrap();
    let text = built_in("oal/core.oal");
    std::fs::write(dir.path().join("oal/core.oal"), format!("\u{feff}{text}")).unwrap();
    let dirs = ConfigDirs::only(vec![dir.path().to_owned()]);
    let file = dirs.read(|name| name == "oal/core.oal").unwrap().remove(0);
    assert_eq!(
        file.source,
        FileSource::Disk(dir.path().join("oal/core.oal"))
    );
    assert!(file.is_as_shipped());
}

#[test]
fn a_file_that_is_no_text_is_named_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateways.yml"), b"a: 1\nb: \xfc\n").unwrap();
    let dirs = ConfigDirs::only(vec![dir.path().to_owned()]);
    let error = dirs.read(|_| true).unwrap_err().to_string();
    assert!(
        error.ends_with("gateways.yml:2 is not UTF-8, save the file in that encoding"),
        "{error}"
    );
}

#[test]
fn rules_come_from_the_first_directory_that_has_their_folder() {
    let empty = tempfile::tempdir().unwrap();
    let full = tempfile::tempdir().unwrap();
    let folder = full.path().join(METER_RULES);
    let dirs = ConfigDirs::only(vec![empty.path().to_owned(), full.path().to_owned()]);
    let names = || {
        let files = dirs.read_folder(METER_RULES).unwrap().into_iter();
        files.map(|f| (f.name, f.text)).collect::<Vec<_>>()
    };
    let built_in = names();
    assert_eq!(built_in.len(), 1);
    assert_eq!(built_in[0].0, "meter-receive-config/spring-sleuth.yaml");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(names(), []);
    for name in ["b.yml", "a.yaml", "notes.txt", "..data.yaml"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    let want = ["a.yaml", "b.yml"];
    let want = want.map(|name| (format!("{METER_RULES}/{name}"), name.to_owned()));
    assert_eq!(names(), want);
    std::fs::write(empty.path().join(METER_RULES), "no folder").unwrap();
    assert!(dirs.read_folder(METER_RULES).is_err());
}

#[test]
fn a_mounted_config_map_in_ext_config_wins_over_config() {
    use std::os::unix::fs::symlink;
    let home = tempfile::tempdir().unwrap();
    let [config, ext] = ["config", "ext-config"].map(|name| home.path().join(name));
    let data = ext.join("..2026_11_27_10_00_00.1");
    for folder in [&config.join(FETCHER_RULES), &data, &ext.join(FETCHER_RULES)] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(data.join("gateways.yml"), "mounted").unwrap();
    std::fs::write(data.join("log4j2.xml"), "<Configuration/>").unwrap();
    symlink("..2026_11_27_10_00_00.1", ext.join("..data")).unwrap();
    for name in ["gateways.yml", "log4j2.xml"] {
        symlink(format!("..data/{name}"), ext.join(name)).unwrap();
    }
    std::fs::write(config.join("gateways.yml"), "shipped").unwrap();
    for (folder, name) in [(&config, "a.yaml"), (&config, "b.yaml"), (&ext, "b.yaml")] {
        let text = folder.file_name().unwrap().to_string_lossy();
        std::fs::write(folder.join(FETCHER_RULES).join(name), &*text).unwrap();
    }
    std::fs::create_dir(home.path().join("ext-libs")).unwrap();
    std::fs::write(home.path().join("ext-libs/mine.jar"), "PK").unwrap();
    let dirs = of_home(home.path());
    let gateways = dirs.read(|name| name == "gateways.yml").unwrap();
    assert_eq!(gateways[0].text, "mounted");
    let rules = dirs.read_folder(FETCHER_RULES).unwrap();
    let texts: Vec<&str> = rules.iter().map(|f| f.text.as_str()).collect();
    assert_eq!(texts, ["config", "ext-config"]);
    let unusable = dirs.unusable().unwrap();
    assert_eq!(unusable.len(), 2, "{unusable:?}");
    assert!(
        unusable[0].ends_with("ext-config/log4j2.xml"),
        "{unusable:?}"
    );
    assert!(unusable[1].ends_with("ext-libs/mine.jar"), "{unusable:?}");
}

#[test]
fn files_that_nobody_reads_are_named() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("ext-config");
    std::fs::create_dir_all(config.join("oal")).unwrap();
    for name in [
        "alarm-settings.yaml",
        "alarm-settings.yml",
        "alarm-settings-sample.yml",
        "log4j2.xml",
        ".hidden.yml",
        "oal/core.oal",
        "oal/own.oal",
    ] {
        std::fs::write(config.join(name), "").unwrap();
    }
    let dirs = of_home(home.path());
    let named = |name: &str| config.join(name).display().to_string();
    let want = ["alarm-settings.yaml", "oal/own.oal"].map(named);
    assert_eq!(dirs.unread().unwrap(), want);
    for i in 0..20 {
        std::fs::write(config.join(format!("{i}.yml")), "").unwrap();
    }
    let many = dirs.unread().unwrap();
    assert_eq!((many.len(), many[10].as_str()), (11, "and 12 more"));
}

#[test]
fn files_that_say_what_is_built_in_are_known() {
    let rules = ConfigDirs::only(vec![]).read_folder(FETCHER_RULES).unwrap();
    assert!(rules.iter().all(ConfigFile::is_as_shipped));
    assert!(!ConfigFile::built_in("gateways.yml", "a: 1").is_as_shipped());
}

#[test]
fn a_file_that_cannot_be_read_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("gateways.yml")).unwrap();
    let dirs = ConfigDirs::only(vec![dir.path().to_owned()]);
    let error = dirs.read(|name| name == "gateways.yml").unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    std::fs::write(dir.path().join("application.yml"), [0xff]).unwrap();
    assert!(dirs.read(|name| name == APPLICATION).is_err());
}

#[test]
fn a_named_directory_must_exist() {
    assert!(ConfigDirs::usual(Some(Path::new("/no/such/directory"))).is_err());
    assert!(ConfigDirs::usual(None).is_ok());
}
