//! The container image without a container engine: the root file system that the Dockerfile makes, by the same script, entered with nothing
//! else to see and nothing to write to but the volume, as the user of the image and as root.
//!
//! The test's own binary is not static, so what it is linked to is put beside it; needs root, as the chroot of any image does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::oap_process::OapCommand;
use crate::peers::installed;
use crate::waiting::wait_until;

/// User and group: those of the image, root, and a number that a platform chooses, which is in group 0 there.
const USERS: [(&str, &str); 3] = [("1000", "1000"), ("0", "0"), ("1000650000", "0")];
const DEADLINE: Duration = Duration::from_secs(30);
/// `unshare -m sh -c ENTER sh ROOT VOLUME USER GROUP PROGRAM ARGUMENT...`
const ENTER: &str = r#"set -e
root=$1 volume=$2 user=$3 group=$4; shift 4
mount --bind "$root" "$root"
mount --bind "$volume" "$root/skywalking/data"
mount -o remount,bind,ro "$root"
exec unshare --root="$root" --wd=/skywalking --setgid "$group" --setuid "$user" "$@""#;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A root file system with an empty volume.
struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    fn build() -> Result<Image> {
        let folder = tempfile::tempdir()?;
        let image = Image { folder };
        let oap = env!("CARGO_BIN_EXE_oap");
        let script = project().join("image/rootfs.sh");
        let made = Command::new(script).arg(oap).arg(image.root()).output()?;
        ensure!(made.status.success(), "{made:?}");
        let linked = Command::new("ldd").arg(oap).output()?;
        for word in String::from_utf8(linked.stdout)?.split_whitespace() {
            if let Some(inside) = word.strip_prefix('/') {
                let target = image.root().join(inside);
                std::fs::create_dir_all(target.parent().context("no folder")?)?;
                std::fs::copy(word, target)?;
            }
        }
        for (user, _) in USERS {
            // What lies in the image lies in a new volume.
            let volume = image.volume(user).display().to_string();
            let data = image.root().join("skywalking/data").display().to_string();
            let copied = Command::new("cp").args(["-a", &data, &volume]).output()?;
            ensure!(copied.status.success(), "{copied:?}");
        }
        Ok(image)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn volume(&self, user: &str) -> PathBuf {
        self.folder.path().join(format!("volume-{user}"))
    }

    /// A program of the image with the environment of an `OapCommand`.
    fn enter(&self, (user, group): (&str, &str), program: &str) -> OapCommand {
        let root = self.root().display().to_string();
        let volume = self.volume(user).display().to_string();
        let launcher = [
            "unshare", "-m", "sh", "-c", ENTER, "sh", &root, &volume, user, group, program,
        ];
        OapCommand::new(self.folder.path()).through(&launcher)
    }
}

#[tokio::test]
async fn it_runs_in_a_root_file_system_that_nobody_can_write_to() -> Result<()> {
    let image = Image::build()?;
    for user in USERS {
        let server = image
            .enter(user, "/skywalking/bin/oap")
            .argument("--lenient")
            .argument("--some.argument=of-the-original")
            .env("TZ", "Asia/Shanghai")
            .env("JAVA_OPTS", " -Xms256M ");
        let process = server.start().await?;
        let (_, port) = process.http().rsplit_once(':').unwrap_or_default();
        let probe = image
            .enter(user, "/skywalking/bin/swctl")
            .env("SW_CORE_REST_PORT", port);
        wait_until("the probe says that it is well", DEADLINE, async || {
            let ended = probe.run().await?;
            ensure!(ended.status.success(), "{ended:?} {}", process.log());
            Ok(())
        })
        .await?;
        let log = process.log();
        process.stop().await?;
        ensure!(log.contains("configuration as shipped"), "{log}");
        ensure!(!log.contains(" source="), "a shipped file differs: {log}");
        ensure!(
            image.volume(user.0).join("dead-letters.jsonl").exists()
                || image.volume(user.0).read_dir()?.count() > 0
        );
        let ended = probe.run().await?;
        ensure!(ended.status.code() == Some(1), "{ended:?}");
        let check = image
            .enter(user, "/skywalking/bin/oap")
            .argument("config")
            .argument("check");
        let ended = check.env("TZ", "America/Sao_Paulo").run().await?;
        ensure!(ended.status.success(), "{ended:?}");
    }
    Ok(())
}

