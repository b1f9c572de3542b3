//! Prints the file that Kibana imports, as `kumon setup --dry-run --only kibana` does for a configuration.
fn main() {
    let objects =
        kumon_dashboards::kibana::render(kumon_dashboards::builtin(), kumon_dashboards::Catalog::builtin());
    print!("{}", kumon_dashboards::kibana::ndjson(&objects));
}
