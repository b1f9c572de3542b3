//! CRI-O: all it knows stands in the annotations of a container's bundle.

use std::path::Path;

use super::bundle::Bundle;
use super::{Container, POD};

pub(super) fn container(node: &Path, id: &str, bundle: &Bundle) -> Container {
    let said = &bundle.annotations;
    let first =
        |texts: [&String; 2]| texts.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
    let in_pod = if said.crio_type == "sandbox" { POD } else { &said.container };
    Container {
        id: id.to_owned(),
        name: in_pod.to_owned(),
        image: first([&said.crio_image, &said.crio_asked_image]),
        runtime: "cri-o",
        namespace: first([&said.namespace, &said.crio_namespace]),
        pod: first([&said.pod, &said.crio_pod]),
        pod_uid: said.pod_uid.clone(),
        in_pod: in_pod.to_owned(),
        users: bundle.users(node),
    }
}
