//! What is made from the table of settings and from the arguments: pages, the example file, completions, manual pages.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{fs, io::Write as _};

use clap::CommandFactory;
use holdline::cli::Cli;
use holdline::config::keys::KEYS;
use holdline::config::{Config, Layers, Origin, reference};

use crate::support::binary;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file must hold this text; with `HOLDLINE_BLESS` set it becomes it.
fn compare(name: &str, made: &str) {
    let path = root().join(name);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != made && std::env::var_os("HOLDLINE_BLESS").is_some() {
        fs::write(&path, made).unwrap();
        return;
    }
    assert!(found == made, "{name} differs; HOLDLINE_BLESS=1 cargo test reference writes it anew");
}

#[test]
fn reference_page_is_what_the_code_says() {
    let page = reference::page();
    compare("docs/configuration.md", &page);
    for key in KEYS {
        for part in [format!("\n## {}\n", key.name), format!("`--{} ", key.flag), key.variable.to_owned()] {
            assert!(page.contains(&part), "{part}");
        }
    }
}

#[test]
fn reference_example_file_has_every_setting_with_its_default() {
    let file = reference::example_file();
    compare("holdline.example.toml", &file);
    let mut layers = Layers::default();
    layers.add_toml(&file, "holdline.example.toml").unwrap();
    assert_eq!(layers.differences(&Layers::default()), ["srv"], "all others are as if they were not given");
    for key in KEYS {
        let given = file.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name)));
        assert!(given, "{}", key.name);
        let commented = !file.lines().any(|line| line.starts_with(&format!("{} = ", key.name)));
        assert_eq!(commented, key.default.is_empty() && key.name != "srv", "{}", key.name);
    }
    let path = root().join("holdline.example.toml");
    let output = holdline(&["run", "--check", "--config", path.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn reference_examples_are_valid_values() {
    let page = reference::page();
    let mut tried = 0;
    for key in KEYS.iter().filter(|key| key.value != "FILE") {
        let line = page.lines().find(|line| line.starts_with(&format!("| file | `{} = ", key.name))).unwrap();
        let text = line.split('`').nth(1).unwrap();
        let mut layers = Layers::default();
        layers.add_toml(text, "example").unwrap();
        layers.add(&KEYS[0], vec!["_sip._udp.pbx.example.com".to_owned()], &Origin::Default);
        Config::build(&layers).unwrap_or_else(|error| panic!("{text}: {error}"));
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
}

fn holdline(arguments: &[&str]) -> Output {
    binary::holdline(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = holdline(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program of this machine with this input; what it said on both outputs.
fn run(program: &str, arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed (scripts/test-deps.sh): {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn completions_load_in_bash_and_complete() {
    let script = printed(&["completions", "bash"]);
    let (good, _, stderr) = run("bash", &["-n"], &script);
    assert!(good && stderr.is_empty(), "{stderr}");
    let complete = |words: &str, at: usize, word: &str, before: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _holdline holdline '{word}' '{before}'\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        let (good, stdout, stderr) = run("bash", &["--norc", "--noprofile"], &ask);
        assert!(good && stderr.is_empty(), "{words}: {stderr}");
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("holdline run --attempt", 2, "--attempt", "run"), ["--attempt-timeout"]);
    let commands = complete("holdline ''", 1, "", "holdline");
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        assert!(commands.iter().any(|known| known == command.get_name()), "{} in {commands:?}", command.get_name());
    }
    let flags = complete("holdline run --", 2, "--", "run");
    for key in KEYS {
        assert!(flags.contains(&format!("--{}", key.flag)), "{} in {flags:?}", key.flag);
    }
}

#[test]
fn completions_exist_for_other_shells() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(printed(&["completions", shell]).contains("attempt-timeout"), "{shell}");
    }
    assert_eq!(holdline(&["completions", "tcsh"]).status.code(), Some(64));
}

#[test]
fn manual_pages_render_without_a_warning() {
    let cli = Cli::command();
    let names = cli.get_subcommands().map(|command| command.get_name().to_owned());
    let pages = std::iter::once(("holdline".to_owned(), printed(&["man"])))
        .chain(names.map(|name| (format!("holdline-{name}"), printed(&["man", &name]))));
    for (name, page) in pages {
        let (good, text, stderr) = run("groff", &["-man", "-ww", "-Tutf8", "-P-cbu"], &page);
        assert!(good && stderr.is_empty(), "{name}: {stderr}");
        assert!(text.contains("NAME") && text.contains(&name), "{name}: {text}");
        if name == "holdline-run" {
            let missing = KEYS.iter().find(|key| !text.contains(&format!("--{}", key.flag)));
            assert!(missing.is_none(), "{missing:?} in {text}");
        }
    }
    assert_eq!(holdline(&["man", "nonsense"]).status.code(), Some(64));
}
