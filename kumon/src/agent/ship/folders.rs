//! Which state folder is whose. A single `output` has the shipper's state folder itself. In a list one output has that,
//! and the others have `outputs/NAME` in it; a file in each folder says whose it is. So an output goes on where it stood
//! when others come and go, when the list gets another order, and from `output` to `outputs` and back.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kumon_spool::{Acknowledged, NewFile, make_folder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::status::{self, ShipStatus};
use crate::config::{NamedOutput, Outputs, Target};

/// Says in a state folder whose it is.
const OWNER: &str = "output.json";
/// Says in the shipper's state folder whose acknowledgements the spool holds, by the path of its folder in that one: a
/// single output's, or with null what all of them have.
const ACKNOWLEDGED: &str = "acknowledged-by.json";

/// Whose a folder is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Owner {
    /// None: that of the single `output`.
    name: Option<String>,
    /// None: the embedded store, of which there is one.
    hosts: Option<Vec<String>>,
}

impl Owner {
    fn new(output: &NamedOutput, are_listed: bool) -> Owner {
        let hosts = match &output.target {
            Target::Store => None,
            Target::Elasticsearch(output) => Some(output.hosts.clone()),
        };
        Owner { name: are_listed.then(|| output.name.clone()), hosts }
    }

    fn is_store(&self) -> bool {
        self.hosts.is_none()
    }

    /// Whether both are the store, or have the same name.
    fn is(&self, other: &Owner) -> bool {
        self.is_store() == other.is_store() && (self.is_store() || self.name == other.name)
    }

    /// Whether both are the same cluster.
    fn has_hosts_of(&self, other: &Owner) -> bool {
        !self.is_store() && self.hosts == other.hosts
    }

    /// Whether both may be the same cluster, one of them without a name.
    fn may_be(&self, other: &Owner) -> bool {
        !self.is_store() && !other.is_store() && (self.name.is_none() || other.name.is_none())
    }
}

/// The outputs' state folders, in their order, as they are or will be: none of them is made.
///
/// # Errors
/// When the shipper's state folder can't be read.
pub(crate) fn folders(root: &Path, outputs: &Outputs) -> Result<Vec<PathBuf>> {
    let wanted: Vec<Owner> =
        outputs.all.iter().map(|output| Owner::new(output, outputs.are_listed)).collect();
    let known = known(root, &wanted[0]).with_context(|| format!("{}: can't be read", root.display()))?;
    let mut found: Vec<Option<PathBuf>> = vec![None; wanted.len()];
    // What is certain comes first, for all of them.
    for rule in [Owner::is, Owner::has_hosts_of, Owner::may_be] {
        for (number, wanted) in wanted.iter().enumerate() {
            if found[number].is_none() {
                let mut free = known.iter().filter(|(path, _)| !found.iter().flatten().any(|it| it == path));
                found[number] = free.find(|(_, owner)| rule(owner, wanted)).map(|(path, _)| path.clone());
            }
        }
    }
    let mut taken: Vec<PathBuf> = known.into_iter().map(|(path, _)| path).collect();
    let new = |(found, output): (Option<PathBuf>, &NamedOutput)| {
        found.unwrap_or_else(|| {
            let path = new_folder(root, &output.name, &taken);
            taken.push(path.clone());
            path
        })
    };
    Ok(found.into_iter().zip(&outputs.all).map(new).collect())
}

/// The folder of an output that has none yet: the shipper's own unless somebody has that.
fn new_folder(root: &Path, name: &str, taken: &[PathBuf]) -> PathBuf {
    let named = |number: u32| match number {
        1 => root.join("outputs").join(name),
        // One that was called so has another name by now.
        _ => root.join("outputs").join(format!("{name}-{number}")),
    };
    let mut candidates = std::iter::once(root.to_owned()).chain((1..).map(named));
    candidates.find(|path| !taken.contains(path)).unwrap_or_else(|| named(1))
}

