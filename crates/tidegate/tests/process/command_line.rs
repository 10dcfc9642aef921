//! What one sees of a command that does not serve. Texts recorded from nginx 1.31.

use std::process::Output;

use crate::site::{Scenario, Site, nginx};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("version_and_help", version_and_help),
    ("configuration_test", configuration_test),
    ("configuration_dump", configuration_dump),
    ("signals_by_pid_file", signals_by_pid_file),
    ("wrong_arguments", wrong_arguments),
];

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn check(site: &Site, arguments: &[&str], code: i32, expected: &str) {
    let output = site.output(arguments);
    let text = stderr(&output);
    // Lines of the log itself begin with the time.
    let shown: Vec<_> = text.lines().filter(|line| line.starts_with("nginx: ")).collect();
    assert_eq!(
        (output.status.code(), shown.join("\n").as_str()),
        (Some(code), expected),
        "{arguments:?} {text}"
    );
}

fn version_and_help() {
    let run = |argument: &str| stderr(&nginx().arg(argument).output().unwrap());
    assert_eq!(run("-v"), "nginx version: nginx/1.31.5\n");
    let text = run("-V");
    assert!(text.starts_with("nginx version: nginx/1.31.5\ntidegate version "), "{text}");
    assert!(
        text.contains("\nconfigure arguments: ") && text.contains(" --without-http_fastcgi_module"),
        "{text}"
    );
    let text = run("-h");
    assert!(text.contains("Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]\n"), "{text}");
    assert!(text.contains("\n  -g directives : set global directives out of configuration file\n"), "{text}");
}

fn configuration_test() {
    let site = Site::new("return x;");
    let file = site.path("nginx.conf");
    let good = format!(
        "nginx: the configuration file {file} syntax is ok\nnginx: configuration file {file} test is successful"
    );
    check(&site, &["-t"], 0, &good);
    check(&site, &["-tq"], 0, "");
    // An address somebody uses is no fault of the configuration.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    site.write_config(&format!("listen {};", taken.local_addr().unwrap()));
    check(&site, &["-t"], 0, &good);
    site.write_config("one;\ntwo;");
    let bad = format!(
        "nginx: [emerg] unknown directive \"one\" in {file}:4
nginx: [emerg] unknown directive \"two\" in {file}:5
nginx: configuration file {file} test failed"
    );
    check(&site, &["-t"], 1, &bad);
    check(&site, &["-tq"], 1, &bad);
    assert!(site.log().contains("[emerg]"), "also in the log");
    check(
        &site,
        &["-t", "-c", "no.conf"],
        1,
        &format!(
            "nginx: [emerg] open() \"{0}\" failed (2: No such file or directory)\nnginx: configuration file {0} test failed",
            site.path("no.conf")
        ),
    );
}

fn configuration_dump() {
    let site = Site::new("include part.conf;");
    site.write("part.conf", "return x;");
    let output = site.output(&["-T"]);
    let expected = format!(
        "# configuration file {}:\n{}\n# configuration file {}:\nreturn x;\n",
        site.path("nginx.conf"),
        site.read("nginx.conf"),
        site.path("part.conf")
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

fn signals_by_pid_file() {
    let site = Site::new("");
    let pid = site.path("nginx.pid");
    let last = |expected: &str| {
        let output = site.output(&["-s", "stop"]);
        assert_eq!(output.status.code(), Some(1));
        let log = site.log();
        assert!(log.ends_with(&format!(": {expected}\n")), "{log}");
        assert!(log.contains("[notice]") && log.contains(": signal process started\n"));
    };
    last(&format!("open() \"{pid}\" failed (2: No such file or directory)"));
    site.write("nginx.pid", "");
    last(&format!("invalid PID number \"\" in \"{pid}\""));
    site.write("nginx.pid", "abc\n");
    last(&format!("invalid PID number \"abc\" in \"{pid}\""));
    site.write("nginx.pid", "4194999\n");
    last("kill(4194999, 15) failed (3: No such process)");
    site.write_config("nonsense;");
    let output = site.output(&["-s", "reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("unknown directive \"nonsense\""));
}

fn wrong_arguments() {
    let site = Site::new("");
    check(&site, &["-x"], 1, "nginx: invalid option: \"x\"");
    check(&site, &["-s", "jump"], 1, "nginx: invalid option: \"-s jump\"");
    check(&site, &["-g"], 1, "nginx: option \"-g\" requires parameter");
}
