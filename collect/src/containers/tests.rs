//! Files as the runtimes write them, cut to what is read and a little more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{Container, Runtimes};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "8f5bd3ea-4f2c-4c3d-9f3e-0123456789ab";

/// A node's root folder.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Node {
        Node(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_json(&self, path: &str, value: &Value) {
        self.write(path, serde_json::to_vec_pretty(value).unwrap());
    }

    fn find(&self, path: &str) -> Result<Option<Container>, String> {
        let found = Runtimes::below(self.0.path().to_owned()).find(path);
        found.map_err(|e| format!("{}: {}", e.path.display(), e.why))
    }

    fn found(&self, path: &str) -> Container {
        self.find(path).unwrap().unwrap()
    }
}

/// Namespace, pod, container in it, and uid.
fn pod(container: &Container) -> [&str; 4] {
    [&container.namespace, &container.pod, &container.in_pod, &container.pod_uid]
}

fn names(container: &Container) -> [&str; 3] {
    [&container.name, &container.image, container.runtime]
}

fn user(container: &Container, uid: u32) -> String {
    container.users.name(uid).map(|name| name.to_string()).unwrap_or_default()
}

#[test]
fn containerd_names_the_containers_of_pods() {
    let node = Node::new();
    let bundle = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}");
    let annotations = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "api",
        "io.kubernetes.cri.image-name": "registry.example/api:1.2", "io.kubernetes.cri.sandbox-id": "f",
        "io.kubernetes.cri.sandbox-name": "api-7d4b9", "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": UID,
    });
    let config = json!({
        "ociVersion": "1.0.2-dev", "process": {"args": ["api"], "env": ["A=b"]}, "root": {"path": "rootfs"},
        "annotations": annotations, "linux": {"cgroupsPath": format!("/kubepods/burstable/pod{UID}/{ID}")},
    });
    node.write_json(&format!("{bundle}/config.json"), &config);
    node.write(&format!("{bundle}/rootfs/etc/passwd"), "root:x:0:0::/:/bin/sh\napi:x:1000:1000::/:\n");
    let api = node.found(&format!("/kubepods/burstable/pod{UID}/{ID}"));
    assert_eq!(names(&api), ["api", "registry.example/api:1.2", "containerd"]);
    assert_eq!(pod(&api), ["shop", "api-7d4b9", "api", UID]);
    assert_eq!([user(&api, 1000), user(&api, 1001)], ["api", ""]);
    let in_slices = format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope");
    assert_eq!(node.found(&in_slices), api);

    let annotations = json!({
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": ID,
        "io.kubernetes.cri.sandbox-name": "api-7d4b9", "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.podsandbox.image-name": "registry.k8s.io/pause:3.10",
    });
    node.write_json(&format!("{bundle}/config.json"), &json!({"annotations": annotations}));
    let pause = node.found(&in_slices);
    assert_eq!(names(&pause), ["POD", "registry.k8s.io/pause:3.10", "containerd"]);
    assert_eq!(pod(&pause), ["shop", "api-7d4b9", "POD", ""]);
}

#[test]
fn containerd_names_what_nobody_else_does() {
    let node = Node::new();
    let tasks = "run/k3s/containerd/io.containerd.runtime.v2.task";
    let config = |path: &str| json!({"linux": {"cgroupsPath": path}, "annotations": null});
    node.write_json(&format!("{tasks}/default/web/config.json"), &config("/default/web"));
    let web = node.find("/default/web");
    assert!(web.is_err(), "annotations are an object: {web:?}");
    node.write_json(
        &format!("{tasks}/default/web/config.json"),
        &json!({"linux": {"cgroupsPath": "/default/web"}}),
    );
    let web = node.found("/default/web");
    assert_eq!((names(&web), &*web.id), (["web", "", "containerd"], "web"));
    for other in ["/default/db", "/other/web", "/default/web/below", "/web", "/", ""] {
        assert_eq!(node.find(other), Ok(None), "{other}");
    }
    node.write_json(
        &format!("{tasks}/default/db/config.json"),
        &json!({"linux": {"cgroupsPath": "/elsewhere"}}),
    );
    assert_eq!(node.find("/default/db"), Ok(None));

    let named = json!({"annotations": {"nerdctl/name": "cache"}});
    node.write_json(&format!("{tasks}/default/{ID}/config.json"), &named);
    assert_eq!(node.found(&format!("/default/{ID}")).name, "cache");
}

