//! Compiles each `src/<name>/<name>.bpf.c` and writes its skeleton to `$OUT_DIR/<name>.skel.rs`. Those folders that have
//! settings as well are collectors; `$OUT_DIR/collectors.rs` names them.
//!
//! Kernel types come from `include/kernel.h`, libbpf's headers from the vendored libbpf: nothing of the building
//! machine's kernel is looked at.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", here.join("include").display());
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    require_clang(&clang)?;
    let sources = sources(&here.join("src"))?;
    let is_collector = |source: &Path| source.with_file_name("settings.rs").exists();
    let collectors = sources.iter().filter(|(_, source)| is_collector(source)).map(|(name, _)| name.as_str());
    let collectors: Vec<&str> = collectors.collect();
    fs::write(out.join("collectors.rs"), format!("collectors! {{ {} }}\n", collectors.join(", ")))?;
    for (name, source) in sources {
        println!("cargo::rerun-if-changed={}", source.display());
        SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args([
                "-mcpu=v3".to_owned(),
                "-Wall".to_owned(),
                "-Werror".to_owned(),
                format!("-I{}", here.join("include").display()),
            ])
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|e| format!("{}: {e:#}", source.display()))?;
    }
    Ok(())
}

/// A missing compiler would else show up as an unexplained "No such file or directory".
fn require_clang(clang: &str) -> Result<(), String> {
    match Command::new(clang).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("'{clang} --version' failed: {}", String::from_utf8_lossy(&output.stderr))),
        Err(e) => Err(format!(
            "cannot run '{clang}', which compiles the BPF programs: {e}. Install the package clang \
             (apt-get install clang), or name a clang of version 12 or later in the variable CLANG"
        )),
    }
}

/// Every `<name>/<name>.bpf.c`, ordered by name.
fn sources(src: &Path) -> Result<Vec<(String, PathBuf)>, Box<dyn Error>> {
    // A new folder is found by its `mod` line; watching the folder would recompile all with every Rust file.
    println!("cargo::rerun-if-changed={}", src.join("lib.rs").display());
    let mut sources = Vec::new();
    for entry in fs::read_dir(src)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let source = entry.path().join(format!("{name}.bpf.c"));
        if source.exists() {
            sources.push((name, source));
            watch_headers(&entry.path())?;
        }
    }
    sources.sort();
    Ok(sources)
}

/// The headers of a collector's own folder.
fn watch_headers(folder: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Ok(())
}
