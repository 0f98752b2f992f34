//! The lines that hold the house up, drawn where a compiler does not see them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use holdline::metrics::Metrics;

/// What may not be in a pure folder, outside of its tests.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "the driver and the transports wait, the core does not"),
    ("async ", "the core does not wait"),
    (".await", "the core does not wait"),
    ("Instant::now", "time is an argument"),
    ("SystemTime", "the core knows no clock times"),
    (".elapsed()", "time is an argument"),
    ("SystemRandom", "chance is an argument"),
    ("rand::", "chance is an argument"),
    ("RandomState", "chance is an argument"),
    ("std::io", "no I/O in the core"),
    ("std::fs", "no I/O in the core"),
    ("std::env", "no I/O in the core"),
    ("std::thread", "no threads in the core"),
    ("UdpSocket", "no I/O in the core"),
    ("TcpStream", "no I/O in the core"),
    ("println!", "no I/O in the core"),
];

const PURE: [&str; 7] =
    ["src/flow.rs", "src/summaries.rs", "src/message", "src/transaction", "src/upstream", "src/fleet", "src/proxy"];

/// What each pure folder may import of the crate, outside of its tests. Whatever is counted or stored comes out of the core as
/// facts; nothing pure knows who counts or stores it.
const MAY_IMPORT: [(&str, &[&str]); 7] = [
    ("src/flow.rs", &[]),
    ("src/summaries.rs", &[]),
    ("src/message", &["message", "flow"]),
    ("src/transaction", &["transaction", "flow", "message"]),
    ("src/upstream", &["upstream", "flow", "summaries"]),
    ("src/fleet", &["fleet", "summaries", "upstream"]),
    ("src/proxy", &["proxy", "fleet", "flow", "message", "summaries", "transaction", "upstream"]),
];

/// Lines of one file of `src`. Around 150 to 400 is the aim; beyond this it wants to be two files.
const LONGEST: usize = 450;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder (or the file itself) that end so, sorted.
fn files(under: &str, ending: &str) -> Vec<PathBuf> {
    let path = root().join(under);
    if path.is_file() {
        return vec![path];
    }
    let mut found = Vec::new();
    let mut folders = vec![path];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Pages that are not in `docs/`.
const TOP: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/README.md",
    "certs/README.md",
];

/// The project's own pages.
fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", ".md");
    for name in TOP {
        pages.push(root().join(name));
    }
    pages
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_test_file(path: &Path) -> bool {
    let name = name(path);
    name.ends_with("tests.rs") || name.contains("/tests/")
}

