//! `docs/reference.md`, made from the tables: what is written there is what the loader does.

use std::fmt::Write as _;

use http::config::{Answer, Args, Directive, Module};
use http::variable::Variable;

use crate::MODULES;

/// The reference page.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let (own, answers): (Vec<&Module>, Vec<&Module>) =
        MODULES.iter().copied().partition(|module| is_own(module));
    for module in own {
        chapter(module, &mut page);
    }
    page.push_str(ANSWERS);
    for module in answers {
        answered(module, &mut page);
    }
    page
}

const HEAD: &str = "# Reference\n\n\
    Made from the tables of the program by `UPDATE_REFERENCE=1 cargo test -p tidegate-modules`; do not edit.\n\n\
    Every directive of nginx is in one of three states: it works; it is accepted with a line that says what differs; it \
    is refused with a reason. Nothing is silently ignored. Where a directive may stand, how many arguments it takes and \
    its default are nginx's.\n";

const ANSWERS: &str = "\n## What does not work (yet)\n\n\
    *Sizing* directives tune an event loop of another shape: they are accepted, all of them share one `info` line.\n";

/// A module with something that works, rather than a list of answers.
fn is_own(module: &Module) -> bool {
    !module.variables.is_empty()
        || module.directives.iter().any(|directive| directive.answer == Answer::Works)
}

fn chapter(module: &Module, page: &mut String) {
    let _ = write!(page, "\n## {}\n\n{}\n", module.name, module.doc);
    for directive in module.directives {
        let _ = write!(page, "\n### {}\n\n", directive.name);
        let _ = write!(page, "{}\n\n", cell(sentence(directive)));
        let _ = writeln!(page, "- where: {}", directive.at.names().join(", "));
        let _ = writeln!(page, "- arguments: {}", arguments(directive));
        if !directive.default.is_empty() {
            let _ = writeln!(page, "- default: `{}`", directive.default);
        }
        match directive.answer {
            Answer::Works => {}
            answer => {
                let _ = writeln!(page, "- {}", state(answer));
            }
        }
    }
    if !module.variables.is_empty() {
        page.push_str("\n### Variables\n\n");
        for variable in module.variables {
            let _ = writeln!(page, "- `{}`: {}", variable_name(variable), variable.doc);
        }
    }
}

fn sentence(directive: &Directive) -> &str {
    if directive.doc.is_empty() { "As nginx describes it." } else { directive.doc }
}

fn variable_name(variable: &Variable) -> String {
    if variable.family { format!("${}name", variable.name) } else { format!("${}", variable.name) }
}

fn arguments(directive: &Directive) -> String {
    let block = if directive.block.is_some() { " and a block" } else { "" };
    let count = match directive.args {
        Args::Exactly(0) => "none".to_owned(),
        Args::Exactly(n) => n.to_string(),
        Args::Between(low, high) => format!("{low} to {high}"),
        Args::AtLeast(n) => format!("{n} or more"),
        Args::Flag => "`on` or `off`".to_owned(),
    };
    count + block
}

fn answered(module: &Module, page: &mut String) {
    let _ = write!(page, "\n### {}\n\n| directive | answer |\n|---|---|\n", module.name);
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for directive in module.directives {
        let state = state(directive.answer);
        match rows.iter_mut().find(|(have, _)| *have == state) {
            Some((_, names)) if names.contains(&directive.name) => {}
            Some((_, names)) => names.push(directive.name),
            None => rows.push((state, vec![directive.name])),
        }
    }
    for (state, names) in rows {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "| {} | {} |", names.join(" "), cell(&state));
    }
}

fn state(answer: Answer) -> String {
    match answer {
        Answer::Works => "works".to_owned(),
        Answer::Accepted(why) => format!("accepted: {why}"),
        Answer::Sizing => "sizing".to_owned(),
        Answer::Refused(why) => format!("refused: {why}"),
    }
}

/// Text that does not end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::write(path, reference()).expect("docs/reference.md can be written");
        }
        let have = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            have == reference(),
            "docs/reference.md is out of date; UPDATE_REFERENCE=1 cargo test -p tidegate-modules writes it"
        );
    }

    #[test]
    fn names_and_contexts_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for directive in MODULES.iter().flat_map(|module| module.directives) {
            for place in directive.at.names() {
                assert!(seen.insert((directive.name, place)), "{} in {place} twice", directive.name);
            }
        }
    }
}
