//! The image: linted, built from the static binary, and run as Kubernetes would run it.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use holdline::agents::dns::{self, Srv};
use holdline::agents::phone::{Options, Phone};
use holdline::agents::registrar::{self, Behaviour, Registrar};
use holdline::flow::Transport;
use serde_json::Value;
use tempfile::TempDir;

use super::tools::{command, installed, output, root, said, succeed};
use crate::loopback::process::Holdline;
use crate::loopback::stage::registered;

const TAG: &str = "localhost/holdline:test";
/// Bytes that the image may have.
const LARGEST: u64 = 15_000_000;

#[test]
fn hadolint_and_checkov_have_nothing_to_say_about_the_dockerfiles() {
    let test = "deploy::image::hadolint_and_checkov_have_nothing_to_say_about_the_dockerfiles";
    if installed(test, &["hadolint", "checkov"]) {
        let files = ["deploy/image/Dockerfile", "deploy/image/Dockerfile.source"];
        assert_eq!(succeed(command("hadolint").args(files)), "");
        let mut checkov = command("checkov");
        checkov.args(["--skip-download", "--compact", "--quiet", "--framework", "dockerfile", "--file"]).args(files);
        succeed(&mut checkov);

        let folder = tempfile::tempdir().unwrap();
        let bad = folder.path().join("Dockerfile");
        std::fs::write(&bad, "FROM debian\nRUN cd /tmp\n").unwrap();
        assert!(!output(command("hadolint").arg(bad)).status.success());
    }
}

/// Containers and images of this test alone, gone with it.
struct Store(TempDir);

impl Store {
    fn new() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let conf = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                    [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        std::fs::write(folder.path().join("containers.conf"), conf).unwrap();
        Store(folder)
    }

    fn command(&self, tool: &str) -> Command {
        let at = |name: &str| self.0.path().join(name);
        let mut command = command(tool);
        command.env("CONTAINERS_CONF", at("containers.conf"));
        command.args(["--storage-driver", "vfs", "--root"]).arg(at("root")).arg("--runroot").arg(at("run"));
        command
    }

    /// Builds the image. The binary is built first, where its sources have changed.
    fn build(&self) {
        static BINARY: OnceLock<()> = OnceLock::new();
        BINARY.get_or_init(|| {
            let mut script = Command::new("timeout");
            script.args(["1500", "scripts/static.sh"]).current_dir(root()).stdin(Stdio::null());
            succeed(&mut script);
        });
        let mut build = self.command("buildah");
        build.args(["build", "--isolation", "chroot", "--file", "deploy/image/Dockerfile"]);
        succeed(build.args(["--build-arg", "REVISION=0123abc", "--tag", TAG, "target/image"]));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = output(self.command("podman").args(["rm", "--all", "--force", "--time", "0"]));
    }
}

/// Containers need more than most users have.
fn can_run(test: &str) -> bool {
    let root = nix_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "{test} needs root");
        let line = format!("NOT RUN: {test} (needs root)\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }
    root && installed(test, &["buildah", "podman", "runc", "conmon"])
}

fn nix_root() -> bool {
    let id = output(Command::new("id").arg("-u"));
    said(&id).trim() == "0"
}

#[test]
fn the_image_is_small_and_says_what_it_is() {
    if !can_run("deploy::image::the_image_is_small_and_says_what_it_is") {
        return;
    }
    let store = Store::new();
    store.build();
    let inspected = output(store.command("podman").args(["image", "inspect", TAG]));
    let image: Value = serde_json::from_slice(&inspected.stdout).unwrap_or_else(|_| panic!("{}", said(&inspected)));
    let image = &image[0];
    assert!(image["Size"].as_u64().is_some_and(|size| size < LARGEST), "{}", image["Size"]);
    assert_eq!(image["User"], "65532:65532");
    assert_eq!(image["Config"]["Entrypoint"], serde_json::json!(["/holdline"]), "no shell in between");
    let label = |name: &str| image["Labels"][format!("org.opencontainers.image.{name}")].as_str().unwrap_or_default();
    assert_eq!(label("title"), "holdline");
    assert_eq!((label("version"), label("revision")), (env!("CARGO_PKG_VERSION"), "0123abc"));
    assert_eq!(label("licenses"), "Apache-2.0");
    let help = succeed(store.command("podman").args(["run", "--rm", "--network=none", TAG, "--help"]));
    assert!(help.contains("Usage: holdline"), "{help}");

    // A new volume belongs to the user that writes to it, as the Compose file needs it.
    let mut podman = store.command("podman");
    podman.args(["run", "--rm", "--network=none", "--volume=state:/var/lib/holdline", TAG, "--version"]);
    let version = succeed(&mut podman);
    assert_eq!(version.trim(), format!("holdline {} ({})", env!("CARGO_PKG_VERSION"), version_of_the_binary()));
    let volume = store.0.path().join("root/volumes/state/_data");
    assert_eq!(std::fs::metadata(&volume).unwrap().uid(), 65532, "{}", volume.display());
}

