//! containerd: the bundle of a task is in its state folder, `<namespace>/<id>`, from before the container's first process
//! until after its last one.

use std::path::Path;

use super::bundle::{Annotations, Bundle};
use super::files::{Unreadable, folders_in};
use super::{Container, POD};

/// containerd's state folder, and those of Kubernetes distributions that bring their own one.
const STATES: [&str; 3] = ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd"];
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Docker's containers are containerd's; what they are called Docker alone knows.
pub(super) const DOCKER: &str = "moby";

/// The folders that the bundles are in.
pub(super) fn folders(node: &Path) -> Vec<std::path::PathBuf> {
    STATES.iter().map(|state| node.join(state).join(TASKS)).collect()
}

/// The container with an id.
pub(super) fn find(node: &Path, id: &str) -> Result<Option<Container>, Unreadable> {
    for tasks in folders(node) {
        for namespace in folders_in(&tasks)?.iter().filter(|namespace| *namespace != DOCKER) {
            if let Some(bundle) = Bundle::read(&tasks, &Path::new(namespace).join(id))? {
                return Ok(Some(container(node, id, &bundle)));
            }
        }
    }
    Ok(None)
}

/// The container whose cgroup has a path: `/<namespace>/<id>`, unless its bundle says otherwise. Of ids that tell nothing by
/// themselves: `ctr run` takes any.
pub(super) fn find_by_path(node: &Path, path: &str) -> Result<Option<Container>, Unreadable> {
    let mut folders = path.trim_matches('/').splitn(3, '/');
    let (Some(namespace), Some(id), None) = (folders.next(), folders.next(), folders.next()) else {
        return Ok(None);
    };
    for tasks in self::folders(node) {
        let bundle = Bundle::read(&tasks, &Path::new(namespace).join(id))?;
        if let Some(bundle) =
            bundle.filter(|bundle| bundle.cgroups_path().trim_matches('/') == path.trim_matches('/'))
        {
            return Ok(Some(container(node, id, &bundle)));
        }
    }
    Ok(None)
}

/// The bundle of a container of Docker's.
pub(super) fn docker_bundle(node: &Path, id: &str) -> Result<Option<Bundle>, Unreadable> {
    Bundle::read(&node.join(STATES[0]).join(TASKS), &Path::new(DOCKER).join(id))
}

fn container(node: &Path, id: &str, bundle: &Bundle) -> Container {
    let said = &bundle.annotations;
    let Annotations { cri_namespace, cri_pod, cri_pod_uid, .. } = said;
    let is_sandbox = said.cri_type == "sandbox";
    let in_pod = if is_sandbox { POD } else { &said.cri_container };
    let image = if is_sandbox { &said.cri_sandbox_image } else { &said.cri_image };
    let names = [in_pod, &said.nerdctl_name, id];
    Container {
        id: id.to_owned(),
        name: names.iter().find(|name| !name.is_empty()).unwrap_or(&id).to_string(),
        image: image.clone(),
        runtime: "containerd",
        namespace: cri_namespace.clone(),
        pod: cri_pod.clone(),
        pod_uid: cri_pod_uid.clone(),
        in_pod: in_pod.to_owned(),
        users: bundle.users(node),
    }
}