/// Numbered lines up to the unit tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn pure_folders_stay_pure() {
    let mut found = String::new();
    for path in PURE.iter().flat_map(|folder| files(folder, ".rs")).filter(|path| !is_test_file(path)) {
        let text = fs::read_to_string(&path).unwrap();
        for (line, code) in code(&text) {
            // Into a Vec, that is.
            let code = code.replace("std::io::Write", "");
            for (word, why) in IMPURE.iter().filter(|(word, _)| code.contains(word)) {
                writeln!(found, "{}:{line}: {word}: {why}", name(&path)).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn pure_folders_import_only_what_lies_below_them() {
    assert_eq!(MAY_IMPORT.map(|(folder, _)| folder), PURE, "one entry for each");
    let mut found = String::new();
    for (folder, allowed) in MAY_IMPORT {
        for path in files(folder, ".rs").iter().filter(|path| !is_test_file(path)) {
            let text = fs::read_to_string(path).unwrap();
            for (line, code) in code(&text) {
                for import in code.split("crate::").skip(1) {
                    let module: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if !allowed.contains(&module.as_str()) {
                        writeln!(found, "{}:{line}: crate::{module}", name(path)).unwrap();
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_core_is_extended_in_one_file_only() {
    let of_the_core = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().any(|l| l.starts_with("impl Core "));
    let mut found: Vec<String> = files("src/proxy", ".rs").iter().filter(|p| of_the_core(p)).map(|p| name(p)).collect();
    let mut of_the_house = files("src/proxy", ".rs");
    of_the_house.retain(|path| fs::read_to_string(path).unwrap().lines().any(|l| l.starts_with("impl House ")));
    found.extend(of_the_house.iter().map(|path| name(path)));
    assert_eq!(found, ["src/proxy/core.rs", "src/proxy/house.rs"]);
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut found = String::new();
    let mut lengths = Vec::new();
    for path in files("src", ".rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        lengths.push(lines);
        if lines > LONGEST {
            writeln!(found, "{}: {lines} lines, more than {LONGEST}", name(&path)).unwrap();
        }
    }
    assert!(found.is_empty(), "\n{found}");
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 200, "half of all files have more than {median} lines");
}

#[test]
fn nothing_is_left_to_do() {
    // Written so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X "), concat!("unimple", "mented!")];
    let mut found = String::new();
    let sources = ["src", "tests", "docs", "scripts", "bench", "benches", "deploy"]
        .into_iter()
        .filter(|f| root().join(f).exists());
    for path in sources.flat_map(|folder| files(folder, "")).chain(pages()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (n, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                writeln!(found, "{}:{}: {}", name(&path), n + 1, line.trim()).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn every_link_and_every_path_in_the_pages_leads_somewhere() {
    let mut found = String::new();
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let folder = path.parent().unwrap();
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                writeln!(found, "{}: link to {target}", name(&path)).unwrap();
            }
        }
        for quoted in text.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "docs/", "scripts/", "bench/", "deploy/", "certs/"]
                .iter()
                .any(|start| quoted.starts_with(start));
            if ours && !quoted.contains([' ', '*', '{']) && !root().join(quoted).exists() {
                writeln!(found, "{}: `{quoted}`", name(&path)).unwrap();
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// Words that lead a reader outside of the project to nothing.
#[test]
fn nothing_refers_to_what_nobody_can_follow() {
    // Written so that this file does not find itself.
    let words = [concat!("TR", "AP "), concat!("TR", "APS"), concat!("DES", "IGN §"), concat!("DES", "IGN.md")];
    let mut found = String::new();
    for path in ["src", "tests", "docs"].into_iter().flat_map(|folder| files(folder, "")) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (n, line) in text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word))) {
            writeln!(found, "{}:{}: {}", name(&path), n + 1, line.trim()).unwrap();
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

/// Module and name of every test of the project, from its sources.
fn tests() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["src", "tests/all"] {
        for path in files(folder, ".rs") {
            let inside = path.strip_prefix(root().join(folder)).unwrap().with_extension("");
            let module = inside.to_string_lossy().replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some((before, after)) = line.split_once("fn ")
                    && matches!(before, "" | "async ")
                    && std::mem::take(&mut marked)
                {
                    found.push((module.clone(), after.split('(').next().unwrap_or_default().to_owned()));
                }
            }
        }
    }
    found
}

#[test]
fn every_pitfall_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("docs/pitfalls.md")).unwrap();
    let tests = tests();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        Some((cells[0].parse::<usize>().ok()?, cells))
    });
    let (mut numbers, mut found) = (Vec::new(), String::new());
    for (number, cells) in rows {
        numbers.push(number);
        let named: Vec<&str> = cells[cells.len() - 1].split('`').skip(1).step_by(2).collect();
        if cells.len() != 4 || named.is_empty() {
            writeln!(found, "{number}: four cells, and a test in the last one").unwrap();
        }
        for test in named {
            let (module, function) = test.rsplit_once("::").unwrap_or(("", test));
            let is = |(place, name): &&(String, String)| {
                name == function
                    && place.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            match tests.iter().filter(is).count() {
                1 => {}
                0 => writeln!(found, "{number}: {test} does not exist").unwrap(),
                many => writeln!(found, "{number}: {test} is {many} tests").unwrap(),
            }
        }
    }
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>(), "every row, in order");
    assert!(found.is_empty(), "docs/pitfalls.md:\n{found}");
}

/// Bytes that the README may have: it is read in a few minutes, and leads to the rest.
const README: usize = 9000;

#[test]
fn the_readme_is_short_and_its_pictures_are_small() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.len() <= README, "README.md has {} bytes, more than {README}", readme.len());
    let mut pictures = 0;
    for name in readme.split('"').filter(|part| part.strip_suffix(".png").is_some()) {
        let bytes = fs::read(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() < 200_000, "{name}: {} bytes", bytes.len());
        pictures += 1;
    }
    assert_eq!(pictures, 2, "light and dark");
}

#[test]
fn the_index_of_the_pages_leads_to_every_page() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    let missing: Vec<String> = files("docs", ".md")
        .iter()
        .map(|path| name(path).trim_start_matches("docs/").to_owned())
        .filter(|page| page != "README.md" && (!page.starts_with("adr/") || page == "adr/README.md"))
        .filter(|page| !links(&index).contains(&page.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not lead to {missing:?}");
}

/// What a measurement is given in.
const UNITS: [&str; 3] = ["µs", "MB", "GB"];

/// Figures with such a unit, as they are written.
fn figures(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && c != 'µ').to_owned();
    let pairs = words.windows(2).map(|pair| (plain(pair[0]), plain(pair[1])));
    let number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    pairs
        .filter(|(before, unit)| number(before) && UNITS.contains(&unit.as_str()))
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect()
}

/// Figures of one text that are not among the named ones of `docs/performance.md`.
fn strays(text: &str, page: &str) -> Vec<String> {
    let named = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let named: Vec<&str> = named.collect();
    figures(text).into_iter().filter(|figure| !named.contains(&figure.as_str())).collect()
}

/// A figure that was measured anew is written in one place; whoever repeats the old one is found.
#[test]
fn figures_are_those_of_the_page_about_performance() {
    let page = fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let mut found = String::new();
    // Decisions and changes say what was so at their time.
    let dated =
        |path: &Path| ["docs/adr/", "docs/performance.md", "CHANGELOG.md"].iter().any(|d| name(path).starts_with(d));
    let manifests = files("deploy", ".yaml").into_iter().chain(files("deploy", ".toml"));
    for path in pages().into_iter().chain(manifests).filter(|path| !dated(path)) {
        for figure in strays(&fs::read_to_string(&path).unwrap(), &page) {
            writeln!(found, "{}: {figure}", name(&path)).unwrap();
        }
    }
    assert!(found.is_empty(), "docs/performance.md has no such named figure:\n{found}");

    assert_eq!(strays("it takes 37 MB, or (9.2 µs)", &page), Vec::<String>::new());
    assert_eq!(strays("it takes 38 MB, or\n15.5 µs.", &page), ["38 MB", "15.5 µs"]);
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn the_page_of_metrics_has_the_metrics() {
    let metrics = Metrics::new();
    let mut table = String::from("| metric | type | labels | |\n|---|---|---|---|\n");
    for family in metrics.families() {
        let labels = family.labels.join(", ");
        writeln!(table, "| `{}` | {} | {labels} | {} |", family.name, family.kind, cell(family.help)).unwrap();
    }
    compare("docs/metrics.md", "metrics", &table);
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page's section between `<!-- name: … -->` and `<!-- /name -->` must be this table; with `HOLDLINE_BLESS` set
/// it becomes it.
fn compare(page: &str, section: &str, table: &str) {
    let path = root().join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&format!("<!-- {section}: ")).expect("the section begins");
    let (opening, rest) = rest.split_once("-->\n").expect("the section's first line ends");
    let (found, after) = rest.split_once(&format!("<!-- /{section} -->")).expect("the section ends");
    if found != table && std::env::var_os("HOLDLINE_BLESS").is_some() {
        let new = format!("{before}<!-- {section}: {opening}-->\n{table}<!-- /{section} -->{after}");
        fs::write(&path, new).unwrap();
        return;
    }
    assert!(found == table, "{page}: {section} differ; HOLDLINE_BLESS=1 cargo test tidy writes:\n{table}");
}