/// The commit that the static binary says it was built from.
fn version_of_the_binary() -> String {
    let printed = succeed(Command::new(root().join("target/image/holdline")).arg("--version"));
    let revision = printed.split(['(', ')']).nth(1).unwrap_or_default().to_owned();
    assert_ne!(revision, "unknown", "it was built in a checkout");
    revision
}

/// Nobody's user, no capability, nothing to write to but the state; and SIGTERM finishes what is in flight.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_with_nothing_and_drains() {
    if !can_run("deploy::image::the_image_runs_with_nothing_and_drains") {
        return;
    }
    let store = Store::new();
    tokio::task::block_in_place(|| store.build());
    let registrar = Registrar::start(registrar::Options::named("a")).unwrap();
    let dns = dns::Server::start().await.unwrap();
    dns.set_loopback("a.pbx.example", 3600);
    let port = registrar.addr(Transport::Udp).port();
    dns.set_srv("_sip._udp.pbx.example", 3600, &[Srv::new(10, 0, port, "a.pbx.example")]);

    let state = tempfile::tempdir().unwrap();
    succeed(Command::new("chown").arg("65532:65532").arg(state.path()));
    let mut podman = store.command("podman");
    podman.args(["run", "--name=holdline", "--network=host", "--read-only", "--read-only-tmpfs=false"]);
    podman.args(["--cap-drop=all", "--security-opt=no-new-privileges"]);
    podman.arg(format!("--volume={}:/var/lib/holdline", state.path().display()));
    podman.args([TAG, "run", "--srv=_sip._udp.pbx.example", "--state-dir=/var/lib/holdline"]);
    podman.arg(format!("--nameserver={}", dns.addr()));
    podman.args([
        "--listen=udp:127.0.0.1:0",
        "--upstream-bind=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--log-format=json",
    ]);
    let mut podman = tokio::process::Command::from(podman);
    podman.stdout(Stdio::null()).kill_on_drop(true);
    let mut holdline = Holdline::start_with(podman).await;
    holdline.until_page("/readyz", 200).await;

    let inspected = output(store.command("podman").args(["inspect", "--format={{.State.Pid}}", "holdline"]));
    let process = PathBuf::from("/proc").join(String::from_utf8(inspected.stdout).unwrap().trim());
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().collect()
    };
    assert_eq!(field("Uid:"), ["65532"; 4]);
    assert_eq!(field("Gid:"), ["65532"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap();
    let at_root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(at_root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{at_root}");

    let phone = Phone::start(Options::new("100", holdline.socket("phone", Transport::Udp))).unwrap();
    registered(phone.register().await);
    registrar.behave(Behaviour::Late(Duration::from_millis(1500))).await.unwrap();
    let before = registrar.read(|record| record.count("REGISTER"));
    let (outcome, ()) = tokio::join!(phone.register(), async {
        registrar.wait_for("REGISTER", before + 1, Duration::from_secs(30)).await.unwrap();
        // The way Kubernetes ends it: SIGTERM to the first process, which is Holdline itself.
        let mut kill = store.command("podman");
        tokio::task::block_in_place(|| succeed(kill.args(["kill", "--signal=TERM", "holdline"])));
        holdline.logged("draining").await;
    });
    registered(outcome);
    assert_eq!(holdline.ended().await.code(), Some(0));
    assert_eq!(holdline.logged("stopped").await["cut_off"], 0);
    assert!(state.path().join(holdline::store::FILE_NAME).is_file(), "the state outlives the container");
}
