//! Real containers, by the runtimes that the system has, from a root folder with busybox in it: no registry is asked.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use kumon_testing::{Child, require, require_program, require_root, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Cgroup;

const BUSYBOX: &str = "/bin/busybox";

/// A root folder for containers.
pub struct Image {
    folder: TempDir,
}

impl Image {
    /// None where containers can't be tested by this runtime.
    pub fn for_runtime(runtime: &str) -> Option<Image> {
        let ready = require_root()
            && require_program(runtime)
            && require(Path::new(BUSYBOX).exists(), "busybox-static")
            && require(Cgroup::mount().is_some(), "a cgroup v2 mount");
        ready.then(Image::make)
    }

    fn make() -> Image {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("rootfs/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for program in ["sh", "sleep", "true"] {
            symlink("busybox", bin.join(program)).unwrap();
        }
        let etc = folder.path().join("rootfs/etc");
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(etc.join("passwd"), "captain:x:0:0::/:/bin/sh\n").unwrap();
        Image { folder }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Runs a command to its end; what it wrote.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// runc by itself.
pub struct Runc(pub Image);

impl Runc {
    pub fn command(&self, id: &str, program: &[&str]) -> Command {
        let bundle = self.0.folder().join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        run(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle));
        let file = bundle.join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(program);
        spec["process"]["rlimits"] = json!([]);
        spec["root"] = json!({"path": self.0.rootfs(), "readonly": true});
        std::fs::write(file, spec.to_string()).unwrap();
        let mut command = Command::new("runc");
        command.arg("run").arg("--bundle").arg(bundle).arg(id);
        command
    }
}

/// Podman with its storage as the system has it: the image goes in the end.
pub struct Podman {
    /// The root folder is the image's.
    _image: Image,
    pub name: String,
}

impl Podman {
    pub fn load(image: Image) -> Podman {
        let tag = image.folder().file_name().unwrap().to_string_lossy().replace('.', "").to_lowercase();
        let name = format!("kumon.test/busybox:{tag}");
        let archive = image.folder().join("image.tar");
        run(Command::new("tar").arg("-C").arg(image.rootfs()).arg("-cf").arg(&archive).arg("."));
        run(Command::new("podman").args(["import", "--quiet"]).arg(archive).arg(&name));
        Podman { _image: image, name }
    }

    /// `podman run --rm`, with what a machine without a network, systemd and CAP_SYS_RESOURCE needs.
    pub fn command(&self, name: &str, program: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args([
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
            "run",
            "--rm",
            "--log-driver",
            "none",
        ]);
        command.args(["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        command.args(["--name", name, &self.name]).args(program);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", "--force", &self.name]).output();
        // Podman leaves the folder of its containers' cgroups.
        if let Some(mount) = Cgroup::mount() {
            let _ = std::fs::remove_dir(mount.join("libpod_parent"));
        }
    }
}

/// A containerd of its own, whose tasks are where the system's are.
pub struct Containerd {
    image: Image,
    _daemon: Child,
    pub namespace: String,
}

impl Containerd {
    pub fn start(image: Image) -> Containerd {
        let settings = image.folder().join("containerd.toml");
        let [root, socket] = ["containerd", "containerd.sock"].map(|name| image.folder().join(name));
        let text = format!(
            "version = 2\nroot = {root:?}\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n"
        );
        std::fs::write(&settings, text).unwrap();
        let mut daemon = Command::new("containerd");
        daemon.arg("--config").arg(settings).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Child::spawn(&mut daemon);
        // One that nobody else has.
        let namespace = image.folder().file_name().unwrap().to_string_lossy().replace('.', "kumon-test-");
        let containerd = Containerd { image, _daemon: daemon, namespace };
        wait_for("containerd to answer", Duration::from_secs(30), || {
            containerd.ctr().arg("version").output().is_ok_and(|output| output.status.success())
        });
        containerd
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.image.folder().join("containerd.sock"));
        command.args(["--namespace", &self.namespace]);
        command
    }

    /// `ctr run --rm` with annotations as the kubelet's containers have them.
    pub fn command(&self, id: &str, cgroup: &str, annotations: &[(&str, &str)], program: &[&str]) -> Command {
        let mut command = self.ctr();
        command.args(["run", "--rm", "--rootfs", "--cgroup", cgroup]);
        for (key, value) in annotations {
            command.arg("--annotation").arg(format!("{key}={value}"));
        }
        command.arg(self.image.rootfs()).arg(id).args(program);
        command
    }
}

impl Drop for Containerd {
    /// It leaves the folders of its namespace.
    fn drop(&mut self) {
        for folder in ["io.containerd.runtime.v2.task", "runc"] {
            let _ = std::fs::remove_dir(Path::new("/run/containerd").join(folder).join(&self.namespace));
        }
    }
}
