//! The configuration of an OCI bundle: `config.json`, as the runtime specification has it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{Folder, Unreadable, below, parse};
use super::users::{IdMap, Inside};

/// As much of it as names somebody.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Bundle {
    pub(super) annotations: Annotations,
    root: Root,
    linux: Linux,
    /// Where it is.
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Root {
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
    uid_mappings: Vec<IdMap>,
}

/// Those that are read, of containerd (its pkg/cri/annotations), nerdctl, Podman and CRI-O (its pkg/annotations).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-type")]
    pub(super) cri_type: String,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    pub(super) cri_namespace: String,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    pub(super) cri_pod: String,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    pub(super) cri_pod_uid: String,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    pub(super) cri_container: String,
    #[serde(rename = "io.kubernetes.cri.image-name")]
    pub(super) cri_image: String,
    #[serde(rename = "io.kubernetes.cri.podsandbox.image-name")]
    pub(super) cri_sandbox_image: String,

    #[serde(rename = "nerdctl/name")]
    pub(super) nerdctl_name: String,

    #[serde(rename = "io.container.manager")]
    pub(super) manager: String,
    #[serde(rename = "io.kubernetes.cri-o.ContainerType")]
    pub(super) crio_type: String,
    #[serde(rename = "io.kubernetes.cri-o.KubeName")]
    pub(super) crio_pod: String,
    #[serde(rename = "io.kubernetes.cri-o.Namespace")]
    pub(super) crio_namespace: String,
    #[serde(rename = "io.kubernetes.cri-o.ImageName")]
    pub(super) crio_image: String,
    #[serde(rename = "io.kubernetes.cri-o.Image")]
    pub(super) crio_asked_image: String,

    #[serde(rename = "io.kubernetes.pod.namespace")]
    pub(super) namespace: String,
    #[serde(rename = "io.kubernetes.pod.name")]
    pub(super) pod: String,
    #[serde(rename = "io.kubernetes.pod.uid")]
    pub(super) pod_uid: String,
    #[serde(rename = "io.kubernetes.container.name")]
    pub(super) container: String,
}

impl Bundle {
    /// The one in `folder`, below `base`; none where there isn't any.
    pub(super) fn read(base: &Path, folder: &Path) -> Result<Option<Bundle>, Unreadable> {
        let Some(root) = Folder::open(base)? else { return Ok(None) };
        let file = folder.join("config.json");
        let Some(text) = root.read(&file)? else { return Ok(None) };
        let mut bundle: Bundle = parse(&text, &base.join(file))?;
        bundle.folder = base.join(folder);
        Ok(Some(bundle))
    }

    pub(super) fn cgroups_path(&self) -> &str {
        &self.linux.cgroups_path
    }

    /// The users that the container knows. `node` is the node's root folder.
    pub(super) fn users(&self, node: &Path) -> Inside {
        let path = &self.root.path;
        let root = if path.is_absolute() { below(node, path) } else { self.folder.join(path) };
        Inside::of(&root, self.linux.uid_mappings.clone())
    }
}
