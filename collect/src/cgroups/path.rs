//! What a cgroup's path says of who runs in it: systemd, the container runtimes and the kubelet name cgroups after them.

/// Who runs in a cgroup, as far as its path tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupNames<'a> {
    /// The unit that systemd made it for, such as `nginx.service` or `session-3.scope`; as journald's `_SYSTEMD_UNIT`. None
    /// where the unit is nothing but a container.
    pub unit: Option<&'a str>,
    /// The id of the container: the 64 hex digits that Docker, containerd, CRI-O and Podman name it by.
    pub container_id: Option<&'a str>,
    /// The uid of the pod as its cgroup's name spells it; see [`pod_uid`].
    pod: Option<&'a str>,
}

impl<'a> CgroupNames<'a> {
    /// Reads a cgroup's path, from the root of the hierarchy, or any part of it that ends with the cgroup.
    pub fn of(path: &'a str) -> CgroupNames<'a> {
        let mut names = CgroupNames::default();
        for folder in path.split('/') {
            names.enter(folder);
        }
        names
    }

    /// What the folder `name` below says in addition.
    fn enter(&mut self, name: &'a str) {
        // In a container may be another one, and that has the process. The pod is of the outermost: what runs in a pod
        // doesn't leave it.
        let container = container_id(name);
        self.container_id = container.or(self.container_id);
        self.pod = self.pod.or_else(|| pod(name));
        if self.unit.is_none() && container.is_none() && is_unit(name) {
            // systemd's way around names that the kernel's own files have (cg_escape of its src/basic/cgroup-util.c).
            self.unit = Some(name.strip_prefix('_').unwrap_or(name));
        }
    }

    /// `kubernetes.pod.uid`: the uid of the pod, which is the API's, but of a static pod: there it is the hash of its
    /// configuration.
    pub fn pod_uid(&self) -> Option<String> {
        // As a unit's name (cgroupDriver: systemd) it may have no dashes.
        self.pod.map(|uid| uid.replace('_', "-"))
    }
}

/// A container's id: plain, or as in `docker-<id>.scope` and `cri-containerd-<id>.scope`. Podman's and CRI-O's
/// `…-conmon-<id>` is the monitor's.
pub(crate) fn container_id(name: &str) -> Option<&str> {
    const DIGITS: usize = 64;
    if name.contains("conmon") {
        return None;
    }
    let mut parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    parts.find(|part| part.len() == DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The uid in `pod<uid>` or `kubepods-burstable-pod<uid>.slice`: 32 hex digits, with separators or without.
fn pod(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name
        .strip_prefix("pod")
        .or_else(|| name.starts_with("kubepods-").then(|| name.rsplit_once("-pod").map(|(_, uid)| uid))?)?;
    let mut digits = 0;
    for byte in uid.bytes() {
        match byte {
            b'-' | b'_' => {}
            _ if byte.is_ascii_hexdigit() => digits += 1,
            _ => return None,
        }
    }
    (digits == 32).then_some(uid)
}

fn is_unit(name: &str) -> bool {
    [".service", ".scope", ".mount", ".socket", ".swap"].iter().any(|kind| name.ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::{CgroupNames, container_id};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_container_is_found_in_every_runtimes_name_of_its_cgroup() {
        for name in [ID.to_owned(), format!("docker-{ID}.scope"), format!("cri-containerd-{ID}.scope")] {
            assert_eq!(container_id(&name), Some(ID), "{name}");
        }
        for name in ["system.slice", "docker-0123.scope", &format!("libpod-conmon-{ID}.scope"), &ID.repeat(2)]
        {
            assert_eq!(container_id(name), None, "{name}");
        }
    }

    #[test]
    fn a_path_names_unit_container_and_pod() {
        let uid = "8f5bd3ea-4f2c-4c3d-9f3e-0123456789ab";
        let in_slices = uid.replace('-', "_");
        let static_pod = uid.replace('-', "");
        let inner = ID.replace('0', "f");
        for (path, unit, container, pod) in [
            ("/", None, None, None),
            ("/user.slice", None, None, None),
            ("/system.slice/nginx.service", Some("nginx.service"), None, None),
            ("/system.slice/_cpu.service", Some("cpu.service"), None, None),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service"), None, None),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/a.service",
                Some("user@1.service"),
                None,
                None,
            ),
            (&format!("/system.slice/docker-{ID}.scope"), None, Some(ID), None),
            (&format!("/system.slice/web.service/libpod-payload-{ID}"), Some("web.service"), Some(ID), None),
            (&format!("/machine.slice/libpod-{ID}.scope/container"), None, Some(ID), None),
            (
                &format!("/machine.slice/libpod-conmon-{ID}.scope"),
                Some(&format!("libpod-conmon-{ID}.scope")),
                None,
                None,
            ),
            (&format!("/kubepods/burstable/pod{uid}/{ID}"), None, Some(ID), Some(uid)),
            (&format!("/kubepods/pod{static_pod}/{ID}"), None, Some(ID), Some(&*static_pod)),
            (
                &format!("/kubepods.slice/kubepods-pod{in_slices}.slice/cri-containerd-{ID}.scope/{inner}"),
                None,
                Some(&*inner),
                Some(uid),
            ),
            ("/kubepods.slice/kubepods-burstable.slice", None, None, None),
            ("/podcast", None, None, None),
        ] {
            let names = CgroupNames::of(path);
            assert_eq!(
                (names.unit, names.container_id, names.pod_uid().as_deref()),
                (unit, container, pod),
                "{path}"
            );
        }
    }
}
