//! Trees, messages, bounds: what the reader makes of text good and bad.

mod support;

use std::fs;
use std::path::Path;

use tidegate_conf as conf;

use conf::{Diagnostics, Directive, Options, Parsed, Style};

use support::Table;

fn read(files: &Table) -> (Parsed, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let options = Options { main: Path::new("/conf/nginx.conf"), command_line: None, files };
    let parsed = conf::parse(&options, &mut diagnostics);
    (parsed, diagnostics)
}

fn messages(files: &Table) -> String {
    let (parsed, diagnostics) = read(files);
    conf::render(&diagnostics, &parsed.sources, Style::Plain)
}

/// A tree on one line: `name arg arg { inner; }`, words in the notation of Rust where they are not plain.
fn shape(directives: &[Directive]) -> String {
    let one = |directive: &Directive| {
        let words = [&directive.name].into_iter().chain(&directive.args);
        let words: Vec<String> = words.map(|word| word.bytes.escape_ascii().to_string()).collect();
        let words = words.join(" ");
        match &directive.block {
            None => words + ";",
            Some(inside) if inside.is_empty() => words + " {}",
            Some(inside) => format!("{words} {{ {} }}", shape(inside)),
        }
    };
    directives.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn text_becomes_a_tree() {
    let check = |text: &str, expected: &str| {
        let (parsed, diagnostics) = read(&Table::one(text));
        let errors = conf::render(&diagnostics, &parsed.sources, Style::Plain);
        assert_eq!((shape(&parsed.directives).as_str(), errors.as_str()), (expected, ""), "{text}");
    };
    check("", "");
    check("a;", "a;");
    check("a b c;d{e;}f{}", "a b c; d { e; } f {}");
    check("# c\n a # c\n b; # c", "a b;");
    check(r#"a "b c" 'd "e"' "";"#, r#"a b c d \"e\" ;"#);
    check(r"a \;b c\ d e\{f;", r"a \\;b c\\ d e\\{f;");
    check(r#"a \"b \'c "\t\r\n\\\x";"#, r#"a \"b \'c \t\r\n\\\\x;"#);
    check(r"location ~ \.php$ { }", r"location ~ \\.php$ {}");
    check("a ${b}c $d{e;}", "a ${b}c $d { e; }");
    check("a}b c} ;", "a}b c};");
    check(r#"if ($a = "b") { c; }"#, "if ($a = b ) { c; }");
}

#[test]
fn a_place_is_exact_and_its_line_is_nginxs() {
    let (parsed, _) = read(&Table::one("\n\nlog_format 'x'\n  \"y\\nz\"\n  last;\nb {\n}\n"));
    let directive = &parsed.directives[0];
    let text = parsed.sources.text(directive.name.span.file);
    let seen = |span: conf::Span| {
        let raw = &text[span.start as usize..(span.start + span.len) as usize];
        (std::str::from_utf8(raw).unwrap(), span.line, parsed.sources.line_of(span))
    };
    assert_eq!(seen(directive.name.span), ("log_format", 5, 3));
    assert_eq!(seen(directive.args[0].span), ("'x'", 5, 3));
    assert_eq!(seen(directive.args[1].span), ("\"y\\nz\"", 5, 4));
    assert_eq!(seen(directive.args[2].span), ("last", 5, 5));
    assert_eq!(seen(directive.close), (";", 5, 5));
    assert!(directive.args[0].quoted && !directive.args[2].quoted);
    assert_eq!(seen(parsed.directives[1].close), ("}", 7, 7));
}

#[test]
fn program_blocks_are_skipped_whole() {
    let check = |program: &str| {
        let (parsed, diagnostics) =
            read(&Table::one(format!("a {{ set_by_lua_block $x {{{program}}} b; }}\nc;")));
        assert!(diagnostics.is_empty(), "{program}: {:?}", diagnostics.iter().collect::<Vec<_>>());
        assert_eq!(shape(&parsed.directives), "a { set_by_lua_block $x {} b; } c;", "{program}");
    };
    check("");
    check(" local t = { 1, { 2 } } ");
    check(" return \"}\" .. '{' ");
    check(" return \"\\\"}\" ");
    check(" -- it's }\n return 1 ");
    check(" --[[ }}} \n it's ]] return 1 ");
    check(" --[==[ } ]] } ]==] ");
    check(" return [[ } \" ]] ");
    check(" t[1] = t[t[1]] ");
    check(" return a - - b ");
}

#[test]
fn includes_stand_where_they_were_written() {
    let files = Table::of([
        ("/conf/nginx.conf", "a; http { include inner.conf; types { include t; } } include /other/x; z;"),
        ("/conf/inner.conf", "include twice; include twice; server { include twice; }"),
        ("/conf/twice", "t;"),
        ("/conf/t", "text/html html;\ntext/css css;"),
        ("/other/x", "include twice;"),
    ]);
    let (parsed, diagnostics) = read(&files);
    assert!(diagnostics.is_empty());
    let tree = "a; http { t; t; server { t; } types { text/html html; text/css css; } } t; z;";
    assert_eq!(shape(&parsed.directives), tree);
    let loaded: Vec<_> = parsed.sources.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(loaded, ["/conf/nginx.conf", "/conf/inner.conf", "/conf/twice", "/conf/t", "/other/x"]);
}

#[test]
fn includes_that_do_not_end_are_refused() {
    let loops = Table::of([
        ("/conf/nginx.conf", "include a;"),
        ("/conf/a", "include b;"),
        ("/conf/b", "\n\ninclude a;"),
    ]);
    assert_eq!(messages(&loops), "nginx: [emerg] include loop: /conf/a -> /conf/b -> /conf/a in /conf/b:3\n");

    let itself = Table::one("include ./../conf/nginx.conf;");
    assert!(messages(&itself).contains("failed (2: No such file"), "{}", messages(&itself));

    let mut chain = Table::default();
    let mut doubling = Table::default();
    for n in 0..100 {
        let name = |n: usize| if n == 0 { "/conf/nginx.conf".into() } else { format!("/conf/f{n}") };
        chain.0.insert(name(n).into(), format!("include f{};", n + 1).into());
        doubling.0.insert(
            name(n).into(),
            "include f{};include f{};".replace("{}", &(n % 40 + 1).to_string()).into(),
        );
    }
    doubling.0.insert("/conf/f40".into(), b"a;".to_vec());
    assert!(
        messages(&chain)
            .starts_with("nginx: [emerg] includes are nested more than 50 deep: /conf/nginx.conf -> ")
    );
    assert!(messages(&doubling).contains("too much is included"), "{}", messages(&doubling));
}

#[test]
fn every_mistake_is_reported_once() {
    let check = |text: &str, expected: &[&str]| {
        let seen = messages(&Table::one(text));
        let seen: Vec<_> = seen.lines().map(|line| line.replace("nginx: [emerg] ", "")).collect();
        let seen: Vec<_> = seen.iter().map(|line| line.replace(" in /conf/nginx.conf:", " @")).collect();
        assert_eq!(seen, expected, "{text}");
    };
    check(";\n;\na;", &["unexpected \";\" @1", "unexpected \";\" @2"]);
    check("{ a; }\n;", &["unexpected \"{\" @1", "unexpected \";\" @2"]);
    check("}\n}", &["unexpected \"}\" @1", "unexpected \"}\" @2"]);
    check("a { b }\nc { d\n}\n;", &["unexpected \"}\" @1", "unexpected \"}\" @3", "unexpected \";\" @4"]);
    check("a {\nb {\nc {\n", &["unexpected end of file, expecting \"}\" @4"]);
    check("a {\nb {\nc", &["unexpected end of file, expecting \";\" or \"}\" @3"]);
    check("a \"b\"c;\n;", &["unexpected \"c\" @1", "unexpected \";\" @2"]);
    check("a { b \"c\"d; }\n;", &["unexpected \"d\" @1", "unexpected \";\" @2"]);
    check("a \"b\"c {\n d;\n}\n;", &["unexpected \"c\" @1", "unexpected \";\" @4"]);
    // A quote left open turns everything after it inside out, but only up to where that shows.
    check("a \"b;\nc \"d\";\ne \"f\";\n;", &["unexpected \"d\" @2", "unexpected \";\" @4"]);
    check(
        "include;\ninclude a b;\n;",
        &[
            "invalid number of arguments in \"include\" directive @1",
            "invalid number of arguments in \"include\" directive @2",
            "unexpected \";\" @3",
        ],
    );
    check(
        "include x;\ninclude y;",
        &[
            "open() \"/conf/x\" failed (2: No such file or directory) @1",
            "open() \"/conf/y\" failed (2: No such file or directory) @2",
        ],
    );
}

#[test]
fn a_main_file_that_is_not_there() {
    let message = "nginx: [emerg] open() \"/conf/nginx.conf\" failed (2: No such file or directory)\n";
    assert_eq!(messages(&Table::default()), message);
}

#[test]
fn hostile_text_meets_a_bound() {
    let first = |text: Vec<u8>| {
        let text = messages(&Table::one(text));
        assert!(text.lines().count() <= 100);
        text.lines().next().unwrap_or_default().to_owned()
    };
    let at = |line: &str| format!(" in /conf/nginx.conf:{line}");
    let deep = "nginx: [emerg] blocks are nested more than 100 deep".to_owned() + &at("1");
    assert_eq!(first("a{".repeat(100_000).into()), deep);
    assert_eq!(first(("a{".repeat(100_000) + &"}".repeat(100_000)).into()), deep);
    assert_eq!(first(("a{".repeat(100) + &"}".repeat(100)).into()), "");
    assert_eq!(first(b";".repeat(1_000_000)), "nginx: [emerg] unexpected \";\"".to_owned() + &at("1"));
    let long = "nginx: [emerg] too long parameter \"xxxxxxxxxx...\" started".to_owned() + &at("2");
    assert_eq!(first([b"\na ".to_vec(), b"x".repeat(1 << 21)].concat()), long);
    let quote = "nginx: [emerg] too long parameter, probably missing terminating \"'\" character".to_owned()
        + &at("2");
    assert_eq!(first([b"\na '".to_vec(), b"x\n".repeat(1 << 20)].concat()), quote);
    assert_eq!(first([b"a '".to_vec(), b"x\n".repeat(1 << 18), b"';".to_vec()].concat()), "");
    let many = "nginx: [emerg] more than 1048576 words in one directive".to_owned() + &at("1");
    assert_eq!(first(b"a ".repeat(1_100_000)), many);
    assert_eq!(first([b"#".to_vec(), b"x".repeat(1 << 22)].concat()), "");
}

#[test]
fn unseen_bytes_are_pointed_out() {
    let warning = |text: &[u8]| messages(&Table::one(text));
    let bom = "nginx: [warn] the file begins with a byte order mark, which becomes part of the first word";
    assert_eq!(warning(b"\xef\xbb\xbfa;"), format!("{bom} in /conf/nginx.conf:1\n"));
    let nul = "nginx: [warn] the file contains a NUL byte in /conf/nginx.conf:2\n";
    assert_eq!(warning(b"a;\nb\0;"), nul);
}

#[test]
fn a_million_directives_are_read_in_linear_time() {
    // No clock: were it quadratic, this would take hours.
    let lines: String = (0..1_000_000).map(|n| format!("\"key{n}\" value{n};\n")).collect();
    let (parsed, diagnostics) = read(&Table::of([
        ("/conf/nginx.conf", "map $a $b {\n    include m;\n}".to_owned()),
        ("/conf/m", lines),
    ]));
    assert!(diagnostics.is_empty());
    let inside = parsed.directives[0].block.as_ref().unwrap();
    assert_eq!(inside.len(), 1_000_000);
    let last = inside.last().unwrap();
    assert_eq!((last.args[0].text().as_ref(), last.close.line), ("value999999", 1_000_000));
    assert!(size_of::<Directive>() <= 112 && size_of::<conf::Word>() <= 48, "a million of each must fit");
}

/// `testdata/good/*.conf` with its tree, `testdata/bad/*.conf` with what a terminal shows. `BLESS=1` writes the answers.
#[test]
fn golden_pairs() {
    let mut wrong = Vec::new();
    for folder in ["good", "bad"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
        let mut configs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        configs.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        assert!(configs.len() >= 5);
        for config in configs {
            let golden = config.with_extension("txt");
            let mut diagnostics = Diagnostics::new();
            let options = Options { main: &config, command_line: None, files: &conf::DiskFiles };
            let parsed = conf::parse(&options, &mut diagnostics);
            let text = conf::render(&diagnostics, &parsed.sources, Style::Terminal { color: false });
            let text = text.replace(folder.to_str().unwrap(), "/conf");
            let seen = if folder.ends_with("good") { text + &conf::print(&parsed.directives) } else { text };
            if std::env::var_os("BLESS").is_some() {
                fs::write(&golden, &seen).unwrap();
            }
            if fs::read_to_string(&golden).unwrap_or_default() != seen {
                wrong.push(format!("{}\n{seen}", golden.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