#[test]
fn cri_o_names_the_containers_of_pods() {
    let node = Node::new();
    let bundle = format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json");
    let both = json!({
        "io.container.manager": "cri-o", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "api-7d4b9",
        "io.kubernetes.pod.uid": UID,
    });
    let with = |more: Value| {
        let mut all = both.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"annotations": all})
    };
    node.write_json(
        &bundle,
        &with(json!({
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.container.name": "api",
            "io.kubernetes.cri-o.ImageName": "registry.example/api:1.2", "io.kubernetes.cri-o.Image": "5f0c",
        })),
    );
    let path = format!("/kubepods.slice/crio-{ID}.scope");
    let api = node.found(&path);
    assert_eq!(names(&api), ["api", "registry.example/api:1.2", "cri-o"]);
    assert_eq!(pod(&api), ["shop", "api-7d4b9", "api", UID]);

    node.write_json(&bundle, &with(json!({
        "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.KubeName": "api-7d4b9",
        "io.kubernetes.cri-o.Namespace": "shop", "io.kubernetes.cri-o.Image": "registry.k8s.io/pause:3.10",
    })));
    let pause = node.found(&path);
    assert_eq!(names(&pause), ["POD", "registry.k8s.io/pause:3.10", "cri-o"]);
    assert_eq!(pod(&pause), ["shop", "api-7d4b9", "POD", UID]);
}

#[test]
fn docker_names_its_containers() {
    let node = Node::new();
    let saved = format!("var/lib/docker/containers/{ID}/config.v2.json");
    let config = |name: &str, labels: Value| json!({"StreamConfig": {}, "ID": ID, "Name": name, "Config": {"Image": "nginx:1.27", "Labels": labels}});
    node.write_json(&saved, &config("/web", json!({})));
    let bundle = json!({"root": {"path": "/var/lib/docker/overlay2/7/merged"}});
    node.write_json(&format!("run/containerd/io.containerd.runtime.v2.task/moby/{ID}/config.json"), &bundle);
    node.write("var/lib/docker/overlay2/7/merged/etc/passwd", "nginx:x:101:101::/:\n");
    let path = format!("/system.slice/docker-{ID}.scope");
    let web = node.found(&path);
    assert_eq!((names(&web), pod(&web)), (["web", "nginx:1.27", "docker"], [""; 4]));
    assert_eq!(user(&web, 101), "nginx");

    node.write_json(&saved, &config("/shop", Value::Null));
    assert_eq!(node.found(&path).name, "shop", "it was given another name");

    let labels = json!({
        "io.kubernetes.container.name": "POD", "io.kubernetes.docker.type": "podsandbox",
        "io.kubernetes.pod.name": "api-7d4b9", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID,
    });
    node.write_json(&saved, &config("/k8s_POD_api-7d4b9_shop_0", labels));
    assert_eq!(pod(&node.found(&path)), ["shop", "api-7d4b9", "POD", UID]);
}

