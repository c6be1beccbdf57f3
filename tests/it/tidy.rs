//! The rules of the house.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a folder and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The lines of every source file that are compiled into the crate, with the file's name: no tests, no comments.
fn lines() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&src) {
        let name = path.strip_prefix(&src).unwrap();
        let name = name.to_str().unwrap().replace('\\', "/");
        // Tests only.
        if name == "properties.rs" || name.ends_with("/tests.rs") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.extend(code.map(|line| (name.clone(), line.to_owned())));
    }
    assert!(lines.len() > 1000);
    lines
}

/// Only these files, or those below these folders, may hold one of the words.
#[track_caller]
fn only_in(files: &[&str], words: &[&str]) {
    for word in words {
        let lines: Vec<_> = lines()
            .into_iter()
            .filter(|(_, line)| line.contains(word))
            .collect();
        let strays: Vec<_> = lines
            .iter()
            .filter(|(name, _)| !files.iter().any(|file| name.starts_with(file)))
            .collect();
        assert!(strays.is_empty(), "{word} in {strays:#?}");
        assert_eq!(
            lines.is_empty(),
            files.is_empty(),
            "{word} is not in {files:?} either"
        );
    }
}

#[test]
fn only_the_transport_knows_ureq() {
    only_in(&TRANSPORT, &["ureq"]);
}

/// The module and all below it.
const TRANSPORT: [&str; 2] = ["transport.rs", "transport/"];

#[test]
fn the_transport_has_nothing_public_and_so_nothing_of_ureq_s_is() {
    let public = |(name, line): &(String, String)| {
        TRANSPORT.iter().any(|file| name.starts_with(file)) && line.trim_start().starts_with("pub ")
    };
    assert_eq!(lines().into_iter().find(public), None);
    let lib = lines().into_iter().filter(|(name, _)| name == "lib.rs");
    assert!(
        lib.into_iter()
            .all(|(_, line)| !line.contains("pub use crate::transport"))
    );
}

#[test]
fn only_the_client_s_builder_reads_the_environment() {
    only_in(&["client_builder.rs"], &["env::var"]);
    only_in(&[], &["env::set_var", "env::remove_var"]);
}

#[test]
fn only_the_transport_sleeps() {
    only_in(&["transport.rs"], &["thread::sleep"]);
}

#[test]
fn nothing_panics_on_purpose() {
    only_in(
        &[],
        &[
            ".unwrap()",
            ".unwrap_err()",
            ".expect(",
            "panic!",
            "todo!",
            "unimplemented!",
            "unreachable!",
            "assert!",
            "assert_eq!",
        ],
    );
}

#[test]
fn nothing_is_printed() {
    only_in(&[], &["println!", "print!", "eprintln!", "dbg!"]);
}

#[test]
fn nothing_is_unsafe() {
    only_in(&["lib.rs"], &["#![forbid(unsafe_code)]"]);
}

#[test]
fn the_menu_is_in_order() {
    let uses: Vec<_> = lines()
        .into_iter()
        .filter(|(name, line)| name == "lib.rs" && line.starts_with("pub use"))
        .collect();
    assert!(uses.len() > 10 && uses.is_sorted(), "{uses:#?}");
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let promises = readme.split("## Promises").nth(1).unwrap();
    let table = promises.split("###").next().unwrap();
    let mut code = String::new();
    for directory in ["src", "tests/it"] {
        for file in files(&root.join(directory)) {
            code += &fs::read_to_string(file).unwrap();
        }
    }
    let rows = table.lines().filter_map(|line| line.split(" | ").nth(1));
    let names: Vec<&str> = rows
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(
            code.contains(&format!("#[test]\n    fn {name}()"))
                || code.contains(&format!("#[test]\nfn {name}()")),
            "{name}"
        );
    }
}

#[test]
fn every_example_is_in_the_readme_with_its_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let table = readme.split("## Examples").nth(1).unwrap();
    let table = table.split("## ").next().unwrap();
    let entries = fs::read_dir(root.join("examples")).unwrap();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        // The server that all share is no program.
        if name != "stand_in" {
            let commands = [format!("--example {name}"), format!("examples/{name}/")];
            assert!(commands.iter().any(|it| table.contains(it)), "{name}");
        }
    }
}
