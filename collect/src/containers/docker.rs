//! Docker: `/var/lib/docker/containers/<id>/config.v2.json`. The labels are the kubelet's where cri-dockerd runs pods.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::{Folder, Unreadable, parse};
use super::{Container, POD, containerd};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    /// With a slash before it.
    #[serde(default)]
    name: String,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    image: String,
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "io.kubernetes.docker.type")]
    r#type: String,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    namespace: String,
    #[serde(rename = "io.kubernetes.pod.name")]
    pod: String,
    #[serde(rename = "io.kubernetes.pod.uid")]
    pod_uid: String,
    #[serde(rename = "io.kubernetes.container.name")]
    container: String,
}

/// The folder with a folder for each container.
pub(super) fn folder(node: &Path) -> PathBuf {
    node.join("var/lib/docker/containers")
}

pub(super) fn find(node: &Path, id: &str) -> Result<Option<Container>, Unreadable> {
    let containers = folder(node);
    let Some(folder) = Folder::open(&containers)? else { return Ok(None) };
    let file = Path::new(id).join("config.v2.json");
    let Some(text) = folder.read(&file)? else { return Ok(None) };
    let Saved { name, config } = parse(&text, &containers.join(file))?;
    let labels = config.labels.unwrap_or_default();
    let in_pod = if labels.r#type == "podsandbox" { POD.to_owned() } else { labels.container };
    // Docker alone knows where its containers' files are, and says it in the bundle that it gives to containerd.
    let bundle = containerd::docker_bundle(node, id).unwrap_or_default().unwrap_or_default();
    Ok(Some(Container {
        id: id.to_owned(),
        name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
        image: config.image,
        runtime: "docker",
        namespace: labels.namespace,
        pod: labels.pod,
        pod_uid: labels.pod_uid,
        in_pod,
        users: bundle.users(node),
    }))
}
