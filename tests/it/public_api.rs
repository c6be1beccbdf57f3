//! The public API as text: a change of it shows in review, as a change of `tests/public_api.txt`.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::hash::Hash;
use std::path::Path;
use std::vec;

/// One line for each public item: what stands in the source, up to its body.
fn public_api() -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut api = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|it| it == "rs"))
    {
        read(file, &mut api);
    }
    api
}

fn read(file: &Path, api: &mut Vec<String>) {
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
                api.push(signature.clone());
            }
            within = signature;
        } else if depth == 4 {
            let is_open = (within.starts_with("pub enum") && item.starts_with(char::is_uppercase))
                || (within.starts_with("pub trait") && item.starts_with("fn "));
            if is_open || (is_public && !within.is_empty()) {
                let owner = within
                    .trim_start_matches("impl")
                    .trim_start_matches("pub ")
                    .trim();
                api.push(format!("    {owner}: {}", signature(item, &mut lines)));
            }
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
        fs::write("tests/public_api.txt", api.join("\n") + "\n").unwrap();
    }
    let file = fs::read_to_string("tests/public_api.txt").unwrap_or_default();
    let reviewed: Vec<&str> = file.lines().collect();
    let added = api.iter().filter(|line| !reviewed.contains(&line.as_str()));
    let removed = reviewed
        .iter()
        .filter(|line| !api.iter().any(|other| other == *line));
    let added = added.map(|line| format!("+ {line}"));
    let changes: Vec<String> = added
        .chain(removed.map(|line| format!("- {line}")))
        .collect();
    assert!(
        changes.is_empty(),
        "if meant, run again with UPDATE_PUBLIC_API=1:\n{}",
        changes.join("\n")
    );
}

/// The names of the public structs and enums.
fn types() -> BTreeSet<String> {
    let name = |line: &String| {
        let rest = line
            .strip_prefix("pub struct ")
            .or_else(|| line.strip_prefix("pub enum "))?;
        let end = rest.find(|c: char| !c.is_alphanumeric());
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    };
    public_api().iter().filter_map(name).collect()
}

// Compiling it is the test. That no type is missing is all that is left to run.
#[test]
fn every_type_can_be_shown_and_go_to_another_thread() {
    fn key<T: Clone + Debug + Eq + Hash + Send + Sync + 'static>() {}
    fn value<T: Clone + Debug + PartialEq + Send + Sync + 'static>() {}
    fn handle<T: Clone + Debug + Send + Sync + 'static>() {}
    fn single<T: Debug + Send + Sync + 'static>() {}
    fn reader<T: Debug + Iterator + Send + 'static>() {}
    let mut told = BTreeSet::new();
    macro_rules! are {
        ($kind:ident: $($name:ident $(<$of:ty>)?),*) => {$(
            $kind::<aimlapi::$name $(<$of>)?>();
            told.insert(stringify!($name).to_owned());
        )*};
    }
    are!(key: Cassette, ChatRequest, Content, ContentPart, ErrorKind, FinishReason, Message, Model);
    are!(key: Reasoning, ReasoningEffort, ResponseFormat, RetryPolicy, Role, Tool, ToolCall);
    are!(key: ToolChoice, Usage, WebSearchOptions);
    // They hold numbers with a point, which are no keys.
    are!(value: Choice, Chunk, Completion, Logprobs, Progress, Spent, TokenLogprob);
    are!(handle: Budget, Client, ClientBuilder);
    are!(single: BatchResults, Error);
    are!(reader: Batch<vec::IntoIter<aimlapi::ChatRequest>>, ChatStream);
    assert_eq!(told, types());
}
