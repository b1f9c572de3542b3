//! The dashboards that come with KuMon.

use std::sync::LazyLock;

use crate::catalog::Catalog;
use crate::model::Dashboard;
use crate::resolve::{SourceFile, read};

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../dashboards/", $name, ".yml")))),*]
    };
}

/// The landing page first.
const SOURCES: &[(&str, &str)] = sources![
    "kumon",
    "node",
    "containers",
    "cpu",
    "storage",
    "network",
    "flows",
    "drops",
    "processes",
    "snapshots",
    "databases",
    "files",
    "audit",
    "self",
];

/// The files of the dashboards that come with KuMon.
pub fn builtin_sources() -> Vec<SourceFile> {
    let file = |(name, text): &(&str, &str)| SourceFile {
        path: format!("kibana-objects/dashboards/{name}.yml").into(),
        text: (*text).to_owned(),
    };
    SOURCES.iter().map(file).collect()
}

/// The dashboards that come with KuMon, the landing page first.
pub fn builtin() -> &'static [Dashboard] {
    static BUILTIN: LazyLock<Vec<Dashboard>> = LazyLock::new(|| {
        read(&builtin_sources(), Catalog::builtin())
            .expect("the files are compiled in, and a test reads all of them")
    });
    &BUILTIN
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;
    use crate::resolve::read;

    #[test]
    fn every_file_in_the_folder_is_a_dashboard_without_mistakes() {
        if let Err(errors) = read(&super::builtin_sources(), Catalog::builtin()) {
            panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards")).unwrap();
        assert_eq!(files.count(), super::SOURCES.len(), "a file is missing in SOURCES");
    }
}