/// The folders of which it is known whose they are. That of a release which had one output only is that output's.
fn known(root: &Path, first: &Owner) -> io::Result<Vec<(PathBuf, Owner)>> {
    let mut folders = match fs::read_dir(root.join("outputs")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?,
    };
    folders.sort();
    let mut known = Vec::new();
    for folder in [root.to_owned()].into_iter().chain(folders) {
        let owner = match read::<Owner>(&folder.join(OWNER))? {
            None if folder == root => former_owner(root, first)?,
            owner => owner,
        };
        known.extend(owner.map(|owner| (folder, owner)));
    }
    Ok(known)
}

/// Whose the shipper's state folder was before that was written down.
fn former_owner(root: &Path, first: &Owner) -> io::Result<Option<Owner>> {
    // It is for people; one that is damaged tells nothing.
    let status: Option<ShipStatus> = status::read(root).unwrap_or_default();
    let output = status.and_then(|status| Some(status.single?.output));
    let hosts = match output.as_deref().map(|output| output.split_once(' ').unwrap_or((output, ""))) {
        Some(("elasticsearch", hosts)) => Some(hosts.split(", ").map(str::to_owned).collect()),
        Some(_) => None,
        None if root.join("checkpoint.json").try_exists()? => first.hosts.clone(),
        None => return Ok(None),
    };
    Ok(Some(Owner { name: None, hosts }))
}

/// Makes the outputs' state folders, in their order, and writes down whose they are. Nobody may be shipping.
///
/// # Errors
/// When one can't be made or written, or the spool can't.
pub(super) fn claim(spool: &Path, root: &Path, outputs: &Outputs) -> Result<Vec<PathBuf>> {
    let folders = folders(root, outputs)?;
    for (folder, output) in folders.iter().zip(&outputs.all) {
        let claimed = make_folder(folder)
            .and_then(|()| write(&folder.join(OWNER), &Owner::new(output, outputs.are_listed)));
        claimed.with_context(|| format!("{}: can't be written", folder.display()))?;
    }
    let alone = (folders.len() == 1).then(|| folders[0].as_path());
    hand_over_acknowledgements(spool, root, alone)
        .context("how far the spool's files are delivered can't be written down")?;
    Ok(folders)
}

/// The spool holds what a single output has acknowledged; each of several has that in its own folder.
fn hand_over_acknowledgements(spool: &Path, root: &Path, alone: Option<&Path>) -> io::Result<()> {
    let path = root.join(ACKNOWLEDGED);
    // Releases which had one output only wrote nothing of that kind.
    let before: Option<PathBuf> = read(&path)?.unwrap_or_else(|| Some(PathBuf::new()));
    let before = before.map(|before| root.join(before));
    if before.as_deref() == alone {
        return Ok(());
    }
    make_folder(spool)?;
    if let Some(before) = before.filter(|before| before.is_dir()) {
        // Of what is damaged nothing is known: its files are sent again, and recognised.
        Acknowledged::read(spool).unwrap_or_default().write(&before)?;
    }
    write(&path, &None::<PathBuf>)?;
    if let Some(alone) = alone {
        Acknowledged::read(alone).unwrap_or_default().write(spool)?;
        write(&path, &alone.strip_prefix(root).unwrap_or(alone))?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        text => serde_json::from_slice(&text?)
            .map(Some)
            .map_err(|e| io::Error::other(format!("{}: is damaged: {e}", path.display()))),
    }
}

