//! Which cgroups have rows: containers and systemd's services and scopes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kumon_collect::CgroupNames;

/// Levels below a hierarchy's root that are looked at: nobody nests units and containers deeper.
const LEVELS: usize = 16;

/// Finds them, by their paths below the root of a hierarchy; at most `most`. How many more there are.
pub(super) fn find(trees: &[&Path], most: usize) -> (BTreeSet<String>, u64) {
    let mut walk = Walk { most, found: BTreeSet::new(), left_out: 0 };
    for tree in trees {
        walk.enter(tree, "", false, LEVELS);
    }
    (walk.found, walk.left_out)
}

struct Walk {
    most: usize,
    found: BTreeSet<String>,
    left_out: u64,
}

impl Walk {
    /// Looks at what is in a folder. Cgroups come and go meanwhile.
    fn enter(&mut self, folder: &Path, path: &str, in_unit: bool, levels: usize) {
        // Cgroup file systems count a folder's own folders there, as most others do: there is one only in `..`.
        let is_leaf = fs::metadata(folder).is_ok_and(|of| of.nlink() == 2);
        if is_leaf || levels == 0 {
            return;
        }
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = format!("{path}/{name}");
            let names = CgroupNames::of(name);
            // In a unit's cgroup may be those of containers, and whatever else it makes for itself.
            let is_unit =
                names.unit.is_some_and(|unit| unit.ends_with(".service") || unit.ends_with(".scope"));
            if names.container_id.is_some() || is_unit && !in_unit {
                self.take(&path);
            }
            if names.container_id.is_none() {
                self.enter(&entry.path(), &path, in_unit || is_unit, levels - 1);
            }
        }
    }

    fn take(&mut self, path: &str) {
        if self.found.len() < self.most {
            self.found.insert(path.to_owned());
        } else if !self.found.contains(path) {
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::find;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_and_units_are_found_in_all_trees_and_what_is_inside_of_them_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let [memory, cpuacct] = ["memory", "cpuacct"].map(|name| folder.path().join(name));
        let other = ID.replace('0', "f");
        for path in [
            "system.slice/nginx.service/worker.service",
            &format!("user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope/container"),
            &format!("kubepods/burstable/pod8f5bd3ea-4f2c-4c3d-9f3e-0123456789ab/{ID}/{other}"),
            "init.scope",
        ] {
            fs::create_dir_all(memory.join(path)).unwrap();
        }
        for path in ["system.slice/nginx.service", &format!("docker/{other}"), "plain"] {
            fs::create_dir_all(cpuacct.join(path)).unwrap();
        }
        let expected = [
            format!("/docker/{other}"),
            "/init.scope".into(),
            format!("/kubepods/burstable/pod8f5bd3ea-4f2c-4c3d-9f3e-0123456789ab/{ID}"),
            "/system.slice/nginx.service".into(),
            "/user.slice/user-1.slice/user@1.service".into(),
            format!("/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope"),
        ];
        let trees = [memory.as_path(), &cpuacct, &folder.path().join("gone")];
        let (found, left_out) = find(&trees, 100);
        assert_eq!((found.into_iter().collect::<Vec<_>>(), left_out), (expected.to_vec(), 0));
        let (found, left_out) = find(&trees[..1], 3);
        assert_eq!((found.len(), left_out), (3, 2));
    }
}