#[test]
fn it_has_the_paths_of_the_original_and_nothing_else_to_run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let binary = folder.path().join("binary");
    std::fs::write(&binary, "a program")?;
    let root = folder.path().join("root");
    let script = project().join("image/rootfs.sh");
    let made = Command::new(&script).arg(&binary).arg(&root).output()?;
    ensure!(made.status.success(), "{made:?}");
    for path in [
        "bin/oap",
        "bin/swctl",
        "config/application.yml",
        "config/oal/core.oal",
        "config/alarm-settings.yml",
        "config/fetcher-prom-rules/self.yaml",
        "ext-config",
        "ext-libs",
        "data",
    ] {
        ensure!(root.join("skywalking").join(path).exists(), "{path}");
    }
    let found = Command::new("find")
        .arg(&root)
        .args(["-perm", "/111", "!", "-type", "d", "!", "-type", "l"])
        .output()?;
    let found = String::from_utf8(found.stdout)?;
    let lines: Vec<&str> = found.lines().collect();
    ensure!(
        lines.len() == 1 && lines[0].ends_with("skywalking/bin/oap"),
        "{lines:?}"
    );
    let wrong = Command::new(&script).arg(&binary).output()?;
    ensure!(wrong.status.code() == Some(2), "{wrong:?}");
    Ok(())
}

#[test]
fn the_dockerfile_says_what_the_image_of_the_original_says() -> Result<()> {
    let text = std::fs::read_to_string(project().join("Dockerfile"))?;
    let last = text.split("\nFROM ").last().context("no stage")?;
    for line in [
        "scratch",
        "COPY --from=build /rootfs /",
        "WORKDIR /skywalking",
        "USER 1000:1000",
        "EXPOSE 12800 11800 1234",
        "ENTRYPOINT [\"/skywalking/bin/oap\", \"--lenient\"]",
    ] {
        ensure!(last.lines().any(|l| l == line), "{line}");
    }
    ensure!(last.contains("CMD [\"/skywalking/bin/swctl\"]"), "{last}");
    // Compiled on the builder's platform for the one that is asked for.
    ensure!(
        text.contains("    && image/build.sh \"$TARGETARCH\" /rootfs\n"),
        "{text}"
    );
    // As a rebuilt image would otherwise hold what was compiled from files of a later date.
    ensure!(text.contains("-exec touch {} +"), "{text}");
    let version = format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"));
    ensure!(last.contains(&version), "{version}");
    // What is installed to compile with is known by its checksum.
    ensure!(
        text.contains("--require-hashes -r /requirements.txt"),
        "{text}"
    );
    let toolchain = std::fs::read_to_string(project().join("rust-toolchain.toml"))?;
    let version = toolchain.split('"').nth(1).context("no version")?;
    ensure!(
        text.contains(&format!(
            "FROM --platform=$BUILDPLATFORM rust:{version}-bookworm"
        )),
        "{version}"
    );
    ensure!(
        text.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")),
        "{version}"
    );
    Ok(())
}

/// Tools that say what they were called with, and a compiler that makes a file.
const TOOL: &str = r#"#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
for target; do :; done
[ "$(basename "$0")" = rustup ] && exit
mkdir -p "$CARGO_TARGET_DIR/$target/release"
echo "of $target" >"$CARGO_TARGET_DIR/$target/release/oap"
"#;

#[test]
fn either_architecture_is_compiled_the_same_way() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name);
    for tool in ["rustup", "cargo"] {
        std::fs::create_dir_all(place("tools"))?;
        let path = place("tools").join(tool);
        std::fs::write(&path, TOOL)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let build = |architecture: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new(project().join("image/build.sh"))
            .args([architecture, &place(architecture).display().to_string()])
            .env("PATH", format!("{}:{path}", place("tools").display()))
            .env("CALLS", place("calls"))
            .env("CARGO_TARGET_DIR", place("target"))
            .output()
    };
    for (architecture, target) in [
        ("amd64", "x86_64-unknown-linux-musl"),
        ("arm64", "aarch64-unknown-linux-musl"),
    ] {
        let built = build(architecture)?;
        ensure!(built.status.success(), "{built:?}");
        let calls = std::fs::read_to_string(place("calls"))?;
        let want = format!(
            "rustup target add {target}\ncargo zigbuild --release --locked --bin oap --target {target}\n"
        );
        ensure!(calls.ends_with(&want), "{calls}");
        let binary = place(architecture).join("skywalking/bin/oap");
        let text = std::fs::read_to_string(binary)?;
        ensure!(text == format!("of {target}\n"), "{text}");
    }
    for wrong in ["", "riscv64"] {
        let built = build(wrong)?;
        ensure!(built.status.code() == Some(2), "{built:?}");
    }
    Ok(())
}

#[test]
fn the_linter_of_dockerfiles_finds_nothing() -> Result<()> {
    let hadolint = installed("hadolint").join("bin/hadolint");
    let run = |file: &Path| Command::new(&hadolint).arg(file).output();
    let said = run(&project().join("Dockerfile"))?;
    ensure!(said.status.success(), "{said:?}");
    let wrong = tempfile::NamedTempFile::new()?;
    std::fs::write(&wrong, "FROM alpine:latest\nRUN apk add curl\n")?;
    ensure!(!run(wrong.path())?.status.success());
    Ok(())
}