#[test]
fn podman_names_its_containers_and_those_of_users() {
    let node = Node::new();
    let annotations = json!({"io.container.manager": "libpod", "io.kubernetes.cri-o.TTY": "false", "io.kubernetes.cri-o.ContainerType": "sandbox"});
    let metadata = json!({"image-name": "docker.io/library/redis:7", "image-id": "5f0c", "name": "as-made"});
    let list = |names: &[&str]| json!([{"id": "f", "names": ["other"]}, {"id": ID, "names": names, "image": "5f0c", "metadata": metadata.to_string()}]);
    let containers = "var/lib/containers/storage/overlay-containers";
    let bundle =
        json!({"annotations": annotations, "root": {"path": "/var/lib/containers/storage/overlay/7/merged"}});
    node.write_json(&format!("{containers}/{ID}/userdata/config.json"), &bundle);
    node.write_json(&format!("{containers}/containers.json"), &list(&["cache"]));
    let path = format!("/machine.slice/libpod-{ID}.scope/container");
    let cache = node.found(&path);
    assert_eq!((names(&cache), pod(&cache)), (["cache", "docker.io/library/redis:7", "podman"], [""; 4]));

    // As `podman run --rm` keeps it.
    fs::rename(
        node.0.path().join(format!("{containers}/containers.json")),
        node.0.path().join(format!("{containers}/volatile-containers.json")),
    )
    .unwrap();
    assert_eq!(node.found(&path).name, "cache");

    fs::remove_dir_all(node.0.path().join("var")).unwrap();
    node.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n");
    let containers = "home/alice/.local/share/containers/storage/vfs-containers";
    let mappings = json!([
        {"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65_536},
    ]);
    let rootfs = "/home/alice/root";
    let bundle =
        json!({"annotations": annotations, "root": {"path": rootfs}, "linux": {"uidMappings": mappings}});
    node.write_json(&format!("{containers}/{ID}/userdata/config.json"), &bundle);
    node.write_json(&format!("{containers}/containers.json"), &list(&["mine"]));
    node.write("home/alice/root/etc/passwd", "root:x:0:0::/:\nredis:x:999:999::/:\n");
    let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope");
    let mine = node.found(&path);
    assert_eq!(names(&mine), ["mine", "docker.io/library/redis:7", "podman"]);
    assert_eq!([1000, 100_998, 0, 200_000].map(|uid| user(&mine, uid)), ["root", "redis", "", ""]);
    assert_eq!(node.find(&format!("/machine.slice/libpod-{ID}.scope")), Ok(None), "that would be root's");
}

#[test]
fn runc_and_crun_name_containers_by_their_cgroups() {
    let node = Node::new();
    let state = |path: &str| {
        json!({
            "id": "web", "init_process_pid": 7, "config": {"rootfs": "/srv/web", "uid_mappings": null, "labels": ["bundle=/srv"]},
            "cgroup_paths": {"": format!("/sys/fs/cgroup/unified{path}"), "devices": format!("/sys/fs/cgroup/devices{path}")},
        })
    };
    node.write("run/runc/half/state.json", "{\"id\": \"ha");
    node.write_json("run/runc/web/state.json", &state("/user.slice/web"));
    node.write("srv/web/etc/passwd", "www:x:33:33::/:\n");
    let web = node.found("/user.slice/web");
    assert_eq!((names(&web), &*web.id, &*user(&web, 33)), (["web", "", "runc"], "web", "www"));
    for other in ["/web", "/slice/web", "/user.slice", "/user.slice/web/below"] {
        assert_eq!(node.find(other), Ok(None), "{other}");
    }
    // On nodes with v2 alone.
    let unified =
        json!({"cgroup_paths": {"": "/sys/fs/cgroup/system.slice/runc-db.scope"}, "config": {"rootfs": "/"}});
    node.write_json("run/runc/db/state.json", &unified);
    assert_eq!(node.found("/system.slice/runc-db.scope").name, "db");

    let status = json!({"pid": 7, "cgroup-path": "/crun/cache", "rootfs": "/srv/web", "bundle": "/srv"});
    node.write_json("run/crun/cache/status", &status);
    let cache = node.found("/crun/cache");
    assert_eq!((names(&cache), &*user(&cache, 33)), (["cache", "", "crun"], "www"));
}

#[test]
fn what_is_hostile_is_named_and_followed_nowhere() {
    let node = Node::new();
    let path = format!("/kubepods/{ID}");
    let task = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}");
    let fails = |expected: &str| {
        let failed = node.find(&path).unwrap_err();
        assert!(failed.contains(expected), "{failed}");
    };
    node.write(&format!("{task}/config.json"), "");
    fails("EOF while parsing");
    node.write(
        &format!("{task}/config.json"),
        "{\"annotations\": {\"io.kubernetes.cri.container-name\": \"a",
    );
    fails("EOF while parsing");
    let large = json!({"annotations": {"io.kubernetes.cri.container-name": "a".repeat(10 << 20)}});
    node.write_json(&format!("{task}/config.json"), &large);
    fails("is larger than 4194304 bytes");

    let outside = json!({"annotations": {"io.kubernetes.cri.container-name": "outside"}});
    node.write_json("outside/config.json", &outside);
    fs::remove_file(node.0.path().join(&task).join("config.json")).unwrap();
    symlink(node.0.path().join("outside/config.json"), node.0.path().join(&task).join("config.json"))
        .unwrap();
    fails("Too many levels of symbolic links");
    fs::remove_dir_all(node.0.path().join(&task)).unwrap();
    symlink(node.0.path().join("outside"), node.0.path().join(&task)).unwrap();
    fails("Too many levels of symbolic links");

    fs::remove_file(node.0.path().join(&task)).unwrap();
    fs::create_dir(node.0.path().join(&task)).unwrap();
    let pipe = node.0.path().join(&task).join("config.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    fails("it is no file");

    // What is readable of another runtime counts.
    let saved = format!("var/lib/docker/containers/{ID}/config.v2.json");
    node.write_json(&saved, &json!({"Name": "/web"}));
    assert_eq!(node.found(&path).name, "web");
}

/// Links in a container are its own: they lead nowhere on the node.
#[test]
fn a_containers_users_are_read_within_it() {
    let node = Node::new();
    let task = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}");
    node.write_json(&format!("{task}/config.json"), &json!({"root": {"path": "rootfs"}}));
    node.write("etc/passwd", "node:x:0:0::/:\n");
    let root = node.0.path().join(&task).join("rootfs");
    fs::create_dir_all(root.join("etc")).unwrap();
    let of_root = |link: &Path, to: &str| {
        let _ = fs::remove_file(link);
        symlink(to, link).unwrap();
        user(&node.found(&format!("/kubepods/{ID}")), 0)
    };
    let passwd = root.join("etc/passwd");
    assert_eq!(of_root(&passwd, node.0.path().join("etc/passwd").to_str().unwrap()), "");
    assert_eq!(of_root(&passwd, "../../../../../../../../../etc/passwd"), "", "it leads to itself");
    assert_eq!(of_root(&passwd, "/dev/zero"), "");
    fs::write(root.join("users"), "inside:x:0:0::/:\n").unwrap();
    assert_eq!(of_root(&passwd, "/users"), "inside");
    fs::write(root.join("users"), vec![b'a'; 300 << 10]).unwrap();
    assert_eq!(of_root(&passwd, "/users"), "", "it is too large");
}