/// Writes it where it says something else.
fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(content)?;
    if fs::read(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let mut file = NewFile::create(path, 0o640)?;
    file.write_all(&text)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use kumon_spool::Acknowledged;
    use tempfile::TempDir;

    use super::{claim, folders};
    use crate::config::{Config, Outputs};

    const STORE: &str = "{ store: {} }";

    fn elasticsearch(name: &str, host: &str) -> String {
        format!("{{ name: {name}, elasticsearch: {{ hosts: ['http://{host}:9200'] }} }}")
    }

    fn single(host: &str) -> String {
        format!("output: {{ elasticsearch: {{ hosts: ['http://{host}:9200'] }} }}")
    }

    fn list(entries: &[&str]) -> String {
        format!("outputs: [{}]", entries.join(", "))
    }

    fn outputs(text: &str) -> Outputs {
        serde_saphyr::from_str::<Config>(text).unwrap().outputs().unwrap()
    }

    struct Place(TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn spool(&self) -> PathBuf {
            self.0.path().join("spool")
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("ship")
        }

        /// The folders with this configuration; empty for the shipper's own.
        fn claim(&self, text: &str) -> Vec<String> {
            let outputs = outputs(text);
            let expected = folders(&self.root(), &outputs).unwrap();
            let claimed = claim(&self.spool(), &self.root(), &outputs).unwrap();
            assert_eq!(claimed, expected);
            let relative = |path: &PathBuf| path.strip_prefix(self.root()).unwrap().display().to_string();
            claimed.iter().map(relative).collect()
        }
    }

    #[test]
    fn each_output_keeps_its_folder_whatever_the_list_becomes() {
        let place = Place::new();
        let (near, far) = (elasticsearch("near", "a"), elasticsearch("far", "b"));
        assert_eq!(place.claim(&single("a")), [""]);
        assert_eq!(place.claim(&list(&[STORE, &far, &near])), ["outputs/store", "outputs/far", ""]);
        assert_eq!(place.claim(&list(&[&near, STORE])), ["", "outputs/store"]);
        assert_eq!(place.claim(&list(&[&far])), ["outputs/far"]);
        assert_eq!(place.claim("output: {}"), ["outputs/store"]);
        // Each of the two may become the single one again; their hosts tell which.
        assert_eq!(place.claim(&single("b")), ["outputs/far"]);
        assert_eq!(place.claim(&list(&[&near, &far])), ["", "outputs/far"]);
        // The same cluster under another name is the same output. Another one takes over nobody's state.
        let (renamed, other) = (elasticsearch("renamed", "a"), elasticsearch("other", "c"));
        assert_eq!(place.claim(&list(&[&far, &renamed])), ["outputs/far", ""]);
        assert_eq!(place.claim(&list(&[&other, &far])), ["outputs/other", "outputs/far"]);
        // Nor does one that is called as another was.
        let (moved, other) = (elasticsearch("moved", "c"), elasticsearch("other", "d"));
        assert_eq!(place.claim(&list(&[&moved])), ["outputs/other"]);
        assert_eq!(place.claim(&list(&[&moved, &other])), ["outputs/other", "outputs/other-2"]);
    }

    #[test]
    fn the_folder_of_a_release_with_one_output_is_that_outputs() {
        for (output, text, expected) in [
            ("embedded store /s", list(&[&elasticsearch("a", "a"), STORE]), ["outputs/a", ""]),
            ("elasticsearch http://a:9200", list(&[STORE, &elasticsearch("a", "a")]), ["outputs/store", ""]),
        ] {
            let place = Place::new();
            fs::create_dir_all(place.root()).unwrap();
            let status = serde_json::json!({"pid": 1, "output": output, "rows": {}, "dead_letters": {}, "halted": null,
                "halted_since": null, "stuck": {}, "lag": 0, "memory": 0, "cpu_time": 0});
            fs::write(place.root().join("status.json"), status.to_string()).unwrap();
            assert_eq!(place.claim(&text), expected, "{output}");
        }
    }

    #[test]
    fn acknowledgements_go_where_their_output_is_read_from() {
        let place = Place::new();
        let acknowledged = |offset| Acknowledged([("f".to_owned(), offset)].into());
        let of = |folder: &Path| Acknowledged::read(folder).unwrap();
        let near = elasticsearch("near", "a");
        place.claim(&single("a"));
        fs::create_dir_all(place.spool()).unwrap();
        acknowledged(7).write(&place.spool()).unwrap();
        place.claim(&single("a"));
        assert_eq!(of(&place.spool()), acknowledged(7));
        place.claim(&list(&[STORE, &near]));
        assert_eq!(of(&place.root()), acknowledged(7));
        assert_eq!(of(&place.root().join("outputs/store")), Acknowledged::default());
        // While both shipped, what the spool held was what both had.
        acknowledged(9).write(&place.root()).unwrap();
        acknowledged(3).write(&place.spool()).unwrap();
        place.claim(&single("a"));
        assert_eq!(of(&place.spool()), acknowledged(9));
        place.claim("output: {}");
        assert_eq!((of(&place.spool()), of(&place.root())), (Acknowledged::default(), acknowledged(9)));
    }
}
