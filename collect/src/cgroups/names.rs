//! Who runs in a cgroup.

use std::sync::Arc;

use kumon_schema::SubjectFields;

use super::path::CgroupNames;
use crate::containers::Container;
use crate::users::NodeUsers;

/// Who runs in a cgroup, as far as that is known. What isn't is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    unit: String,
    container_id: String,
    pod_uid: String,
    /// None outside of containers, and of one that no runtime knows.
    container: Option<Arc<Container>>,
}

/// Digits of a container's id that stand in for its name.
const SHORT_ID: usize = 12;

impl Names {
    pub(super) fn of(path: &str, container: Option<Arc<Container>>) -> Names {
        let of_path = CgroupNames::of(path);
        let id = of_path.container_id.or(container.as_ref().map(|container| &*container.id));
        let said = container.as_ref().map(|container| &container.pod_uid).filter(|uid| !uid.is_empty());
        Names {
            unit: of_path.unit.unwrap_or_default().to_owned(),
            container_id: id.unwrap_or_default().to_owned(),
            pod_uid: said.cloned().or(of_path.pod_uid()).unwrap_or_default(),
            container,
        }
    }

    /// The container's id; empty outside of containers.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    pub(crate) fn container_name(&self) -> &str {
        self.container.as_ref().map_or("", |container| &container.name)
    }

    pub(crate) fn image(&self) -> &str {
        self.container.as_ref().map_or("", |container| &container.image)
    }

    /// `namespace/pod` and `namespace/container`; none outside of pods.
    pub(crate) fn in_namespace(&self) -> Vec<String> {
        let Some(Container { namespace, pod, in_pod, .. }) = self.container.as_deref() else {
            return Vec::new();
        };
        let names = [pod, in_pod].into_iter().filter(|name| !name.is_empty());
        names.map(|name| format!("{namespace}/{name}")).collect()
    }

    pub(super) fn container(&self) -> Option<&Arc<Container>> {
        self.container.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn of_pod(namespace: &str, pod: &str, container: &str, image: &str) -> Names {
        let [namespace, pod, name, image] = [namespace, pod, container, image].map(str::to_owned);
        let container =
            Container { in_pod: name.clone(), namespace, pod, name, image, ..Container::default() };
        Names { container: Some(Arc::new(container)), ..Names::default() }
    }

    /// The columns that they fill.
    pub(crate) fn fields(&self) -> SubjectFields<'_> {
        let named = SubjectFields {
            container_id: self.container_id.as_bytes(),
            unit: self.unit.as_bytes(),
            pod_uid: self.pod_uid.as_bytes(),
            ..SubjectFields::default()
        };
        // Who looks at containers by their names is to see those without one, too: as their tools show an id.
        let short_id = &named.container_id[..named.container_id.len().min(SHORT_ID)];
        let Some(container) = &self.container else {
            return SubjectFields { container_name: short_id, ..named };
        };
        SubjectFields {
            container_name: if container.name.is_empty() { short_id } else { container.name.as_bytes() },
            container_image: container.image.as_bytes(),
            container_runtime: container.runtime.as_bytes(),
            kubernetes_namespace: container.namespace.as_bytes(),
            pod_name: container.pod.as_bytes(),
            kubernetes_container: container.in_pod.as_bytes(),
            ..named
        }
    }

    /// The name of a user of a process there: what the container calls it, else the node.
    pub(crate) fn user(&self, uid: u32, node: &NodeUsers) -> Option<Arc<str>> {
        match &self.container {
            Some(container) => container.users.name(uid),
            None if self.container_id.is_empty() => node.name(uid),
            None => None,
        }
    }
}
