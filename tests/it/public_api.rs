//! The public API as text: a change of it shows in review, as a change of `tests/public_api.txt`.

use std::fs;
use std::path::Path;

/// One line for each public item: what stands in the source, up to its body.
fn public_api() -> String {
    let mut files: Vec<_> = fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut api = String::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|it| it == "rs"))
    {
        read(file, &mut api);
    }
    api
}

fn read(file: &Path, api: &mut String) {
    let source = fs::read_to_string(file).unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap();
    // What the lines are in: an impl, or a public type whose fields or variants are public.
    let mut within = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let item = line.trim_start();
        let depth = line.len() - item.len();
        let is_public = item.starts_with("pub ") && !item.starts_with("pub use");
        if depth == 0 && item.starts_with('}') {
            within.clear();
        } else if depth == 0 && (is_public || item.starts_with("impl")) {
            let signature = signature(item, &mut lines);
            if is_public {
                api.push_str(&format!("{signature}\n"));
            }
            within = signature;
        } else if depth == 4 && is_public && !within.is_empty() {
            let owner = within.strip_prefix("impl").unwrap_or(&within).trim();
            api.push_str(&format!("    {owner}: {}\n", signature(item, &mut lines)));
        } else if depth == 4
            && within.starts_with("pub enum")
            && item.starts_with(char::is_uppercase)
        {
            api.push_str(&format!("    {within}: {}\n", signature(item, &mut lines)));
        } else if depth == 4 && within.starts_with("pub trait") && item.starts_with("fn ") {
            api.push_str(&format!("    {within}: {}\n", signature(item, &mut lines)));
        }
    }
}

/// The item up to its body, on one line.
fn signature<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> String {
    let mut text = first.to_owned();
    while !text.ends_with(['{', '}', ';', ',', ')'])
        || text.matches('(').count() > text.matches(')').count()
    {
        let Some(next) = lines.next() else { break };
        text = format!("{text} {}", next.trim());
    }
    let end = text.find(" {").unwrap_or(text.len());
    text[..end].trim_end_matches([',', ';']).to_owned()
}

#[test]
fn the_public_api_is_the_one_that_was_reviewed() {
    let api = public_api();
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write("tests/public_api.txt", &api).unwrap();
    }
    let reviewed = fs::read_to_string("tests/public_api.txt").unwrap_or_default();
    let added = api
        .lines()
        .filter(|line| !reviewed.lines().any(|other| other == *line));
    let removed = reviewed
        .lines()
        .filter(|line| !api.lines().any(|other| other == *line));
    let changes: Vec<String> = added
        .map(|line| format!("+ {line}"))
        .chain(removed.map(|line| format!("- {line}")))
        .collect();
    assert!(
        changes.is_empty(),
        "if meant, run again with UPDATE_PUBLIC_API=1:\n{}",
        changes.join("\n")
    );
}
