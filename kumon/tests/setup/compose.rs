//! `elk/compose.yml`, as far as it can be looked at without a Docker engine.

use std::fs;
use std::path::Path;
use std::process::Command;

use kumon_testing::require_program;

#[test]
fn the_compose_file_is_valid_pinned_and_on_loopback_only() {
    if !require_program("docker-compose") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../elk"));
    fs::create_dir(folder.path().join("compose")).unwrap();
    for file in ["compose.yml", "compose/prepare", "compose/setup.yml"] {
        fs::copy(from.join(file), folder.path().join(file)).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run("compose/prepare", &["/bin/true"]);
    let secrets = fs::read_to_string(folder.path().join(".env")).unwrap();
    run("compose/prepare", &["/bin/true"]);
    assert_eq!(fs::read_to_string(folder.path().join(".env")).unwrap(), secrets, "passwords were made anew");

    let resolved = run("docker-compose", &["-f", "compose.yml", "config"]);
    assert_eq!(resolved.matches("127.0.0.1:").count(), resolved.matches("/tcp").count(), "{resolved}");
    let images = resolved.lines().filter(|line| line.trim().starts_with("image: "));
    assert!(
        images.clone().count() >= 5 && images.clone().all(|image| image.matches(':').count() == 2),
        "{resolved}"
    );
}
